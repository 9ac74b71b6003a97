//! Who is in a group: network interfaces and instances.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::common::{self, Answer, addresses};
use crate::{
    api::{
        draft::{Draft, new_id, vswitch_of},
        error::{self, ApiError, Kind},
        page::{Sizes, page},
        params::Params,
    },
    document::{ConnectionTracking, NetworkInterface, Text},
    validate::parse,
};

/// An instance: what groups need of one.
struct Instance {
    id: String,
    name: String,
    /// Numbers of its interfaces, primary first.
    interfaces: Vec<usize>,
}

/// Instances that documents declare, and those that interfaces name.
fn instances(draft: &Draft<'_>) -> Vec<Instance> {
    let mut all: Vec<Instance> = Vec::new();
    for i in draft.instances() {
        let Some(id) = i.instance_id.as_ref().or(i.instance_name.as_ref()) else { continue };
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
type Owners = HashMap<usize, (String, bool)>;

fn owners(draft: &Draft<'_>) -> Owners {
    let mut owners = Owners::new();
    for instance in instances(draft) {
        for (i, &n) in instance.interfaces.iter().enumerate() {
            owners.entry(n).or_insert_with(|| (instance.id.clone(), i == 0));
        }
    }
    owners
}

fn instance_of(draft: &Draft<'_>, interface: usize) -> Option<(String, bool)> {
    owners(draft).remove(&interface)
}

/// Which errors a way of changing groups has.
struct Says {
    too_many: Kind,
    types: Kind,
    vpcs: Kind,
}

const JOIN: Says = Says { too_many: error::JOIN_TOO_MANY, types: error::JOIN_TYPES, vpcs: error::JOIN_VPC };
const JOIN_INTERFACE: Says =
    Says { too_many: error::JOIN_TOO_MANY, types: error::INTERFACE_TYPES, vpcs: error::JOIN_VPC_INTERFACE };
const INTERFACE: Says =
    Says { too_many: error::GROUPS_OF_INTERFACE, types: error::INTERFACE_TYPES, vpcs: error::JOIN_VPC_INTERFACE };
const INSTANCE: Says =
    Says { too_many: error::GROUPS_OF_INTERFACE, types: error::INSTANCE_TYPES, vpcs: error::INSTANCE_VPCS };

/// Refuses groups that one interface cannot be in together.
fn compatible(draft: &Draft<'_>, groups: &[usize], says: &Says) -> Result<(), ApiError> {
    if groups.len() > draft.here.quotas.groups_per_interface {
        return Err(says.too_many.into());
    }
    let Some((&first, rest)) = groups.split_first() else { return Ok(()) };
    if rest.iter().any(|&g| draft.vpc_of(g) != draft.vpc_of(first)) {
        return Err(says.vpcs.into());
    }
    if rest.iter().any(|&g| draft.is_enterprise(g) != draft.is_enterprise(first)) {
        return Err(says.types.into());
    }
    Ok(())
}

/// Puts an interface in other groups.
///
/// # Errors
/// [`error::MANAGED`]: it would leave a group that is not the caller's to change.
fn put(draft: &mut Draft<'_>, interface: usize, groups: &[usize]) -> Result<(), ApiError> {
    for left in draft.groups_of(interface).into_iter().filter(|g| !groups.contains(g)) {
        draft.not_managed(left)?;
    }
    let ids = groups.iter().map(|&g| Text::from(draft.names.groups.ids[g].as_str())).collect();
    draft.interface_mut(interface).security_group_ids = ids;
    Ok(())
}

/// What Join and Leave are about: an interface, and whether it was named as an instance.
fn target(draft: &Draft<'_>, p: &Params) -> Result<(usize, bool), ApiError> {
    match (p.get("InstanceId"), p.get("NetworkInterfaceId")) {
        (None, Some(id)) => Ok((draft.interface(id).ok_or(error::INTERFACE_NOT_FOUND)?, false)),
        (id, _) => Ok((primary(draft, id.unwrap_or_default())?, true)),
    }
}

/// Whether a text can be an id at all. Documents may call things otherwise, so this
/// is asked of what nothing is called.
fn can_be_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())
}

