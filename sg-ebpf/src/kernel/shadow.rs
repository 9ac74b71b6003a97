//! The candidate beside the policy in force, see [`sg_common::shadow`].

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_jiffies64};
use sg_common::{
    flow::Direction,
    generation::Generation,
    shadow::{Compared, class, index},
};
use sg_ebpf::{classify::Query, verdict::Decision};

use super::{
    lookup::{MISSING, sg_decide},
    maps::{Room, SG_DIFFERS, SG_SHADOW, SG_SHADOWED},
};

/// Has the candidate decide what the policy has decided, and remembers that it differs.
#[inline(always)]
pub fn compare(generation: &Generation, query: &Query, decision: &Decision) {
    // Not in a function between this one and that: the frames of a chain of calls have a sum.
    let candidate = sg_decide(index(generation.shadow), class(generation.shadow), query);
    if candidate != MISSING {
        sg_compare(generation, query, decision.pack(), candidate);
    }
}

/// A global function: verified once, by its arguments alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_compare(generation: *const Generation, query: *const Query, decided: u64, candidate: u64) -> u32 {
    // SAFETY: null, or memory that outlives the call.
    let (Some(generation), Some(query)) = (unsafe { (generation.as_ref(), query.as_ref()) }) else { return 0 };
    let Some(compared) = SG_SHADOWED.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own copy.
    unsafe { (*compared).judged += 1 };
    let (decision, candidate) = (Decision::unpack(decided), Decision::unpack(candidate));
    if decision.is_accept() == candidate.is_accept() {
        return 0;
    }
    remember(generation, query, &decision, &candidate, compared);
    1
}

/// Fills in and hands over what lies in a map of this CPU: stack frames are deep here.
#[inline(always)]
fn remember(
    generation: &Generation,
    query: &Query,
    decision: &Decision,
    candidate: &Decision,
    compared: *mut Compared,
) {
    let Some(room) = SG_DIFFERS.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own copy, which no other program of this hook uses while this one runs;
    // what another hook puts there meanwhile is a flow that differs, too.
    let Room { key, differs } = unsafe { &mut *room };
    let inbound = query.direction & 1 == Direction::Inbound as u8;
    key.zone = generation.zone;
    key.vlan_proto = u32::from(query.protocol);
    key.local = query.local;
    key.remote = query.remote;
    key.local_port = if inbound { query.destination_port } else { query.source_port };
    key.remote_port = if inbound { query.source_port } else { query.destination_port };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    if let Some(known) = SG_SHADOW.get_ptr_mut(&*key) {
        // SAFETY: a live map value; of two CPUs that count at once, one count may be lost.
        unsafe {
            let packets = (&raw const (*known).packets).read_volatile();
            (&raw mut (*known).packets).write_volatile(packets.wrapping_add(1));
            (&raw mut (*known).last).write_volatile(now);
        }
        return;
    }
    differs.packets = 1;
    differs.first = now;
    differs.last = now;
    differs.slot = generation.slot;
    differs.rule = decision.rule;
    differs.shadow_rule = candidate.rule;
    differs.direction = query.direction & 1;
    differs.verdict = decision.verdict as u8;
    differs.reason = decision.reason;
    differs.shadow_reason = candidate.reason;
    if SG_SHADOW.insert(&*key, &*differs, u64::from(BPF_NOEXIST)).is_err() {
        // SAFETY: this CPU's own copy.
        unsafe { (*compared).left_out += 1 };
    }
}
