//! All test layers, counted; one that cannot run is named, and fails.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    build, fuzz,
    run::{cargo, is_root, output_of, run, shown, step, target},
    sdks::{prometheus, sdks},
    setup::packages,
    tally::Tally,
    vm,
};

/// A layer: name, arguments of `cargo test`, whether it needs root and the kernel program.
const LAYERS: &[(&str, &[&str], bool)] = &[
    (
        "1 pure",
        &[
            "--workspace",
            "--lib",
            "--bins",
            "--test",
            "parse_props",
            "--test",
            "tcp_states",
            "--test",
            "differential",
            "--test",
            "deltas",
            "--test",
            "changes",
            "--test",
            "explosion",
            "--test",
            "lint",
            "--test",
            "cli",
            "--test",
            "witness",
        ],
        false,
    ),
    ("2 program", &["--package", "sg-userspace", "--test", "program"], true),
    ("3 namespaces", &["--package", "sg-userspace", "--test", "namespaces"], true),
    ("4 API", &["--package", "sg-userspace", "--test", "api"], true),
];

/// Runs one layer, passing its output on and counting.
fn layer(arguments: &[&str], root: bool, object: &Path, prometheus: &Path, scale: u32) -> Result<Tally> {
    let mut command = cargo();
    command
        .arg("test")
        .args(arguments)
        .env("SG_EBPF_OBJECT", object)
        .env("SG_SOAK", scale.to_string())
        .env("SG_SDKS", target().join("sdks"))
        .env("SG_PROMETHEUS", prometheus)
        .stdout(Stdio::piped());
    if root {
        // A test that finds neither root nor the program fails instead of being skipped.
        command.env("SG_TEST_REQUIRE", "1");
        if !is_root() {
            let triple = output_of(Command::new("rustc").args(["--print", "host-tuple"])).context("rustc is gone")?;
            let name = format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"));
            command.env(name, "sudo -n -E");
        }
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(&command)))?;
    let mut counts = Tally::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        println!("{line}");
        counts.read(&line);
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("{} failed: {status}", shown(&command));
    }
    Ok(counts)
}

/// Runs all layers.
///
/// # Errors
/// A test that failed, a layer that could not run.
pub fn test(scale: u32) -> Result<()> {
    let object = build::ebpf(false);
    let rooted = is_root() || output_of(Command::new("sudo").args(["-n", "true"])).is_some();
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    let mut bad = 0;
    let machines = ("5 other kernels", &[][..], true);
    let bytes = ("6 fuzz", &[][..], false);
    for &(name, arguments, needs_root) in LAYERS.iter().chain([&machines, &bytes]) {
        let skip = match (&object, needs_root, rooted) {
            (Err(e), true, _) => Some(format!("no kernel program: {e:#}")),
            (_, true, false) => Some("needs root, or sudo without a password".into()),
            _ => None,
        };
        if let Some(why) = skip {
            bad += 1;
            lines.push(format!("layer {name}: SKIPPED, {why}"));
            continue;
        }
        step(&format!("layer {name}"));
        let empty = PathBuf::new();
        let path = object.as_ref().unwrap_or(&empty);
        let tools = match name {
            "3 namespaces" => {
                packages("nftables, with which a test translates addresses", &["nft"]).map(|()| empty.clone())
            }
            "4 API" => sdks().and_then(|_| prometheus()),
            _ => Ok(empty.clone()),
        };
        let result = if let Err(e) = &tools {
            Err(anyhow::anyhow!("{e:#}"))
        } else if name == machines.0 {
            vm::test(path, &vm::Choice { everything: scale > 1, ..vm::Choice::default() })
        } else if name == bytes.0 {
            fuzz::fuzz(&fuzz::Wish { seconds: 15 * scale, ..fuzz::Wish::default() })
                .map(|targets| Tally::of(targets.len() as u32))
        } else {
            layer(arguments, needs_root, path, &tools.unwrap_or_default(), scale)
        };
        match result {
            Ok(counts) => {
                bad += u32::from(counts.failed > 0 || counts.passed == 0);
                lines.push(format!("layer {name}: {} passed, {} failed", counts.passed, counts.failed));
                failures.extend(counts.failures);
            }
            Err(e) => {
                bad += 1;
                lines.push(format!("layer {name}: FAILED, {e:#}"));
            }
        }
    }
    // Last of all, as this is what one looks for, and all that some viewers keep.
    for words in &failures {
        println!("\nFAILED {}", words.join("\n    ").trim_end());
    }
    println!("\n{}", lines.join("\n"));
    if bad > 0 {
        bail!("not all layers passed");
    }
    println!("all layers passed");
    Ok(())
}

/// Format, lints, docs, tests.
///
/// # Errors
/// The first step that fails.
pub fn ci() -> Result<()> {
    step("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    step("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("docs");
    run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    test(1)
}