fn instance_id<'p>(draft: &Draft<'_>, p: &'p Params) -> Result<Option<&'p str>, ApiError> {
    let id = p.get("InstanceId");
    let good = id.is_none_or(|id| can_be_id(id) || instances(draft).iter().any(|i| i.id == id || i.name == id));
    if good { Ok(id) } else { Err(error::INSTANCE_ID.into()) }
}

/// What Join and Leave need of their parameters before anybody looks for what they name.
fn joins(draft: &Draft<'_>, p: &Params) -> Result<(), ApiError> {
    p.get("SecurityGroupId").ok_or(error::GROUP_ID_MISSING)?;
    match (instance_id(draft, p)?, p.get("NetworkInterfaceId")) {
        (Some(_), Some(_)) => Err(error::JOIN_BOTH.into()),
        (None, None) => Err(error::JOIN_WHAT.into()),
        (None, Some(_)) if draft.account.is_some() && p.get("RegionId").is_none() => Err(error::REGION_MISSING.into()),
        (None, Some(id)) if !can_be_id(id) && draft.interface(id).is_none() => {
            Err(error::INTERFACE_ID.of("NetworkInterfaceId"))
        }
        _ => Ok(()),
    }
}

fn primary(draft: &Draft<'_>, id: &str) -> Result<usize, ApiError> {
    let by_name = |i: &Instance| draft.account.is_none() && i.name == id;
    let found = instances(draft).into_iter().find(|i| i.id == id || by_name(i)).ok_or(error::INSTANCE_NOT_FOUND)?;
    found.interfaces.first().copied().ok_or(error::INSTANCE_NOT_FOUND.into())
}

pub fn join(draft: &mut Draft<'_>, p: &Params) -> Answer {
    joins(draft, p)?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let (interface, by_instance) = target(draft, p)?;
    let mut groups = draft.groups_of(interface);
    if groups.contains(&group) {
        return Err(error::ALREADY_MEMBER.into());
    }
    groups.push(group);
    compatible(draft, &groups, if by_instance { &JOIN } else { &JOIN_INTERFACE })?;
    put(draft, interface, &groups)?;
    Ok(Map::new())
}

pub fn leave(draft: &mut Draft<'_>, p: &Params) -> Answer {
    joins(draft, p)?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let (interface, by_instance) = target(draft, p)?;
    let mut groups = draft.groups_of(interface);
    if !groups.contains(&group) {
        return Err(error::NOT_A_MEMBER.into());
    }
    if groups.len() == 1 {
        let kind = if by_instance { error::LAST_GROUP_OF_INSTANCE } else { error::LAST_GROUP_OF_INTERFACE };
        return Err(kind.into());
    }
    groups.retain(|&g| g != group);
    put(draft, interface, &groups)?;
    Ok(Map::new())
}

/// The group ids that a call names, each once.
fn group_ids<'p>(p: &'p Params, field: &str) -> Result<Vec<&'p str>, ApiError> {
    let ids = p.list(field).map_err(|name| error::UNREADABLE.of(&name))?;
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(error::GROUP_ID_TWICE.into());
    }
    Ok(ids)
}

/// The groups of these ids, all of them the caller's to use.
fn named(draft: &Draft<'_>, ids: &[&str]) -> Result<Vec<usize>, ApiError> {
    ids.iter().map(|id| draft.changeable_group(Some(id))).collect()
}

pub fn modify_instance(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids = group_ids(p, "SecurityGroupIds")?;
    let interface = primary(draft, instance_id(draft, p)?.ok_or_else(|| error::NOT_SIGNED.of("InstanceId"))?)?;
    if !ids.is_empty() {
        let groups = named(draft, &ids)?;
        compatible(draft, &groups, &INSTANCE)?;
        put(draft, interface, &groups)?;
    }
    Ok(Map::new())
}

