//! The one exit: count the reason and the rule, maybe emit an event.

use aya_ebpf::helpers::bpf_jiffies64;
use sg_common::{
    event::{Counter, Event},
    flow::{Direction, FlowKey},
    generation::{Config, Generation, events, flags},
    maps::reason_index,
    reason::{Reason, Verdict},
};
use sg_ebpf::verdict::Decision;

use super::maps::{SG_EVENTS, SG_REASONS, SG_RULES};

#[inline(always)]
fn count(counter: Option<*mut Counter>, bytes: u32) {
    if let Some(counter) = counter {
        // SAFETY: the pointer is this CPU's own copy.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}

/// Counts what became of a packet of the short way, and hands the verdict on.
#[inline(always)]
pub fn quiet(generation: &Generation, direction: Direction, length: u32, decision: &Decision) -> Verdict {
    let index = reason_index(generation.slot, direction as u8, decision.reason, decision.verdict as u8);
    count(SG_REASONS.get_ptr_mut(index), length);
    if decision.rule != 0 && !decision.is_accept() {
        count(SG_RULES.get_ptr_mut(decision.rule), length);
    }
    decision.verdict
}

/// Counts and reports what became of a packet, and hands the verdict on.
#[inline(always)]
pub fn finish(
    generation: &Generation,
    config: &Config,
    direction: Direction,
    length: u32,
    decision: &Decision,
    key: &FlowKey,
) -> Verdict {
    let index = reason_index(generation.slot, direction as u8, decision.reason, decision.verdict as u8);
    count(SG_REASONS.get_ptr_mut(index), length);
    let established = decision.reason == Reason::Established as u8;
    // A rule counts what it decided, not every later packet of the flow.
    if decision.rule != 0 && !established {
        count(SG_RULES.get_ptr_mut(decision.rule), length);
    }
    let wanted = !established && (!decision.is_accept() || generation.flags & flags::EVENT_ACCEPT != 0);
    if config.events == events::ALL || (config.events != events::OFF && wanted) {
        emit(generation, direction, length, decision, key);
    }
    decision.verdict
}

#[inline(always)]
fn emit(generation: &Generation, direction: Direction, length: u32, decision: &Decision, key: &FlowKey) {
    let Some(mut entry) = SG_EVENTS.reserve(0) else { return };
    entry.write(Event {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_jiffies64() },
        slot: generation.slot,
        rule: decision.rule,
        vlan_proto: key.vlan_proto,
        length,
        local: key.local,
        remote: key.remote,
        local_port: key.local_port,
        remote_port: key.remote_port,
        direction: direction as u8,
        verdict: decision.verdict as u8,
        reason: decision.reason,
        pad: 0,
    });
    entry.submit(0);
}
