//! What can be said of those who are in groups: instances and network interfaces.

use clap::Subcommand;

use crate::ctl::complete;

/// Instances; each is named by its id, or by a name that only one has.
#[derive(Debug, Subcommand)]
pub enum Instance {
    /// All of them
    List,
    /// One, with its interfaces
    Show {
        /// Its id or name
        #[arg(add = complete::instances())]
        instance: String,
    },
    /// Put its primary interface into these groups, and out of all others; in force when this ends
    SetGroups {
        /// Its id or name
        #[arg(add = complete::instances())]
        instance: String,
        /// Ids or names; one to ten
        #[arg(required = true, add = complete::groups())]
        groups: Vec<String>,
    },
}

/// Network interfaces; each is named by its id, its name, or its device where it has no other name.
#[derive(Debug, Subcommand)]
pub enum Interface {
    /// All of them, those that live elsewhere included
    List,
    /// Its addresses, hooks and counters; with --rules the merged rules in order
    Show {
        /// Name of its device; or id or name of one without a device here
        #[arg(add = complete::shown())]
        interface: String,
        /// The merged rules, invisible ones included, with what each decided
        #[arg(long)]
        rules: bool,
    },
    /// Put it into one group more; in force when this ends
    Join {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
        /// Id or name
        #[arg(add = complete::groups())]
        group: String,
    },
    /// Take it out of a group, not the last one; in force when this ends
    Leave {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
        /// Id or name
        #[arg(add = complete::groups())]
        group: String,
    },
    /// Put it into these groups, and out of all others; in force when this ends
    SetGroups {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
        /// Ids or names; one to ten
        #[arg(required = true, add = complete::groups())]
        groups: Vec<String>,
    },
}
