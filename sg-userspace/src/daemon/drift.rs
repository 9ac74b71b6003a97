//! Drift: what became of a document's objects, since it was last applied, by another way
//! than an apply: the API, the console's commands, generations that were put back. Pure.

mod meaning;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meaning::{Meaning, said, shown};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::{
        API_NAME, Document, Instance, List, NetworkInterface, Permission, PortRangeList, PrefixList, Problems, Text,
    },
    validate::names::{Kind, Names},
};

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An object that the document did not have.
    Created,
    /// An object of the document that is gone.
    Removed,
    /// A rule of a group.
    RuleAdded,
    /// The same.
    RuleRemoved,
    /// What is said of a rule; it matches what it matched.
    RuleChanged,
    /// An entry of a list.
    EntryAdded,
    /// The same.
    EntryRemoved,
    /// An interface is in one more group.
    Joined,
    /// An interface is in one group less.
    Left,
    /// Anything else that an object says of itself.
    Changed,
}

impl What {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Removed => "removed",
            Self::RuleAdded => "rule added",
            Self::RuleRemoved => "rule removed",
            Self::RuleChanged => "rule changed",
            Self::EntryAdded => "entry added",
            Self::EntryRemoved => "entry removed",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Changed => "changed",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// `security group`, `prefix list`, ….
    pub kind: String,
    /// The object's id.
    pub id: String,
    /// Its name, or id.
    pub name: String,
    /// What was done.
    pub what: What,
    /// To which rule, group, entry or field; `before → now` of a field.
    pub detail: String,
}

/// How far an applied document is from what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentDrift {
    /// Its name.
    pub document: String,
    /// Whether it is known how it was applied: an older daemon did not keep that.
    pub known: bool,
    /// Objects that are different.
    pub objects: usize,
    /// Differences.
    pub changes: usize,
    /// The first few of them.
    pub first: Vec<Drift>,
}

/// Differences of one document that a listing has.
const FIRST: usize = 20;

/// What the objects of one id were, and are.
struct Pair<'a, T> {
    id: String,
    name: String,
    old: Option<&'a Arc<T>>,
    new: Option<&'a Arc<T>>,
}

/// Objects of one kind that are not as they were.
fn pairs<'a, T: Eq>(
    old: (&'a List<T>, &[String], &[String]),
    new: (&'a List<T>, &[String], &[String]),
) -> Vec<Pair<'a, T>> {
    let mut all: BTreeMap<String, Pair<'a, T>> = BTreeMap::new();
    let mut add = |(list, ids, names): (&'a List<T>, &[String], &[String]), is_new: bool| {
        for ((object, id), name) in list.shared().iter().zip(ids).zip(names) {
            let pair = || Pair { id: id.clone(), name: String::new(), old: None, new: None };
            let pair = all.entry(id.clone()).or_insert_with(pair);
            pair.name.clone_from(name);
            *(if is_new { &mut pair.new } else { &mut pair.old }) = Some(object);
        }
    };
    add(old, false);
    add(new, true);
    all.into_values().filter(|p| p.old != p.new).collect()
}

/// Keys that are told in words of their own, or are what an object is found by.
const APART: &[&str] = &[
    "permissions",
    "entries",
    "security_group_ids",
    "security_group_id",
    "prefix_list_id",
    "port_range_list_id",
    "network_interface_id",
];

/// What a field means that says nothing.
const DEFAULTS: &[(&str, &str)] =
    &[("security_group_type", "normal"), ("inner_access_policy", "accept"), ("address_family", "ipv4")];

/// Fields by their paths; what stands in several levels has dots between.
fn fields(prefix: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map.iter().filter(|(key, _)| !prefix.is_empty() || !APART.contains(&key.as_str())) {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(_) => fields(&path, value, all),
            Value::String(text) if DEFAULTS.iter().any(|(k, _)| *k == key) => {
                all.insert(path, text.to_ascii_lowercase());
            }
            Value::String(text) => drop(all.insert(path, text.clone())),
            other => drop(all.insert(path, other.to_string())),
        }
    }
}

struct Differences {
    found: Vec<Drift>,
    kind: &'static str,
}

impl Differences {
    fn add<T>(&mut self, pair: &Pair<'_, T>, what: What, detail: String) {
        let Pair { id, name, .. } = pair;
        self.found.push(Drift { kind: self.kind.into(), id: id.clone(), name: name.clone(), what, detail });
    }

