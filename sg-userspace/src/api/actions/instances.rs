//! Instances: what groups need of them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    common::{self, Answer, addresses},
    interfaces::{sets, show_labels, vpc_of},
    members::{INSTANCE, can_be_id, compatible, group_ids, named, put},
};
use crate::{
    api::{
        draft::{Draft, vswitch_of},
        error::{self, ApiError},
        page::{Sizes, page},
        params::Params,
    },
    document::Text,
};

/// An instance: what groups need of one.
pub struct Instance {
    pub id: String,
    name: String,
    /// Numbers of its interfaces, primary first.
    pub interfaces: Vec<usize>,
}

/// Instances that documents declare, and those that interfaces name.
pub fn instances(draft: &Draft<'_>) -> Vec<Instance> {
    let mut all: Vec<Instance> = Vec::new();
    for i in draft.instances() {
        let Some(id) = i.key() else { continue };
        let find = |t: &Text| draft.names.interfaces.with_id(t).or_else(|| draft.names.interfaces.named(t));
        let interfaces = i.network_interface_ids.iter().filter_map(find).collect();
        let name = i.instance_name.as_deref().unwrap_or_default().to_owned();
        all.push(Instance { id: id.value.clone(), name, interfaces });
    }
    for n in draft.all_interfaces() {
        let Some(id) = draft.interface_at(n).instance_id.as_deref() else { continue };
        match all.iter_mut().find(|i| i.id == id) {
            Some(known) if known.interfaces.contains(&n) => {}
            Some(known) => known.interfaces.push(n),
            None => all.push(Instance { id: id.to_owned(), name: String::new(), interfaces: vec![n] }),
        }
    }
    // One without interfaces is whose it is said to be; as everything, the default account's.
    let own = |i: &Instance| match i.interfaces.as_slice() {
        [] => draft.sees(&i.id),
        some => some.iter().all(|&n| draft.sees(&draft.names.interfaces.ids[n])),
    };
    all.retain(own);
    all
}

/// Ids of the instances that the caller sees.
pub fn instance_ids(draft: &Draft<'_>) -> Vec<String> {
    instances(draft).into_iter().map(|i| i.id).collect()
}

/// The instance that each interface belongs to, and whether it is its primary one.
pub type Owners = HashMap<usize, (String, bool)>;

pub fn owners(draft: &Draft<'_>) -> Owners {
    let mut owners = Owners::new();
    for instance in instances(draft) {
        for (i, &n) in instance.interfaces.iter().enumerate() {
            owners.entry(n).or_insert_with(|| (instance.id.clone(), i == 0));
        }
    }
    owners
}

pub fn instance_of(draft: &Draft<'_>, interface: usize) -> Option<(String, bool)> {
    owners(draft).remove(&interface)
}

pub fn instance_id<'p>(draft: &Draft<'_>, p: &'p Params) -> Result<Option<&'p str>, ApiError> {
    let id = p.get("InstanceId");
    let good = id.is_none_or(|id| can_be_id(id) || instances(draft).iter().any(|i| i.id == id || i.name == id));
    if good { Ok(id) } else { Err(error::INSTANCE_ID.into()) }
}

pub fn primary(draft: &Draft<'_>, id: &str) -> Result<usize, ApiError> {
    let by_name = |i: &Instance| draft.account.is_none() && i.name == id;
    let found = instances(draft).into_iter().find(|i| i.id == id || by_name(i)).ok_or(error::INSTANCE_NOT_FOUND)?;
    found.interfaces.first().copied().ok_or(error::INSTANCE_NOT_FOUND.into())
}

/// What else the cloud lets one change of an instance. Of one that is named by a document, or is this
/// host, it cannot be changed by a call: done silently, it would be taken for done.
const NOT_CHANGED: &[&str] = &[
    "InstanceName",
    "Description",
    "HostName",
    "Password",
    "UserData",
    "DeletionProtection",
    "CreditSpecification",
    "Recyclable",
    "NetworkInterfaceQueueNumber",
    "EnableJumboFrame",
    "RemoteConnectionOptions",
    "CpuOptions",
    "PrivateDnsNameOptions",
];

pub fn modify(draft: &mut Draft<'_>, p: &Params) -> Answer {
    if let Some(field) = NOT_CHANGED.iter().find(|field| p.has(field)) {
        return Err(error::UNREADABLE.of(field).and("Only SecurityGroupIds of an instance can be changed here."));
    }
    let ids = group_ids(p, "SecurityGroupIds")?;
    let interface = primary(draft, instance_id(draft, p)?.ok_or_else(|| error::NOT_SIGNED.of("InstanceId"))?)?;
    if !ids.is_empty() {
        let groups = named(draft, &ids)?;
        compatible(draft, &groups, draft.groups_of(interface).len(), &INSTANCE)?;
        put(draft, interface, &groups)?;
    }
    Ok(Map::new())
}

