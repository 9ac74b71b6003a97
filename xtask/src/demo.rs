//! The demo: the real daemon, the real command line, real traffic.

use anyhow::{Context, Result};

use crate::{
    build::binaries,
    run::{as_root, run, step},
};

/// Builds, then runs the demo as root.
///
/// # Errors
/// What could not be built, or a row that was not as expected.
pub fn demo() -> Result<()> {
    let dir = binaries(false, false)?;
    step("security groups on real traffic, in namespaces of their own");
    let mut command =
        as_root(dir.join("sg-demo")).context("the demo makes network namespaces, which needs root or sudo")?;
    run(&mut command)
}
