//! A state as records of a database: a path each, and JSON.

use std::{collections::HashMap, io, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use redb::Table;
use serde::{Serialize, de::DeserializeOwned};

use super::State;
use crate::document::{Document, List};

/// The table of them.
pub type Objects<'txn> = Table<'txn, &'static str, &'static [u8]>;

fn json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|e| format!("{key}: {e}"))
}

/// Puts a record of a document where it belongs.
pub fn place_document(documents: &mut Vec<Document>, key: &str, value: &[u8]) -> Result<(), String> {
    let unknown = || format!("{key}: unknown kind of record");
    let Some((_, rest)) = key.strip_prefix("document/").ok_or_else(unknown)?.split_once('/') else {
        documents.push(Document { document: json(key, value)?, ..Document::default() });
        return Ok(());
    };
    // Records come in the order of their keys, so the document is the last one.
    let document = documents.last_mut().ok_or_else(unknown)?;
    match rest.split_once('/').map(|(kind, _)| kind) {
        Some("group") => document.security_groups.push(json(key, value)?),
        Some("prefix_list") => document.prefix_lists.push(json(key, value)?),
        Some("port_list") => document.port_range_lists.push(json(key, value)?),
        Some("interface") => document.network_interfaces.push(json(key, value)?),
        Some("instance") => document.instances.push(json(key, value)?),
        _ => return Err(unknown()),
    }
    Ok(())
}

/// Puts a record where it belongs.
pub fn place(state: &mut State, key: &str, value: &[u8]) -> Result<(), String> {
    let unknown = || format!("{key}: unknown kind of record");
    let (kind, rest) = key.split_once('/').ok_or_else(unknown)?;
    match kind {
        "document" => place_document(&mut state.documents, key, value)?,
        "counter" => drop(Arc::make_mut(&mut state.counters).insert(rest.into(), json(key, value)?)),
        "fact" => drop(state.facts.objects.insert(rest.into(), json(key, value)?)),
        "rule" => {
            let (group, rule) = rest.split_once('/').ok_or_else(unknown)?;
            state.facts.rules.entry(unescaped(group)).or_default().insert(rule.into(), json(key, value)?);
        }
        "token" => drop(state.replay.tokens.insert(rest.into(), json(key, value)?)),
        "nonce" => {
            let (who, nonce) = rest.split_once('/').ok_or_else(unknown)?;
            state.replay.nonces.entry(unescaped(who)).or_default().insert(nonce.into(), json(key, value)?);
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

fn put(table: &mut Objects<'_>, key: &str, value: Option<&impl Serialize>) -> Result<(), redb::Error> {
    match value {
        Some(value) => {
            let bytes = serde_json::to_vec(value).map_err(|e| redb::Error::Io(io::Error::other(e)))?;
            table.insert(key, bytes.as_slice())?;
        }
        None => drop(table.remove(key)?),
    }
    Ok(())
}

fn list<T: Serialize + Eq>(
    table: &mut Objects<'_>,
    path: &str,
    old: &List<T>,
    new: &List<T>,
) -> Result<(), redb::Error> {
    let (before, after) = (old.shared(), new.shared());
    for i in (0..before.len().max(after.len())).filter(|&i| before.get(i) != after.get(i)) {
        put(table, &format!("{path}/{i:06}"), new.get(i))?;
    }
    Ok(())
}

fn map<T: Serialize + Clone + PartialEq>(
    table: &mut Objects<'_>,
    path: &str,
    old: &OrdMap<String, T>,
    new: &OrdMap<String, T>,
) -> Result<(), redb::Error> {
    for change in old.diff(new) {
        match change {
            DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => {
                put(table, &format!("{path}/{key}"), Some(value))?;
            }
            DiffItem::Remove(key, _) => put(table, &format!("{path}/{key}"), None::<&T>)?,
        }
    }
    Ok(())
}

fn maps<T: Serialize + Clone + PartialEq>(
    table: &mut Objects<'_>,
    path: &str,
    old: &OrdMap<String, OrdMap<String, T>>,
    new: &OrdMap<String, OrdMap<String, T>>,
) -> Result<(), redb::Error> {
    let none = OrdMap::new();
    for change in old.diff(new) {
        let (key, old, new) = match change {
            DiffItem::Add(key, value) => (key, &none, value),
            DiffItem::Update { old: (key, old), new: (_, new) } => (key, old, new),
            DiffItem::Remove(key, value) => (key, value, &none),
        };
        map(table, &format!("{path}/{}", escaped(key)), old, new)?;
    }
    Ok(())
}

/// A part of a path: what stands between slashes has none.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn unescaped(part: &str) -> String {
    part.replace("%2F", "/").replace("%25", "%")
}

fn sorted(map: &HashMap<String, u32>) -> OrdMap<String, u32> {
    map.iter().map(|(k, v)| (k.clone(), *v)).collect()
}

/// Writes what is different between documents.
///
/// # Errors
/// What the database says.
pub fn documents(table: &mut Objects<'_>, old: &[Document], new: &[Document]) -> Result<(), redb::Error> {
    let none = Document::default();
    for d in 0..old.len().max(new.len()) {
        let path = format!("document/{d:04}");
        let (was, is) = (old.get(d), new.get(d));
        if was.map(|w| &w.document) != is.map(|i| &i.document) {
            put(table, &path, is.map(|i| &i.document))?;
        }
        let (was, is) = (was.unwrap_or(&none), is.unwrap_or(&none));
        list(table, &format!("{path}/group"), &was.security_groups, &is.security_groups)?;
        list(table, &format!("{path}/prefix_list"), &was.prefix_lists, &is.prefix_lists)?;
        list(table, &format!("{path}/port_list"), &was.port_range_lists, &is.port_range_lists)?;
        list(table, &format!("{path}/interface"), &was.network_interfaces, &is.network_interfaces)?;
        list(table, &format!("{path}/instance"), &was.instances, &is.instances)?;
    }
    Ok(())
}

/// Writes what is different between two states, but for the documents as they were applied.
///
/// # Errors
/// What the database says.
pub fn difference(table: &mut Objects<'_>, old: &State, new: &State) -> Result<(), redb::Error> {
    documents(table, &old.documents, &new.documents)?;
    if old.counters != new.counters {
        map(table, "counter", &sorted(&old.counters), &sorted(&new.counters))?;
    }
    map(table, "fact", &old.facts.objects, &new.facts.objects)?;
    maps(table, "rule", &old.facts.rules, &new.facts.rules)?;
    map(table, "token", &old.replay.tokens, &new.replay.tokens)?;
    maps(table, "nonce", &old.replay.nonces, &new.replay.nonces)
}
