//! How far large tables have been compared with what was written to them: a part at a time,
//! since the writer waits meanwhile, and each table in its turn.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Where a part of a table led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There is more.
    GoesOn,
    /// The table has been looked at from one end to the other, and is what was written.
    Ended,
    /// It is not.
    Differs,
}

/// How far one table has been looked at; `C` says where the next part begins.
#[derive(Clone, Copy, Debug)]
pub struct Walk<C> {
    at: Option<C>,
    /// Elements seen since the walk began, and how many there were to be then.
    begun: Option<(usize, usize)>,
}

impl<C> Default for Walk<C> {
    fn default() -> Self {
        Self { at: None, begun: None }
    }
}

impl<C> Walk<C> {
    /// Where the next part begins; `None` for the start of the table.
    pub fn at(&self) -> Option<&C> {
        self.at.as_ref()
    }

    /// Takes the next part of the table, and where the one behind it begins: `None` at the end.
    ///
    /// What is written between two parts may lie before the one or after it. A table of one
    /// kind only grows, one of the other only shrinks, so as many are seen as there were at the
    /// beginning or are at the end, or something between.
    pub fn step<K: Eq + Hash, V: PartialEq>(
        &mut self,
        part: &[(K, V)],
        next: Option<C>,
        written: &HashMap<K, V>,
    ) -> Looked {
        let (seen, first) = self.begun.unwrap_or((0, written.len()));
        let (seen, most) = (seen + part.len(), first.max(written.len()));
        let ends = next.is_none();
        (self.at, self.begun) = (next, Some((seen, first)));
        let same = part.iter().all(|(key, value)| written.get(key) == Some(value));
        if !same || seen > most || ends && seen < first.min(written.len()) {
            *self = Self::default();
            return Looked::Differs;
        }
        if ends {
            *self = Self::default();
            return Looked::Ended;
        }
        Looked::GoesOn
    }
}

