//! `sgctl snapshot`, `rollback`, `diff`, `backup` and `restore`: what was in force.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Ended,
    apply::{self, Confirm, Consent},
    args::{
        Arguments, Output, Yes,
        kept::{Diff, How, Restore, Rollback, Snapshot},
    },
    client,
    confirm::{Going, confirm},
    count, output, read_all, session,
};
use crate::{
    api::draft::time,
    daemon::{
        documents::Step,
        history::Head,
        protocol::{Action, Made, Reply, SnapshotCommand, Source, Upload},
    },
};

fn table_of(kept: &[Head]) -> comfy_table::Table {
    let mut table = output::table(&["generation", "kept", "groups", "rules", "interfaces", "why"]);
    for head in kept {
        let numbers = [head.groups, head.rules, head.interfaces].map(|n| n.to_string());
        let [groups, rules, interfaces] = numbers;
        table.add_row([head.generation.to_string(), time(head.at), groups, rules, interfaces, why(head)]);
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

fn ask(arguments: &Arguments, command: SnapshotCommand) -> Result<(Vec<Head>, Option<Made>)> {
    match client::ask(&arguments.socket, &Action::Snapshot { command })? {
        Reply::Snapshots { kept, made } => Ok((kept, made)),
        other => client::unexpected(other),
    }
}

/// Generations that are kept.
pub fn kept(arguments: &Arguments) -> Result<Vec<Head>> {
    Ok(ask(arguments, SnapshotCommand::List)?.0)
}

fn why(head: &Head) -> String {
    match (head.named, head.comment.as_str()) {
        (true, "") => "snapshot".to_owned(),
        (true, comment) => format!("snapshot: {comment}"),
        (false, comment) => comment.to_owned(),
    }
}

/// What is kept of a generation, in a line.
fn line_of(head: &Head) -> String {
    let (groups, rules) = (count(head.groups, "group"), count(head.rules, "rule"));
    format!("kept {}, {}; {groups}, {rules}, {}", time(head.at), why(head), count(head.interfaces, "interface"))
}

/// Keeps the generation in force.
fn create(arguments: &Arguments, comment: &str) -> Result<Ended> {
    let (kept, made) = ask(arguments, SnapshotCommand::Create { comment: comment.to_owned() })?;
    // An older daemon does not say which; it is the newest of those that were asked for.
    let newest = || kept.iter().filter(|h| h.named).max_by_key(|h| (h.at, h.generation)).map(|h| h.generation);
    let already = made.is_some_and(|m| m.already);
    let generation = made.map(|m| m.generation).or_else(newest).context("it was not kept")?;
    let called = kept.iter().find(|h| h.generation == generation).map_or("", |h| h.comment.as_str());
    let line = match (already, called == comment) {
        (false, _) => format!("generation {generation} is kept; `sgctl snapshot restore {generation}` puts it back"),
        (true, true) => format!("generation {generation} is kept already; nothing was changed"),
        (true, false) => format!(
            "generation {generation} is kept already, as {called:?}, and keeps that comment; nothing was changed \
             (`sgctl snapshot delete {generation}` lets it go)"
        ),
    };
    let value = json!({"generation": generation, "comment": called, "created": !already});
    output::made(arguments.output, &value, &line)
}

fn show(arguments: &Arguments, generation: u64) -> Result<Ended> {
    let command = SnapshotCommand::Show { generation };
    let text = match client::ask(&arguments.socket, &Action::Snapshot { command })? {
        Reply::Exported { text } => text,
        other => return client::unexpected(other),
    };
    // A generation is several documents.
    output::text(arguments.output, &text, || {
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        Ok(documents.map(Value::deserialize).collect::<Result<Vec<_>, _>>()?.into())
    })
}

fn delete(arguments: &Arguments, generation: u64, yes: Yes) -> Result<Ended> {
    confirm(yes, || {
        let going = Going::new(format!("let the kept generation {generation} go"));
        let head = kept(arguments)?.into_iter().find(|h| h.generation == generation);
        // What is not kept is the daemon's to refuse.
        Ok(match head {
            Some(head) => going.and(line_of(&head)).and("it cannot be put back then"),
            None => going.and("it is not kept"),
        })
    })?;
    ask(arguments, SnapshotCommand::Delete { generation })?;
    let value = json!({"generation": generation, "deleted": true});
    output::made(arguments.output, &value, &format!("generation {generation} is no longer kept"))
}

/// Runs a command about kept generations.
pub fn snapshot(arguments: &Arguments, command: &Snapshot) -> Result<Ended> {
    match command {
        Snapshot::List => {
            let kept = kept(arguments)?;
            if kept.is_empty() && arguments.output == Output::Table {
                writeln!(
                    output::stdout(),
                    "no generation is kept yet; `sgctl snapshot create` keeps the one in force"
                )?;
            } else {
                output::print(arguments.output, &kept, |kept| table_of(kept))?;
            }
            Ok(Ended::Done)
        }
        Snapshot::Create { comment } => create(arguments, comment),
        Snapshot::Show { generation } => show(arguments, *generation),
        Snapshot::Restore { generation, how } => put_back(arguments, Source::Kept(Some(*generation)), how),
        Snapshot::Delete { generation, yes } => delete(arguments, *generation, *yes),
    }
}

/// What putting something back does away with, nothing where it only adds; and the
/// generation of which that holds.
fn replaced(arguments: &Arguments, plan: &Action, how: &How) -> Result<(Option<Going>, u64)> {
    let planned = match client::ask(&arguments.socket, plan)? {
        Reply::Planned(planned) => planned,
        other => return client::unexpected(other),
    };
    if let (Some(reason), Some(Confirm::Off)) = (planned.session, how.manner.confirm) {
        bail!(
            "refused: this would drop your own SSH connection ({reason}); add a rule for it, or add --yes to do it; \
             nothing was changed"
        );
    }
    let gone: Vec<&Step> = planned.steps.iter().filter(|s| s.step != "create").collect();
    if how.additive || gone.is_empty() {
        return Ok((None, planned.generation));
    }
    let deleted = gone.iter().filter(|s| s.step == "delete").count();
    let going = Going::new(format!(
        "replace what is in force: delete {}, change {}",
        count(deleted, "object"),
        count(gone.len() - deleted, "object")
    ));
    let going = going.each(gone.iter().map(|s| format!("{} {} {} {}", s.step, s.kind, s.name, s.detail)));
    let going = match planned.cut_count {
        0 => going,
        n => going.and(format!("cut {} that the rules then deny", count(n, "live flow"))),
    };
    let going = going.and(format!("generation {} is kept, and can be put back", planned.generation));
    Ok((Some(going), planned.generation))
}

fn put_back(arguments: &Arguments, source: Source, how: &How) -> Result<Ended> {
    let on_change = how.manner.on_change()?;
    let action = |apply: bool, if_generation: Option<u64>, confirm| Action::Restore {
        source: source.clone(),
        group: how.group.clone(),
        additive: how.additive,
        apply,
        if_generation,
        on_change,
        session: session::own(),
        confirm,
    };
    if how.plan {
        return apply::preview(arguments, &action(false, None, None));
    }
    let mut agreed_on = None;
    if !how.yes {
        let (going, generation) = replaced(arguments, &action(false, None, None), how)?;
        going.map_or(Ok(()), |going| confirm(Yes::default(), || Ok(going)))?;
        agreed_on = Some(generation);
    }
    // What was asked about is what is done, or nothing.
    apply::carry_out(
        arguments,
        &Consent { yes: true, confirm: how.manner.confirm, reset: how.manner.reset, ..Consent::default() },
        agreed_on,
        action,
    )
}

/// Puts back what was before.
pub fn rollback(arguments: &Arguments, rollback: &Rollback) -> Result<Ended> {
    // What is on trial is named, so that nothing else is put back if it is over meanwhile.
    let trial = match client::ask(&arguments.socket, &Action::Status)? {
        Reply::Status(status) => status.trial,
        other => return client::unexpected(other),
    };
    let source = match (rollback.generation, &rollback.how.group, trial) {
        (None, None, Some(trial)) => Source::Trial(trial.generation),
        (generation, ..) => Source::Kept(generation),
    };
    put_back(arguments, source, &rollback.how)
}

/// What is different between two generations.
pub fn diff(arguments: &Arguments, diff: &Diff) -> Result<Ended> {
    let command = SnapshotCommand::Diff { from: diff.from, to: diff.to };
    match client::ask(&arguments.socket, &Action::Snapshot { command })? {
        Reply::Different { steps } if steps.is_empty() && arguments.output == Output::Table => {
            writeln!(output::stdout(), "nothing is different")?;
        }
        Reply::Different { steps } => output::print(arguments.output, &steps, |steps| steps_of(steps))?,
        other => return client::unexpected(other),
    }
    Ok(Ended::Done)
}

/// Writes a backup to a file that only its owner reads.
pub fn backup(arguments: &Arguments, file: &str) -> Result<Ended> {
    if file == "-" {
        let mut text = Vec::new();
        client::download(&arguments.socket, &mut text)?;
        let text = String::from_utf8(text).context("the backup is no text")?;
        return output::text(arguments.output, &text, || Ok(json!({"backup": text})));
    }
    let cannot = || format!("cannot write {file}");
    let new = format!("{file}.new");
    let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut out = options.open(&new).with_context(cannot)?;
    out.set_permissions(fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    let written = client::download(&arguments.socket, &mut out);
    let bytes = written.and_then(|bytes| out.sync_all().map(|()| bytes).with_context(cannot)).inspect_err(|_| {
        // Half a backup is none; the one that stands there stays.
        let _ = fs::remove_file(&new);
    })?;
    fs::rename(&new, file).with_context(cannot)?;
    let line = format!("{file}: {bytes} bytes; keys are not in it (`sgctl key` makes new ones)");
    output::made(arguments.output, &json!({"file": file, "bytes": bytes}), &line)
}

/// Puts a backup back.
pub fn restore(arguments: &Arguments, restore: &Restore) -> Result<Ended> {
    put_back(arguments, Source::Backup(Upload::of(read_all(&restore.file)?)), &restore.how)
}
