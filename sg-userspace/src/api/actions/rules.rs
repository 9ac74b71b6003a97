//! Rules of groups: authorize, revoke, modify.

use std::collections::BTreeSet;

use serde_json::Map;

use super::common::Answer;
use crate::{
    api::{
        draft::{Draft, new_id, time},
        error::{self, ApiError, Kind},
        facts::RuleFact,
        params::Params,
        rule::{self, FIELDS, Form, key, sides},
    },
    document::{Permission, Text},
    model::Direction,
    validate::{names::derived_id, parse},
};

/// A rule as it stands in its group.
pub struct Standing<'a> {
    /// Index among the group's permissions.
    pub index: usize,
    /// As written.
    pub rule: &'a Permission,
    /// What makes it the same as another.
    pub key: String,
    /// `sgr-…`.
    pub id: String,
    /// Seconds since 1970; 0 when it came with a document.
    pub created: u64,
    time: String,
}

impl Standing<'_> {
    /// `ingress` or `egress`.
    pub fn direction(&self) -> String {
        self.rule.direction.as_deref().unwrap_or_default().to_ascii_lowercase()
    }

    /// 1 to 100.
    pub fn priority(&self) -> u32 {
        self.rule.priority.as_deref().and_then(|t| t.parse().ok()).unwrap_or(1)
    }

    /// When it came, as the API writes it.
    pub fn time(&self) -> String {
        self.time.clone()
    }
}

/// The rules of a group.
pub fn of<'a>(draft: &'a Draft<'_>, group: usize) -> Vec<Standing<'a>> {
    let id = &draft.names.groups.ids[group];
    let known = draft.facts.rules.get(id);
    let came = draft.created(id);
    let one = |(index, rule): (usize, &'a Permission)| {
        let key = key(draft.names, rule);
        let fact = known.and_then(|k| k.get(&key));
        Standing {
            index,
            rule,
            id: fact.map_or_else(|| derived_id("sgr", &[id, &key]), |f| f.id.clone()),
            created: fact.map_or(0, |f| f.created),
            time: fact.map_or_else(|| came.clone(), |f| time(f.created)),
            key,
        }
    };
    draft.group_at(group).permissions.iter().enumerate().map(one).collect()
}

/// The permissions a call names, with how each is said.
fn wanted(p: &Params, revoke: bool) -> Result<Vec<(Form, Params)>, ApiError> {
    if p.0.contains_key("Permissions") {
        return Err(error::JSON_PARAMETER.of("Permissions"));
    }
    let listed = p.records("Permissions").map_err(|name| error::UNREADABLE.of(&name))?;
    let flat = FIELDS.iter().any(|f| p.get(f).is_some());
    match (listed.is_empty(), flat) {
        (false, true) => Err(error::PERMISSIONS_AND_FLAT.into()),
        (false, false) if listed.len() > 100 => Err(error::PERMISSIONS_COUNT.of("Permissions")),
        (false, false) => Ok(listed.into_iter().map(|(n, record)| (Form::Listed(n), record)).collect()),
        (true, _) => Ok(vec![(Form::Flat { revoke }, p.clone())]),
    }
}

/// Makes a refusal say which of the permissions it is about, unless it does.
fn at(form: Form) -> impl Fn(ApiError) -> ApiError {
    move |e| {
        let Form::Listed(n) = form else { return e };
        let name = format!("Permissions.{n}");
        let digit = |after: &str| after.starts_with(|c: char| c.is_ascii_digit());
        if e.message.match_indices(&name).any(|(i, _)| !digit(&e.message[i + name.len()..])) {
            return e;
        }
        ApiError { message: format!("{} ({name})", e.message), ..e }
    }
}

/// What a call names rules for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Make,
    Describe,
    Revoke,
}