/// Visits tables in their turn, beginning behind the one that was last visited, until all have
/// been looked at to their ends or it is `over`. Small ones are therefore looked at every time,
/// whatever large ones there are, and of these there is some progress in each. `visit` is given
/// a table and whether it is visited for the first time in this round, and says whether there is
/// more of it.
pub fn round(
    tables: &BTreeSet<u32>,
    last: &mut u32,
    mut visit: impl FnMut(u32, bool) -> bool,
    over: impl Fn() -> bool,
) {
    let (mut left, mut visited) = (tables.clone(), BTreeSet::new());
    loop {
        let after = last.checked_add(1).and_then(|next| left.range(next..).next());
        let Some(&next) = after.or_else(|| left.first()) else { return };
        *last = next;
        if !visit(next, visited.insert(next)) {
            left.remove(&next);
        }
        if over() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A table of so many elements, and its parts from a place on.
    fn part(table: &[(u32, u32)], from: Option<&usize>, count: usize) -> (Vec<(u32, u32)>, Option<usize>) {
        let from = from.copied().unwrap_or(0);
        let end = table.len().min(from + count);
        (table[from.min(end)..end].to_vec(), (end < table.len()).then_some(end))
    }

    fn table(count: u32) -> Vec<(u32, u32)> {
        (0..count).map(|i| (i, i * 7)).collect()
    }

    /// Looks at a table to its end, `alter` between two parts; how that ended, in how many.
    fn walk(
        table: &mut Vec<(u32, u32)>,
        written: &mut HashMap<u32, u32>,
        mut alter: impl FnMut(usize, &mut Vec<(u32, u32)>, &mut HashMap<u32, u32>),
    ) -> (Looked, usize) {
        let mut walk = Walk::default();
        for parts in 1.. {
            let (found, next) = part(table, walk.at(), 512);
            match walk.step(&found, next, written) {
                Looked::GoesOn => alter(parts, table, written),
                other => return (other, parts),
            }
        }
        unreachable!()
    }

    #[test]
    fn a_walk_finds_what_is_missing_added_or_altered() {
        let none = |_: usize, _: &mut Vec<(u32, u32)>, _: &mut HashMap<u32, u32>| {};
        let written: HashMap<u32, u32> = table(65_536).into_iter().collect();
        let found = |mut table: Vec<(u32, u32)>| walk(&mut table, &mut written.clone(), none);
        assert_eq!(found(table(65_536)), (Looked::Ended, 128));
        let altered = |at: usize| {
            let mut table = table(65_536);
            table[at].1 ^= 1;
            table
        };
        assert_eq!(found(altered(0)), (Looked::Differs, 1));
        assert_eq!(found(altered(65_535)), (Looked::Differs, 128));
        let mut less = table(65_536);
        less.remove(7);
        assert_eq!(found(less), (Looked::Differs, 128), "found when all have been seen");
        let mut more = table(65_536);
        more.insert(0, (1_000_000, 0));
        assert_eq!(found(more), (Looked::Differs, 1));
        assert_eq!(walk(&mut Vec::new(), &mut HashMap::new(), none), (Looked::Ended, 1));
        // One that leads to its start again and again is none of ours.
        let mut walk = Walk::default();
        let all = table(65_536);
        assert!((0..200).any(|_| walk.step(&all[..512], Some(0), &written) == Looked::Differs));
    }

    #[test]
    fn what_we_write_between_two_parts_is_no_difference() {
        // Behind what has been seen, and before it.
        for at in [0, 60_000] {
            let (mut there, mut written) = (table(65_536), table(65_536).into_iter().collect());
            let grown = walk(&mut there, &mut written, |parts, there, written| {
                if parts % 10 == 0 {
                    let new = (70_000 + parts as u32, 1);
                    written.insert(new.0, new.1);
                    // The cursor is a place here, a key in the kernel's: what is put before it is not seen.
                    if at > 0 {
                        there.insert(there.len(), new);
                    }
                }
            });
            assert_eq!(grown.0, Looked::Ended, "{at}");
            let (mut there, mut written) = (table(65_536), table(65_536).into_iter().collect());
            let shrunk = walk(&mut there, &mut written, |parts, there, written: &mut HashMap<u32, u32>| {
                if parts == 10 {
                    written.remove(&there[at].0);
                    if at > 0 {
                        there.remove(at);
                    }
                }
            });
            assert_eq!(shrunk.0, Looked::Ended, "{at}");
        }
    }

    #[test]
    fn small_tables_are_looked_at_in_each_round_and_large_ones_go_on() {
        let tables = BTreeSet::from([1, 2, 3, 9]);
        let mut left = HashMap::from([(1, 1), (2, 128), (3, 1), (9, 300)]);
        let (mut last, mut rounds, mut ended) = (0, 0, HashMap::new());
        while ended.len() < 2 {
            let time = Cell::new(0);
            let mut first = Vec::new();
            let visit = |table: u32, is_first: bool| {
                time.set(time.get() + 1);
                first.extend(is_first.then_some(table));
                let parts = left.get_mut(&table).unwrap();
                *parts -= 1;
                if *parts == 0 {
                    if table == 2 || table == 9 {
                        ended.entry(table).or_insert(rounds);
                    }
                    *parts = if table == 2 {
                        128
                    } else if table == 9 {
                        300
                    } else {
                        1
                    };
                    return false;
                }
                true
            };
            round(&tables, &mut last, visit, || time.get() >= 20);
            rounds += 1;
            assert!(time.get() <= 20, "never longer than it may");
            first.sort_unstable();
            assert_eq!(first, [1, 2, 3, 9]);
        }
        // 18 parts of each round are for both of them.
        assert!(ended[&2] <= 15 && ended[&9] <= 35, "{ended:?}");
        // Nothing more than there is, however much time.
        let mut visits = 0;
        round(
            &BTreeSet::from([4]),
            &mut last,
            |_, _| {
                visits += 1;
                false
            },
            || false,
        );
        round(&BTreeSet::new(), &mut last, |_, _| unreachable!(), || false);
        assert_eq!(visits, 1);
    }
}