/// Timeouts a call names; `None` where it names none.
fn timeouts(p: &Params) -> Result<Option<Box<ConnectionTracking>>, ApiError> {
    let get = |name: &str, good: &dyn Fn(u32) -> bool| match p.get(&format!("ConnectionTrackingConfiguration.{name}")) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(seconds) if good(seconds) => Ok(Some(Text::from(text))),
            _ => Err(ApiError::from(error::INTERFACE_TIMEOUTS)),
        },
    };
    let established = |s| [30, 60, 80, 100, 200, 300, 500, 700, 910].contains(&s);
    let tracking = ConnectionTracking {
        tcp_established_timeout: get("TcpEstablishedTimeout", &established)?,
        tcp_closed_and_time_wait_timeout: get("TcpClosedAndTimeWaitTimeout", &|s| (3..=15).contains(&s))?,
        udp_timeout: get("UdpTimeout", &|s| [10, 20, 30, 60, 80, 100].contains(&s))?,
        ..ConnectionTracking::default()
    };
    Ok((tracking != ConnectionTracking::default()).then(|| Box::new(tracking)))
}

fn interface_name(p: &Params) -> Result<Option<Text>, ApiError> {
    common::name(p, "NetworkInterfaceName", Kind { code: "InvalidParameter", ..error::UNREADABLE })
}

pub fn modify_interface(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (name, timeouts) = (interface_name(p)?, timeouts(p)?);
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let ids = group_ids(p, "SecurityGroupId")?;
    let id = p.get("NetworkInterfaceId").ok_or_else(|| error::NOT_SIGNED.of("NetworkInterfaceId"))?;
    let i = draft.interface(id).ok_or(error::INTERFACE_NOT_FOUND)?;
    let id = draft.names.interfaces.ids[i].clone();
    if !ids.is_empty() {
        if instance_of(draft, i).is_some_and(|(_, primary)| primary) {
            return Err(error::INTERFACE_PRIMARY.into());
        }
        let groups = named(draft, &ids)?;
        compatible(draft, &groups, &INTERFACE)?;
        put(draft, i, &groups)?;
    }
    let interface = draft.interface_mut(i);
    if let Some(name) = name {
        interface.network_interface_id.get_or_insert_with(|| Text::from(id.as_str()));
        interface.network_interface_name = Some(name);
    }
    if let Some(new) = timeouts {
        let known = interface.connection_tracking_configuration.get_or_insert_default();
        let ConnectionTracking { tcp_established_timeout, tcp_closed_and_time_wait_timeout, udp_timeout, .. } = *new;
        if tcp_established_timeout.is_some() {
            known.tcp_established_timeout = tcp_established_timeout;
        }
        if tcp_closed_and_time_wait_timeout.is_some() {
            known.tcp_closed_and_time_wait_timeout = tcp_closed_and_time_wait_timeout;
        }
        if udp_timeout.is_some() {
            known.udp_timeout = udp_timeout;
        }
    }
    if let Some(description) = description {
        draft.fact_mut(&id).description = Some(description.value);
    }
    Ok(Map::new())
}

