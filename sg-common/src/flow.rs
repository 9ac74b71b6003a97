//! Conntrack and fragment keys and entries.
//!
//! Both directions of a connection are one key, as the instance sees it:
//! local is the protected side. Each direction of a flow writes only its own
//! fields, in place, so two CPUs never fight over one word.

use core::cell::UnsafeCell;

use crate::addr::Addr;

/// A plain cell that the program and the daemon write without locks. Racing
/// writers of one field are prevented by design (one direction each), and a
/// torn read is impossible: fields are naturally aligned words or bytes.
#[repr(transparent)]
pub struct Cell<T: Copy>(UnsafeCell<T>);

// SAFETY: accesses are volatile loads and stores of naturally aligned words
// of at most eight bytes, which the supported CPUs perform whole.
unsafe impl<T: Copy + Send> Sync for Cell<T> {}

impl<T: Copy> Cell<T> {
    /// A cell holding `v`.
    pub const fn new(v: T) -> Self {
        Self(UnsafeCell::new(v))
    }
    /// Reads the word.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: the pointer is valid and aligned for as long as `self` is.
        unsafe { self.0.get().read_volatile() }
    }
    /// Writes the word.
    #[inline(always)]
    pub fn set(&self, v: T) {
        // SAFETY: as in `get`.
        unsafe { self.0.get().write_volatile(v) }
    }
}

impl<T: Copy> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

impl<T: Copy + core::fmt::Debug> core::fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

/// A flow of either family, as the instance sees it. The tables hold it as
/// [`FlowKey4`] or [`FlowKey6`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The incarnation of the slot; never reused, so a reused ifindex inherits nothing.
    pub zone: u32,
    /// `outer VLAN id << 20 | inner VLAN id << 8 | protocol`.
    pub vlan_proto: u32,
    /// The instance's address.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// Local port in host order; ICMP echo: the identifier; 0 where there is none.
    pub local_port: u16,
    /// Remote port in host order; ICMP echo: the identifier; 0 where there is none.
    pub remote_port: u16,
}

/// [`FlowKey`] of an IPv4 flow, 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    /// See [`FlowKey::zone`].
    pub zone: u32,
    /// See [`FlowKey::vlan_proto`].
    pub vlan_proto: u32,
    /// Local IPv4 address, network order.
    pub local: [u8; 4],
    /// Remote IPv4 address, network order.
    pub remote: [u8; 4],
    /// See [`FlowKey::local_port`].
    pub local_port: u16,
    /// See [`FlowKey::remote_port`].
    pub remote_port: u16,
}

/// [`FlowKey`] of an IPv6 flow, 44 bytes: the same layout.
pub type FlowKey6 = FlowKey;

impl FlowKey {
    /// The IP protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.vlan_proto & 0xff) as u8
    }
    /// The 20-byte form; meaningful only when both addresses are IPv4.
    #[inline(always)]
    pub fn to_v4(&self) -> FlowKey4 {
        FlowKey4 {
            zone: self.zone,
            vlan_proto: self.vlan_proto,
            local: self.local.v4_bytes(),
            remote: self.remote.v4_bytes(),
            local_port: self.local_port,
            remote_port: self.remote_port,
        }
    }
}

/// A flow's key in the forms the tables need, made once per packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKeys {
    /// The key itself.
    pub full: FlowKey,
    /// Its IPv4 form; meaningful with `v4`.
    pub short: FlowKey4,
    /// 1 for IPv4.
    pub v4: u32,
}

impl FlowKeys {
    /// Both forms of a key.
    #[inline(always)]
    pub fn new(full: FlowKey, v4: bool) -> Self {
        Self { full, short: full.to_v4(), v4: v4 as u32 }
    }
    /// Whether the flow is IPv4.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.v4 != 0
    }
}

impl From<FlowKey4> for FlowKey {
    fn from(k: FlowKey4) -> Self {
        Self {
            zone: k.zone,
            vlan_proto: k.vlan_proto,
            local: Addr::v4(k.local),
            remote: Addr::v4(k.remote),
            local_port: k.local_port,
            remote_port: k.remote_port,
        }
    }
}

