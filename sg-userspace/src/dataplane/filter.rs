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

    fn has(&self, half: u32, bit: u32) -> bool {
        self.0.words(Self::base(half) + (bit / 64) as usize * 8, 1).any(|word| word >> (bit % 64) & 1 != 0)
    }

    fn words(&self, half: u32) -> Vec<u64> {
        self.0.words(Self::base(half), (BITS / 64) as usize).collect()
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

/// The bits of all flows.
fn each_bit(maps: &Maps, mut f: impl FnMut(u32)) -> io::Result<()> {
    for map in maps.churn4.iter().chain([&maps.flows4]) {
        map.each(|key, _| f(bit4(key)))?;
    }
    for map in maps.churn6.iter().chain([&maps.flows6]) {
        map.each(|key, _| f(bit6(key)))?;
    }
    Ok(())
}

/// The half that is asked, as it was when it was last looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    half: u32,
    words: Vec<u64>,
}

/// The half that is asked as it is now, to be compared with later.
///
/// # Errors
/// What mmap(2) says.
pub fn look(maps: &Maps, half: u32) -> io::Result<Seen> {
    Ok(Seen { half: half & 1, words: Halves::open(maps)?.words(half) })
}

/// Looks whether a bit is missing in the half that is asked: packets of its flow would be
/// judged as those of none. False when one is; it is set again then.
///
/// Nothing ever clears a bit of the half that is asked, and each flow's is set before the flow
/// is in a table, so that one that is missing is somebody else's doing. A bit that is set and
/// should not be says no more than that of a dead flow: it only costs a look into the tables,
/// and is gone when the filter is renewed. So does the other half, which is written anew
/// before it is asked.
///
/// # Errors
/// What the kernel says.
pub fn is_whole(maps: &Maps, half: u32, seen: &mut Option<Seen>) -> io::Result<bool> {
    let half = half & 1;
    let halves = Halves::open(maps)?;
    let mut words = halves.words(half);
    let old = seen.take().filter(|s| s.half == half);
    let lost = |old: &Seen| old.words.iter().zip(&words).any(|(old, now)| old & !now != 0);
    let mut whole = !old.as_ref().is_some_and(lost);
    if let Some(old) = old.as_ref().filter(|_| !whole) {
        for (at, word) in old.words.iter().enumerate() {
            halves.0.or(Halves::base(half) + at * 8, *word);
        }
    }
    // What it was is not known, or not of flows that began since.
    if old.is_none() || !whole {
        each_bit(maps, |bit| {
            if !halves.has(half, bit) {
                halves.set(half, bit);
                whole = false;
            }
        })?;
        words = halves.words(half);
    }
    *seen = Some(Seen { half, words });
    Ok(whole)
}

fn renew_now(maps: &Maps, halves: &Halves, config: Config) -> io::Result<u32> {
    let next = (config.filter & 1) ^ 1;
    // Until here a program may still ask this half.
    sys::grace_period()?;
    halves.clear(next);
    sys::grace_period()?;
    each_bit(maps, |bit| halves.set(next, bit))?;
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
