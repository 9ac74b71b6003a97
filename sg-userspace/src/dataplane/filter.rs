//! Renews the filter of flows that may exist, see [`sg_common::filter`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use sg_common::{
    filter::{BITS, Filter, bit4, bit6},
    generation::Config,
};

use super::{
    object::Maps,
    sys::{self, Mapping},
};

/// Set bits of the asked half from which it is worth while to renew it: one in sixteen.
const WORTH: u32 = BITS / 16;

/// The filter's memory, shared with the program.
#[derive(Debug)]
pub struct Halves(Mapping);

impl Halves {
    /// Maps it.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn open(maps: &Maps) -> io::Result<Self> {
        Self::of(maps.filter.as_fd())
    }

    /// Maps a filter by its descriptor.
    ///
    /// # Errors
    /// As [`Halves::open`].
    pub fn of(filter: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(Mapping::new(filter, size_of::<Filter>())?))
    }

    fn base(half: u32) -> usize {
        (half & 1) as usize * size_of::<Filter>() / 2
    }

    /// Set bits of a half.
    pub fn count(&self, half: u32) -> u32 {
        self.0.words(Self::base(half), (BITS / 64) as usize).map(u64::count_ones).sum()
    }

    fn clear(&self, half: u32) {
        self.0.zero(Self::base(half), (BITS / 64) as usize);
    }

    fn set(&self, half: u32, bit: u32) {
        self.0.or(Self::base(half) + (bit / 64) as usize * 8, 1 << (bit % 64));
    }

    /// Notes a flow that the daemon itself is about to add.
    pub fn add(&self, bit: u32) {
        self.set(0, bit);
        self.set(1, bit);
    }
}

/// Renews the filter if many of its bits may be of dead flows; returns which half is asked
/// since then.
///
/// No packet of a live flow may meet a clear bit. Programs note a new flow in
/// both halves, then add it. The half that nobody asks is cleared; when every
/// program that may have noted a flow before that has ended, the flows of all
/// tables are noted in it, and it is asked from then on.
///
/// # Errors
/// What the kernel says; the filter that is asked stays complete.
pub fn renew(maps: &Maps) -> io::Result<Option<u32>> {
    let Some(config) = maps.config.get(&0)? else { return Ok(None) };
    let halves = Halves::open(maps)?;
    if halves.count(config.filter) < WORTH {
        return Ok(None);
    }
    renew_now(maps, &halves, config).map(Some)
}

fn renew_now(maps: &Maps, halves: &Halves, config: Config) -> io::Result<u32> {
    let next = (config.filter & 1) ^ 1;
    // Until here a program may still ask this half.
    sys::grace_period()?;
    halves.clear(next);
    sys::grace_period()?;
    for map in maps.churn4.iter().chain([&maps.flows4]) {
        map.each(|key, _| halves.set(next, bit4(key)))?;
    }
    for map in maps.churn6.iter().chain([&maps.flows6]) {
        map.each(|key, _| halves.set(next, bit6(key)))?;
    }
    maps.config.update(&0, &Config { filter: next, ..config })?;
    Ok(next)
}

/// Renews the filter whatever is in it.
///
/// # Errors
/// As [`renew`].
pub fn renew_always(maps: &Maps) -> io::Result<()> {
    match maps.config.get(&0)? {
        Some(config) => renew_now(maps, &Halves::open(maps)?, config).map(drop),
        None => Ok(()),
    }
}
