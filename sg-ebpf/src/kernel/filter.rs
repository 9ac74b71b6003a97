//! Which flows may exist, see [`sg_common::filter`].

use core::arch::asm;

pub use sg_common::filter::{bit4, bit6};
use sg_common::{
    filter::{Filter, WORDS},
    flow::FlowKeys,
};

use super::maps::SG_FILTER;

/// The bit of a flow of either family.
#[inline(always)]
pub fn bit(keys: &FlowKeys) -> u32 {
    if keys.is_v4() { bit4(&keys.short) } else { bit6(&keys.full) }
}

/// A word of a half. The index is masked last of all and where the compiler cannot
/// take it away: verifiers before 6.8 forget the bounds of what is spilled.
#[inline(always)]
fn word(filter: *mut Filter, half: u32, bit: u32) -> *mut u64 {
    let mut index = (half as usize * WORDS) | (bit >> 6) as usize;
    // SAFETY: one register's own bits; no memory, no flags.
    unsafe { asm!("{at} &= {max}", at = inout(reg) index, max = const 2 * WORDS - 1, options(pure, nomem, nostack)) };
    // SAFETY: the mask keeps the index inside both halves.
    unsafe { filter.cast::<u64>().add(index) }
}

/// False when no table has the flow; `half` is the one that the configuration names.
#[inline(always)]
pub fn may_exist(half: u32, bit: u32) -> bool {
    let Some(filter) = SG_FILTER.get_ptr_mut(0) else { return true };
    // SAFETY: inside the element; written by others as whole words.
    let word = unsafe { word(filter, half, bit).read_volatile() };
    word >> (bit & 63) & 1 != 0
}

/// Notes a flow in both halves; false when it could not be noted.
#[inline(always)]
pub fn add(bit: u32) -> bool {
    let Some(filter) = SG_FILTER.get_ptr_mut(0) else { return false };
    let set = 1u64 << (bit & 63);
    let mut half = 0;
    while half < 2 {
        let word = word(filter, half, bit);
        // SAFETY: inside the element and aligned. It is written only when it
        // changes: the line is shared by all CPUs. The target has no atomic of core.
        unsafe {
            if word.read_volatile() & set == 0 {
                asm!("lock *(u64 *)({word} + 0) |= {set}", word = in(reg) word, set = in(reg) set, options(nostack));
            }
        }
        half += 1;
    }
    true
}
