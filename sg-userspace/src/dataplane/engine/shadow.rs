//! A candidate beside what is in force: devices that both name have the candidate's policy
//! judge new flows, too. What is decided, counted and remembered of flows stays as it was, so
//! the epoch does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sg_common::{
    generation::{CONFIRMED, Generation, NO_POLICY, flags},
    limits::MAX_POLICIES,
    shadow::{self, pack},
};

use super::{Engine, EngineError, compare::expected, kernel, key_of, policy::Policy};
use crate::{
    compiler::{live::Live, skeleton::sets},
    dataplane::{
        machine::Machine,
        policies::{self, PolicyError},
    },
    effective::{Members, PolicyKey},
    model::Model,
};

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
        if let (Some(model), Some((last, known))) = (candidate, &self.shadowed)
            && Arc::ptr_eq(model, last)
            && known == machine
            && self.bound.values().all(|b| b.is_told_apart())
        {
            return Ok(self.bound.values().filter(|b| b.generation.shadow != 0).map(|b| b.device.clone()).collect());
        }
        self.shadowed = None;
        let wanted = match candidate {
            Some(model) => self.candidates(model, machine)?,
            None => HashMap::new(),
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
        self.shadowed = candidate.map(|model| (model.clone(), machine.clone()));
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
    fn candidates(&mut self, model: &Arc<Model>, machine: &Machine) -> Result<HashMap<u32, u32>, EngineError> {
        let resolved = machine.resolve(model);
        let members = Members::of_all(model, &resolved.instances);
        let mut by_key: BTreeMap<PolicyKey, u32> = BTreeMap::new();
        let mut made: BTreeMap<u32, Policy> = BTreeMap::new();
        let mut wanted = HashMap::new();
        for binding in &resolved.bindings {
            let index = binding.device.index;
            if self.bound.get(&index).is_none_or(|b| b.generation.policy == NO_POLICY || b.passes()) {
                continue;
            }
            let key = key_of(model, &resolved, binding);
            let shadow = match by_key.get(&key) {
                Some(shadow) => *shadow,
                None => {
                    let (skeleton, sources) = self.skeleton(model, &key)?;
                    let sets = sets(model, &members, &sources);
                    // One in force that says the same will do.
                    let same =
                        |p: &Policy| !p.spoiled && p.live.skeleton == skeleton && p.live.difference(&sets).is_empty();
                    let found = self.policies.iter().chain(&made).find(|(_, p)| same(p));
                    let found = found.map(|(i, p)| pack(*i, p.live.tables.size_class() as u32));
                    match found {
                        Some(shadow) => shadow,
                        None => {
                            let free = match self.free_index(&made) {
                                Some(free) => free,
                                None => {
                                    let keep = by_key.values().map(|shadow| shadow::index(*shadow)).collect();
                                    self.tidy_but(&keep)?;
                                    self.free_index(&made).ok_or(PolicyError::Full)?
                                }
                            };
                            let mut live = Live::build(skeleton, &sets)?;
                            let held = policies::make(free, &live.tables)?;
                            live.settle();
                            let class = live.tables.size_class() as u32;
                            made.insert(free, Policy::beside(live, held, sources));
                            pack(free, class)
                        }
                    }
                }
            };
            by_key.insert(key, shadow);
            wanted.insert(index, shadow);
        }
        self.counters.keep();
        policies::name(&self.object.maps, made.values().map(|p| &p.held))?;
        self.policies.extend(made);
        Ok(wanted)
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
