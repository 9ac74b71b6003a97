//! Finds what the kernel build needs, or installs it: asks nothing, says what
//! it does and why, and does nothing twice.
//!
//! `core` is built from source for the BPF target, so a compiler with its
//! sources is needed: a nightly with `rust-src`, or Debian's `rustc-web` with
//! `rust-web-src`, which sits beside rustup. `bpf-linker` makes the object.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::run::{as_root, cargo, find, output_of, run, step};

const LINKER_VERSION: &str = "0.10.3";
const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// Seconds that one download may take: an unreachable server must not hang us.
const PATIENCE: &str = "600";

/// A compiler that can build `core`.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// `RUSTC`.
    pub rustc: PathBuf,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Compiles the kernel program.
    pub compiler: Compiler,
    /// Links it.
    pub linker: PathBuf,
}

fn with_sources(rustc: PathBuf) -> Option<Compiler> {
    let sysroot = output_of(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let sources = PathBuf::from(sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    sources.is_file().then_some(Compiler { rustc })
}

/// Looks only at what is installed.
fn compiler() -> Option<Compiler> {
    let debian = || with_sources(PathBuf::from("/usr/bin/rustc")).filter(new_enough);
    let rustup = || {
        let toolchains = output_of(Command::new("rustup").args(["toolchain", "list"]))?;
        let nightly = toolchains.lines().find(|l| l.starts_with("nightly"))?.split_whitespace().next()?.to_owned();
        let sysroot = output_of(Command::new("rustup").args(["run", &nightly, "rustc", "--print", "sysroot"]))?;
        with_sources(PathBuf::from(sysroot).join("bin/rustc"))
    };
    debian().or_else(rustup)
}

/// The sources use the 2024 edition as of 1.95.
fn new_enough(compiler: &Compiler) -> bool {
    let version = output_of(Command::new(&compiler.rustc).arg("--version")).unwrap_or_default();
    let minor = version.split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    minor.is_some_and(|m| m >= 95)
}

fn install_compiler() -> Result<()> {
    let mut tried = Vec::new();
    if find("apt-get").is_some() {
        match as_root("timeout") {
            Some(_) => {
                step("installing Debian's rustc-web and rust-web-src: a compiler with the sources of `core`");
                let apt = |words: &[&str]| -> Result<()> {
                    let mut command = as_root("timeout").context("root is gone")?;
                    run(command.args([PATIENCE, "apt-get"]).args(words).env("DEBIAN_FRONTEND", "noninteractive"))
                };
                let install = [&["install", "-y", "--no-install-recommends"][..], &PACKAGES].concat();
                match apt(&["update"]).and_then(|()| apt(&install)) {
                    Ok(()) => return Ok(()),
                    Err(e) => tried.push(format!("Debian's packages: {e:#}")),
                }
            }
            None => tried.push("Debian's packages: neither root nor sudo without a password".into()),
        }
    }
    if find("rustup").is_some() {
        step("installing the nightly toolchain with rust-src: a compiler with the sources of `core`");
        let install = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
        match run(Command::new("timeout").args([PATIENCE, "rustup"]).args(install)) {
            Ok(()) => return Ok(()),
            Err(e) => tried.push(format!("rustup: {e:#}")),
        }
    }
    if tried.is_empty() {
        tried.push("neither apt-get nor rustup is here".into());
    }
    bail!(
        "no compiler can build `core` for the kernel program:\n  {}\nInstall one of: `rustup toolchain install nightly \
         --component rust-src`, or on Debian `apt-get install rustc-web rust-web-src`; then run this again",
        tried.join("\n  ")
    )
}

fn linker() -> Result<PathBuf> {
    let found = || find("bpf-linker");
    if let Some(path) = found() {
        return Ok(path);
    }
    step("installing bpf-linker, which makes the kernel object (about a minute)");
    let install = ["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"];
    // A directory of this workspace would bring its target directory with it.
    run(cargo().args(install).env_remove("CARGO_TARGET_DIR").env_remove("SG_EBPF_OBJECT"))?;
    found().context("bpf-linker was installed, but is not in PATH nor in cargo's bin directory")
}

/// Installs what has one of these programs missing; a program's package is
/// named as it, but for `nft`, `ip` and `node`.
///
/// # Errors
/// What is missing and how to get it.
pub fn packages(what: &str, programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs.iter().filter(|p| find(p).is_none()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let package = |program: &str| match program {
        "nft" => "nftables".to_owned(),
        "ip" => "iproute2".to_owned(),
        "node" => "nodejs".to_owned(),
        other => other.to_owned(),
    };
    let names: Vec<String> = missing.iter().map(|p| package(p)).collect();
    install(what, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Installs packages.
///
/// # Errors
/// They cannot be had.
pub fn install(what: &str, names: &[&str]) -> Result<()> {
    step(&format!("installing {what}"));
    let apt = |arguments: &[&str]| -> Result<()> {
        let command = as_root("timeout").filter(|_| find("apt-get").is_some());
        let mut command = command.with_context(|| format!("missing: install {}", names.join(", ")))?;
        command.args([PATIENCE, "apt-get"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(names);
    // A machine that never asked knows no packages, or only old ones.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Finds or installs everything.
///
/// # Errors
/// What is missing and how to get it.
pub fn setup() -> Result<Tools> {
    let compiler = match compiler() {
        Some(compiler) => compiler,
        None => {
            install_compiler()?;
            compiler().context("a compiler was installed, but its sources of `core` are not where they belong")?
        }
    };
    let linker = linker()?;
    packages("iproute2, with which the tests and the demo make network namespaces", &["ip"])?;
    let version = output_of(Command::new(&compiler.rustc).arg("--version")).unwrap_or_default();
    let linker_version = output_of(Command::new(&linker).arg("--version")).unwrap_or_default();
    step(&format!("kernel toolchain: {} ({version}), {linker_version}", compiler.rustc.display()));
    Ok(Tools { compiler, linker })
}
