//! Security groups.

use serde_json::{Map, Value, json};

use super::common::{self, Answer};
use crate::{
    api::{
        draft::{Draft, new_id},
        error::{self, ApiError},
        page::{Sizes, page},
        params::Params,
        rule,
    },
    document::{Group, Text},
    validate::names::DEFAULT_VPC,
};

fn name(p: &Params) -> Result<Option<Text>, ApiError> {
    common::name(p, "SecurityGroupName", error::GROUP_NAME)
}

fn description(p: &Params) -> Result<Option<Text>, ApiError> {
    common::description(p, "Description", error::GROUP_DESCRIPTION)
}

pub fn create(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (name, description) = (name(p)?, description(p)?);
    let kind = match p.get("SecurityGroupType") {
        None => "normal",
        Some(kind) if matches!(kind, "normal" | "enterprise") => kind,
        Some(_) => return Err(error::GROUP_TYPE.into()),
    };
    let tags = common::tags(p)?;
    let resource_group = common::resource_group(p)?;
    let vpc = p.get("VpcId").unwrap_or(DEFAULT_VPC);
    if !draft.has_vpc(vpc) {
        return Err(error::VPC_NOT_FOUND.into());
    }
    common::tag_quota(&tags)?;
    let own = draft.all_groups().filter(|&i| draft.account_of(i) == draft.owner()).count();
    if own >= draft.here.max_groups {
        return Err(error::GROUP_QUOTA.into());
    }
    let id = new_id("sg");
    let group = Group {
        security_group_id: Some(Text::from(id.as_str())),
        security_group_name: name,
        description,
        security_group_type: (kind != "normal").then(|| Text::from(kind)),
        vpc_id: (vpc != DEFAULT_VPC).then(|| Text::from(vpc)),
        resource_group_id: resource_group.as_deref().map(Text::from),
        tags: common::labels(tags),
        ..Group::default()
    };
    draft.own().security_groups.push(group);
    common::own(draft, &id);
    Ok(Map::from_iter([("SecurityGroupId".to_owned(), Value::from(id))]))
}

/// Groups, other than a group itself, whose rules name it; with the direction.
pub fn referencing(draft: &Draft<'_>, group: usize) -> Vec<usize> {
    let names = |t: &Option<Text>| t.as_deref().and_then(|t| draft.any_group(t)) == Some(group);
    let uses = |g: &Group| g.permissions.iter().any(|r| names(&r.source_group_id) || names(&r.dest_group_id));
    draft.all_groups().filter(|&i| i != group && uses(draft.group_at(i))).collect()
}

fn shown(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(5);
    names.truncate(5);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

pub fn delete(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = draft.group(p.get("SecurityGroupId").ok_or(error::GROUP_ID_MISSING)?);
    let i = i.ok_or(error::GROUP_TO_DELETE_NOT_FOUND)?;
    draft.not_managed(i)?;
    let id = draft.names.groups.ids[i].clone();
    if draft.is_protected(&id) {
        return Err(error::PROTECTED.because(&format!("The administrator lifts it: sgctl group protect {id} --off.")));
    }
    let members = draft.members(i);
    if !members.is_empty() {
        let who = shown(members.iter().map(|&m| draft.names.interfaces.names[m].clone()));
        return Err(error::HAS_MEMBERS.because(&format!(
            "They are: {who}; take them out first (LeaveSecurityGroup, sgctl interface leave), \
             or move them (sgctl group delete {id} --force --move-to GROUP)."
        )));
    }
    let users = referencing(draft, i);
    if !users.is_empty() {
        let who = shown(users.iter().map(|&g| draft.names.groups.ids[g].clone()));
        return Err(error::IS_REFERENCED
            .because(&format!("Rules of {who} name it; revoke them first (RevokeSecurityGroup, sgctl rule remove).")));
    }
    draft.remove_group(i);
    draft.facts.to_mut().objects.remove(&id);
    draft.facts.to_mut().rules.remove(&id);
    Ok(Map::new())
}

fn counts(draft: &Draft<'_>, group: &Group) -> (usize, usize) {
    let to_group = |r: &&crate::document::Permission| {
        let named = |t: &Option<Text>| t.as_deref().is_some_and(|t| draft.any_group(t).is_some());
        named(&r.source_group_id) || named(&r.dest_group_id)
    };
    (group.permissions.len(), group.permissions.iter().filter(to_group).count())
}

/// What only the administrator is told of a group, as no answer of the original has it.
fn marks(draft: &Draft<'_>, id: &str) -> Map<String, Value> {
    if draft.account.is_some() {
        return Map::new();
    }
    Map::from_iter([
        ("OwnerId".to_owned(), draft.account_of_id(id).into()),
        ("ServiceManaged".to_owned(), draft.is_managed(id).into()),
        ("DeletionProtection".to_owned(), draft.is_protected(id).into()),
        ("Default".to_owned(), draft.is_default(id).into()),
    ])
}

fn item(draft: &Draft<'_>, i: usize, p: &Params) -> Value {
    let (group, id) = (draft.group_at(i), &draft.names.groups.ids[i]);
    let (rules, to_groups) = counts(draft, group);
    let mut item = json!({
        "SecurityGroupId": id,
        "SecurityGroupName": draft.group_name(i),
        "Description": group.description.as_deref().unwrap_or_default(),
        "SecurityGroupType": if draft.is_enterprise(i) { "enterprise" } else { "normal" },
        "VpcId": draft.vpc_of(i),
        "CreationTime": draft.created(id),
        "ResourceGroupId": group.resource_group_id.as_deref().unwrap_or_default(),
        "ServiceManaged": draft.is_managed(id),
        "Tags": {"Tag": common::show_tags(&group.tags)},
        "RuleCount": rules,
        "GroupToGroupRuleCount": to_groups,
    });
    if p.get("IsQueryEcsCount").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        let members = draft.members(i);
        let addresses: usize = members.iter().map(|&m| common::addresses(draft, m).len()).sum();
        let quotas = &draft.here.quotas;
        let left = if draft.is_enterprise(i) {
            quotas.interfaces_per_enterprise_group.saturating_sub(members.len())
        } else {
            quotas.addresses_per_normal_group.saturating_sub(addresses)
        };
        item["EcsCount"] = addresses.into();
        item["AvailableInstanceAmount"] = left.into();
    }
    item.as_object_mut().into_iter().for_each(|item| item.extend(marks(draft, id)));
    item
}

