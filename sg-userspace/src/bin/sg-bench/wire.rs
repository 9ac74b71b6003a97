//! Frames into a device of a namespace, and out of it.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use sg_userspace::testbed::Net;

/// How long a frame may take on its way, in milliseconds: it passes on this very
/// CPU before the call returns, unless the kernel puts it off.
const PATIENCE: i32 = 5;

/// A packet socket on one device.
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens it.
    ///
    /// # Errors
    /// Not root, no such device.
    pub fn new(net: &Net, device: &str) -> Result<Self> {
        net.run(|| {
            let name = std::ffi::CString::new(device)?;
            let all = (libc::ETH_P_ALL as u16).to_be();
            // SAFETY: plain numbers.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(all)) };
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot open a packet socket");
            }
            // SAFETY: new, and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: of integers and bytes; all zeroes are valid.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = all;
            // SAFETY: a terminated name.
            address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
            // SAFETY: an address of its own size.
            let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) };
            if bound < 0 {
                return Err(io::Error::last_os_error()).with_context(|| format!("cannot listen on {device}"));
            }
            let size: libc::c_int = 8 << 20;
            // SAFETY: an integer of its own size. Less room is no reason to fail.
            unsafe {
                libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const size).cast(), 4);
            }
            Ok(Self(socket))
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// What the kernel says; a full queue is none.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: as many bytes as are there.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        match io::Error::last_os_error() {
            e if sent < 0 && e.raw_os_error() != Some(libc::ENOBUFS) => Err(e).context("cannot send a frame"),
            _ => Ok(()),
        }
    }

    fn next(&self) -> Result<Option<([u8; 64], bool)>> {
        let mut frame = [0u8; 64];
        // SAFETY: of integers and bytes; all zeroes are valid.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&from) as u32;
        // SAFETY: as many bytes as there is room for, and an address of its own size.
        let got = unsafe {
            let (to, from) = (frame.as_mut_ptr().cast(), (&raw mut from).cast());
            libc::recvfrom(self.0.as_raw_fd(), to, 64, libc::MSG_DONTWAIT, from, &raw mut length)
        };
        match io::Error::last_os_error() {
            e if got < 0 && e.raw_os_error() == Some(libc::EAGAIN) => Ok(None),
            e if got < 0 => Err(e).context("cannot receive a frame"),
            _ => Ok(Some((frame, from.sll_pkttype == libc::PACKET_OUTGOING))),
        }
    }

    /// Forgets what has come.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&self) -> Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }

    /// Whether such a frame comes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hears(&self, is_it: impl Fn(&[u8]) -> bool) -> Result<bool> {
        loop {
            while let Some((frame, own)) = self.next()? {
                if !own && is_it(&frame) {
                    return Ok(true);
                }
            }
            let mut wait = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one of them.
            if unsafe { libc::poll(&raw mut wait, 1, PATIENCE) } == 0 {
                return Ok(false);
            }
        }
    }
}
