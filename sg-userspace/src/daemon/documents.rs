//! Documents and their owners: which objects a change makes, alters and
//! removes, and whom it would take them from. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    api::draft::OWNER,
    document::{At, Document, Instance, List, Problems, read::Mapping},
    validate::{Quotas, Valid, names::Names},
};

/// An object: its kind and id.
pub type ObjectId = (&'static str, String);

/// What a change does to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `create`, `change`, `delete` or `adopt`.
    pub step: String,
    /// `security group`, `prefix list`, ….
    pub kind: String,
    /// Its name, or id.
    pub name: String,
    /// What is different, in a few words.
    pub detail: String,
}

/// A change that would be valid.
#[derive(Clone, Debug)]
pub struct Change {
    /// The policy after it.
    pub policy: Arc<Valid>,
    /// What it does.
    pub steps: Vec<Step>,
}

struct Object {
    name: String,
    value: serde_json::Value,
}

fn objects(document: &Document) -> BTreeMap<ObjectId, Object> {
    let names = Names::of(document, &mut Problems::default());
    let mut all = BTreeMap::new();
    let mut add = |kind: &'static str, ids: &[String], shown: &[String], values: Vec<serde_json::Value>| {
        for ((id, name), value) in ids.iter().zip(shown).zip(values) {
            all.insert((kind, id.clone()), Object { name: name.clone(), value });
        }
    };
    fn values<T: Serialize>(list: &List<T>) -> Vec<serde_json::Value> {
        list.iter().map(|v| serde_json::to_value(v).unwrap_or_default()).collect()
    }
    add("security group", &names.groups.ids, &names.groups.names, values(&document.security_groups));
    add("prefix list", &names.prefix_lists.ids, &names.prefix_lists.names, values(&document.prefix_lists));
    add("port range list", &names.port_lists.ids, &names.port_lists.names, values(&document.port_range_lists));
    add("network interface", &names.interfaces.ids, &names.interfaces.names, values(&document.network_interfaces));
    let ids: Vec<String> = document.instances.iter().filter_map(|i| Some(i.key()?.value.clone())).collect();
    add("instance", &ids, &ids, values(&document.instances));
    all
}

/// Takes an object out of a document.
fn remove(document: &mut Document, (kind, id): &ObjectId) {
    let names = Names::of(document, &mut Problems::default());
    let at = |ids: &[String]| ids.iter().position(|i| i == id);
    match *kind {
        "security group" => at(&names.groups.ids).map(|i| document.security_groups.remove(i)),
        "prefix list" => at(&names.prefix_lists.ids).map(|i| document.prefix_lists.remove(i)),
        "port range list" => at(&names.port_lists.ids).map(|i| document.port_range_lists.remove(i)),
        "network interface" => at(&names.interfaces.ids).map(|i| document.network_interfaces.remove(i)),
        _ => {
            let found = document.instances.iter().position(|i| i.key().is_some_and(|t| t.value == *id));
            found.map(|i| document.instances.remove(i))
        }
    };
}

/// A stored document with places again, so that problems can point at it.
pub fn restore(document: &Document) -> Document {
    let mut document = document.clone();
    let file = format!("document {:?} in force", document.name());
    document.place(&At { file: file.as_str().into(), line: 0, column: 0 });
    document
}

/// A document as YAML; reading it gives the same.
pub fn export(document: &Document) -> String {
    serde_yaml_ng::to_string(document).unwrap_or_default()
}

fn rules_of(value: &serde_json::Value) -> Vec<&serde_json::Value> {
    value.get("permissions").and_then(|p| p.as_array()).map(|a| a.iter().collect()).unwrap_or_default()
}

