//! What each policy needs: nothing, a few writes where it is, or to be made anew.
//!
//! A policy is patched in place only if every device that has it keeps it, with
//! everything else as it was: whoever goes over to another policy at the same
//! time would otherwise be judged by the old rules with the new addresses. Such a
//! policy is made anew, beside the old one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sg_common::{
    event::Counter,
    generation::{Generation, flags},
    limits::MAX_POLICIES,
};

use super::{
    Engine, EngineError,
    difference::{Differences, Known},
    kernel,
};
use crate::{
    compiler::{
        live::{Change, Live, Step},
        skeleton::{Skeleton, sets},
    },
    dataplane::{
        clock::possible_cpus,
        machine::{Binding, Machine, Resolved},
        policies::{self, Held, PolicyError, Walks},
        probe::generation_of,
        report::{Preview, Report},
        sys,
    },
    effective::{Members, PolicyKey, Remote, identity},
    model::Model,
};

/// A policy in the kernel.
pub(super) struct Policy {
    pub(super) live: Live,
    pub(super) held: Held,
    /// What its sources are in the model in force.
    sources: Vec<Remote>,
    /// Whether it holds what the model in force says.
    pub(super) current: bool,
    /// Whether what the kernel has may differ from what `live` says.
    pub(super) spoiled: bool,
    /// How far its address tables have been compared.
    pub(super) walks: Walks,
    /// Another number after each change, and of each policy: who has it knows what it held then.
    pub(super) version: u64,
}

fn next_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Policy {
    /// One that no key of what is in force has.
    pub(super) fn beside(live: Live, held: Held, sources: Vec<Remote>) -> Self {
        Self { live, held, sources, current: false, spoiled: false, walks: Walks::default(), version: next_version() }
    }
}

impl Policy {
    /// The writes of a change of addresses; `None` if it takes a policy made anew. Until the
    /// kernel has what they say it is spoiled: nobody else may go by it.
    pub(super) fn change(&mut self, changes: &[Change], grace: &mut u64) -> Option<Vec<Step>> {
        if self.live.waits(*grace) && sys::grace_period().is_ok() {
            *grace += 1;
        }
        self.spoiled = true;
        self.version = next_version();
        self.live.change(changes, *grace).ok()
    }
}

/// What a policy needs.
pub(super) enum Need {
    /// It is there; these prefixes change, if any.
    Change { index: u32, sources: Vec<Remote>, changes: Vec<Change> },
    /// It is to be made.
    New { live: Box<Live>, sources: Vec<Remote> },
    /// As the one of another key.
    Same(PolicyKey),
}

/// Policies by key, ready to be written.
#[derive(Default)]
pub(super) struct Ready {
    /// Index of each that is there.
    there: HashMap<PolicyKey, u32>,
    /// Writes to those that change.
    steps: BTreeMap<u32, Vec<Step>>,
    /// Those to be made.
    new: Vec<(PolicyKey, Live, Vec<Remote>)>,
    same: Vec<(PolicyKey, PolicyKey)>,
}

/// New policies in the kernel, and what is still to be written to those that are there.
pub(super) struct Prepared {
    made: BTreeMap<u32, Policy>,
    steps: BTreeMap<u32, Vec<Step>>,
    /// Where the policy of each key is.
    pub put: HashMap<PolicyKey, Put>,
}

/// Where a policy is, and whether it is patched.
#[derive(Clone, Copy)]
pub(super) struct Put {
    pub index: u32,
    pub class: u32,
    pub patched: bool,
}

/// Devices of this machine, and what is bound to them.
struct Here<'a> {
    devices: HashSet<u32>,
    bindings: HashMap<u32, &'a Binding>,
}

pub(super) fn key_of(model: &Model, resolved: &Resolved, binding: &Binding) -> PolicyKey {
    PolicyKey::of(model, &resolved.instances[binding.instance])
}

