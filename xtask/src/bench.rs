//! Builds the benchmark, and runs it as root.

mod against;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    build::{binaries, peers},
    run::{as_root, root, run, step},
    setup,
};

/// What is asked.
#[derive(Debug)]
pub struct Wish {
    /// Fewer rounds.
    pub quick: bool,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// Part of a figure's name.
    pub only: Option<String>,
    /// Another revision.
    pub against: Option<String>,
    /// Whether to write the document.
    pub docs: bool,
    /// Whether to show where the time goes instead.
    pub profile: bool,
}

/// Measures.
///
/// # Errors
/// What could not be built or run.
pub fn bench(wish: &Wish) -> Result<()> {
    match &wish.against {
        Some(revision) => against::compare(revision, wish),
        None => here(wish),
    }
}

fn here(wish: &Wish) -> Result<()> {
    let dir = binaries(true, false)?;
    let peers = peers()?;
    setup::packages("nftables and iperf3, which the benchmark compares and measures with", &["nft", "iperf3"])?;
    step("measuring");
    let mut command =
        as_root(dir.join("sg-bench")).context("the benchmark loads programs, which needs root or sudo")?;
    command.arg("--peers").arg(&peers);
    if wish.quick {
        command.arg("--quick");
    }
    if let Some(file) = &wish.json {
        command.arg("--json").arg(file);
    }
    if let Some(part) = &wish.only {
        command.args(["--only", part]);
    }
    if wish.profile {
        command.arg("--profile");
    }
    if wish.docs {
        command.arg("--docs").arg(root().join("docs"));
    }
    run(&mut command)
}
