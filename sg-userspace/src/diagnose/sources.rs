//! Sources, cut where rules begin and end.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::lint::lines::Range;
use crate::{
    effective::{Entry, Members},
    lint::lines::{Far, addresses},
    model::{Model, Verdict},
};

/// Who of some sources is let in by rules, and what decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Whoever comes from there, in order; ranges that do not touch.
    pub all: Vec<Range>,
    /// Those of whom only some source ports are let in.
    pub some: Vec<Range>,
    /// Rules that let somebody in, by their place among all; `None` is what holds where none
    /// matches.
    pub admitted_by: BTreeSet<Option<usize>>,
    /// Rules that keep somebody out.
    pub stopped_by: BTreeSet<Option<usize>>,
}

/// The sources of a rule, of one family.
pub fn of(model: &Model, members: &Members, entry: &Entry, v4: bool) -> Vec<Range> {
    addresses(model, members, Far::Of(entry.remote), v4)
}

/// What two ranges have in common.
pub fn common(a: Range, b: Range) -> Option<Range> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// Whether ranges leave nothing of another out.
pub fn covers(mut ranges: Vec<Range>, all: Range) -> bool {
    ranges.sort_unstable();
    let mut next = all.0;
    for (from, to) in ranges {
        if from > next {
            return false;
        }
        match to.checked_add(1) {
            None => return true,
            Some(after) => next = next.max(after),
        }
    }
    next > all.1
}

/// Adds a range behind the last one, to which it may be joined.
fn join(ranges: &mut Vec<Range>, (from, to): Range) {
    match ranges.last_mut() {
        Some(last) if last.1.checked_add(1) == Some(from) => last.1 = to,
        _ => ranges.push((from, to)),
    }
}

impl Reached {
    /// Looks at each range in which the same of some entries match, first match first.
    /// `places` says where each stands among all entries; `aside` is not looked at.
    pub fn of(
        model: &Model,
        members: &Members,
        entries: &[(usize, &Entry)],
        v4: bool,
        asked: Range,
        aside: &[Range],
    ) -> Self {
        // Where entries begin, and those that have ended before.
        let mut events: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        let mut cuts: BTreeSet<u128> = BTreeSet::from([asked.0]);
        for (i, (_, entry)) in entries.iter().enumerate() {
            for (from, to) in of(model, members, entry, v4).into_iter().filter_map(|range| common(range, asked)) {
                events.entry(from).or_default().0.push(i);
                if let Some(after) = to.checked_add(1) {
                    events.entry(after).or_default().1.push(i);
                }
            }
        }
        cuts.extend(events.keys().copied().filter(|at| *at <= asked.1));
        for range in aside.iter().filter_map(|range| common(*range, asked)) {
            cuts.insert(range.0);
            cuts.extend(range.1.checked_add(1).filter(|at| *at <= asked.1));
        }
        let mut reached = Self::default();
        // How often each entry covers the range: lists and groups may have overlapping ones.
        let mut active: BTreeMap<usize, usize> = BTreeMap::new();
        let cuts: Vec<u128> = cuts.into_iter().collect();
        for (n, &from) in cuts.iter().enumerate() {
            if let Some((begin, end)) = events.get(&from) {
                begin.iter().for_each(|i| *active.entry(*i).or_default() += 1);
                for i in end {
                    if let Some(count) = active.get_mut(i) {
                        *count -= 1;
                        if *count == 0 {
                            active.remove(i);
                        }
                    }
                }
            }
            let range = (from, cuts.get(n + 1).map_or(asked.1, |next| next - 1));
            if !aside.iter().any(|own| common(*own, range).is_some()) {
                reached.judge(entries, active.keys().copied(), range);
            } else if reached.all.last().is_some_and(|last| last.1.checked_add(1) == Some(from)) {
                // No exception to what lies around it.
                join(&mut reached.all, range);
            }
        }
        reached
    }

    /// One range, of which all of these entries have every source.
    fn judge(&mut self, entries: &[(usize, &Entry)], matching: impl Iterator<Item = usize>, range: Range) {
        // Some source ports are let in, or kept out, by what came before.
        let (mut part, mut decided) = (false, false);
        for i in matching {
            let (place, entry) = entries[i];
            let accepts = entry.verdict == Verdict::Accept;
            let all = entry.source_ports.is_none();
            let by = if accepts { &mut self.admitted_by } else { &mut self.stopped_by };
            by.insert(Some(place));
            match (accepts, all) {
                (true, false) => part = true,
                (false, false) => decided = true,
                (_, true) => {}
            }
            if all {
                match (accepts, decided, part) {
                    (true, false, _) => join(&mut self.all, range),
                    (true, true, _) | (false, _, true) => join(&mut self.some, range),
                    (false, _, false) => {}
                }
                return;
            }
        }
        self.stopped_by.insert(None);
        if part {
            join(&mut self.some, range);
        }
    }

    /// Whether everybody asked about is let in, but for those aside.
    pub fn is_whole(&self, asked: Range, aside: &[Range]) -> bool {
        let mut ranges = self.all.clone();
        ranges.extend(aside.iter().filter_map(|range| common(*range, asked)));
        !self.all.is_empty() && covers(ranges, asked)
    }
}
