//! Random documents and flows, from a seed, so that a failure can be repeated.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod frames;
pub mod host;
pub mod kernel;
pub mod pcap;
pub mod pins;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use sg_userspace::{
    document::{Document, Source, parse},
    failsafe::Failsafe,
    model::{Direction, Instance, Model, Object, Ports, Rule},
    reference::FlowQuery,
    validate::{Quotas, validate},
};

/// How often the large tests run; `cargo xtask soak` sets ten.
pub fn scale() -> u64 {
    std::env::var("SG_SOAK").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
}

/// How many of something: so many in a usual run, and by `cargo xtask soak` so many.
pub fn many(usual: u64, soak: u64) -> u64 {
    match scale() {
        1 => usual,
        scale => usual.max(soak * scale / 10),
    }
}

/// xorshift64*: small, seeded, good enough to draw test cases.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const V4: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.5/32",
    "10.0.1.0/25",
    "192.0.2.0/24",
    "192.0.2.7",
    "203.0.113.64/26",
    "198.51.100.0/23",
    "100.64.0.0/10",
    "128.0.0.0/1",
    "10.0.0.4/30",
];
const V6: &[&str] =
    &["::/0", "2001:db8::/32", "2001:db8::/64", "2001:db8::5", "fd00::/8", "2001:db8:1::/48", "8000::/1"];
const ADDR4: &[&str] = &[
    "10.0.0.5",
    "10.0.0.6",
    "10.0.0.7",
    "10.0.1.1",
    "10.0.1.200",
    "10.9.9.9",
    "192.0.2.7",
    "192.0.2.8",
    "203.0.113.65",
    "198.51.101.1",
    "8.8.8.8",
    "100.100.100.200",
    "127.0.0.1",
    "172.16.3.4",
    "255.255.255.255",
    "1.1.1.1",
    "0.0.0.0",
];
const ADDR6: &[&str] = &[
    "2001:db8::5",
    "2001:db8::6",
    "2001:db8::7",
    "2001:db8:1::1",
    "fd00::1",
    "fe80::1",
    "ff02::1",
    "9000::1",
    "::",
    "2001:db9::1",
];
const PORTS: &[u16] =
    &[1, 21, 22, 25, 53, 67, 68, 80, 100, 443, 546, 547, 1023, 1024, 8080, 32767, 40000, 65534, 65535];

fn range(r: &mut Random) -> String {
    let a = PORTS[r.below(PORTS.len())];
    let b = if r.chance(50) { a } else { PORTS[r.below(PORTS.len())] };
    format!("{}/{}", a.min(b), a.max(b))
}

/// A random document as YAML.
pub fn document(r: &mut Random) -> String {
    use std::fmt::Write;
    let groups = 1 + r.below(5);
    let kinds: Vec<bool> = (0..groups).map(|_| r.chance(25)).collect();
    let mut text = String::from("security_groups:\n");
    for (g, &enterprise) in kinds.iter().enumerate() {
        let _ = writeln!(text, "- security_group_name: g{g}");
        if enterprise {
            let _ = writeln!(text, "  security_group_type: enterprise");
        } else if r.chance(40) {
            let _ = writeln!(text, "  inner_access_policy: drop");
        }
        let _ = writeln!(text, "  permissions:");
        let rules = if r.chance(10) { 60 } else { r.below(9) };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..rules {
            let rule = rule(r, g, &kinds);
            if seen.insert(rule.clone()) {
                let _ = writeln!(text, "  - {{{rule}}}");
            }
        }
    }
    let _ = writeln!(
        text,
        "prefix_lists:\n- {{prefix_list_name: p4, entries: [{{cidr: 10.0.0.0/29}}, {{cidr: 203.0.113.0/24}}, {{cidr: 198.51.100.7/32}}]}}\n\
         - {{prefix_list_name: p6, address_family: IPv6, entries: [{{cidr: '2001:db8:1::/64'}}, {{cidr: 'fd00::/16'}}]}}\n\
         - {{prefix_list_name: none, max_entries: 3}}\n\
         port_range_lists:\n- {{port_range_list_name: ports, entries: [{{port_range: 80/80}}, {{port_range: 443/8080}}, {{port_range: 1000/2000}}]}}\n\
         network_interfaces:"
    );
    for i in 0..4 {
        let kind = kinds[r.below(groups)];
        let mut ids: Vec<String> =
            (0..groups).filter(|&g| kinds[g] == kind && r.chance(60)).map(|g| format!("g{g}")).collect();
        if ids.is_empty() {
            ids.push(format!("g{}", kinds.iter().position(|k| *k == kind).unwrap()));
        }
        let side = if r.chance(50) { "host" } else { "guest" };
        let check = if r.chance(25) { ", source_check: off" } else { "" };
        let smtp = if r.chance(25) { ", smtp_egress: open" } else { "" };
        let addresses = format!("[10.0.0.{}, '2001:db8::{}']", i + 5, i + 5);
        let addresses = if r.chance(15) { "[]" } else { &addresses };
        let _ = writeln!(
            text,
            "- {{device: eth{i}, side: {side}, private_ip_addresses: {addresses}, security_group_ids: [{}]{check}{smtp}}}",
            ids.join(", ")
        );
    }
    text
}