/// Reads all that a call names; a rule that stands there twice is refused.
fn read_all(
    draft: &Draft<'_>,
    p: &Params,
    direction: Direction,
    purpose: Purpose,
    group: impl FnOnce() -> Result<usize, ApiError>,
) -> Result<(usize, Vec<(String, Permission)>), ApiError> {
    let revoke = purpose == Purpose::Revoke;
    let forms = wanted(p, revoke)?;
    // The syntax of all comes before anybody looks at what exists.
    for (form, record) in &forms {
        let rule = rule::syntax(record, *form, direction).map_err(at(*form))?;
        if purpose == Purpose::Make {
            rule::two_sides(&rule).map_err(at(*form))?;
        }
    }
    let group = group()?;
    let mut rules: Vec<(String, Permission)> = Vec::new();
    let mut keys = BTreeSet::new();
    for (form, record) in &forms {
        let rule = match rule::read(draft, record, *form, direction, group) {
            // What does not exist is in no rule that could be taken away.
            Err(e) if revoke && e.status == 404 => continue,
            read => read.map_err(at(*form))?,
        };
        let key = key(draft.names, &rule);
        if !keys.insert(key.clone()) {
            return Err(at(*form)(error::PERMISSIONS_TWICE.into()));
        }
        rules.push((key, rule));
    }
    Ok((group, rules))
}

fn authorize_in(draft: &mut Draft<'_>, p: &Params, direction: Direction) -> Answer {
    let (group, rules) = {
        let draft = &*draft;
        read_all(draft, p, direction, Purpose::Make, || draft.changeable_group(p.get("SecurityGroupId")))?
    };
    let standing: BTreeSet<String> = of(draft, group).into_iter().map(|r| r.key).collect();
    let before = cost(draft, group);
    // One that is there already is no error, and changes nothing.
    for (key, rule) in rules.into_iter().filter(|(key, _)| !standing.contains(key)) {
        draft.group_mut(group).permissions.push(rule);
        stands(draft, group, key);
    }
    grows_within(draft, group, before, error::RULES_QUOTA)?;
    Ok(Map::new())
}

/// Notes that a rule has come.
pub fn stands(draft: &mut Draft<'_>, group: usize, key: String) {
    let (group, created) = (draft.names.groups.ids[group].clone(), draft.now);
    let fact = RuleFact { id: new_id("sgr"), created };
    draft.facts.to_mut().rules.entry(group).or_default().insert(key, fact);
}

/// What a rule counts as: a list is all the entries that it may have.
pub fn counts_as(draft: &Draft<'_>, r: &Permission) -> usize {
    let size = |most: &Option<Text>, held: usize| most.as_deref().and_then(|t| t.parse().ok()).unwrap_or(held.max(1));
    let prefixes = |t: &Option<Text>| {
        let list = t.as_deref().and_then(|t| draft.prefix_list(t)).map(|i| draft.prefix_list_at(i));
        list.map_or(0, |l| size(&l.max_entries, l.entries.len()))
    };
    let ports = |t: &Option<Text>| {
        let list = t.as_deref().and_then(|t| draft.port_list(t)).map(|i| draft.port_list_at(i));
        list.map_or(0, |l| size(&l.max_entries, l.entries.len()))
    };
    let lists = prefixes(&r.source_prefix_list_id) + prefixes(&r.dest_prefix_list_id);
    (lists + ports(&r.port_range_list_id)).max(1)
}

/// What the rules of a group count as.
pub fn cost(draft: &Draft<'_>, group: usize) -> usize {
    draft.group_at(group).permissions.iter().map(|r| counts_as(draft, r)).sum()
}

/// Refuses more rules in a group than one interface may have: nobody could ever join
/// it. One that a document made so large may still become smaller.
pub fn grows_within(draft: &Draft<'_>, group: usize, before: usize, kind: Kind) -> Result<(), ApiError> {
    let (after, limit) = (cost(draft, group), draft.here.quotas.rules_per_interface);
    if after <= limit || after <= before {
        return Ok(());
    }
    let why = format!("({after} rules in this group, lists count their MaxEntries; the limit is {limit})");
    Err(kind.because(&why))
}

pub fn authorize(draft: &mut Draft<'_>, p: &Params) -> Answer {
    authorize_in(draft, p, Direction::Inbound)
}

pub fn authorize_egress(draft: &mut Draft<'_>, p: &Params) -> Answer {
    authorize_in(draft, p, Direction::Outbound)
}

/// Takes rules out of a group, by their indices.
fn remove(draft: &mut Draft<'_>, group: usize, gone: &[(usize, String)]) {
    let id = draft.names.groups.ids[group].clone();
    let mut index = 0;
    draft.group_mut(group).permissions.retain(|_| {
        index += 1;
        !gone.iter().any(|(i, _)| *i == index - 1)
    });
    if let Some(known) = draft.facts.to_mut().rules.get_mut(&id) {
        gone.iter().for_each(|(_, key)| drop(known.remove(key)));
    }
}

