//! Programs of somebody else: two instructions that say one thing, at any hook.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use sg_userspace::{
    dataplane::sys::query::{self, Standing},
    testbed::Net,
};

const BPF_PROG_LOAD: u32 = 5;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_GET_FD_BY_ID: u32 = 30;
const BPF_LINK_DETACH: u32 = 34;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_XDP: u32 = 37;
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;
const XDP_FLAGS_SKB_MODE: u32 = 2;

/// What programs at TC say.
pub const OK: i32 = 0;
pub const SHOT: i32 = 2;
pub const NEXT: i32 = -1;
/// What programs at XDP say.
pub const XDP_DROP: i32 = 1;
pub const XDP_PASS: i32 = 2;

fn bpf<const N: usize>(command: u32, attr: &mut [u64; N]) -> io::Result<OwnedFd> {
    // SAFETY: a prefix of union bpf_attr of exactly the size given, with
    // pointers to live memory only.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), N * 8) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn words(low: u32, high: u32) -> u64 {
    let bytes: [u8; 8] = [low.to_ne_bytes(), high.to_ne_bytes()].concat().try_into().unwrap();
    u64::from_ne_bytes(bytes)
}

/// `r0 = says; exit`.
fn program(kind: u32, says: i32) -> OwnedFd {
    let mut code = vec![0xb7, 0, 0, 0];
    code.extend(says.to_ne_bytes());
    code.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let name = u64::from_ne_bytes(*b"foreign\0");
    // Type and length, code, licence; log level, size, text; version, flags, name.
    let mut attr = [words(kind, 2), code.as_ptr() as u64, c"GPL".as_ptr() as u64, 0, 0, 0, name, 0, 0];
    bpf(BPF_PROG_LOAD, &mut attr).unwrap()
}

/// A program on a device, as long as this lives.
pub struct Foreign {
    link: OwnedFd,
    program: OwnedFd,
}

fn index(net: &Net, device: &str) -> u32 {
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: a terminated name.
    net.run(|| Ok(unsafe { libc::if_nametoindex(name.as_ptr()) })).unwrap()
}

fn attach(net: &Net, program: &OwnedFd, device: &str, hook: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = [words(program.as_raw_fd() as u32, index(net, device)), words(hook, flags), 0, 0];
    net.run(|| Ok(bpf(BPF_LINK_CREATE, &mut attr))).unwrap()
}

impl Foreign {
    fn link(net: &Net, device: &str, (kind, hook): (u32, u32), says: i32, flags: u32) -> io::Result<Self> {
        let program = program(kind, says);
        let link = attach(net, &program, device, hook, flags)?;
        Ok(Self { link, program })
    }

    /// At TCX, as the first or the last one.
    pub fn tcx(net: &Net, device: &str, ingress: bool, says: i32, first: bool) -> Self {
        let hook = if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
        Self::link(net, device, (SCHED_CLS, hook), says, if first { BEFORE } else { AFTER }).unwrap()
    }

    /// The same program at TCX once more, and again as the first one.
    pub fn again(&mut self, net: &Net, device: &str, ingress: bool) {
        let hook = if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
        // A hook takes a program only once.
        detach(&self.link);
        self.link = attach(net, &self.program, device, hook, BEFORE).unwrap();
    }

    /// At XDP, behind the driver.
    pub fn xdp(net: &Net, device: &str, says: i32) -> io::Result<Self> {
        Self::link(net, device, (XDP, BPF_XDP), says, XDP_FLAGS_SKB_MODE)
    }
}

/// What stands at TCX, first one first.
pub fn standing(net: &Net, device: &str, ingress: bool) -> Vec<Standing> {
    let index = index(net, device);
    net.run(|| Ok(query::tcx(index, ingress)?)).unwrap()
}

/// Takes the program of a link off its device, whoever's it is: `bpftool link detach`.
pub fn take_off(link: u32) {
    detach(&bpf(BPF_LINK_GET_FD_BY_ID, &mut [words(link, 0), 0]).unwrap());
}

fn detach(link: &OwnedFd) {
    let mut attr = u64::from(link.as_raw_fd() as u32);
    // SAFETY: a link's descriptor, in a word of its own.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw mut attr, 4) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// The link that a program is in, which is in one only.
pub fn link_of(program: u32) -> u32 {
    const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
    const BPF_LINK_GET_NEXT_ID: u32 = 31;
    let mut id = 0u32;
    loop {
        let mut next = [words(id, 0), 0];
        // SAFETY: two words of our own, of which the first is written.
        let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_GET_NEXT_ID, next.as_mut_ptr(), 16) };
        assert_eq!(done, 0, "no link has the program {program}");
        id = (next[0] >> 32) as u32;
        // One may go while we look.
        let Ok(link) = bpf(BPF_LINK_GET_FD_BY_ID, &mut [words(id, 0), 0]) else { continue };
        let mut info = [0u32; 16];
        let mut attr = [words(link.as_raw_fd() as u32, 64), info.as_mut_ptr() as u64];
        // SAFETY: a live buffer of the length given.
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, attr.as_mut_ptr(), 16) };
        if info[2] == program {
            return id;
        }
    }
}
