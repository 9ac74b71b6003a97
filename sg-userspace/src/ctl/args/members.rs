//! What can be said of those who are in groups: instances and network interfaces.

use clap::Subcommand;

use super::{Yes, account};
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
    /// Make one that lives elsewhere: its addresses are members of its groups
    #[command(after_help = "Example:
  sudo sgctl interface create --name db-2 --address 10.0.0.12 --address 2001:db8::12 db monitoring

What has a device here is made by a document: `sgctl apply`.")]
    Create {
        /// Ids or names of its groups; one to ten
        #[arg(required = true, add = complete::groups())]
        groups: Vec<String>,
        /// An address of it; the first of IPv4 is its primary one
        #[arg(long, required = true, value_name = "ADDRESS")]
        address: Vec<std::net::IpAddr>,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// For people
        #[arg(long)]
        description: Option<String>,
        /// The account that it belongs to, as its groups must; 16 digits [default: that of the configuration]
        #[arg(long, value_parser = account)]
        account: Option<String>,
    },
    /// Delete one that has no device here, and no instance
    Delete {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
    /// Give one that has no device here to an instance
    Attach {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
        /// Id or name
        #[arg(add = complete::instances())]
        instance: String,
    },
    /// Take it from its instance; not a primary one
    Detach {
        /// Its id or name
        #[arg(add = complete::interfaces())]
        interface: String,
    },
}