fn revoke_in(draft: &mut Draft<'_>, p: &Params, direction: Direction) -> Answer {
    let ids = p.list("SecurityGroupRuleId").map_err(|_| error::RULE_ID)?;
    if ids.is_empty() {
        let (group, rules) = {
            let draft = &*draft;
            read_all(draft, p, direction, Purpose::Revoke, || draft.changeable_group(p.get("SecurityGroupId")))?
        };
        let keys: BTreeSet<String> = rules.into_iter().map(|(key, _)| key).collect();
        let standing = of(draft, group);
        let gone: Vec<_> = standing.into_iter().filter(|r| keys.contains(&r.key)).map(|r| (r.index, r.key)).collect();
        if !gone.is_empty() {
            remove(draft, group, &gone);
        }
        return Ok(Map::new());
    }
    if p.has("Permissions") || FIELDS.iter().any(|f| p.get(f).is_some()) {
        return Err(error::PERMISSIONS_AND_FLAT.into());
    }
    if ids.len() > 100 {
        return Err(error::RULE_ID.into());
    }
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(error::RULE_ID_TWICE.into());
    }
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let standing = of(draft, group);
    let find = |id: &&str| {
        let rule = standing.iter().find(|r| r.id == *id && r.direction() == direction.name());
        rule.map(|r| (r.index, r.key.clone())).ok_or(error::RULE_ID_NOT_FOUND)
    };
    let gone = ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    drop(standing);
    remove(draft, group, &gone);
    Ok(Map::new())
}

pub fn revoke(draft: &mut Draft<'_>, p: &Params) -> Answer {
    revoke_in(draft, p, Direction::Inbound)
}

pub fn revoke_egress(draft: &mut Draft<'_>, p: &Params) -> Answer {
    revoke_in(draft, p, Direction::Outbound)
}

pub fn modify(draft: &mut Draft<'_>, p: &Params) -> Answer {
    modify_in(draft, p, Direction::Inbound)
}

pub fn modify_egress(draft: &mut Draft<'_>, p: &Params) -> Answer {
    modify_in(draft, p, Direction::Outbound)
}

/// Older clients name a rule by what it matches, and change its description.
fn describe(draft: &mut Draft<'_>, p: &Params, direction: Direction) -> Answer {
    let (group, mut rules) = {
        let draft = &*draft;
        read_all(draft, p, direction, Purpose::Describe, || draft.changeable_group(p.get("SecurityGroupId")))?
    };
    let (key, rule) = rules.pop().ok_or(error::RULE_NOT_FOUND)?;
    let index = of(draft, group).into_iter().find(|r| r.key == key).map(|r| r.index).ok_or(error::RULE_NOT_FOUND)?;
    draft.group_mut(group).permissions.edit(index).description = rule.description;
    Ok(Map::new())
}

/// What kind of remote side parameters name.
fn object(p: &Params, direction: Direction) -> Option<&'static str> {
    let (side, _) = sides(direction);
    [side.cidr, side.ipv6, side.group, side.list].into_iter().find(|f| p.get(f).is_some())
}

/// A rule as the parameters that would make it.
fn parameters(draft: &Draft<'_>, rule: &Permission) -> Params {
    let mut shown = rule::show(draft, rule, "", "");
    // One that has none is shown with a sign for it.
    if !matches!(shown["IpProtocol"].as_str(), Some("TCP" | "UDP")) {
        shown.remove("SourcePortRange");
    }
    let named = |(k, v): (String, serde_json::Value)| {
        let text = v.as_str().map(str::to_owned).unwrap_or_else(|| v.to_string());
        (FIELDS.contains(&k.as_str()) && !text.is_empty()).then_some((k, text))
    };
    let mut p: Params = shown.into_iter().filter_map(named).collect();
    if p.get("PortRangeListId").is_some() {
        p.0.remove("PortRange");
    }
    p
}

/// How a change says a rule.
const FORM: Form = Form::Flat { revoke: false };

/// What does not go together is called otherwise where a rule is modified.
fn mismatch(e: ApiError) -> ApiError {
    let is = |kind: Kind| e.code == kind.code;
    if is(error::PROTOCOL_PORTS) {
        error::RULE_PROTOCOL_PORTS.into()
    } else if is(error::ICMP_V6_ADDRESS) || is(error::ICMPV6_V4_ADDRESS) {
        error::RULE_PROTOCOL_FAMILY.into()
    } else {
        e
    }
}

