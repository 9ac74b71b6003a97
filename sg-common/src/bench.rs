//! What the benchmark's programs and its driver agree on.

/// Key of the minimal program's one lookup of an IPv4 packet: words as they lie in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BenchKey4 {
    /// Destination address.
    pub local: u32,
    /// Source address.
    pub remote: u32,
    /// Both ports.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// The same of an IPv6 packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BenchKey6 {
    /// Destination address.
    pub local: [u32; 4],
    /// Source address.
    pub remote: [u32; 4],
    /// Both ports.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// How the source varies the low sixteen bits of a packet's sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Vary {
    /// Senders minus one; a power of two minus one, at most 65,535.
    pub mask: u32,
    /// 1 for IPv4, whose header has a checksum.
    pub v4: u32,
    /// Unfolded checksum of the IPv4 header without its own field and those bits.
    pub sum: u32,
    /// Zero.
    pub pad: u32,
}
