//! What the kernel holds, beside what was written: somebody else may have written to
//! our maps, or memory may have failed. What differs is said, and written anew.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use sg_common::generation::{CONFIRMED, Generation, OVER, OwnKey};

use super::{Bound, Engine, EngineError, kernel};
use crate::dataplane::report::OnChange;

/// How far comparing has come: the last policy that was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared(u32);

/// How long looking at policies may hold up the writer.
const SPAN: Duration = Duration::from_millis(10);

/// A record as it was written, with what the program itself may have written into it since.
pub(super) fn expected(written: &Generation, there: &Generation) -> Generation {
    let over = there.deadline == OVER && written.deadline != CONFIRMED;
    let deadline = if over { OVER } else { written.deadline };
    let observe_until = if there.observe_until == 0 { 0 } else { written.observe_until };
    Generation { deadline, observe_until, ..*written }
}

impl Engine {
    /// Looks at all devices and at some policies more, of large tables at a part; says what
    /// differs. What differs is written as it was; the caller puts the same policy in force
    /// once more, which makes policies anew.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn compare(&mut self) -> Result<Vec<String>, EngineError> {
        let mut found = self.compare_devices()?;
        found.extend(self.compare_own().map_err(kernel("compare own addresses"))?);
        let (begun, first) = (Instant::now(), self.compared.0);
        loop {
            let after = self.policies.range(self.compared.0.saturating_add(1)..).next().map(|(i, _)| *i);
            let Some(next) = after.or_else(|| self.policies.keys().next().copied()) else { return Ok(found) };
            self.compared.0 = next;
            found.extend(self.compare_policy(next).map_err(kernel("compare a policy"))?);
            if next == first || begun.elapsed() >= SPAN {
                return Ok(found);
            }
        }
    }

    fn compare_policy(&mut self, index: u32) -> io::Result<Option<String>> {
        let Self { policies, object, bound, .. } = self;
        let Some(policy) = policies.get_mut(&index).filter(|p| !p.spoiled) else { return Ok(None) };
        let flat = &policy.live.tables.flat;
        let Some(what) = policy.held.differs(&object.maps, flat, &mut policy.walk)? else { return Ok(None) };
        // At once, and under whoever goes by it: also what a trial returns to.
        policy.held.rewrite(flat)?;
        policy.spoiled = true;
        let users = bound.values().filter(|b| b.policies().any(|p| p == index));
        let devices: Vec<&str> = users.map(|b| b.device.as_str()).collect();
        Ok(Some(format!("the {what} of the policy of {}", devices.join(", "))))
    }

    fn compare_devices(&mut self) -> Result<Vec<String>, EngineError> {
        let (mut found, mut repaired) = (Vec::new(), Vec::new());
        let look = kernel("compare what devices enforce");
        let compare = |found: &mut Vec<String>, repaired: &mut Vec<u32>| -> io::Result<()> {
            for (index, bound) in &self.bound {
                let before = found.len();
                found.extend(self.compare_record(bound.record, &bound.generation, bound)?);
                if let Some(base) = bound.base {
                    found.extend(self.compare_record(base.record, &base.generation, bound)?);
                }
                // Last: it names a record that is right again.
                if self.object.maps.ifaces.get(index)? != Some(u64::from(bound.record)) {
                    self.object.maps.ifaces.update(index, &u64::from(bound.record))?;
                    found.push(format!("what {} enforces", bound.device));
                }
                if found.len() > before {
                    repaired.push(*index);
                }
            }
            Ok(())
        };
        compare(&mut found, &mut repaired).map_err(look)?;
        for index in repaired {
            // Flows that began meanwhile are judged once more.
            let Some(generation) = self.bound.get(&index).map(|b| b.generation) else { continue };
            self.flip(index, generation, OnChange::Cut, true)?;
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
