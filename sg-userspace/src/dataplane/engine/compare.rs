//! What the kernel holds, beside what was written: somebody else may have written to
//! our maps, or memory may have failed. What differs is said, and written anew.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    time::{Duration, Instant},
};

use sg_common::generation::{CONFIRMED, Generation, OVER, OwnKey};

use super::{Bound, Engine, EngineError, kernel};
use crate::dataplane::{comparing, report::OnChange};

/// How far comparing has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    /// The last policy that was looked at.
    policy: u32,
    /// Seconds since own addresses were looked at.
    own: u32,
    /// Devices that were put right, and whose flows are to be judged once more.
    repaired: BTreeSet<u32>,
}

/// Seconds between looks at the own addresses of all guests: there may be many.
const OWN: u32 = 10;

/// How long looking at policies may hold up the writer, a second, but for the part under way.
const SPAN: Duration = Duration::from_millis(4);

/// A record as it was written, with what the program itself may have written into it since.
pub(super) fn expected(written: &Generation, there: &Generation) -> Generation {
    let over = there.deadline == OVER && written.deadline != CONFIRMED;
    let deadline = if over { OVER } else { written.deadline };
    let observe_until = if there.observe_until == 0 { 0 } else { written.observe_until };
    Generation { deadline, observe_until, ..*written }
}

impl Engine {
    /// Looks at all devices and at some policies more, of large tables at a part; says what
    /// differs, and what could not be looked at. What differs is written as it was; the caller
    /// puts the same policy in force once more, which makes policies anew.
    pub fn compare(&mut self) -> (Vec<String>, Option<EngineError>) {
        let mut found = Vec::new();
        let mut failed = self.compare_devices(&mut found).err();
        match self.compare_settings().map_err(kernel("compare what all devices share")) {
            Ok(differs) => found.extend(differs.into_iter().map(str::to_owned)),
            Err(e) => failed = failed.or(Some(e)),
        }
        match self.compare_flows().map_err(kernel("compare how many flows there are")) {
            Ok(differs) => found.extend(differs.into_iter().map(str::to_owned)),
            Err(e) => failed = failed.or(Some(e)),
        }
        self.compared.own += 1;
        if self.compared.own >= OWN {
            self.compared.own = 0;
            match self.compare_own().map_err(kernel("compare own addresses")) {
                Ok(differs) => found.extend(differs),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        let policies: BTreeSet<u32> = self.policies.keys().copied().collect();
        let (begun, mut last) = (Instant::now(), self.compared.policy);
        let visit = |policy, is_first| match self.compare_policy(policy, is_first).map_err(kernel("compare a policy")) {
            Ok((more, differs)) => {
                found.extend(differs);
                more
            }
            Err(e) => {
                failed = failed.take().or(Some(e));
                false
            }
        };
        comparing::round(&policies, &mut last, visit, || begun.elapsed() >= SPAN);
        self.compared.policy = last;
        (found, failed)
    }

    /// Looks at a part of a policy; whether there is more, and what differs.
    fn compare_policy(&mut self, index: u32, is_first: bool) -> io::Result<(bool, Option<String>)> {
        let Self { policies, object, bound, .. } = self;
        let Some(policy) = policies.get_mut(&index).filter(|p| !p.spoiled) else { return Ok((false, None)) };
        let flat = &policy.live.tables.flat;
        let differs = if is_first { policy.held.differs(&object.maps, flat)? } else { None };
        let (more, what) = match differs {
            Some(what) => (false, Some(what)),
            None => policy.held.walk(&mut policy.walks)?,
        };
        let Some(what) = what else { return Ok((more, None)) };
        policy.spoiled = true;
        let users = bound.values().filter(|b| b.policies().any(|p| p == index));
        let devices: Vec<&str> = users.map(|b| b.device.as_str()).collect();
        let mut text = format!("the {what} of the policy of {}", devices.join(", "));
        // What a trial returns to is not made anew: it is mended where it is.
        let is_base = bound.values().any(|b| b.base.is_some_and(|base| base.generation.policy == index));
        if is_base && let Err(e) = policy.held.mend(flat) {
            text += &format!(" (to which a trial returns, and which cannot be mended: {e})");
        }
        self.shadowed = None;
        Ok((false, Some(text)))
    }

    fn compare_devices(&mut self, found: &mut Vec<String>) -> Result<(), EngineError> {
        let look = || kernel("compare what devices enforce");
        let (mut repaired, mut failed) = (Vec::new(), None);
        for (index, bound) in &self.bound {
            match self.compare_device(*index, bound) {
                Ok(differs) if differs.is_empty() => {}
                Ok(differs) => {
                    repaired.push(*index);
                    found.extend(differs);
                }
                Err(e) => failed = failed.or(Some(look()(e))),
            }
        }
        self.compared.repaired.extend(repaired);
        for index in self.compared.repaired.clone() {
            // Flows that began meanwhile are judged once more.
            if let Some(generation) = self.bound.get(&index).map(|b| b.generation) {
                self.flip(index, generation, OnChange::Cut, true)?;
            }
            self.compared.repaired.remove(&index);
        }
        failed.map_or(Ok(()), Err)
    }

    fn compare_device(&self, index: u32, bound: &Bound) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        found.extend(self.compare_record(bound.record, &bound.generation, bound)?);
        if let Some(base) = bound.base {
            found.extend(self.compare_record(base.record, &base.generation, bound)?);
        }
        // Last: it names a record that is right again.
        if self.object.maps.ifaces.get(&index)? != Some(u64::from(bound.record)) {
            self.object.maps.ifaces.update(&index, &u64::from(bound.record))?;
            found.push(format!("what {} enforces", bound.device));
        }
        Ok(found)
    }

    fn compare_record(&self, record: u32, written: &Generation, bound: &Bound) -> io::Result<Option<String>> {
        let there = self.object.maps.generations.get(&record)?;
        let expected = there.map_or(*written, |there| expected(written, &there));
        if there == Some(expected) {
            return Ok(None);
        }
        self.object.maps.generations.update(&record, &expected)?;
        Ok(Some(format!("the generation of {}", bound.device)))
    }

    /// Addresses that guests may send from.
    fn compare_own(&self) -> io::Result<Option<String>> {
        let of = |b: &Bound| {
            let zone = b.generation.zone;
            b.own.iter().map(move |&addr| OwnKey { zone, addr: addr.into() }).collect::<Vec<_>>()
        };
        let written: HashSet<OwnKey> = self.bound.values().flat_map(of).collect();
        let own = &self.object.maps.own;
        let mut there = HashSet::new();
        own.each(|key, _| {
            there.insert(*key);
        })?;
        if there == written {
            return Ok(None);
        }
        there.difference(&written).try_for_each(|key| own.delete(key).map(drop))?;
        written.difference(&there).try_for_each(|key| own.update(key, &1))?;
        Ok(Some("the table of guests' own addresses".into()))
    }
}
