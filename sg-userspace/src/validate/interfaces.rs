//! Interfaces, instances, and what counts per interface and per group.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use sg_common::limits;

use super::{
    Quotas,
    names::{DEFAULT_VPC, Names},
    parse::{address, number, read, word},
    usage,
};
use crate::{
    document::{At, ConnectionTracking, Document, NetworkInterface, Problems, Text, problem::Limit},
    model::{GroupType, Hook, Interface, Model, Side},
};

const TCP_TIMEOUTS: &[u32] = &[30, 60, 80, 100, 200, 300, 500, 700, 910];
const UDP_TIMEOUTS: &[u32] = &[10, 20, 30, 60, 80, 100];

/// What only one interface may have, and where it was first seen.
#[derive(Debug, Default)]
pub struct Taken {
    devices: HashMap<String, At>,
    addresses: HashMap<IpAddr, At>,
}

impl Taken {
    /// Takes what a good interface has.
    pub fn take(&mut self, written: &NetworkInterface, interface: &Interface) {
        self.devices.extend(written.device.iter().map(|t| (t.value.clone(), t.at.clone())));
        let places = written.private_ip_addresses.iter().map(|t| t.at.clone());
        self.addresses.extend(interface.addresses.iter().copied().zip(places));
    }
}

/// All interfaces.
pub fn interfaces(document: &Document, names: &Names, quotas: &Quotas, problems: &mut Problems) -> Vec<Arc<Interface>> {
    let mut taken = Taken::default();
    let all = 0..document.network_interfaces.len();
    all.map(|i| Arc::new(interface(document, i, &mut taken, names, quotas, problems))).collect()
}

/// One of them; `taken` is what others have.
pub fn interface(
    document: &Document,
    i: usize,
    taken: &mut Taken,
    names: &Names,
    quotas: &Quotas,
    problems: &mut Problems,
) -> Interface {
    let written = &document.network_interfaces[i];
    let path = format!("network_interfaces[{i}]");
    if let Some(device) = &written.device {
        device_name(device, &format!("{path}.device"), problems);
        if let Some(first) = taken.devices.insert(device.value.clone(), device.at.clone()) {
            let message = format!("the device {:?} is already bound at {first}", device.value);
            problems.add(&device.at, &format!("{path}.device"), message, Some("merge the two entries".into()));
        }
    }
    let side = choice(&written.side, &path, "side", &[("host", Side::Host), ("guest", Side::Guest)], problems);
    let hook =
        choice(&written.hook, &path, "hook", &[("auto", Hook::Auto), ("xdp", Hook::Xdp), ("tc", Hook::Tc)], problems);
    let side = side.unwrap_or(Side::Host);
    if let (Some(Hook::Xdp), Side::Guest, Some(t)) = (hook, side, &written.hook) {
        let message = "xdp sees only what a guest sends; it is for the host side";
        problems.add(&t.at, &format!("{path}.hook"), message, Some("leave hook out, or write tc".into()));
    }
    let own = own_addresses(written, &path, &mut taken.addresses, problems);
    let groups = groups(document, written, names, quotas, (&names.interfaces.ids[i], &path), problems);
    let tracking = timeouts(written.connection_tracking_configuration.as_deref(), &path, problems);
    let smtp = choice(&written.smtp_egress, &path, "smtp_egress", &[("blocked", false), ("open", true)], problems);
    let check = choice(&written.source_check, &path, "source_check", &[("on", true), ("off", false)], problems);
    Interface {
        device: written.device.as_ref().map(|t| t.value.clone()),
        side,
        id: names.interfaces.ids[i].clone(),
        name: names.interfaces.names[i].clone(),
        addresses: own,
        groups,
        tcp_established: tracking.0,
        tcp_closed: tracking.1,
        udp: tracking.2,
        hook: hook.unwrap_or(Hook::Auto),
        smtp_open: smtp.unwrap_or(false),
        source_check: check.unwrap_or(true),
    }
}

fn choice<T: Copy>(
    text: &Option<Text>,
    path: &str,
    name: &str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    read(text.as_ref()?, &format!("{path}.{name}"), problems, |t| word(words, t))
}

