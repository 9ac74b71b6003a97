//! `sgctl key`, `sgctl api`.

use std::io::Write;

use anyhow::Result;

use super::{
    Ended,
    args::{Arguments, Key, Output, Yes},
    client,
    confirm::{Going, confirm},
    output,
};
use crate::{
    api::{call::Call, keys::KeyView},
    daemon::protocol::{Action, KeyCommand, Reply},
};

fn table(keys: &[KeyView]) -> comfy_table::Table {
    let mut table = output::listing(&["key", "account", "access", "state", "created", "comment"]);
    for k in keys {
        // The day is enough here, and the whole fits a terminal; JSON has the second.
        let day = k.created.split('T').next().unwrap_or_default();
        table.add_row([&k.id, &k.account, &k.access, &k.state, day, &k.comment]);
    }
    table
}

/// Asks before a key goes for good. One that is not there is the daemon's to refuse.
fn confirm_delete(arguments: &Arguments, id: &str, yes: Yes) -> Result<()> {
    confirm(yes, || {
        let keys = match client::ask(&arguments.socket, &Action::Key { command: KeyCommand::List })? {
            Reply::Keys { keys } => keys,
            other => return client::unexpected(other),
        };
        let going = Going::new(format!("delete the key {id}"));
        let Some(key) = keys.iter().find(|k| k.id == id) else { return Ok(going.and("there is none of that id")) };
        let going = going.and(format!("account {}, {}, {}, made {}", key.account, key.access, key.state, key.created));
        let going = if key.comment.is_empty() { going } else { going.and(format!("comment: {}", key.comment)) };
        Ok(going.and("calls that it signs are refused from then on; `sgctl key disable` can be undone"))
    })
}

pub fn key(arguments: &Arguments, command: &Key) -> Result<Ended> {
    let disable = |id: &String, disabled| KeyCommand::Disable { id: id.clone(), disabled };
    let command = match command {
        Key::Create { read_only, account, comment } => {
            KeyCommand::Create { account: account.clone(), writes: !read_only, comment: comment.clone() }
        }
        Key::List => KeyCommand::List,
        Key::Disable { id } => disable(id, true),
        Key::Enable { id } => disable(id, false),
        Key::Delete { id, yes } => {
            confirm_delete(arguments, id, *yes)?;
            KeyCommand::Delete { id: id.clone() }
        }
    };
    match client::ask(&arguments.socket, &Action::Key { command })? {
        Reply::NewKey { id, secret } => {
            if arguments.output == Output::Table {
                let mut out = output::stdout();
                writeln!(out, "AccessKeyId      {id}\nAccessKeySecret  {secret}")?;
                writeln!(out, "The secret is not shown again.")?;
            } else {
                let value = serde_json::json!({"AccessKeyId": id, "AccessKeySecret": secret});
                output::print(arguments.output, &value, |_| output::table(&[]))?;
            }
            Ok(Ended::Done)
        }
        Reply::Keys { keys } => {
            output::print(arguments.output, &keys, |keys| table(keys))?;
            Ok(Ended::Done)
        }
        other => client::unexpected(other),
    }
}

pub fn call(arguments: &Arguments, action: &str, parameters: &[(String, String)]) -> Result<Ended> {
    let parameters = parameters.iter().cloned().collect();
    let call = Call { action: action.to_owned(), parameters, ..Call::default() };
    match client::ask(&arguments.socket, &Action::Call(Box::new(call)))? {
        Reply::Called { status: 200, body, .. } => {
            let form = if arguments.output == Output::Table { Output::Yaml } else { arguments.output };
            output::print(form, &body, |_| output::table(&[]))?;
            Ok(Ended::Done)
        }
        Reply::Called { body, .. } => {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            if arguments.output != Output::Table {
                output::print(arguments.output, &body, |_| output::table(&[]))?;
            }
            writeln!(output::stderr(), "{}: {}", text("Code"), text("Message"))?;
            Ok(Ended::Refused)
        }
        other => client::unexpected(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_keys_are_whole() {
        let text = |text: &str| text.to_owned();
        let key = KeyView {
            id: text("SG0123456789ABCDEFGHIJKL"),
            account: text("1234567890123456"),
            access: text("read and write"),
            state: text("disabled"),
            created: text("2026-01-02T03:04:05Z"),
            comment: text("of the machine that makes the backups at night"),
        };
        let shown = table(std::slice::from_ref(&key)).set_width(80).to_string();
        assert!(shown.lines().any(|line| line.starts_with("SG0123456789ABCDEFGHIJKL ")), "{shown}");
    }
}
