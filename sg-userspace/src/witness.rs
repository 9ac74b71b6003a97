//! Which packets a change decides otherwise: exactly, and a packet of each kind.
//!
//! # What is compared
//! The merged rules of one interface before and after a change, invisible ones and the
//! defaults included, for every packet that rules judge. What stands before all rules is
//! aside (always-accepted packets, the source check, what only routers and DHCP servers
//! send, an address to itself): such packets may lie in the bounds of a difference, and
//! are decided as before.
//!
//! # What is counted
//! In each direction and family, the axes (remote and local address, source and
//! destination port, of each protocol) are cut where lines of either policy begin and end.
//! Within a cell the same lines match, so one verdict before and one after hold for all of
//! it: looking at every cell is looking at every packet. Cells that differ are then
//! merged, always in this order:
//! 1. neighbouring destination ports, then source ports, where the same peers change;
//! 2. local addresses with the same such ports;
//! 3. protocols of which all packets change alike;
//! 4. peers, to the fewest prefixes and exceptions ([`peers`]), local addresses likewise.
//!
//! What is left are the *differences*; no packet lies in two of them, and their number
//! depends on nothing but what the policies say: rules in another order, split or merged
//! give the same. One whose packets always pass before the rules is none.
//!
//! # Order
//! Largest first: the share of all packets of its family and direction, so that `::/0`
//! counts as much as `0.0.0.0/0`.
//!
//! # Layout
//! - `lines`: the rules of both, and those that are in one only
//! - `axis`, `space`: cells; where no changed line matches, nothing is looked at
//! - `regions`: cells that differ, merged; `peers`: addresses as prefixes
//! - `sample`: a packet that can be sent

mod axis;
mod lines;
pub mod peers;
mod regions;
mod sample;
mod space;

use crate::{
    effective::{self, Members, Origin, PolicyKey},
    lint::space::Budget,
    model::{Direction, Instance, Interface, Model, Verdict, protocol_name},
    reference::{FlowQuery, before_rules, is_essential},
};
use lines::Lines;
use peers::Peers;
use space::Space;

/// A set of protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocols([u128; 2]);

impl Protocols {
    fn add(&mut self, protocols: &[u8]) {
        protocols.iter().for_each(|p| self.0[usize::from(p / 128)] |= 1 << (p % 128));
    }

    /// Whether it has this one.
    pub fn has(&self, protocol: u8) -> bool {
        self.0[usize::from(protocol / 128)] & (1 << (protocol % 128)) != 0
    }

    /// Those it has.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=255).filter(|p| self.has(*p))
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }

    /// `all`, names, or `all but` names.
    pub fn text(&self) -> String {
        let names = |has: bool| {
            let there = (0..=255).filter(|p| self.has(*p) == has);
            there.map(|p| protocol_name(Some(p))).collect::<Vec<_>>().join(", ")
        };
        match self.len() {
            256 => protocol_name(None),
            129.. => format!("all but {}", names(false)),
            _ => names(true),
        }
    }
}

/// What decides the packets of a difference, in one of the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deciders {
    /// The first few; `None` is the default.
    pub some: Vec<Option<Origin>>,
    /// Whether there are, or may be, others.
    pub more: bool,
}

impl Deciders {
    /// Names of those, as listings have them.
    pub fn names(&self, model: &Model) -> Vec<String> {
        let name = |origin: &Option<Origin>| origin.map_or("(default)".into(), |o| effective::name(model, o));
        self.some.iter().map(name).chain(self.more.then(|| "…".into())).collect()
    }
}

/// Packets whose verdict changes, all in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// To or from the instance.
    pub direction: Direction,
    /// Of these protocols.
    pub protocols: Protocols,
    /// Remote addresses.
    pub peer: Peers,
    /// Local addresses; `None` is all of the family.
    pub local: Option<Peers>,
    /// Source ports; `None` is all, or none at all.
    pub source_ports: Option<(u16, u16)>,
    /// Destination ports; `None` is all, or none at all.
    pub ports: Option<(u16, u16)>,
    /// The verdict after the change; before it was the other one.
    pub to: Verdict,
    /// What decided them.
    pub before: Deciders,
    /// What decides them now.
    pub after: Deciders,
}

impl Difference {
    /// The verdict before the change.
    pub fn from(&self) -> Verdict {
        if self.to == Verdict::Accept { Verdict::Drop } else { Verdict::Accept }
    }

    /// Of which family.
    pub fn is_v4(&self) -> bool {
        self.peer.prefix.addr().is_ipv4()
    }

