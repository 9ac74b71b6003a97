//! All packets of one direction and family: an axis for remote addresses, one for local
//! ones, and by protocol one for source and one for destination ports.

use std::collections::BTreeMap;

use super::{
    axis::{At, Axis},
    lines::{Line, Lines},
};
use crate::lint::lines::{Range, last, range};

/// Packets of some protocols of which no line tells them apart.
#[derive(Debug)]
pub struct Service {
    /// Their numbers.
    pub protocols: Vec<u8>,
    /// Source ports; one point where there are none.
    pub sources: Axis,
    /// Destination ports; one point where there are none.
    pub destinations: Axis,
}

/// Packets of one family.
#[derive(Debug)]
pub struct Space {
    /// Which.
    pub v4: bool,
    /// Remote addresses.
    pub remotes: Axis,
    /// Local addresses.
    pub locals: Axis,
    /// All protocols, each in one of them.
    pub services: Vec<Service>,
}

fn all(lines: &Lines) -> impl Iterator<Item = (At, &Line)> {
    let of = |side: usize| lines.of[side].iter().enumerate().map(move |(i, line)| ((side, i), line));
    of(0).chain(of(1))
}

/// An axis of which each line names its own ranges.
fn axis(named: Vec<(Range, At)>, last: u128) -> Axis {
    let at: Vec<At> = named.iter().map(|(_, at)| *at).collect();
    let covers: Vec<_> = named.iter().enumerate().map(|(i, (range, _))| (*range, &at[i..=i])).collect();
    Axis::of(&covers, last)
}

fn service(lines: &Lines, protocols: Vec<u8>) -> Service {
    let one = protocols[0];
    let last = if matches!(one, 6 | 17) { u128::from(u16::MAX) } else { 0 };
    let here = || all(lines).filter(|(_, l)| l.protocol.is_none_or(|p| p == one));
    let sources = here().map(|(at, l)| (l.sources.unwrap_or((0, last)), at)).collect();
    let destinations = here().flat_map(|(at, l)| {
        let ranges = l.destinations.clone().unwrap_or_else(|| vec![(0, last)]);
        ranges.into_iter().map(move |range| (range, at))
    });
    Service { protocols, sources: axis(sources, last), destinations: axis(destinations.collect(), last) }
}

/// Each protocol that a line names, TCP and UDP alone; the others together.
fn protocols(lines: &Lines) -> Vec<Vec<u8>> {
    let mut named: Vec<u8> = all(lines).filter_map(|(_, l)| l.protocol).chain([6, 17]).collect();
    named.sort_unstable();
    named.dedup();
    let rest: Vec<u8> = (0..=255).filter(|p| named.binary_search(p).is_err()).collect();
    named.into_iter().map(|p| vec![p]).chain((!rest.is_empty()).then_some(rest)).collect()
}

impl Space {
    /// The packets of one family.
    pub fn of(lines: &Lines, v4: bool) -> Self {
        let mut by_set: BTreeMap<usize, Vec<At>> = BTreeMap::new();
        for (at, line) in all(lines) {
            by_set.entry(line.far).or_default().push(at);
        }
        let mut covers: Vec<(Range, &[At])> = Vec::new();
        for (set, at) in &by_set {
            covers.extend(lines.sets[*set][usize::from(!v4)].iter().map(|range| (*range, at.as_slice())));
        }
        let locals = all(lines).filter_map(|(at, l)| match l.local.map(range) {
            Some((family, range)) => (family == v4).then_some((range, at)),
            None => Some(((0, last(v4)), at)),
        });
        Self {
            v4,
            remotes: Axis::of(&covers, last(v4)),
            locals: axis(locals.collect(), last(v4)),
            services: protocols(lines).into_iter().map(|p| service(lines, p)).collect(),
        }
    }
}
