//! The policy in force: takes what the documents and the machine say, and makes
//! the kernel agree. Idempotent: what is already so is not written.
//!
//! Order: everything is compiled before anything is written; a new device is
//! bound and denies before its policy is; a policy is whole before a generation
//! names it; a generation is whole before the interface's entry flips to it.

mod bind;
mod compare;
mod difference;
mod error;
mod observe;
mod open;
mod order;
mod policy;
mod proof;
mod repin;
mod reset;
mod room;
mod settings;
mod shadow;
mod trial;

pub use open::Setup;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use difference::Known;
use error::{CLOCK, kernel};
use policy::{Policy, Prepared, key_of};
use sg_common::{
    generation::{CONFIRMED, Config, Generation, NO_POLICY, flags, on_change},
    limits::{MAX_GENERATIONS, MAX_IFINDEX, MAX_SLOTS},
    quota::Quotas,
};

pub use self::{
    error::EngineError,
    observe::Beginning,
    proof::Attached,
    reset::{bound_to, is_routed_here},
    room::Used,
};
pub use super::report::{OnChange, Preview, Report, Resets};
use super::{
    attach::{self, Place},
    carry::Carried,
    counters::Counters,
    dry::{Dry, DryError},
    events::Ring,
    filter,
    machine::{Machine, Resolved},
    object::{self, Object},
    pins::Pins,
    policies::PolicyError,
    quotas::ledger::Ledger,
    report::Observed,
    shapes::Sizes,
    sys,
};
use crate::{
    effective::{Members, PolicyKey},
    model::{Hook, Model},
};
pub use order::Order;

/// A protected device.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its name.
    pub device: String,
    /// Index of its counters.
    pub slot: u32,
    /// Index of its record.
    record: u32,
    /// What it enforces.
    pub generation: Generation,
    /// What it returns to, while that generation is on trial.
    base: Option<trial::Return>,
    /// Own addresses in the kernel (guests).
    own: BTreeSet<IpAddr>,
    /// Where the programs sit: device ingress, device egress.
    pub places: Option<[Place; 2]>,
    hook: Hook,
    /// Its policy and its candidate when candidates were last given out.
    told_apart: Option<(u32, u32)>,
    /// When a guest's observation is over.
    pub until: Option<Instant>,
    /// What it carried when it began to enforce, if this daemon saw that.
    pub observed: Option<Observed>,
}

impl Bound {
    /// Whether it passes everything yet.
    pub fn is_observing(&self) -> bool {
        self.generation.flags & flags::OBSERVE != 0
    }

    /// Whether it has the candidate that it was given, beside the policy that it had then.
    fn is_told_apart(&self) -> bool {
        self.told_apart == Some((self.generation.policy, self.generation.shadow))
    }

    /// A generation as it would be here if nothing else were different; `trial`: while
    /// something is on trial.
    fn settle(&self, wanted: Generation, trial: bool) -> Generation {
        let Generation { zone, slot, epoch, previous, on_change, drain_until, observe_until, .. } = self.generation;
        let observe_until = if wanted.flags & flags::OBSERVE != 0 { observe_until } else { 0 };
        // Who changes one field of the generation that is there does not confirm it.
        let deadline = if trial { self.generation.deadline } else { wanted.deadline };
        // The candidate beside it follows later.
        let (shadow, flags) = (self.generation.shadow, wanted.flags | self.generation.flags & flags::SHADOW);
        let kept = Generation { zone, slot, epoch, previous, on_change, drain_until, observe_until, ..wanted };
        Generation { deadline, shadow, flags, ..kept }
    }
}

