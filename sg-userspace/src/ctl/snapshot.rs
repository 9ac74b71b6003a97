//! `sgctl snapshot`, `rollback`, `diff`, `backup` and `restore`: what was in force.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::{
    Ended,
    apply::{self, Confirm, Consent},
    args::{Arguments, Output, confirm, on_change},
    client, complete, output, read_all, session,
};
use crate::{
    api::draft::time,
    daemon::{
        documents::Step,
        history::Head,
        protocol::{Action, Reply, SnapshotCommand, Source},
    },
    dataplane::engine::OnChange,
};

/// `sgctl snapshot …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generations that are kept: before each apply, before a change of what was in force for
    /// five minutes, and those that were asked for
    List,
    /// Keeps the generation in force until it is deleted
    Create {
        /// What to call it
        #[arg(default_value = "")]
        comment: String,
    },
    /// Shows a kept generation as YAML
    Show {
        /// Its number
        generation: u64,
    },
    /// Puts a kept generation back
    Restore {
        /// Its number
        generation: u64,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Lets a kept generation go
    Delete {
        /// Its number
        generation: u64,
    },
}

/// How something is put back.
#[derive(Debug, Args)]
pub struct How {
    /// Only the rules of this group
    #[arg(long, value_name = "GROUP", add = complete::groups())]
    pub group: Option<String>,
    /// Only those of its rules that it lacks now; none is taken away
    #[arg(long, requires = "group")]
    pub additive: bool,
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    /// Do not ask, not even when objects are deleted or your own SSH connection is dropped
    #[arg(long)]
    pub yes: bool,
    /// Take it back after this time unless `sgctl confirm` keeps it: 60s, 5m, or off. By
    /// default 60s if your own SSH connection would be dropped
    #[arg(long, value_name = "TIME", value_parser = confirm)]
    pub confirm: Option<Confirm>,
    /// What becomes of live flows that the rules then deny: cut, keep, drain:SECONDS
    #[arg(long, value_name = "HOW", default_value = "cut", value_parser = on_change)]
    pub on_change: OnChange,
}

/// `sgctl rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which generation; the last one that is kept when absent
    pub generation: Option<u64>,
    /// How it is put back.
    #[command(flatten)]
    pub how: How,
}

/// `sgctl diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A kept generation
    pub from: u64,
    /// Another one; the one in force when absent
    pub to: Option<u64>,
}

/// `sgctl restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// A file that `sgctl backup` wrote; - is standard input
    pub file: String,
    /// How it is put back.
    #[command(flatten)]
    pub how: How,
}

fn table_of(kept: &[Head]) -> comfy_table::Table {
    let mut table = output::table(&["generation", "kept", "groups", "rules", "interfaces", "why"]);
    for head in kept {
        let why = match (head.named, head.comment.as_str()) {
            (true, "") => "snapshot".to_owned(),
            (true, comment) => format!("snapshot: {comment}"),
            (false, comment) => comment.to_owned(),
        };
        let numbers = [head.groups, head.rules, head.interfaces].map(|n| n.to_string());
        let [groups, rules, interfaces] = numbers;
        table.add_row([head.generation.to_string(), time(head.at), groups, rules, interfaces, why]);
    }
    table
}

fn steps_of(steps: &[Step]) -> comfy_table::Table {
    let mut table = output::table(&["step", "object", "name", "what"]);
    for s in steps {
        table.add_row([&s.step, &s.kind, &s.name, &s.detail]);
    }
    table
}

fn ask(arguments: &Arguments, command: SnapshotCommand) -> Result<Vec<Head>> {
    match client::ask(&arguments.socket, &Action::Snapshot { command })? {
        Reply::Snapshots { kept } => Ok(kept),
        other => client::unexpected(other),
    }
}

/// Runs a command about kept generations.
pub fn snapshot(arguments: &Arguments, command: &Command) -> Result<Ended> {
    match command {
        Command::List => {
            let kept = ask(arguments, SnapshotCommand::List)?;
            if kept.is_empty() && arguments.output == Output::Table {
                println!("no generation is kept yet; `sgctl snapshot create` keeps the one in force");
            } else {
                output::print(arguments.output, &kept, |kept| table_of(kept))?;
            }
        }
        Command::Create { comment } => {
            let kept = ask(arguments, SnapshotCommand::Create { comment: comment.clone() })?;
            let made = kept.iter().filter(|h| h.named).max_by_key(|h| (h.at, h.generation));
            let generation = made.context("it was not kept")?.generation;
            println!("generation {generation} is kept; `sgctl snapshot restore {generation}` puts it back");
        }
        Command::Show { generation } => {
            let command = SnapshotCommand::Show { generation: *generation };
            match client::ask(&arguments.socket, &Action::Snapshot { command })? {
                Reply::Exported { text } => print!("{text}"),
                other => return client::unexpected(other),
            }
        }
        Command::Restore { generation, how } => {
            return put_back(arguments, Source::Kept(Some(*generation)), how, false);
        }
        Command::Delete { generation } => {
            ask(arguments, SnapshotCommand::Delete { generation: *generation })?;
            println!("generation {generation} is no longer kept");
        }
    }
    Ok(Ended::Done)
}

fn put_back(arguments: &Arguments, source: Source, how: &How, from_stdin: bool) -> Result<Ended> {
    let action = |apply: bool, if_generation: Option<u64>, confirm| Action::Restore {
        source: source.clone(),
        group: how.group.clone(),
        additive: how.additive,
        apply,
        if_generation,
        on_change: how.on_change,
        session: session::own(),
        confirm,
    };
    if how.plan {
        return apply::preview(arguments, &action(false, None, None));
    }
    apply::carry_out(arguments, &Consent { yes: how.yes, from_stdin, confirm: how.confirm }, None, action)
}

/// Puts back what was before.
pub fn rollback(arguments: &Arguments, rollback: &Rollback) -> Result<Ended> {
    put_back(arguments, Source::Kept(rollback.generation), &rollback.how, false)
}

/// What is different between two generations.
pub fn diff(arguments: &Arguments, diff: &Diff) -> Result<Ended> {
    let command = SnapshotCommand::Diff { from: diff.from, to: diff.to };
    match client::ask(&arguments.socket, &Action::Snapshot { command })? {
        Reply::Different { steps } if steps.is_empty() && arguments.output == Output::Table => {
            println!("nothing is different");
        }
        Reply::Different { steps } => output::print(arguments.output, &steps, |steps| steps_of(steps))?,
        other => return client::unexpected(other),
    }
    Ok(Ended::Done)
}

/// Writes a backup to a file that only its owner reads.
pub fn backup(arguments: &Arguments, file: &str) -> Result<Ended> {
    let text = match client::ask(&arguments.socket, &Action::Backup)? {
        Reply::Exported { text } => text,
        other => return client::unexpected(other),
    };
    if file == "-" {
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(Ended::Done);
    }
    let cannot = || format!("cannot write {file}");
    let new = format!("{file}.new");
    let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut out = options.open(&new).with_context(cannot)?;
    out.set_permissions(fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).with_context(cannot)?;
    fs::rename(&new, file).with_context(cannot)?;
    println!("{file}: {} bytes; keys are not in it (`sgctl key` makes new ones)", text.len());
    Ok(Ended::Done)
}

/// Puts a backup back.
pub fn restore(arguments: &Arguments, restore: &Restore) -> Result<Ended> {
    let bytes = read_all(&restore.file)?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{} is no backup; `sgctl backup FILE` makes one", restore.file)
    };
    put_back(arguments, Source::Backup(text), &restore.how, restore.file == "-")
}
