//! A set of maps that was in force before, in the layouts of its version, read
//! as this version writes it.

use std::io;

use sg_common::{
    ABI_VERSION,
    flow::{FlowKey4, FlowKey6},
    generation::Generation,
    limits::MAX_GENERATIONS,
    maps,
};

use crate::dataplane::{
    object::FlowWords,
    pins::Old,
    sys::{self, Raw, RawMap},
};

/// A table of conntrack entries.
#[derive(Debug)]
pub enum Table<K> {
    /// In today's layout.
    Today(RawMap<K, FlowWords>),
    /// In that of version 1.
    One(RawMap<K, [u32; 6]>),
    /// The version has no such table.
    Absent,
}

impl<K: Raw> Table<K> {
    /// Calls `f` for every entry, see [`RawMap::each`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each(&self, mut f: impl FnMut(&K, FlowWords)) -> io::Result<()> {
        match self {
            Self::Today(map) => map.each(|key, flow| f(key, *flow)),
            Self::One(map) => map.each(|key, flow| f(key, from_one(flow))),
            Self::Absent => Ok(()),
        }
    }
}

/// A flow of version 1, which knew no acknowledgement numbers: zero is not known.
fn from_one(&[last_in, last_out, epoch, rule, times, rest]: &[u32; 6]) -> FlowWords {
    [last_in, last_out, 0, 0, epoch, rule, times, rest]
}

/// What the devices of a set enforce.
#[derive(Debug)]
enum Records {
    Today(RawMap<u32, Generation>),
    One(RawMap<u32, [u32; 14]>),
}

/// The maps of a set that are carried over.
#[derive(Debug)]
pub struct OldSet {
    /// By ifindex.
    pub ifaces: RawMap<u32, u64>,
    records: Records,
    /// IPv4: confirmed flows, then unconfirmed ones by initiating direction, then those on probation.
    pub flows4: [Table<FlowKey4>; 4],
    /// The same of IPv6.
    pub flows6: [Table<FlowKey6>; 4],
}

fn open<K: Raw, V: Raw>(old: &Old, name: &str) -> io::Result<RawMap<K, V>> {
    use std::os::fd::AsFd;
    let path = old.pins.dir.join(name);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let fd = sys::open_pin(&path).map_err(named)?;
    let [_, _, key, value, ..] = sys::map_info(fd.as_fd()).map_err(named)?;
    RawMap::new(fd, key, value).map_err(named)
}

fn table<K: Raw>(old: &Old, name: &str) -> io::Result<Table<K>> {
    if old.abi == ABI_VERSION {
        return open(old, name).map(Table::Today);
    }
    match open(old, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Table::Absent),
        map => map.map(Table::One),
    }
}

impl OldSet {
    /// Opens the maps of a set.
    ///
    /// # Errors
    /// The pin that is missing or has not the layout of its version.
    pub fn open(old: &Old) -> io::Result<Self> {
        let tables = |family: usize| {
            [maps::FLOWS[family], maps::CHURN[0][family], maps::CHURN[1][family], maps::CHURN[2][family]]
        };
        let [a, b, c, d] = tables(0).map(|name| table(old, name));
        let flows4 = [a?, b?, c?, d?];
        let [a, b, c, d] = tables(1).map(|name| table(old, name));
        let flows6 = [a?, b?, c?, d?];
        let records = if old.abi == ABI_VERSION {
            Records::Today(open(old, maps::GENERATIONS)?)
        } else {
            Records::One(open(old, maps::GENERATIONS)?)
        };
        Ok(Self { ifaces: open(old, maps::IFACES)?, records, flows4, flows6 })
    }

    /// Every record that was ever written, by index.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn generations(&self) -> io::Result<Vec<(u32, Generation)>> {
        let mut found = Vec::new();
        for index in 1..MAX_GENERATIONS {
            let generation = match &self.records {
                Records::Today(map) => map.get(&index)?,
                Records::One(map) => map.get(&index)?.map(record_of_one),
            };
            found.extend(generation.filter(|g| g.zone != 0).map(|g| (index, g)));
        }
        Ok(found)
    }
}

/// A record of version 1. The rest of it is written with its policy.
fn record_of_one(words: [u32; 14]) -> Generation {
    let [_, _, _, epoch, _, _, zone, slot, flags, drain_until, times, closed_change_mac, mac, _] = words;
    let [established_low, established_high, udp_low, udp_high] = times.to_ne_bytes();
    let [tcp_closed, on_change, a, b] = closed_change_mac.to_ne_bytes();
    let [c, d, e, f] = mac.to_ne_bytes();
    Generation {
        epoch,
        zone,
        slot,
        flags,
        drain_until,
        tcp_established: u16::from_ne_bytes([established_low, established_high]),
        udp: u16::from_ne_bytes([udp_low, udp_high]),
        tcp_closed,
        on_change,
        mac: [a, b, c, d, e, f],
        ..sys::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_version_1_is_read_as_it_was_written() {
        // deadline, policy, epoch, previous, shadow, zone, slot, flags, drain_until,
        // then 910 and 30, 3 and keep, the address, the size class.
        let mut words = [0, 0, 7, 41, 3, 0, 5, 2, 33, 99, 0, 0, 0, 1];
        words[10] = u32::from_ne_bytes([[142, 3], [30, 0]].concat().try_into().unwrap());
        words[11] = u32::from_ne_bytes([3, 1, 2, 0]);
        words[12] = u32::from_ne_bytes([0, 0, 0, 9]);
        if cfg!(target_endian = "big") {
            words[10] = 910 << 16 | 30;
        }
        let g = record_of_one(words);
        assert_eq!((g.epoch, g.zone, g.slot, g.flags, g.drain_until), (41, 5, 2, 33, 99));
        assert_eq!((g.tcp_established, g.udp, g.tcp_closed, g.on_change), (910, 30, 3, 1));
        assert_eq!((g.mac, g.policy, g.previous), ([2, 0, 0, 0, 0, 9], 0, 0));
    }
}
