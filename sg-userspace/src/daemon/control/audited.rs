//! What is written down of each action, and before each change.

use std::{sync::Mutex, time::Instant};

use super::Control;
use crate::{
    api::{audit::Line, auth::now, draft::time, envelope, keys, params::Params, refusals::Refusals},
    daemon::{
        flows,
        metrics::Transport,
        protocol::{Action, KeyCommand, Reply, ShadowCommand, SnapshotCommand, Source, Want},
    },
    dataplane::engine::OnChange,
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
    fn line<'a>(&'a self, kind: &'static str, call: &'a str, source: &'a str) -> Line<'a> {
        Line {
            time: time(now()),
            kind,
            call,
            caller: &self.caller,
            account: self.account.as_deref(),
            source,
            action: &self.name,
            parameters: None,
            result: None,
            made: None,
            generation: None,
        }
    }
}

/// That connections are reset before they are cut.
const RESET: (&str, &str) = ("reset", "true");

fn resets(mode: OnChange) -> Option<(&'static str, &'static str)> {
    (mode == OnChange::Reset).then_some(RESET)
}

/// What a line says of an action; `own` is the default account.
fn said(action: &Action, own: &str) -> Said {
    let admin = |name: &str, writes: bool, parameters: &[(&str, &str)]| Said {
        caller: "administrator".into(),
        account: None,
        name: name.into(),
        parameters: Some(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
        writes,
    };
    match action {
        Action::Call(call) => Said {
            caller: call.signed.as_ref().map_or_else(|| "administrator".into(), |(key, _)| key.clone()),
            account: call.account.clone().or_else(|| call.owner.clone()),
            name: call.action.clone(),
            parameters: Some(call.parameters.clone()),
            writes: call.writes(),
        },
        Action::Document { files, apply, confirm, on_change, .. } => {
            let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
            let (names, seconds) = (names.join(" "), confirm.map(|s| s.to_string()));
            let mut parameters = vec![("files", names.as_str())];
            parameters.extend(seconds.iter().map(|s| ("confirm", s.as_str())));
            parameters.extend(resets(*on_change));
            admin(if *apply { "apply" } else { "plan" }, *apply, &parameters)
        }
        Action::Key { command } => match command {
            KeyCommand::Create { account, writes, comment } => {
                let (account, access) = (account.as_deref().unwrap_or(own), keys::access(*writes));
                admin("key create", true, &[("account", account), ("access", access), ("comment", comment)])
            }
            KeyCommand::List => admin("key list", false, &[]),
            KeyCommand::Disable { id, disabled: true } => admin("key disable", true, &[("key", id)]),
            KeyCommand::Disable { id, .. } => admin("key enable", true, &[("key", id)]),
            KeyCommand::Delete { id } => admin("key delete", true, &[("key", id)]),
        },
        Action::Snapshot { command } => match command {
            SnapshotCommand::Create { comment } => admin("snapshot create", true, &[("comment", comment)]),
            SnapshotCommand::List => admin("snapshot list", false, &[]),
            SnapshotCommand::Show { generation } => {
                admin("snapshot show", false, &[("generation", &generation.to_string())])
            }
            SnapshotCommand::Delete { generation } => {
                admin("snapshot delete", true, &[("generation", &generation.to_string())])
            }
            SnapshotCommand::Diff { from, to } => {
                let to = to.map_or_else(|| "the one in force".into(), |to| to.to_string());
                admin("diff", false, &[("from", &from.to_string()), ("to", &to)])
            }
        },
        Action::Backup => admin("backup", false, &[]),
        Action::Restore { source, group, additive, apply, confirm, on_change, .. } => {
            let from = match source {
                Source::Kept(None) => "the generation kept last".to_owned(),
                Source::Kept(Some(generation)) => format!("generation {generation}"),
                Source::Trial(generation) => format!("generation {generation}, which is on trial"),
                Source::Backup(_) => "a backup".to_owned(),
            };
            let mut parameters = vec![("from", from.as_str())];
            parameters.extend(group.iter().map(|g| ("group", g.as_str())));
            parameters.extend(additive.then_some(("additive", "true")));
            let seconds = confirm.map(|s| s.to_string());
            parameters.extend(seconds.iter().map(|s| ("confirm", s.as_str())));
            parameters.extend(resets(*on_change));
            admin(if *apply { "restore" } else { "plan restore" }, *apply, &parameters)
        }
        Action::Confirm => admin("confirm", true, &[]),
        Action::Status => admin("status", false, &[]),
        Action::Interface { device } => admin("interface", false, &[("device", device)]),
        Action::Export { document } => {
            let document: Vec<(&str, &str)> = document.iter().map(|d| ("document", d.as_str())).collect();
            admin("export", false, &document)
        }
        Action::Wait { devices, seconds } => {
            admin("wait", false, &[("devices", &devices.join(" ")), ("seconds", &seconds.to_string())])
        }
        Action::Flows(asked) => {
            let (name, writes) = match asked.want {
                Want::List => ("flows", false),
                Want::Top => ("flows top", false),
                Want::Cut { .. } => ("flows cut", true),
            };
            let words = flows::words(&asked.filter);
            let mut words: Vec<(&str, &str)> = words.iter().map(|(name, value)| (*name, value.as_str())).collect();
            words.extend(matches!(asked.want, Want::Cut { reset: true, .. }).then_some(RESET));
            admin(name, writes, &words)
        }
        Action::Stats { .. } => admin("stats", false, &[]),
        Action::Diagnose { device, .. } => admin("diagnose", false, &[("device", device)]),
        Action::Watch(_) => admin("watch", false, &[]),
        Action::Shadow { command } => match command {
            ShadowCommand::Start { files, .. } => {
                let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
                admin("shadow start", true, &[("files", &names.join(" "))])
            }
            ShadowCommand::Report { .. } => admin("shadow report", false, &[]),
            ShadowCommand::Candidate => admin("shadow candidate", false, &[]),
            ShadowCommand::Stop => admin("shadow stop", true, &[]),
        },
        Action::Policies(_) => admin("replay", false, &[]),
        Action::Lint => admin("lint", false, &[]),
        Action::Explain { .. } => admin("explain", false, &[]),
    }
}

fn result(reply: &Reply) -> String {
    match reply {
        Reply::Called { status: 200, .. } => "ok".into(),
        Reply::Called { body, .. } => body["Code"].as_str().unwrap_or("error").into(),
        Reply::Refused { .. } | Reply::Problems { .. } => "refused".into(),
        Reply::Waited { missing } if !missing.is_empty() => "not protected".into(),
        _ => "ok".into(),
    }
}

impl Control {
    /// Writes down what changes are about to be made, durably.
    pub(super) fn intend(&mut self, actions: &[Action], sources: &[String], ids: &[String]) -> Result<(), String> {
        let said: Vec<Said> = actions.iter().map(|a| said(a, &self.here.account)).collect();
        let lines: Vec<Line<'_>> = said
            .iter()
            .zip(sources.iter().zip(ids))
            .filter(|(said, _)| said.writes)
            .map(|(said, (source, id))| Line {
                parameters: said.parameters.as_ref(),
                ..said.line("intent", id, source)
            })
            .collect();
        self.audit.write_durably(&lines).map_err(|e| {
            self.metrics.audit_failed();
            format!(
                "the audit log cannot be written ({e}): nothing was changed, and nothing is until it can; make room in \
                 the daemon's state_dir"
            )
        })
    }

    /// Writes down how actions ended; of changes, under the ids that they were intended by.
    pub(super) fn note(&mut self, actions: &[Action], sources: &[String], ids: &[String], replies: &[Reply]) {
        let own = &self.here.account;
        let said: Vec<(Said, String)> = actions.iter().zip(replies).map(|(a, r)| (said(a, own), result(r))).collect();
        let lines: Vec<Line<'_>> = said
            .iter()
            .zip(sources.iter().zip(ids))
            .zip(replies)
            .map(|(((said, result), (source, id)), reply)| Line {
                // They stand in the line before a change.
                parameters: said.parameters.as_ref().filter(|_| !said.writes),
                result: Some(result),
                made: if let Reply::NewKey { id, .. } = reply { Some(id) } else { None },
                generation: Some(self.state.generation),
                ..said.line("call", id, source)
            })
            .collect();
        // What was done is done; the log has said that it fails, and refuses the next change.
        if self.audit.write(&lines).is_err() {
            self.metrics.audit_failed();
        }
    }

    /// Writes down how one action ended that was answered apart from others, and changes nothing.
    pub fn note_alone(&mut self, action: &Action, source: &str, reply: &Reply) {
        let id = envelope::request_id();
        self.note(std::slice::from_ref(action), &[source.to_owned()], &[id], std::slice::from_ref(reply));
    }

    /// Counts how changes ended, by the way they came.
    pub(super) fn count(&self, actions: &[Action], replies: &[Reply]) {
        for (action, reply) in actions.iter().zip(replies) {
            if said(action, &self.here.account).writes {
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
