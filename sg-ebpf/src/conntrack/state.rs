//! What state a flow is in, from what its two directions have shown.
//!
//! There is no state word that both directions would fight over: each records
//! what it has sent, and the state is a function of the two records.

use sg_common::{
    flow::{Flow, seen},
    limits::TIMEOUT_HALF_OPEN,
};

use super::Clock;
use crate::proto;

/// The record of one direction after another packet of it.
#[inline(always)]
pub const fn advance(bits: u8, tcp_flags: u8, tcp: bool, answered: bool) -> u8 {
    let mut next = bits | seen::ANY;
    if answered {
        next |= seen::ANSWERED;
    }
    if tcp {
        if tcp_flags & proto::SYN != 0 {
            next |= seen::SYN;
        }
        if tcp_flags & proto::FIN != 0 {
            next |= seen::FIN;
        }
        // A forged RST is taken back by the next segment of its direction.
        if tcp_flags & proto::RST != 0 {
            next |= seen::RST;
        } else {
            next &= !seen::RST;
        }
    }
    next
}

/// TCP: reset, or closed from both sides.
#[inline(always)]
pub fn is_closing(flow: &Flow) -> bool {
    let (a, b) = (flow.seen[0].get(), flow.seen[1].get());
    (a | b) & seen::RST != 0 || a & b & seen::FIN != 0
}

/// Seconds the flow may be idle.
#[inline(always)]
pub fn timeout(flow: &Flow, protocol: u8) -> u32 {
    if protocol != proto::TCP {
        return flow.timeout as u32;
    }
    let (a, b) = (flow.seen[0].get(), flow.seen[1].get());
    if is_closing(flow) {
        flow.timeout_closed as u32
    } else if a & b & seen::ANY != 0 && (a | b) & seen::ANSWERED != 0 && flow_is_answered(flow) {
        flow.timeout as u32
    } else {
        TIMEOUT_HALF_OPEN as u32
    }
}

/// The initiator spoke again after a reply.
#[inline(always)]
fn flow_is_answered(flow: &Flow) -> bool {
    let origin = if flow.origin.get() == 0 { flow.seen[0].get() } else { flow.seen[1].get() };
    origin & seen::ANSWERED != 0
}

/// Jiffies since either direction showed itself.
#[inline(always)]
pub fn idle(flow: &Flow, clock: Clock) -> u32 {
    let a = clock.now.wrapping_sub(flow.last[0].get());
    let b = clock.now.wrapping_sub(flow.last[1].get());
    // Another CPU may have written a slightly later time than ours.
    let a = if a as i32 > 0 { a } else { 0 };
    let b = if b as i32 > 0 { b } else { 0 };
    if a < b { a } else { b }
}

/// Whether the flow has been idle for longer than its timeout.
#[inline(always)]
pub fn is_expired(flow: &Flow, protocol: u8, clock: Clock) -> bool {
    idle(flow, clock) > timeout(flow, protocol) * clock.hz
}

/// Notes a packet; writes only when an eighth of a second has passed.
#[inline(always)]
pub fn touch(flow: &Flow, side: usize, clock: Clock) {
    let last = &flow.last[side & 1];
    if clock.now.wrapping_sub(last.get()) > clock.hz >> 3 {
        last.set(clock.now);
    }
}
