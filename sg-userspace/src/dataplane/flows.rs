//! Live flows, read and swept by the daemon.

use std::{io, net::IpAddr};

use sg_common::{
    filter::{bit4, bit6},
    flow::{Cell, Flow, FlowKey, place, seen},
    generation::Generation,
    limits,
    reason::Verdict,
};
use sg_ebpf::conntrack::{Clock, state};

use super::{
    filter::Halves,
    object::{FlowWords, Maps},
    sys::{Raw, RawMap},
};
use crate::model::{Direction, protocol_name};

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
    /// [`seen`] bits, by direction.
    pub seen: [u8; 2],
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
        seen: [flow.seen[0].get(), flow.seen[1].get()],
        // The program itself grants that.
        timeout: state::timeout(&flow, key.protocol()),
        confirmed: flow.place == place::MAIN,
    }
}

impl Live {
    /// Jiffies since either side showed itself.
    fn idle(&self, clock: Clock) -> u32 {
        self.last.map(|last| state::age(clock.now.wrapping_sub(last), clock)).into_iter().min().unwrap_or(0)
    }

    /// Whole seconds since either side showed itself.
    pub fn idle_seconds(&self, clock: Clock) -> u32 {
        self.idle(clock) / clock.hz
    }

    /// Whether it has been idle for longer than it may.
    pub fn is_expired(&self, clock: Clock) -> bool {
        self.idle(clock) > self.timeout.saturating_mul(clock.hz)
    }

    /// Whether it is TCP that was reset, or closed from both sides.
    pub fn is_closing(&self) -> bool {
        let [a, b] = self.seen;
        self.key.protocol() == 6 && ((a | b) & seen::RST != 0 || a & b & seen::FIN != 0)
    }
}

/// What the daemon has found out about a flow that no program saw begin.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Who began it.
    pub origin: Direction,
    /// Whether it may go on.
    pub verdict: Verdict,
    /// Counter of the rule that says so.
    pub rule: u32,
    /// [`seen`] bits, by direction.
    pub seen: [u8; 2],
    /// Whether its initiator has had an answer.
    pub confirmed: bool,
}

/// The entry of a flow, as the program would have made it under a generation. `ack`
/// is what its sides have acknowledged, as far as a program has seen it.
fn entry(found: &Found, ack: [u32; 2], generation: &Generation, protocol: u8, now: u32) -> Flow {
    let timeout = match protocol {
        6 => generation.tcp_established,
        17 => generation.udp,
        1 | 58 => limits::TIMEOUT_ICMP,
        _ => limits::TIMEOUT_OTHER,
    };
    Flow {
        last: [Cell::new(now), Cell::new(now)],
        ack: ack.map(Cell::new),
        epoch: Cell::new(generation.epoch),
        rule: Cell::new(found.rule),
        timeout,
        seen: found.seen.map(Cell::new),
        origin: Cell::new(found.origin as u8),
        verdict: Cell::new(found.verdict as u8),
        timeout_closed: generation.tcp_closed,
        place: if found.confirmed { place::MAIN } else { place::CHURN },
    }
}

/// An entry as the tables hold it.
pub(super) fn words(flow: Flow) -> FlowWords {
    // SAFETY: 32 bytes without padding, asserted in sg-common.
    unsafe { std::mem::transmute(flow) }
}

/// Puts a flow into the table it belongs to, in place of what a program may have
/// noted of it meanwhile, but for the ends of a connection that it has seen.
///
/// # Errors
/// What the kernel says; `E2BIG` when the table is full.
pub fn put(
    maps: &Maps,
    halves: &Halves,
    key: &FlowKey,
    found: &Found,
    generation: &Generation,
    now: u32,
) -> io::Result<()> {
    let v4 = key.local.is_v4() && key.remote.is_v4();
    let short = key.to_v4();
    // A packet of a flow that has an entry must never meet a clear bit.
    halves.add(if v4 { bit4(&short) } else { bit6(key) });
    let mut found = *found;
    let ended = seen::FIN | seen::RST;
    macro_rules! replace {
        ($main:expr, $others:expr, $key:expr) => {{
            let mut ack = [0; 2];
            for map in $others.iter().chain([$main]) {
                if let Some(old) = map.get($key)? {
                    let old = flow_of(old);
                    for side in 0..2 {
                        found.seen[side] |= old.seen[side].get() & ended;
                        ack[side] = if old.ack[side].get() == 0 { ack[side] } else { old.ack[side].get() };
                    }
                }
            }
            let flow = words(entry(&found, ack, generation, key.protocol(), now));
            if found.confirmed {
                // This one is found first from now on.
                $main.update($key, &flow)?;
                $others.iter().try_for_each(|map| map.delete($key).map(drop))?;
            } else {
                $others[found.origin as usize].update($key, &flow)?;
            }
        }};
    }
    if v4 {
        replace!(&maps.flows4, maps.churn4, &short);
    } else {
        replace!(&maps.flows6, maps.churn6, key);
    }
    Ok(())
}

/// Who speaks to whom, initiator first: `tcp 192.0.2.7:40000 -> 10.0.0.5:22`.
pub fn text(key: &FlowKey, origin: Direction) -> String {
    let end = |addr: IpAddr, port: u16| match (port, addr) {
        (0, addr) => addr.to_string(),
        (port, IpAddr::V6(addr)) => format!("[{addr}]:{port}"),
        (port, addr) => format!("{addr}:{port}"),
    };
    let (local, remote) = (end(key.local.into(), key.local_port), end(key.remote.into(), key.remote_port));
    let protocol = protocol_name(Some(key.protocol()));
    match origin {
        Direction::Inbound => format!("{protocol} {remote} -> {local}"),
        Direction::Outbound => format!("{protocol} {local} -> {remote}"),
    }
}

/// Calls `f` with all entries of all tables, expired ones included.
///
/// # Errors
/// What the kernel says.
pub fn each(maps: &Maps, mut f: impl FnMut(Live)) -> io::Result<()> {
    for map in maps.churn4.iter().chain([&maps.flows4]) {
        map.each(|key, words| f(decode((*key).into(), *words)))?;
    }
    for map in maps.churn6.iter().chain([&maps.flows6]) {
        map.each(|key, words| f(decode(*key, *words)))?;
    }
    Ok(())
}

/// As [`each`], at once.
///
/// # Errors
/// What the kernel says.
pub fn all(maps: &Maps) -> io::Result<Vec<Live>> {
    let mut flows = Vec::new();
    each(maps, |flow| flows.push(flow))?;
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
    use sg_common::addr::Addr;

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
        let live = decode(key(6), words(flow));
        assert_eq!((live.last, live.rule, live.timeout, live.confirmed), ([11, 12], 14, 10, true));
        assert_eq!((live.origin, live.verdict, live.seen), (Direction::Outbound, Verdict::Accept, [1, 2]));
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
