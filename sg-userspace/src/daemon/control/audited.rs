//! What is written down of each action, and before each change.

use std::{sync::Mutex, time::Instant};

use super::Control;
use crate::{
    api::{audit::Line, auth::now, draft::time, params::Params, refusals::Refusals},
    daemon::{
        metrics::Transport,
        protocol::{Action, KeyCommand, Reply, SnapshotCommand, Source},
    },
};

/// What a line says of an action.
struct Said {
    caller: String,
    account: Option<String>,
    name: String,
    parameters: Option<Params>,
    writes: bool,
}

impl Said {
    /// A line of a kind, without what only some lines have.
    fn line<'a>(&'a self, kind: &'static str, source: &'a str) -> Line<'a> {
        Line {
            time: time(now()),
            kind,
            caller: &self.caller,
            account: self.account.as_deref(),
            source,
            action: &self.name,
            parameters: None,
            result: None,
            generation: None,
        }
    }
}

fn said(action: &Action) -> Said {
    let admin = |name: &str, writes: bool, parameters: Vec<(String, String)>| Said {
        caller: "administrator".into(),
        account: None,
        name: name.into(),
        parameters: Some(parameters.into_iter().collect()),
        writes,
    };
    match action {
        Action::Call(call) => Said {
            caller: call.signed.as_ref().map_or_else(|| "administrator".into(), |(key, _)| key.clone()),
            account: call.account.clone(),
            name: call.action.clone(),
            parameters: Some(call.parameters.clone()),
            writes: call.writes(),
        },
        Action::Document { files, apply, .. } => {
            let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
            admin(if *apply { "apply" } else { "plan" }, *apply, vec![("files".into(), names.join(" "))])
        }
        Action::Key { command } => {
            let (what, id) = match command {
                KeyCommand::Create { comment, .. } => ("create", comment.clone()),
                KeyCommand::List => ("list", String::new()),
                KeyCommand::Disable { id, disabled } => (if *disabled { "disable" } else { "enable" }, id.clone()),
                KeyCommand::Delete { id } => ("delete", id.clone()),
            };
            admin(&format!("key {what}"), what != "list", vec![("key".into(), id)])
        }
        Action::Snapshot { command } => {
            let (what, parameter) = match command {
                SnapshotCommand::Create { comment } => ("create", comment.clone()),
                SnapshotCommand::List => ("list", String::new()),
                SnapshotCommand::Show { generation } => ("show", generation.to_string()),
                SnapshotCommand::Delete { generation } => ("delete", generation.to_string()),
                SnapshotCommand::Diff { from, .. } => ("diff", from.to_string()),
            };
            let writes = matches!(what, "create" | "delete");
            admin(&format!("snapshot {what}"), writes, vec![("snapshot".into(), parameter)])
        }
        Action::Backup => admin("backup", false, Vec::new()),
        Action::Restore { source, group, apply, .. } => {
            let from = match source {
                Source::Kept(None) => "the generation kept last".to_owned(),
                Source::Kept(Some(generation)) => format!("generation {generation}"),
                Source::Backup(_) => "a backup".to_owned(),
            };
            let group = group.iter().map(|g| ("group".to_owned(), g.clone()));
            let parameters = std::iter::once(("from".to_owned(), from)).chain(group).collect();
            admin(if *apply { "restore" } else { "plan restore" }, *apply, parameters)
        }
        Action::Confirm => admin("confirm", true, Vec::new()),
        Action::Status => admin("status", false, Vec::new()),
        Action::Interface { device } => admin("interface", false, vec![("device".into(), device.clone())]),
        Action::Export { document } => {
            admin("export", false, document.iter().map(|d| ("document".into(), d.clone())).collect())
        }
        Action::Wait { .. } => admin("wait", false, Vec::new()),
        Action::Lint => admin("lint", false, Vec::new()),
        Action::Explain { .. } => admin("explain", false, Vec::new()),
    }
}

fn result(reply: &Reply) -> String {
    match reply {
        Reply::Called { status: 200, .. } => "ok".into(),
        Reply::Called { body, .. } => body["Code"].as_str().unwrap_or("error").into(),
        Reply::Refused { .. } | Reply::Problems { .. } => "refused".into(),
        _ => "ok".into(),
    }
}

impl Control {
    /// Writes down what changes are about to be made, durably.
    pub(super) fn intend(&mut self, actions: &[Action], sources: &[String]) -> Result<(), String> {
        let said: Vec<Said> = actions.iter().map(said).collect();
        let lines: Vec<Line<'_>> = said
            .iter()
            .zip(sources)
            .filter(|(said, _)| said.writes)
            .map(|(said, source)| Line { parameters: said.parameters.as_ref(), ..said.line("intent", source) })
            .collect();
        self.audit.write_durably(&lines).map_err(|e| {
            self.metrics.audit_failed();
            format!(
                "the audit log cannot be written ({e}): nothing was changed, and nothing is until it can; make room in \
                 the daemon's state_dir"
            )
        })
    }

    /// Writes down how actions ended.
    pub(super) fn note(&mut self, actions: &[Action], sources: &[String], replies: &[Reply]) {
        let said: Vec<(Said, String)> = actions.iter().zip(replies).map(|(a, r)| (said(a), result(r))).collect();
        let lines: Vec<Line<'_>> = said
            .iter()
            .zip(sources)
            .map(|((said, result), source)| Line {
                // They stand in the line before a change.
                parameters: said.parameters.as_ref().filter(|_| !said.writes),
                result: Some(result),
                generation: Some(self.state.generation),
                ..said.line("call", source)
            })
            .collect();
        // What was done is done; the log has said that it fails, and refuses the next change.
        if self.audit.write(&lines).is_err() {
            self.metrics.audit_failed();
        }
    }

    /// Counts how changes ended, by the way they came.
    pub(super) fn count(&self, actions: &[Action], replies: &[Reply]) {
        for (action, reply) in actions.iter().zip(replies) {
            if said(action).writes {
                let signed = matches!(action, Action::Call(call) if call.signed.is_some());
                let transport = if signed { Transport::Api } else { Transport::Socket };
                self.metrics.change(transport, result(reply) == "ok");
            }
        }
    }

    /// Writes down what was refused before it came here; with `all`, nothing waits any longer.
    pub fn note_refusals(&mut self, refusals: &Mutex<Refusals>, all: bool) {
        let Ok(mut refusals) = refusals.lock() else { return };
        let lines = refusals.take(all, Instant::now());
        if self.audit.write(&lines).is_err() {
            self.metrics.audit_failed();
            refusals.unwritten(lines);
        }
    }
}
