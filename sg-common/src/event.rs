//! What leaves through the ring buffer: verdicts that somebody wants to hear of, see [`crate::watch`].

use crate::addr::Addr;

/// One verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Jiffies.
    pub time: u32,
    /// Epoch of the generation that judged it.
    pub epoch: u32,
    /// The slot.
    pub slot: u32,
    /// Counter id of the deciding rule, 0 if none.
    pub rule: u32,
    /// `outer VLAN id << 20 | inner VLAN id << 8 | protocol`.
    pub vlan_proto: u32,
    /// Bytes of the packet.
    pub length: u32,
    /// Local address.
    pub local: Addr,
    /// Remote address.
    pub remote: Addr,
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// [`crate::flow::Direction`].
    pub direction: u8,
    /// [`crate::reason::Verdict`].
    pub verdict: u8,
    /// [`crate::reason::Reason`].
    pub reason: u8,
    /// Bits of the streams that it is for, and [`ANSWER`].
    pub streams: u8,
}

const _: () = assert!(size_of::<Event>() == 64);

/// Bit of [`Event::streams`]: the packet answers a SYN, so it was judged as a packet of the
/// other direction if there was no flow.
pub const ANSWER: u8 = 1 << 7;

/// A per-CPU counter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the start of the IP or Ethernet header as the hook sees it.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Counter>() == 16);
