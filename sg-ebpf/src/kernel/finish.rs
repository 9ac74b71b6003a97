//! The one exit: count the reason and the rule, maybe emit an event.

use aya_ebpf::helpers::bpf_jiffies64;
use sg_common::{
    event::{ANSWER, Counter, Event},
    flow::Direction,
    generation::{Config, Generation, events, flags},
    maps::reason_index,
    reason::{Reason, Verdict},
};
use sg_ebpf::{Scratch, classify::query, proto, verdict::Decision};

use super::{
    account,
    maps::{SG_EVENTS, SG_REASONS, SG_RULES},
    tell,
};

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
    scratch: &Scratch,
    length: u32,
    decision: &Decision,
) -> Verdict {
    let direction = scratch.direction();
    let index = reason_index(generation.slot, direction as u8, decision.reason, decision.verdict as u8);
    count(SG_REASONS.get_ptr_mut(index), length);
    // A rule counts what it decided, not every later packet of the flow.
    if decision.rule != 0 && decision.reason != Reason::Established as u8 {
        count(SG_RULES.get_ptr_mut(decision.rule), length);
    }
    if generation.flags & flags::ACCOUNT != 0 && decision.is_accept() {
        account::account(generation, direction, length, decision, &scratch.keys.full);
    }
    let streams = match config.events {
        events::OFF => 0,
        events::DECISIONS => tell::room(&query(&scratch.keys, direction), generation.slot, decision, true),
        _ => ALL,
    };
    if streams != 0 && !emit(generation, scratch, length, decision, streams) && streams != ALL {
        tell::refuse(streams);
    }
    decision.verdict
}

/// Streams of one who hears of every packet.
const ALL: u32 = 0x7f;

/// Puts an event into the ring buffer; false when that is full.
#[inline(always)]
fn emit(generation: &Generation, scratch: &Scratch, length: u32, decision: &Decision, streams: u32) -> bool {
    let Some(mut entry) = SG_EVENTS.reserve(0) else { return false };
    let key = &scratch.keys.full;
    let syn_ack = proto::SYN | proto::ACK;
    let answers = key.protocol() == proto::TCP && scratch.parsed.tcp_flags & syn_ack == syn_ack;
    entry.write(Event {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_jiffies64() } as u32,
        epoch: generation.epoch,
        slot: generation.slot,
        rule: decision.rule,
        vlan_proto: key.vlan_proto,
        length,
        local: key.local,
        remote: key.remote,
        local_port: key.local_port,
        remote_port: key.remote_port,
        direction: scratch.direction as u8,
        verdict: decision.verdict as u8,
        reason: decision.reason,
        streams: streams as u8 | if answers { ANSWER } else { 0 },
    });
    entry.submit(0);
    true
}
