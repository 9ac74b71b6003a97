//! `sgctl shadow`.

use clap::{Args, Subcommand, ValueHint};

use super::documents::Manner;

/// About a candidate that judges beside the policy in force.
#[derive(Debug, Subcommand)]
pub enum Shadow {
    /// Have a document judge new flows beside what is in force, in place of a candidate before it
    Start(Start),
    /// Show what the candidate decides otherwise
    Report {
        /// Every kind of flow, not only the 20 largest
        #[arg(long)]
        all: bool,
    },
    /// Put the candidate in force, as `sgctl apply` would
    Promote(Promote),
    /// Let the candidate go, and show what it decided otherwise
    Stop,
}

/// Which document.
#[derive(Debug, Args)]
pub struct Start {
    /// Policy document; several are one document, `-` is standard input
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub file: Vec<String>,
    /// As if objects of other documents were taken over
    #[arg(long)]
    pub adopt: bool,
}

/// How it is put in force.
#[derive(Debug, Args)]
pub struct Promote {
    /// Do not ask: delete objects that left the document, even if this SSH connection is dropped
    #[arg(short, long)]
    pub yes: bool,
    /// How the rules are put in force.
    #[command(flatten)]
    pub manner: Manner,
}
