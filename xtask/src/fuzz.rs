//! Fuzzes: builds the targets with coverage counters and runs them, from the
//! inputs that are kept.
//!
//! The flags are those of cargo-fuzz without a sanitizer, which needs no
//! nightly compiler: the code under test is safe Rust, with overflow checks.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    run::{cargo, output_of, root, run, step, target},
    setup,
};

/// Every target; the library's list has the same order.
pub const TARGETS: [&str; 5] = ["parse", "related", "document", "pipeline", "request"];

const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cforce-frame-pointers",
    "--cfg=fuzzing",
];
/// Inputs kept for each target, the shortest that together cover most.
const KEPT: usize = 150;
const LONGEST: usize = 2000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// One target, or all.
    pub target: Option<String>,
    /// Seconds for each.
    pub seconds: u32,
    /// Executions for each; 0 is no bound.
    pub runs: u64,
    /// Whether the kept inputs are renewed from what was found.
    pub keep: bool,
}

/// What one target did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Executions.
    pub runs: u64,
    /// Edges covered.
    pub edges: u64,
    /// Inputs in the corpus.
    pub inputs: u64,
}

fn kept(name: &str) -> PathBuf {
    root().join("sg-userspace/fuzz/corpora").join(format!("{name}.hex"))
}

/// Builds a program for each target; returns where they lie.
fn build() -> Result<PathBuf> {
    setup::packages("g++, which builds the fuzzer's runtime", &["g++"])?;
    let triple = output_of(Command::new("rustc").args(["--print", "host-tuple"])).context("rustc is gone")?;
    let dir = target().join("fuzz");
    step("building the fuzz targets with coverage counters");
    run(cargo()
        .current_dir(root().join("sg-userspace/fuzz"))
        // Flags for a named target are not those of build scripts.
        .args(["build", "--release", "--locked", "--target", &triple])
        .env("CARGO_TARGET_DIR", &dir)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env_remove("SG_EBPF_OBJECT"))?;
    Ok(dir.join(triple).join("release"))
}

/// Writes the kept inputs as files, beside what earlier runs found.
fn unpack(name: &str, corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let file = kept(name);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for (i, line) in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).enumerate() {
        let bytes: Option<Vec<u8>> =
            (0..line.len() / 2).map(|at| u8::from_str_radix(line.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
        let bytes = bytes.with_context(|| format!("{}: input {} is no hexadecimal", file.display(), i + 1))?;
        fs::write(corpus.join(format!("kept-{i}")), bytes)?;
    }
    Ok(())
}

/// Makes what covers most the kept inputs.
fn pack(program: &Path, name: &str, corpus: &Path) -> Result<()> {
    let merged = corpus.with_file_name(format!("{name}-merged"));
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    step(&format!("keeping the inputs of {name} that cover most"));
    let status = Command::new(program)
        .args(["-merge=1", "-verbosity=0"])
        .args([&merged, &corpus.to_path_buf()])
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "merging failed: {status}");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&merged)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.retain(|i| i.len() <= LONGEST && !i.is_empty());
    inputs.sort_by_key(|i| (i.len(), i.clone()));
    // Of all lengths: every so many.
    let every = inputs.len().div_ceil(KEPT).max(1);
    let lines = inputs.iter().step_by(every).map(|i| i.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n");
    fs::write(kept(name), lines.collect::<String>())?;
    fs::remove_dir_all(&merged)?;
    Ok(())
}

/// The number behind a word of the fuzzer's progress.
fn after(line: &str, word: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find(|w| *w == word)?;
    words.next()?.split('/').next()?.parse().ok()
}

fn one(program: &Path, name: &str, wish: &Wish) -> Result<Outcome> {
    let base = target().join("fuzz");
    let (corpus, crashes) = (base.join("corpus").join(name), base.join("crashes").join(name));
    unpack(name, &corpus)?;
    fs::create_dir_all(&crashes)?;
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={}", wish.seconds))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(if matches!(name, "document" | "request") { "-max_len=2048" } else { "-max_len=400" })
        .stderr(Stdio::piped());
    if wish.runs > 0 {
        command.arg(format!("-runs={}", wish.runs));
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let (mut outcome, mut tail) = (Outcome::default(), Vec::new());
    for line in BufReader::new(child.stderr.take().context("no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(edges) = after(&line, "cov:") {
            outcome.edges = edges;
            outcome.inputs = after(&line, "corp:").unwrap_or(outcome.inputs);
        }
        if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
            outcome.runs = runs.trim().parse().unwrap_or(0);
        }
        if line.starts_with('#') && (line.contains("pulse") || line.contains("INITED")) {
            eprintln!("{name}: {line}");
        }
        tail.push(line);
        if tail.len() > 60 {
            tail.remove(0);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let noteworthy: Vec<&String> = tail.iter().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).collect();
        bail!(
            "{name} found something:\n{}\nThe input lies below {}; once repaired, add it to {}",
            noteworthy.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n"),
            crashes.display(),
            kept(name).display()
        );
    }
    ensure!(outcome.runs > 0 && outcome.edges > 0, "{name} ran nothing, or nothing that is counted");
    if wish.keep {
        pack(program, name, &corpus)?;
    }
    Ok(outcome)
}

/// Fuzzes what is asked; returns what each target did.
///
/// # Errors
/// What was found, or could not be built.
pub fn fuzz(wish: &Wish) -> Result<Vec<(&'static str, Outcome)>> {
    let wanted = |name: &&&str| wish.target.as_ref().is_none_or(|t| t == **name);
    let names: Vec<&&'static str> = TARGETS.iter().filter(wanted).collect();
    ensure!(!names.is_empty(), "no such target: there are {}", TARGETS.join(", "));
    let programs = build()?;
    let mut outcomes = Vec::new();
    for name in names {
        step(&format!("fuzzing {name}"));
        outcomes.push((*name, one(&programs.join(name), name, wish)?));
    }
    for (name, o) in &outcomes {
        println!("fuzz {name}: {} executions, {} edges, {} inputs, no crash", o.runs, o.edges, o.inputs);
    }
    Ok(outcomes)
}
