//! Whole tables in a few calls, memory shared with the program, and waiting
//! until no program runs that began before.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use super::{Batch, Raw, RawMap, bpf};

const BPF_MAP_LOOKUP_BATCH: u32 = 24;
/// Elements of one call.
const CHUNK: usize = 4096;
/// `MEMBARRIER_CMD_GLOBAL`: waits for an RCU grace period.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Elements, and the cursor behind them unless they are the last.
pub type Part<K, V, C> = (Vec<(K, V)>, Option<C>);

impl<K: Raw, V: Raw> RawMap<K, V> {
    /// Some elements from a cursor on, about as many as `count`, and the cursor behind them:
    /// `None` at the end. Of a hash a cursor is a `u32`, of a trie a key.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn batch<C: Raw>(&self, from: Option<&C>, mut count: usize) -> io::Result<Part<K, V, C>> {
        loop {
            let mut keys = Vec::<K>::with_capacity(count);
            let mut values = Vec::<V>::with_capacity(count);
            let mut next = super::zeroed::<C>();
            let mut attr = Batch {
                in_batch: from.map_or(0, |from| std::ptr::from_ref(from) as u64),
                out_batch: std::ptr::from_mut(&mut next) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: count as u32,
                fd: self.fd() as u32,
                ..Batch::default()
            };
            let end = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
                Ok(_) => false,
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
                // One bucket holds more than was asked for.
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && count < 1 << 20 => {
                    count *= 2;
                    continue;
                }
                Err(e) => return Err(e),
            };
            // SAFETY: the kernel wrote that many of both, at most as many as
            // there is room for; they take any bits.
            unsafe {
                keys.set_len((attr.count as usize).min(count));
                values.set_len(keys.len());
            }
            return Ok((keys.into_iter().zip(values).collect(), (!end).then_some(next)));
        }
    }

    /// Calls `f` for every element of a hash that is there all the while. The
    /// walk goes by buckets, so that what others add or delete hides nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each(&self, mut f: impl FnMut(&K, &V)) -> io::Result<()> {
        let mut cursor: Option<u32> = None;
        loop {
            let (elements, next) = self.batch(cursor.as_ref(), CHUNK)?;
            elements.iter().for_each(|(key, value)| f(key, value));
            if next.is_none() {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl<V: Raw> RawMap<u32, V> {
    /// Reads `count` elements of a per-CPU array from `first` on: the values of one element
    /// after the other, one for each possible CPU.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` when the array ends before.
    pub fn range_per_cpu(&self, first: u32, count: usize, cpus: usize) -> io::Result<Vec<V>> {
        assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds per-CPU values up to 8 bytes");
        // The walk begins behind an element, or at the start.
        let (before, mut after) = (first.wrapping_sub(1), 0u32);
        let mut keys = Vec::<u32>::with_capacity(count);
        let mut values = Vec::<V>::with_capacity(count * cpus);
        let mut attr = Batch {
            in_batch: if first > 0 { std::ptr::from_ref(&before) as u64 } else { 0 },
            out_batch: std::ptr::from_mut(&mut after) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: count as u32,
            fd: self.fd() as u32,
            ..Batch::default()
        };
        match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => {}
            // The last one of the array was among them.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
        if attr.count as usize != count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the array is shorter"));
        }
        // SAFETY: the kernel wrote `count` elements, each of a value for every possible CPU.
        unsafe { values.set_len(count * cpus) };
        Ok(values)
    }
}

impl<K: Raw, V: Raw> RawMap<K, V> {
    /// Deletes every element of a hash.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear(&self) -> io::Result<()> {
        let mut keys = Vec::new();
        self.each(|key, _| keys.push(*key))?;
        keys.iter().try_for_each(|key| self.delete(key).map(drop))
    }
}

/// The first element of an array that can be mapped, shared with the program.
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<AtomicU64>,
    length: usize,
}

// SAFETY: all access to what others read or write is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` bytes.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(map: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let length = size.next_multiple_of(4096);
        // SAFETY: a fresh shared mapping of a map that has at least `length`
        // bytes (the kernel rounds array memory up to pages).
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(|at| Self { at, length }).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    /// The word at a byte offset.
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned.
        unsafe { self.at.add(offset / 8).as_ref() }
    }

    /// Words from a byte offset on.
    pub fn words(&self, offset: usize, count: usize) -> impl Iterator<Item = u64> {
        (0..count).map(move |i| self.word(offset + i * 8).load(Ordering::Relaxed))
    }

    /// Zeroes words.
    pub fn zero(&self, offset: usize, count: usize) {
        (0..count).for_each(|i| self.word(offset + i * 8).store(0, Ordering::Relaxed));
    }

    /// Adds to a word, wrapping.
    pub fn add(&self, offset: usize, amount: u64) {
        self.word(offset).fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets bits of a word.
    pub fn or(&self, offset: usize, bits: u64) {
        self.word(offset).fetch_or(bits, Ordering::Relaxed);
    }

    /// Writes bytes that nothing reads yet.
    pub fn fill(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, checked above; no program loads these bytes,
        // since nothing names them.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().cast::<u8>().add(offset), bytes.len());
        }
    }

    /// Whether its first bytes are these.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        assert!(bytes.len() <= self.length, "inside the mapping");
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = words
            .iter()
            .enumerate()
            .all(|(i, word)| self.word(i * 8).load(Ordering::Relaxed) == u64::from_ne_bytes(*word));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let mask = (1u64 << (rest.len() * 8)) - 1;
        // The kernel rounds what can be mapped up to pages, so the last word lies inside.
        whole
            && (rest.is_empty()
                || self.word(words.len() * 8).load(Ordering::Relaxed) & mask == u64::from_ne_bytes(last))
    }

    /// Stores a half-word; who loads it sees everything that was filled before.
    pub fn publish_half(&self, offset: usize, value: u16) {
        assert!(offset.is_multiple_of(2) && offset + 2 <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned.
        unsafe { self.at.cast::<AtomicU16>().add(offset / 2).as_ref() }.store(value, Ordering::Release);
    }

    /// The same for a word.
    pub fn publish_word(&self, offset: usize, value: u32) {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned.
        unsafe { self.at.cast::<AtomicU32>().add(offset / 4).as_ref() }.store(value, Ordering::Release);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

/// Returns when every program that was running has ended.
///
/// # Errors
/// What membarrier(2) says: a kernel that isolates CPUs from ticks (`nohz_full`) refuses.
pub fn grace_period() -> io::Result<()> {
    // SAFETY: no pointers.
    let status = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