/// Members so scattered that neither table nor list holds them: address `i` of both families.
pub fn scattered(i: usize) -> [IpAddr; 2] {
    let i = i as u32;
    [
        IpAddr::V4(((172 << 24 | 16 << 16) + (i << 8) + 9).into()),
        IpAddr::V6(((0x2001_0db8_u128 << 96) + (u128::from(i) << 64) + 9).into()),
    ]
}

/// How many of them.
pub const SCATTERED: usize = 1100;

/// The same document with scattered members in its first group.
pub fn with_scattered(mut text: String) -> String {
    use std::fmt::Write;
    for i in 0..SCATTERED {
        let [v4, v6] = scattered(i);
        let _ = writeln!(text, "- {{private_ip_addresses: [{v4}, '{v6}'], security_group_ids: [g0]}}");
    }
    text
}

/// The same document with a member of each group that lives elsewhere; the last interfaces.
pub fn with_remote(mut text: String, groups: usize) -> String {
    use std::fmt::Write;
    for g in 0..groups {
        let _ = writeln!(text, "- {{private_ip_addresses: [10.200.0.{g}], security_group_ids: [g{g}]}}");
    }
    text
}

/// A prefix, or a host, of either family: near to what rules name, or scattered.
pub fn net(r: &mut Random, v4: bool) -> IpNet {
    let address: IpAddr = match r.below(4) {
        0 => r.pick(if v4 { ADDR4 } else { ADDR6 }).parse().unwrap(),
        1 if v4 => IpAddr::from([10, 0, r.below(2) as u8, r.below(12) as u8]),
        _ => scattered(r.below(SCATTERED + 20))[usize::from(!v4)],
    };
    let named = || (if v4 { V4 } else { V6 }).iter().filter_map(|n| n.parse::<IpNet>().ok());
    match r.below(10) {
        0 => named().nth(r.below(named().count())).unwrap(),
        1 => IpNet::new(address, if v4 { 8 + r.below(24) } else { 16 + r.below(112) } as u8).unwrap().trunc(),
        _ => address.into(),
    }
}

/// Changes some members that live elsewhere and some prefix lists; returns what was named.
pub fn shuffle(r: &mut Random, model: &mut Model, instances: &mut [Instance], elsewhere: usize) -> Vec<IpNet> {
    let mut touched = Vec::new();
    let from = instances.len() - elsewhere;
    for _ in 0..=r.below(4) {
        if r.chance(60) {
            let addresses = &mut instances[from + r.below(elsewhere)].addresses;
            if r.chance(40) && !addresses.is_empty() {
                touched.push(addresses.swap_remove(r.below(addresses.len())).into());
            } else {
                let v4 = r.chance(60);
                let address = net(r, v4).addr();
                addresses.push(address);
                touched.push(address.into());
            }
        } else {
            let list = r.below(model.prefix_lists.len());
            let list = std::sync::Arc::make_mut(&mut model.prefix_lists[list]);
            if r.chance(40) && !list.entries.is_empty() {
                touched.push(list.entries.swap_remove(r.below(list.entries.len())));
            } else {
                let entry = net(r, list.v4);
                list.entries.push(entry);
                touched.push(entry);
            }
        }
    }
    touched
}

