//! The text that a scraper gets. The kernel's counters are read here, not by the
//! writer: a thousand interfaces have more of them than it may be held up for.

use std::{io, os::fd::AsFd};

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry, TextEncoder};
use sg_common::{
    event::Counter,
    flow::Direction,
    maps::reason_index,
    quota::Quotas,
    reason::{Reason, Verdict},
};

use super::{
    Metrics,
    names::{self, Def},
    opts,
    picture::Picture,
    register,
};
use crate::dataplane::{clock::possible_cpus, object::Maps, quotas::Counts, sys::RawMap};

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
const VERDICTS: [Verdict; 2] = [Verdict::Accept, Verdict::Drop];
/// Drops that should never be: their series are there before the first, so that it is a rise.
const NEVER: [Reason; 3] = [Reason::NoPolicy, Reason::TableMissing, Reason::Disagreement];

/// The kernel's counters, by descriptors of our own.
#[derive(Debug)]
pub struct Kernel {
    reasons: RawMap<u32, Counter>,
    rules: RawMap<u32, Counter>,
    quotas: RawMap<u32, Quotas>,
    counts: Counts,
    capacity: [u32; 2],
}

fn again<V: crate::dataplane::sys::Raw>(map: &RawMap<u32, V>) -> io::Result<RawMap<u32, V>> {
    RawMap::new(map.as_fd().as_fd().try_clone_to_owned()?, size_of::<u32>() as u32, size_of::<V>() as u32)
}

/// What was read of one interface.
type Reading = Vec<(Direction, Verdict, Reason, Counter)>;

impl Kernel {
    /// Of the maps in use.
    ///
    /// # Errors
    /// No descriptors, or no memory.
    pub fn open(maps: &Maps) -> io::Result<Self> {
        Ok(Self {
            reasons: again(&maps.reasons)?,
            rules: again(&maps.rules)?,
            quotas: again(&maps.quotas)?,
            counts: Counts::open(maps)?,
            capacity: [maps.flows4.capacity()?, maps.flows6.capacity()?],
        })
    }

    fn sum(map: &RawMap<u32, Counter>, index: u32) -> io::Result<Counter> {
        let add = |a: Counter, c: &Counter| Counter { packets: a.packets + c.packets, bytes: a.bytes + c.bytes };
        Ok(map.get_per_cpu(&index, possible_cpus())?.iter().fold(Counter::default(), add))
    }

