//! One axis of the packets: its points cut into ranges in which the same lines of both
//! policies match. Ranges with the same lines are of one class.

use std::collections::HashMap;

use super::lines::Sides;
use crate::lint::{lines::Range, space::both};

/// A line: of which policy, and its place there.
pub type At = (usize, usize);

/// The points 0 to `last`.
#[derive(Debug)]
pub struct Axis {
    /// First point and class of each range, ascending, from 0.
    starts: Vec<(u128, usize)>,
    /// Lines that match, by class.
    pub classes: Vec<Sides>,
    /// The last point.
    pub last: u128,
}

/// What both have, by policy.
pub fn common(a: &Sides, b: &Sides) -> Sides {
    [both(&a[0], &b[0]), both(&a[1], &b[1])]
}

/// Whether they have a line in common.
pub fn meet(a: &Sides, b: &Sides) -> bool {
    let meet = |side: usize| a[side].0.iter().zip(&b[side].0).any(|(a, b)| a & b != 0);
    meet(0) || meet(1)
}

impl Axis {
    /// The axis, given which lines cover which points; the ranges of one line do not touch.
    pub fn of(covers: &[(Range, &[At])], last: u128) -> Self {
        let mut events: Vec<(u128, bool, usize)> = Vec::with_capacity(covers.len() * 2);
        for (i, ((from, to), _)) in covers.iter().enumerate().filter(|(_, c)| c.0.0 <= last) {
            events.push((*from, true, i));
            events.extend(to.checked_add(1).filter(|end| *end <= last).map(|end| (end, false, i)));
        }
        events.sort_unstable();
        let (mut numbers, mut classes) = (HashMap::new(), Vec::new());
        let (mut starts, mut lines, mut at): (Vec<(u128, usize)>, _, _) = (Vec::new(), Sides::default(), 0);
        let mut next = events.into_iter().peekable();
        loop {
            while let Some((_, begins, i)) = next.next_if(|e| e.0 == at) {
                for &(side, line) in covers[i].1 {
                    if begins { lines[side].set(line) } else { lines[side].clear(line) }
                }
            }
            let class = *numbers.entry(lines).or_insert_with(|| {
                classes.push(lines);
                classes.len() - 1
            });
            if starts.last().is_none_or(|(_, c)| *c != class) {
                starts.push((at, class));
            }
            match next.peek() {
                Some(event) => at = event.0,
                None => return Self { starts, classes, last },
            }
        }
    }

    /// Its ranges in order, with their classes.
    pub fn ranges(&self) -> impl Iterator<Item = (Range, usize)> {
        let ends = self.starts.iter().skip(1).map(|(start, _)| start - 1).chain([self.last]);
        self.starts.iter().zip(ends).map(|((first, class), last)| ((*first, last), *class))
    }

    /// Classes of the points of a range, each once, in order.
    pub fn within(&self, range: Range) -> Vec<usize> {
        let first = self.starts.partition_point(|(start, _)| *start <= range.0) - 1;
        let mut seen = vec![false; self.classes.len()];
        let here = self.starts[first..].iter().take_while(|(start, _)| *start <= range.1);
        here.map(|(_, class)| *class).filter(|class| !std::mem::replace(&mut seen[*class], true)).collect()
    }
}