fn device_name(device: &Text, path: &str, problems: &mut Problems) {
    let legal = device.len() <= 15 && device.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':'));
    if !legal || matches!(device.value.as_str(), "." | "..") {
        let message = format!("{:?} is not a device name (at most 15 characters, no space, / or :)", device.value);
        problems.add(&device.at, path, message, None);
    } else if device.value == "lo" {
        problems.add(&device.at, path, "the loopback device is never protected", Some("remove this entry".into()));
    } else if device.chars().all(|c| matches!(c, '*' | '?')) {
        problems.add(&device.at, path, "a pattern of every device", Some("name a prefix, such as tap*".into()));
    }
}

fn own_addresses(
    written: &NetworkInterface,
    path: &str,
    taken: &mut HashMap<IpAddr, At>,
    problems: &mut Problems,
) -> Vec<IpAddr> {
    let mut own = Vec::new();
    for (j, text) in written.private_ip_addresses.iter().enumerate() {
        let path = format!("{path}.private_ip_addresses[{j}]");
        let Some(ip) = read(text, &path, problems, address) else { continue };
        if let Some(first) = taken.insert(ip, text.at.clone()) {
            problems.add(&text.at, &path, format!("{ip} already belongs to the interface at {first}"), None);
        }
        own.push(ip);
    }
    if written.device.is_none() && written.private_ip_addresses.is_empty() {
        let message = "an interface needs a device, or private_ip_addresses if it lives elsewhere";
        problems.add(&written.at.0, path, message, None);
    }
    let glob = written.device.as_ref().is_some_and(|d| d.contains(['*', '?', '[']));
    if glob && !written.private_ip_addresses.is_empty() {
        let message = "a pattern stands for several devices, which can not share addresses";
        problems.add(&written.at.0, path, message, Some("name each device".into()));
    }
    own
}

fn groups(
    document: &Document,
    written: &NetworkInterface,
    names: &Names,
    quotas: &Quotas,
    (id, path): (&str, &str),
    problems: &mut Problems,
) -> Vec<usize> {
    let path = format!("{path}.security_group_ids");
    let mut groups: Vec<usize> = Vec::new();
    for (j, text) in written.security_group_ids.iter().enumerate() {
        let path = format!("{path}[{j}]");
        let Some(i) = names.groups.resolve(text, &path, problems) else { continue };
        let group = &document.security_groups[i];
        if groups.contains(&i) {
            problems.add(&text.at, &path, format!("the group {:?} stands here twice", text.value), None);
            continue;
        }
        if let Some(&first) = groups.first() {
            let first = &document.security_groups[first];
            let kind =
                |g: &crate::document::Group| g.security_group_type.as_deref().unwrap_or("normal").to_ascii_lowercase();
            if kind(first) != kind(group) {
                let message = format!("{:?} is {}, the first group is {}", text.value, kind(group), kind(first));
                let help = Some("all groups of an interface are of one type".into());
                problems.add(&text.at, &path, message, help);
            }
            let vpc = |g: &crate::document::Group| g.vpc_id.as_deref().unwrap_or(DEFAULT_VPC).to_owned();
            if vpc(first) != vpc(group) {
                let message = format!("{:?} is in {}, the first group in {}", text.value, vpc(group), vpc(first));
                problems.add(&text.at, &path, message, Some("all groups of an interface are in one VPC".into()));
            }
        }
        groups.push(i);
    }
    let count = written.security_group_ids.len();
    let limit = quotas.groups_per_interface;
    if count == 0 {
        problems.add(&written.at.0, &path, "an interface needs at least one security group", None);
    } else if count > limit {
        let at = &written.security_group_ids[limit].at;
        problems.add(at, &path, format!("{count} groups, the limit is {limit}"), Some("merge groups".into()));
        problems.passes(Limit::GroupsPerInterface, id, count);
    }
    groups
}

