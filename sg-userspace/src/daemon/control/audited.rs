//! What is written down of each action, and before each change.

use super::Control;
use crate::{
    api::{audit::Line, auth::now, draft::time, params::Params},
    daemon::{
        log,
        protocol::{Action, KeyCommand, Reply},
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
        Action::Status => admin("status", false, Vec::new()),
        Action::Interface { device } => admin("interface", false, vec![("device".into(), device.clone())]),
        Action::Export { document } => {
            admin("export", false, document.iter().map(|d| ("document".into(), d.clone())).collect())
        }
        Action::Wait { .. } => admin("wait", false, Vec::new()),
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
    /// Writes down what changes are about to be made.
    pub(super) fn intend(&mut self, actions: &[Action], sources: &[String]) -> Result<(), String> {
        for (action, source) in actions.iter().zip(sources) {
            let said = said(action);
            if !said.writes {
                continue;
            }
            let line = Line { parameters: said.parameters.as_ref(), ..said.line("intent", source) };
            self.audit
                .write(&line)
                .map_err(|e| format!("the audit log cannot be written ({e}); nothing was changed"))?;
        }
        Ok(())
    }

    /// Writes down how actions ended.
    pub(super) fn note(&mut self, actions: &[Action], sources: &[String], replies: &[Reply]) {
        for ((action, source), reply) in actions.iter().zip(sources).zip(replies) {
            let said = said(action);
            let result = result(reply);
            let line = Line {
                // They stand in the line before a change.
                parameters: said.parameters.as_ref().filter(|_| !said.writes),
                result: Some(&result),
                generation: Some(self.state.generation),
                ..said.line("call", source)
            };
            if let Err(e) = self.audit.write(&line) {
                log::error!("the audit log cannot be written: {e}; changes are refused until it can");
                return;
            }
        }
    }
}
