//! What a candidate policy would have decided otherwise, see [`crate::generation::Generation::shadow`].

/// A flow that a candidate decides otherwise, found by its [`crate::flow::FlowKey`], VLAN ids aside.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differs {
    /// First packets of it; those that are sent again count.
    pub packets: u64,
    /// Jiffies of the first.
    pub first: u32,
    /// Jiffies of the last.
    pub last: u32,
    /// The slot.
    pub slot: u32,
    /// Counter id of the rule that decides.
    pub rule: u32,
    /// Counter id of the candidate's.
    pub shadow_rule: u32,
    /// [`crate::flow::Direction`] of its first packet.
    pub direction: u8,
    /// [`crate::reason::Verdict`] that is in force.
    pub verdict: u8,
    /// [`crate::reason::Reason`] of it.
    pub reason: u8,
    /// Reason of the candidate, whose verdict is the other one.
    pub shadow_reason: u8,
}

/// What a CPU has compared.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// New flows, or packets without one, judged by both policies.
    pub judged: u64,
    /// Of them those that differ and found no room.
    pub left_out: u64,
}

/// The index, from 0, of a candidate in [`crate::generation::Generation::shadow`].
#[inline(always)]
pub const fn index(shadow: u32) -> u32 {
    (shadow & 0xff_ffff).wrapping_sub(1)
}

/// Its size class.
#[inline(always)]
pub const fn class(shadow: u32) -> u32 {
    shadow >> 24
}

/// Both, as the generation has them.
pub const fn pack(index: u32, class: u32) -> u32 {
    class << 24 | (index + 1)
}

const _: () = {
    assert!(size_of::<Differs>() == 32);
    assert!(size_of::<Compared>() == 16);
    assert!(index(pack(1023, 2)) == 1023 && class(pack(1023, 2)) == 2);
};
