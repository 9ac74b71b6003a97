//! Compiled tables to the kernel: one flat value, one trie and one hash for
//! each policy, made whole before the outer maps name them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use sg_common::{
    limits::MAX_POLICIES,
    policy::{CLASS_SIZES, CLASS_SLACK, LPM_KIND_BITS},
};
use thiserror::Error;

use super::{
    object::{HostMap, Maps, PrefixMap},
    sys::{self, LpmKey, RawMap, map_flags, map_type},
};
use crate::compiler::{Tables, addresses::Prefix};

/// Why a policy could not be written.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// No index is free.
    #[error("{MAX_POLICIES} different policies are in force already")]
    Full,
    /// The kernel refused.
    #[error("cannot write the {what} of a policy ({bytes} bytes or entries): {error}")]
    Kernel {
        /// Which table.
        what: &'static str,
        /// How large.
        bytes: usize,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

fn kernel(what: &'static str, bytes: usize) -> impl FnOnce(io::Error) -> PolicyError {
    move |error| PolicyError::Kernel { what, bytes, error }
}

/// The maps of a policy, whole, that nothing names yet.
#[derive(Debug)]
pub struct Made {
    index: u32,
    class: usize,
    flat: OwnedFd,
    hosts: Option<HostMap>,
    prefixes: Option<PrefixMap>,
}

/// Makes the maps of a policy that is to have a free index.
///
/// # Errors
/// What the kernel says.
pub fn make(index: u32, tables: &Tables) -> Result<Made, PolicyError> {
    let class = tables.size_class();
    let size = CLASS_SIZES[class] + CLASS_SLACK;
    let length = tables.flat.len();
    let flat = sys::create("sg_policy", map_type::ARRAY, 4, size, 1, map_flags::MMAPABLE | map_flags::INNER_MAP)
        .map_err(kernel("tables", length))?;
    sys::fill(flat.as_fd(), size as usize, &tables.flat).map_err(kernel("tables", length))?;

    // What the flags say is not asked is not there.
    let count = tables.hosts.len();
    let mut made = Made { index, class, flat, hosts: None, prefixes: None };
    if count > 0 {
        let hosts =
            HostMap::create("sg_hosts", map_type::HASH, count as u32, 0).map_err(kernel("host table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.hosts.iter().copied().unzip();
        hosts.update_batch(&keys, &values).map_err(kernel("host table", count))?;
        made.hosts = Some(hosts);
    }
    let count = tables.prefixes.len();
    if count > 0 {
        let prefixes = PrefixMap::create("sg_prefixes", map_type::LPM_TRIE, count as u32, map_flags::NO_PREALLOC)
            .map_err(kernel("prefix table", count))?;
        let key = |p: &Prefix| LpmKey { bits: LPM_KIND_BITS + u32::from(p.length), data: p.data };
        let (keys, values): (Vec<_>, Vec<_>) = tables.prefixes.iter().map(|(p, class)| (key(p), *class)).unzip();
        prefixes.update_batch(&keys, &values).map_err(kernel("prefix table", count))?;
        made.prefixes = Some(prefixes);
    }
    Ok(made)
}

/// Names policies in the outer maps: one write for each map, since the kernel
/// waits for milliseconds after each.
///
/// # Errors
/// What the kernel says; nothing that was named before has changed.
pub fn name(maps: &Maps, made: &[Made]) -> Result<(), PolicyError> {
    let all = |map: &RawMap<u32, u32>, what, fd: &dyn Fn(&Made) -> Option<i32>| {
        let (indices, fds): (Vec<u32>, Vec<u32>) = made.iter().filter_map(|m| Some((m.index, fd(m)? as u32))).unzip();
        map.update_batch(&indices, &fds).map_err(kernel(what, indices.len()))
    };
    all(&maps.hosts, "host tables", &|m| Some(m.hosts.as_ref()?.fd()))?;
    all(&maps.prefixes, "prefix tables", &|m| Some(m.prefixes.as_ref()?.fd()))?;
    for (class, map) in maps.policies.iter().enumerate() {
        all(map, "tables", &|m| (m.class == class).then(|| m.flat.as_raw_fd()))?;
    }
    Ok(())
}

/// Makes and names one policy.
///
/// # Errors
/// What the kernel says; nothing that was named before has changed.
pub fn install(maps: &Maps, index: u32, tables: &Tables) -> Result<(), PolicyError> {
    name(maps, &[make(index, tables)?])
}

/// Takes a policy out that no generation names any more; returns when no packet
/// can still be using it.
///
/// # Errors
/// What the kernel says.
pub fn remove(maps: &Maps, index: u32) -> io::Result<()> {
    for map in maps.policies.iter().chain([&maps.hosts, &maps.prefixes]) {
        // A deletion waits for milliseconds, also of what is not there.
        if map.get(&index)?.is_some() {
            map.delete(&index)?;
        }
    }
    Ok(())
}
