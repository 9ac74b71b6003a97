//! What can be said of access keys.

use clap::Subcommand;

use super::Yes;
use crate::ctl::complete;

/// Access keys of the control API.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make one, and show its secret, this once
    Create {
        /// It may only look
        #[arg(long)]
        read_only: bool,
        /// The account it belongs to; 16 digits
        #[arg(long)]
        account: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Show them, without their secrets
    List,
    /// Refuse calls of one
    Disable {
        /// Its id
        #[arg(add = complete::keys())]
        id: String,
    },
    /// Take calls of one again
    Enable {
        /// Its id
        #[arg(add = complete::keys())]
        id: String,
    },
    /// Delete one
    Delete {
        /// Its id
        #[arg(add = complete::keys())]
        id: String,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
}
