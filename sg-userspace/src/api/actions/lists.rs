//! Prefix lists and port range lists.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::common::{self, Answer};
use crate::{
    api::{
        draft::{Draft, new_id},
        error::{self, ApiError},
        page::{Sizes, page},
        params::Params,
    },
    document::{Permission, PortEntry, PortRangeList, PrefixEntry, PrefixList, Text},
    validate::parse,
};

const SIZES: Sizes = Sizes { default: 10, least: 1, most: 100, clamped: false, numbered: false };

fn entry_description(record: &Params) -> Result<Option<Text>, ApiError> {
    let good =
        |t: &&str| (2..=32).contains(&t.chars().count()) && !t.starts_with("http://") && !t.starts_with("https://");
    match record.get("Description") {
        None => Ok(None),
        Some(text) => Some(text).filter(good).map(|t| Some(Text::from(t))).ok_or(error::GROUP_DESCRIPTION.into()),
    }
}

fn name(p: &Params, field: &str, kind: error::Kind) -> Result<Option<Text>, ApiError> {
    let name = common::name(p, field, kind)?;
    let taken = |n: &Text| ["com.aliyun", "com.alibabacloud"].iter().any(|t| n.starts_with(t));
    if name.as_ref().is_some_and(taken) { Err(kind.of(field)) } else { Ok(name) }
}

fn max_entries(p: &Params, limit: usize, kind: error::Kind) -> Result<u32, ApiError> {
    let most = u32::try_from(limit).unwrap_or(u32::MAX);
    let given = p.get("MaxEntries").and_then(|t| parse::number(t, 1, most).ok());
    given.ok_or_else(|| kind.of(&limit.to_string()))
}

/// How many of these objects are the caller's.
fn count_own(draft: &Draft<'_>, ids: &[String]) -> usize {
    ids.iter().filter(|id| draft.account_of_id(id) == draft.owner()).count()
}

fn family(list: &PrefixList) -> &'static str {
    let v4 = list.address_family.as_deref().is_none_or(|f| f.eq_ignore_ascii_case("ipv4"));
    if v4 { "IPv4" } else { "IPv6" }
}

/// `Name.N.{Cidr,Description}`, aligned and canonical; a prefix that stands twice is refused.
fn prefixes(p: &Params, field: &str, v4: bool) -> Result<Vec<PrefixEntry>, ApiError> {
    let records = p.records(field).map_err(|name| error::UNREADABLE.of(&name))?;
    if records.len() > 200 {
        return Err(error::LIST_ENTRIES.into());
    }
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, record) in records {
        let field = format!("{field}.{n}.Cidr");
        let cidr =
            record.get("Cidr").and_then(|t| parse::list_cidr(t, v4).ok()).ok_or_else(|| error::LIST_CIDR.of(&field))?;
        if !seen.insert(cidr) {
            return Err(error::LIST_CIDR_TWICE.of(&field));
        }
        let description = entry_description(&record)?;
        entries.push(PrefixEntry {
            cidr: Some(Text::from(cidr.to_string().as_str())),
            description,
            ..PrefixEntry::default()
        });
    }
    Ok(entries)
}

fn canonical(entry: &PrefixEntry, v4: bool) -> Option<ipnet::IpNet> {
    entry.cidr.as_deref().and_then(|t| parse::list_cidr(t, v4).ok())
}

pub fn create_prefix_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let name = name(p, "PrefixListName", error::LIST_NAME)?.ok_or_else(|| error::LIST_NAME.of("PrefixListName"))?;
    let v4 = match p.get("AddressFamily").map(str::to_ascii_lowercase).as_deref() {
        Some("ipv4") => true,
        Some("ipv6") => false,
        _ => return Err(error::LIST_ADDRESS_FAMILY.into()),
    };
    let most = max_entries(p, draft.here.quotas.prefix_list_entries, error::LIST_MAX_ENTRIES)?;
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let resource_group = common::resource_group(p)?;
    let entries = prefixes(p, "Entry", v4)?;
    if entries.len() > most as usize {
        return Err(error::LIST_ENTRIES.into());
    }
    let tags = common::tags(p)?;
    common::tag_quota(&tags)?;
    if count_own(draft, &draft.names.prefix_lists.ids) >= draft.here.max_lists {
        return Err(error::LIST_QUOTA.into());
    }
    let id = new_id("pl");
    let list = PrefixList {
        prefix_list_id: Some(Text::from(id.as_str())),
        prefix_list_name: Some(name),
        address_family: (!v4).then(|| Text::from("IPv6")),
        max_entries: Some(Text::from(most.to_string().as_str())),
        description,
        tags: common::labels(tags),
        entries: entries.into_iter().collect(),
        ..PrefixList::default()
    };
    draft.own().prefix_lists.push(list);
    common::own(draft, &id);
    draft.fact_mut(&id).resource_group = resource_group;
    Ok(Map::from_iter([("PrefixListId".to_owned(), Value::from(id))]))
}

