//! The merged rules of both policies, with sets of addresses that can be compared: what
//! is in both alike changes nothing by itself.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::Policy;
use crate::{
    compiler::bits::Bits,
    effective::{self, Origin, Remote},
    lint::lines::{Far, Range, addresses},
    model::{Direction, Ports, Verdict},
};

/// Sets of lines, by policy.
pub type Sides = [Bits; 2];

/// One of the merged rules.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it comes from.
    pub origin: Origin,
    /// Accept or drop.
    pub verdict: Verdict,
    /// `None` is every protocol.
    pub protocol: Option<u8>,
    /// Destination ports; `None` is any, or none at all.
    pub destinations: Option<Vec<Range>>,
    /// Source ports.
    pub sources: Option<Range>,
    /// The remote side: a place among the sets.
    pub far: usize,
    /// The local side.
    pub local: Option<IpNet>,
    /// Decides in which order lines are asked; equal ones say the same.
    rank: (Option<u8>, u8),
}

/// All that makes two lines say the same of every packet.
type Meaning<'a> = ((Option<u8>, u8), Option<u8>, &'a Option<Vec<Range>>, Option<Range>, usize, Option<IpNet>);

impl Line {
    fn meaning(&self) -> Meaning<'_> {
        (self.rank, self.protocol, &self.destinations, self.sources, self.far, self.local)
    }
}

/// Both policies in one direction.
#[derive(Debug, Default)]
pub struct Lines {
    /// Those of each policy, first match first.
    pub of: [Vec<Line>; 2],
    /// Addresses that lines name as remote ones: IPv4, IPv6.
    pub sets: Vec<[Vec<Range>; 2]>,
    /// When no line matches.
    pub defaults: [Option<Verdict>; 2],
    /// Lines that the other policy has not.
    pub changed: Sides,
}

/// Sorts ranges, and makes one of those that touch.
pub fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn wide((first, last): (u16, u16)) -> Range {
    (first.into(), last.into())
}

impl Lines {
    /// The lines of two policies; `None` when there are more than a policy can have.
    pub fn of(policies: [&Policy<'_>; 2], direction: Direction) -> Option<Self> {
        let (mut numbers, mut lines) = (HashMap::new(), Self::default());
        for (side, policy) in policies.into_iter().enumerate() {
            let entries = effective::entries(policy.model, policy.key, direction);
            if entries.len() > sg_common::limits::MAX_POLICY_RULES {
                return None;
            }
            let mut known: HashMap<Remote, usize> = HashMap::new();
            for e in entries {
                let far = *known.entry(e.remote).or_insert_with(|| {
                    let of = |v4| merged(addresses(policy.model, policy.members, Far::Of(e.remote), v4));
                    let set = [of(true), of(false)];
                    *numbers.entry(set.clone()).or_insert_with(|| {
                        lines.sets.push(set);
                        lines.sets.len() - 1
                    })
                });
                let destinations = match e.ports {
                    Ports::Any => None,
                    Ports::Range(first, last) => Some(vec![wide((first, last))]),
                    Ports::List(i) => {
                        Some(merged(policy.model.port_lists[i].entries.iter().copied().map(wide).collect()))
                    }
                };
                lines.of[side].push(Line {
                    origin: e.origin,
                    verdict: e.verdict,
                    protocol: e.protocol,
                    destinations,
                    sources: e.source_ports.map(wide),
                    far,
                    local: e.local,
                    rank: (e.priority, e.verdict as u8),
                });
            }
            lines.defaults[side] = Some(effective::default_verdict(policy.model, policy.key, direction));
        }
        lines.changed = lines.changed();
        Some(lines)
    }

    /// Where no changed line matches, the same lines match in the same order: those of one
    /// rank say the same, and ranks are ordered alike in both policies.
    fn changed(&self) -> Sides {
        let meanings = |side: usize| self.of[side].iter().map(Line::meaning).collect::<HashSet<_>>();
        let (before, after) = (meanings(0), meanings(1));
        let mut changed = Sides::default();
        for (side, other) in [&after, &before].into_iter().enumerate() {
            for (i, line) in self.of[side].iter().enumerate().filter(|(_, l)| !other.contains(&l.meaning())) {
                debug_assert_eq!(line.rank.1, line.verdict as u8);
                changed[side].set(i);
            }
        }
        changed
    }

    /// What the policies say of a packet at which these lines match.
    pub fn verdicts(&self, first: [Option<usize>; 2]) -> [Option<Verdict>; 2] {
        [0, 1].map(|side| first[side].map_or(self.defaults[side], |i| Some(self.of[side][i].verdict)))
    }

    /// The work of cutting the axes along them.
    pub fn work(&self) -> u64 {
        let sets: usize = self.sets.iter().flatten().map(Vec::len).sum();
        (self.of.iter().map(Vec::len).sum::<usize>() * 10 + sets) as u64
    }

    /// Whether no packet can be judged otherwise.
    pub fn are_alike(&self) -> bool {
        self.changed == Sides::default() && self.defaults[0] == self.defaults[1]
    }
}
