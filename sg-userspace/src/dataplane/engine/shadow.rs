//! A candidate beside what is in force: devices that both name have the candidate's policy
//! judge new flows, too. What is decided, counted and remembered of flows stays as it was, so
//! the epoch does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sg_common::{
    generation::{CONFIRMED, Generation, NO_POLICY, flags},
    limits::MAX_POLICIES,
    shadow::{self, pack},
};

use super::{
    Bound, Engine, EngineError,
    compare::expected,
    difference::{Differences, Known},
    kernel, key_of,
    policy::{Policy, changes_of},
};
use crate::{
    compiler::{live::Live, skeleton::sets},
    dataplane::{
        machine::{Binding, Machine},
        policies::{self, PolicyError},
    },
    effective::{Members, PolicyKey, Remote},
    model::Model,
};

/// A candidate, when it was last given out.
pub(super) struct Shadowed {
    model: Arc<Model>,
    machine: Machine,
    /// What its groups and lists held.
    known: Known,
    /// Where the policy of each key was.
    policies: HashMap<PolicyKey, Place>,
}

/// A candidate's policy.
#[derive(Clone)]
struct Place {
    index: u32,
    /// What its sources are in the candidate.
    sources: Vec<Remote>,
    /// Which it was.
    version: u64,
}

impl Place {
    /// As it is now; `None` if it is not what it was written as.
    fn of<'a>(&self, policies: &'a BTreeMap<u32, Policy>) -> Option<&'a Policy> {
        policies.get(&self.index).filter(|p| !p.spoiled && p.version == self.version)
    }
}

impl Engine {
    /// Has the devices judged by a candidate, too, or by none; to be called after each change
    /// of what is in force. While something is on trial all stays as it is. Returns the devices.
    ///
    /// # Errors
    /// A policy that does not fit, or what the kernel says; then some devices are judged by
    /// what was the candidate before.
    pub fn shadow(&mut self, candidate: Option<&Arc<Model>>, machine: &Machine) -> Result<Vec<String>, EngineError> {
        if self.trial.is_some() {
            return Ok(Vec::new());
        }
        if let (Some(model), Some(last)) = (candidate, &self.shadowed)
            && Arc::ptr_eq(model, &last.model)
            && last.machine == *machine
            // One that is also in force may have been patched, or found to be no longer what it was.
            && last.policies.values().all(|place| place.of(&self.policies).is_some())
            && self.bound.values().all(|b| b.is_told_apart())
        {
            return Ok(self.bound.values().filter(|b| b.generation.shadow != 0).map(|b| b.device.clone()).collect());
        }
        // After a failure nothing is taken for known.
        let last = self.shadowed.take();
        let (wanted, given) = match candidate {
            Some(model) => {
                let (wanted, given) = self.candidates(model, machine, last)?;
                (wanted, Some(given))
            }
            None => (HashMap::new(), None),
        };
        let devices: Vec<u32> = self.bound.keys().copied().collect();
        let mut shadowed = Vec::new();
        for index in devices {
            let shadow = wanted.get(&index).copied().unwrap_or(0);
            if self.name_candidate(index, shadow)? {
                shadowed.push(self.bound[&index].device.clone());
            }
            if let Some(bound) = self.bound.get_mut(&index) {
                bound.told_apart = Some((bound.generation.policy, shadow));
            }
        }
        self.shadowed = given;
        Ok(shadowed)
    }

    /// Lets go of all candidates, whose policies are in the way of others.
    pub(super) fn drop_candidates(&mut self) -> Result<(), EngineError> {
        self.shadowed = None;
        for index in self.bound.keys().copied().collect::<Vec<_>>() {
            self.name_candidate(index, 0)?;
        }
        Ok(())
    }

    /// The candidate's policies by device, written.
    fn candidates(
        &mut self,
        model: &Arc<Model>,
        machine: &Machine,
        last: Option<Shadowed>,
    ) -> Result<(HashMap<u32, u32>, Shadowed), EngineError> {
        let resolved = machine.local(model);
        let (mut known, before) = match last {
            Some(last) => (Some(last.known), last.policies),
            None => (None, HashMap::new()),
        };
        let differences = known.as_mut().and_then(|known| known.follow(model, &resolved));
        let known = match (known, &differences) {
            (Some(known), Some(_)) => known,
            _ => Known::new(model, &resolved),
        };
        let judged = |b: &&Binding| {
            self.bound.get(&b.device.index).is_some_and(|b| b.generation.policy != NO_POLICY && !b.passes())
        };
        let keys: HashMap<u32, PolicyKey> =
            resolved.bindings.iter().filter(judged).map(|b| (b.device.index, key_of(model, &resolved, b))).collect();
        let mut places: HashMap<PolicyKey, Place> = HashMap::new();
        let mut made: BTreeMap<u32, Policy> = BTreeMap::new();
        // In the order of keys, so that the same candidate has the same policies.
        for key in keys.values().collect::<BTreeSet<_>>() {
            let follows = before.get(key).zip(differences.as_ref());
            let kept = match follows {
                Some((place, differences)) => self.follow_candidate(place, differences, &keys, &before)?,
                None => None,
            };
            let place = match kept {
                Some(place) => place,
                None => self.candidate(model, &known.members, key, &places, &mut made)?,
            };
            places.insert(key.clone(), place);
        }
        self.counters.keep();
        policies::name(&self.object.maps, made.values().map(|p| &p.held))?;
        self.policies.extend(made);
        let shadow = |key| {
            let index = places.get(key).map(|place: &Place| place.index)?;
            Some(pack(index, self.policies.get(&index)?.live.tables.size_class() as u32))
        };
        let wanted = keys.iter().filter_map(|(device, key)| Some((*device, shadow(key)?))).collect();
        let given = Shadowed { model: model.clone(), machine: machine.clone(), known, policies: places };
        Ok((wanted, given))
    }