fn prefix_list(draft: &Draft<'_>, p: &Params) -> Result<usize, ApiError> {
    let found = draft.prefix_list(p.get("PrefixListId").ok_or_else(|| error::NOT_SIGNED.of("PrefixListId"))?);
    found.filter(|&i| draft.sees(&draft.names.prefix_lists.ids[i])).ok_or(error::PREFIX_LIST_NOT_FOUND.into())
}

/// What a call adds to a prefix list and what it takes out; never the same.
fn edits(p: &Params, v4: bool) -> Result<(Vec<PrefixEntry>, BTreeSet<ipnet::IpNet>), ApiError> {
    let (add, remove) = (prefixes(p, "AddEntry", v4)?, prefixes(p, "RemoveEntry", v4)?);
    let gone: BTreeSet<_> = remove.iter().filter_map(|e| canonical(e, v4)).collect();
    if let Some(n) = add.iter().position(|e| canonical(e, v4).is_some_and(|c| gone.contains(&c))) {
        return Err(error::LIST_CIDR_TWICE.of(&format!("AddEntry.{}.Cidr", n + 1)));
    }
    Ok((add, gone))
}

pub fn modify_prefix_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let name = name(p, "PrefixListName", error::LIST_NAME)?;
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    // What is wrong whichever family the list is of, before it is looked for.
    let colon = |(k, v): (&String, &String)| k.ends_with(".Cidr") && v.contains(':');
    edits(p, !p.0.iter().any(colon))?;
    let i = prefix_list(draft, p)?;
    let list = draft.prefix_list_at(i);
    let v4 = family(list) == "IPv4";
    let (add, gone) = edits(p, v4)?;
    let mut entries: Vec<PrefixEntry> =
        list.entries.iter().filter(|e| canonical(e, v4).is_none_or(|c| !gone.contains(&c))).cloned().collect();
    for entry in add {
        match entries.iter_mut().find(|e| canonical(e, v4) == canonical(&entry, v4)) {
            Some(known) => known.description = entry.description,
            None => entries.push(entry),
        }
    }
    // Without a bound of its own a list from a document may grow to what any may have.
    let most = list.max_entries.as_deref().and_then(|t| t.parse().ok());
    let most = most.unwrap_or(draft.here.quotas.prefix_list_entries);
    // One that has more than it may may still have fewer.
    if entries.len() > most.max(list.entries.len()) {
        return Err(error::LIST_ENTRIES.into());
    }
    let id = draft.names.prefix_lists.ids[i].clone();
    let list = draft.prefix_list_mut(i);
    list.entries = entries.into_iter().collect();
    if let Some(name) = name {
        list.prefix_list_id.get_or_insert_with(|| Text::from(id.as_str()));
        list.prefix_list_name = Some(name);
    }
    if description.is_some() {
        list.description = description;
    }
    Ok(Map::new())
}

/// Groups of which some rule is like this.
fn groups_with(draft: &Draft<'_>, like: impl Fn(&Permission) -> bool) -> Vec<usize> {
    draft.all_groups().filter(|&g| draft.group_at(g).permissions.iter().any(&like)).collect()
}

/// Groups whose rules name a prefix list.
fn users(draft: &Draft<'_>, list: usize) -> Vec<usize> {
    let names = |t: &Option<Text>| t.as_deref().and_then(|t| draft.prefix_list(t)) == Some(list);
    groups_with(draft, |r| names(&r.source_prefix_list_id) || names(&r.dest_prefix_list_id))
}