/// Established, closed, UDP.
fn timeouts(written: Option<&ConnectionTracking>, path: &str, problems: &mut Problems) -> (u16, u8, u16) {
    let default = (limits::TIMEOUT_TCP, limits::TIMEOUT_TCP_CLOSED as u8, limits::TIMEOUT_UDP);
    let Some(written) = written else { return default };
    let path = format!("{path}.connection_tracking_configuration");
    let mut one_of = |text: &Option<Text>, name: &str, values: &[u32]| {
        read(text.as_ref()?, &format!("{path}.{name}"), problems, |t| {
            number(t, 0, 65_535).ok().filter(|n| values.contains(n)).ok_or_else(|| {
                let values: Vec<_> = values.iter().map(u32::to_string).collect();
                format!("{t:?} is not one of: {} (seconds)", values.join(", "))
            })
        })
    };
    let closed: Vec<u32> = (3..=15).collect();
    let tcp = one_of(&written.tcp_established_timeout, "tcp_established_timeout", TCP_TIMEOUTS);
    let wait = one_of(&written.tcp_closed_and_time_wait_timeout, "tcp_closed_and_time_wait_timeout", &closed);
    let udp = one_of(&written.udp_timeout, "udp_timeout", UDP_TIMEOUTS);
    (tcp.map_or(default.0, |n| n as u16), wait.map_or(default.1, |n| n as u8), udp.map_or(default.2, |n| n as u16))
}

/// Instances: their interfaces exist, and belong to one instance only.
pub fn instances(document: &Document, names: &Names, problems: &mut Problems) {
    let mut ids = HashSet::new();
    let mut owner: HashMap<usize, &str> = HashMap::new();
    for (i, instance) in document.instances.iter().enumerate() {
        let path = format!("instances[{i}]");
        let Some(id) = instance.key() else {
            problems.add(&instance.at.0, &path, "an instance needs an id or a name", None);
            continue;
        };
        if !ids.insert(&id.value) {
            problems.add(&id.at, &path, format!("the instance {:?} is defined twice", id.value), None);
        }
        for (j, text) in instance.network_interface_ids.iter().enumerate() {
            let path = format!("{path}.network_interface_ids[{j}]");
            let Some(n) = names.interfaces.resolve(text, &path, problems) else { continue };
            if let Some(other) = owner.insert(n, id) {
                problems.add(&text.at, &path, format!("{:?} already belongs to {other:?}", text.value), None);
            }
        }
    }
}

/// Groups that name each prefix list.
fn list_groups(document: &Document, model: &Model, quotas: &Quotas, problems: &mut Problems) {
    let limit = quotas.groups_per_prefix_list;
    for (i, count) in usage::list_groups(model).into_iter().enumerate().filter(|(_, count)| *count > limit) {
        let message = format!(
            "rules of {count} groups name this list, the limit is {limit} (groups_per_prefix_list in [quotas] of sgd.toml)"
        );
        problems.add(&document.prefix_lists[i].at.0, &format!("prefix_lists[{i}]"), message, None);
        problems.passes(Limit::ListGroups, &model.prefix_lists[i].id, count);
    }
}

/// Quotas that need the whole model.
pub fn quotas(document: &Document, model: &Model, quotas: &Quotas, problems: &mut Problems) {
    let limit = quotas.rules_per_interface;
    for (i, total) in usage::rules(model).into_iter().enumerate().filter(|(_, total)| *total > limit) {
        let message =
            format!("{total} rules apply here (lists count their max_entries), the limit is {limit} per interface");
        let (at, path) = (&document.network_interfaces[i].at.0, format!("network_interfaces[{i}]"));
        problems.add(at, &path, message, Some("use fewer groups or rules".into()));
        problems.passes(Limit::RulesPerInterface, &model.interfaces[i].id, total);
    }
    list_groups(document, model, quotas, problems);
    // Addresses and interfaces of each group.
    for (g, (group, count)) in model.groups.iter().zip(usage::members(model)).enumerate() {
        let (limit, what, kind) = match group.kind {
            GroupType::Normal => (quotas.addresses_per_normal_group, "addresses", Limit::Addresses),
            GroupType::Enterprise => (quotas.interfaces_per_enterprise_group, "interfaces", Limit::Interfaces),
        };
        if count > limit {
            let message = format!("{count} member {what}, the limit is {limit}");
            problems.add(&document.security_groups[g].at.0, &format!("security_groups[{g}]"), message, None);
            problems.passes(kind, &group.id, count);
        }
    }
}
