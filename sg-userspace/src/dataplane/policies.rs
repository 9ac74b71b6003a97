//! Compiled tables to the kernel: one flat value, one trie and one hash for
//! each policy, made whole before the outer maps name them, and patched where
//! they are when only addresses change.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
};

use sg_common::{
    limits::MAX_POLICIES,
    policy::{AddrClass, CLASS_SIZES, CLASS_SLACK, LPM_KIND_BITS},
};
use thiserror::Error;

use super::{
    object::{HostMap, Maps, PrefixMap},
    sys::{self, LpmKey, Mapping, RawMap, map_flags, map_type},
};
use crate::compiler::{Tables, addresses::Prefix, live::Step};

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

/// The maps of a policy. They live as long as this, or as an outer map names them.
#[derive(Debug)]
pub struct Held {
    index: u32,
    class: usize,
    flat: OwnedFd,
    mapping: Mapping,
    hosts: Option<HostMap>,
    prefixes: Option<PrefixMap>,
}

fn key(prefix: &Prefix) -> LpmKey {
    LpmKey { bits: LPM_KIND_BITS + u32::from(prefix.length), data: prefix.data }
}

/// Makes the maps of a policy that is to have a free index.
///
/// # Errors
/// What the kernel says.
pub fn make(index: u32, tables: &Tables) -> Result<Held, PolicyError> {
    let class = tables.size_class();
    let size = CLASS_SIZES[class] + CLASS_SLACK;
    let length = tables.flat.len();
    let flat = sys::create("sg_policy", map_type::ARRAY, 4, size, 1, map_flags::MMAPABLE | map_flags::INNER_MAP)
        .map_err(kernel("tables", length))?;
    let mapping = Mapping::new(flat.as_fd(), size as usize).map_err(kernel("tables", length))?;
    mapping.fill(0, &tables.flat);

    // What the flags say is not asked is not there.
    let count = tables.hosts.len();
    let mut held = Held { index, class, flat, mapping, hosts: None, prefixes: None };
    if count > 0 {
        let hosts =
            HostMap::create("sg_hosts", map_type::HASH, count as u32, 0).map_err(kernel("host table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.hosts.iter().copied().unzip();
        hosts.update_batch(&keys, &values).map_err(kernel("host table", count))?;
        held.hosts = Some(hosts);
    }
    let count = tables.prefixes.len();
    if count > 0 {
        let room = (count + tables.room) as u32;
        let prefixes = PrefixMap::create("sg_prefixes", map_type::LPM_TRIE, room, map_flags::NO_PREALLOC)
            .map_err(kernel("prefix table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.prefixes.iter().map(|(p, class)| (key(p), *class)).unzip();
        prefixes.update_batch(&keys, &values).map_err(kernel("prefix table", count))?;
        held.prefixes = Some(prefixes);
    }
    Ok(held)
}

/// Names policies in the outer maps: one write for each map, since the kernel
/// waits for milliseconds after each.
///
/// # Errors
/// What the kernel says; nothing that was named before has changed.
pub fn name<'a>(maps: &Maps, held: impl Iterator<Item = &'a Held> + Clone) -> Result<(), PolicyError> {
    let all = |map: &RawMap<u32, u32>, what, fd: &dyn Fn(&Held) -> Option<i32>| {
        let (indices, fds): (Vec<u32>, Vec<u32>) = held.clone().filter_map(|m| Some((m.index, fd(m)? as u32))).unzip();
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
pub fn install(maps: &Maps, index: u32, tables: &Tables) -> Result<Held, PolicyError> {
    let held = make(index, tables)?;
    name(maps, std::iter::once(&held))?;
    Ok(held)
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

/// Prefixes that the kernel may free at once: it does not let go of the CPU meanwhile.
const FREED_AT_ONCE: usize = 2048;

impl Held {
    /// Writes a change, in its order, to the maps that packets are judged by. No
    /// outer map is touched.
    ///
    /// # Errors
    /// What the kernel says; what comes after has not been written.
    pub fn write(&self, steps: &[Step]) -> Result<(), PolicyError> {
        let (mut keys, mut values) = (Vec::<LpmKey>::new(), Vec::<AddrClass>::new());
        let refused = || io::Error::other("it has none");
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            match step {
                Step::Bytes { at, bytes } => self.mapping.fill(*at as usize, bytes),
                Step::Half { at, value } => self.mapping.publish_half(*at as usize, *value),
                Step::Word { at, value } => self.mapping.publish_word(*at as usize, *value),
                Step::Prefix { prefix, class } => {
                    keys.push(key(prefix));
                    values.push(*class);
                    if !matches!(steps.get(at), Some(Step::Prefix { .. })) {
                        let map = self.prefixes.as_ref().ok_or_else(refused);
                        let written = map.and_then(|map| map.update_batch(&keys, &values));
                        written.map_err(kernel("prefix table", keys.len()))?;
                        keys.clear();
                        values.clear();
                    }
                }
                Step::NoHost(addr) => {
                    let map = self.hosts.as_ref().ok_or_else(refused);
                    map.and_then(|map| map.delete(addr)).map_err(kernel("host table", 1))?;
                }
            }
        }
        Ok(())
    }

    /// Lets go of the maps. The kernel frees a trie in one go, at a millisecond for
    /// some thousand prefixes in which that CPU does nothing else; so that of a
    /// large one is emptied first, bit by bit, beside everything else.
    pub fn free(self, prefixes: usize) {
        let Some(map) = self.prefixes.filter(|_| prefixes > FREED_AT_ONCE) else { return };
        let empty = move || {
            while let Ok(Some(key)) = map.next_key(None) {
                if !map.delete(&key).unwrap_or(false) {
                    break;
                }
            }
        };
        // Without a thread it is freed in one go.
        let _ = thread::Builder::new().name("sg-free".into()).spawn(empty);
    }
}
