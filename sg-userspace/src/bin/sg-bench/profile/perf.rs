//! Samples of the kernel's own instruction pointer, by its clock, and the
//! names of its functions.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};

/// Samples a second; the kernel's default bound is above that.
const FREQUENCY: u64 = 19_997;
const PAGE: usize = 4096;
/// Pages of samples, a power of two.
const PAGES: usize = 256;

/// The first fields of `struct perf_event_attr`, as far as its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    frequency: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    address: u64,
}

const SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;
const SAMPLE_IP: u64 = 1;
const EXCLUDE_USER: u64 = 1 << 4;
const BY_FREQUENCY: u64 = 1 << 10;
const RECORD_SAMPLE: u32 = 9;
/// Offsets into the first page of the mapping.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// Samples of this thread.
pub struct Sampler {
    _event: OwnedFd,
    pages: NonNull<u8>,
}

impl Sampler {
    /// Starts to sample.
    ///
    /// # Errors
    /// Not root, or a kernel without perf events.
    pub fn open() -> Result<Self> {
        let mut attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: CPU_CLOCK,
            frequency: FREQUENCY,
            sample_type: SAMPLE_IP,
            flags: EXCLUDE_USER | BY_FREQUENCY,
            ..Attributes::default()
        };
        // SAFETY: the structure is of the size it says; this thread, any CPU, no group, no flags.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw mut attributes, 0, -1, -1, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot sample the kernel (CAP_PERFMON is needed)");
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: a new shared mapping of the event's buffer.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (1 + PAGES) * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map the samples");
        }
        Ok(Self { _event: event, pages: NonNull::new(at.cast()).context("no mapping")? })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the mapping, aligned, and shared with the kernel as an atomic word.
        unsafe { self.pages.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// Moves the addresses found so far to `to`.
    pub fn drain(&mut self, to: &mut Vec<u64>) {
        let head = self.word(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.word(DATA_TAIL).load(Ordering::Relaxed);
        // Records are multiples of eight bytes, so a word never wraps.
        let at = |position: u64| self.word(PAGE + (position as usize % (PAGES * PAGE))).load(Ordering::Relaxed);
        while tail < head {
            let header = at(tail);
            let size = header >> 48;
            if header as u32 == RECORD_SAMPLE {
                to.push(at(tail + 8));
            }
            if size == 0 {
                break;
            }
            tail += size;
        }
        self.word(DATA_TAIL).store(head, Ordering::Release);
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), (1 + PAGES) * PAGE) };
    }
}

/// The kernel's functions by address.
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads them.
    ///
    /// # Errors
    /// No procfs.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/kallsyms").context("cannot read the kernel's symbols")?;
        let mut all: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                Some((address, words.nth(1)?.to_owned()))
            })
            .collect();
        all.sort_unstable();
        Ok(Self(all))
    }

    /// The function that holds an address.
    pub fn find(&self, address: u64) -> String {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        match after.checked_sub(1).and_then(|i| self.0.get(i)) {
            Some((_, name)) => name.clone(),
            None => "somewhere".into(),
        }
    }
}
