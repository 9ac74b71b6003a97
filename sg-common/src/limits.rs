//! Every bound of the data plane, in one place.

/// VLAN tags walked per packet, those in skb metadata counted.
pub const MAX_VLAN_TAGS: usize = 2;
/// IPv6 extension headers walked per packet.
pub const MAX_EXT_HEADERS: usize = 6;
/// Interfaces addressed by a direct array; the daemon refuses a larger index.
pub const MAX_IFINDEX: u32 = 65_536;
/// Slots (bound interfaces) per map set.
pub const MAX_SLOTS: u32 = 1024;
/// Generation records: each slot has its current and its previous one.
pub const MAX_GENERATIONS: u32 = 4 * MAX_SLOTS;
/// Policies alive at once.
pub const MAX_POLICIES: u32 = 1024;
/// Rule counters alive at once.
pub const MAX_RULES: u32 = 65_536;
/// Confirmed flows, per address family.
pub const MAX_FLOWS: u32 = 65_536;
/// Unconfirmed flows, per address family and table: one for each initiating side, and one for those on probation.
pub const MAX_CHURN: u32 = 16_384;
/// Flows that are remembered because a candidate decides them otherwise.
pub const MAX_DIFFERS: u32 = 131_072;
/// Flows whose packets and bytes are counted.
pub const MAX_ACCOUNTS: u32 = 131_072;
/// Fragmented packets remembered.
pub const MAX_FRAGMENTS: u32 = 8192;
/// Cells of all matrices of one policy.
pub const MAX_MATRIX_CELLS: usize = 4 << 20;
/// Rules one direction of a policy can hold, invisible ones included.
pub const MAX_POLICY_RULES: usize = 1024;
/// 64-bit words of a rule bit-vector.
pub const BITVEC_WORDS: usize = MAX_POLICY_RULES / 64;

/// Seconds a TCP flow lives before its handshake completes.
pub const TIMEOUT_HALF_OPEN: u16 = 10;
/// Seconds an ICMP echo flow lives.
pub const TIMEOUT_ICMP: u16 = 10;
/// Seconds a flow of any other protocol lives.
pub const TIMEOUT_OTHER: u16 = 60;
/// Seconds a first fragment is remembered.
pub const TIMEOUT_FRAGMENT: u16 = 30;
/// Default seconds of an established TCP flow.
pub const TIMEOUT_TCP: u16 = 910;
/// Default seconds of a closed TCP flow.
pub const TIMEOUT_TCP_CLOSED: u16 = 3;
/// Default seconds of a UDP flow.
pub const TIMEOUT_UDP: u16 = 30;
