//! Which rule counts where: a counter lives as long as its rule does, and its
//! index is used again as late as possible.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sg_common::limits::MAX_RULES;

/// Counters by the identity of what they count; index 0 counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    ids: Arc<HashMap<String, u32>>,
    taken: BTreeSet<u32>,
    /// The last index that was given.
    last: u32,
    /// Those given since [`Counters::keep`].
    new: BTreeSet<u32>,
}

impl Counters {
    /// As they were saved.
    pub fn new(ids: Arc<HashMap<String, u32>>) -> Self {
        let taken: BTreeSet<u32> = ids.values().copied().collect();
        let last = taken.last().copied().unwrap_or(0);
        Self { ids, taken, last, new: BTreeSet::new() }
    }

    /// By identity; shared for as long as none comes or goes.
    pub fn ids(&self) -> &Arc<HashMap<String, u32>> {
        &self.ids
    }

    /// The counter of an identity, an unused one if it has none yet; `None` when
    /// all are in use.
    pub fn id(&mut self, identity: &str) -> Option<u32> {
        if let Some(&id) = self.ids.get(identity) {
            return Some(id);
        }
        let id = self.free()?;
        self.last = id;
        self.taken.insert(id);
        Arc::make_mut(&mut self.ids).insert(identity.to_owned(), id);
        self.new.insert(id);
        Some(id)
    }

    /// What was given since stays.
    pub fn keep(&mut self) {
        self.new.clear();
    }

    /// What was given since [`Counters::keep`] is free again: nothing counted there.
    pub fn take_back(&mut self) {
        let new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.ids).retain(|_, id| !new.contains(id));
        self.taken.retain(|id| !new.contains(id));
    }

    /// The first index behind the last one that is free, from 1 again at the end.
    fn free(&self) -> Option<u32> {
        if self.taken.len() + 1 >= MAX_RULES as usize {
            return None;
        }
        let unused = |range: std::ops::Range<u32>| {
            let mut next = range.start;
            for &id in self.taken.range(range.clone()) {
                if id != next {
                    break;
                }
                next += 1;
            }
            (next < range.end).then_some(next)
        };
        unused(self.last + 1..MAX_RULES).or_else(|| unused(1..MAX_RULES))
    }

    /// Gives back what is neither among the living nor new, each once `empty` has
    /// emptied it; returns how many.
    ///
    /// # Errors
    /// What `empty` says; then none is given back.
    pub fn retire<E>(&mut self, living: &BTreeSet<u32>, empty: impl FnMut(&u32) -> Result<(), E>) -> Result<usize, E> {
        let before = self.taken.len();
        let stays = |id: &u32| living.contains(id) || self.new.contains(id);
        self.taken.iter().filter(|id| !stays(id)).try_for_each(empty)?;
        if self.taken.iter().any(|id| !stays(id)) {
            Arc::make_mut(&mut self.ids).retain(|_, id| stays(id));
        }
        self.taken.retain(|id| stays(id));
        Ok(before - self.taken.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives back without a kernel.
    fn retire(counters: &mut Counters, living: BTreeSet<u32>) -> usize {
        counters.retire(&living, |_| Ok::<(), ()>(())).unwrap()
    }

    #[test]
    fn what_is_taken_back_never_was() {
        let mut counters = Counters::new(HashMap::from([("a".into(), 2)]).into());
        assert_eq!((counters.id("a"), counters.id("b")), (Some(2), Some(3)));
        counters.keep();
        assert_eq!((counters.id("b"), counters.id("c")), (Some(3), Some(4)));
        assert_eq!(retire(&mut counters, BTreeSet::from([2])), 1, "what is new stays");
        counters.take_back();
        assert_eq!(**counters.ids(), HashMap::from([("a".into(), 2)]));
    }

    #[test]
    fn one_that_cannot_be_emptied_is_not_given_back() {
        let mut counters = Counters::default();
        assert_eq!((counters.id("a"), counters.id("b")), (Some(1), Some(2)));
        counters.keep();
        let mut emptied = Vec::new();
        let failed = counters.retire(&BTreeSet::from([2]), |id| {
            emptied.push(*id);
            Err("no")
        });
        assert_eq!((failed, emptied), (Err("no"), vec![1]));
        assert_eq!(counters.id("a"), Some(1));
    }

    #[test]
    fn a_counter_stays_with_its_rule_and_is_used_again_last_of_all() {
        let mut counters = Counters::new(HashMap::from([("old".into(), 2)]).into());
        assert_eq!(counters.id("old"), Some(2));
        assert_eq!(counters.id("a"), Some(3));
        assert_eq!(counters.id("b"), Some(4));
        counters.keep();
        assert_eq!(retire(&mut counters, BTreeSet::from([2, 4])), 1);
        assert_eq!((counters.id("b"), counters.id("a")), (Some(4), Some(5)));
    }

    #[test]
    fn changes_without_end_never_use_them_up() {
        let mut counters = Counters::default();
        for change in 0..200 {
            let living: BTreeSet<u32> =
                (0..1000).map(|rule| counters.id(&format!("{change}/{rule}")).unwrap()).collect();
            assert_eq!(living.len(), 1000);
            counters.keep();
            assert_eq!(retire(&mut counters, living), if change == 0 { 0 } else { 1000 });
        }
        assert_eq!(counters.ids().len(), 1000);
    }

    #[test]
    fn none_is_left_when_all_are_in_use() {
        let mut counters = Counters::default();
        for rule in 1..MAX_RULES {
            assert_eq!(counters.id(&rule.to_string()), Some(rule));
        }
        counters.keep();
        assert_eq!(counters.id("one more"), None);
        assert_eq!(retire(&mut counters, (2..MAX_RULES).collect()), 1);
        assert_eq!(counters.id("one more"), Some(1));
    }
}