/// What changed, in a few words.
fn detail(old: Option<&serde_json::Value>, new: Option<&serde_json::Value>) -> String {
    let none = serde_json::Value::Null;
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let (before, after) = (rules_of(old), rules_of(new));
    let added = after.iter().filter(|r| !before.contains(r)).count();
    let removed = before.iter().filter(|r| !after.contains(r)).count();
    let mut words = Vec::new();
    if added > 0 {
        words.push(format!("+{added} rules"));
    }
    if removed > 0 {
        words.push(format!("-{removed} rules"));
    }
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object()) {
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).filter(|k| *k != "permissions").collect();
        keys.sort_unstable();
        keys.dedup();
        words.extend(keys.into_iter().filter(|k| old.get(*k) != new.get(*k)).cloned());
    }
    words.join(", ")
}

/// Plans to put a document in the place of the one of its name.
///
/// # Errors
/// Every problem of the whole policy after it, and objects of other owners.
pub fn plan(before: &Valid, new: Document, adopt: bool, quotas: &Quotas) -> Result<Change, Problems> {
    let mut documents: Vec<Document> = before.documents().iter().map(restore).collect();
    let mut problems = Problems::default();
    // Applied under that name, a file would delete all that the API made and it does not hold.
    if let Some(name) = new.document.as_ref().filter(|name| name.value == OWNER) {
        let message = format!("{OWNER:?} stands for what came by the API, and is no document's name");
        let help = "give it a name of its own; --adopt takes over what the API made";
        problems.add(&name.at, "document", message, Some(help.into()));
    }
    let mut steps = Vec::new();
    let mut step = |step: &str, id: &ObjectId, name: &str, detail: String| {
        steps.push(Step { step: step.into(), kind: id.0.into(), name: name.into(), detail });
    };
    let after = objects(&new);
    for other in documents.iter_mut().filter(|d| d.name() != new.name()) {
        let owner = other.name().to_owned();
        for (id, object) in objects(other).iter().filter(|(id, _)| after.contains_key(*id)) {
            if adopt {
                remove(other, id);
                step("adopt", id, &object.name, format!("from document {owner:?}"));
            } else {
                let message = format!("the {} {:?} belongs to document {owner:?}", id.0, object.name);
                problems.add(&new.at.0, "", message, Some("--adopt takes it over".into()));
            }
        }
    }
    problems.or(())?;
    let place = documents.iter().position(|d| d.name() == new.name());
    let same = place.map(|i| std::slice::from_ref(&documents[i])).unwrap_or_default();
    steps.extend(difference(same, std::slice::from_ref(&new)));
    match place {
        Some(i) => documents[i] = new,
        None => documents.push(new),
    }
    steps.sort_by(|a, b| (&a.step, &a.kind, &a.name).cmp(&(&b.step, &b.kind, &b.name)));
    Ok(Change { policy: Arc::new(before.succeeded_by(documents, quotas)?), steps })
}

/// Kinds and ids of what is in a document.
fn ids(document: &Document) -> BTreeSet<ObjectId> {
    let names = Names::of(document, &mut Problems::default());
    let kinds = [
        ("security group", &names.groups.ids),
        ("prefix list", &names.prefix_lists.ids),
        ("port range list", &names.port_lists.ids),
        ("network interface", &names.interfaces.ids),
    ];
    let instances = document.instances.iter().filter_map(Instance::key);
    let instances = instances.map(|t| ("instance", t.value.clone()));
    kinds.into_iter().flat_map(|(kind, ids)| ids.iter().map(move |id| (kind, id.clone()))).chain(instances).collect()
}

