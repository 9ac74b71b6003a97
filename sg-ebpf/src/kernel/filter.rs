//! Which flows may exist, see [`sg_common::filter`].

use core::arch::asm;

pub use sg_common::filter::{bit4, bit6};
use sg_common::{
    filter::{BITS, Filter, WORDS},
    flow::FlowKeys,
};

use super::{lookup::config, maps::SG_FILTER};

/// The bit of a flow of either family.
#[inline(always)]
pub fn bit(keys: &FlowKeys) -> u32 {
    if keys.is_v4() { bit4(&keys.short) } else { bit6(&keys.full) }
}

/// A word of a half. Both indices are masked where the verifier sees it.
#[inline(always)]
fn word(filter: *mut Filter, half: u32, bit: u32) -> *mut u64 {
    let index = (half & 1) as usize * WORDS + ((bit & (BITS - 1)) >> 6) as usize;
    // SAFETY: the masks keep the index inside both halves.
    unsafe { filter.cast::<u64>().add(index) }
}

/// False when no table has the flow.
#[inline(always)]
pub fn may_exist(bit: u32) -> bool {
    let Some(filter) = SG_FILTER.get_ptr_mut(0) else { return true };
    // SAFETY: inside the element; written by others as whole words.
    let word = unsafe { word(filter, config().filter, bit).read_volatile() };
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