pub fn create_interface(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (name, timeouts) = (interface_name(p)?, timeouts(p)?);
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let tags = common::tags(p)?;
    let vswitch = p.get("VSwitchId").ok_or_else(|| error::NOT_SIGNED.of("VSwitchId"))?;
    let listed = group_ids(p, "SecurityGroupIds")?;
    let ids = match (p.get("SecurityGroupId"), listed.is_empty()) {
        (Some(_), false) => return Err(error::INTERFACE_GROUPS_BOTH.into()),
        (Some(one), true) => vec![one],
        (None, false) => listed,
        (None, true) => return Err(error::GROUP_ID_MISSING.into()),
    };
    let mut texts: Vec<(String, &str)> = Vec::new();
    texts.extend(p.get("PrimaryIpAddress").map(|t| ("PrimaryIpAddress".to_owned(), t)));
    for field in ["PrivateIpAddress", "Ipv6Address"] {
        let list = p.list(field).map_err(|name| error::UNREADABLE.of(&name))?;
        texts.extend(list.into_iter().map(|t| (field.to_owned(), t)));
    }
    if texts.is_empty() {
        return Err(error::INTERFACE_ADDRESS.of("PrimaryIpAddress"));
    }
    let mut own = BTreeMap::new();
    for (field, text) in &texts {
        let wrong = || error::INTERFACE_ADDRESS.of(field);
        let address = parse::address(text).map_err(|_| wrong())?;
        if own.insert(address, field).is_some() {
            return Err(wrong());
        }
    }
    let vpc = draft.vpc_of_vswitch(vswitch).ok_or(error::VSWITCH_NOT_FOUND)?.to_owned();
    let groups = named(draft, &ids)?;
    if let Some(field) = draft.all_interfaces().flat_map(|i| addresses(draft, i)).find_map(|a| own.get(&a)) {
        return Err(error::INTERFACE_ADDRESS.of(field));
    }
    compatible(draft, &groups, &INTERFACE)?;
    if groups.iter().any(|&g| draft.vpc_of(g) != vpc) {
        return Err(error::JOIN_VPC_INTERFACE.into());
    }
    common::tag_quota(&tags)?;
    let id = new_id("eni");
    let interface = NetworkInterface {
        network_interface_id: Some(Text::from(id.as_str())),
        network_interface_name: name,
        private_ip_addresses: texts.iter().map(|(_, t)| Text::from(*t)).collect(),
        security_group_ids: groups.iter().map(|&g| Text::from(draft.names.groups.ids[g].as_str())).collect(),
        connection_tracking_configuration: timeouts,
        ..NetworkInterface::default()
    };
    draft.own().network_interfaces.push(interface.clone());
    common::own(draft, &id);
    let fact = draft.fact_mut(&id);
    fact.description = description.map(|t| t.value);
    fact.tags = tags;
    let groups: Vec<&str> = interface.security_group_ids.iter().map(|t| t.value.as_str()).collect();
    let addresses: Vec<std::net::IpAddr> = texts.iter().filter_map(|(_, t)| t.parse().ok()).collect();
    let mut answer = sets(&addresses);
    answer.insert("NetworkInterfaceId".into(), id.into());
    answer.insert("SecurityGroupIds".into(), json!({"SecurityGroupId": groups}));
    answer.insert("Status".into(), "Available".into());
    answer.insert("Type".into(), "Secondary".into());
    answer.insert("VSwitchId".into(), vswitch.into());
    answer.insert("ServiceManaged".into(), false.into());
    Ok(answer)
}

