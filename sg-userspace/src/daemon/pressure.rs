//! Room in the conntrack tables: who takes it, and a word when it runs short.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use sg_common::quota::Quotas;

use super::{
    log,
    protocol::{Conntrack, FlowShare, Talker},
};
use crate::dataplane::{
    engine::{Bound, Engine},
    flows::{self, Live},
    quotas::{Counts, remote_of},
};

/// Talkers that are named.
const TALKERS: usize = 5;
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Full enough to be told: three quarters.
fn is_short(used: u64, of: u64) -> bool {
    of > 0 && used * 4 > of * 3
}

/// Emptier than that by enough to be told the other way: five eighths.
fn is_well(used: u64, of: u64) -> bool {
    used * 8 <= of * 5
}

/// What has so little room left, remembered so that it is said once.
#[derive(Debug, Default)]
pub struct Pressure(BTreeSet<String>);

/// Everything that can fill up: its name, what is used, and of how much.
fn parts(engine: &Engine, quotas: &Quotas, capacity: [u32; 2]) -> io::Result<Vec<(String, u64, u64)>> {
    let counts = Counts::open(engine.maps())?;
    let tables = counts.tables();
    let mut parts = Vec::new();
    for (family, name) in FAMILIES.into_iter().enumerate() {
        parts.push((format!("the {name} table"), tables[family], capacity[family].into()));
        // A share that is the whole table says nothing more.
        for bound in engine.bound().values().filter(|_| quotas.interface < capacity[family]) {
            let used = counts.interface(bound.slot)[family];
            parts.push((format!("{} ({name})", bound.device), used, quotas.interface.into()));
        }
    }
    Ok(parts)
}

impl Pressure {
    /// How many are short of room.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Looks at the program's counts, and logs what has begun and what has ended;
    /// returns whether anything is short of room.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look(&mut self, engine: &Engine) -> io::Result<bool> {
        let Some(quotas) = engine.maps().quotas.get(&0)? else { return Ok(false) };
        let capacity = [engine.maps().flows4.capacity()?, engine.maps().flows6.capacity()?];
        let parts = parts(engine, &quotas, capacity)?;
        let (begun, ended) = self.follow(&parts);
        for line in begun {
            let talkers = talkers(engine.bound(), &flows::all(engine.maps())?);
            let named: Vec<String> =
                talkers.iter().map(|t| format!("{} on {}: {}", t.remote, t.device, t.flows)).collect();
            log::warning!("conntrack is short of room: {line}; most flows: {}", named.join(", "));
        }
        for name in ended {
            log::warning!("conntrack has room again: {name}");
        }
        Ok(!self.0.is_empty())
    }

    /// Takes note of what is used; returns what to say of what has begun and ended.
    fn follow(&mut self, parts: &[(String, u64, u64)]) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for (name, used, of) in parts {
            if is_short(*used, *of) && self.0.insert(name.clone()) {
                begun.push(format!("{name} holds {used} confirmed flows of {of}"));
            } else if is_well(*used, *of) && self.0.remove(name) {
                ended.push(name.clone());
            }
        }
        // What is no longer protected needs no room.
        let gone: Vec<String> = self.0.iter().filter(|n| !parts.iter().any(|(p, ..)| p == *n)).cloned().collect();
        for name in gone {
            self.0.remove(&name);
            ended.push(name);
        }
        (begun, ended)
    }
}

/// The remotes with the most flows.
fn talkers(bound: &BTreeMap<u32, Bound>, flows: &[Live]) -> Vec<Talker> {
    let mut counts = BTreeMap::<_, usize>::new();
    for flow in flows {
        *counts.entry((flow.key.zone, remote_of(flow.key.remote.into()))).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, flows)| std::cmp::Reverse(*flows));
    let device = |zone| bound.values().find(|b| b.generation.zone == zone).map(|b| b.device.clone());
    let named = counts.into_iter().filter_map(|((zone, remote), flows)| {
        let remote =
            if remote.prefix_len() == remote.max_prefix_len() { remote.addr().to_string() } else { remote.to_string() };
        Some(Talker { device: device(zone)?, remote, flows })
    });
    named.take(TALKERS).collect()
}

/// How the tables stand, counted from them.
///
/// # Errors
/// What the kernel says.
pub fn conntrack(engine: &Engine, flows: &[Live]) -> io::Result<Conntrack> {
    let maps = engine.maps();
    let quotas = maps.quotas.get(&0)?.unwrap_or(Quotas::NONE);
    let capacity = [maps.flows4.capacity()?, maps.flows6.capacity()?];
    let (mut all, mut zones) = ([0; 2], BTreeMap::<u32, [usize; 2]>::new());
    for flow in flows.iter().filter(|f| f.confirmed) {
        let family = usize::from(!flow.key.remote.is_v4());
        all[family] += 1;
        zones.entry(flow.key.zone).or_default()[family] += 1;
    }
    let share = |name: &str, used: usize, of: u32| FlowShare { name: name.to_owned(), used, of };
    let tables: Vec<FlowShare> = (0..2).map(|i| share(FAMILIES[i], all[i], capacity[i])).collect();
    let mut interfaces = Vec::new();
    for bound in engine.bound().values() {
        let used = zones.get(&bound.generation.zone).copied().unwrap_or_default();
        interfaces
            .extend((0..2).map(|i| share(&format!("{} {}", bound.device, FAMILIES[i]), used[i], quotas.interface)));
    }
    let short = tables.iter().chain(&interfaces).any(|s| is_short(s.used as u64, s.of.into()));
    let talkers = if short { talkers(engine.bound(), flows) } else { Vec::new() };
    Ok(Conntrack { tables, interfaces, flows_per_remote: quotas.remote, talkers })
}

#[cfg(test)]
mod tests {
    use super::Pressure;

    #[test]
    fn it_is_said_once_when_it_begins_and_once_when_it_ends() {
        let mut pressure = Pressure::default();
        let mut at = |used| {
            let (begun, ended) =
                pressure.follow(&[("eth0 (IPv4)".into(), used, 1000), ("eth1 (IPv4)".into(), 1, 1000)]);
            (begun.len(), ended.len())
        };
        assert_eq!(at(750), (0, 0));
        assert_eq!(at(751), (1, 0));
        assert_eq!(at(900), (0, 0));
        assert_eq!(at(700), (0, 0), "not yet");
        assert_eq!(at(800), (0, 0), "not again");
        assert_eq!(at(625), (0, 1));
        assert_eq!(at(600), (0, 0));
        assert_eq!(
            pressure.follow(&[("eth0 (IPv4)".into(), 1000, 1000)]).0,
            ["eth0 (IPv4) holds 1000 confirmed flows of 1000"]
        );
        assert_eq!(pressure.follow(&[]).1, ["eth0 (IPv4)"], "it is gone");
    }
}
