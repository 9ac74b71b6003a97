//! The official SDKs that the tests of the control API call with, versions pinned,
//! in `target/sdks`; and Debian's Prometheus, which runs the queries of dashboard and alerts.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    run::{find, output_of, root, run, step, target},
    setup::packages,
    vm,
};

/// Seconds that one download may take.
const PATIENCE: &str = "600";

/// Where Debian's `prometheus` is unpacked. Not installed: the package would start a
/// server of its own on this machine.
///
/// # Errors
/// Neither here nor to be had.
pub fn prometheus() -> Result<PathBuf> {
    vm::package("prometheus", vm::Extent::Alone)
}

/// Finds or installs them.
///
/// # Errors
/// Neither here nor to be had.
pub fn sdks() -> Result<PathBuf> {
    let dir = target().join("sdks");
    let pinned = root().join("sg-userspace/tests/sdk");
    let mut wanted = String::new();
    for file in ["requirements.txt", "package-lock.json"] {
        let path = pinned.join(file);
        wanted += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let stamp = dir.join("installed");
    let (python, node) = (dir.join("python"), dir.join("node"));
    let works = |program: &str| find(program).is_some();
    if fs::read_to_string(&stamp).is_ok_and(|s| s == wanted)
        && output_of(Command::new(python.join("bin/python")).arg("--version")).is_some()
        && works("node")
    {
        return Ok(dir);
    }
    packages("Python and Node, for the official SDKs", &["python3", "node", "npm"])?;
    step("installing the official SDKs, which call the control API in the tests");
    // What an interrupted run left may be half.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&node)?;
    let venv = || run(Command::new("python3").args(["-m", "venv"]).arg(&python));
    if venv().is_err() {
        // Debian has the module in a package of its own.
        let _ = fs::remove_dir_all(&python);
        crate::setup::install("Python's venv", &["python3-venv"])?;
        venv()?;
    }
    let mut pip = Command::new("timeout");
    pip.arg(PATIENCE).arg(python.join("bin/python")).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    run(pip.arg("-r").arg(pinned.join("requirements.txt")))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(pinned.join(file), node.join(file))?;
    }
    let mut npm = Command::new("timeout");
    npm.arg(PATIENCE).args(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
    run(npm.current_dir(&node))?;
    fs::write(stamp, wanted)?;
    Ok(dir)
}