    /// A candidate's policy after its groups and lists have changed: the same where it is,
    /// patched if need be. `None` where it has to be looked for: one that is in force as well
    /// follows what is in force, and one that a device goes over to, or leaves, at the same
    /// time would judge that by the addresses of another moment.
    fn follow_candidate(
        &mut self,
        place: &Place,
        differences: &Differences,
        keys: &HashMap<u32, PolicyKey>,
        before: &HashMap<PolicyKey, Place>,
    ) -> Result<Option<Place>, EngineError> {
        let Some(policy) = place.of(&self.policies) else { return Ok(None) };
        let changes = changes_of(&place.sources, differences);
        if changes.is_empty() {
            return Ok(Some(place.clone()));
        }
        let index = place.index;
        let named = |b: &Bound| b.generation.shadow != 0 && shadow::index(b.generation.shadow) == index;
        let keeps = |(device, bound): (&u32, &Bound)| {
            let own = keys.get(device).and_then(|key| before.get(key)).is_some_and(|p| p.index == index);
            own == named(bound)
        };
        let in_force =
            policy.current || self.bound.values().any(|b| b.generation.policy == index || b.returns_to(index));
        if in_force || !self.bound.iter().all(keeps) {
            return Ok(None);
        }
        let Some(policy) = self.policies.get_mut(&index) else { return Ok(None) };
        let Some(steps) = policy.change(&changes, &mut self.grace) else { return Ok(None) };
        policy.held.write(&steps)?;
        policy.spoiled = false;
        Ok(Some(Place { version: policy.version, ..place.clone() }))
    }

    /// A policy of a candidate that is looked for among those there are, or made.
    fn candidate(
        &mut self,
        model: &Model,
        members: &Members,
        key: &PolicyKey,
        places: &HashMap<PolicyKey, Place>,
        made: &mut BTreeMap<u32, Policy>,
    ) -> Result<Place, EngineError> {
        let (skeleton, sources) = self.skeleton(model, key)?;
        let sets = sets(model, members, &sources);
        // One in force that says the same will do.
        let same = |p: &Policy| !p.spoiled && p.live.skeleton == skeleton && p.live.difference(&sets).is_empty();
        if let Some((&index, found)) = self.policies.iter().chain(&*made).find(|(_, p)| same(p)) {
            return Ok(Place { index, sources, version: found.version });
        }
        let free = match self.free_index(made) {
            Some(free) => free,
            None => {
                let keep = places.values().map(|place| place.index).collect();
                self.tidy_but(&keep)?;
                self.free_index(made).ok_or(PolicyError::Full)?
            }
        };
        let mut live = Live::build(skeleton, &sets)?;
        let held = policies::make(free, &live.tables)?;
        live.settle();
        let policy = Policy::beside(live, held, sources.clone());
        let version = policy.version;
        made.insert(free, policy);
        Ok(Place { index: free, sources, version })
    }

    fn free_index(&self, made: &BTreeMap<u32, Policy>) -> Option<u32> {
        let taken = |i: &u32| self.policies.contains_key(i) || self.foreign.contains(i) || made.contains_key(i);
        (0..MAX_POLICIES).find(|i| !taken(i))
    }

    /// Makes a device's generation name a candidate; whether it names one now.
    fn name_candidate(&mut self, index: u32, shadow: u32) -> Result<bool, EngineError> {
        let Some(bound) = self.bound.get(&index) else { return Ok(false) };
        let flag = if shadow == 0 { 0 } else { flags::SHADOW };
        let flags = bound.generation.flags & !flags::SHADOW | flag;
        if (bound.generation.shadow, bound.generation.flags) != (shadow, flags) {
            let there = self.object.maps.generations.get(&bound.record).map_err(kernel("read a generation"))?;
            // As the program may have left it: it ends observations.
            let there = there.map_or(bound.generation, |there| expected(&bound.generation, &there));
            if there.deadline != CONFIRMED {
                // What it returns to must stay what it names.
                return Ok(bound.generation.shadow != 0);
            }
            let wanted = Generation { shadow, flags, previous: bound.record, ..there };
            let record = bound.next_record();
            self.object.maps.generations.update(&record, &wanted).map_err(kernel("write a generation"))?;
            self.object.maps.ifaces.update(&index, &u64::from(record)).map_err(kernel("flip a generation"))?;
            if let Some(bound) = self.bound.get_mut(&index) {
                (bound.record, bound.generation) = (record, wanted);
            }
        }
        Ok(shadow != 0)
    }
}
