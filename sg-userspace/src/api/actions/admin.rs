//! What only the administrator does, over the daemon's socket: none of it has a
//! name that a signed call could use.

use serde_json::{Map, Value, json};

use super::{
    Action,
    common::Answer,
    groups::{self, referencing},
    import, write,
};
use crate::{
    api::{
        draft::Draft,
        error::{self, ApiError},
        params::Params,
        rule,
    },
    document::{Permission, Text},
};

/// All of them.
pub const ACTIONS: &[Action] = &[
    write("sg:MarkSecurityGroup", mark),
    write("sg:ModifySecurityGroup", modify),
    write("sg:DeleteSecurityGroup", delete),
    write("sg:ImportRules", import::import),
];

fn group(draft: &Draft<'_>, p: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    p.get(name).map(|id| draft.group(id).ok_or_else(|| ApiError::from(error::GROUP_NOT_FOUND))).transpose()
}

fn flag(p: &Params, name: &str) -> Result<Option<bool>, ApiError> {
    match p.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(error::UNREADABLE.of(name)),
    }
}

/// `Protected`, `Managed`, `Default`: `true` or `false`.
fn mark(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (protected, managed, default) = (flag(p, "Protected")?, flag(p, "Managed")?, flag(p, "Default")?);
    let i = group(draft, p, "SecurityGroupId")?.ok_or(error::GROUP_ID_MISSING)?;
    let id = draft.names.groups.ids[i].clone();
    let fact = draft.fact_mut(&id);
    fact.protected = protected.unwrap_or(fact.protected);
    fact.managed = managed.unwrap_or(fact.managed);
    fact.default = default.unwrap_or(fact.default);
    Ok(Map::new())
}

/// Name, description and whether members reach each other, which others change by two
/// calls: all of it, or nothing.
fn modify(draft: &mut Draft<'_>, p: &Params) -> Answer {
    if p.get("InnerAccessPolicy").is_some() {
        groups::policy(draft, p)?;
    }
    groups::modify(draft, p)
}

/// Rules that an answer shows of those that went with a group; the others are counted.
const SHOWN: usize = 20;

/// Rules that name a group: whose, how many, and the first of them as long as there is room.
struct Naming {
    user: usize,
    keep: Vec<bool>,
    shown: Value,
}

fn naming(draft: &Draft<'_>, group: usize, room: &mut usize) -> Vec<Naming> {
    let names = |t: &Option<Text>| t.as_deref().and_then(|t| draft.any_group(t)) == Some(group);
    let keeps = |r: &Permission| !names(&r.source_group_id) && !names(&r.dest_group_id);
    let one = |user: usize| {
        let standing = super::rules::of(draft, user);
        let keep: Vec<bool> = standing.iter().map(|r| keeps(r.rule)).collect();
        let gone: Vec<&super::rules::Standing<'_>> = standing.iter().filter(|r| !keep[r.index]).collect();
        let first = gone.iter().take(*room).map(|r| Value::Object(rule::show(draft, r.rule, &r.id, &r.time())));
        let first: Vec<Value> = first.collect();
        *room -= first.len();
        let shown = json!({
            "SecurityGroupId": draft.names.groups.ids[user], "SecurityGroupName": draft.group_name(user),
            "Rules": gone.len(), "Permissions": first,
        });
        Naming { user, keep, shown }
    };
    referencing(draft, group).into_iter().map(one).collect()
}

/// Deletes a group whatever holds it: rules that name it go, members leave it, or
/// move to `MoveTo`. What it took with it is in the answer.
fn delete(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = group(draft, p, "SecurityGroupId")?.ok_or(error::GROUP_TO_DELETE_NOT_FOUND)?;
    let target = group(draft, p, "MoveTo")?;
    let id = draft.names.groups.ids[i].clone();
    if draft.is_protected(&id) {
        return Err(error::PROTECTED.into());
    }
    if target == Some(i) {
        return Err(error::UNREADABLE.of("MoveTo"));
    }
    let mut moved = Vec::new();
    for member in draft.members(i) {
        let name = draft.names.interfaces.names[member].clone();
        let mut groups: Vec<usize> = draft.groups_of(member).into_iter().filter(|&g| g != i).collect();
        if let Some(target) = target.filter(|t| !groups.contains(t)) {
            groups.push(target);
        }
        if groups.is_empty() {
            let why = format!("{name} would be in no group: name one with MoveTo (--move-to).");
            return Err(error::HAS_MEMBERS.because(&why));
        }
        let ids = groups.iter().map(|&g| Text::from(draft.names.groups.ids[g].as_str())).collect();
        draft.interface_mut(member).security_group_ids = ids;
        moved.push(name);
    }
    let (mut removed, mut room) = (Vec::new(), SHOWN);
    for Naming { user, keep, shown } in naming(draft, i, &mut room) {
        let mut keep = keep.into_iter();
        draft.group_mut(user).permissions.retain(|_| keep.next().unwrap_or(true));
        removed.push(shown);
    }
    draft.remove_group(i);
    draft.facts.to_mut().objects.remove(&id);
    draft.facts.to_mut().rules.remove(&id);
    Ok(Map::from_iter([("Moved".to_owned(), Value::from(moved)), ("RemovedRules".to_owned(), Value::from(removed))]))
}
