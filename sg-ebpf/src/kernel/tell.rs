//! Whether somebody wants to hear of a packet, see [`sg_ebpf::tell`].

use aya_ebpf::helpers::bpf_jiffies64;
use sg_common::{
    generation::Generation,
    watch::{ANSWERED, Told},
};
use sg_ebpf::{classify::Query, tell, verdict::Decision};

use super::maps::{SG_TELL, SG_TOLD};

/// Bits of the streams that want a packet and have room for it; see [`tell::room`].
#[inline(always)]
pub fn room(query: &Query, slot: u32, decision: &Decision, take: bool) -> u32 {
    sg_room(query, slot, decision.pack(), take as u32)
}

/// A global function: verified once, by its arguments alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_room(query: *const Query, slot: u32, decision: u64, take: u32) -> u32 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let Some(query) = (unsafe { query.as_ref() }) else { return 0 };
    let Some(settings) = SG_TELL.get(0) else { return 0 };
    let wanted = tell::wanted(settings, query, slot, &Decision::unpack(decision));
    if wanted == 0 {
        return 0;
    }
    let Some(told) = told() else { return 0 };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    tell::room(told, settings, now, wanted, take != 0)
}

/// The ring buffer had no room.
#[inline(always)]
pub fn refuse(granted: u32) {
    if let Some(told) = told() {
        tell::refuse(told, granted);
    }
}

/// A packet could not be counted.
#[inline(always)]
pub fn unaccounted() {
    if let Some(told) = told() {
        told.unaccounted += 1;
    }
}

/// Leaves the answer of a program that only answers.
#[inline(always)]
pub fn answer(generation: &Generation, decision: &Decision) {
    if let Some(told) = told() {
        told.answer = ANSWERED | decision.pack();
        told.epoch = generation.epoch;
    }
}

#[inline(always)]
fn told() -> Option<&'static mut Told> {
    let told = SG_TOLD.get_ptr_mut(0)?;
    // SAFETY: this CPU's own copy; of two hooks that count at once, one count may be lost.
    Some(unsafe { &mut *told })
}
