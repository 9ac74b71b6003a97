//! `cargo xtask`: set up, build, show, test.
//!
//! # Layout
//! - [`setup`]: finds or installs what the kernel build needs
//! - [`build`]: the kernel program, and the binaries with it inside
//! - [`mod@bench`]: speed and size, beside peers
//! - [`fuzz`]: hostile bytes
//! - [`mod@test`]: all test layers
//! - [`tally`]: tests, counted
//! - [`vm`]: the tests on other kernels, in small machines
//! - [`run`]: commands, with progress

mod bench;
mod build;
mod demo;
mod fuzz;
mod run;
mod sdks;
mod setup;
mod tally;
mod test;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of this repository.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what the kernel build, the tests and the demo need
    Setup,
    /// Build the kernel program
    BuildEbpf {
        /// With a debug line for each packet
        #[arg(long)]
        log: bool,
    },
    /// Build sgd and sgctl, the kernel program inside
    Build {
        /// With optimisations
        #[arg(long)]
        release: bool,
        /// With a debug line for each packet
        #[arg(long)]
        log: bool,
    },
    /// Measure, beside what others do
    Bench {
        /// Fewer rounds: less than four minutes
        #[arg(long)]
        quick: bool,
        /// Writes the figures as JSON
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only parts whose name contains this, or one of these with commas; a name that there is not lists them
        #[arg(long)]
        only: Option<String>,
        /// Compares with another revision of this repository
        #[arg(long, value_name = "REV")]
        against: Option<String>,
        /// Writes docs/benchmarks.md and its plots
        #[arg(long)]
        docs: bool,
        /// Shows where a packet's time goes, by function and line, instead
        #[arg(long, conflicts_with_all = ["docs", "json", "against"])]
        profile: bool,
    },
    /// Show security groups on real traffic, in namespaces of its own
    Demo,
    /// Run every test layer; fails when one cannot run
    Test,
    /// Fuzz: hostile packets, errors, documents; everything found is kept below target/fuzz
    Fuzz {
        /// Only this target
        target: Option<String>,
        /// Seconds for each target
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        /// At most so many executions of each target
        #[arg(long, default_value_t = 0)]
        runs: u64,
        /// Renews the inputs that are kept in the repository
        #[arg(long)]
        keep: bool,
    },
    /// The tests that depend on the kernel, on others than this machine's
    VmTest {
        /// Only on this one
        #[arg(long)]
        kernel: Option<vm::Kernel>,
        /// With the tests of the program and the namespaces, which take minutes there
        #[arg(long)]
        everything: bool,
        /// Only tests whose names contain this, with all they print
        filter: Option<String>,
    },
    /// The large tests at ten times their number
    Soak,
    /// Everything that a change must pass: format, lints, docs, tests
    Ci,
}

fn main() -> ExitCode {
    match task() {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace, whatever the environment asks for: it would push out of
        // sight what failed, and where in this program is of no use.
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn task() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => setup::setup().map(drop),
        Task::BuildEbpf { log } => build::ebpf(log).map(|object| println!("built {}", object.display())),
        Task::Build { release, log } => {
            build::binaries(release, log).map(|dir| println!("built {}/sgd and sgctl", dir.display()))
        }
        Task::Bench { quick, json, only, against, docs, profile } => {
            bench::bench(&bench::Wish { quick, json, only, against, docs, profile })
        }
        Task::Fuzz { target, seconds, runs, keep } => fuzz::fuzz(&fuzz::Wish { target, seconds, runs, keep }).map(drop),
        Task::Demo => demo::demo(),
        Task::Test => test::test(1),
        Task::VmTest { kernel, everything, filter } => vm::task(&vm::Choice { kernel, everything, filter }),
        Task::Soak => test::test(10),
        Task::Ci => test::ci(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;

    use super::{Arguments, run::root};

    /// What of a task there is not; `[…]` may be left out.
    fn unknown(call: &str) -> Option<String> {
        let call = call.replace(['[', ']'], " ");
        let mut words = call.split_whitespace();
        let task = words.next()?;
        let all = Arguments::command();
        let Some(task) = all.find_subcommand(task) else { return Some(format!("no task {task}")) };
        let known = |option: &str| task.get_arguments().any(|a| a.get_long() == option.strip_prefix("--"));
        words.filter(|w| w.starts_with("--")).find(|w| !known(w)).map(|w| format!("no option {w}"))
    }

    #[test]
    fn tasks_that_are_spoken_of_are_there() {
        let docs = fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<_> = docs.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
        files.extend(["README.md", "CHANGELOG.md", ".ci/run"].map(|name| root().join(name)));
        let (mut seen, mut wrong) = (0, Vec::new());
        for file in files {
            // A line is broken anywhere.
            let text = fs::read_to_string(&file).unwrap().replace("cargo\nxtask", "cargo xtask");
            let text = text.replace("xtask\n", "xtask ");
            for call in text.split("cargo xtask ").skip(1) {
                let call = call.split(['`', '\n', '#', ',', ')']).next().unwrap();
                // `cargo xtask` by itself is none of them.
                if call.trim().starts_with(|c: char| c.is_ascii_lowercase()) {
                    seen += 1;
                    wrong.extend(unknown(call).map(|said| format!("{}: {call:?}: {said}", file.display())));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(seen > 10, "only {seen} were looked at");
        assert_eq!(unknown("bench [--quik]").as_deref(), Some("no option --quik"));
        assert_eq!(unknown("tests").as_deref(), Some("no task tests"));
    }
}
