//! The merged rules of one policy and direction, as sets of addresses and ports.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    compiler::addresses::PRIVATE,
    effective::{self, Members, Origin, PolicyKey, Remote},
    model::{Direction, Model, Ports, Verdict},
};

/// First and last of a range.
pub type Range = (u128, u128);

/// A range of addresses: whether they are IPv4, first, last.
type Addresses = (bool, Range);

/// Whose addresses a line's remote side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Far {
    /// As the merged view has it.
    Of(Remote),
    /// Private IPv4 addresses and the broadcast one.
    Nearby,
    /// Every address of a family.
    All(bool),
}

/// One of the merged rules.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it comes from; `None` is the client's side of DHCP, which always passes.
    pub origin: Option<Origin>,
    /// Accept or drop.
    pub verdict: Verdict,
    /// `None` is every protocol.
    pub protocol: Option<u8>,
    /// Destination ports; `None` is any, or none at all.
    pub destinations: Option<Vec<(u16, u16)>>,
    /// Source ports.
    pub sources: Option<(u16, u16)>,
    /// The remote side.
    pub far: Far,
    /// The local side.
    pub local: Option<IpNet>,
}

/// The lines of a policy, first match first.
pub fn lines(model: &Model, key: &PolicyKey, direction: Direction) -> Vec<Line> {
    let rules = effective::entries(model, key, direction).into_iter().map(|e| Line {
        origin: Some(e.origin),
        verdict: e.verdict,
        protocol: e.protocol,
        destinations: match e.ports {
            Ports::Any => None,
            Ports::Range(first, last) => Some(vec![(first, last)]),
            Ports::List(i) => Some(model.port_lists[i].entries.clone()),
        },
        sources: e.source_ports,
        far: Far::Of(e.remote),
        local: e.local,
    });
    leases(direction).into_iter().chain(rules).collect()
}

/// DHCP of the instance itself stands before all rules. The rest of what always passes
/// is told by ICMP and IGMP types, at which no rule looks: it hides no rule.
fn leases(direction: Direction) -> [Line; 2] {
    let line = |source, destination, far, local| Line {
        origin: None,
        verdict: Verdict::Accept,
        protocol: Some(17),
        destinations: Some(vec![(destination, destination)]),
        sources: Some((source, source)),
        far,
        local,
    };
    let link_local = Some(PRIVATE[7]);
    match direction {
        Direction::Inbound => [line(67, 68, Far::All(true), None), line(547, 546, Far::All(false), link_local)],
        Direction::Outbound => [line(68, 67, Far::Nearby, None), line(546, 547, Far::All(false), link_local)],
    }
}

/// First and last address of a prefix.
pub fn range(net: IpNet) -> Addresses {
    match net {
        IpNet::V4(net) => (true, (net.network().to_bits().into(), net.broadcast().to_bits().into())),
        IpNet::V6(net) => (false, (net.network().to_bits(), net.broadcast().to_bits())),
    }
}

/// The last address of a family.
pub fn last(v4: bool) -> u128 {
    if v4 { u32::MAX.into() } else { u128::MAX }
}

/// An address of a family.
pub fn address(v4: bool, bits: u128) -> IpAddr {
    if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }
}

/// What a remote side covers, of one family.
pub fn addresses(model: &Model, members: &Members, far: Far, v4: bool) -> Vec<Range> {
    let of = |net: IpNet| Some(range(net)).filter(|(family, _)| *family == v4).map(|(_, range)| range);
    match far {
        Far::Of(Remote::Net(net)) => of(net).into_iter().collect(),
        Far::Of(Remote::Members(g)) => members.of(g).filter_map(|a| of(a.into())).collect(),
        Far::Of(Remote::List(l)) => model.prefix_lists[l].entries.iter().filter_map(|net| of(*net)).collect(),
        Far::Of(Remote::Failsafe) => effective::sources(model).iter().filter_map(|net| of(*net)).collect(),
        Far::Of(Remote::Public) => without(PRIVATE.into_iter().filter_map(of).collect(), last(v4)),
        Far::Nearby => {
            let nearby = PRIVATE.into_iter().filter_map(of).chain([(last(true), last(true))]);
            nearby.filter(|_| v4).collect()
        }
        Far::All(family) => (family == v4).then_some((0, last(v4))).into_iter().collect(),
    }
}

/// What is left of 0 to `last` without some ranges that do not overlap.
fn without(mut ranges: Vec<Range>, last: u128) -> Vec<Range> {
    ranges.sort_unstable();
    let (mut left, mut next) = (Vec::new(), Some(0));
    for (from, to) in ranges {
        if let Some(start) = next.filter(|start| *start < from) {
            left.push((start, from - 1));
        }
        next = to.checked_add(1);
    }
    left.extend(next.filter(|start| *start <= last).map(|start| (start, last)));
    left
}
