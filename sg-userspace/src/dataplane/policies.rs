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
    sys::{self, LpmKey, map_flags, map_type},
};
use crate::compiler::Tables;

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

    let count = tables.hosts.len();
    let hosts =
        HostMap::create("sg_hosts", map_type::HASH, count.max(1) as u32, 0).map_err(kernel("host table", count))?;
    let (keys, values): (Vec<_>, Vec<_>) = tables.hosts.iter().copied().unzip();
    hosts.update_batch(&keys, &values).map_err(kernel("host table", count))?;

    let count = tables.prefixes.len();
    let prefixes = PrefixMap::create("sg_prefixes", map_type::LPM_TRIE, count.max(1) as u32, map_flags::NO_PREALLOC)
        .map_err(kernel("prefix table", count))?;
    let keys: Vec<LpmKey> = tables
        .prefixes
        .iter()
        .map(|(p, _)| LpmKey { bits: LPM_KIND_BITS + u32::from(p.length), data: p.data })
        .collect();
    let values: Vec<_> = tables.prefixes.iter().map(|(_, class)| *class).collect();
    prefixes.update_batch(&keys, &values).map_err(kernel("prefix table", count))?;

    let name = |map: &super::sys::RawMap<u32, u32>, fd: i32| map.update(&index, &(fd as u32));
    name(&maps.prefixes, prefixes.fd()).map_err(kernel("prefix table", count))?;
    name(&maps.hosts, hosts.fd()).map_err(kernel("host table", count))?;
    name(&maps.policies[class], flat.as_raw_fd()).map_err(kernel("tables", length))
}

/// Takes a policy out; returns when no packet can still be using it.
///
/// # Errors
/// What the kernel says.
pub fn remove(maps: &Maps, index: u32) -> io::Result<()> {
    for map in &maps.policies {
        map.delete(&index)?;
    }
    maps.hosts.delete(&index)?;
    maps.prefixes.delete(&index)?;
    Ok(())
}
