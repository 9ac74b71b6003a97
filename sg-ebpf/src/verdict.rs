//! What the pipeline decided.

use sg_common::{
    policy::RuleRow,
    reason::{Reason, Verdict},
};

/// A verdict, why, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Pass or drop.
    pub verdict: Verdict,
    /// Number of the [`Reason`]; a number, because a row of the policy names it.
    pub reason: u8,
    /// Counter id of the rule; 0 for none.
    pub rule: u32,
}

impl Decision {
    /// From its parts.
    #[inline(always)]
    pub const fn new(verdict: Verdict, reason: Reason, rule: u32) -> Self {
        Self { verdict, reason: reason as u8, rule }
    }
    /// What a row of the rule table says.
    #[inline(always)]
    pub const fn from_row(row: RuleRow) -> Self {
        Self { verdict: Verdict::from_u8(row.verdict), reason: row.reason, rule: row.counter }
    }
    /// In one register, the top byte zero.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.rule as u64 | (self.verdict as u64) << 32 | (self.reason as u64) << 40
    }
    /// Of [`Decision::pack`].
    #[inline(always)]
    pub const fn unpack(packed: u64) -> Self {
        Self { verdict: Verdict::from_u8((packed >> 32) as u8), reason: (packed >> 40) as u8, rule: packed as u32 }
    }
    /// Whether the packet passes.
    #[inline(always)]
    pub const fn is_accept(&self) -> bool {
        matches!(self.verdict, Verdict::Accept)
    }
}
