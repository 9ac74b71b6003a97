//! A change on trial: in force until a time, unless it is confirmed before.
//!
//! Each generation that the change makes names the one before it and the time at which
//! the program goes back to it, with or without a daemon. Everything that generation
//! needs therefore stays as it was: no policy of it is patched, none is taken out, and
//! a device that the change lets go of stays attached and passes everything.

use std::{collections::BTreeSet, sync::Arc};

use sg_common::{
    generation::{CONFIRMED, Generation, OVER, flags, on_change},
    shadow,
};

use super::{Bound, Engine, EngineError, kernel};
use crate::{dataplane::machine::Machine, model::Model};

/// What is on trial.
pub(super) struct Trial {
    /// Jiffies from which on what was before counts again.
    deadline: u32,
    /// What was before.
    base: Arc<Model>,
    /// Devices that were named.
    named: BTreeSet<u32>,
}

/// What a device returns to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    pub record: u32,
    pub generation: Generation,
}

impl Bound {
    /// Whether it passes everything while a change that lets go of it is on trial.
    pub fn passes(&self) -> bool {
        self.generation.flags & flags::PASS != 0
    }

    /// What it enforces, what it may have to return to, and the candidate beside it.
    pub(super) fn policies(&self) -> impl Iterator<Item = u32> {
        let shadow = (self.generation.shadow != 0).then(|| shadow::index(self.generation.shadow));
        std::iter::once(self.generation.policy).chain(self.base.map(|b| b.generation.policy)).chain(shadow)
    }

    /// Whether a policy is part of what was before the trial.
    pub(super) fn returns_to(&self, policy: u32) -> bool {
        self.base.map_or(self.generation.policy, |b| b.generation.policy) == policy
    }

    /// A record of its four that nothing names.
    pub(super) fn next_record(&self) -> u32 {
        let base = self.slot * 4;
        let next = |record: u32| base + (record - base + 1) % 4;
        let after = next(self.record);
        if self.base.is_some_and(|b| b.record == after) { next(after) } else { after }
    }
}

impl Engine {
    /// From now on changes are on trial, for so many seconds: the program itself goes back
    /// to what is in force now, that of `base`, when they have passed.
    ///
    /// # Errors
    /// A device that still observes, the clock.
    pub fn begin_trial(&mut self, base: &Arc<Model>, seconds: u32) -> Result<(), EngineError> {
        if let Some(observing) = self.bound.values().find(|b| b.is_observing()) {
            return Err(EngineError::Observing(observing.device.clone()));
        }
        let now = self.object.jiffies().map_err(kernel("read the kernel's clock"))?;
        let deadline = now.wrapping_add(seconds.saturating_mul(self.hz).min(i32::MAX as u32)).max(OVER + 1);
        self.trial = Some(Trial { deadline, base: base.clone(), named: BTreeSet::new() });
        Ok(())
    }

    /// Whether what is on trial can still be confirmed.
    ///
    /// # Errors
    /// Less than a second is left.
    pub fn check_trial(&mut self) -> Result<(), EngineError> {
        let Some(deadline) = self.trial.as_ref().map(|t| t.deadline) else { return Ok(()) };
        self.is_in_time(deadline, self.hz)
    }

    /// What is on trial stays. The caller puts the same policy in force once more then,
    /// which lets go of what it does not name.
    ///
    /// # Errors
    /// Less than a second is left, or what the kernel says: then the caller goes back.
    pub fn confirm_trial(&mut self) -> Result<(), EngineError> {
        let Some(deadline) = self.trial.as_ref().map(|t| t.deadline) else { return Ok(()) };
        self.is_in_time(deadline, self.hz)?;
        let tried = |b: &Bound| b.generation.deadline != CONFIRMED && !b.passes();
        for bound in self.bound.values().filter(|b| tried(b)) {
            // As it is there: the program may have ended an observation.
            let record = self.object.maps.generations.get(&bound.record).map_err(kernel("read a generation"))?;
            let confirmed = Generation { deadline: CONFIRMED, ..record.unwrap_or(bound.generation) };
            self.object.maps.generations.update(&bound.record, &confirmed).map_err(kernel("confirm a generation"))?;
        }
        // The time may have passed meanwhile, on a machine that stood still.
        self.is_in_time(deadline, 0)?;
        for bound in self.bound.values_mut().filter(|b| tried(b)) {
            bound.generation.deadline = CONFIRMED;
            bound.base = None;
        }
        self.trial = None;
        Ok(())
    }

    /// Nothing is on trial any longer; the caller puts in force what was before.
    pub fn end_trial(&mut self) {
        self.trial = None;
    }

    fn is_in_time(&mut self, deadline: u32, spare: u32) -> Result<(), EngineError> {
        let now = self.object.jiffies().map_err(kernel("read the kernel's clock"))?;
        let left = deadline.wrapping_sub(now) as i32;
        if left > 0 && left as u32 >= spare { Ok(()) } else { Err(EngineError::Late) }
    }

    /// Looks which devices were named before the trial, as they come and go meanwhile.
    pub(super) fn follow_trial(&mut self, machine: &Machine) {
        if let Some(trial) = &mut self.trial {
            trial.named = machine.resolve(&trial.base).bindings.iter().map(|b| b.device.index).collect();
        }
    }

    /// The first generation of a device that appears during a trial: once it is over the
    /// device is open if nothing named it before, and closed until a daemon says more if
    /// something did.
    pub(super) fn admit_on_trial(
        &self,
        index: u32,
        record: u32,
        first: &mut Generation,
    ) -> Result<Option<Return>, EngineError> {
        let Some(trial) = &self.trial else { return Ok(None) };
        let pass = if trial.named.contains(&index) { 0 } else { flags::PASS };
        let base = Return {
            record: record + 1,
            generation: Generation { flags: first.flags & !flags::OBSERVE | pass, ..*first },
        };
        self.object.maps.generations.update(&base.record, &base.generation).map_err(kernel("write a generation"))?;
        (first.deadline, first.previous) = (trial.deadline, base.record);
        Ok(Some(base))
    }

    /// Writes what a device returns to, unless it is written already, and makes a
    /// generation name it.
    pub(super) fn on_trial(&mut self, index: u32, wanted: &mut Generation) -> Result<(), EngineError> {
        let (Some(trial), Some(bound)) = (&self.trial, self.bound.get_mut(&index)) else { return Ok(()) };
        let base = match bound.base {
            Some(base) => base,
            None => {
                // What was let in on trial only is cut when that is over, whatever this one
                // did to flows when it came.
                let flags = bound.generation.flags & !flags::SHADOW;
                let plain = Generation { shadow: 0, flags, ..bound.generation };
                let generation = Generation { on_change: on_change::CUT, drain_until: 0, ..plain };
                let record = bound.next_record();
                self.object.maps.generations.update(&record, &generation).map_err(kernel("write a generation"))?;
                *bound.base.insert(Return { record, generation })
            }
        };
        (wanted.deadline, wanted.previous) = (trial.deadline, base.record);
        Ok(())
    }
}