pub fn list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids: Option<Vec<String>> = match p.get("SecurityGroupIds") {
        None => None,
        Some(text) => {
            let ids: Vec<String> = serde_json::from_str(text).map_err(|_| error::GROUP_ID_MISSING)?;
            Some(ids).filter(|ids| ids.len() <= 100).ok_or(error::GROUP_ID_MISSING)?.into()
        }
    };
    if p.get("SecurityGroupType").is_some_and(|t| !matches!(t, "normal" | "enterprise")) {
        return Err(error::GROUP_TYPE_FILTER.into());
    }
    let tags = common::tags(p)?;
    let wanted = |i: &usize| {
        let (group, id) = (draft.group_at(*i), &draft.names.groups.ids[*i]);
        let is = |name: &str, value: &str| p.get(name).is_none_or(|wanted| wanted == value);
        let by_name = p.get("SecurityGroupName").is_none_or(|wanted| {
            let fuzzy = p.get("FuzzyQuery").is_some_and(|v| v.eq_ignore_ascii_case("true"));
            let name = draft.group_name(*i);
            if fuzzy { name.contains(wanted.trim_matches('*')) } else { name == wanted }
        });
        draft.sees(id)
            && is("SecurityGroupId", id)
            && ids.as_ref().is_none_or(|ids| ids.contains(id))
            && is("VpcId", draft.vpc_of(*i))
            && is("SecurityGroupType", if draft.is_enterprise(*i) { "enterprise" } else { "normal" })
            && is("NetworkType", "vpc")
            && is("ResourceGroupId", group.resource_group_id.as_deref().unwrap_or_default())
            && p.get("ServiceManaged").is_none_or(|v| v.eq_ignore_ascii_case("true") == draft.is_managed(id))
            && by_name
            && common::has_tags(&group.tags, &tags)
    };
    let found = draft.all_groups().filter(wanted).map(|i| (draft.names.groups.ids[i].clone(), i)).collect();
    let mut answer = Map::new();
    // Pages by number are shorter.
    let most = if p.get("MaxResults").is_some() { 100 } else { 50 };
    let sizes = Sizes { default: 10, least: 1, most, clamped: false, numbered: true };
    let found = page(found, true, sizes, p, &mut answer)?;
    common::dry_run(p)?;
    let items: Vec<Value> = found.into_iter().map(|i| item(draft, i, p)).collect();
    answer.insert("RegionId".into(), draft.here.region.as_str().into());
    answer.insert("SecurityGroups".into(), json!({"SecurityGroup": items}));
    Ok(answer)
}

