//! Live flows, read and swept by the daemon.

use std::{io, net::IpAddr};

use sg_common::{
    filter::{bit4, bit6},
    flow::{Cell, Flow, FlowKey, place},
    generation::Generation,
    limits,
    reason::Verdict,
};
use sg_ebpf::conntrack::{Clock, state::age};

use super::{filter::Halves, object::Maps};
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
    /// [`sg_common::flow::seen`] bits, by direction.
    pub seen: [u8; 2],
    /// Idle seconds it may have.
    pub timeout: u32,
    /// Whether it is in the main table.
    pub confirmed: bool,
}

/// Six words of an entry, see [`sg_common::flow::Flow`].
fn decode(key: FlowKey, words: [u32; 6]) -> Live {
    let [last_in, last_out, _epoch, rule, timeout_and_seen, five] = words;
    let ([_, _, seen_in, seen_out], five) = (timeout_and_seen.to_ne_bytes(), five.to_ne_bytes());
    Live {
        key,
        origin: Direction::from_u8(five[0]),
        verdict: Verdict::from_u8(five[1]),
        last: [last_in, last_out],
        rule,
        seen: [seen_in, seen_out],
        timeout: timeout(words, key.protocol()),
        confirmed: five[3] == place::MAIN,
    }
}

/// Idle seconds that the program itself grants an entry.
fn timeout(words: [u32; 6], protocol: u8) -> u32 {
    // SAFETY: 24 bytes without padding, asserted in sg-common; any bits are an entry.
    let flow: Flow = unsafe { std::mem::transmute(words) };
    sg_ebpf::conntrack::state::timeout(&flow, protocol)
}

impl Live {
    /// Whether it has been idle for longer than it may.
    pub fn is_expired(&self, clock: Clock) -> bool {
        let idle = self.last.map(|last| age(clock.now.wrapping_sub(last), clock)).into_iter().min().unwrap_or(0);
        idle > self.timeout.saturating_mul(clock.hz)
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
    /// [`sg_common::flow::seen`] bits, by direction.
    pub seen: [u8; 2],
    /// Whether its initiator has had an answer.
    pub confirmed: bool,
}

/// The entry of a flow, as the program would have made it under a generation.
fn entry(found: &Found, generation: &Generation, protocol: u8, now: u32) -> Flow {
    let timeout = match protocol {
        6 => generation.tcp_established,
        17 => generation.udp,
        1 | 58 => limits::TIMEOUT_ICMP,
        _ => limits::TIMEOUT_OTHER,
    };
    Flow {
        last: [Cell::new(now), Cell::new(now)],
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
fn words(flow: Flow) -> [u32; 6] {
    // SAFETY: 24 bytes without padding, asserted in sg-common.
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
    let ended = sg_common::flow::seen::FIN | sg_common::flow::seen::RST;
    macro_rules! replace {
        ($main:expr, $others:expr, $key:expr) => {{
            for map in $others.iter().chain([$main]) {
                if let Some(old) = map.get($key)? {
                    let old = decode(*key, old).seen;
                    (0..2).for_each(|side| found.seen[side] |= old[side] & ended);
                }
            }
            let flow = words(entry(&found, generation, key.protocol(), now));
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

/// Deletes the flows that `stale` names.
fn delete(maps: &Maps, stale: impl Fn(&Live) -> bool) -> io::Result<usize> {
    let mut count = 0;
    for map in maps.churn4.iter().chain([&maps.flows4]) {
        let mut found = Vec::new();
        map.each(|key, words| found.extend(stale(&decode((*key).into(), *words)).then_some(*key)))?;
        for key in found {
            // It may have come to life meanwhile.
            if map.get(&key)?.is_some_and(|words| stale(&decode(key.into(), words))) && map.delete(&key)? {
                count += 1;
            }
        }
    }
    for map in maps.churn6.iter().chain([&maps.flows6]) {
        let mut found = Vec::new();
        map.each(|key, words| found.extend(stale(&decode(*key, *words)).then_some(*key)))?;
        for key in found {
            if map.get(&key)?.is_some_and(|words| stale(&decode(key, words))) && map.delete(&key)? {
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Deletes every flow of a device that is no longer protected.
///
/// # Errors
/// What the kernel says.
pub fn forget_zone(maps: &Maps, zone: u32) -> io::Result<usize> {
    delete(maps, |flow| flow.key.zone == zone)
}

/// Deletes what expired at least two periods of its own timeout ago.
///
/// # Errors
/// What the kernel says.
pub fn sweep(maps: &Maps, now: u32, hz: u32) -> io::Result<usize> {
    delete(maps, |flow| {
        let clock = Clock { now, hz };
        let idle = flow.last.map(|last| age(now.wrapping_sub(last), clock)).into_iter().min().unwrap_or(0);
        idle > flow.timeout.saturating_mul(2 * hz)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sg_common::addr::Addr;

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let flow = Flow {
            last: [Cell::new(11), Cell::new(12)],
            epoch: Cell::new(13),
            rule: Cell::new(14),
            timeout: 910,
            seen: [Cell::new(1), Cell::new(2)],
            origin: Cell::new(1),
            verdict: Cell::new(1),
            timeout_closed: 3,
            place: place::MAIN,
        };
        let words = words(flow);
        let key = FlowKey {
            zone: 1,
            vlan_proto: 6,
            local: Addr([0; 16]),
            remote: Addr([0; 16]),
            local_port: 1,
            remote_port: 2,
        };
        let live = decode(key, words);
        assert_eq!((live.last, live.rule, live.timeout, live.confirmed), ([11, 12], 14, 10, true));
        assert_eq!((live.origin, live.verdict, live.seen), (Direction::Outbound, Verdict::Accept, [1, 2]));
    }
}