/// Everything in the kernel.
pub struct Engine {
    object: Object,
    pins: Pins,
    tcx: bool,
    hz: u32,
    bound: BTreeMap<u32, Bound>,
    policies: BTreeMap<u32, Policy>,
    /// Where the policy of each key is; good while rules and groups stay as they are.
    keys: HashMap<PolicyKey, u32>,
    /// What groups and lists hold; `None` before the first policy, and after a failure.
    known: Option<Known>,
    /// Grace periods that have passed.
    grace: u64,
    /// Policy indices of an earlier daemon, until nothing uses them.
    foreign: BTreeSet<u32>,
    /// Programs of others that ours were put before.
    passed: BTreeSet<super::order::Before>,
    counters: Counters,
    epoch: u32,
    zone: u32,
    beginning: Beginning,
    /// Descriptors of pinned links, by device: without bpffs they keep the links.
    held: BTreeMap<u32, [Option<OwnedFd>; 2]>,
    /// While policies are written to a set that is not in force yet: nothing is
    /// attached or let go of, and what a change meant for live flows still holds.
    carrying: bool,
    carried: Option<Carried>,
    trial: Option<trial::Trial>,
    /// Jiffies when putting a policy in force last began, and ended.
    span: (u32, u32),
    compared: compare::Compared,
    /// The candidate as it was when candidates were last given out.
    shadowed: Option<shadow::Shadowed>,
    /// Flag of generations whose flows are counted, or none.
    account: u32,
    /// What the program's configuration and its quotas were made.
    config: Config,
    quotas: Option<Quotas>,
    /// What the counts of flows are to agree with, and the filter as it was last seen.
    ledger: Ledger,
    filter: Option<filter::Seen>,
}

impl Engine {
    /// Reads what an earlier daemon left in force.
    fn adopt(&mut self, machine: &Machine) -> io::Result<()> {
        for record in 1..MAX_GENERATIONS {
            if let Some(g) = self.object.maps.generations.get(&record)? {
                self.epoch = self.epoch.max(g.epoch);
                self.zone = self.zone.max(g.zone);
            }
        }
        let own_keys = self.object.maps.own.keys()?;
        // A clsact filter has no pin; a device that is gone may still have one.
        let mut indices: BTreeSet<u32> = machine.devices.iter().map(|d| d.index).filter(|i| *i < MAX_IFINDEX).collect();
        indices.extend(attach::pinned(&self.pins.links));
        for index in indices {
            if attach::is_stale(&self.pins.links, index) {
                // A device that has the index now inherits nothing.
                attach::detach(&self.pins.links, index, None)?;
                self.object.maps.ifaces.update(&index, &0)?;
            }
            let Some(record) = self.object.maps.ifaces.get(&index)?.filter(|r| *r != 0) else { continue };
            let Some(generation) = self.object.maps.generations.get(&(record as u32))? else { continue };
            let own = own_keys.iter().filter(|k| k.zone == generation.zone).map(|k| k.addr.into()).collect();
            // What an earlier daemon had on trial the program may have taken back by itself.
            let base = match generation.deadline {
                CONFIRMED => None,
                _ => self.object.maps.generations.get(&generation.previous)?,
            };
            let base = base.map(|base| trial::Return { record: generation.previous, generation: base });
            let slot = generation.slot;
            let bound = Bound {
                device: String::new(),
                slot,
                record: record as u32,
                generation,
                base,
                own,
                places: None,
                hook: Hook::Auto,
                told_apart: None,
                until: None,
                observed: None,
            };
            self.foreign.extend(bound.policies().filter(|p| *p != NO_POLICY));
            self.bound.insert(index, bound);
        }
        // Of devices that went away while no daemon was there.
        let zones: BTreeSet<u32> = self.bound.values().map(|b| b.generation.zone).collect();
        own_keys.iter().filter(|k| !zones.contains(&k.zone)).try_for_each(|k| self.object.maps.own.delete(k).map(drop))
    }

    /// Protected devices by index.
    pub fn bound(&self) -> &BTreeMap<u32, Bound> {
        &self.bound
    }

    /// The maps, for counters and flows.
    pub fn maps(&self) -> &object::Maps {
        &self.object.maps
    }

    /// Jiffies when putting a policy in force last began, and ended.
    pub fn span(&self) -> (u32, u32) {
        self.span
    }

    /// The last epoch that was given.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The program loaded once more over the tables in force, to answer only.
    ///
    /// # Errors
    /// As loading it.
    pub fn dry(&self) -> Result<Dry, DryError> {
        let maps = &self.object.maps;
        let size = |error| DryError::Kernel { what: "read the size of a table", error };
        let sizes =
            Sizes { flows: maps.flows4.capacity().map_err(size)?, churn: maps.churn4[0].capacity().map_err(size)? };
        Dry::load(&self.pins.dir, sizes)
    }

