//! All packets of one direction, cut into cells in which the same lines match.
//!
//! On each axis (remote address, local address, source port, destination port) the points
//! at which the same lines match are one class; a cell is one class of each axis. What
//! holds for one packet of a cell holds for all of them, so that looking at every cell
//! is looking at every packet.

use std::collections::{HashMap, HashSet};

use sg_common::limits::BITVEC_WORDS;

use super::lines::{Far, Line, Range, addresses, last, range};
use crate::{
    compiler::bits::Bits,
    effective::{Members, Remote},
    model::Model,
};

/// Points of one axis at which the same lines match.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Those lines.
    pub lines: Bits,
    /// One of the points.
    pub at: u128,
    /// Another one, if there is.
    pub other: Option<u128>,
    /// Whether the points are known; not so for addresses of members that are not.
    pub known: bool,
}

/// Packets of one protocol.
#[derive(Debug)]
pub struct Service {
    /// Its number.
    pub protocol: u8,
    /// Classes of source ports.
    pub sources: Vec<Class>,
    /// Classes of destination ports.
    pub destinations: Vec<Class>,
}

/// Packets of one family.
#[derive(Debug)]
pub struct Space {
    /// Which.
    pub v4: bool,
    /// Classes of remote addresses.
    pub remotes: Vec<Class>,
    /// Classes of local addresses.
    pub locals: Vec<Class>,
    /// By protocol; one that no line names stands for all such.
    pub services: Vec<Service>,
}

/// Packets at which the same lines match.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Whether they are IPv4.
    pub v4: bool,
    /// Remote addresses.
    pub remote: &'a Class,
    /// Local addresses.
    pub local: &'a Class,
    /// Protocol.
    pub protocol: u8,
    /// Source ports.
    pub source: &'a Class,
    /// Destination ports.
    pub destination: &'a Class,
}

/// Work that may still be done.
#[derive(Debug)]
pub struct Budget(pub u64);

impl Budget {
    /// Takes some; `None` when there is not so much.
    pub fn take(&mut self, work: u64) -> Option<()> {
        self.0 = self.0.checked_sub(work)?;
        Some(())
    }
}

/// What both sets have.
pub fn both(a: &Bits, b: &Bits) -> Bits {
    let mut bits = *a;
    bits.0.iter_mut().zip(&b.0).for_each(|(a, b)| *a &= b);
    bits
}

/// Adds a set to another one.
pub fn add(to: &mut Bits, more: &Bits) {
    to.0.iter_mut().zip(&more.0).for_each(|(a, b)| *a |= b);
}

/// Whether a set has a line.
pub fn has(bits: &Bits, line: usize) -> bool {
    bits.0[line / 64] & (1 << (line % 64)) != 0
}

/// The lines of a set, first one first.
pub fn each(bits: &Bits) -> impl Iterator<Item = usize> {
    bits.0.into_iter().enumerate().flat_map(|(w, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            (word != 0).then(|| {
                word &= word - 1;
                w * 64 + bit
            })
        })
    })
}

/// Classes of the points 0 to `last`, given what covers which of them.
fn classes(covers: &[(Range, &[usize])], last: u128) -> Vec<Class> {
    let mut events: Vec<(u128, bool, usize)> = Vec::with_capacity(covers.len() * 2);
    for (i, ((from, to), _)) in covers.iter().enumerate() {
        events.push((*from, true, i));
        events.extend(to.checked_add(1).filter(|end| *end <= last).map(|end| (end, false, i)));
    }
    events.sort_unstable();
    let mut found: HashMap<Bits, usize> = HashMap::new();
    let mut classes: Vec<Class> = Vec::new();
    let (mut depth, mut lines) = (vec![0_u32; BITVEC_WORDS * 64], Bits::default());
    let (mut at, mut next) = (0, events.into_iter().peekable());
    loop {
        while let Some((_, starts, i)) = next.next_if(|e| e.0 == at) {
            for &line in covers[i].1 {
                if starts {
                    depth[line] += 1;
                    lines.set(line);
                } else {
                    depth[line] -= 1;
                    if depth[line] == 0 {
                        lines.clear(line);
                    }
                }
            }
        }
        let end = next.peek().map(|e| e.0);
        let second = (end.map_or(last, |end| end - 1) > at).then_some(at + 1);
        match found.get(&lines) {
            Some(&class) => classes[class].other = classes[class].other.or(Some(at)),
            None => {
                found.insert(lines, classes.len());
                classes.push(Class { lines, at, other: second, known: true });
            }
        }
        match end {
            Some(end) => at = end,
            None => return classes,
        }
    }
}

/// The classes of ports or addresses, one range or several to each line.
fn by_line(ranges: Vec<(Range, usize)>, last: u128) -> Vec<Class> {
    let lines: Vec<usize> = ranges.iter().map(|(_, line)| *line).collect();
    let covers: Vec<_> = ranges.iter().enumerate().map(|(i, (range, _))| (*range, &lines[i..=i])).collect();
    classes(&covers, last)
}

