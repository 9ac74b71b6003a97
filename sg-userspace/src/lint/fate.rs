//! Which rules of a policy decide anything that would else be decided otherwise.
//!
//! **Definition.** A rule is redundant in a policy when, without it, every packet of every
//! address, protocol and port gets the verdict that it gets with it; accept or drop counts,
//! not who says so. The invisible rules and the default are part of the policy, and nobody
//! is a member of less for it. A rule is *hidden* when other ones decide each of its packets
//! before it; then it is redundant, too. Not looked at: the source check, and what routers
//! and DHCP servers send, which are dropped of a guest before its rules are asked. They
//! can make a rule useless that is not called so, never the other way round.

use sg_common::limits::BITVEC_WORDS;

use super::{
    lines::{Line, address, lines},
    space::{Budget, Cell, Class, Space, add, both, each, has},
};
use crate::{
    compiler::bits::Bits,
    effective::{self, Members, PolicyKey},
    model::{Direction, Model},
    reference::FlowQuery,
};

/// What becomes of the packets of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It decides, and without it this flow would be judged otherwise. `None`: the flow
    /// needs an address that is not known here.
    Needed(Option<FlowQuery>),
    /// There is no packet that it matches.
    Empty,
    /// These lines decide all its packets before it.
    Hidden(Vec<usize>),
    /// It decides some of its packets, and for each of those these lines after it would say
    /// the same, or the default.
    Spare {
        /// What decides the other ones before it.
        before: Vec<usize>,
        /// What would decide instead of it.
        after: Vec<usize>,
        /// Whether that is, for some, the default.
        default: bool,
    },
}

/// One direction of a policy, judged.
#[derive(Debug)]
pub struct Judged {
    /// Its lines, first match first.
    pub lines: Vec<Line>,
    /// What becomes of each.
    pub fates: Vec<Fate>,
}

/// Judges one direction of a policy; `None` when it is too large for that.
pub fn judge(
    model: &Model,
    members: &Members,
    unknown: &[Vec<usize>],
    key: &PolicyKey,
    direction: Direction,
    budget: &mut Budget,
) -> Option<Judged> {
    let lines = lines(model, key, direction);
    if lines.len() > BITVEC_WORDS * 64 {
        return None;
    }
    let default = effective::default_verdict(model, key, direction);
    let spaces = [true, false].map(|v4| Space::of(model, members, &lines, unknown, v4, budget));
    let [Some(v4), Some(v6)] = spaces else { return None };
    let spaces = [v4, v6];
    let says = |line: Option<usize>| line.map_or(default, |line| lines[line].verdict);

    // First all cells, for whether a line matches, decides, and is needed.
    let (mut matches, mut needed) = (Bits::default(), Bits::default());
    let mut decides = Bits::default();
    let mut witnesses: Vec<Option<FlowQuery>> = vec![None; lines.len()];
    for space in &spaces {
        space.walk(budget, |here, cell| {
            let (first, second) = two(here);
            let Some(first) = first else { return };
            add(&mut matches, here);
            decides.set(first);
            let known = cell.remote.known;
            if says(second) != lines[first].verdict && (!has(&needed, first) || (known && witnesses[first].is_none())) {
                needed.set(first);
                witnesses[first] = known.then(|| flow(direction, cell)).flatten();
            }
        })?;
    }
    // Then those of the lines that are not needed, for what is there instead.
    let mut open = Bits::default();
    let rest = (0..lines.len()).filter(|i| has(&matches, *i) && !has(&needed, *i));
    let mut alone: Vec<Option<usize>> = vec![None; lines.len()];
    for i in rest {
        if !has(&decides, i) {
            budget.take(spaces.iter().map(Space::size).sum())?;
            alone[i] = cover(&spaces, i);
        }
        if alone[i].is_none() {
            open.set(i);
        }
    }
    let mut instead: Vec<Instead> = lines.iter().map(|_| Instead::default()).collect();
    if open != Bits::default() {
        for space in &spaces {
            let mut named = 0;
            space.walk(budget, |here, _| {
                let (first, second) = two(here);
                for i in each(&both(here, &open)) {
                    named += 1;
                    match (first, second) {
                        (Some(f), Some(second)) if f == i => instead[i].after.set(second),
                        (Some(f), None) if f == i => instead[i].default = true,
                        (Some(first), _) => instead[i].before.set(first),
                        (None, _) => {}
                    }
                }
            })?;
            budget.take(named)?;
        }
    }
    let fates = (0..lines.len()).map(|i| {
        let Instead { before, after, default } = &instead[i];
        let list = |bits: &Bits| each(bits).collect::<Vec<_>>();
        match alone[i] {
            _ if !has(&matches, i) => Fate::Empty,
            _ if has(&needed, i) => Fate::Needed(witnesses[i]),
            Some(one) => Fate::Hidden(vec![one]),
            None if !has(&decides, i) => Fate::Hidden(list(before)),
            None => Fate::Spare { before: list(before), after: list(after), default: *default },
        }
    });
    let fates = fates.collect();
    Some(Judged { lines, fates })
}

/// What there is instead of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Instead {
    before: Bits,
    after: Bits,
    default: bool,
}

/// The first two lines of a set.
fn two(bits: &Bits) -> (Option<usize>, Option<usize>) {
    let mut lines = each(bits);
    (lines.next(), lines.next())
}

/// The first line before this one that matches all it matches.
fn cover(spaces: &[Space], line: usize) -> Option<usize> {
    let mut common = Bits([u64::MAX; BITVEC_WORDS]);
    for space in spaces {
        let here = |classes: &[Class]| {
            let mut of = classes.iter().filter(|c| has(&c.lines, line)).map(|c| c.lines);
            of.next().map(|first| of.fold(first, |a, b| both(&a, &b)))
        };
        let (Some(remotes), Some(locals)) = (here(&space.remotes), here(&space.locals)) else { continue };
        for service in &space.services {
            let (Some(sources), Some(destinations)) = (here(&service.sources), here(&service.destinations)) else {
                continue;
            };
            common = [remotes, locals, sources, destinations].iter().fold(common, |a, b| both(&a, b));
        }
    }
    each(&common).next().filter(|first| *first < line)
}

/// A packet of a cell.
fn flow(direction: Direction, cell: Cell<'_>) -> Option<FlowQuery> {
    let (remotes, locals) = ([Some(cell.remote.at), cell.remote.other], [Some(cell.local.at), cell.local.other]);
    let pairs = remotes.iter().flatten().flat_map(|r| locals.iter().flatten().map(move |l| (*r, *l)));
    let (remote, local) = pairs.into_iter().find(|(r, l)| r != l)?;
    let (source, destination) = (cell.source.at as u16, cell.destination.at as u16);
    let (local_port, remote_port) = match direction {
        Direction::Inbound => (destination, source),
        Direction::Outbound => (source, destination),
    };
    Some(FlowQuery {
        direction,
        protocol: cell.protocol,
        local: address(cell.v4, local),
        remote: address(cell.v4, remote),
        local_port,
        remote_port,
        // Types that never pass by themselves: echo, and none of IGMP.
        icmp_type: match cell.protocol {
            1 => 8,
            58 => 128,
            _ => 0,
        },
        icmp_code: 0,
    })
}
