//! Whether another flow may be confirmed, see [`sg_common::quota`].

use core::arch::asm;

use sg_common::{
    flow::FlowKeys,
    quota::{CELLS, INTERFACES, Quotas, REMOTES, TABLES, Usage, cells},
};

use super::maps::{SG_QUOTAS, SG_USAGE};

/// Whose counters a flow adds to: words of the parts of [`Usage`].
struct Counted {
    family: u32,
    interface: u32,
    remotes: [u32; 2],
}

impl Counted {
    #[inline(always)]
    fn new(slot: u32, keys: &FlowKeys) -> Self {
        let family = !keys.is_v4() as u32;
        let seed = quotas().map_or(0, |q| q.seed);
        let [a, b] = cells(keys.full.zone, &keys.full.remote, keys.is_v4(), seed);
        Self { family, interface: slot * 2 + family, remotes: [a, CELLS as u32 + b] }
    }
}

#[inline(always)]
fn quotas() -> Option<&'static Quotas> {
    SG_QUOTAS.get(0)
}

/// A counter of the part of `MASK` + 1 words from `FIRST` on. The index is masked last
/// of all and where the compiler cannot take it away: verifiers before 6.8 forget the
/// bounds of what is spilled.
#[inline(always)]
fn word<const FIRST: usize, const MASK: usize>(usage: *mut Usage, index: u32) -> *mut u64 {
    let mut at = index as usize;
    // SAFETY: one register's own bits; no memory, no flags.
    unsafe { asm!("{at} &= {max}", at = inout(reg) at, max = const MASK, options(pure, nomem, nostack)) };
    // SAFETY: the mask keeps the index inside the part.
    unsafe { usage.cast::<u64>().add(FIRST).add(at) }
}

#[inline(always)]
fn of_remote(usage: *mut Usage, index: u32) -> *mut u64 {
    word::<{ REMOTES.first }, { REMOTES.words - 1 }>(usage, index)
}
#[inline(always)]
fn of_interface(usage: *mut Usage, index: u32) -> *mut u64 {
    word::<{ INTERFACES.first }, { INTERFACES.words - 1 }>(usage, index)
}
#[inline(always)]
fn of_table(usage: *mut Usage, index: u32) -> *mut u64 {
    word::<{ TABLES.first }, { TABLES.words - 1 }>(usage, index)
}

/// Whether the table has room for a flow that its interface and its remote may use.
#[inline(always)]
pub fn admits(slot: u32, keys: &FlowKeys) -> bool {
    is_admitted(keys, &Counted::new(slot, keys))
}

#[inline(always)]
fn is_admitted(keys: &FlowKeys, counted: &Counted) -> bool {
    let (Some(quotas), Some(usage)) = (quotas(), SG_USAGE.get_ptr_mut(0)) else { return true };
    // SAFETY: inside the element; written by others as whole words.
    let over = |quota: u32, word: *mut u64| quota != 0 && unsafe { word.read_volatile() } >= u64::from(quota);
    let [a, b] = counted.remotes;
    let table = quotas.table[(counted.family & 1) as usize];
    let full = over(table, of_table(usage, counted.family))
        || over(quotas.interface, of_interface(usage, counted.interface))
        || (over(quotas.remote, of_remote(usage, a)) && over(quotas.remote, of_remote(usage, b)));
    !full || quotas.is_management(&keys.full.remote, keys.is_v4())
}

#[inline(always)]
fn add_one(word: *mut u64) {
    // SAFETY: inside the element and aligned. The target has no atomic of core.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1u64, options(nostack)) };
}

/// Counts a flow that has been confirmed.
#[inline(always)]
pub fn count(slot: u32, keys: &FlowKeys) {
    let Some(usage) = SG_USAGE.get_ptr_mut(0) else { return };
    let counted = Counted::new(slot, keys);
    add_one(of_table(usage, counted.family));
    add_one(of_interface(usage, counted.interface));
    add_one(of_remote(usage, counted.remotes[0]));
    add_one(of_remote(usage, counted.remotes[1]));
}
