//! Where the verdicts differ: the ports and protocols at which the same peers change,
//! and those peers as prefixes.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use super::{
    Difference, Protocols,
    axis::{Axis, common, meet},
    lines::{Lines, Sides, merged},
    peers::{Peers, peers},
    space::{Service, Space},
};
use crate::{
    lint::{
        lines::Range,
        space::{Budget, each},
    },
    model::{Direction, Verdict},
};

/// Remote classes that are newly allowed, and those that are newly denied.
type Change = [Vec<usize>; 2];

/// Ranges of an axis, each with the number of what happens there.
type Pieces = Vec<(Range, usize)>;

/// Gives equal things equal numbers, in the order in which they come.
struct Numbers<T> {
    known: HashMap<T, usize>,
    all: Vec<T>,
}

impl<T: Clone + Eq + std::hash::Hash + Default> Numbers<T> {
    /// Number 0 is the empty one.
    fn new() -> Self {
        Self { known: HashMap::from([(T::default(), 0)]), all: vec![T::default()] }
    }

    fn of(&mut self, thing: T) -> usize {
        *self.known.entry(thing).or_insert_with_key(|thing| {
            self.all.push(thing.clone());
            self.all.len() - 1
        })
    }
}

/// The search in one direction and family.
struct Search<'a> {
    lines: &'a Lines,
    space: &'a Space,
    /// Remote classes that can change, and their lines.
    remotes: Vec<(usize, Sides)>,
    /// Whether a packet that no line matches is judged otherwise.
    everywhere: bool,
    changes: Numbers<Change>,
    by_lines: HashMap<Sides, usize>,
}

/// Number `of` gives each class, as ranges; those of one number that touch are one.
fn pieces(axis: &Axis, of: &[usize]) -> Pieces {
    let mut pieces: Pieces = Vec::new();
    for (range, class) in axis.ranges().filter(|(_, class)| of[*class] != 0) {
        match pieces.last_mut() {
            Some((last, number)) if *number == of[class] && last.1 + 1 == range.0 => last.1 = range.1,
            _ => pieces.push((range, of[class])),
        }
    }
    pieces
}

impl Search<'_> {
    /// What changes where these lines match, remote addresses aside.
    fn change(&mut self, here: &Sides, budget: &mut Budget) -> Option<usize> {
        let hot = common(here, &self.lines.changed);
        if !self.everywhere && hot == Sides::default() {
            return Some(0);
        }
        if let Some(number) = self.by_lines.get(here) {
            return Some(*number);
        }
        budget.take(self.remotes.len() as u64 + 1)?;
        let mut change = Change::default();
        for (class, lines) in &self.remotes {
            if !self.everywhere && !meet(lines, &hot) {
                continue;
            }
            let first = [0, 1].map(|side| lines[side].first_common(&here[side]));
            let [before, after] = self.lines.verdicts(first);
            if before != after {
                change[usize::from(after == Some(Verdict::Drop))].push(*class);
            }
        }
        let number = self.changes.of(change);
        self.by_lines.insert(*here, number);
        Some(number)
    }

    /// What changes in one service and class of local addresses: destination ports by range
    /// of source ports.
    fn plane(
        &mut self,
        service: &Service,
        local: &Sides,
        rows: &mut Numbers<Pieces>,
        budget: &mut Budget,
    ) -> Option<Pieces> {
        let mut by_source = Vec::with_capacity(service.sources.classes.len());
        for source in &service.sources.classes {
            let here = common(local, source);
            budget.take(service.destinations.classes.len() as u64)?;
            let mut by_destination = Vec::with_capacity(service.destinations.classes.len());
            for destination in &service.destinations.classes {
                by_destination.push(self.change(&common(&here, destination), budget)?);
            }
            by_source.push(rows.of(pieces(&service.destinations, &by_destination)));
        }
        Some(pieces(&service.sources, &by_source))
    }
}

/// Packets of which the same remote classes change.
struct Part {
    protocols: Protocols,
    sources: Option<(u16, u16)>,
    ports: Option<(u16, u16)>,
    locals: Vec<Range>,
    change: usize,
}

/// A range of ports; `None` for all of them.
fn narrow(range: Range, axis: &Axis) -> Option<(u16, u16)> {
    (range != (0, axis.last)).then_some((range.0 as u16, range.1 as u16))
}

