//! Conntrack entries from one set of tables to another.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    io, ops,
};

use sg_common::{
    filter::{bit4, bit6},
    flow::{Flow, FlowKey4, FlowKey6, place},
};
use sg_ebpf::conntrack::{Clock, state};

use super::old::Table;
use crate::dataplane::{
    filter::Halves,
    object::FlowWords,
    sys::{self, Raw, RawMap},
};

/// What became of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Written to the new tables.
    pub carried: usize,
    /// For which the new tables have no room.
    pub left: usize,
}

impl ops::Add for Count {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { carried: self.carried + other.carried, left: self.left + other.left }
    }
}

impl ops::AddAssign for Count {
    /// A later pass over the same flows: what had no room before is counted by it again.
    fn add_assign(&mut self, later: Self) {
        *self = Self { carried: self.carried + later.carried, left: later.left };
    }
}

/// When, and whether programs use the new tables.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Jiffies.
    pub now: u32,
    /// Jiffies a second.
    pub hz: u32,
    /// Whether programs write the new tables meanwhile.
    pub live: bool,
}

/// A key of either family.
pub trait Key: Raw + Eq + Hash {
    /// See [`sg_common::flow::FlowKey::zone`].
    fn zone(&self) -> u32;
    /// IP protocol number.
    fn protocol(&self) -> u8;
    /// Its bit in [`sg_common::filter`].
    fn bit(&self) -> u32;
}

impl Key for FlowKey4 {
    fn zone(&self) -> u32 {
        self.zone
    }
    fn protocol(&self) -> u8 {
        self.vlan_proto as u8
    }
    fn bit(&self) -> u32 {
        bit4(self)
    }
}

impl Key for FlowKey6 {
    fn zone(&self) -> u32 {
        self.zone
    }
    fn protocol(&self) -> u8 {
        self.vlan_proto as u8
    }
    fn bit(&self) -> u32 {
        bit6(self)
    }
}

/// Confirmed flows; the others are unconfirmed inbound, outbound, and on probation.
const MAIN: usize = 0;
const PLACES: [u8; 4] = [place::MAIN, place::CHURN, place::CHURN, place::PROBATION];

fn flow(words: FlowWords) -> Flow {
    // SAFETY: as many bytes, without padding, asserted in sg-common; any bits are an entry.
    unsafe { std::mem::transmute(words) }
}

fn words(flow: Flow) -> FlowWords {
    // SAFETY: as above.
    unsafe { std::mem::transmute(flow) }
}

/// Jiffies of the last packet of either direction.
fn last(flow: &Flow, clock: Clock) -> u32 {
    clock.now.wrapping_sub(state::idle(flow, clock))
}

/// What is to be written to one table.
#[derive(Debug)]
struct Writes<K> {
    keys: Vec<K>,
    flows: Vec<FlowWords>,
}

/// Copies the flows of some zones that are not in the new tables, or older
/// there. Where not all fit, the most recently used are taken; a confirmed flow
/// that finds the main table full is served from the table of its initiating side.
///
/// # Errors
/// What the kernel says.
pub fn merge<K: Key>(
    from: &[Table<K>; 4],
    to: [&RawMap<K, FlowWords>; 4],
    zones: &BTreeSet<u32>,
    filter: &Halves,
    time: Time,
) -> io::Result<Count> {
    let clock = Clock { now: time.now, hz: time.hz };
    let mut there: HashMap<K, (usize, u32)> = HashMap::new();
    let mut room = [0usize; 4];
    // The main table last: what is in it counts.
    for table in (0..4).rev() {
        let map = sys::map_info(to[table].as_fd())?;
        let mut used = 0;
        to[table].each(|key, words| {
            used += 1;
            there.insert(*key, (table, last(&flow(*words), clock)));
        })?;
        room[table] = (map[4] as usize).saturating_sub(used);
    }
    let mut wanted: Vec<(u32, usize, K, FlowWords)> = Vec::new();
    for (table, map) in from.iter().enumerate() {
        map.each(|key, words| {
            let old = flow(words);
            if !zones.contains(&key.zone()) || state::is_expired(&old, key.protocol(), clock) {
                return;
            }
            let idle = state::idle(&old, clock);
            let newer = |&(_, there): &(usize, u32)| clock.now.wrapping_sub(there) > idle;
            if there.get(key).is_none_or(newer) {
                wanted.push((idle, table, *key, words));
            }
        })?;
    }
    wanted.sort_unstable_by_key(|(idle, table, ..)| (*idle, *table));

    let mut count = Count::default();
    let mut writes: [Writes<K>; 4] = std::array::from_fn(|_| Writes { keys: Vec::new(), flows: Vec::new() });
    for (_, table, key, words_of_it) in wanted {
        let mut it = flow(words_of_it);
        let begun = 1 + usize::from(it.origin.get() & 1);
        let target = match there.get(&key) {
            Some((now, _)) if *now == MAIN || table != MAIN || room[MAIN] == 0 => Some(*now),
            _ => [table, begun].into_iter().find(|t| room[*t] > 0),
        };
        let Some(target) = target else {
            count.left += 1;
            continue;
        };
        if there.get(&key).is_none_or(|(now, _)| *now != target) {
            room[target] = room[target].saturating_sub(1);
        }
        it.place = PLACES[target];
        writes[target].keys.push(key);
        writes[target].flows.push(words(it));
        count.carried += usize::from(!there.contains_key(&key));
    }
    for (target, mut writes) in writes.into_iter().enumerate() {
        // Before the flow itself: one that the filter does not know is not looked for.
        writes.keys.iter().for_each(|key| filter.add(key.bit()));
        // The table of unconfirmed ones gives up what came first.
        writes.keys.reverse();
        writes.flows.reverse();
        if !time.live {
            to[target].update_batch(&writes.keys, &writes.flows)?;
        }
        for (key, flow) in writes.keys.iter().zip(&writes.flows) {
            let before = there.get(key).map(|(now, _)| *now);
            if time.live {
                let done = match before {
                    Some(now) if now == target => to[target].update(key, flow),
                    // What a program has added meanwhile stays.
                    _ => to[target].add(key, flow).map(drop),
                };
                match done {
                    Err(e) if e.raw_os_error() == Some(libc::E2BIG) => {
                        count.left += 1;
                        continue;
                    }
                    done => done?,
                }
            }
            if let Some(now) = before.filter(|now| *now != target) {
                to[now].delete(key)?;
            }
        }
    }
    Ok(count)
}
