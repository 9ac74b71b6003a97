//! What numbers of the kernel's mean: devices by slot, rules by counter.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    dataplane::engine::Bound,
    effective::{self, Origin},
    model::Model,
};

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// As listings call it.
    pub name: String,
    /// 1 to 100; `None` for invisible rules.
    pub priority: Option<u8>,
}

/// A protected device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotName {
    /// Its name.
    pub device: String,
    /// Ids and names of its groups.
    pub groups: Vec<String>,
}

/// The kernel's clock beside the machine's.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Now.
    pub wall: SystemTime,
    /// The same, in jiffies.
    pub jiffies: u32,
    /// Jiffies a second.
    pub hz: u32,
}

impl Time {
    /// When it was so many jiffies.
    pub fn of(&self, jiffies: u32) -> SystemTime {
        let ago = f64::from(self.jiffies.wrapping_sub(jiffies) as i32) / f64::from(self.hz.max(1));
        let span = std::time::Duration::from_secs_f64(ago.abs());
        let at = if ago < 0.0 { self.wall.checked_add(span) } else { self.wall.checked_sub(span) };
        at.unwrap_or(self.wall).max(SystemTime::UNIX_EPOCH)
    }

    /// The same of what is past for sure, and may be long past.
    pub fn past(&self, jiffies: u32) -> SystemTime {
        let mut ago = self.jiffies.wrapping_sub(jiffies);
        // Begun since the clock was read.
        if ago > u32::MAX - 60 * self.hz {
            ago = 0;
        }
        let ago = f64::from(ago) / f64::from(self.hz.max(1));
        let at = self.wall.checked_sub(std::time::Duration::from_secs_f64(ago)).unwrap_or(self.wall);
        // A machine without a clock of its own begins there.
        at.max(SystemTime::UNIX_EPOCH)
    }
}

/// Rules of one policy by counter, named when somebody first asks.
#[derive(Debug, Default)]
struct Rules {
    model: Arc<Model>,
    counters: Arc<HashMap<String, u32>>,
    named: Option<HashMap<u32, RuleName>>,
}

impl Rules {
    fn named(&mut self) -> &HashMap<u32, RuleName> {
        let (model, counters) = (&self.model, &self.counters);
        self.named.get_or_insert_with(|| {
            let origins = effective::origins(model);
            let named = origins.iter().filter_map(|(identity, origin)| {
                let priority = match origin {
                    Origin::Rule(g, r) => Some(model.groups[*g].rules[*r].priority),
                    _ => None,
                };
                Some((*counters.get(identity)?, RuleName { name: effective::name(model, *origin), priority }))
            });
            named.collect()
        })
    }
}

/// Policies before the one in force whose rules are still known by name: what they decided
/// may be told a moment later. A number is used again as late as possible.
const BEFORE: usize = 4;

/// Names of one moment.
#[derive(Debug, Default)]
pub struct Names {
    rules: Rules,
    /// The newest first.
    before: VecDeque<Rules>,
    /// Devices by slot.
    pub slots: HashMap<u32, SlotName>,
    /// Devices by zone, which no other ever has; also those that are gone.
    zones: BTreeMap<u32, String>,
}

/// Zones that are known by name.
const ZONES: usize = 8192;

impl Names {
    /// Follows a change of the policy or of the counters.
    pub fn follow(&mut self, model: &Arc<Model>, counters: &Arc<HashMap<String, u32>>) {
        let Rules { model: old, counters: numbers, .. } = &self.rules;
        if Arc::ptr_eq(old, model) && Arc::ptr_eq(numbers, counters) {
            return;
        }
        let rules = Rules { model: model.clone(), counters: counters.clone(), named: None };
        self.before.push_front(std::mem::replace(&mut self.rules, rules));
        self.before.truncate(BEFORE);
    }

    /// Follows the devices; `groups` are those of an interface index.
    pub fn follow_devices<'a>(
        &mut self,
        bound: impl Iterator<Item = (&'a u32, &'a Bound)>,
        groups: impl Fn(u32) -> Vec<usize>,
    ) {
        self.slots = bound
            .map(|(&index, b)| {
                self.zones.insert(b.generation.zone, b.device.clone());
                let groups = groups(index).into_iter().filter_map(|g| self.rules.model.groups.get(g));
                let groups = groups.flat_map(|g| [g.id.clone(), g.name.clone()]).collect();
                (b.slot, SlotName { device: b.device.clone(), groups })
            })
            .collect();
        // The oldest have the lowest numbers.
        while self.zones.len() > ZONES {
            self.zones.pop_first();
        }
    }

    /// A device by its zone.
    pub fn device_of(&self, zone: u32) -> String {
        self.zones.get(&zone).cloned().unwrap_or_else(|| "(a device that is gone)".into())
    }

    /// Rules in force by counter.
    pub fn rules(&mut self) -> &HashMap<u32, RuleName> {
        self.rules.named()
    }

    /// A rule in force, or one that was until lately.
    pub fn rule(&mut self, counter: u32) -> Option<RuleName> {
        let now = self.rules.named().get(&counter).cloned();
        now.or_else(|| self.before.iter_mut().find_map(|rules| rules.named().get(&counter).cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn ticks_are_counted_back_from_now_over_the_clock_going_round() {
        let wall = UNIX_EPOCH + Duration::from_secs(1000);
        let time = Time { wall, jiffies: 100, hz: 250 };
        assert_eq!(time.of(100), wall);
        assert_eq!(time.of(u32::MAX - 149), wall - Duration::from_secs(1));
        assert_eq!(time.of(350), wall + Duration::from_secs(1));
        let long = Time { wall: wall + Duration::from_secs(1 << 30), ..time };
        assert_eq!(long.past(100 + (1 << 31)), long.wall - Duration::from_secs_f64(f64::from(1u32 << 31) / 250.0));
    }
}