/// Groups whose rules name a port range list.
fn port_users(draft: &Draft<'_>, list: usize) -> Vec<usize> {
    groups_with(draft, |r| r.port_range_list_id.as_deref().and_then(|t| draft.port_list(t)) == Some(list))
}

fn in_use(draft: &Draft<'_>, kind: error::Kind, users: &[usize]) -> ApiError {
    let who: Vec<&str> = users.iter().take(5).map(|&g| draft.names.groups.ids[g].as_str()).collect();
    kind.because(&format!("Rules of {} name it; revoke them first.", who.join(", ")))
}

pub fn delete_prefix_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = prefix_list(draft, p)?;
    let id = draft.names.prefix_lists.ids[i].clone();
    let users = users(draft, i);
    if !users.is_empty() {
        return Err(in_use(draft, error::LIST_IN_USE, &users));
    }
    draft.remove_prefix_list(i);
    draft.facts.to_mut().objects.remove(&id);
    Ok(Map::new())
}

fn show_prefix_list(draft: &Draft<'_>, i: usize) -> Map<String, Value> {
    let (list, id) = (draft.prefix_list_at(i), &draft.names.prefix_lists.ids[i]);
    let most = list.max_entries.as_deref().and_then(|t| t.parse().ok()).unwrap_or(list.entries.len().max(1));
    let shown = json!({
        "PrefixListId": id,
        "PrefixListName": list.prefix_list_name.as_deref().unwrap_or_default(),
        "Description": list.description.as_deref().unwrap_or_default(),
        "AddressFamily": family(list),
        "MaxEntries": most,
        "CreationTime": draft.created(id),
    });
    shown.as_object().cloned().unwrap_or_default()
}

pub fn prefix_lists(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids = common::ids(p, "PrefixListId")?;
    let tags = common::tags(p)?;
    if p.get("AddressFamily").is_some_and(|f| !matches!(f.to_ascii_lowercase().as_str(), "ipv4" | "ipv6")) {
        return Err(error::LIST_ADDRESS_FAMILY.into());
    }
    let wanted = |i: &usize| {
        let (list, id) = (draft.prefix_list_at(*i), draft.names.prefix_lists.ids[*i].as_str());
        draft.sees(id)
            && (ids.is_empty() || ids.contains(&id))
            && p.get("PrefixListName").is_none_or(|n| list.prefix_list_name.as_deref() == Some(n))
            && p.get("AddressFamily").is_none_or(|f| f.eq_ignore_ascii_case(family(list)))
            && common::is(p, "ResourceGroupId", draft.resource_group(id))
            && common::has_tags(&list.tags, &tags)
    };
    let found = draft.all_prefix_lists().filter(wanted).map(|i| (draft.names.prefix_lists.ids[i].clone(), i)).collect();
    let mut answer = Map::new();
    let found = page(found, true, SIZES, p, &mut answer)?;
    let items = found.into_iter().map(|i| {
        let (mut item, id) = (show_prefix_list(draft, i), &draft.names.prefix_lists.ids[i]);
        item.insert("AssociationCount".into(), users(draft, i).len().into());
        item.insert("ResourceGroupId".into(), draft.resource_group(id).into());
        item.insert("Tags".into(), json!({"Tag": common::show_tags(&draft.prefix_list_at(i).tags)}));
        Value::Object(item)
    });
    answer.insert("PrefixLists".into(), json!({"PrefixList": items.collect::<Vec<_>>()}));
    Ok(answer)
}

pub fn prefix_list_attributes(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = prefix_list(draft, p)?;
    let v4 = family(draft.prefix_list_at(i)) == "IPv4";
    let entry = |e: &PrefixEntry| {
        let cidr = canonical(e, v4).map(|c| c.to_string()).unwrap_or_default();
        json!({"Cidr": cidr, "Description": e.description.as_deref().unwrap_or_default()})
    };
    let entries: Vec<Value> = draft.prefix_list_at(i).entries.iter().map(entry).collect();
    let mut answer = show_prefix_list(draft, i);
    answer.insert("Entries".into(), json!({"Entry": entries}));
    Ok(answer)
}

