//! A filter of flows that may exist: most packets without a flow need no table
//! to know it.
//!
//! Two halves of bits. The program sets the bit of a new flow in both before it
//! adds the flow, and asks the half that [`crate::generation::Config::filter`]
//! names. A clear bit proves that no table holds the flow; a set one proves
//! nothing. The daemon renews the half that is not asked from the tables, and
//! then has that one asked, so that bits of dead flows do not pile up.

use crate::flow::{FlowKey, FlowKey4};

/// Bits of one half.
pub const BITS: u32 = 1 << 20;
/// Words of one half.
pub const WORDS: usize = (BITS / 64) as usize;

/// The only element of the filter's array.
#[repr(C)]
pub struct Filter {
    /// Both halves.
    pub halves: [[u64; WORDS]; 2],
}

/// An odd constant of which half the bits are set (the golden ratio's).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The highest bits of a product depend on all of its factors' bits.
#[inline(always)]
const fn fold(a: u64, b: u64) -> u32 {
    let h = a.wrapping_mul(MIX) ^ b;
    let h = (h ^ (h >> 29)).wrapping_mul(MIX);
    (h >> 44) as u32
}

/// The bit of an IPv4 flow.
#[inline(always)]
pub const fn bit4(key: &FlowKey4) -> u32 {
    let remote = u32::from_ne_bytes(key.remote) as u64;
    let ports = (key.local_port as u64) << 16 | key.remote_port as u64;
    fold(remote | (key.zone as u64) << 32, ports ^ (key.vlan_proto as u64) << 32)
}

/// The bit of an IPv6 flow.
#[inline(always)]
pub const fn bit6(key: &FlowKey) -> u32 {
    let [high, low] = key.remote.words();
    let ports = (key.local_port as u64) << 16 | key.remote_port as u64;
    let head = (key.zone as u64) << 32 ^ (key.vlan_proto as u64) << 32;
    fold(high ^ low.rotate_left(23), low ^ ports ^ head)
}

const _: () = assert!(size_of::<Filter>() == 262_144 && BITS == 1 << (64 - 44) && WORDS.is_power_of_two());
