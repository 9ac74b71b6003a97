//! What the kernel holds, beside what was written: somebody else may have written to
//! our maps, or memory may have failed. What differs is said, and written anew.

use std::io;

use sg_common::generation::{Generation, OVER};

use super::{Bound, Engine};
use crate::dataplane::policies::Walk;

/// How far comparing has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    /// The policy that is being looked at.
    policy: u32,
    walk: Walk,
}

/// A record as it was written, with what the program itself may have written into it since.
fn expected(written: &Generation, there: &Generation) -> Generation {
    let deadline = if there.deadline == OVER { OVER } else { written.deadline };
    let observe_until = if there.observe_until == 0 { 0 } else { written.observe_until };
    Generation { deadline, observe_until, ..*written }
}

impl Engine {
    /// Looks at all devices and at one policy more, of large tables at a part; says what
    /// differs. Records are put right at once, policies by [`Engine::enforce`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn compare(&mut self) -> io::Result<Vec<String>> {
        let mut found = self.compare_devices()?;
        let at = self.compared.policy;
        let same = self.compared.walk.at.is_some() && self.policies.contains_key(&at);
        let next = if same { Some(at) } else { self.policies.range(at.saturating_add(1)..).next().map(|(i, _)| *i) };
        let Some(next) = next.or_else(|| self.policies.keys().next().copied()) else { return Ok(found) };
        if next != at {
            self.compared = Compared { policy: next, walk: Walk::default() };
        }
        let Self { policies, compared, object, bound, .. } = self;
        let Some(policy) = policies.get_mut(&next).filter(|p| !p.spoiled) else { return Ok(found) };
        if let Some(what) = policy.held.differs(&object.maps, &policy.live.tables.flat, &mut compared.walk)? {
            let devices: Vec<&str> =
                bound.values().filter(|b| b.policies().any(|p| p == next)).map(|b| b.device.as_str()).collect();
            found.push(format!("the {what} of the policy of {}", devices.join(", ")));
            policy.spoiled = true;
            compared.walk = Walk::default();
        }
        Ok(found)
    }

    fn compare_devices(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for (index, bound) in &self.bound {
            found.extend(self.compare_record(bound.record, &bound.generation, bound)?);
            if let Some(base) = bound.base {
                found.extend(self.compare_record(base.record, &base.generation, bound)?);
            }
            // Last: it names a record that is right again.
            if self.object.maps.ifaces.get(index)? != Some(u64::from(bound.record)) {
                self.object.maps.ifaces.update(index, &u64::from(bound.record))?;
                found.push(format!("what {} enforces", bound.device));
            }
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
}
