//! What can be said to `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Say what this host lacks for the protection to work.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl doctor
  sudo sgctl doctor -o json | jq '.[] | select(.state != \"ok\")'

Needs no daemon; without root, some is not looked at. Exit status: 0 nothing fails,
1 something does, 2 usage.")]
pub struct Doctor {
    /// The daemon's configuration file; without one /etc/sg/sgd.toml if it is there, else the defaults
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}
