//! The kernel program, and the binaries with it inside.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    run::{cargo, root, run, step, target},
    setup::setup,
};

/// Builds the kernel program; returns the object's path. With `log` it says a
/// line for each packet, which `sgd` prints at `log = "debug"`.
///
/// # Errors
/// What is missing, or what the compiler says.
pub fn ebpf(log: bool) -> Result<PathBuf> {
    step("building the kernel program");
    let built = compile("sg", log)?;
    let object = target().join("sg-ebpf.o");
    copy(&built, &object)?;
    // Binaries that were built without it find it beside them.
    for profile in ["debug", "release"] {
        let beside = target().join(profile);
        fs::create_dir_all(&beside)?;
        copy(&built, &beside.join("sg-ebpf.o"))?;
    }
    Ok(object)
}

/// Builds the programs that the benchmark compares with; returns the object's path.
///
/// # Errors
/// As [`ebpf`].
pub fn peers() -> Result<PathBuf> {
    step("building the programs to compare with");
    let object = target().join("sg-bench-peers.o");
    copy(&compile("sg-bench-peers", false)?, &object)?;
    Ok(object)
}

/// Compiles a binary of `sg-ebpf` for the kernel.
fn compile(binary: &str, log: bool) -> Result<PathBuf> {
    let tools = setup()?;
    let endian = if cfg!(target_endian = "little") { "bpfel" } else { "bpfeb" };
    let triple = format!("{endian}-unknown-none");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        // BTF for the maps and for the functions that are verified one by one.
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        "-Ctarget-cpu=v3".into(),
        format!("-Clinker={}", tools.linker.display()),
        // No path of the machine that builds it goes into the object.
        format!("--remap-path-prefix={}=.", root().display()),
    ];
    let dir = target().join("bpf");
    let mut command = cargo();
    command
        .args(["build", "--release", "--package", "sg-ebpf", "--bin", binary, "-Zbuild-std=core"])
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTC", &tools.compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        // `-Zbuild-std` is unstable; Debian's compiler is a stable one.
        .env("RUSTC_BOOTSTRAP", "1");
    if log {
        command.args(["--features", "log"]);
    }
    run(&mut command)?;
    Ok(dir.join(&triple).join("release").join(binary))
}

/// Replaces a file only when it differs, so that cargo does not rebuild for nothing.
fn copy(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).ok().as_deref() != Some(&bytes[..]) {
        fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Builds `sgd` and `sgctl`; returns the directory they are in.
///
/// # Errors
/// What the compiler says.
pub fn binaries(release: bool, log: bool) -> Result<PathBuf> {
    let object = ebpf(log)?;
    step("building sgd and sgctl");
    let mut command = cargo();
    command.args(["build", "--package", "sg-userspace", "--bins"]).env("SG_EBPF_OBJECT", &object);
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(target().join(if release { "release" } else { "debug" }))
}
