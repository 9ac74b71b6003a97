//! Compiled tables to the kernel: one flat value, one trie and one hash for
//! each policy, made whole before the outer maps name them, and patched where
//! they are when only addresses change.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread,
};

use sg_common::{
    addr::Addr,
    limits::MAX_POLICIES,
    policy::{AddrClass, CLASS_SIZES, CLASS_SLACK, LPM_KIND_BITS},
};
use thiserror::Error;

use super::{
    comparing::{Looked, Walk},
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
    /// What was written to both.
    pub(super) written: Written,
}

/// What was written to the address tables of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub hosts: HashMap<Addr, AddrClass>,
    pub prefixes: HashMap<LpmKey, AddrClass>,
}

/// How far the address tables of a policy have been looked at: hosts, then prefixes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walks {
    hosts: Walk<u32>,
    prefixes: Walk<LpmKey>,
    /// Hosts have been looked at.
    past_hosts: bool,
}

/// Addresses that are looked at in one go, a fraction of a millisecond: the writer waits meanwhile.
const LOOKED_AT: usize = 512;

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
    let mut held = Held { index, class, flat, mapping, hosts: None, prefixes: None, written: Written::default() };
    if count > 0 {
        let hosts =
            HostMap::create("sg_hosts", map_type::HASH, count as u32, 0).map_err(kernel("host table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.hosts.iter().copied().unzip();
        hosts.update_batch(&keys, &values).map_err(kernel("host table", count))?;
        held.hosts = Some(hosts);
        held.written.hosts = tables.hosts.iter().copied().collect();
    }
    let count = tables.prefixes.len();
    if count > 0 {
        let room = (count + tables.room) as u32;
        let prefixes = PrefixMap::create("sg_prefixes", map_type::LPM_TRIE, room, map_flags::NO_PREALLOC)
            .map_err(kernel("prefix table", count))?;
        let (keys, values): (Vec<_>, Vec<_>) = tables.prefixes.iter().map(|(p, class)| (key(p), *class)).unzip();
        prefixes.update_batch(&keys, &values).map_err(kernel("prefix table", count))?;
        held.prefixes = Some(prefixes);
        held.written.prefixes = keys.into_iter().zip(values).collect();
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
    pub fn write(&mut self, steps: &[Step]) -> Result<(), PolicyError> {
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
                        self.written.prefixes.extend(keys.drain(..).zip(values.drain(..)));
                    }
                }
                Step::NoHost(addr) => {
                    let map = self.hosts.as_ref().ok_or_else(refused);
                    map.and_then(|map| map.delete(addr)).map_err(kernel("host table", 1))?;
                    self.written.hosts.remove(addr);
                }
            }
        }
        Ok(())
    }

    /// What is different in the kernel from what was written: the flat value of `flat`, or the
    /// maps that the outer ones name.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn differs(&self, maps: &Maps, flat: &[u8]) -> io::Result<Option<&'static str>> {
        let id = |fd: BorrowedFd<'_>| sys::map_info(fd).map(|[_, id, ..]| id);
        if maps.policies[self.class].get(&self.index)? != Some(id(self.flat.as_fd())?) {
            return Ok(Some("place of the tables"));
        }
        for (outer, inner) in [
            (&maps.hosts, self.hosts.as_ref().map(RawMap::as_fd)),
            (&maps.prefixes, self.prefixes.as_ref().map(RawMap::as_fd)),
        ] {
            if let Some(inner) = inner
                && outer.get(&self.index)? != Some(id(inner)?)
            {
                return Ok(Some("place of the address tables"));
            }
        }
        Ok((!self.mapping.holds(flat)).then_some("tables"))
    }

    /// Looks at the next part of hosts and prefixes: whether there is more, and what differs.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn walk(&self, walks: &mut Walks) -> io::Result<(bool, Option<&'static str>)> {
        let looked = match (&self.hosts, &self.prefixes) {
            (Some(hosts), _) if !walks.past_hosts => {
                let (part, next) = hosts.batch(walks.hosts.at(), LOOKED_AT)?;
                let looked = walks.hosts.step(&part, next, &self.written.hosts);
                walks.past_hosts = looked == Looked::Ended;
                if looked == Looked::Differs {
                    return Ok((false, Some("host table")));
                }
                // Where there are prefixes they are next.
                if self.prefixes.is_some() { Looked::GoesOn } else { looked }
            }
            (_, Some(prefixes)) => {
                let (part, next) = prefixes.batch(walks.prefixes.at(), LOOKED_AT)?;
                walks.prefixes.step(&part, next, &self.written.prefixes)
            }
            (_, None) => Looked::Ended,
        };
        if looked != Looked::GoesOn {
            walks.past_hosts = false;
        }
        Ok((looked == Looked::GoesOn, (looked == Looked::Differs).then_some("prefix table")))
    }

    /// Makes what the kernel holds what was written, where it differs, while packets are
    /// judged by it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn mend(&self, flat: &[u8]) -> io::Result<()> {
        let (words, rest) = flat.as_chunks::<4>();
        debug_assert!(rest.is_empty(), "tables are made of words");
        for (i, word) in words.iter().enumerate() {
            let at = i * 4;
            let there = (self.mapping.words(at & !7, 1).next().unwrap_or(0) >> ((at & 7) * 8)) as u32;
            if there != u32::from_ne_bytes(*word) {
                self.mapping.publish_word(at, u32::from_ne_bytes(*word));
            }
        }
        if let Some(hosts) = &self.hosts {
            let (mut wrong, mut there) = (Vec::new(), HashMap::new());
            hosts.each(|addr, class| {
                there.insert(*addr, *class);
                wrong.extend((!self.written.hosts.contains_key(addr)).then_some(*addr));
            })?;
            wrong.iter().try_for_each(|addr| hosts.delete(addr).map(drop))?;
            let mut differs = self.written.hosts.iter().filter(|(addr, class)| there.get(*addr) != Some(*class));
            differs.try_for_each(|(addr, class)| hosts.update(addr, class))?;
        }
        let Some(prefixes) = &self.prefixes else { return Ok(()) };
        let (mut next, mut there) = (prefixes.next_key(None)?, HashMap::new());
        while let Some(key) = next {
            there.insert(key, prefixes.get(&key)?);
            next = prefixes.next_key(Some(&key))?;
        }
        let mut wrong = there.keys().filter(|key| !self.written.prefixes.contains_key(*key));
        wrong.try_for_each(|key| prefixes.delete(key).map(drop))?;
        let same = |key: &LpmKey, class: &AddrClass| there.get(key).is_some_and(|found| found.as_ref() == Some(class));
        let mut differs = self.written.prefixes.iter().filter(|(key, class)| !same(key, class));
        differs.try_for_each(|(key, class)| prefixes.update(key, class))
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
