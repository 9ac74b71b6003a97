//! Compiled tables to the kernel: one flat value, one trie and one hash for
//! each policy, made whole before the outer maps name them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
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

/// Writes the tables of a policy under a free index.
///
/// # Errors
/// What the kernel says; nothing that was named before has changed.
pub fn install(maps: &Maps, index: u32, tables: &Tables) -> Result<(), PolicyError> {
    let class = tables.size_class();
    let size = CLASS_SIZES[class] + CLASS_SLACK;
    let length = tables.flat.len();
    let flat = sys::create("sg_policy", map_type::ARRAY, 4, size, 1, map_flags::MMAPABLE | map_flags::INNER_MAP)
        .map_err(kernel("tables", length))?;
    sys::fill(flat.as_fd(), size as usize, &tables.flat).map_err(kernel("tables", length))?;

    // To name a map costs milliseconds of waiting; what the flags say is not asked is not named.
    let count = tables.hosts.len();
    if count > 0 {
        let hosts =
            HostMap::create("sg_hosts", map_type::HASH, count as u32, 0).map_err(kernel("host table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.hosts.iter().copied().unzip();
        hosts.update_batch(&keys, &values).map_err(kernel("host table", count))?;
        name(&maps.hosts, index, hosts.fd()).map_err(kernel("host table", count))?;
    }
    let count = tables.prefixes.len();
    if count > 0 {
        let prefixes = PrefixMap::create("sg_prefixes", map_type::LPM_TRIE, count as u32, map_flags::NO_PREALLOC)
            .map_err(kernel("prefix table", count))?;
        let key = |p: &Prefix| LpmKey { bits: LPM_KIND_BITS + u32::from(p.length), data: p.data };
        let (keys, values): (Vec<_>, Vec<_>) = tables.prefixes.iter().map(|(p, class)| (key(p), *class)).unzip();
        prefixes.update_batch(&keys, &values).map_err(kernel("prefix table", count))?;
        name(&maps.prefixes, index, prefixes.fd()).map_err(kernel("prefix table", count))?;
    }
    name(&maps.policies[class], index, flat.as_raw_fd()).map_err(kernel("tables", length))
}

fn name(map: &RawMap<u32, u32>, index: u32, fd: i32) -> io::Result<()> {
    map.update(&index, &(fd as u32))
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