/// What changes in a policy's sources.
pub(super) fn changes_of(sources: &[Remote], differences: &Differences) -> Vec<Change> {
    let of = |(i, remote)| {
        let nets: &[_] = differences.get(remote).map_or(&[], Vec::as_slice);
        nets.iter().map(move |&(net, on)| Change { source: i as u16, net, on })
    };
    sources.iter().enumerate().flat_map(of).collect()
}

impl Engine {
    /// What a device is to enforce, its policy aside.
    pub(super) fn generation(&self, model: &Model, resolved: &Resolved, binding: &Binding) -> Generation {
        let mut generation = generation_of(model, &resolved.instances[binding.instance], 0);
        generation.flags |= self.account;
        if !binding.device.ethernet {
            generation.flags |= flags::NO_L2;
        }
        generation
    }

    /// What a device is to enforce.
    pub(super) fn wanted(&mut self, model: &Model, resolved: &Resolved, binding: &Binding, put: Put) -> Generation {
        let mut generation = self.generation(model, resolved, binding);
        (generation.policy, generation.policy_class) = (put.index, put.class);
        let side = model.interfaces[resolved.instances[binding.instance].interface].side;
        generation.flags |= self.next_flags(binding.device.index, side);
        generation
    }

    /// Gives back the counters of rules that are no more, emptied. Those of an
    /// earlier daemon's policies are unknown, so it waits for these to be replaced.
    pub(super) fn retire(&mut self) -> Result<(), EngineError> {
        if !self.foreign.is_empty() {
            return Ok(());
        }
        let lines = self.policies.values().flat_map(|p| p.live.skeleton.sides.iter().flatten());
        let living = lines.map(|line| line.counter).collect();
        let zero = vec![Counter::default(); possible_cpus()];
        let empty = |id: &u32| self.object.maps.rules.update_per_cpu(id, &zero);
        self.counters.retire(&living, empty).map(drop).map_err(kernel("empty a rule's counter"))
    }

    pub(super) fn skeleton(&mut self, model: &Model, key: &PolicyKey) -> Result<(Skeleton, Vec<Remote>), EngineError> {
        let mut made = self.try_skeleton(model, key);
        if matches!(made, Err(EngineError::Counters(_))) {
            self.retire()?;
            made = self.try_skeleton(model, key);
        }
        made
    }

    fn try_skeleton(&mut self, model: &Model, key: &PolicyKey) -> Result<(Skeleton, Vec<Remote>), EngineError> {
        let mut full = false;
        let made = Skeleton::new(model, key, |origin| {
            self.counters.id(&identity(model, origin)).unwrap_or_else(|| {
                full = true;
                0
            })
        })?;
        if full {
            return Err(EngineError::Counters(self.counters.ids().len()));
        }
        Ok(made)
    }

    /// Whether a policy may be patched under its devices.
    fn keeps_devices(
        &self,
        index: u32,
        is_key: impl Fn(&PolicyKey) -> bool,
        model: &Model,
        here: &Here<'_>,
        resolved: &Resolved,
    ) -> bool {
        if self.trial.is_some() && self.bound.values().any(|b| b.returns_to(index)) {
            return false;
        }
        let mut users = self.bound.iter().filter(|(_, b)| b.generation.policy == index);
        users.all(|(device, bound)| {
            let Some(binding) = here.bindings.get(device) else { return !here.devices.contains(device) };
            let mut wanted = self.generation(model, resolved, binding);
            (wanted.policy, wanted.policy_class) = (bound.generation.policy, bound.generation.policy_class);
            is_key(&key_of(model, resolved, binding)) && bound.settle(wanted, self.trial.is_some()) == bound.generation
        })
    }

