//! One packet out of a difference, such as one can send: the interface's own address,
//! a port of a client, an echo request.

use std::net::IpAddr;

use super::{Difference, peers::Peers};
use crate::{
    compiler::addresses::PRIVATE,
    lint::lines::{address, range},
    model::Direction,
    reference::FlowQuery,
};

/// Addresses that look well in examples, where they belong to a difference.
const USUAL: [IpAddr; 5] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
];
/// Source ports of a client, tried first.
const CLIENT: u16 = 40_000;

/// Addresses of a part, the best ones first; if it has one that is neither private nor
/// public as the others are, then that is among them, too.
fn addresses(v4: bool, of: Option<&Peers>, first: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let all = Peers { prefix: crate::compiler::addresses::FAMILIES[usize::from(!v4)], except: Vec::new() };
    let of = of.unwrap_or(&all);
    let mut found: Vec<IpAddr> = first.filter(|ip| ip.is_ipv4() == v4).collect();
    for (from, to) in of.ranges() {
        // The first one of a network is nobody's.
        found.extend([from.saturating_add(1).min(to), from, to].map(|bits| address(v4, bits)));
        for (_, (first, last)) in PRIVATE.into_iter().map(range).filter(|(family, _)| *family == v4) {
            let inside = [first, last.saturating_add(1), first.saturating_sub(1)];
            found.extend(inside.into_iter().filter(|p| (from..=to).contains(p)).map(|bits| address(v4, bits)));
        }
    }
    // An IPv4 address within IPv6 is no address.
    let mapped = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    found.retain(|ip| of.contains(*ip) && !mapped(ip));
    found
}

fn ports(range: Option<(u16, u16)>, client: bool) -> Vec<u16> {
    let (first, last) = range.unwrap_or((0, u16::MAX));
    let wanted = [client.then_some(CLIENT), (first == 0).then_some(1), Some(first), Some(last), first.checked_add(1)];
    wanted.into_iter().flatten().filter(|p| (first..=last).contains(p)).collect()
}

/// A packet of a difference, of an interface with these addresses, that is judged by rules.
pub fn sample(d: &Difference, own: &[IpAddr], by_rules: impl Fn(&FlowQuery) -> bool) -> Option<FlowQuery> {
    let v4 = d.is_v4();
    let echo = if v4 { 1 } else { 58 };
    let protocol = [6, 17, echo].into_iter().find(|p| d.protocols.has(*p)).or_else(|| d.protocols.iter().next())?;
    let (sources, destinations) = if matches!(protocol, 6 | 17) {
        (ports(d.source_ports, true), ports(d.ports, false))
    } else {
        (vec![0], vec![0])
    };
    let remotes = addresses(v4, Some(&d.peer), USUAL.into_iter());
    let link_local = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    let locals = addresses(v4, d.local.as_ref(), own.iter().copied().chain(USUAL).chain([link_local]));
    let pairs = || remotes.iter().flat_map(|remote| locals.iter().map(move |local| (*remote, *local)));
    for (source, destination) in sources.iter().flat_map(|s| destinations.iter().map(move |d| (*s, *d))) {
        let (local_port, remote_port) = match d.direction {
            Direction::Inbound => (destination, source),
            Direction::Outbound => (source, destination),
        };
        let queries = pairs().map(|(remote, local)| FlowQuery {
            direction: d.direction,
            protocol,
            local,
            remote,
            local_port,
            remote_port,
            // Types that never pass by themselves: echo, and none of IGMP.
            icmp_type: match protocol {
                1 => 8,
                58 => 128,
                _ => 0,
            },
            icmp_code: 0,
        });
        if let Some(found) = queries.into_iter().find(|q| q.local != q.remote && by_rules(q)) {
            return Some(found);
        }
    }
    None
}