    /// What the kernel program tells.
    ///
    /// # Errors
    /// The ring buffer cannot be mapped.
    pub fn ring(&self) -> io::Result<Ring> {
        Ring::open(&self.object)
    }

    /// Rule counters by identity.
    pub fn counters(&self) -> &Arc<HashMap<String, u32>> {
        self.counters.ids()
    }

    /// What was carried over from another set of maps when this one was opened.
    pub fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// Kernel ticks a second.
    pub fn ticks_per_second(&self) -> u32 {
        self.hz
    }

    /// The program's debug lines; `None` unless it was built with them.
    pub fn debug_lines(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.object.ebpf).ok()
    }

    /// The program's clock.
    ///
    /// # Errors
    /// What running the clock program says.
    pub fn jiffies(&mut self) -> io::Result<u32> {
        self.object.jiffies()
    }

    /// Makes the kernel agree with the model on this machine.
    ///
    /// # Errors
    /// A policy that does not fit is refused before anything is written; what
    /// the kernel refuses later leaves what was in force, in force.
    pub fn enforce(&mut self, model: &Arc<Model>, machine: &Machine, mode: OnChange) -> Result<Report, EngineError> {
        let begun = self.jiffies().unwrap_or(self.span.1);
        let report = self.agree(model, machine, mode);
        self.span = (begun, self.jiffies().unwrap_or(begun));
        if report.is_err() {
            self.close_hosts();
        }
        report
    }

    fn agree(&mut self, model: &Arc<Model>, machine: &Machine, mode: OnChange) -> Result<Report, EngineError> {
        let resolved = machine.local(model);
        if resolved.bindings.len() >= MAX_SLOTS as usize {
            return Err(EngineError::Slots(resolved.bindings.len()));
        }
        if let Some(far) = resolved.bindings.iter().find(|b| b.device.index >= MAX_IFINDEX) {
            return Err(EngineError::Index(far.device.name.clone(), far.device.index));
        }
        self.follow_trial(machine);
        // After a failure nothing is taken for known.
        let mut known = self.known.take();
        let needs = self.needs(model, machine, &resolved, &mut known)?;
        let none = Members::default();
        let ready = self.ready(model, known.as_ref().map_or(&none, |k| &k.members), needs)?;
        self.counters.keep();
        let mut report = Report {
            absent: resolved.absent.clone(),
            refused: resolved.refused.iter().map(|r| format!("{}: {}", r.device, r.why)).collect(),
            ..Report::default()
        };
        let failures = self.bind(model, &resolved, &mut report)?;
        let prepared = self.prepare(ready, &mut report)?;
        // Everything is there that the flips need, and nothing is judged by it yet. A change that is
        // about to be taken back resets nothing: that could not be.
        if mode == OnChange::Reset && failures.is_none() {
            report.reset = Some(self.reset(model, machine, &resolved, &prepared.put));
        }
        if let Err(error) = self.put_in_force(model, machine, &resolved, prepared, mode, &mut report) {
            let connections = report.reset.map_or(0, |resets| resets.connections);
            return Err(if connections == 0 { error } else { EngineError::AfterReset(connections, Box::new(error)) });
        }
        self.known = known;
        match failures {
            Some(e) => Err(e),
            None => Ok(report),
        }
    }

    /// Writes what is prepared, and has every device go by it.
    fn put_in_force(
        &mut self,
        model: &Model,
        machine: &Machine,
        resolved: &Resolved,
        prepared: Prepared,
        mode: OnChange,
        report: &mut Report,
    ) -> Result<(), EngineError> {
        let policies = self.write(prepared, report)?;
        for binding in &resolved.bindings {
            if !self.bound.contains_key(&binding.device.index) {
                continue;
            }
            let instance = &resolved.instances[binding.instance];
            let put = *policies.get(&key_of(model, resolved, binding)).ok_or(PolicyError::Full)?;
            let generation = self.wanted(model, resolved, binding, put);
            let guest = generation.flags & flags::GUEST != 0;
            let own = if guest { instance.addresses.as_slice() } else { &[] };
            // What it is to have is there before the flip, what it no longer has until after.
            self.add_own(binding.device.index, own)?;
            if self.flip(binding.device.index, generation, mode, put.patched)? {
                report.changed.push(binding.device.name.clone());
            }
            // It may have to return to those it had before a trial.
            if self.trial.is_none() {
                self.own(binding.device.index, own)?;
            }
        }
        if !self.carrying {
            self.adopt_hosts(model, machine, resolved, mode, report)?;
        }
        self.unbind(machine, resolved, report)
    }

    /// Flips a device to a new generation, unless it already enforces the same.
    /// After its policy was `patched` the record differs in the epoch alone, so that
    /// live flows are judged once more.
    fn flip(&mut self, index: u32, wanted: Generation, mode: OnChange, patched: bool) -> Result<bool, EngineError> {
        let Some(bound) = self.bound.get(&index) else { return Ok(false) };
        let mut wanted = bound.settle(wanted, self.trial.is_some());
        if wanted == bound.generation && !patched {
            return Ok(false);
        }
        self.epoch += 1;
        wanted.epoch = self.epoch;
        wanted.previous = if wanted.deadline == CONFIRMED { bound.record } else { bound.generation.previous };
        (wanted.on_change, wanted.drain_until) = match mode {
            _ if self.carrying => (wanted.on_change, wanted.drain_until),
            OnChange::Unasked if bound.generation.drains_at(self.object.jiffies().map_err(kernel(CLOCK))?) => {
                (on_change::DRAIN, bound.generation.drain_until)
            }
            OnChange::Cut | OnChange::Reset | OnChange::Unasked => (on_change::CUT, 0),
            OnChange::Keep => (on_change::KEEP, 0),
            OnChange::Drain(seconds) => {
                let now = self.object.jiffies().map_err(kernel(CLOCK))?;
                (on_change::DRAIN, now.wrapping_add(seconds.saturating_mul(self.hz)))
            }
        };
        self.on_trial(index, &mut wanted)?;
        let Some(bound) = self.bound.get(&index) else { return Ok(false) };
        let record = bound.next_record();
        self.object.maps.generations.update(&record, &wanted).map_err(kernel("write a generation"))?;
        self.object.maps.ifaces.update(&index, &u64::from(record)).map_err(kernel("flip a generation"))?;
        if let Some(bound) = self.bound.get_mut(&index) {
            bound.record = record;
            bound.generation = wanted;
            if wanted.deadline == CONFIRMED {
                bound.base = None;
            }
        }
        Ok(true)
    }

    /// Policies that nothing uses.
    fn stale(&self) -> Vec<u32> {
        let used: BTreeSet<u32> = self.bound.values().flat_map(Bound::policies).collect();
        self.policies.keys().chain(&self.foreign).copied().filter(|i| !used.contains(i)).collect()
    }

    /// Whether [`Engine::tidy`] has nothing to do: then no counter is about to be emptied.
    pub fn is_tidy(&self) -> bool {
        self.stale().is_empty()
    }

    /// Removes policies that nothing uses, and gives back the counters of their rules.
    /// The kernel waits for milliseconds after each, so this is done when no change is
    /// under way.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tidy(&mut self) -> Result<(), EngineError> {
        self.tidy_but(&BTreeSet::new())
    }

    /// The same, but for policies that are about to be used.
    fn tidy_but(&mut self, keep: &BTreeSet<u32>) -> Result<(), EngineError> {
        let stale: Vec<u32> = self.stale().into_iter().filter(|index| !keep.contains(index)).collect();
        if stale.is_empty() {
            return Ok(());
        }
        if sys::grace_period().is_err() {
            // A packet that read the old generation before the flip is judged within
            // microseconds; a kernel that isolates CPUs will not say when.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        self.grace += 1;
        for index in stale {
            self.remove(index)?;
        }
        self.retire()
    }
}
