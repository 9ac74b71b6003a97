//! Prefix lists and port range lists.

use std::{collections::HashMap, sync::Arc};

use super::{
    Quotas,
    names::Names,
    parse::{list_cidr, number, ports, read, word},
};
use crate::{
    document::{At, Document, Problems, Text, problem::Limit},
    model::{PortList, PrefixList},
};

/// A list that is sized: its id, where it stands, and the quota of its kind, as the entries
/// that it has and those that it may have pass it.
struct Sized<'a> {
    id: &'a str,
    at: &'a At,
    path: &'a str,
    limit: usize,
    passed: [Limit; 2],
}

/// Size of a list: what it declares, at least what it holds.
fn size(of: &Sized<'_>, text: Option<&Text>, held: usize, problems: &mut Problems) -> usize {
    let Sized { id, at, path, limit, passed: [entries, size] } = *of;
    let declared = match text {
        Some(text) => {
            let most = u32::try_from(limit).unwrap_or(u32::MAX);
            let path = format!("{path}.max_entries");
            match (number(text, 1, most), number(text, 1, u32::MAX)) {
                (Ok(size), _) => size as usize,
                (Err(message), Ok(declared)) => {
                    problems.add(&text.at, &path, message, None);
                    problems.passes(size, id, declared as usize);
                    declared as usize
                }
                (Err(message), Err(_)) => {
                    problems.add(&text.at, &path, message, None);
                    limit.max(held)
                }
            }
        }
        None => held.max(1),
    };
    if held > limit {
        problems.add(at, path, format!("{held} entries, the limit is {limit}"), Some("split the list".into()));
        problems.passes(entries, id, held);
    }
    if held > declared {
        problems.add(
            at,
            path,
            format!("{held} entries, but max_entries is {declared}"),
            Some("raise max_entries".into()),
        );
    }
    declared
}

fn missing(at: &At, path: &str, what: &str, problems: &mut Problems) {
    problems.add(at, path, format!("{what} is required"), None);
}

/// All prefix lists.
pub fn prefix_lists(
    document: &Document,
    names: &Names,
    quotas: &Quotas,
    problems: &mut Problems,
) -> Vec<Arc<PrefixList>> {
    let all = 0..document.prefix_lists.len();
    all.map(|i| Arc::new(prefix_list(document, i, names, quotas, problems))).collect()
}

/// One of them.
pub fn prefix_list(
    document: &Document,
    i: usize,
    names: &Names,
    quotas: &Quotas,
    problems: &mut Problems,
) -> PrefixList {
    let list = &document.prefix_lists[i];
    let path = format!("prefix_lists[{i}]");
    let family = list.address_family.as_ref().map_or(Some(true), |t| {
        read(t, &format!("{path}.address_family"), problems, |t| word(&[("IPv4", true), ("IPv6", false)], t))
    });
    let mut entries = Vec::new();
    let mut seen = HashMap::new();
    for (j, entry) in list.entries.iter().enumerate() {
        let path = format!("{path}.entries[{j}].cidr");
        let Some(text) = &entry.cidr else {
            missing(&entry.at.0, &path, "cidr", problems);
            continue;
        };
        let Some(v4) = family else { continue };
        let Some(net) = read(text, &path, problems, |t| list_cidr(t, v4)) else { continue };
        if let Some(first) = seen.insert(net, entries.len()) {
            problems.add(&text.at, &path, format!("{net} is already entry {first}"), None);
        }
        entries.push(net);
    }
    let limit = quotas.prefix_list_entries;
    let passed = [Limit::PrefixEntries, Limit::PrefixSize(limit)];
    let of = Sized { id: &names.prefix_lists.ids[i], at: &list.at.0, path: &path, limit, passed };
    let max_entries = size(&of, list.max_entries.as_ref(), list.entries.len(), problems);
    let (id, name) = (names.prefix_lists.ids[i].clone(), names.prefix_lists.names[i].clone());
    PrefixList { id, name, v4: family.unwrap_or(true), max_entries, entries }
}

/// All port range lists.
pub fn port_lists(document: &Document, names: &Names, quotas: &Quotas, problems: &mut Problems) -> Vec<Arc<PortList>> {
    let all = 0..document.port_range_lists.len();
    all.map(|i| Arc::new(port_list(document, i, names, quotas, problems))).collect()
}

/// One of them.
pub fn port_list(document: &Document, i: usize, names: &Names, quotas: &Quotas, problems: &mut Problems) -> PortList {
    let list = &document.port_range_lists[i];
    let path = format!("port_range_lists[{i}]");
    let mut entries = Vec::new();
    for (j, entry) in list.entries.iter().enumerate() {
        let path = format!("{path}.entries[{j}].port_range");
        let Some(text) = &entry.port_range else {
            missing(&entry.at.0, &path, "port_range", problems);
            continue;
        };
        let range = read(text, &path, problems, |t| {
            ports(t)?.ok_or_else(|| "-1/-1 is no range; write 1/65535 for every port".to_owned())
        });
        entries.extend(range);
    }
    let limit = quotas.port_list_entries;
    let passed = [Limit::PortEntries, Limit::PortSize(limit)];
    let of = Sized { id: &names.port_lists.ids[i], at: &list.at.0, path: &path, limit, passed };
    let max_entries = size(&of, list.max_entries.as_ref(), list.entries.len(), problems);
    let (id, name) = (names.port_lists.ids[i].clone(), names.port_lists.names[i].clone());
    PortList { id, name, max_entries, entries }
}