/// What [`plan`] made of the document of a name, once more, after the documents that it was
/// planned on top of have changed from `old` to `documents`; `before` is what it was then. Sooner
/// where little is different, and the very same where nothing is. `None` where it has to be
/// planned from the beginning, be it to find out what is wrong.
pub fn plan_again(
    before: &Arc<Valid>,
    (old, documents): (&[Document], &[Document]),
    name: &str,
    adopt: bool,
    quotas: &Quotas,
) -> Option<Arc<Valid>> {
    fn others<'a>(all: &'a [Document], name: &'a str) -> impl Iterator<Item = &'a Document> {
        all.iter().filter(move |d| d.name() != name)
    }
    let place = |all: &[Document]| all.iter().position(|d| d.name() == name);
    if place(old) == place(documents) && others(old, name).eq(others(documents, name)) {
        return Some(before.clone());
    }
    if adopt {
        return None;
    }
    let own = before.documents().iter().find(|d| d.name() == name)?;
    let owned = ids(own);
    let mut changed = others(documents, name).filter(|d| !old.contains(d));
    if changed.any(|d| !ids(d).is_disjoint(&owned)) {
        return None;
    }
    let mut documents = documents.to_vec();
    match place(&documents) {
        Some(i) => documents[i] = own.clone(),
        None => documents.push(own.clone()),
    }
    before.follow(documents, quotas).ok().map(Arc::new)
}