/// Direction as the instance sees it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the instance.
    Inbound = 0,
    /// From the instance.
    Outbound = 1,
}

impl Direction {
    /// The other one.
    #[inline(always)]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Inbound => Self::Outbound,
            Self::Outbound => Self::Inbound,
        }
    }
    /// From its number: 0 inbound, anything else outbound.
    #[inline(always)]
    pub const fn from_u8(v: u8) -> Self {
        if v == 0 { Self::Inbound } else { Self::Outbound }
    }
    /// The rule keyword: `ingress` or `egress`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "ingress",
            Self::Outbound => "egress",
        }
    }
}

/// TCP and progress bits one direction of a flow has shown.
pub mod seen {
    /// Any packet at all.
    pub const ANY: u8 = 1;
    /// A SYN.
    pub const SYN: u8 = 2;
    /// A FIN.
    pub const FIN: u8 = 4;
    /// A RST that nothing of the same direction followed.
    pub const RST: u8 = 8;
    /// A packet after the other direction had answered.
    pub const ANSWERED: u8 = 16;
}

/// Values of [`Flow::place`].
pub mod place {
    /// Begun, by whoever the origin is.
    pub const CHURN: u8 = 0;
    /// Confirmed.
    pub const MAIN: u8 = 1;
    /// Not confirmed, and picked up in its midst: no SYN of a flood.
    pub const PROBATION: u8 = 2;
}

/// [`Flow::ack`] is written when it is off by more than so many sequence numbers:
/// about a segment, so that small messages need no store.
pub const ACK_GRAIN: u32 = 2048;

/// A conntrack entry.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Flow {
    /// Jiffies of the last packet, by [`Direction`]; coarse.
    pub last: [Cell<u32>; 2],
    /// TCP: about the acknowledgement number that each [`Direction`] last sent, as a
    /// number; 0 while it has sent none. See [`ACK_GRAIN`].
    pub ack: [Cell<u32>; 2],
    /// Epoch of the generation it was last judged under.
    pub epoch: Cell<u32>,
    /// Counter id of the rule that decided.
    pub rule: Cell<u32>,
    /// Idle timeout in seconds once confirmed.
    pub timeout: u16,
    /// [`seen`] bits, by [`Direction`].
    pub seen: [Cell<u8>; 2],
    /// Direction of the first packet.
    pub origin: Cell<u8>,
    /// [`crate::reason::Verdict`]: a cut flow stays, with drop.
    pub verdict: Cell<u8>,
    /// Seconds after both FINs or a RST.
    pub timeout_closed: u8,
    /// Which table holds it, see [`place`].
    pub place: u8,
}

const _: () = {
    assert!(size_of::<FlowKey4>() == 20);
    assert!(size_of::<FlowKey6>() == 44);
    assert!(size_of::<Flow>() == 32 && align_of::<Flow>() == 4);
};

/// [`Flow::rule`] of one that somebody cut by hand: it stays cut, whatever the rules say,
/// until it has been quiet for its timeout or begins anew.
pub const BY_HAND: u32 = u32::MAX;

/// A remembered first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragKey {
    /// See [`FlowKey::zone`].
    pub zone: u32,
    /// See [`FlowKey::vlan_proto`].
    pub vlan_proto: u32,
    /// Local address.
    pub local: Addr,
    /// Remote address.
    pub remote: Addr,
    /// Identification field, host order.
    pub id: u32,
    /// [`Direction`] number.
    pub direction: u32,
}

/// What the first fragment's verdict was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragEntry {
    /// Jiffies when it was seen.
    pub seen: u32,
    /// Bytes of transport header that no later fragment may reach into.
    pub header: u16,
    /// [`crate::reason::Verdict`].
    pub verdict: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = {
    assert!(size_of::<FragKey>() == 48);
    assert!(size_of::<FragEntry>() == 8);
};
