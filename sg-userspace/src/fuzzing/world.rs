//! Policies that hostile packets are judged by, compiled once.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use sg_common::generation::Generation;
use sg_ebpf::conntrack::Clock;

use crate::{
    compiler::{compile, host::HostPolicy},
    dataplane::probe::generation_of,
    document::{Source, parse},
    effective::{Origin, PolicyKey},
    failsafe::Failsafe,
    model::{Direction, Instance, Model},
    reference::FlowQuery,
    validate::{Quotas, validate},
};

/// Hardware address of whoever sends.
pub const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// When packets begin to come; soon the clock wraps.
pub const START: Clock = Clock { now: u32::MAX - 100_000, hz: 250 };

/// Addresses that rules, flows and packets share.
const REMOTE4: [[u8; 4]; 6] =
    [[10, 0, 0, 6], [192, 0, 2, 7], [8, 8, 8, 8], [100, 100, 100, 200], [10, 9, 9, 9], [255, 255, 255, 255]];
const REMOTE6: [&str; 6] = ["2001:db8::6", "2001:db8:1::1", "9000::1", "fe80::1", "ff02::1", "fd00::1"];
const PORTS: [u16; 8] = [22, 25, 53, 67, 68, 443, 546, 40_000];
const PROTOCOLS: [u8; 8] = [6, 6, 17, 1, 58, 2, 47, 132];
const TYPES: [u8; 8] = [8, 0, 128, 129, 135, 136, 3, 134];

const DOCUMENTS: [&str; 4] = [
    "security_groups:
- security_group_name: web
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 1/65535, source_cidr_ip: 192.0.2.0/24, policy: drop}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_prefix_list_id: near}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '2001:db8::/32'}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/443, ipv6_source_cidr_ip: '2001:db8:1::/48'}
  - {direction: egress, ip_protocol: udp, port_range: 53/53, dest_cidr_ip: 8.8.8.8/32, policy: drop}
prefix_lists:
- {prefix_list_name: near, entries: [{cidr: 10.0.0.0/8}, {cidr: 192.0.2.7/32}]}
network_interfaces:
- {device: e, side: host, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [web]}
- {private_ip_addresses: [10.0.0.6, '2001:db8::6'], security_group_ids: [web]}
",
    "security_groups:
- security_group_name: guests
  security_group_type: enterprise
  permissions:
  - {direction: egress, ip_protocol: all, dest_cidr_ip: 0.0.0.0/0}
  - {direction: egress, ip_protocol: tcp, port_range: 443/443, ipv6_dest_cidr_ip: '::/0'}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.0.0.0/8}
network_interfaces:
- {device: e, side: guest, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [guests]}
",
    "security_groups:
- security_group_name: five
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/443, source_port_range: 40000/65535, source_cidr_ip: 0.0.0.0/0, dest_cidr_ip: 10.0.0.5/32}
  - {direction: ingress, ip_protocol: udp, port_range: 1/65535, ipv6_source_cidr_ip: '::/0', ipv6_dest_cidr_ip: '2001:db8::/64', policy: drop}
  - {direction: egress, ip_protocol: tcp, port_range: 1/65535, source_port_range: 22/22, dest_cidr_ip: 0.0.0.0/0, policy: drop}
network_interfaces:
- {device: e, side: host, smtp_egress: open, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [five]}
",
    "security_groups:
- {security_group_name: nothing, security_group_type: enterprise}
network_interfaces:
- {device: e, side: host, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [nothing]}
",
];

/// One policy of one interface.
pub struct World {
    /// The validated document.
    pub model: Model,
    /// Its instances; the first is judged.
    pub instances: Vec<Instance>,
    /// The tables.
    pub policy: HostPolicy,
    /// What counters stand for: counter `i + 1` is origin `i`.
    pub origins: Vec<Origin>,
    /// What the interface enforces.
    pub generation: Generation,
}

fn world(text: &str, failsafe: Option<Failsafe>) -> World {
    let document = parse(&[Source { name: "world".into(), bytes: text.into() }]).expect("a document of ours");
    let mut model = validate(&document, &Quotas::default()).expect("a document of ours");
    model.failsafe = failsafe.map(Arc::new);
    let instances = model.declared_instances();
    let mut origins = Vec::new();
    let key = PolicyKey::of(&model, &instances[0]);
    let tables = compile(&model, &instances, &key, |origin| {
        origins.push(origin);
        origins.len() as u32
    });
    let policy = HostPolicy::new(&tables.expect("it fits"));
    let generation = generation_of(&model, &instances[0], 1);
    World { model, instances, policy, origins, generation }
}

fn failsafe() -> Failsafe {
    let sources = ["192.0.2.0/24", "10.0.0.6/32", "2001:db8:1::/48"].map(|net| net.parse().expect("a prefix"));
    Failsafe { ports: vec![(22, 22), (40_000, 40_001)], sources: sources.into(), devices: Vec::new() }
}

/// All of them.
pub fn worlds() -> &'static [World] {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    WORLDS.get_or_init(|| {
        // The first host has one, so that it stands before rules and members of the same group.
        let mut failsafe = Some(failsafe());
        DOCUMENTS.iter().map(|text| world(text, failsafe.take())).collect()
    })
}

/// A flow's first packet, drawn by numbers.
pub fn query(inbound: bool, v4: bool, what: u8, local: &[IpAddr], remote: u8, ports: u8) -> FlowQuery {
    let own = local.iter().find(|a| a.is_ipv4() == v4).copied();
    let local =
        own.unwrap_or(if v4 { IpAddr::from([10, 0, 0, 5]) } else { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 5]) });
    let index = remote as usize % REMOTE4.len();
    let remote = if v4 { IpAddr::from(REMOTE4[index]) } else { REMOTE6[index].parse().expect("an address") };
    let protocol = PROTOCOLS[what as usize % 8];
    let has_ports = matches!(protocol, 6 | 17);
    let port = |number: u8| if has_ports { PORTS[number as usize % 8] } else { 0 };
    FlowQuery {
        direction: if inbound { Direction::Inbound } else { Direction::Outbound },
        protocol,
        local,
        remote,
        local_port: port(ports),
        remote_port: port(ports >> 4),
        icmp_type: if matches!(protocol, 1 | 2 | 58) { TYPES[ports as usize % 8] } else { 0 },
        icmp_code: 0,
    }
}

/// A handful of flows of an instance.
pub fn queries(instance: &Instance) -> impl Iterator<Item = FlowQuery> {
    let addresses = instance.addresses.clone();
    (0..24u8).map(move |i| query(i & 1 == 0, i & 2 == 0, i / 4, &addresses, i / 3, i.wrapping_mul(37)))
}
