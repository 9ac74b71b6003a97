//! The command line `sgctl`: arguments in, one request, one table out.
//!
//! # Layout
//! - [`args`]: what can be said
//! - [`output`]: tables, JSON, YAML
//! - `api`: calls and keys of the control API; `call`: calls for other commands
//! - `group`: groups; `rule`: their rules; `default_group`: the one that lets everybody in; `rules_file`: their files
//! - `lists`: prefix lists and port lists
//! - `members`: instances and network interfaces
//! - [`snapshot`]: what was in force, and backups
//! - `apply`: documents, `differences`: packets they decide otherwise, `drift`: what others did to them; `show`: what is in force; `wait`: until it is
//! - `flows`: live flows; `stats`: what was counted
//! - `doctor`: what this host lacks
//! - `explain`: which rule decides a flow; `replay`: a capture through a candidate; `lint`: what is unwise or needless
//! - `complete`: what a shell offers at TAB
//! - `confirm`: the question before something goes for good
//! - `watch`: packets as they are judged; `shadow`: a candidate beside what is in force
//! - `client`: the daemon's socket; `session`: the caller's own connection

mod api;
mod apply;
pub mod args;
mod call;
pub mod client;
mod complete;
mod confirm;
mod default_group;
mod diagnose;
mod differences;
mod doctor;
mod drift;
mod explain;
mod flows;
mod group;
mod lint;
mod lists;
mod members;
pub mod output;
mod replay;
mod rule;
mod rules_file;
mod session;
mod shadow;
mod show;
pub mod snapshot;
mod stats;
mod wait;
mod watch;

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;

use crate::document::{Document, Problems, Source, parse};
use args::{Arguments, Command};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Done,
    /// Refused, and said why.
    Refused,
}

/// The whole of `sgctl`: exit status 0 done, 1 refused, 2 usage.
pub fn main() -> ExitCode {
    complete::answer();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Refused) => ExitCode::from(1),
        // A reader that went away (a pager, `head`) is no failure of ours.
        Err(e)
            if e.chain().any(|c| {
                c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            }) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            let mut stderr = output::stderr();
            let _ = match e.downcast_ref::<Problems>() {
                Some(problems) => {
                    writeln!(stderr, "{problems}\n{} found; nothing was changed", count(problems.0.len(), "problem"))
                }
                None => writeln!(stderr, "sgctl: {e:#}"),
            };
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Ended> {
    match &arguments.command {
        Command::Apply(a) => apply::apply(arguments, a),
        Command::Confirm => apply::confirm(arguments),
        Command::Plan(a) => apply::plan(arguments, a),
        Command::Explain(a) => explain::run(arguments, a),
        Command::Diagnose(a) => diagnose::run(arguments, a),
        Command::Replay(a) => replay::run(arguments, a),
        Command::Lint(a) => lint::run(arguments, a),
        Command::Status { all } => show::status(arguments, *all),
        Command::Flows(a) => flows::run(arguments, a),
        Command::Stats(a) => stats::run(arguments, a),
        Command::Doctor(a) => doctor::run(arguments, a),
        Command::Instance { command } => members::instance(arguments, command),
        Command::Interface { command } => members::interface(arguments, command),
        Command::Wait(a) => wait::wait(arguments, a),
        Command::Watch(a) => watch::run(arguments, a),
        Command::Shadow { command } => shadow::run(arguments, command),
        Command::Group { command } => group::group(arguments, command),
        Command::Rule { command } => rule::rule(arguments, command),
        Command::PrefixList { command } => lists::run(arguments, command),
        Command::PortList { command } => lists::run(arguments, command),
        Command::Key { command } => api::key(arguments, command),
        Command::Api { action, parameters } => api::call(arguments, action, parameters),
        Command::Snapshot { command } => snapshot::snapshot(arguments, command),
        Command::Rollback(a) => snapshot::rollback(arguments, a),
        Command::Diff(a) => snapshot::diff(arguments, a),
        Command::Backup { file } => snapshot::backup(arguments, file),
        Command::Restore(a) => snapshot::restore(arguments, a),
        Command::Completions { shell } => complete::script(arguments.output, *shell),
        Command::Export { document } => show::export(arguments, document.as_deref()),
    }
}

/// `1 problem`, `2 problems`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

/// The same of a word whose plural is another.
pub fn count_of(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn read_all(name: &str) -> Result<Vec<u8>> {
    if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(name).with_context(|| format!("cannot read {name}"))
}

/// Reads the files given.
///
/// # Errors
/// A file that cannot be read.
pub fn sources(files: &[String]) -> Result<Vec<Source>> {
    files
        .iter()
        .map(|name| {
            let shown = if name == "-" { "standard input" } else { name };
            Ok(Source { name: shown.to_owned(), bytes: read_all(name)? })
        })
        .collect()
}

/// Reads the files given as one document.
///
/// # Errors
/// A file that cannot be read; or [`Problems`].
pub fn document(files: &[String]) -> Result<Document> {
    Ok(parse(&sources(files)?)?)
}
