//! What can be said of what was in force: kept generations and backups.

use clap::{Args, Subcommand};

use super::{Yes, documents::Manner};
use crate::ctl::complete;

/// `sgctl snapshot …`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Generations that are kept: before each apply, before a change of what was in force for
    /// five minutes, and those that were asked for
    List,
    /// Keeps the generation in force until it is deleted
    Create {
        /// What to call it
        #[arg(default_value = "")]
        comment: String,
    },
    /// Shows a kept generation as YAML
    Show {
        /// Its number
        #[arg(add = complete::generations())]
        generation: u64,
    },
    /// Puts a kept generation back
    Restore {
        /// Its number
        #[arg(add = complete::generations())]
        generation: u64,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Lets a kept generation go
    Delete {
        /// Its number
        #[arg(add = complete::generations())]
        generation: u64,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
}

/// How something is put back.
#[derive(Debug, Args)]
pub struct How {
    /// Only the rules of this group
    #[arg(long, value_name = "GROUP", add = complete::groups())]
    pub group: Option<String>,
    /// Only those of its rules that it lacks now; none is taken away
    #[arg(long, requires = "group")]
    pub additive: bool,
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    /// Do not ask, not even when your own SSH connection is dropped
    #[arg(short, long)]
    pub yes: bool,
    /// How the rules are put in force.
    #[command(flatten)]
    pub manner: Manner,
}

/// `sgctl rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which generation; the last one that is kept when absent
    #[arg(add = complete::generations())]
    pub generation: Option<u64>,
    /// How it is put back.
    #[command(flatten)]
    pub how: How,
}

/// `sgctl diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A kept generation
    #[arg(add = complete::generations())]
    pub from: u64,
    /// Another one; the one in force when absent
    #[arg(add = complete::generations())]
    pub to: Option<u64>,
}

/// `sgctl restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// A file that `sgctl backup` wrote; - is standard input
    pub file: String,
    /// How it is put back.
    #[command(flatten)]
    pub how: How,
}