pub fn prefix_list_associations(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = prefix_list(draft, p)?;
    let found = users(draft, i);
    let found = found.into_iter().map(|g| draft.names.groups.ids[g].clone()).map(|id| (id.clone(), id)).collect();
    let mut answer = Map::new();
    let found = page(found, true, SIZES, p, &mut answer)?;
    let items: Vec<Value> = found.iter().map(|id| json!({"ResourceId": id, "ResourceType": "securitygroup"})).collect();
    answer.insert("PrefixListAssociations".into(), json!({"PrefixListAssociation": items}));
    Ok(answer)
}

// Port range lists: of their listings the elements have no names of their own.

fn ranges(p: &Params, field: &str) -> Result<Vec<PortEntry>, ApiError> {
    let records = p.records(field).map_err(|name| error::PORT_LIST_ENTRY.of(&name))?;
    if records.len() > 200 {
        return Err(error::LIST_ENTRIES.into());
    }
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, record) in records {
        let field = format!("{field}.{n}.PortRange");
        let text = record.get("PortRange").unwrap_or_default();
        let range = parse::ports(text).ok().flatten().ok_or_else(|| error::PORT_LIST_PORTS.of(&field))?;
        if !seen.insert(range) {
            return Err(error::PORT_LIST_TWICE.of(&field));
        }
        let description = entry_description(&record)?;
        entries.push(PortEntry { port_range: Some(Text::from(text)), description, ..PortEntry::default() });
    }
    Ok(entries)
}

fn range(entry: &PortEntry) -> Option<(u16, u16)> {
    entry.port_range.as_deref().and_then(|t| parse::ports(t).ok()).flatten()
}

pub fn create_port_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let kind = error::PORT_LIST_NAME;
    let name = name(p, "PortRangeListName", kind)?.ok_or_else(|| kind.of("PortRangeListName"))?;
    let most = max_entries(p, draft.here.quotas.port_list_entries, error::PORT_LIST_MAX_ENTRIES)?;
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let entries = ranges(p, "Entry")?;
    if entries.len() > most as usize {
        return Err(error::PORT_LIST_ENTRIES.into());
    }
    let (tags, resource_group) = (common::tags(p)?, common::resource_group(p)?);
    common::tag_quota(&tags)?;
    if count_own(draft, &draft.names.port_lists.ids) >= draft.here.max_port_lists {
        return Err(error::PORT_LIST_QUOTA.into());
    }
    let id = new_id("prl");
    let list = PortRangeList {
        port_range_list_id: Some(Text::from(id.as_str())),
        port_range_list_name: Some(name),
        max_entries: Some(Text::from(most.to_string().as_str())),
        description,
        tags: common::labels(tags),
        entries: entries.into_iter().collect(),
        ..PortRangeList::default()
    };
    draft.own().port_range_lists.push(list);
    common::own(draft, &id);
    draft.fact_mut(&id).resource_group = resource_group;
    Ok(Map::from_iter([("PortRangeListId".to_owned(), Value::from(id))]))
}

fn port_list(draft: &Draft<'_>, p: &Params) -> Result<usize, ApiError> {
    let found = draft.port_list(p.get("PortRangeListId").ok_or_else(|| error::NOT_SIGNED.of("PortRangeListId"))?);
    found.filter(|&i| draft.sees(&draft.names.port_lists.ids[i])).ok_or(error::PORT_LIST_NOT_FOUND.into())
}

