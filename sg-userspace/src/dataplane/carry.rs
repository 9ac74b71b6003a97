//! From one set of maps to another, without a packet in between: a newer layout,
//! or conntrack tables of another size.
//!
//! Nothing is changed in place. A new set is made beside the old one, with the
//! devices, their policies in force, and the flows; by two renames it becomes
//! the set in force (see [`super::pins`]); only then is the program in each link
//! exchanged, which takes microseconds for both directions of a device. Flows
//! that began in the meantime are carried over last, and the old set goes. Up
//! to the renames a failure or a death changes nothing; from them on the next
//! start goes on where this one ended.
//!
//! # Layout
//! - [`old`]: a set of an earlier version, read as this one writes it
//! - [`mod@flows`]: conntrack entries from one set to the other

pub mod flows;
pub mod old;

use std::{collections::BTreeSet, io, os::fd::AsFd};

use sg_common::{
    ABI_VERSION,
    generation::{Generation, NO_POLICY},
    limits::MAX_IFINDEX,
    maps,
};

use super::{
    attach,
    filter::Halves,
    machine::Machine,
    object::{self, Maps, Object},
    pins::{Old, Pins},
    shapes::{self, Sizes},
    sys,
};
use flows::{Count, Time, merge};
use old::OldSet;

/// What was carried over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Devices whose programs were exchanged.
    pub devices: usize,
    /// Flows.
    pub flows: Count,
    /// Devices that keep the program of the old set, and why; the next start tries again.
    pub kept: Vec<(u32, String)>,
}

/// Maps that both sets may have in common: all but the conntrack tables when only
/// their size differs; of an older version, counters.
fn common(abi: u32) -> Vec<&'static str> {
    if abi != ABI_VERSION {
        return vec![maps::REASONS, maps::RULES];
    }
    let sized: BTreeSet<&str> = Sizes::of(0).by_name().map(|(name, _)| name).collect();
    object::names().into_iter().chain(object::ADDED).filter(|name| !sized.contains(name)).collect()
}

/// Pins in a new set what it has in common with the old one.
///
/// # Errors
/// What the kernel says.
pub fn share(bytes: &[u8], from: &Old, to: &Pins, sizes: Sizes) -> anyhow::Result<()> {
    let shapes = shapes::of_object(bytes, sizes)?;
    for name in common(from.abi) {
        let path = from.pins.dir.join(name);
        if shapes.get(name).is_some_and(|shape| shapes::is_pinned(&path, *shape)) {
            sys::pin(sys::open_pin(&path)?.as_fd(), &to.dir.join(name))?;
        }
    }
    Ok(())
}

/// Indices that devices of a set may have: those of this machine, and those
/// that links are pinned for.
pub fn indices(machine: &Machine, pins: &Pins) -> BTreeSet<u32> {
    let mut all: BTreeSet<u32> = machine.devices.iter().map(|d| d.index).filter(|i| *i < MAX_IFINDEX).collect();
    all.extend(attach::pinned(&pins.links));
    all
}

/// Copies devices with their slots, zones and epochs. They deny until their
/// policies are written; no program reads the new set yet.
///
/// # Errors
/// What the kernel says.
pub fn devices(old: &OldSet, pins: &Pins, machine: &Machine, maps: &Maps) -> io::Result<()> {
    // Also records that nothing names any more: what was used is never used again.
    for (index, generation) in old.generations()? {
        maps.generations.update(&index, &Generation { policy: NO_POLICY, policy_class: 0, ..generation })?;
    }
    for index in indices(machine, pins) {
        match old.ifaces.get(&index)? {
            Some(record) if record != 0 && !attach::is_stale(&pins.links, index) => {
                maps.ifaces.update(&index, &record)?
            }
            _ => {}
        }
    }
    Ok(())
}

/// Zones of the devices of a set.
fn zones(maps: &Maps, indices: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
    let mut zones = BTreeSet::new();
    for index in indices {
        if let Some(record) = maps.ifaces.get(index)?.filter(|r| *r != 0) {
            zones.extend(maps.generations.get(&(record as u32))?.map(|g| g.zone));
        }
    }
    Ok(zones)
}

/// Carries flows of the devices in `object` over, as far as they are not there
/// or older. `live` when programs use the new set.
///
/// # Errors
/// What the kernel says.
pub fn flows(old: &OldSet, indices: &BTreeSet<u32>, object: &mut Object, live: bool) -> io::Result<Count> {
    let now = object.jiffies()?;
    let hz = object.ticks_per_second()?;
    let maps = &object.maps;
    let zones = zones(maps, indices)?;
    let time = Time { now, hz, live };
    let filter = Halves::open(maps)?;
    let [a, b, c] = &maps.churn4;
    let four = merge(&old.flows4, [&maps.flows4, a, b, c], &zones, &filter, time)?;
    let [a, b, c] = &maps.churn6;
    let six = merge(&old.flows6, [&maps.flows6, a, b, c], &zones, &filter, time)?;
    Ok(four + six)
}

/// Exchanges the programs of devices that have those of an old set, carries
/// over what flows began since, and removes the old set.
///
/// # Errors
/// What the kernel says; the next start goes on from there.
pub fn finish(old: &Old, own: &Pins, machine: &Machine, object: &mut Object) -> io::Result<Carried> {
    let mut carried = Carried::default();
    if !old.pins.links.exists() {
        // Nothing was left to do but this.
        old.pins.remove()?;
        return Ok(carried);
    }
    attach::forget_moves(&old.pins.links);
    let set = OldSet::open(old)?;
    let indices = indices(machine, &old.pins);
    for &index in &indices {
        if set.ifaces.get(&index)?.is_none_or(|record| record == 0) {
            continue;
        }
        let name = machine.devices.iter().find(|d| d.index == index).map(|d| d.name.as_str());
        let stale = attach::is_stale(&old.pins.links, index);
        if stale {
            // A device that has the index now inherits nothing.
            object.maps.ifaces.update(&index, &0)?;
        }
        let wanted = object.maps.ifaces.get(&index)?.is_some_and(|record| record != 0);
        let done = match name {
            Some(name) if wanted => {
                let links = (old.pins.links.as_path(), own.links.as_path());
                attach::take_over(object, links, index, name).map(|()| carried.devices += 1)
            }
            _ => attach::detach(&old.pins.links, index, name.filter(|_| !stale)).map_err(Into::into),
        };
        if let Err(e) = done {
            carried.kept.push((index, format!("{}: {e:#}", name.unwrap_or("a device that is gone"))));
        }
    }
    carried.flows = flows(&set, &indices, object, true)?;
    // What a program of the old set did that was still running.
    if sys::grace_period().is_ok() {
        carried.flows += flows(&set, &indices, object, true)?;
    }
    if carried.kept.is_empty() {
        old.pins.remove()?;
    }
    Ok(carried)
}