/// Every instance that is known is.
const RUNNING: &str = "Running";

/// Filters for what no instance here has.
const NONE_HAS: &[&str] = &[
    "ImageId",
    "InstanceType",
    "InstanceTypeFamily",
    "KeyPairName",
    "HpcClusterId",
    "InnerIpAddresses",
    "PublicIpAddresses",
    "EipAddresses",
    "RdmaIpAddresses",
    "LockReason",
];

/// A list in one parameter, as JSON: a hundred at most.
fn listed(p: &Params, field: &str) -> Result<Option<Vec<String>>, ApiError> {
    let wrong = || error::UNREADABLE.of(field);
    let Some(text) = p.get(field) else { return Ok(None) };
    let list: Vec<String> = serde_json::from_str(text).map_err(|_| wrong())?;
    if list.len() > 100 { Err(wrong()) } else { Ok(Some(list)) }
}

pub fn list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (ids, private) = (listed(p, "InstanceIds")?, listed(p, "PrivateIpAddresses")?);
    let (v6, tags) = (common::ids(p, "Ipv6Address")?, common::tags(p)?);
    let group = p.get("SecurityGroupId").map(|id| draft.group(id));
    let groups = |i: &Instance| i.interfaces.first().map(|&n| draft.groups_of(n)).unwrap_or_default();
    let vpc = |i: &Instance| i.interfaces.first().map(|&n| vpc_of(draft, n)).unwrap_or_default();
    let own = |i: &Instance| {
        let all: Vec<String> = i.interfaces.iter().flat_map(|&n| addresses(draft, n)).map(|a| a.to_string()).collect();
        all.into_iter()
    };
    let found = instances(draft).into_iter().filter(|i| {
        ids.as_ref().is_none_or(|ids| ids.contains(&i.id))
            && p.get("InstanceName").is_none_or(|n| common::called(&i.name, n))
            && common::is(p, "Status", RUNNING)
            && common::is(p, "InstanceNetworkType", "vpc")
            && common::is(p, "VpcId", vpc(i))
            && common::is(p, "VSwitchId", &vswitch_of(vpc(i)))
            && common::is(p, "ZoneId", &draft.here.region)
            && common::is(p, "ResourceGroupId", draft.resource_group(&i.id))
            && (tags.is_empty() || common::has_labels(&draft.tags(&i.id), &tags))
            && private.as_ref().is_none_or(|wanted| own(i).any(|a| wanted.contains(&a)))
            && (v6.is_empty() || own(i).any(|a| v6.contains(&a.as_str())))
            && NONE_HAS.iter().all(|filter| p.get(filter).is_none())
            && group.is_none_or(|g| g.is_some_and(|g| groups(i).contains(&g)))
    });
    let item = |i: &Instance| {
        let of = groups(i);
        let ids: Vec<&String> = of.iter().map(|&g| &draft.names.groups.ids[g]).collect();
        let vpc = vpc(i);
        let interfaces: Vec<Value> = i
            .interfaces
            .iter()
            .enumerate()
            .map(|(k, &n)| {
                let mut shown = sets(&addresses(draft, n));
                let primary = shown.get("PrivateIpAddress").cloned().unwrap_or_default();
                shown.insert("PrimaryIpAddress".into(), primary);
                shown.insert("NetworkInterfaceId".into(), draft.names.interfaces.ids[n].as_str().into());
                shown.insert("Type".into(), if k == 0 { "Primary" } else { "Secondary" }.into());
                Value::Object(shown)
            })
            .collect();
        let private: Vec<String> = i
            .interfaces
            .first()
            .map(|&n| addresses(draft, n).iter().filter(|a| a.is_ipv4()).map(ToString::to_string).collect())
            .unwrap_or_default();
        json!({
            "InstanceId": i.id,
            "InstanceName": i.name,
            "Status": RUNNING,
            "RegionId": draft.here.region,
            "ZoneId": draft.here.region,
            "CreationTime": draft.created(&i.id),
            "ResourceGroupId": draft.resource_group(&i.id),
            "Tags": {"Tag": show_labels(&draft.tags(&i.id))},
            "InstanceNetworkType": "vpc",
            "SecurityGroupIds": {"SecurityGroupId": ids},
            "NetworkInterfaces": {"NetworkInterface": interfaces},
            "VpcAttributes": {"VpcId": vpc, "VSwitchId": vswitch_of(vpc), "PrivateIpAddress": {"IpAddress": private}},
        })
    };
    let items = found.map(|i| (i.id.clone(), item(&i))).collect();
    let mut answer = Map::new();
    let items =
        page(items, true, Sizes { default: 10, least: 1, most: 100, clamped: true, numbered: true }, p, &mut answer)?;
    common::dry_run(p)?;
    answer.insert("Instances".into(), json!({"Instance": items}));
    Ok(answer)
}
