//! What a card's driver says of itself, by the ioctls of ethtool(8) that anybody may make
//! and that change nothing. Only these two are asked, of numbers that never change; a crate
//! of its netlink interface would bring another runtime for streams with it.

use std::{ffi::CStr, io, mem::MaybeUninit, os::fd::AsRawFd, os::fd::FromRawFd, os::fd::OwnedFd};

/// `SIOCETHTOOL`.
const ETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GDRVINFO`: name and version of the driver.
const DRIVER: u32 = 0x3;
/// `ETHTOOL_GFLAGS`: five features by their bits.
const FLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO`: received packets are merged.
const LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

const _: () = assert!(size_of::<Driver>() == 196);

/// A socket to ask by, in this network namespace.
pub(super) struct Ethtool(OwnedFd);

impl Ethtool {
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Asks about a device; the kernel fills `answer`, which begins with the command.
    fn ask<T>(&self, device: &str, answer: &mut T) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid request.
        let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        // One byte is left for the end.
        if device.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = std::ptr::from_mut(answer).cast();
        // SAFETY: a terminated name, and a structure of the size that its command has, which
        // lives until the call is over.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), ETHTOOL, &raw mut request) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether the card merges received packets; `None` where it does not say.
    pub(super) fn lro(&self, device: &str) -> Option<bool> {
        let mut value = Value { command: FLAGS, data: 0 };
        self.ask(device, &mut value).ok()?;
        Some(value.data & LRO != 0)
    }

    /// The driver's name; empty where it has none.
    pub(super) fn driver(&self, device: &str) -> String {
        let mut driver = Driver { command: DRIVER, name: [0; 32], rest: [0; 160] };
        if self.ask(device, &mut driver).is_err() {
            return String::new();
        }
        CStr::from_bytes_until_nul(&driver.name).map_or_else(|_| String::new(), |n| n.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_merges_nothing() {
        let ethtool = Ethtool::open().unwrap();
        assert_eq!(ethtool.lro("lo"), Some(false));
        assert_eq!(ethtool.lro("no-such-device"), None);
        assert_eq!(ethtool.driver("a-name-that-is-too-long"), "");
    }
}
