//! How full the kernel's tables are.

use std::{io, os::fd::AsFd};

use sg_common::{
    flow::{FragEntry, FragKey},
    limits::{MAX_GENERATIONS, MAX_IFINDEX, MAX_POLICIES, MAX_RULES, MAX_SLOTS},
    maps,
    policy::CLASS_SIZES,
};

use super::Engine;
use crate::dataplane::{
    object,
    sys::{self, Raw, RawMap, query},
};

/// What is used of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What the table holds.
    pub what: &'static str,
    /// Whose it is, if it is a device's.
    pub device: Option<String>,
    /// How much of it is used.
    pub used: u64,
    /// How much it holds.
    pub of: u64,
}

/// Elements of a hash, and how many it takes.
fn counted<K: Raw, V: Raw>(what: &'static str, map: &RawMap<K, V>) -> io::Result<Used> {
    let mut used = 0;
    map.each(|_, _| used += 1)?;
    Ok(Used { what, device: None, used, of: map.capacity()?.into() })
}

/// Unconfirmed flows by table. The oldest make room there.
const CHURN: [[&str; 2]; 3] = [
    ["unconfirmed flows, inbound, IPv4", "unconfirmed flows, inbound, IPv6"],
    ["unconfirmed flows, outbound, IPv4", "unconfirmed flows, outbound, IPv6"],
    ["flows on probation, IPv4", "flows on probation, IPv6"],
];

impl Engine {
    /// All tables that have a bound, but those of confirmed flows, which quotas share out.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn room(&self) -> io::Result<Vec<Used>> {
        let maps = &self.object.maps;
        let used = |what, used: usize, of: u32| Used { what, device: None, used: used as u64, of: of.into() };
        let records = self.bound.values().map(|b| 1 + usize::from(b.base.is_some())).sum();
        let own: usize = self.bound.values().map(|b| b.own.len()).sum();
        let mut all = vec![
            // The first of each stands for none.
            used("protected interfaces", self.bound.len(), MAX_SLOTS - 1),
            used("generation records", records, MAX_GENERATIONS - 1),
            used("policies", self.policies.len() + self.foreign.len(), MAX_POLICIES),
            used("rule counters", self.counters.ids().len(), MAX_RULES - 1),
            used("own addresses of guests", own, maps.own.capacity()?),
        ];
        let last = self.bound.last_key_value();
        all.extend(last.map(|(&index, b)| Used {
            device: Some(b.device.clone()),
            ..used("interface index", index as usize, MAX_IFINDEX - 1)
        }));
        let largest = self.policies.iter().max_by_key(|(_, p)| p.live.tables.flat.len());
        all.extend(largest.map(|(index, policy)| {
            let whose = self.bound.values().find(|b| b.policies().any(|p| p == *index));
            let bytes = policy.live.tables.flat.len();
            Used { device: whose.map(|b| b.device.clone()), ..used("bytes of a policy", bytes, CLASS_SIZES[2]) }
        }));
        for (i, [v4, v6]) in CHURN.into_iter().enumerate() {
            all.extend([counted(v4, &maps.churn4[i])?, counted(v6, &maps.churn6[i])?]);
        }
        all.push(counted("flows that are counted", &maps.accounts)?);
        all.push(counted("flows that a candidate decides otherwise", &maps.shadow)?);
        let map = |name| object::map_fd(&self.object.ebpf, name).map_err(io::Error::other);
        let fragments = RawMap::<FragKey, FragEntry>::new(
            map(maps::FRAGMENTS)?,
            size_of::<FragKey>() as u32,
            size_of::<FragEntry>() as u32,
        )?;
        all.push(counted("fragmented packets", &fragments)?);
        let ring = map(maps::EVENTS)?;
        let [.., bytes, _] = sys::map_info(ring.as_fd())?;
        let waiting = query::ring_waits(ring.as_fd())?;
        all.push(Used { what: "bytes of events that wait", device: None, used: waiting, of: bytes.into() });
        Ok(all)
    }
}