fn service(lines: &[Line], protocol: u8) -> Service {
    let last = if matches!(protocol, 6 | 17) { u128::from(u16::MAX) } else { 0 };
    let here = || lines.iter().enumerate().filter(|(_, l)| l.protocol.is_none_or(|p| p == protocol));
    let wide = |(from, to): (u16, u16)| (u128::from(from), u128::from(to));
    let reaches = |range: &(Range, usize)| range.0.0 <= last;
    let sources = here().map(|(i, l)| (l.sources.map_or((0, last), wide), i));
    let destinations = here().flat_map(|(i, l)| {
        let ranges: Vec<Range> =
            l.destinations.as_ref().map_or(vec![(0, last)], |d| d.iter().copied().map(wide).collect());
        ranges.into_iter().map(move |range| (range, i))
    });
    Service {
        protocol,
        sources: by_line(sources.filter(reaches).collect(), last),
        destinations: by_line(destinations.filter(reaches).collect(), last),
    }
}

/// Protocols that lines name, and one that none does.
fn protocols(lines: &[Line]) -> Vec<u8> {
    let mut named: Vec<u8> = lines.iter().filter_map(|l| l.protocol).chain([6, 17]).collect();
    named.sort_unstable();
    named.dedup();
    // Not IGMP, whose types always pass.
    named.extend((0..=255).rev().find(|p| *p != 2 && !named.contains(p)));
    named
}

impl Space {
    /// The packets of one family. `unknown` are the groups of interfaces whose addresses
    /// are not known: any address may be theirs.
    pub fn of(
        model: &Model,
        members: &Members,
        lines: &[Line],
        unknown: &[Vec<usize>],
        v4: bool,
        budget: &mut Budget,
    ) -> Option<Self> {
        let mut by_far: HashMap<Far, Vec<usize>> = HashMap::new();
        for (i, line) in lines.iter().enumerate() {
            by_far.entry(line.far).or_default().push(i);
        }
        let mut covers: Vec<(Range, &[usize])> = Vec::new();
        for (far, lines) in &by_far {
            let ranges = addresses(model, members, *far, v4);
            budget.take((ranges.len() * (lines.len() + 10)) as u64)?;
            covers.extend(ranges.into_iter().map(|range| (range, lines.as_slice())));
        }
        let mut remotes = classes(&covers, last(v4));
        let mut seen: HashSet<Bits> = remotes.iter().map(|c| c.lines).collect();
        for groups in unknown {
            let mut theirs = Bits::default();
            for g in groups {
                by_far.get(&Far::Of(Remote::Members(*g))).into_iter().flatten().for_each(|line| theirs.set(*line));
            }
            for class in remotes.clone() {
                let mut lines = class.lines;
                add(&mut lines, &theirs);
                if seen.insert(lines) {
                    remotes.push(Class { lines, known: false, ..class });
                }
            }
        }
        let locals = lines.iter().enumerate().filter_map(|(i, l)| match l.local.map(range) {
            Some((family, range)) => (family == v4).then_some((range, i)),
            None => Some(((0, last(v4)), i)),
        });
        let locals = by_line(locals.collect(), last(v4));
        let services = protocols(lines).into_iter().map(|p| service(lines, p)).collect();
        Some(Self { v4, remotes, locals, services })
    }

    /// How many classes it has, of all axes.
    pub fn size(&self) -> u64 {
        let ports: usize = self.services.iter().map(|s| s.sources.len() + s.destinations.len()).sum();
        (self.remotes.len() + self.locals.len() + ports) as u64
    }

    /// Visits each cell in which a line matches, or enough of them: a cell in which the
    /// same lines match as in one before it may be left out.
    pub fn walk(&self, budget: &mut Budget, mut visit: impl FnMut(&Bits, Cell<'_>)) -> Option<()> {
        for remote in &self.remotes {
            let mut seen = HashSet::new();
            for local in &self.locals {
                budget.take(4)?;
                let here = both(&remote.lines, &local.lines);
                // A packet from an address to itself is dropped before any rule.
                let same = remote.at == local.at && remote.other.is_none() && local.other.is_none();
                if here == Bits::default() || same || !seen.insert(here) {
                    continue;
                }
                for service in &self.services {
                    let mut seen = HashSet::new();
                    for source in &service.sources {
                        budget.take(4)?;
                        let here = both(&here, &source.lines);
                        if here == Bits::default() || !seen.insert(here) {
                            continue;
                        }
                        budget.take(service.destinations.len() as u64)?;
                        for destination in &service.destinations {
                            let lines = both(&here, &destination.lines);
                            let (v4, protocol) = (self.v4, service.protocol);
                            visit(&lines, Cell { v4, remote, local, protocol, source, destination });
                        }
                    }
                }
            }
        }
        Some(())
    }
}