/// Finds all parts; those so far and `false` when the budget does not suffice.
fn parts(search: &mut Search<'_>, budget: &mut Budget) -> (Vec<Part>, bool) {
    let space = search.space;
    let (mut parts, mut whole) = (Vec::new(), true);
    // Protocols of which all packets change alike are told together.
    let mut alike: BTreeMap<(Vec<Range>, usize), Protocols> = BTreeMap::new();
    'services: for service in &space.services {
        let mut rows = Numbers::new();
        let mut planes: BTreeMap<Pieces, Vec<usize>> = BTreeMap::new();
        for (class, local) in space.locals.classes.iter().enumerate() {
            let Some(plane) = search.plane(service, local, &mut rows, budget) else {
                whole = false;
                break 'services;
            };
            if !plane.is_empty() {
                planes.entry(plane).or_default().push(class);
            }
        }
        for (plane, classes) in planes {
            let here = space.locals.ranges().filter(|(_, class)| classes.contains(class));
            let locals = merged(here.map(|(range, _)| range).collect());
            for (source, row) in plane {
                for &(destination, change) in &rows.all[row] {
                    let (sources, ports) =
                        (narrow(source, &service.sources), narrow(destination, &service.destinations));
                    if (sources, ports) == (None, None) {
                        alike.entry((locals.clone(), change)).or_default().add(&service.protocols);
                    } else {
                        let mut protocols = Protocols::default();
                        protocols.add(&service.protocols);
                        parts.push(Part { protocols, sources, ports, locals: locals.clone(), change });
                    }
                }
            }
        }
    }
    parts.extend(alike.into_iter().map(|((locals, change), protocols)| Part {
        protocols,
        sources: None,
        ports: None,
        locals,
        change,
    }));
    (parts, whole)
}

/// Tells every difference of one direction and family, in no order; `false` when the budget
/// does not suffice for all.
pub fn each_difference(
    lines: &Lines,
    space: &Space,
    direction: Direction,
    budget: &mut Budget,
    mut tell: impl FnMut(Difference),
) -> bool {
    let everywhere = lines.defaults[0] != lines.defaults[1];
    let remotes = space.remotes.classes.iter().copied().enumerate();
    let mut search = Search {
        lines,
        space,
        remotes: remotes.filter(|(_, class)| everywhere || meet(class, &lines.changed)).collect(),
        everywhere,
        changes: Numbers::new(),
        by_lines: HashMap::new(),
    };
    let (parts, whole) = parts(&mut search, budget);
    let mut ranges = vec![Vec::new(); space.remotes.classes.len()];
    space.remotes.ranges().for_each(|(range, class)| ranges[class].push(range));
    let mut written: HashMap<usize, [Vec<Peers>; 2]> = HashMap::new();
    for part in parts {
        let changed = match written.entry(part.change) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let ranges = search.changes.all[part.change].each_ref().map(|classes| {
                    classes.iter().flat_map(|class| ranges[*class].iter().copied()).collect::<Vec<Range>>()
                });
                if budget.take(ranges.iter().map(|r| 4 * r.len() as u64).sum()).is_none() {
                    return false;
                }
                new.insert(ranges.map(|ranges| peers(space.v4, &merged(ranges))))
            }
        };
        let locals: Vec<Option<Peers>> = if part.locals == [(0, space.locals.last)] {
            vec![None]
        } else {
            peers(space.v4, &part.locals).into_iter().map(Some).collect()
        };
        for (to, remotes) in [Verdict::Accept, Verdict::Drop].into_iter().zip(changed.iter()) {
            if budget.take((remotes.len() * locals.len()) as u64).is_none() {
                return false;
            }
            for (peer, local) in remotes.iter().flat_map(|r| locals.iter().map(move |l| (r, l))) {
                let difference = Difference {
                    direction,
                    protocols: part.protocols,
                    peer: peer.clone(),
                    local: local.clone(),
                    source_ports: part.sources,
                    ports: part.ports,
                    to,
                    before: super::Deciders::default(),
                    after: super::Deciders::default(),
                };
                tell(difference);
            }
        }
    }
    whole
}

/// The first lines that decide packets of a difference, by policy; `None` is the default.
/// At most `most` cells are looked at; whether those were all.
pub fn deciders(space: &Space, d: &Difference, most: usize) -> ([Vec<Option<usize>>; 2], bool) {
    let of = |axis: &Axis, ranges: &[Range]| {
        let mut classes: Vec<usize> = ranges.iter().flat_map(|range| axis.within(*range)).collect();
        let mut seen = std::collections::HashSet::new();
        classes.retain(|class| seen.insert(*class));
        classes.into_iter().map(|class| axis.classes[class]).collect::<Vec<_>>()
    };
    let ports = |axis: &Axis, range: Option<(u16, u16)>| {
        of(axis, &[range.map_or((0, axis.last), |(first, last)| (first.into(), last.into()))])
    };
    let remotes = of(&space.remotes, &d.peer.ranges());
    let locals = of(&space.locals, &d.local.as_ref().map_or(vec![(0, space.locals.last)], Peers::ranges));
    let mut found = <[Vec<Option<usize>>; 2]>::default();
    let mut left = most;
    for service in space.services.iter().filter(|s| d.protocols.has(s.protocols[0])) {
        let (sources, destinations) = (ports(&service.sources, d.source_ports), ports(&service.destinations, d.ports));
        for local in &locals {
            for source in &sources {
                let here = common(local, source);
                for destination in &destinations {
                    let here = common(&here, destination);
                    for remote in &remotes {
                        if left == 0 {
                            return (found, false);
                        }
                        left -= 1;
                        let first = common(&here, remote).map(|lines| each(&lines).next());
                        for (side, first) in first.into_iter().enumerate() {
                            if !found[side].contains(&first) {
                                found[side].push(first);
                            }
                        }
                    }
                }
            }
        }
    }
    (found, true)
}
