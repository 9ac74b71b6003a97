//! An XDP program that passes everything, put into a link before the link goes.
//!
//! A driver can refuse to let go of its program: virtio_net before 6.3 does
//! when the MTU has become too large for XDP. The kernel only warns about that
//! in its log and forgets the link; the program runs on, and nothing can be
//! seen of it any more. Exchanging the program takes the same way through the
//! driver, but its refusal comes back, and changes nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::{bpf, is_xdp_link, link_update};

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `r0 = XDP_PASS; exit`, in the byte order of this machine.
const PASS: [(u8, u8, i16, i32); 2] = [(0xb7, 0, 0, 2), (0x95, 0, 0, 0)];

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

fn program() -> io::Result<OwnedFd> {
    let mut code = Vec::new();
    for (operation, registers, offset, immediate) in PASS {
        code.extend([operation, registers]);
        code.extend(offset.to_ne_bytes());
        code.extend(immediate.to_ne_bytes());
    }
    let mut attr = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: PASS.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        attach_type: BPF_XDP,
        ..Load::default()
    };
    for (to, from) in attr.name.iter_mut().zip(b"sg_pass") {
        *to = *from;
    }
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Makes an XDP link pass everything, so that it can go; other links, and links
/// whose device is gone, are left as they are.
///
/// # Errors
/// What the driver says when it does not let go of the program.
pub fn neutralize(link: BorrowedFd<'_>) -> io::Result<()> {
    if !is_xdp_link(link)? {
        return Ok(());
    }
    let program = program()?;
    match link_update(link, program.as_fd()) {
        Err(e) if e.raw_os_error() != Some(libc::ENOLINK) => Err(e),
        _ => Ok(()),
    }
}