    /// The old and the new one, where there are both; tells it where not.
    fn both<'a, T: Serialize>(&mut self, pair: &Pair<'a, T>) -> Option<(&'a T, &'a T)> {
        let (old, new) = match (pair.old, pair.new) {
            (Some(old), Some(new)) => (old, new),
            (old, _) => {
                let what = if old.is_some() { What::Removed } else { What::Created };
                self.add(pair, what, String::new());
                return None;
            }
        };
        let of = |object: &T| {
            let mut all = BTreeMap::new();
            fields("", &serde_json::to_value(object).unwrap_or_default(), &mut all);
            all
        };
        let (before, after) = (of(old), of(new));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let default = DEFAULTS.iter().find(|(k, _)| k == key).map_or("none", |(_, default)| default);
            let said = |fields: &BTreeMap<String, String>| fields.get(key).map_or(default, String::as_str).to_owned();
            let (before, after) = (said(&before), said(&after));
            if before != after {
                self.add(pair, What::Changed, format!("{key}: {before} → {after}"));
            }
        }
        Some((old, new))
    }

    /// What is only in one of two sets.
    fn sets<T>(&mut self, pair: &Pair<'_, T>, old: &BTreeSet<String>, new: &BTreeSet<String>, what: [What; 2]) {
        new.difference(old).for_each(|text| self.add(pair, what[0], text.clone()));
        old.difference(new).for_each(|text| self.add(pair, what[1], text.clone()));
    }
}

/// What is different in a document from how it was applied; `names` are those of all that is
/// in force with it.
pub fn drift(applied: &Document, now: &Document, names: &Names) -> Vec<Drift> {
    if applied == now {
        return Vec::new();
    }
    let of = |document| Names::of(document, &mut Problems::default());
    let (before, after) = (of(applied), of(now));
    let (then, today) = (Meaning { own: Some(&before), all: names }, Meaning { own: None, all: names });
    let mut found = Differences { found: Vec::new(), kind: "security group" };
    fn side<'a, T>(list: &'a List<T>, kind: &'a Kind) -> (&'a List<T>, &'a [String], &'a [String]) {
        (list, &kind.ids, &kind.names)
    }
    for pair in pairs(side(&applied.security_groups, &before.groups), side(&now.security_groups, &after.groups)) {
        let Some((old, new)) = found.both(&pair) else { continue };
        rules(&mut found, &pair, (&old.permissions, &then), (&new.permissions, &today));
    }
    found.kind = "prefix list";
    for pair in pairs(side(&applied.prefix_lists, &before.prefix_lists), side(&now.prefix_lists, &after.prefix_lists)) {
        let Some((old, new)) = found.both(&pair) else { continue };
        let of = |list: &PrefixList| list.entries.iter().map(|e| text(&e.cidr)).collect();
        found.sets(&pair, &of(old), &of(new), [What::EntryAdded, What::EntryRemoved]);
    }
    found.kind = "port range list";
    let old = side(&applied.port_range_lists, &before.port_lists);
    for pair in pairs(old, side(&now.port_range_lists, &after.port_lists)) {
        let Some((old, new)) = found.both(&pair) else { continue };
        let of = |list: &PortRangeList| list.entries.iter().map(|e| text(&e.port_range)).collect();
        found.sets(&pair, &of(old), &of(new), [What::EntryAdded, What::EntryRemoved]);
    }
    found.kind = "network interface";
    let old = side(&applied.network_interfaces, &before.interfaces);
    for pair in pairs(old, side(&now.network_interfaces, &after.interfaces)) {
        let Some((old, new)) = found.both(&pair) else { continue };
        let of = |interface: &NetworkInterface, meaning: &Meaning<'_>| {
            let ids = interface.security_group_ids.iter().map(|t| meaning.group(t).unwrap_or_else(|| t.value.clone()));
            ids.map(|id| shown(&id, &before, names)).collect()
        };
        found.sets(&pair, &of(old, &then), &of(new, &today), [What::Joined, What::Left]);
    }
    found.kind = "instance";
    let ids = |document: &Document| -> Vec<String> {
        let id = |i: &Instance| i.key().map(|t| t.value.clone()).unwrap_or_default();
        document.instances.iter().map(id).collect()
    };
    let (old, new) = (ids(applied), ids(now));
    for pair in pairs((&applied.instances, &old, &old), (&now.instances, &new, &new)) {
        found.both(&pair);
    }
    found.found.sort();
    found.found
}

fn text(text: &Option<Text>) -> String {
    text.as_deref().unwrap_or_default().to_owned()
}

/// Rules are the same when they match, decide and rank the same, however they are written,
/// and in whatever order.
fn rules<T>(
    found: &mut Differences,
    pair: &Pair<'_, T>,
    (old, then): (&List<Permission>, &Meaning<'_>),
    (new, today): (&List<Permission>, &Meaning<'_>),
) {
    let of = |rules: &List<Permission>, meaning: &Meaning<'_>| -> BTreeMap<String, Permission> {
        rules.iter().map(|rule| (meaning.key(rule), rule.clone())).collect()
    };
    let (before, after) = (of(old, then), of(new, today));
    for (_, rule) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        found.add(pair, What::RuleAdded, said(rule, today));
    }
    for (key, rule) in &before {
        match after.get(key) {
            None => found.add(pair, What::RuleRemoved, said(rule, then)),
            Some(now) if now.description != rule.description => {
                let [was, is] = [rule, now].map(|r| r.description.as_deref().unwrap_or("none").to_owned());
                found.add(pair, What::RuleChanged, format!("{}: description: {was} → {is}", said(now, today)));
            }
            Some(_) => {}
        }
    }
}