/// What is different between two sets of documents, object by object.
pub fn difference(old: &[Document], new: &[Document]) -> Vec<Step> {
    let (before, after) = (objects(&Document::merge(old)), objects(&Document::merge(new)));
    let mut steps = Vec::new();
    let mut step = |step: &str, id: &ObjectId, name: &str, detail: String| {
        steps.push(Step { step: step.into(), kind: id.0.into(), name: name.into(), detail });
    };
    for (id, object) in &after {
        match before.get(id) {
            None => step("create", id, &object.name, detail(None, Some(&object.value))),
            Some(old) if old.value != object.value => {
                step("change", id, &object.name, detail(Some(&old.value), Some(&object.value)));
            }
            Some(_) => {}
        }
    }
    for (id, object) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
        step("delete", id, &object.name, String::new());
    }
    steps.sort_by(|a, b| (&a.step, &a.kind, &a.name).cmp(&(&b.step, &b.kind, &b.name)));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{API_NAME, Source, parse};

    fn read(text: &str) -> Document {
        parse(&[Source { name: "f".into(), bytes: text.into() }]).unwrap()
    }

    fn valid(documents: &[Document]) -> Valid {
        Valid::of(documents.to_vec(), &Quotas::default(), None).unwrap()
    }

    fn steps(documents: &[Document], text: &str, adopt: bool) -> Result<(Vec<Document>, Vec<String>), String> {
        let change = plan(&valid(documents), read(text), adopt, &Quotas::default()).map_err(|e| e.to_string())?;
        Ok((
            change.policy.documents().to_vec(),
            change.steps.iter().map(|s| format!("{} {} {}", s.step, s.kind, s.name)).collect(),
        ))
    }

    #[test]
    fn a_document_owns_its_objects() {
        let a = "document: a\nsecurity_groups: [{security_group_name: g}, {security_group_name: h}]\n";
        let (docs, first) = steps(&[], a, false).unwrap();
        assert_eq!(first, ["create security group g", "create security group h"]);
        assert!(steps(&docs, a, false).unwrap().1.is_empty());
        let (fewer, gone) = steps(&docs, "document: a\nsecurity_groups: [{security_group_name: g}]\n", false).unwrap();
        assert_eq!(gone, ["delete security group h"]);
        let b = "document: b\nsecurity_groups: [{security_group_name: g}]\n";
        assert!(steps(&fewer, b, false).unwrap_err().contains("belongs to document \"a\"; --adopt takes it over"));
        let (both, taken) = steps(&fewer, b, true).unwrap();
        assert_eq!(taken, ["adopt security group g", "create security group g"]);
        assert!(both[0].security_groups.is_empty());
    }

    #[test]
    fn a_plan_is_made_again_as_it_would_be_made() {
        let quotas = Quotas::default();
        let own = "document: a\nsecurity_groups: [{security_group_name: g, permissions: [\
                   {direction: ingress, ip_protocol: all, source_group_id: others}]}]\n";
        let theirs = |member: &str| {
            read(&format!(
                "document: b\nsecurity_groups: [{{security_group_name: others}}]\nnetwork_interfaces: [\
                 {{private_ip_addresses: [{member}], security_group_ids: [others]}}]\n"
            ))
        };
        let own_before = read("document: a\nsecurity_groups: [{security_group_name: g}]\n");
        let old = [theirs("10.0.0.1"), own_before.clone()];
        let before = plan(&valid(&old), read(own), false, &quotas).unwrap().policy;
        let again = |documents: &[Document], adopt| plan_again(&before, (&old, documents), "a", adopt, &quotas);
        // Nothing beside it is different: whatever its own document says by now.
        let mut others = [theirs("10.0.0.1"), read("document: a\nsecurity_groups: []\n")];
        assert!(Arc::ptr_eq(&again(&others, true).unwrap(), &before));
        // A member is another, in its place or behind the document.
        others[0] = theirs("10.0.0.2");
        for documents in [others.to_vec(), vec![others[0].clone()], vec![own_before, others[0].clone()]] {
            let made = again(&documents, false).unwrap();
            let anew = plan(&valid(&documents), read(own), false, &quotas).unwrap().policy;
            assert_eq!((made.documents(), made.model()), (anew.documents(), anew.model()));
            assert!(again(&documents, true).is_none(), "objects may be taken over");
        }
        // What it names is gone, or is somebody else's by now.
        assert!(again(&[read("document: b\nsecurity_groups: []\n")], false).is_none());
        let taken = "document: b\nsecurity_groups: [{security_group_name: others}, {security_group_name: g}]\n";
        assert!(again(&[read(taken)], false).is_none());
    }

    #[test]
    fn what_came_by_the_api_has_a_name_that_no_file_has() {
        let own = Document { document: Some(OWNER.into()), ..read("security_groups: [{security_group_name: g}]\n") };
        let text = format!("security_groups: []\ndocument: {OWNER}\n");
        let e = steps(std::slice::from_ref(&own), &text, true).unwrap_err();
        assert!(e.contains("f:2:") && e.contains("stands for what came by the API"), "{e}");
        assert!(steps(&[], &text, false).is_err());
        let (both, taken) = steps(&[own], "document: a\nsecurity_groups: [{security_group_name: g}]\n", true).unwrap();
        assert_eq!(taken, ["adopt security group g", "create security group g"]);
        assert!(both[0].security_groups.is_empty());
    }

    #[test]
    fn what_others_use_is_not_deleted() {
        let (docs, _) = steps(&[], "document: a\nsecurity_groups: [{security_group_name: g}]\n", false).unwrap();
        let b = "document: b\nnetwork_interfaces: [{device: e, security_group_ids: [g]}]\n";
        let (docs, _) = steps(&docs, b, false).unwrap();
        let e = steps(&docs, "document: a\nsecurity_groups: []\n", false).unwrap_err();
        assert!(e.contains("document \"b\" in force:") && e.contains("there is no security group \"g\""), "{e}");
    }

    #[test]
    fn a_name_means_a_documents_own_object_before_one_of_the_apis() {
        let mut api = read("security_groups: [{security_group_name: monitoring, security_group_id: sg-theirs}]");
        api.document = Some(API_NAME.into());
        let text = "security_groups: [{security_group_name: monitoring}, {security_group_name: b, permissions: [\
                    {direction: ingress, ip_protocol: all, source_group_id: monitoring}]}]";
        let change = plan(&valid(std::slice::from_ref(&api)), read(text), false, &Quotas::default()).unwrap();
        let model = change.policy.model();
        assert_eq!(model.groups[2].rules[0].object, crate::model::Object::Group(1));
        // Where there is no other, the name means the one of the API.
        let text = text.replace("{security_group_name: monitoring}, ", "");
        let change = plan(&valid(&[api]), read(&text), false, &Quotas::default()).unwrap();
        assert_eq!(change.policy.model().groups[1].rules[0].object, crate::model::Object::Group(0));
    }

    #[test]
    fn export_reads_as_the_same() {
        let text = include_str!("../../../examples/demo.yaml");
        let document = read(text);
        assert_eq!(read(&export(&document)), document);
    }
}
