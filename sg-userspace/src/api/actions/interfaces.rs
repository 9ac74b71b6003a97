//! Network interfaces: those of this host, and members that live elsewhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    common::{self, Answer, addresses},
    instances::{Owners, instance_of, instances, owners},
    members::{INTERFACE, compatible, group_ids, named, put},
};
use crate::{
    api::{
        draft::{Draft, new_id, time, vswitch_of},
        error::{self, ApiError, Kind},
        page::{Sizes, page},
        params::Params,
    },
    document::{ConnectionTracking, NetworkInterface, Text},
    validate::parse,
};

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

pub fn modify(draft: &mut Draft<'_>, p: &Params) -> Answer {
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
        compatible(draft, &groups, draft.groups_of(i).len(), &INTERFACE)?;
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

/// Refuses what would give out addresses: here whoever makes an interface names them.
fn given_out(p: &Params) -> Result<(), ApiError> {
    let counts = ["SecondaryPrivateIpAddressCount", "Ipv6AddressCount", "Ipv4PrefixCount", "Ipv6PrefixCount"];
    let count = counts.into_iter().find(|f| p.get(f).is_some_and(|n| n != "0"));
    let prefix = ["Ipv4Prefix", "Ipv6Prefix"].into_iter().find(|f| p.has(f));
    match count.or(prefix) {
        None => Ok(()),
        Some(field) => Err(error::INTERFACE_ADDRESS.of(field).and("No addresses are given out here: name each.")),
    }
}

pub fn create(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let (name, timeouts) = (interface_name(p)?, timeouts(p)?);
    let description = common::description(p, "Description", error::GROUP_DESCRIPTION)?;
    let (tags, resource_group) = (common::tags(p)?, common::resource_group(p)?);
    given_out(p)?;
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
    compatible(draft, &groups, 0, &INTERFACE)?;
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
    (fact.tags, fact.resource_group) = (tags, resource_group);
    let (created, shown) = (fact.created, fact.clone());
    let groups: Vec<&str> = interface.security_group_ids.iter().map(|t| t.value.as_str()).collect();
    let addresses: Vec<std::net::IpAddr> = texts.iter().filter_map(|(_, t)| t.parse().ok()).collect();
    let mut answer = sets(&addresses);
    answer.insert("NetworkInterfaceId".into(), id.into());
    answer.insert("SecurityGroupIds".into(), json!({"SecurityGroupId": groups}));
    answer.insert("Status".into(), "Available".into());
    answer.insert("Type".into(), "Secondary".into());
    answer.insert("VSwitchId".into(), vswitch.into());
    answer.insert("ServiceManaged".into(), false.into());
    answer
        .insert("NetworkInterfaceName".into(), interface.network_interface_name.as_deref().unwrap_or_default().into());
    answer.insert("Description".into(), shown.description.unwrap_or_default().into());
    answer.insert("ResourceGroupId".into(), shown.resource_group.unwrap_or_default().into());
    answer.insert("Tags".into(), json!({"Tag": show_labels(&shown.tags)}));
    answer.insert("VpcId".into(), vpc.into());
    answer.insert("ZoneId".into(), draft.here.region.as_str().into());
    answer.insert("CreationTime".into(), time(created).into());
    Ok(answer)
}

pub fn show_labels(tags: &BTreeMap<String, String>) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect()
}

fn status(draft: &Draft<'_>, owners: &Owners, i: usize) -> &'static str {
    let used = draft.interface_at(i).device.is_some() || owners.contains_key(&i);
    if used { "InUse" } else { "Available" }
}

fn kind(owners: &Owners, i: usize) -> &'static str {
    if owners.get(&i).is_some_and(|(_, primary)| *primary) { "Primary" } else { "Secondary" }
}

/// What an interface is called: its name, or else its device's.
fn name_of(interface: &NetworkInterface) -> &str {
    interface.network_interface_name.as_deref().or(interface.device.as_deref()).unwrap_or_default()
}

/// The VPC of an interface: that of its groups.
pub fn vpc_of<'d>(draft: &'d Draft<'_>, i: usize) -> &'d str {
    draft.groups_of(i).first().map(|&g| draft.vpc_of(g)).unwrap_or_default()
}

/// Addresses as listings show them.
pub fn sets(addresses: &[std::net::IpAddr]) -> Map<String, Value> {
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

pub fn delete(draft: &mut Draft<'_>, p: &Params) -> Answer {
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
    let known = instances(draft).into_iter().find(|known| known.id == instance).ok_or(error::INSTANCE_NOT_FOUND)?;
    // An instance is where its primary interface is; one without interfaces is nowhere yet.
    if let Some(&primary) = known.interfaces.first() {
        let (own, its) = (vpc_of(draft, i), vpc_of(draft, primary));
        if own != its {
            return Err(
                error::ATTACH_VPC.because(&format!("The instance is in {its}, the network interface in {own}."))
            );
        }
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
    let vpc = vpc_of(draft, i);
    let tags = fact.map(|f| show_labels(&f.tags)).unwrap_or_default();
    let name = name_of(interface);
    let mut item = sets(&addresses(draft, i));
    let more = json!({
        "NetworkInterfaceId": id,
        "NetworkInterfaceName": name,
        "Description": fact.and_then(|f| f.description.clone()).unwrap_or_default(),
        "Status": status(draft, owners, i),
        "Type": kind(owners, i),
        "InstanceId": instance.as_ref().map(|(id, _)| id.as_str()).unwrap_or_default(),
        "OwnerId": draft.account_of_id(id),
        "ResourceGroupId": draft.resource_group(id),
        "ZoneId": draft.here.region,
        "DeleteOnRelease": false,
        "SecurityGroupIds": {"SecurityGroupId": groups},
        "VpcId": vpc,
        "VSwitchId": vswitch_of(vpc),
        "ServiceManaged": draft.is_managed(id),
        "CreationTime": draft.created(id),
        "Tags": {"Tag": tags},
    });
    item.extend(more.as_object().cloned().unwrap_or_default());
    if let Some((instance, _)) = &instance {
        item.insert("Attachment".into(), json!({"InstanceId": instance, "TrunkNetworkInterfaceId": ""}));
    }
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

/// The first IPv4 address of an interface.
fn primary_address(draft: &Draft<'_>, i: usize) -> Option<String> {
    addresses(draft, i).iter().find(|a| a.is_ipv4()).map(ToString::to_string)
}

pub fn list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let texts = |field: &str| p.list(field).map_err(|name| error::UNREADABLE.of(&name));
    let (ids, v4, v6) = (common::ids(p, "NetworkInterfaceId")?, texts("PrivateIpAddress")?, texts("Ipv6Address")?);
    let tags = common::tags(p)?;
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
            && common::is(p, "NetworkInterfaceName", name_of(draft.interface_at(*i)))
            && common::is(p, "Type", kind(&owners, *i))
            && common::is(p, "VpcId", vpc_of(draft, *i))
            && common::is(p, "VSwitchId", &vswitch_of(vpc_of(draft, *i)))
            && common::is(p, "ResourceGroupId", draft.resource_group(id))
            && (tags.is_empty() || common::has_labels(&draft.tags(id), &tags))
            && p.get("PrimaryIpAddress").is_none_or(|w| primary_address(draft, *i).is_some_and(|a| a == w))
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

pub fn attribute(draft: &mut Draft<'_>, p: &Params) -> Answer {
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