pub fn attribute(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let wanted = match p.get("Direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("all") => None,
        Some(one @ ("ingress" | "egress")) => Some(one.to_owned()),
        Some(_) => return Err(error::DIRECTION.into()),
    };
    if p.get("NicType").is_some_and(|n| !matches!(n, "intranet" | "internet" | "<nil>")) {
        return Err(error::NIC_TYPE.of("NicType"));
    }
    if p.get("Attribute").is_some_and(|a| a != "snapshotPolicyIds") {
        return Err(error::ATTRIBUTE.into());
    }
    let i = draft.group(p.get("SecurityGroupId").ok_or(error::GROUP_ID_MISSING)?).ok_or(error::GROUP_NOT_FOUND)?;
    let rules = super::rules::of(draft, i);
    let sorted = rules.into_iter().filter(|r| wanted.as_ref().is_none_or(|w| r.direction() == *w)).map(|r| {
        // Ingress first, then by priority, then the newest first.
        let direction = if r.direction() == "ingress" { 0 } else { 1 };
        (format!("{direction} {:03} {:020} {}", r.priority(), u64::MAX - r.created, r.id), r)
    });
    let mut answer = Map::new();
    let sizes = Sizes { default: 500, least: 10, most: 1000, clamped: false, numbered: false };
    let rules = page(sorted.collect(), false, sizes, p, &mut answer)?;
    let shown: Vec<Value> =
        rules.into_iter().map(|r| Value::Object(rule::show(draft, r.rule, &r.id, &r.time()))).collect();
    let group = draft.group_at(i);
    let inner = group.inner_access_policy.as_deref().unwrap_or("accept").eq_ignore_ascii_case("accept");
    answer.insert("RegionId".into(), draft.here.region.as_str().into());
    answer.insert("SecurityGroupId".into(), draft.names.groups.ids[i].as_str().into());
    answer.insert("SecurityGroupName".into(), draft.group_name(i).into());
    answer.insert("Description".into(), group.description.as_deref().unwrap_or_default().into());
    answer.insert("VpcId".into(), draft.vpc_of(i).into());
    let inner = if inner && !draft.is_enterprise(i) { "Accept" } else { "Drop" };
    answer.insert("InnerAccessPolicy".into(), inner.into());
    answer.insert("Permissions".into(), json!({"Permission": shown}));
    answer.extend(marks(draft, &draft.names.groups.ids[i]));
    if p.get("Attribute").is_some() {
        answer.insert("SnapshotPolicyIds".into(), json!({"SnapshotPolicyId": []}));
    }
    Ok(answer)
}

pub fn references(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids = p.list("SecurityGroupId").map_err(|_| error::REFERENCES_COUNT)?;
    if ids.is_empty() || ids.len() > 10 {
        return Err(error::REFERENCES_COUNT.into());
    }
    let mut all = Vec::new();
    for id in ids {
        let i = draft.group(id).ok_or(error::GROUP_NOT_FOUND)?;
        let by: Vec<Value> = referencing(draft, i)
            .into_iter()
            .map(|g| json!({"SecurityGroupId": draft.names.groups.ids[g], "AliUid": draft.account_of(g)}))
            .collect();
        if !by.is_empty() {
            let by = json!({"ReferencingSecurityGroup": by});
            all.push(json!({"SecurityGroupId": draft.names.groups.ids[i], "ReferencingSecurityGroups": by}));
        }
    }
    Ok(Map::from_iter([("SecurityGroupReferences".to_owned(), json!({"SecurityGroupReference": all}))]))
}

pub fn modify(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (name, description) = (name(p)?, description(p)?);
    let i = draft.changeable_group(p.get("SecurityGroupId"))?;
    // A group that is only known by what its name makes its id keeps that id.
    let id = draft.names.groups.ids[i].clone();
    let group = draft.group_mut(i);
    if let Some(name) = name {
        group.security_group_id.get_or_insert_with(|| Text::from(id.as_str()));
        group.security_group_name = Some(name);
    }
    if description.is_some() {
        group.description = description;
    }
    Ok(Map::new())
}

pub fn policy(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let policy = p.get("InnerAccessPolicy").map(str::to_ascii_lowercase).unwrap_or_default();
    if !matches!(policy.as_str(), "accept" | "drop") {
        return Err(error::INNER_POLICY.into());
    }
    let i = draft.changeable_group(p.get("SecurityGroupId"))?;
    if draft.is_enterprise(i) {
        return Err(error::INNER_POLICY_ENTERPRISE.into());
    }
    draft.group_mut(i).inner_access_policy = (policy == "drop").then(|| Text::from("drop"));
    Ok(Map::new())
}
