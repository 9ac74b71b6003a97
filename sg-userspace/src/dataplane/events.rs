//! What the kernel program tells: its ring buffer read, and how much of it is asked for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use aya::maps::{Map, MapData, RingBuf};
use sg_common::{
    event::Event,
    watch::{STREAMS, Tell, Told},
};

use super::{
    clock::possible_cpus,
    object::{self, Maps, Object},
};

/// Events that are taken at once; the rest waits for the next turn.
pub const AT_ONCE: usize = 4096;

/// The ring buffer.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// Opens it, and passes over what is in it: an earlier daemon's events may be of another layout.
    ///
    /// # Errors
    /// There is none, or it cannot be mapped.
    pub fn open(object: &Object) -> io::Result<Self> {
        let fd = object::map_fd(&object.ebpf, sg_common::maps::EVENTS).map_err(io::Error::other)?;
        let data = MapData::from_fd(fd).map_err(io::Error::other)?;
        let mut ring = RingBuf::try_from(Map::RingBuf(data)).map_err(io::Error::other)?;
        while ring.next().is_some() {}
        Ok(Self(ring))
    }

    /// What has come, in order; at most [`AT_ONCE`].
    pub fn read(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < AT_ONCE
            && let Some(item) = self.0.next()
        {
            if item.len() >= size_of::<Event>() {
                // SAFETY: at least as long as an event, of which any bits are one.
                events.push(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
        events
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What all CPUs have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Events told, by stream.
    pub told: [u64; STREAMS],
    /// Wanted, but beyond what there was room for, by stream.
    pub left_out: [u64; STREAMS],
    /// Not told because of [`Tell::every`].
    pub passed_over: u64,
    /// Accepted packets of flows that there was no room to count.
    pub unaccounted: u64,
}

/// Adds the CPUs up.
///
/// # Errors
/// What the kernel says.
pub fn sums(maps: &Maps) -> io::Result<Sums> {
    let mut sums = Sums::default();
    for Told { told, left_out, passed_over, unaccounted, .. } in maps.told.get_per_cpu(&0, possible_cpus())? {
        for s in 0..STREAMS {
            sums.told[s] += told[s];
            sums.left_out[s] += left_out[s];
        }
        sums.passed_over += passed_over;
        sums.unaccounted += unaccounted;
    }
    Ok(sums)
}

/// Asks for what is to be told from now on.
///
/// # Errors
/// What the kernel says.
pub fn ask(maps: &Maps, tell: &Tell) -> io::Result<()> {
    maps.tell.update(&0, tell)
}
