//! Live flows, read and swept by the daemon.

use std::io;

use sg_common::{
    flow::{Flow, FlowKey, place},
    reason::Verdict,
};
use sg_ebpf::conntrack::{Clock, state};

use super::{
    object::{FlowWords, Maps},
    sys::{Raw, RawMap},
};
use crate::model::Direction;

/// A live flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// As the instance sees it.
    pub key: FlowKey,
    /// Direction of its first packet.
    pub origin: Direction,
    /// Accepted, or cut.
    pub verdict: Verdict,
    /// Jiffies of its last packets, by direction.
    pub last: [u32; 2],
    /// Counter of the rule that decided.
    pub rule: u32,
    /// Idle seconds it may have.
    pub timeout: u32,
    /// Whether it is in the main table.
    pub confirmed: bool,
}

/// An entry from its words.
pub fn flow_of(words: FlowWords) -> Flow {
    // SAFETY: 32 bytes without padding, asserted in sg-common; any bits are an entry.
    unsafe { std::mem::transmute::<FlowWords, Flow>(words) }
}

fn decode(key: FlowKey, words: FlowWords) -> Live {
    let flow = flow_of(words);
    Live {
        key,
        origin: Direction::from_u8(flow.origin.get()),
        verdict: Verdict::from_u8(flow.verdict.get()),
        last: [flow.last[0].get(), flow.last[1].get()],
        rule: flow.rule.get(),
        // The program itself grants that.
        timeout: state::timeout(&flow, key.protocol()),
        confirmed: flow.place == place::MAIN,
    }
}

/// All entries of all tables, expired ones included.
///
/// # Errors
/// What the kernel says.
pub fn all(maps: &Maps) -> io::Result<Vec<Live>> {
    let mut flows = Vec::new();
    for map in maps.churn4.iter().chain([&maps.flows4]) {
        map.each(|key, words| flows.push(decode((*key).into(), *words)))?;
    }
    for map in maps.churn6.iter().chain([&maps.flows6]) {
        map.each(|key, words| flows.push(decode(*key, *words)))?;
    }
    Ok(flows)
}

/// Which flows are deleted, and what is told of it.
struct Deletion<S, L> {
    stale: S,
    looked: L,
    count: usize,
}

impl<S: Fn(&FlowKey, &Flow) -> bool, L: FnMut(&FlowKey)> Deletion<S, L> {
    fn from<K: Raw + Into<FlowKey>>(&mut self, map: &RawMap<K, FlowWords>) -> io::Result<()> {
        let mut found = Vec::new();
        map.each(|key, words| found.extend((self.stale)(&(*key).into(), &flow_of(*words)).then_some(*key)))?;
        for key in found {
            let full = key.into();
            // A packet since then may have made it another flow of the same key.
            if !map.get(&key)?.is_some_and(|words| (self.stale)(&full, &flow_of(words))) {
                continue;
            }
            (self.looked)(&full);
            // And one since the last look: what was taken out tells, and is put back.
            match map.take(&key)? {
                Some(words) if !(self.stale)(&full, &flow_of(words)) => drop(map.add(&key, &words)?),
                Some(_) => self.count += 1,
                None => {}
            }
        }
        Ok(())
    }

    fn run(mut self, maps: &Maps) -> io::Result<usize> {
        maps.churn4.iter().chain([&maps.flows4]).try_for_each(|map| self.from(map))?;
        maps.churn6.iter().chain([&maps.flows6]).try_for_each(|map| self.from(map))?;
        Ok(self.count)
    }
}

/// Deletes every flow of a device that is no longer protected.
///
/// # Errors
/// What the kernel says.
pub fn forget_zone(maps: &Maps, zone: u32) -> io::Result<usize> {
    Deletion { stale: |key: &FlowKey, _: &Flow| key.zone == zone, looked: |_: &FlowKey| {}, count: 0 }.run(maps)
}

/// Deletes what expired once more its own timeout ago. `now` is the program's
/// clock, read before; how long before does not matter.
///
/// # Errors
/// What the kernel says.
pub fn sweep(maps: &Maps, now: u32, hz: u32) -> io::Result<usize> {
    sweep_watched(maps, now, hz, |_| {})
}

/// As [`sweep`]; `looked` is called with each flow that is about to be deleted.
///
/// # Errors
/// What the kernel says.
pub fn sweep_watched(maps: &Maps, now: u32, hz: u32, looked: impl FnMut(&FlowKey)) -> io::Result<usize> {
    let stale = |key: &FlowKey, flow: &Flow| state::is_stale(flow, key.protocol(), Clock { now, hz });
    Deletion { stale, looked, count: 0 }.run(maps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sg_common::{addr::Addr, flow::Cell};

    fn key(protocol: u8) -> FlowKey {
        let none = Addr([0; 16]);
        FlowKey { zone: 1, vlan_proto: protocol.into(), local: none, remote: none, local_port: 1, remote_port: 2 }
    }

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let flow = Flow {
            last: [Cell::new(11), Cell::new(12)],
            ack: [Cell::new(21), Cell::new(22)],
            epoch: Cell::new(13),
            rule: Cell::new(14),
            timeout: 910,
            seen: [Cell::new(1), Cell::new(2)],
            origin: Cell::new(1),
            verdict: Cell::new(1),
            timeout_closed: 3,
            place: place::MAIN,
        };
        // SAFETY: 32 bytes without padding, asserted in sg-common.
        let words: FlowWords = unsafe { std::mem::transmute(flow) };
        let live = decode(key(6), words);
        assert_eq!((live.last, live.rule, live.timeout, live.confirmed), ([11, 12], 14, 10, true));
        assert_eq!((live.origin, live.verdict), (Direction::Outbound, Verdict::Accept));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever an entry is, whenever its packets came, however long the daemon was
        /// stopped after it had read the clock: what it deletes, no packet would find alive.
        #[test]
        fn what_is_swept_has_expired(
            now in prop_oneof![any::<u32>(), 0..200_000u32, u32::MAX - 200_000..],
            // Jiffies before the program's clock, or a few after it, as another CPU may write.
            ages in [prop_oneof![0..3_000_000u32, any::<u32>()], prop_oneof![0..3_000_000u32, any::<u32>()]],
            ahead in [0..2u32, 0..2u32],
            stopped in prop_oneof![0..2_000u32, 0..100_000_000u32],
            hz in prop_oneof![Just(100u32), Just(250), Just(300), Just(1000)],
            timeouts in (3..=910u16, 3..=15u8),
            (seen, origin, verdict) in ([any::<u8>(), any::<u8>()], 0..2u8, 0..2u8),
            protocol in prop_oneof![Just(6u8), Just(17), Just(1)],
        ) {
            let last = [0, 1].map(|i| now.wrapping_sub(ages[i]).wrapping_add(ahead[i]));
            let flow = Flow {
                last: last.map(Cell::new),
                ack: [Cell::new(0), Cell::new(0)],
                epoch: Cell::new(1),
                rule: Cell::new(1),
                timeout: timeouts.0,
                seen: seen.map(Cell::new),
                origin: Cell::new(origin),
                verdict: Cell::new(verdict),
                timeout_closed: timeouts.1,
                place: place::MAIN,
            };
            let read = Clock { now: now.wrapping_sub(stopped), hz };
            if state::is_stale(&flow, protocol, read) {
                prop_assert!(state::is_expired(&flow, protocol, Clock { now, hz }), "{flow:?} at {now}");
            }
        }
    }
}
