//! Calls of the control API over the daemon's socket, as the administrator.

use anyhow::{Result, bail};
use serde_json::Value;

use super::{args::Arguments, client};
use crate::{
    api::{call::Call, params::Params},
    daemon::protocol::{Action, Reply},
};

/// A refusal of the daemon: code and message.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// For programs.
    pub code: String,
    message: String,
}

/// Flattens nested parameters as calls have them.
fn flatten(into: &mut Params, prefix: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            flatten(into, &name, value);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| flatten(into, &format!("{prefix}.{}", i + 1), item));
        }
        Value::String(text) => drop(into.0.insert(prefix.to_owned(), text.clone())),
        Value::Null => {}
        other => drop(into.0.insert(prefix.to_owned(), other.to_string())),
    }
}

/// Calls an action; with `dry`, only says whether it would be good. In the answer to a
/// change, `Generation` is that of the state after it.
///
/// # Errors
/// No daemon; or a [`Refusal`].
pub fn call(arguments: &Arguments, action: &str, parameters: &Value, dry: bool) -> Result<Value> {
    send(arguments, Call { action: action.to_owned(), parameters: flat(parameters), dry, ..Call::default() })
}

/// Makes something for an account; the default one when absent.
///
/// # Errors
/// Those of [`call`].
pub fn make(arguments: &Arguments, owner: Option<&str>, action: &str, parameters: &Value) -> Result<Value> {
    let owner = owner.map(str::to_owned);
    send(arguments, Call { action: action.to_owned(), parameters: flat(parameters), owner, ..Call::default() })
}

fn flat(parameters: &Value) -> Params {
    let mut flat = Params::default();
    flatten(&mut flat, "", parameters);
    flat
}

fn send(arguments: &Arguments, call: Call) -> Result<Value> {
    match client::ask(&arguments.socket, &Action::Call(Box::new(call)))? {
        Reply::Called { status: 200, mut body, generation } => {
            if let Some(generation) = generation {
                body["Generation"] = generation.into();
            }
            Ok(body)
        }
        Reply::Called { body, .. } => {
            let text = |name: &str| text(&body, name).trim().to_owned();
            Err(Refusal { code: text("Code"), message: text("Message") }.into())
        }
        other => client::unexpected(other),
    }
}

/// Elements of a list: of most answers they have a name of their own (`Tags.Tag`), of some they have none.
pub fn items(list: &Value) -> Vec<Value> {
    let inner = || list.as_object().and_then(|fields| fields.values().next()).and_then(Value::as_array);
    list.as_array().or_else(inner).cloned().unwrap_or_default()
}

/// All pages of a listing.
///
/// # Errors
/// Those of [`call`].
pub fn all(arguments: &Arguments, action: &str, mut ask: Value, list: &str) -> Result<(Vec<Value>, Value)> {
    let mut found = Vec::new();
    loop {
        let page = call(arguments, action, &ask, false)?;
        found.extend(items(&page[list]));
        match page["NextToken"].as_str().filter(|t| !t.is_empty()) {
            Some(token) => ask["NextToken"] = token.into(),
            None => return Ok((found, page)),
        }
    }
}

/// The one object of those that bear a name.
///
/// # Errors
/// There is none, or there are several; with what to do.
pub fn one(mut found: Vec<Value>, text: &str, what: &str, command: &str, id: &str) -> Result<Value> {
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().map(|f| self::text(f, id)).collect();
        bail!("the name {text:?} is borne by {}; refer to the {what} by its id", ids.join(" and "));
    }
    match found.pop() {
        Some(one) => Ok(one),
        None => bail!("there is no {what} {text:?}; `sgctl {command} list` shows those that there are"),
    }
}

/// A field of an answer; empty when it is absent.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_flat() {
        let mut flat = Params::default();
        flatten(&mut flat, "", &json!({"A": "x", "B": ["y", {"C": 7}], "D": null, "E": {"F": true}}));
        let flat: Vec<(&str, &str)> = flat.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(flat, [("A", "x"), ("B.1", "y"), ("B.2.C", "7"), ("E.F", "true")]);
    }

    #[test]
    fn lists_have_two_shapes() {
        assert_eq!(items(&json!({"Tag": [1, 2]})), items(&json!([1, 2])));
        assert!(items(&Value::Null).is_empty() && items(&json!({})).is_empty());
    }

    #[test]
    fn a_name_that_none_or_two_bear_is_no_reference() {
        let said = |found| one(found, "x", "prefix list", "prefix-list", "Id").unwrap_err().to_string();
        assert_eq!(said(vec![]), "there is no prefix list \"x\"; `sgctl prefix-list list` shows those that there are");
        let two = vec![json!({"Id": "pl-1"}), json!({"Id": "pl-2"})];
        assert_eq!(said(two), "the name \"x\" is borne by pl-1 and pl-2; refer to the prefix list by its id");
    }
}
