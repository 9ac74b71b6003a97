//! Numbers of address classes. One that falls free keeps its row until another
//! set of entries needs it, and until then a set that comes back finds it.

use std::collections::{HashMap, VecDeque};

use super::bits::Bits;

/// Classes of one direction.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    numbers: HashMap<Bits, u16>,
    /// Entries by class.
    pub sets: Vec<Bits>,
    /// Prefixes of each.
    uses: Vec<u32>,
    /// Grace periods that had passed when it fell free.
    freed: Vec<u64>,
    /// Classes that fell free, oldest first; some may be in use again.
    free: VecDeque<u16>,
    /// How many there may be.
    limit: usize,
    /// Classes whose rows have to be written.
    fresh: Vec<u16>,
}

impl Classes {
    /// With class 0: an address that no prefix covers.
    pub fn new(limit: usize) -> Self {
        let mut classes = Self { limit, ..Self::default() };
        classes.add(Bits::default());
        classes
    }

    fn add(&mut self, set: Bits) -> u16 {
        let class = self.sets.len() as u16;
        self.numbers.insert(set, class);
        self.sets.push(set);
        self.uses.push(0);
        self.freed.push(0);
        self.fresh.push(class);
        class
    }

    /// The class of a set; a new one takes a spare row, or one that fell free
    /// before the last grace period. `None` when there is neither.
    pub fn number(&mut self, set: Bits, grace: u64) -> Option<u16> {
        if let Some(&class) = self.numbers.get(&set) {
            return Some(class);
        }
        if self.sets.len() < self.limit {
            return Some(self.add(set));
        }
        let at = self.free.iter().position(|&c| self.is_free(c) && self.freed[usize::from(c)] < grace)?;
        let class = self.free.remove(at)?;
        self.free.retain(|c| *c != class);
        self.numbers.remove(&self.sets[usize::from(class)]);
        self.numbers.insert(set, class);
        self.sets[usize::from(class)] = set;
        self.fresh.push(class);
        Some(class)
    }

    fn is_free(&self, class: u16) -> bool {
        class != 0 && self.uses[usize::from(class)] == 0
    }

    /// One prefix more.
    pub fn join(&mut self, class: u16) {
        self.uses[usize::from(class)] += 1;
    }

    /// One prefix less; `grace` periods have passed so far.
    pub fn leave(&mut self, class: u16, grace: u64) {
        let uses = &mut self.uses[usize::from(class)];
        // Nobody counts who is in class 0.
        *uses = uses.saturating_sub(1);
        if self.is_free(class) {
            self.freed[usize::from(class)] = grace;
            if !self.free.contains(&class) {
                self.free.push_back(class);
            }
        }
    }

    /// From now on there may be so many.
    pub fn bound(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Classes whose rows have to be written, which are taken for written then.
    pub fn take_fresh(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether few rows are left, and more would be after a grace period.
    pub fn waits(&self, grace: u64) -> bool {
        let spare = self.limit.saturating_sub(self.sets.len());
        let free = self.free.iter().filter(|c| self.is_free(**c));
        let (ready, waiting): (Vec<u16>, Vec<u16>) = free.partition(|c| self.freed[usize::from(**c)] < grace);
        spare + ready.len() < FEW && !waiting.is_empty()
    }
}

/// Rows that one change may well need.
const FEW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_row_waits_for_a_grace_period() {
        let mut classes = Classes::new(3);
        let [a, b, c] = [1, 2, 3].map(Bits::first);
        assert_eq!((classes.number(a, 0), classes.number(b, 0)), (Some(1), Some(2)));
        classes.join(1);
        classes.join(2);
        assert_eq!(classes.number(c, 0), None, "full");
        classes.leave(1, 0);
        assert!(classes.waits(0));
        assert_eq!(classes.number(c, 0), None, "a packet may still hold class 1");
        assert_eq!(classes.number(a, 0), Some(1), "its own set may come back at any time");
        classes.join(1);
        classes.leave(1, 1);
        assert_eq!(classes.number(c, 1), None, "it fell free again");
        assert_eq!(classes.number(c, 2), Some(1));
        assert_eq!(classes.take_fresh(), [0, 1, 2, 1]);
    }
}
