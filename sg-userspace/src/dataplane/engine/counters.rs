//! Counters of rules: one for each identity, for as long as the store remembers it.

use std::collections::{HashMap, HashSet};

use sg_common::limits::MAX_RULES;

/// Who has which counter.
#[derive(Debug)]
pub struct Counters {
    by_identity: HashMap<String, u32>,
    taken: HashSet<u32>,
    /// Below it all are taken.
    free: u32,
    /// Given out since the last [`Counters::keep`].
    new: Vec<String>,
}

impl Counters {
    /// Those that were kept.
    pub fn new(by_identity: HashMap<String, u32>) -> Self {
        let taken = by_identity.values().copied().collect();
        Self { by_identity, taken, free: 1, new: Vec::new() }
    }

    /// By identity.
    pub fn all(&self) -> &HashMap<String, u32> {
        &self.by_identity
    }

    /// The counter of an identity; `None` when all are taken.
    pub fn of(&mut self, identity: String) -> Option<u32> {
        if let Some(&id) = self.by_identity.get(&identity) {
            return Some(id);
        }
        let id = (self.free..MAX_RULES).find(|id| !self.taken.contains(id))?;
        self.free = id + 1;
        self.taken.insert(id);
        self.by_identity.insert(identity.clone(), id);
        self.new.push(identity);
        Some(id)
    }

    /// Takes the counters back of all identities but those that are used; returns
    /// them, to be set to zero before they are given out again.
    pub fn release(&mut self, used: &HashSet<u32>) -> Vec<u32> {
        let new: HashSet<&String> = self.new.iter().collect();
        let mut gone = Vec::new();
        self.by_identity.retain(|identity, id| {
            let stays = used.contains(id) || new.contains(identity);
            if !stays {
                gone.push(*id);
            }
            stays
        });
        for id in &gone {
            self.taken.remove(id);
            self.free = self.free.min(*id);
        }
        gone
    }

    /// What was given out since stays.
    pub fn keep(&mut self) {
        self.new.clear();
    }

    /// What was given out since the last [`Counters::keep`] is free again.
    pub fn take_back(&mut self) {
        for identity in self.new.drain(..) {
            if let Some(id) = self.by_identity.remove(&identity) {
                self.taken.remove(&id);
                self.free = self.free.min(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_given_out_again() {
        let mut counters = Counters::new(HashMap::from([("a".into(), 2)]));
        assert_eq!(counters.of("a".into()), Some(2));
        assert_eq!(counters.of("b".into()), Some(1));
        counters.keep();
        assert_eq!((counters.of("c".into()), counters.of("d".into())), (Some(3), Some(4)));
        counters.take_back();
        assert_eq!((counters.of("d".into()), counters.of("b".into())), (Some(3), Some(1)));
        assert_eq!(counters.all().len(), 3);
        assert_eq!(counters.release(&HashSet::from([2])), [1], "what is new stays");
        assert_eq!((counters.of("b".into()), counters.of("e".into())), (Some(1), Some(4)));
    }
}
