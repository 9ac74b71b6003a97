//! Devices: what is named is bound, what is not is let go of. How a device
//! begins that is already up, see [`super::observe`].

use std::{collections::BTreeSet, net::IpAddr};

use sg_common::{
    generation::{Generation, NO_POLICY, OwnKey, flags},
    limits::MAX_SLOTS,
};

use super::{Beginning, Bound, Engine, EngineError, kernel};
use crate::{
    dataplane::{
        attach::{self, Links},
        flows,
        machine::{Device, Machine, Resolved},
        probe::generation_of,
        quotas::Counts,
        report::{OnChange, Report},
    },
    model::{Hook, Instance, Model},
};

impl Engine {
    /// Gives a guest more addresses of its own.
    pub(super) fn add_own(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), EngineError> {
        let Some(bound) = self.bound.get_mut(&index) else { return Ok(()) };
        for &addr in addresses {
            if !bound.own.contains(&addr) {
                let key = OwnKey { zone: bound.generation.zone, addr: addr.into() };
                self.object.maps.own.update(&key, &1).map_err(kernel("write an own address"))?;
                bound.own.insert(addr);
            }
        }
        Ok(())
    }

    /// Makes the own addresses of a guest what they are; whoever is no guest has none.
    pub(super) fn own(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), EngineError> {
        self.add_own(index, addresses)?;
        let Some(bound) = self.bound.get_mut(&index) else { return Ok(()) };
        let zone = bound.generation.zone;
        let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        for &addr in bound.own.difference(&wanted) {
            let key = OwnKey { zone, addr: addr.into() };
            self.object.maps.own.delete(&key).map_err(kernel("remove an own address"))?;
        }
        bound.own = wanted;
        Ok(())
    }

    /// Binds what is named and is not bound yet, for when its policy cannot be
    /// put in force: such a device denies. The others keep what they enforce.
    ///
    /// # Errors
    /// The first device that could not be bound.
    pub fn deny(&mut self, model: &Model, machine: &Machine) -> Result<Report, EngineError> {
        let mut report = Report::default();
        let resolved = machine.resolve(model);
        // What has no policy denies; it does not observe first.
        self.begin(Beginning::default());
        let failed = self.bind(model, &resolved, &mut report)?;
        // Where the hook that is asked for cannot be had, TC is better than nothing. What was
        // asked for is tried again with every change.
        let (dir, tcx) = (self.pins.links.clone(), self.tcx);
        for device in resolved.bindings.iter().map(|b| &b.device) {
            let Some(bound) = self.bound.get_mut(&device.index).filter(|b| b.places.is_none()) else { continue };
            if let Ok(attached) = attach::attach(&mut self.object, device, Hook::Tc, Links { dir: &dir, tcx }) {
                bound.places = Some(attached.places);
                bound.hook = Hook::Tc;
                bound.device.clone_from(&device.name);
            }
            self.held.insert(device.index, attach::hold(&dir, device.index));
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(report),
        }
    }

    /// Binds what is named: a new device denies before it has a policy. The
    /// first failure is returned at the end, so that one bad device does not
    /// leave the others open.
    pub(super) fn bind(
        &mut self,
        model: &Model,
        resolved: &Resolved,
        report: &mut Report,
    ) -> Result<Option<EngineError>, EngineError> {
        let mut failure = None;
        if self.carrying {
            return Ok(failure);
        }
        let dir = self.pins.links.clone();
        let links = Links { dir: &dir, tcx: self.tcx };
        for binding in &resolved.bindings {
            let (device, instance) = (&binding.device, &resolved.instances[binding.instance]);
            let hook = model.interfaces[instance.interface].hook;
            // What could not be moved from an older set judges by that one's rules, alone.
            if self.carried.as_ref().is_some_and(|c| c.kept.iter().any(|(index, _)| *index == device.index)) {
                let why = "it keeps the rules of before: its program could not be exchanged";
                report.refused.push(format!("{}: {why}", device.name));
                continue;
            }
            let known = self.bound.get(&device.index);
            if known.is_some_and(|b| b.places.is_some() && b.hook == hook && b.device == device.name) {
                continue;
            }
            let is_new = known.is_none();
            if is_new {
                self.admit(model, instance, device, hook)?;
            }
            let attached = attach::attach(&mut self.object, device, hook, links);
            // Not before: a link that was replaced lives as long as it is held.
            self.held.insert(device.index, attach::hold(&dir, device.index));
            match attached {
                Ok(attached) => {
                    // A filter has no pin that would tell: an index that came with
                    // a record but without anything of ours has been reused.
                    // One that this daemon bound itself has only lost what was on it.
                    let unseen = |b: &Bound| b.places.is_none() && b.device.is_empty();
                    let reused = !is_new && attached.fresh && self.bound.get(&device.index).is_some_and(unseen);
                    if reused {
                        self.forget(device.index)?;
                        self.admit(model, instance, device, hook)?;
                        self.held.insert(device.index, attach::hold(&dir, device.index));
                    }
                    if let Some(bound) = self.bound.get_mut(&device.index) {
                        bound.places = Some(attached.places);
                        bound.hook = hook;
                        bound.device.clone_from(&device.name);
                    }
                    if is_new {
                        report.bound.push(device.name.clone());
                    }
                }
                Err(e) => failure = failure.or(Some(EngineError::from(e))),
            }
        }
        Ok(failure)
    }