pub fn modify_port_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let name = name(p, "PortRangeListName", error::PORT_LIST_NAME)?;
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let (add, remove) = (ranges(p, "AddEntry")?, ranges(p, "RemoveEntry")?);
    let gone: BTreeSet<_> = remove.iter().filter_map(range).collect();
    if let Some(n) = add.iter().position(|e| range(e).is_some_and(|r| gone.contains(&r))) {
        return Err(error::PORT_LIST_TWICE.of(&format!("AddEntry.{}.PortRange", n + 1)));
    }
    let i = port_list(draft, p)?;
    let list = draft.port_list_at(i);
    let mut entries: Vec<PortEntry> =
        list.entries.iter().filter(|e| range(e).is_none_or(|r| !gone.contains(&r))).cloned().collect();
    for entry in add {
        match entries.iter_mut().find(|e| range(e) == range(&entry)) {
            Some(known) => known.description = entry.description,
            None => entries.push(entry),
        }
    }
    let most = list.max_entries.as_deref().and_then(|t| t.parse().ok());
    let most = most.unwrap_or(draft.here.quotas.port_list_entries);
    if entries.len() > most.max(list.entries.len()) {
        return Err(error::PORT_LIST_ENTRIES.into());
    }
    let id = draft.names.port_lists.ids[i].clone();
    let list = draft.port_list_mut(i);
    list.entries = entries.into_iter().collect();
    if let Some(name) = name {
        list.port_range_list_id.get_or_insert_with(|| Text::from(id.as_str()));
        list.port_range_list_name = Some(name);
    }
    if description.is_some() {
        list.description = description;
    }
    Ok(Map::new())
}

pub fn delete_port_list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = port_list(draft, p)?;
    let id = draft.names.port_lists.ids[i].clone();
    let users = port_users(draft, i);
    if !users.is_empty() {
        return Err(in_use(draft, error::PORT_LIST_IN_USE, &users));
    }
    draft.remove_port_list(i);
    draft.facts.to_mut().objects.remove(&id);
    Ok(Map::new())
}

pub fn port_lists(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids = common::ids(p, "PortRangeListId")?;
    let tags = common::tags(p)?;
    let wanted = |i: &usize| {
        let (list, id) = (draft.port_list_at(*i), draft.names.port_lists.ids[*i].as_str());
        draft.sees(id)
            && (ids.is_empty() || ids.contains(&id))
            && p.get("PortRangeListName").is_none_or(|n| list.port_range_list_name.as_deref() == Some(n))
            && common::is(p, "ResourceGroupId", draft.resource_group(id))
            && common::has_tags(&list.tags, &tags)
    };
    let found = draft.all_port_lists().filter(wanted).map(|i| (draft.names.port_lists.ids[i].clone(), i)).collect();
    let mut answer = Map::new();
    let found = page(found, true, SIZES, p, &mut answer)?;
    let item = |i: usize| {
        let (list, id) = (draft.port_list_at(i), &draft.names.port_lists.ids[i]);
        let most = list.max_entries.as_deref().and_then(|t| t.parse().ok()).unwrap_or(list.entries.len().max(1));
        json!({
            "PortRangeListId": id,
            "PortRangeListName": list.port_range_list_name.as_deref().unwrap_or_default(),
            "Description": list.description.as_deref().unwrap_or_default(),
            "MaxEntries": most,
            "CreationTime": draft.created(id),
            "AssociationCount": port_users(draft, i).len(),
            "ResourceGroupId": draft.resource_group(id),
            "Tags": common::texts(&list.tags).into_iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect::<Vec<_>>(),
        })
    };
    let items: Vec<Value> = found.into_iter().map(item).collect();
    answer.insert("PortRangeLists".into(), items.into());
    Ok(answer)
}

pub fn port_list_entries(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = port_list(draft, p)?;
    let entry = |e: &PortEntry| {
        let description = e.description.as_deref().unwrap_or_default();
        json!({"PortRange": e.port_range.as_deref().unwrap_or_default(), "Description": description})
    };
    let entries: Vec<Value> = draft.port_list_at(i).entries.iter().map(entry).collect();
    Ok(Map::from_iter([("Entries".to_owned(), Value::from(entries))]))
}

pub fn port_list_associations(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = port_list(draft, p)?;
    let found = port_users(draft, i);
    let found = found.into_iter().map(|g| draft.names.groups.ids[g].clone()).map(|id| (id.clone(), id)).collect();
    let mut answer = Map::new();
    let found = page(found, true, SIZES, p, &mut answer)?;
    let items: Vec<Value> = found.iter().map(|id| json!({"ResourceId": id, "ResourceType": "SecurityGroup"})).collect();
    answer.insert("PortRangeListAssociations".into(), items.into());
    Ok(answer)
}