    /// What is not 0.
    fn reasons(&self, slot: u32) -> io::Result<Reading> {
        let mut found = Vec::new();
        for direction in DIRECTIONS {
            for verdict in VERDICTS {
                for &reason in Reason::ALL {
                    let index = reason_index(slot, direction as u8, reason as u8, verdict as u8);
                    let counter = Self::sum(&self.reasons, index)?;
                    if counter.packets > 0 || (verdict == Verdict::Drop && NEVER.contains(&reason)) {
                        found.push((direction, verdict, reason, counter));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Metrics of one moment.
struct Sheet {
    registry: Registry,
}

impl Sheet {
    fn gauge(&self, def: &Def, labels: &[&str], value: f64) -> prometheus::Result<()> {
        self.gauges(def)?.with_label_values(labels).set(value);
        Ok(())
    }
    fn gauges(&self, def: &Def) -> prometheus::Result<GaugeVec> {
        register(&self.registry, GaugeVec::new(opts(def), def.labels))
    }
    fn whole(&self, def: &Def) -> prometheus::Result<IntGaugeVec> {
        register(&self.registry, IntGaugeVec::new(opts(def), def.labels))
    }
    fn counters(&self, def: &Def) -> prometheus::Result<IntCounterVec> {
        register(&self.registry, IntCounterVec::new(opts(def), def.labels))
    }

    /// What the writer said.
    fn standing(&self, picture: &Picture) -> prometheus::Result<()> {
        let abi = sg_common::ABI_VERSION.to_string();
        self.gauge(&names::BUILD, &[env!("CARGO_PKG_VERSION"), &abi], 1.0)?;
        let states = self.whole(&names::INTERFACES)?;
        for (state, count) in [
            ("protected", picture.states.protected),
            ("observing", picture.states.observing),
            ("missing", picture.states.missing),
            ("refused", picture.states.refused),
        ] {
            states.with_label_values(&[state]).set(count as i64);
        }
        for (def, value) in [
            (&names::GENERATION, picture.generation as f64),
            (&names::FLOWS_SHORT, picture.short as f64),
            (&names::DETACHED, picture.detached as f64),
            (&names::FOREIGN, picture.foreign as f64),
            (&names::PINS_GONE, f64::from(u8::from(picture.pins_gone))),
            (&names::AUDIT_FAILING, f64::from(u8::from(picture.audit_failing))),
        ] {
            self.gauge(def, &[], value)?;
        }
        Ok(())
    }

    /// What became of the packets of interfaces.
    fn packets(&self, readings: &[(&str, Reading)]) -> prometheus::Result<()> {
        let (packets, bytes) = (self.counters(&names::PACKETS)?, self.counters(&names::BYTES)?);
        for (name, reading) in readings {
            for direction in DIRECTIONS {
                for verdict in VERDICTS {
                    bytes.with_label_values(&[name, direction.name(), verdict.name()]);
                }
            }
            for (direction, verdict, reason, counter) in reading {
                let (direction, verdict) = (direction.name(), verdict.name());
                packets.with_label_values(&[name, direction, verdict, reason.name()]).inc_by(counter.packets);
                bytes.with_label_values(&[name, direction, verdict]).inc_by(counter.bytes);
            }
        }
        Ok(())
    }

    fn flows(&self, kernel: &Kernel, picture: &Picture) -> prometheus::Result<()> {
        let (used, room) = (self.whole(&names::FLOWS)?, self.whole(&names::FLOWS_CAPACITY)?);
        let own = self.whole(&names::INTERFACE_FLOWS)?;
        let tables = kernel.counts.tables();
        for (i, family) in FAMILIES.into_iter().enumerate() {
            used.with_label_values(&[family]).set(tables[i] as i64);
            room.with_label_values(&[family]).set(kernel.capacity[i].into());
            for (name, slot) in &picture.interfaces {
                own.with_label_values(&[name, family]).set(kernel.counts.interface(*slot)[i] as i64);
            }
        }
        Ok(())
    }

    /// Counters of rules, at most so many.
    fn rules(&self, kernel: &Kernel, picture: &Picture, most: usize) -> prometheus::Result<io::Result<()>> {
        let mut rules: Vec<(&str, &str, u32)> =
            picture.rules.iter().filter_map(|(id, at)| id.split_once('/').map(|(g, r)| (g, r, *at))).collect();
        rules.sort_unstable();
        self.gauge(&names::RULES_LEFT_OUT, &[], rules.len().saturating_sub(most) as f64)?;
        let (packets, bytes) = (self.counters(&names::RULE_PACKETS)?, self.counters(&names::RULE_BYTES)?);
        for (group, rule, at) in rules.into_iter().take(most) {
            let counter = match Kernel::sum(&kernel.rules, at) {
                Ok(counter) => counter,
                Err(e) => return Ok(Err(e)),
            };
            packets.with_label_values(&[group, rule]).inc_by(counter.packets);
            bytes.with_label_values(&[group, rule]).inc_by(counter.bytes);
        }
        Ok(Ok(()))
    }
}

/// The whole text; `rules` is the most rules that have series. What cannot be read is
/// left out, and counted.
///
/// # Errors
/// A metric that contradicts itself: a defect.
pub fn text(metrics: &Metrics, kernel: &Kernel, picture: &Picture, rules: usize) -> prometheus::Result<String> {
    let sheet = Sheet { registry: Registry::new() };
    sheet.standing(picture)?;
    let readings = picture.interfaces.iter().filter_map(|(name, slot)| {
        let reading = kernel.reasons(*slot).inspect_err(|_| metrics.read_failed()).ok()?;
        Some((name.as_str(), reading))
    });
    sheet.packets(&readings.collect::<Vec<_>>())?;
    sheet.flows(kernel, picture)?;
    match kernel.quotas.get(&0) {
        Ok(quotas) => {
            let limit = quotas.map_or(0, |q| q.interface);
            sheet.gauge(&names::INTERFACE_FLOWS_LIMIT, &[], limit.into())?;
        }
        Err(_) => metrics.read_failed(),
    }
    if sheet.rules(kernel, picture, rules)?.is_err() {
        metrics.read_failed();
    }
    let mut families = sheet.registry.gather();
    families.extend(metrics.gather());
    TextEncoder::new().encode_to_string(&families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_interfaces_with_all_there_is_have_a_bounded_size() {
        let sheet = Sheet { registry: Registry::new() };
        let names: Vec<String> = (0..1023).map(|i| format!("tap-longest{i:04}")).collect();
        let full = Counter { packets: u64::MAX >> 8, bytes: u64::MAX >> 16 };
        let all = || {
            let mut reading = Vec::new();
            for direction in DIRECTIONS {
                for verdict in VERDICTS {
                    reading.extend(Reason::ALL.iter().map(|&reason| (direction, verdict, reason, full)));
                }
            }
            reading
        };
        let readings: Vec<(&str, Reading)> = names.iter().map(|n| (n.as_str(), all())).collect();
        sheet.packets(&readings).unwrap();
        let text = TextEncoder::new().encode_to_string(&sheet.registry.gather()).unwrap();
        assert!(text.len() < 20 << 20, "{} bytes", text.len());
    }
}