    /// Gives a device a slot and a zone that nothing used before; it denies, or observes.
    fn admit(&mut self, model: &Model, instance: &Instance, device: &Device, hook: Hook) -> Result<(), EngineError> {
        let taken: BTreeSet<u32> = self.bound.values().map(|b| b.slot).collect();
        let slot = (1..MAX_SLOTS).find(|s| !taken.contains(s)).ok_or(EngineError::Slots(taken.len()))?;
        self.zone += 1;
        self.epoch += 1;
        let mut generation = generation_of(model, instance, self.zone);
        generation.policy = NO_POLICY;
        generation.slot = slot;
        generation.epoch = self.epoch;
        if !device.ethernet {
            generation.flags |= flags::NO_L2;
        }
        let counts = Counts::open(&self.object.maps).map_err(kernel("count flows"))?;
        self.ledger.wrote(&counts.reset_interface(slot));
        let side = model.interfaces[instance.interface].side;
        (generation.flags, generation.observe_until) = self.first_flags(generation.flags, device, side)?;
        let record = slot * 4;
        let base = self.admit_on_trial(device.index, record, &mut generation)?;
        self.object.maps.generations.update(&record, &generation).map_err(kernel("write a generation"))?;
        self.object.maps.ifaces.update(&device.index, &u64::from(record)).map_err(kernel("bind a device"))?;
        let device_name = device.name.clone();
        let bound = Bound {
            device: device_name,
            slot,
            record,
            generation,
            base,
            own: BTreeSet::new(),
            places: None,
            hook,
            told_apart: None,
            until: self.first_deadline(device, side),
            observed: None,
        };
        self.bound.insert(device.index, bound);
        Ok(())
    }

    /// Forgets a device and its flows.
    pub(super) fn forget(&mut self, index: u32) -> Result<Option<Bound>, EngineError> {
        self.object.maps.ifaces.update(&index, &0).map_err(kernel("unbind a device"))?;
        self.own(index, &[])?;
        let bound = self.bound.remove(&index);
        self.held.remove(&index);
        if let Some(bound) = &bound {
            flows::forget_zone(&self.object.maps, bound.generation.zone).map_err(kernel("forget flows"))?;
        }
        Ok(bound)
    }

    /// Lets go of devices that are no longer named, or gone.
    pub(super) fn unbind(
        &mut self,
        machine: &Machine,
        resolved: &Resolved,
        report: &mut Report,
    ) -> Result<(), EngineError> {
        if self.carrying {
            return Ok(());
        }
        let named: BTreeSet<u32> = resolved.bindings.iter().map(|b| b.device.index).collect();
        let stale: Vec<u32> = self.bound.keys().copied().filter(|i| !named.contains(i)).collect();
        let mut failure = None;
        for index in stale {
            let name = machine.devices.iter().find(|d| d.index == index).map(|d| d.name.as_str());
            if let (Some(name), Some(bound), true) = (name, self.bound.get(&index), self.trial.is_some()) {
                // It has to be there if the program goes back.
                let passing = Generation { flags: bound.generation.flags | flags::PASS, ..bound.generation };
                if self.flip(index, passing, OnChange::Cut, false)? {
                    report.unbound.push(name.to_owned());
                }
                continue;
            }
            if let Err(error) = attach::detach(&self.pins.links, index, name) {
                // It keeps what it had; the others are let go of all the same.
                let device = name.unwrap_or("a device that is gone").to_owned();
                failure = failure.or(Some(EngineError::Detach { device, error }));
                continue;
            }
            if let Some(bound) = self.forget(index)? {
                let shown =
                    if bound.device.is_empty() { name.unwrap_or("a device that is gone") } else { &bound.device };
                report.unbound.push(shown.to_owned());
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
