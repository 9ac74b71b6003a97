//! What stands on a device: the programs at TCX in their order, and what a
//! link of ours is on.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{BPF_OBJ_GET_INFO_BY_FD, GetInfo, bpf, info, open_pin};

const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_PROG_QUERY: u32 = 16;
const BPF_LINK_DETACH: u32 = 34;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// Programs that the kernel takes at one hook of one device.
const MOST: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// A program at TCX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub program: u32,
    /// Id of its link; 0 without one.
    pub link: u32,
}

/// The programs at TCX of a device, first one first; none on kernels without TCX.
///
/// # Errors
/// What the kernel says; `ENODEV` when the device is gone.
pub fn tcx(index: u32, ingress: bool) -> io::Result<Vec<Standing>> {
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut attr = Query {
        ifindex: index,
        attach_type: if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS },
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    match bpf(BPF_PROG_QUERY, &mut attr) {
        Ok(_) => {
            let both = programs.iter().zip(links).take(attr.count as usize);
            Ok(both.map(|(&program, link)| Standing { program, link }).collect())
        }
        // Nothing was ever there, or there is no such hook.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// A link that is pinned.
#[derive(Debug)]
pub struct PinnedLink {
    fd: OwnedFd,
    /// Its id.
    pub id: u32,
    /// Id of the program in it.
    pub program: u32,
    /// The device it is on; 0 when it was taken off, or the device is gone.
    pub index: u32,
}

impl PinnedLink {
    /// Opens one.
    ///
    /// # Errors
    /// What the kernel says; `ENOENT` when nothing is pinned there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open_pin(path)?;
        let info = info(fd.as_fd())?;
        Ok(Self { fd, id: info[1], program: info[2], index: info[4] })
    }

    /// Takes it off its device; returns when it runs no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn detach(&self) -> io::Result<()> {
        let mut link = self.fd.as_raw_fd() as u32;
        bpf(BPF_LINK_DETACH, &mut link).map(drop)
    }
}

/// The first bytes of a program's `struct bpf_prog_info`: type, id, tag (8 bytes), …, name
/// (the 64th byte); `None` when this process may not ask, or it is gone.
fn program_info(id: u32) -> Option<[u8; 80]> {
    let mut attr = [id, 0, 0];
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).ok()?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let mut info = [0u8; 80];
    let mut attr = GetInfo { fd: fd.as_raw_fd() as u32, length: info.len() as u32, info: info.as_mut_ptr() as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).ok()?;
    Some(info)
}

/// The name of a program; `None` when this process may not ask.
pub fn program_name(id: u32) -> Option<String> {
    let info = program_info(id)?;
    let name = info[64..].split(|b| *b == 0).next().filter(|name| !name.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The tag of a program, in hexadecimal.
pub fn program_tag(id: u32) -> Option<String> {
    Some(program_info(id)?[8..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes in a ring buffer that have been written and not read.
///
/// # Errors
/// What mmap(2) says.
pub fn ring_waits(ring: BorrowedFd<'_>) -> io::Result<u64> {
    // The reader's place is on the first page, the writers' on the second.
    let read = first_word(ring, 0)?;
    Ok(first_word(ring, 1)?.saturating_sub(read))
}

/// The first word of a page of a map.
fn first_word(map: BorrowedFd<'_>, page: i64) -> io::Result<u64> {
    // SAFETY: a number of the system's.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let length = usize::try_from(size).map_err(io::Error::other)?;
    let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a fresh mapping, which nobody else knows.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, read, shared, map.as_raw_fd(), page * size) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a page of its own, aligned; others write to it in whole words.
    let word = unsafe { &*at.cast::<AtomicU64>() }.load(Ordering::Acquire);
    // SAFETY: the mapping from above, of which nothing is referred to any more.
    unsafe { libc::munmap(at, length) };
    Ok(word)
}