    /// What every policy of the bindings needs. Nothing is written.
    pub(super) fn needs(
        &mut self,
        model: &Arc<Model>,
        machine: &Machine,
        resolved: &Resolved,
        known: &mut Option<Known>,
    ) -> Result<BTreeMap<PolicyKey, Need>, EngineError> {
        let differences = known.as_mut().and_then(|known| known.follow(model, resolved));
        if differences.is_none() {
            *known = Some(Known::new(model, resolved));
        }
        let none = Members::default();
        let members = known.as_ref().map_or(&none, |k| &k.members);
        let here = Here {
            devices: machine.devices.iter().map(|d| d.index).collect(),
            bindings: resolved.bindings.iter().map(|b| (b.device.index, b)).collect(),
        };
        let mut needs: BTreeMap<PolicyKey, Need> = BTreeMap::new();
        for binding in &resolved.bindings {
            let key = key_of(model, resolved, binding);
            if needs.contains_key(&key) {
                continue;
            }
            let cached = differences.as_ref().and_then(|d| Some((*self.keys.get(&key)?, d)));
            let cached = cached.and_then(|(index, d)| Some((index, d, self.policies.get(&index)?)));
            let (found, sources, changes) = match cached.filter(|(_, _, p)| p.current && !p.spoiled) {
                Some((index, d, policy)) => (Ok(index), policy.sources.clone(), changes_of(&policy.sources, d)),
                None => {
                    let (skeleton, sources) = self.skeleton(model, &key)?;
                    match self.policies.iter().find(|(_, p)| !p.spoiled && p.live.skeleton == skeleton) {
                        Some((&index, policy)) => {
                            let changes = policy.live.difference(&sets(model, members, &sources));
                            (Ok(index), sources, changes)
                        }
                        None => (Err(skeleton), sources, Vec::new()),
                    }
                }
            };
            // Keys of another frame mean other groups.
            let is_key =
                |own: &PolicyKey, index| *own == key || (differences.is_some() && self.keys.get(own) == Some(&index));
            let keeps = |index| self.keeps_devices(index, |own| is_key(own, index), model, &here, resolved);
            let skeleton = match found {
                Ok(index) if changes.is_empty() || keeps(index) => {
                    needs.insert(key, Need::Change { index, sources, changes });
                    continue;
                }
                Ok(index) => self.policies[&index].live.skeleton.clone(),
                Err(skeleton) => skeleton,
            };
            let twin = needs.iter().find(|(_, n)| matches!(n, Need::New { live, .. } if live.skeleton == skeleton));
            let need = match twin {
                Some((twin, _)) => Need::Same(twin.clone()),
                None => {
                    let live = Box::new(Live::build(skeleton, &sets(model, members, &sources))?);
                    Need::New { live, sources }
                }
            };
            needs.insert(key, need);
        }
        Ok(needs)
    }

    /// Finds the writes of the policies that change in place; those that can not
    /// are compiled. Nothing is written.
    pub(super) fn ready(
        &mut self,
        model: &Model,
        members: &Members,
        needs: BTreeMap<PolicyKey, Need>,
    ) -> Result<Ready, EngineError> {
        let mut ready = Ready::default();
        for (key, need) in needs {
            match need {
                Need::Same(twin) => ready.same.push((key, twin)),
                Need::New { live, sources } => ready.new.push((key, *live, sources)),
                Need::Change { index, sources, changes } => {
                    let Some(policy) = self.policies.get_mut(&index) else { continue };
                    if !changes.is_empty()
                        && !ready.steps.contains_key(&index)
                        && !policy.spoiled
                        && let Some(steps) = policy.change(&changes, &mut self.grace)
                    {
                        ready.steps.insert(index, steps);
                    }
                    if policy.spoiled && !ready.steps.contains_key(&index) {
                        let skeleton = policy.live.skeleton.clone();
                        if let Some((twin, ..)) = ready.new.iter().find(|(_, live, _)| live.skeleton == skeleton) {
                            ready.same.push((key, twin.clone()));
                        } else {
                            let live = Live::build(skeleton, &sets(model, members, &sources))?;
                            ready.new.push((key, live, sources));
                        }
                        continue;
                    }
                    policy.sources = sources;
                    ready.there.insert(key, index);
                }
            }
        }
        Ok(ready)
    }

