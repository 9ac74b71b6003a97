//! The flat policy value: everything one policy needs but its address
//! lookups, in one array element, read by plain bounded loads.
//!
//! ```text
//! remote address --hosts, LPM--> remote class r
//! protocol, destination port --protos, ports--> service class s
//! matrix[r][s] -> row of the rule table (0 = the default)
//! ```
//!
//! Offsets are bytes from the start of the value. All tables are host order.
//! A direction with five-tuple rules, or whose matrix would be too large, has
//! [`MODE_BITVEC`]: one bit-vector of rules per class of each field; the first
//! bit set in all of them names the rule.

use crate::limits::BITVEC_WORDS;

/// First word of a policy value.
pub const MAGIC: u32 = 0x5347_0001;

/// Head of the flat value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// Bytes in use.
    pub size: u32,
    /// See [`POLICY_HOSTS`].
    pub flags: u32,
    /// Zero.
    pub pad: u32,
    /// By [`crate::flow::Direction`].
    pub direction: [DirectionHeader; 2],
}

/// The policy has exact-host entries, so the host hash is asked first.
pub const POLICY_HOSTS: u32 = 1;
/// The policy has prefixes, so the LPM trie is asked.
pub const POLICY_PREFIXES: u32 = 2;
/// The multi-bit table knows every remote IPv4 address, hosts included, so that
/// neither hash nor trie is asked. It is cleared before a change of these.
pub const POLICY_TABLE4: u32 = 4;
/// No exact host is an IPv6 one. Cleared before one is added.
pub const POLICY_HOSTS_V4: u32 = 8;
/// The list knows every remote IPv6 prefix, hosts included. Cleared as [`POLICY_TABLE4`].
pub const POLICY_LIST6: u32 = 16;
/// Prefixes of such a list.
pub const MAX_LIST6: usize = 8;
/// A table entry with this bit names the next node; the others are classes.
pub const TABLE4_NODE: u16 = 1 << 15;

/// Classes and a matrix.
pub const MODE_MATRIX: u32 = 0;
/// Classes and bit-vectors.
pub const MODE_BITVEC: u32 = 1;

/// Tables of one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionHeader {
    /// [`MODE_MATRIX`] or [`MODE_BITVEC`].
    pub mode: u32,
    /// `u16[256]`: service class by protocol, for all but TCP and UDP.
    pub protos: u32,
    /// `u16[256]`: page of TCP destination ports, by the port's high byte.
    pub tcp: u32,
    /// `u16[256]`: page of UDP destination ports.
    pub udp: u32,
    /// `u16[n][256]`: service class by the port's low byte.
    pub pages: u32,
    /// `u16[remote][service]`: row of the rule table.
    pub matrix: u32,
    /// Service classes: columns of the matrix.
    pub columns: u32,
    /// [`RuleRow`] table; row 0 is the default.
    pub rules: u32,
    /// `u16[256]`: page of source ports; bit-vector mode.
    pub source_ports: u32,
    /// `[class][BITVEC_WORDS]u64` of remote classes.
    pub bits_remote: u32,
    /// The same for service classes.
    pub bits_service: u32,
    /// The same for local address classes.
    pub bits_local: u32,
    /// The same for source port classes.
    pub bits_source: u32,
    /// Words of each bit-vector in use, at most [`BITVEC_WORDS`].
    pub words: u32,
    /// `u16[n][256]`: remote classes of IPv4, see [`POLICY_TABLE4`].
    pub table4: u32,
    /// `u64`: how many, then `[u64; 5]` each: address, mask, remote class; see [`POLICY_LIST6`].
    pub list6: u32,
}

/// One decision.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Index of the rule's counter.
    pub counter: u32,
    /// [`crate::reason::Verdict`].
    pub verdict: u8,
    /// [`crate::reason::Reason`].
    pub reason: u8,
    /// Zero.
    pub pad: u16,
}

const _: () = {
    assert!(size_of::<DirectionHeader>() == 64);
    assert!(size_of::<PolicyHeader>() == 144);
    assert!(size_of::<RuleRow>() == 8);
    assert!(BITVEC_WORDS == 16);
};

/// Usable bytes of a policy value, by size class; powers of two, so that the
/// program bounds an offset with one AND.
pub const CLASS_SIZES: [u32; 3] = [1 << 16, 1 << 20, 1 << 24];
/// Bytes behind the usable ones, so that a masked load of any word stays inside.
pub const CLASS_SLACK: u32 = 8;

/// A value of the address tables: class by direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct AddrClass {
    /// Class for inbound, by [`crate::flow::Direction`], and for outbound.
    pub class: [u16; 2],
}

/// LPM key data: the kind, then the address; a prefix covers 32 bits of kind
/// plus its own length. Kind stands first because every lookup fixes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LpmData {
    /// One of [`kind`], in the first byte.
    pub kind: [u8; 4],
    /// The address; IPv4 in the first four bytes.
    pub addr: [u8; 16],
}

impl LpmData {
    /// Key data of `addr`; `local` chooses the local-side table.
    #[inline(always)]
    pub fn new(addr: &crate::addr::Addr, v4: bool, local: bool) -> Self {
        let kind = if local { kind::LOCAL_V4 } else { kind::REMOTE_V4 };
        // By words: by bytes the kernel program would call memset for the zeroes.
        // SAFETY: sixteen bytes; of integers every bit pattern is valid.
        let [a, b, c, d] = unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(addr.0) };
        let addr = if v4 { [d, 0, 0, 0] } else { [a, b, c, d] };
        // SAFETY: as above.
        let addr = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(addr) };
        Self { kind: [if v4 { kind } else { kind + 1 }, 0, 0, 0], addr }
    }
}

/// Bits of kind in front of every LPM prefix.
pub const LPM_KIND_BITS: u32 = 32;

/// Address tables within one trie.
pub mod kind {
    /// Remote IPv4.
    pub const REMOTE_V4: u8 = 0;
    /// Remote IPv6.
    pub const REMOTE_V6: u8 = 1;
    /// Local IPv4.
    pub const LOCAL_V4: u8 = 2;
    /// Local IPv6.
    pub const LOCAL_V6: u8 = 3;
}

const _: () = {
    assert!(size_of::<AddrClass>() == 4);
    assert!(size_of::<LpmData>() == 20);
};