fn status(draft: &Draft<'_>, owners: &Owners, i: usize) -> &'static str {
    let used = draft.interface_at(i).device.is_some() || owners.contains_key(&i);
    if used { "InUse" } else { "Available" }
}

/// Addresses as listings show them.
fn sets(addresses: &[std::net::IpAddr]) -> Map<String, Value> {
    let v4: Vec<String> = addresses.iter().filter(|a| a.is_ipv4()).map(ToString::to_string).collect();
    let v6: Vec<Value> =
        addresses.iter().filter(|a| a.is_ipv6()).map(|a| json!({"Ipv6Address": a.to_string()})).collect();
    let private: Vec<Value> =
        v4.iter().enumerate().map(|(i, a)| json!({"PrivateIpAddress": a, "Primary": i == 0})).collect();
    Map::from_iter([
        ("PrivateIpAddress".to_owned(), v4.first().cloned().unwrap_or_default().into()),
        ("PrivateIpSets".to_owned(), json!({"PrivateIpSet": private})),
        ("Ipv6Sets".to_owned(), json!({"Ipv6Set": v6})),
    ])
}

/// An interface that the caller names and that is nobody's device.
fn loose(draft: &Draft<'_>, p: &Params, attached: bool) -> Result<usize, ApiError> {
    let id = p.get("NetworkInterfaceId").ok_or_else(|| error::NOT_SIGNED.of("NetworkInterfaceId"))?;
    let i = draft.interface(id).ok_or(error::INTERFACE_NOT_FOUND)?;
    let is_attached = draft.interface_at(i).instance_id.is_some();
    if draft.interface_at(i).device.is_some() || is_attached != attached {
        return Err(error::INTERFACE_IN_USE.into());
    }
    Ok(i)
}

pub fn delete_interface(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = loose(draft, p, false)?;
    if instance_of(draft, i).is_some() {
        return Err(error::INTERFACE_IN_USE.into());
    }
    let id = draft.names.interfaces.ids[i].clone();
    draft.remove_interface(i);
    draft.facts.to_mut().objects.remove(&id);
    Ok(Map::new())
}

pub fn attach(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let instance = p.get("InstanceId").ok_or_else(|| error::NOT_SIGNED.of("InstanceId"))?;
    let i = loose(draft, p, false)?;
    if !instances(draft).iter().any(|known| known.id == instance) {
        return Err(error::INSTANCE_NOT_FOUND.into());
    }
    draft.interface_mut(i).instance_id = Some(Text::from(instance));
    Ok(Map::new())
}

pub fn detach(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let i = loose(draft, p, true)?;
    if instance_of(draft, i).is_some_and(|(_, primary)| primary) {
        return Err(error::INTERFACE_IN_USE.into());
    }
    draft.interface_mut(i).instance_id = None;
    Ok(Map::new())
}

fn show(draft: &Draft<'_>, owners: &Owners, i: usize, tracking: bool) -> Value {
    let (interface, id) = (draft.interface_at(i), &draft.names.interfaces.ids[i]);
    let fact = draft.facts.objects.get(id);
    let instance = owners.get(&i).cloned();
    let groups: Vec<String> = draft.groups_of(i).iter().map(|&g| draft.names.groups.ids[g].clone()).collect();
    let vpc = draft.groups_of(i).first().map(|&g| draft.vpc_of(g).to_owned()).unwrap_or_default();
    let tags: Vec<Value> =
        fact.iter().flat_map(|f| &f.tags).map(|(k, v)| json!({"TagKey": k, "TagValue": v})).collect();
    let name = interface.network_interface_name.as_deref().or(interface.device.as_deref()).unwrap_or_default();
    let mut item = sets(&addresses(draft, i));
    let more = json!({
        "NetworkInterfaceId": id,
        "NetworkInterfaceName": name,
        "Description": fact.and_then(|f| f.description.clone()).unwrap_or_default(),
        "Status": status(draft, owners, i),
        "Type": if instance.as_ref().is_some_and(|(_, primary)| *primary) { "Primary" } else { "Secondary" },
        "InstanceId": instance.map(|(id, _)| id).unwrap_or_default(),
        "SecurityGroupIds": {"SecurityGroupId": groups},
        "VpcId": vpc,
        "VSwitchId": vswitch_of(&vpc),
        "ServiceManaged": draft.is_managed(id),
        "CreationTime": draft.created(id),
        "Tags": {"Tag": tags},
    });
    item.extend(more.as_object().cloned().unwrap_or_default());
    if tracking {
        let known = interface.connection_tracking_configuration.as_deref();
        let get = |text: Option<&Text>, other: u64| text.and_then(|t| t.parse().ok()).unwrap_or(other);
        let tracking = json!({
            "TcpEstablishedTimeout": get(known.and_then(|k| k.tcp_established_timeout.as_ref()), 910),
            "TcpClosedAndTimeWaitTimeout": get(known.and_then(|k| k.tcp_closed_and_time_wait_timeout.as_ref()), 3),
            "UdpTimeout": get(known.and_then(|k| k.udp_timeout.as_ref()), 30),
        });
        item.insert("ConnectionTrackingConfiguration".into(), tracking);
    }
    Value::Object(item)
}

pub fn interfaces(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let list = |field: &str| p.list(field).map_err(|name| error::UNREADABLE.of(&name));
    let (ids, v4, v6) = (list("NetworkInterfaceId")?, list("PrivateIpAddress")?, list("Ipv6Address")?);
    let group = p.get("SecurityGroupId").map(|id| draft.group(id));
    let owners = owners(draft);
    let wanted = |i: &usize| {
        let id = draft.names.interfaces.ids[*i].as_str();
        let own = || addresses(draft, *i).iter().map(ToString::to_string).collect::<Vec<_>>();
        draft.sees(id)
            && (ids.is_empty() || ids.contains(&id))
            && group.is_none_or(|g| g.is_some_and(|g| draft.groups_of(*i).contains(&g)))
            && p.get("InstanceId").is_none_or(|w| owners.get(i).is_some_and(|(id, _)| id == w))
            && p.get("Status").is_none_or(|s| s == status(draft, &owners, *i))
            && p.get("ServiceManaged").is_none_or(|v| v.eq_ignore_ascii_case("true") == draft.is_managed(id))
            && [&v4, &v6].iter().all(|list| list.is_empty() || own().iter().any(|a| list.contains(&a.as_str())))
    };
    let found = draft.all_interfaces().filter(wanted).map(|i| (draft.names.interfaces.ids[i].clone(), i)).collect();
    let mut answer = Map::new();
    let sizes = Sizes { default: 10, least: 10, most: 500, clamped: true, numbered: false };
    let items = page(found, true, sizes, p, &mut answer)?;
    // Only those of the page: there may be many thousands.
    let items: Vec<Value> = items.into_iter().map(|i| show(draft, &owners, i, false)).collect();
    answer.insert("NetworkInterfaceSets".into(), json!({"NetworkInterfaceSet": items}));
    Ok(answer)
}

pub fn interface_attribute(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let id = p.get("NetworkInterfaceId").ok_or_else(|| error::NOT_SIGNED.of("NetworkInterfaceId"))?;
    let i = draft.interface(id).ok_or(error::INTERFACE_NOT_FOUND)?;
    let tracking = match p.get("Attribute") {
        None => false,
        Some("connectionTrackingConfiguration") => true,
        Some("attachment") => false,
        Some(_) => return Err(error::ATTRIBUTE.into()),
    };
    Ok(show(draft, &owners(draft), i, tracking).as_object().cloned().unwrap_or_default())
}

pub fn describe_instances(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let ids: Option<Vec<String>> = match p.get("InstanceIds") {
        None => None,
        Some(text) => Some(serde_json::from_str(text).map_err(|_| error::UNREADABLE.of("InstanceIds"))?),
    };
    let group = p.get("SecurityGroupId").map(|id| draft.group(id));
    let groups = |i: &Instance| i.interfaces.first().map(|&n| draft.groups_of(n)).unwrap_or_default();
    let found = instances(draft).into_iter().filter(|i| {
        ids.as_ref().is_none_or(|ids| ids.contains(&i.id))
            && p.get("InstanceName").is_none_or(|n| i.name == n)
            && group.is_none_or(|g| g.is_some_and(|g| groups(i).contains(&g)))
    });
    let item = |i: &Instance| {
        let of = groups(i);
        let ids: Vec<&String> = of.iter().map(|&g| &draft.names.groups.ids[g]).collect();
        let vpc = of.first().map(|&g| draft.vpc_of(g)).unwrap_or_default();
        let interfaces: Vec<Value> = i
            .interfaces
            .iter()
            .enumerate()
            .map(|(k, &n)| {
                let mut shown = sets(&addresses(draft, n));
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
            "Status": "Running",
            "RegionId": draft.here.region,
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
    answer.insert("Instances".into(), json!({"Instance": items}));
    Ok(answer)
}