    /// Makes the new policies, which nothing goes by yet.
    pub(super) fn prepare(&mut self, ready: Ready, report: &mut Report) -> Result<Prepared, EngineError> {
        if self.policies.len() + self.foreign.len() + ready.new.len() > MAX_POLICIES as usize {
            if self.trial.is_none() {
                self.drop_candidates()?;
            }
            self.tidy_but(&ready.there.values().copied().collect())?;
        }
        let mut made = BTreeMap::new();
        let mut put: HashMap<PolicyKey, Put> = HashMap::new();
        for (key, live, sources) in ready.new {
            let taken = |i: &u32| self.policies.contains_key(i) || self.foreign.contains(i) || made.contains_key(i);
            let index = (0..MAX_POLICIES).find(|i| !taken(i)).ok_or(PolicyError::Full)?;
            let held = policies::make(index, &live.tables)?;
            put.insert(key, Put { index, class: live.tables.size_class() as u32, patched: false });
            made.insert(index, Policy { current: true, ..Policy::beside(live, held, sources) });
        }
        policies::name(&self.object.maps, made.values().map(|p| &p.held))?;
        report.policies += made.len();
        made.values_mut().for_each(|p| p.live.settle());
        for (key, index) in ready.there {
            let Some(policy) = self.policies.get(&index) else { continue };
            let patched = ready.steps.get(&index).is_some_and(|steps| !steps.is_empty());
            put.insert(key, Put { index, class: policy.live.tables.size_class() as u32, patched });
        }
        for (key, twin) in ready.same {
            if let Some(found) = put.get(&twin).copied() {
                put.insert(key, found);
            }
        }
        Ok(Prepared { made, steps: ready.steps, put })
    }

    /// Writes to those that change in place; returns where each policy is.
    pub(super) fn write(
        &mut self,
        prepared: Prepared,
        report: &mut Report,
    ) -> Result<HashMap<PolicyKey, Put>, EngineError> {
        let Prepared { made, steps, put } = prepared;
        for (index, steps) in &steps {
            let Some(policy) = self.policies.get_mut(index) else { continue };
            policy.held.write(steps)?;
            policy.spoiled = false;
            report.deltas += usize::from(!steps.is_empty());
        }
        self.policies.extend(made);
        self.keys = put.iter().map(|(key, put)| (key.clone(), put.index)).collect();
        for (index, policy) in &mut self.policies {
            policy.current = put.values().any(|put| put.index == *index);
        }
        Ok(put)
    }

    /// Takes a policy out that no generation names.
    pub(super) fn remove(&mut self, index: u32) -> Result<(), EngineError> {
        policies::remove(&self.object.maps, index).map_err(kernel("remove a policy"))?;
        self.foreign.remove(&index);
        self.keys.retain(|_, i| *i != index);
        if let Some(policy) = self.policies.remove(&index) {
            let prefixes = policy.live.prefixes();
            policy.held.free(prefixes);
        }
        Ok(())
    }

    /// What a model would write, without writing it: policies, their table
    /// entries, and bytes.
    ///
    /// # Errors
    /// A policy that does not fit.
    pub fn preview(&mut self, model: &Arc<Model>, machine: &Machine) -> Result<Preview, EngineError> {
        let mut known = self.known.as_ref().map(Known::copy);
        let needs = self.needs(model, machine, &machine.local(model), &mut known);
        self.counters.take_back();
        let mut preview = Preview::default();
        let mut seen = Vec::new();
        for need in needs?.values() {
            match need {
                Need::New { live, .. } => {
                    preview.policies += 1;
                    preview.entries += live.tables.hosts.len() + live.tables.prefixes.len();
                    preview.bytes += live.tables.flat.len();
                }
                Need::Change { index, changes, .. } if !changes.is_empty() && !seen.contains(index) => {
                    preview.deltas += 1;
                    preview.addresses += changes.len();
                    seen.push(*index);
                }
                Need::Change { .. } | Need::Same(_) => {}
            }
        }
        Ok(preview)
    }
}