/// The fields that a change names, with something good for those that it leaves: so
/// their syntax can be looked at before the rule is looked for.
fn completed(p: &Params, direction: Direction) -> Params {
    let mut whole = p.clone();
    let mut fill = |name: &str, value: &str| drop(whole.0.insert(name.to_owned(), value.to_owned()));
    let without_ports = |protocol: &str| !matches!(parse::protocol(protocol), Ok(Some(6 | 17)));
    match (p.get("IpProtocol"), p.get("PortRange")) {
        (None, Some("-1/-1")) => fill("IpProtocol", "all"),
        (None, _) => fill("IpProtocol", "tcp"),
        (Some(protocol), None) if without_ports(protocol) => fill("PortRange", "-1/-1"),
        _ => {}
    }
    if p.get("PortRange").is_none() && !p.get("IpProtocol").is_some_and(without_ports) {
        fill("PortRange", "1/1");
    }
    if object(p, direction).is_none() {
        // A group goes with either family.
        fill(sides(direction).0.group, "sg-any");
    }
    whole
}

fn modify_in(draft: &mut Draft<'_>, p: &Params, direction: Direction) -> Answer {
    // It is of one rule, and has no list of them.
    if p.has("Permissions") {
        return Err(error::RULE_REQUEST.into());
    }
    let Some(id) = p.get("SecurityGroupRuleId") else { return describe(draft, p, direction) };
    if FIELDS.iter().all(|f| p.get(f).is_none()) {
        return Err(error::RULE_REQUEST.into());
    }
    let (remote, local) = sides(direction);
    if p.get(local.group).is_some() || p.get(local.list).is_some() {
        return Err(error::RULE_DIRECTION.into());
    }
    rule::syntax(&completed(p, direction), FORM, direction).map_err(mismatch)?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let (index, old, before) = {
        let standing = of(draft, group);
        let rule = standing.iter().find(|r| r.id == id && r.direction() == direction.name());
        let rule = rule.ok_or(error::RULE_ID_NOT_FOUND)?;
        (rule.index, rule.key.clone(), parameters(draft, rule.rule))
    };
    if p.get("NicType").is_some_and(|n| n == "internet") {
        return Err(error::RULE_NIC_TYPE.into());
    }
    if object(p, direction).is_some_and(|o| Some(o) != object(&before, direction)) {
        return Err(error::RULE_OBJECT_TYPE.into());
    }
    let (list, range) = (p.get("PortRangeListId").is_some(), p.get("PortRange").is_some());
    let had_list = before.get("PortRangeListId").is_some();
    if (had_list && range && !list) || (!had_list && list) {
        return Err(error::RULE_PORTS_TYPE.into());
    }
    let mut merged = before;
    for field in FIELDS {
        if let Some(value) = p.get(field) {
            merged.0.insert((*field).to_owned(), value.to_owned());
        }
    }
    if p.get(remote.group).is_some() {
        // Whose group it was says nothing of the new one.
        for owner in remote.owners.iter().filter(|o| p.get(o).is_none()) {
            merged.0.remove(*owner);
        }
    }
    let rule = rule::read(draft, &merged, FORM, direction, group).map_err(mismatch)?;
    // One that had the same on both sides may keep it.
    if rule::two_sides(&draft.group_at(group).permissions[index]).is_ok() {
        rule::two_sides(&rule)?;
    }
    let new = key(draft.names, &rule);
    if new != old && of(draft, group).iter().any(|r| r.key == new) {
        return Err(error::RULE_TWICE.into());
    }
    let group_id = draft.names.groups.ids[group].clone();
    let (id, now) = (id.to_owned(), draft.now);
    let known = draft.facts.to_mut().rules.entry(group_id).or_default();
    // Whatever it matches now, it is the rule that it was.
    let fact = known.remove(&old).unwrap_or(RuleFact { id, created: now });
    known.insert(new, fact);
    let before = cost(draft, group);
    *draft.group_mut(group).permissions.edit(index) = rule;
    grows_within(draft, group, before, error::RULES_QUOTA_MODIFY)?;
    Ok(Map::new())
}
