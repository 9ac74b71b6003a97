//! What a flow has carried, while somebody wants to know ([`crate::generation::flags::ACCOUNT`]).

/// Sums of one flow, found by its [`crate::flow::FlowKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Packets by [`crate::flow::Direction`].
    pub packets: [u64; 2],
    /// Their bytes, from the start of the Ethernet header, or of the IP header where a device has none.
    pub bytes: [u64; 2],
    /// Jiffies of the first packet.
    pub start: u32,
    /// Jiffies of the last one.
    pub last: u32,
    /// Counter id of the rule that admitted it.
    pub rule: u32,
    /// The slot.
    pub slot: u32,
    /// Connections between the same ends since then: a port may be used again before the
    /// daemon has taken note of the end.
    pub connections: u32,
    /// Direction of the first packet.
    pub origin: u8,
    /// [`crate::reason::Reason`] that admitted it.
    pub reason: u8,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<Account>() == 56);
