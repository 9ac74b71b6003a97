//! Whether the counts of flows can be what the program has counted.
//!
//! How many flows are confirmed at this moment nobody can say while packets pass. But the
//! program adds each flow to four counts, by family, interface and both rows of remotes, and
//! takes nothing away; and what the daemon writes it knows. So the four have grown by the
//! same, and none has shrunk. Whatever else somebody writes shows in one of both, unless it is
//! just what so many confirmed flows would have written: the next count of the tables mends that.

use sg_common::quota::{CELLS, INTERFACES, REMOTES, TABLES};

/// Counts added up: tables and interfaces by family, remotes by row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    tables: [u64; 2],
    interfaces: [u64; 2],
    remotes: [u64; 2],
}

impl Sums {
    /// Adds the words of [`sg_common::quota::Usage`] up, in their order.
    pub fn of(words: impl Iterator<Item = u64>) -> Self {
        let mut sums = Self::default();
        words.enumerate().for_each(|(at, amount)| sums.add(at, amount));
        sums
    }

    /// Adds to the sum that a word belongs to, wrapping.
    pub fn add(&mut self, at: usize, amount: u64) {
        let sum = match at {
            _ if at < REMOTES.first + REMOTES.words => &mut self.remotes[at / CELLS],
            _ if at < TABLES.first => &mut self.interfaces[(at - INTERFACES.first) % 2],
            _ => &mut self.tables[(at - TABLES.first) % 2],
        };
        *sum = sum.wrapping_add(amount);
    }

    fn join(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let each = |a: [u64; 2], b: [u64; 2]| [f(a[0], b[0]), f(a[1], b[1])];
        Self {
            tables: each(self.tables, other.tables),
            interfaces: each(self.interfaces, other.interfaces),
            remotes: each(self.remotes, other.remotes),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        self.join(earlier, u64::wrapping_sub)
    }

    /// How many flows that is, in the ways in which the same ones are counted: IPv4, IPv6, both.
    fn flows(&self) -> [[i128; 3]; 3] {
        // Less than nothing is a small negative number.
        let n = |sum: u64| i128::from(sum as i64);
        let ([a, b], [x, y], [r, s]) = (self.tables.map(n), self.interfaces.map(n), self.remotes.map(n));
        [[a, x, a], [b, y, b], [a + b, r, s]]
    }
}

/// What the counts were, and are to agree with.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// As they were read first, twice in a row.
    first: Option<[Sums; 2]>,
    /// As they were read when they last agreed.
    last: Sums,
}

impl Ledger {
    /// Takes the counts, read twice in a row; false when neither the program nor the daemon
    /// would have written them. `cpus`: how many may be counting a flow just now.
    pub fn agrees(&mut self, read: [Sums; 2], cpus: usize) -> bool {
        let Some(first) = self.first else {
            (self.first, self.last) = (Some(read), read[1]);
            return true;
        };
        let shrunk = read[0].since(&self.last).flows().as_flattened().iter().any(|n| *n < 0);
        // A flow that is counted while they are read is in some of them, at both ends of the time.
        let room = 2 * cpus as i128;
        let (least, most) = (read[0].since(&first[1]).flows(), read[1].since(&first[0]).flows());
        let differ = |(least, most): (&[i128; 3], &[i128; 3])| {
            least.iter().max().zip(most.iter().min()).is_some_and(|(least, most)| *least > *most + room)
        };
        let agrees = !shrunk && !least.iter().zip(&most).any(differ);
        if agrees {
            self.last = read[1];
        }
        agrees
    }

    /// The daemon itself has added so much.
    pub fn wrote(&mut self, added: &Sums) {
        for read in self.first.iter_mut().flatten().chain([&mut self.last]) {
            *read = read.join(added, u64::wrapping_add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words in which so many IPv4 and IPv6 flows of an interface are counted.
    fn words(flows: [u64; 2]) -> Vec<u64> {
        let mut words = vec![0; TABLES.first + TABLES.words];
        for (family, n) in flows.into_iter().enumerate() {
            for at in [TABLES.first + family, INTERFACES.first + 6 + family, 77, CELLS + 5] {
                words[at] += n;
            }
        }
        words
    }

    fn sums(words: &[u64]) -> Sums {
        Sums::of(words.iter().copied())
    }

    fn still(flows: [u64; 2]) -> [Sums; 2] {
        [sums(&words(flows)); 2]
    }

    #[test]
    fn what_the_program_and_the_daemon_write_agrees() {
        let mut ledger = Ledger::default();
        for flows in [[3, 4], [3, 4], [10_000, 4], [10_000, 70_000]] {
            assert!(ledger.agrees(still(flows), 2), "{flows:?}");
        }
        let mut less = Sums::default();
        for at in [TABLES.first, INTERFACES.first + 6, 77, CELLS + 5] {
            less.add(at, 9000u64.wrapping_neg());
        }
        ledger.wrote(&less);
        assert!(ledger.agrees(still([1000, 70_000]), 2));
        // An interface that begins anew is written alone.
        let mut less = Sums::default();
        less.add(INTERFACES.first + 6, 1000u64.wrapping_neg());
        ledger.wrote(&less);
        let mut fresh = words([1000, 70_000]);
        fresh[INTERFACES.first + 6] = 0;
        assert!(ledger.agrees([sums(&fresh); 2], 2));
    }

    #[test]
    fn flows_that_are_counted_meanwhile_are_no_difference() {
        let mut ledger = Ledger::default();
        let (before, after) = (words([100, 0]), words([5000, 0]));
        // Each part of them is read at another time.
        let torn = [before[..CELLS].to_vec(), after[CELLS..].to_vec()].concat();
        assert!(ledger.agrees([sums(&torn), sums(&after)], 2));
        assert!(ledger.agrees([sums(&after), sums(&words([9000, 1]))], 2));
        // One that is half counted on each CPU, for as long as it may.
        let mut half = words([9000, 1]);
        half[TABLES.first] += 2;
        assert!(ledger.agrees([sums(&half); 2], 2));
    }

    #[test]
    fn any_other_word_is_found() {
        for at in [TABLES.first, TABLES.first + 1, INTERFACES.first + 6, INTERFACES.first + 99, 77, 78, CELLS + 5] {
            for amount in [100u64, 100u64.wrapping_neg(), 1 << 63, 1 << 40] {
                let mut ledger = Ledger::default();
                assert!(ledger.agrees(still([500, 600]), 2));
                let mut altered = words([500, 600]);
                altered[at] = altered[at].wrapping_add(amount);
                assert!(!ledger.agrees([sums(&altered); 2], 2), "{at} {amount}");
            }
        }
        let mut ledger = Ledger::default();
        assert!(ledger.agrees(still([500, 600]), 2));
        assert!(!ledger.agrees(still([0, 0]), 2), "all of it");
    }
}
