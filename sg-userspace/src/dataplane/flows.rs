//! Live flows, read and swept by the daemon.

use std::io;

use sg_common::{
    flow::{Flow, FlowKey, place},
    reason::Verdict,
};
use sg_ebpf::conntrack::{Clock, state::age};

use super::object::Maps;
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

/// Six words of an entry, see [`sg_common::flow::Flow`].
fn decode(key: FlowKey, words: [u32; 6]) -> Live {
    let [last_in, last_out, _epoch, rule, _timeout_and_seen, five] = words;
    let five = five.to_ne_bytes();
    Live {
        key,
        origin: Direction::from_u8(five[0]),
        verdict: Verdict::from_u8(five[1]),
        last: [last_in, last_out],
        rule,
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
    use sg_common::{addr::Addr, flow::Cell};

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
        // SAFETY: 24 bytes without padding, asserted in sg-common.
        let words: [u32; 6] = unsafe { std::mem::transmute(flow) };
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
        assert_eq!((live.origin, live.verdict), (Direction::Outbound, Verdict::Accept));
    }
}