    /// Whether a flow lies in its bounds.
    pub fn contains(&self, q: &FlowQuery) -> bool {
        let (source, destination) = q.ports();
        let within = |range: Option<(u16, u16)>, port| range.is_none_or(|(first, last)| (first..=last).contains(&port));
        q.direction == self.direction
            && self.protocols.has(q.protocol)
            && within(self.source_ports, source)
            && within(self.ports, destination)
            && self.peer.contains(q.remote)
            && self.local.as_ref().is_none_or(|local| local.contains(q.local))
    }

    /// Its share of all packets of its family and direction.
    pub fn size(&self) -> f64 {
        let ports = |range: Option<(u16, u16)>| range.map_or(1.0, |(a, b)| (f64::from(b - a) + 1.0) / 65_536.0);
        let local = self.local.as_ref().map_or(1.0, Peers::share);
        let ports = ports(self.source_ports) * ports(self.ports);
        self.peer.share() * local * ports * f64::from(self.protocols.len()) / 256.0
    }

    /// A packet of it that rules judge, of the interface as it is before and after. `None`:
    /// this interface has no such packet, as its source check or its addresses leave none.
    pub fn sample(&self, before: (&Interface, &Instance), after: (&Interface, &Instance)) -> Option<FlowQuery> {
        let by_rules = |(interface, instance): (&Interface, &Instance), q: &FlowQuery| {
            before_rules(interface, instance, q).is_none()
        };
        sample::sample(self, &after.1.addresses, |q| by_rules(before, q) && by_rules(after, q))
    }

    /// Whether rules judge any packet of it, of whatever interface.
    fn is_any(&self) -> bool {
        // Only those of one port to one other can all be such as always pass.
        let one = |range: Option<(u16, u16)>| range.is_some_and(|(first, last)| first == last);
        !(self.protocols.has(17) && one(self.source_ports) && one(self.ports))
            || sample::sample(self, &[], |q| !is_essential(q)).is_some()
    }

    fn rank(&self) -> impl Ord + use<> {
        // Shares are positive: their bits are ordered as they are.
        let size = std::cmp::Reverse(self.size().to_bits());
        let place = (self.direction as u8, self.protocols, self.ports, self.source_ports);
        (size, self.to as u8, place, self.peer.clone(), self.local.clone())
    }
}

/// A policy of an interface.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The model it is of.
    pub model: &'a Model,
    /// Who is in which group.
    pub members: &'a Members,
    /// Which one.
    pub key: &'a PolicyKey,
}

/// All that changes between two policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The largest differences, the largest first.
    pub shown: Vec<Difference>,
    /// How many there are.
    pub count: u64,
    /// Whether the budget did not suffice: what is told is so, but there may be more.
    pub cut: bool,
}

/// Work that comparing two policies may take, so that it ends within a second.
pub const BUDGET: u64 = 12_000_000;
/// Rules that are named of one difference.
const NAMED: usize = 3;
/// Cells that are looked at for those.
const CELLS: usize = 2000;

/// The differences of two policies of an interface, at most `most` of them, and their number.
pub fn compare(before: &Policy<'_>, after: &Policy<'_>, most: usize, budget: &mut Budget) -> Found {
    let mut found = Found::default();
    let mut judged = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let Some(lines) = Lines::of([before, after], direction) else {
            found.cut = true;
            continue;
        };
        if budget.take(lines.work()).is_none() {
            found.cut = true;
            continue;
        }
        if lines.are_alike() {
            continue;
        }
        let spaces = [true, false].map(|v4| Space::of(&lines, v4));
        for space in &spaces {
            let whole = regions::each_difference(&lines, space, direction, budget, |difference| {
                if difference.is_any() {
                    found.count += 1;
                    found.shown.push(difference);
                    if found.shown.len() > 2 * most + 1000 {
                        largest(&mut found.shown, most);
                    }
                }
            });
            found.cut |= !whole;
        }
        judged.push((direction, lines, spaces));
    }
    largest(&mut found.shown, most);
    for difference in &mut found.shown {
        let Some((_, lines, spaces)) = judged.iter().find(|j| j.0 == difference.direction) else { continue };
        let (first, all) = regions::deciders(&spaces[usize::from(!difference.is_v4())], difference, CELLS);
        let [before, after] = [0, 1].map(|side| Deciders {
            some: first[side].iter().take(NAMED).map(|line| line.map(|i| lines.of[side][i].origin)).collect(),
            more: !all || first[side].len() > NAMED,
        });
        (difference.before, difference.after) = (before, after);
    }
    found
}

fn largest(differences: &mut Vec<Difference>, most: usize) {
    differences.sort_by_cached_key(Difference::rank);
    differences.truncate(most);
}
