//! Addresses as the data plane holds them: 16 bytes in network order, IPv4
//! mapped into `::ffff:0:0/96`, so that one shape serves both families.

/// An address of either family, network byte order.
/// Aligned to words, so that the program copies and compares words.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr(pub [u8; 16]);

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Addr {
    /// The unspecified IPv6 address, `::`.
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// Maps an IPv4 address (network order).
    #[inline(always)]
    pub const fn v4(a: [u8; 4]) -> Self {
        // By words: by bytes the kernel program would call memset for the zeroes.
        let words = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes(a)];
        // SAFETY: sixteen bytes; of bytes every pattern is valid.
        Self(unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) })
    }

    /// Whether this is a mapped IPv4 address.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        let mut i = 0;
        while i < 12 {
            if self.0[i] != MAPPED[i] {
                return false;
            }
            i += 1;
        }
        true
    }

    /// The IPv4 bytes of a mapped address.
    #[inline(always)]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// Both halves, as they lie in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        // SAFETY: sixteen bytes; of integers every bit pattern is valid.
        unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(self.0) }
    }

    /// Inside the default private set: RFC 1918, 100.64/10, 127/8, 169.254/16,
    /// fc00::/7, fe80::/10, ::1.
    #[inline(always)]
    pub fn is_private(&self, v4: bool) -> bool {
        let a = self.v4_bytes();
        if v4 {
            a[0] == 10
                || (a[0] == 172 && a[1] & 0xf0 == 16)
                || (a[0] == 192 && a[1] == 168)
                || (a[0] == 100 && a[1] & 0xc0 == 64)
                || a[0] == 127
                || (a[0] == 169 && a[1] == 254)
        } else {
            self.0[0] & 0xfe == 0xfc
                || self.is_link_local_v6()
                || *self == Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        }
    }

    /// `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local_v6(&self) -> bool {
        self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
    }

    /// `ff00::/8`.
    #[inline(always)]
    pub const fn is_multicast_v6(&self) -> bool {
        self.0[0] == 0xff
    }
}

impl core::fmt::Debug for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&core::net::IpAddr::from(*self), f)
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(a) => Self::v4(a.octets()),
            core::net::IpAddr::V6(a) => Self(a.octets()),
        }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(a: Addr) -> Self {
        if a.is_v4() { a.v4_bytes().into() } else { a.0.into() }
    }
}

const _: () = assert!(size_of::<Addr>() == 16 && align_of::<Addr>() == 4);
