//! Access keys, as the administrator asks for them.

use super::Control;
use crate::{
    api::{auth::now, call::is_account, keys::KeyError},
    daemon::protocol::{KeyCommand, Reply},
};

impl Control {
    pub(super) fn key(&self, command: &KeyCommand) -> Reply {
        let Ok(mut keys) = self.keys.lock() else { return Reply::Refused { message: "the keys are lost".into() } };
        let unknown =
            |id: &str| Reply::Refused { message: format!("there is no key {id}; `sgctl key list` shows them") };
        let failed = |e: KeyError| Reply::Refused { message: e.to_string() };
        let done = match command {
            KeyCommand::Create { account, writes, comment } => {
                let account = account.as_deref().unwrap_or(&self.here.account);
                if !is_account(account) {
                    return Reply::Refused {
                        message: format!("an account is 16 digits, such as {}", self.here.account),
                    };
                }
                return match keys.create(account, *writes, comment, now()) {
                    Ok(key) => Reply::NewKey { id: key.id, secret: key.secret },
                    Err(e) => failed(e.into()),
                };
            }
            KeyCommand::List => Ok(true),
            KeyCommand::Disable { id, disabled } => keys.disable(id, *disabled),
            KeyCommand::Delete { id } => keys.delete(id),
        };
        match (done, command) {
            (Err(e), _) => failed(e),
            (Ok(false), KeyCommand::Disable { id, .. } | KeyCommand::Delete { id }) => unknown(id),
            _ => Reply::Keys { keys: keys.list() },
        }
    }
}