/// A flow whose other end is a named prefix, or next to it.
pub fn flow_near(r: &mut Random, instances: &[Instance], nets: &[IpNet]) -> (usize, FlowQuery) {
    loop {
        let (instance, mut q) = flow(r, instances);
        if nets.is_empty() || r.chance(20) {
            return (instance, q);
        }
        let net = nets[r.below(nets.len())];
        let near = |low: u128, high: u128, r: &mut Random| match r.below(5) {
            0 => low,
            1 => high,
            2 => low.wrapping_sub(1),
            3 => high.wrapping_add(1),
            _ => low + u128::from(r.next()) % (high - low).saturating_add(1).max(1),
        };
        q.remote = match (net.network(), net.broadcast()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                IpAddr::V4((near(a.to_bits().into(), b.to_bits().into(), r) as u32).into())
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => IpAddr::V6(near(a.to_bits(), b.to_bits(), r).into()),
            _ => continue,
        };
        // An IPv4 address within IPv6 is no address.
        let mapped = matches!(q.remote, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if q.remote.is_ipv4() == q.local.is_ipv4() && !mapped {
            return (instance, q);
        }
    }
}

/// Every prefix that the policy names, and its members.
pub fn nets(model: &Model, instances: &[Instance]) -> Vec<IpNet> {
    let rules = model.groups.iter().flat_map(|g| &g.rules);
    let cidrs = rules.filter_map(|r| if let Object::Cidr(net) = r.object { Some(net) } else { None });
    let lists = model.prefix_lists.iter().flat_map(|l| l.entries.iter().copied());
    let members = instances.iter().flat_map(|i| i.addresses.iter().map(|a| IpNet::from(*a)));
    cidrs.chain(lists).chain(members).collect()
}

/// A flow that the rule matches, or nearly.
pub fn near(r: &mut Random, model: &Model, rule: &Rule, instance: &Instance, nets: &[IpNet]) -> FlowQuery {
    let own: Vec<IpNet> = match rule.object {
        Object::Cidr(net) => vec![net],
        Object::PrefixList(l) => model.prefix_lists[l].entries.clone(),
        Object::Group(_) => nets.to_vec(),
    };
    let nets = if r.chance(60) { &own } else { nets };
    let (_, mut q) = flow_near(r, std::slice::from_ref(instance), nets);
    if r.chance(80) {
        q.direction = rule.direction;
    }
    if r.chance(80)
        && let Some(protocol) = rule.protocol
    {
        q.protocol = protocol;
    }
    let ends: Vec<u16> = match &rule.ports {
        Ports::Any => Vec::new(),
        Ports::Range(a, b) => vec![*a, *b, a.saturating_sub(1), b.saturating_add(1)],
        Ports::List(l) => model.port_lists[*l].entries.iter().flat_map(|(a, b)| [*a, *b, a - 1, b + 1]).collect(),
    };
    let (mut source, mut destination) = q.ports();
    if !ends.is_empty() && r.chance(70) {
        destination = ends[r.below(ends.len())];
    }
    if let Some((a, b)) = rule.source_ports.filter(|_| r.chance(70)) {
        source = [a, b, a.saturating_sub(1), b.saturating_add(1)][r.below(4)];
    }
    if !matches!(q.protocol, 6 | 17) {
        (source, destination) = (0, 0);
    }
    (q.local_port, q.remote_port) =
        if q.direction == Direction::Inbound { (destination, source) } else { (source, destination) };
    if let Some(net) = rule.local.filter(|net| r.chance(60) && net.addr().is_ipv4() == q.local.is_ipv4()) {
        q.local = [net.network(), net.broadcast()][r.below(2)];
    }
    q
}

fn rule(r: &mut Random, own: usize, kinds: &[bool]) -> String {
    let ingress = r.chance(55);
    let (far, near) = if ingress { ("source", "dest") } else { ("dest", "source") };
    let spread = if r.chance(70) { 3 } else { 100 };
    let priority = 1 + r.below(spread);
    let mut rule = format!(
        "direction: {}, policy: {}, priority: {}",
        if ingress { "ingress" } else { "egress" },
        if r.chance(60) { "accept" } else { "drop" },
        priority
    );
    let protocol = r.pick(&["tcp", "tcp", "udp", "icmp", "icmpv6", "gre", "all", "132"]);
    rule += &format!(", ip_protocol: {protocol}");
    if matches!(protocol, "tcp" | "udp") {
        if r.chance(20) {
            rule += ", port_range_list_id: ports";
        } else {
            rule += &format!(", port_range: {}", range(r));
        }
        if r.chance(12) {
            rule += &format!(", source_port_range: {}", range(r));
        }
    }
    let mut v4 = r.chance(60);
    match r.below(10) {
        0..=5 if v4 => rule += &format!(", {far}_cidr_ip: {}", r.pick(V4)),
        0..=5 => rule += &format!(", ipv6_{far}_cidr_ip: '{}'", r.pick(V6)),
        6 | 7 => {
            let list = r.pick(&["p4", "p6", "none"]);
            v4 = list != "p6";
            rule += &format!(", {far}_prefix_list_id: {list}");
        }
        _ => match (0..kinds.len()).find(|&g| g != own && !kinds[g] && !kinds[own]) {
            Some(group) => rule += &format!(", {far}_group_id: g{group}"),
            None if v4 => rule += &format!(", {far}_cidr_ip: {}", r.pick(V4)),
            None => rule += &format!(", ipv6_{far}_cidr_ip: '{}'", r.pick(V6)),
        },
    }
    if r.chance(10) {
        rule += &if v4 {
            format!(", {near}_cidr_ip: {}", r.pick(V4))
        } else {
            format!(", ipv6_{near}_cidr_ip: '{}'", r.pick(V6))
        };
    }
    rule
}

/// A random flow of a random instance.
pub fn flow(r: &mut Random, instances: &[Instance]) -> (usize, FlowQuery) {
    let instance = r.below(instances.len());
    let pool = if r.chance(60) { ADDR4 } else { ADDR6 };
    let protocol = [6, 6, 6, 17, 17, 1, 58, 47, 132, 2, 0x60][r.below(11)];
    let own = instances[instance].addresses.iter().find(|a| a.is_ipv4() == (pool == ADDR4));
    let local: IpAddr = match own {
        Some(own) if r.chance(80) => *own,
        _ => r.pick(pool).parse().unwrap(),
    };
    let remote = r.pick(pool).parse().unwrap();
    let ports = matches!(protocol, 6 | 17);
    let mut port =
        || if !ports { 0 } else { (PORTS[r.below(PORTS.len())].wrapping_add(r.below(3) as u16)).wrapping_sub(1) };
    let (mut local_port, mut remote_port) = (port(), port());
    if ports && r.chance(8) {
        (local_port, remote_port) = [(68, 67), (67, 68), (546, 547), (547, 546)][r.below(4)];
    }
    let icmp_type = match protocol {
        1 => [8, 8, 0, 3, 5, 9, 13][r.below(7)],
        58 => [128, 128, 129, 1, 133, 134, 135, 136, 137, 130, 131, 143][r.below(12)],
        2 => [0x11, 0x16, 0x22, 0x99][r.below(4)],
        _ => 0,
    };
    let direction = if r.chance(50) { Direction::Inbound } else { Direction::Outbound };
    (instance, FlowQuery { direction, protocol, local, remote, local_port, remote_port, icmp_type, icmp_code: 0 })
}

/// A document's model.
pub fn model(text: &str) -> Model {
    let document = read(text);
    validate(&document, &Quotas { group_rules_per_group: 200, ..Quotas::default() })
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The same model, two times of three with a failsafe near to what its rules and flows name;
/// drawn apart, so that documents and flows of a seed stay as they are.
pub fn with_failsafe(seed: u64, mut model: Model) -> Model {
    let mut r = Random::new(seed ^ 0x6661_696c);
    if r.chance(33) {
        return model;
    }
    let mut ports = BTreeMap::new();
    for _ in 0..=r.below(3) {
        let first = PORTS[r.below(PORTS.len())];
        ports.insert(first, first.saturating_add(r.below(3) as u16));
    }
    let source = |r: &mut Random| {
        let family = if r.chance(50) { V4 } else { V6 };
        let text = r.pick(family);
        text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
    };
    let sources = (0..=r.below(4)).map(|_| source(&mut r)).collect();
    let all: Vec<String> = model.interfaces.iter().filter_map(|i| i.device.clone()).collect();
    let devices = if r.chance(50) { Vec::new() } else { all.into_iter().filter(|_| r.chance(60)).collect() };
    model.failsafe = Some(Arc::new(Failsafe { ports: ports.into_iter().collect(), sources, devices }));
    model
}

/// A document read.
pub fn read(text: &str) -> Document {
    parse(&[Source { name: "test".into(), bytes: text.into() }]).unwrap_or_else(|e| panic!("{e}\n{text}"))
}
