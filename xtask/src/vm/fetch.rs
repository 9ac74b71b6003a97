//! Debian packages, downloaded and unpacked below `target/vm`, never installed:
//! another version of qemu may be on this machine, and stays.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::run::{as_root, find, output_of, run, step, target};

/// Seconds that one download may take.
const PATIENCE: &str = "300";
/// As root, apt would drop its rights and then not be allowed to write here.
const APT: [&str; 5] = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-oDebug::NoLocking=1"];

/// What to unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The package alone.
    Alone,
    /// With what it depends on and this machine has not.
    WithDependencies,
}

/// Where packages are unpacked.
pub fn directory() -> PathBuf {
    target().join("vm")
}

fn apt_cache(arguments: &[&str]) -> Option<String> {
    output_of(Command::new("apt-cache").args(arguments)).filter(|text| !text.is_empty())
}

fn refresh() -> Result<()> {
    step("refreshing apt's lists");
    let mut command = as_root("timeout").context("neither root nor sudo without a password")?;
    run(command.args([PATIENCE, "apt-get", "-qq", "update"]))
}

/// The version that apt would take.
fn version(package: &str) -> Option<String> {
    let shown = apt_cache(&["show", "--no-all-versions", package])?;
    shown.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
}

/// The kernel that a meta package stands for today.
///
/// # Errors
/// apt does not know it.
pub fn kernel_of(meta: &str) -> Result<String> {
    let look = || {
        let text = apt_cache(&["depends", meta])?;
        text.lines().find_map(|l| {
            l.trim().strip_prefix("Depends: ").filter(|n| n.starts_with("linux-image-")).map(str::to_owned)
        })
    };
    if find("apt-cache").is_none() {
        bail!("apt-cache is missing: kernels and qemu are taken from Debian's packages");
    }
    if let Some(name) = look() {
        return Ok(name);
    }
    refresh()?;
    look().with_context(|| format!("apt knows no package {meta}: Debian 12's archive (main, security) is needed"))
}

fn download(package: &str, extent: Extent, into: &Path) -> Result<()> {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).args(APT).current_dir(into);
    match extent {
        Extent::Alone => command.args(["download", package]),
        Extent::WithDependencies => command
            .args(["install", "-y", "--download-only", "--no-install-recommends"])
            .arg(format!("-oDir::Cache::archives={}", into.display()))
            .arg(package),
    };
    run(&mut command)
}

/// The root of an unpacked package; without a download when this version is
/// there already.
///
/// # Errors
/// apt does not know the package, or cannot reach its archive.
pub fn package(name: &str, extent: Extent) -> Result<PathBuf> {
    if version(name).is_none() {
        refresh()?;
    }
    let place = || {
        let version = version(name).with_context(|| format!("apt knows no package {name}"))?;
        anyhow::Ok(directory().join(format!("{name}_{}", version.replace([':', '/'], "."))))
    };
    let done = place()?;
    if done.is_dir() {
        return Ok(done);
    }
    step(&format!("downloading {name}"));
    let part = directory().join(format!("{name}.part"));
    let debs = part.join("debs");
    let fresh = || -> Result<()> {
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        Ok(fs::create_dir_all(debs.join("partial"))?)
    };
    fresh()?;
    if download(name, extent, &debs).is_err() {
        // The lists may name a version that the archive has replaced.
        refresh().and_then(|()| fresh()).and_then(|()| download(name, extent, &debs)).with_context(|| {
            format!("cannot download {name}: apt's archive is out of reach, or has no such package")
        })?;
    }
    let root = part.join("root");
    let mut count = 0;
    for entry in fs::read_dir(&debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root))?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("apt downloaded nothing for {name}");
    }
    let done = place()?;
    fs::rename(&root, &done).with_context(|| format!("cannot make {}", done.display()))?;
    fs::remove_dir_all(&part)?;
    Ok(done)
}