/// What becomes of drift when a document is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDrift {
    /// Whether it is known how the document was applied: an older daemon did not keep that.
    pub known: bool,
    /// What the apply undoes.
    pub undone: Vec<Drift>,
    /// What the document says, too.
    pub kept: Vec<Drift>,
}

/// Drift of a document, and what its new version does to it; documents come with the names of
/// all that is in force with them.
pub fn planned(applied: Option<&Document>, now: (&Document, &Names), new: (&Document, &Names)) -> PlannedDrift {
    let Some(applied) = applied else { return PlannedDrift::default() };
    let wanted: BTreeSet<Drift> = drift(applied, new.0, new.1).into_iter().collect();
    let (kept, undone) = drift(applied, now.0, now.1).into_iter().partition(|d| wanted.contains(d));
    PlannedDrift { known: true, undone, kept }
}

/// Documents as they were applied, sharing with those in force what is the same: as it was
/// read from the store, each has its own.
pub fn shared(applied: &Arc<Vec<Document>>, now: &[Document]) -> Arc<Vec<Document>> {
    let mut all = applied.to_vec();
    for document in &mut all {
        let Some(now) = now.iter().find(|d| d.name() == document.name()) else { continue };
        document.security_groups.share(&now.security_groups);
        document.prefix_lists.share(&now.prefix_lists);
        document.port_range_lists.share(&now.port_range_lists);
        document.network_interfaces.share(&now.network_interfaces);
        document.instances.share(&now.instances);
    }
    Arc::new(all)
}

/// How far the documents in force are from how they were applied; what came by the API
/// belongs to no file.
pub fn of_all(applied: &[Document], now: &[Document], names: &Names) -> Vec<DocumentDrift> {
    let none = |name: &str| Document { document: Some(name.into()), ..Document::default() };
    let named: BTreeSet<&str> = applied.iter().chain(now).map(Document::name).filter(|n| *n != API_NAME).collect();
    let of = |name: &str| {
        let find = |all: &[Document]| all.iter().find(|d| d.name() == name).cloned();
        let Some(applied) = find(applied) else {
            return DocumentDrift { document: name.into(), known: false, objects: 0, changes: 0, first: Vec::new() };
        };
        let mut all = drift(&applied, &find(now).unwrap_or_else(|| none(name)), names);
        let objects = all.iter().map(|d| (&d.kind, &d.id)).collect::<BTreeSet<_>>().len();
        let changes = all.len();
        all.truncate(FIRST);
        DocumentDrift { document: name.into(), known: true, objects, changes, first: all }
    };
    named.into_iter().map(of).collect()
}

/// The documents as they were applied, after one more was, which is in force: what it took
/// over from others is no longer theirs.
pub fn applied(before: &Arc<Vec<Document>>, new: &Document) -> Arc<Vec<Document>> {
    let names = Names::of(new, &mut Problems::default());
    let mut all: Vec<Document> = before.to_vec();
    for other in all.iter_mut().filter(|d| d.name() != new.name()) {
        let theirs = Names::of(other, &mut Problems::default());
        fn keep<T>(list: &mut List<T>, theirs: &Kind, ours: &Kind) {
            for i in (0..list.len()).rev().filter(|i| ours.with_id(&theirs.ids[*i]).is_some()) {
                list.remove(i);
            }
        }
        keep(&mut other.security_groups, &theirs.groups, &names.groups);
        keep(&mut other.prefix_lists, &theirs.prefix_lists, &names.prefix_lists);
        keep(&mut other.port_range_lists, &theirs.port_lists, &names.port_lists);
        keep(&mut other.network_interfaces, &theirs.interfaces, &names.interfaces);
        let known = |i: &Instance| i.key().map(|t| t.value.clone());
        let taken =
            |i: &Instance| known(i).is_some_and(|id| new.instances.iter().any(|n| known(n) == Some(id.clone())));
        for i in (0..other.instances.len()).rev() {
            if other.instances.get(i).is_some_and(taken) {
                other.instances.remove(i);
            }
        }
    }
    match all.iter_mut().find(|d| d.name() == new.name()) {
        Some(old) => *old = new.clone(),
        None => all.push(new.clone()),
    }
    if all == **before { before.clone() } else { Arc::new(all) }
}

#[cfg(test)]
mod tests;
