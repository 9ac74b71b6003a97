//! What state a flow is in, from what its two directions have shown.
//!
//! There is no state word that both directions would fight over: each records
//! what it has sent, and the state is a function of the two records.

use sg_common::{
    flow::{Flow, seen},
    limits::TIMEOUT_HALF_OPEN,
    reason::Verdict,
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

/// Whether a packet shows that its sender has seen what the other side sent. For
/// TCP that is an acknowledgement of a handshake that both have begun (a SYN sent
/// twice is none), or of a connection that was picked up in its midst.
#[inline(always)]
pub const fn is_answer(own: u8, other: u8, tcp_flags: u8, tcp: bool) -> bool {
    if other & seen::ANY == 0 {
        return false;
    }
    if !tcp {
        return true;
    }
    let acknowledges = tcp_flags & (proto::ACK | proto::SYN | proto::RST) == proto::ACK;
    acknowledges && (other & seen::SYN != 0 || own & seen::SYN == 0)
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
    // What was cut stays cut for as long as its peers may go on trying.
    if protocol != proto::TCP || flow.verdict.get() == Verdict::Drop as u8 {
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
    let (a, b) = (age(a, clock), age(b, clock));
    if a < b { a } else { b }
}

/// Another CPU may have written a slightly later time than ours; anything
/// further ahead is long past.
#[inline(always)]
pub const fn age(difference: u32, clock: Clock) -> u32 {
    if difference > u32::MAX - 2 * clock.hz { 0 } else { difference }
}

/// Seconds that every timeout has at least.
pub const SHORTEST: u32 = 3;

/// Whether the flow has been idle for longer than its timeout.
#[inline(always)]
pub fn is_expired(flow: &Flow, protocol: u8, clock: Clock) -> bool {
    idle(flow, clock) > timeout(flow, protocol) * clock.hz
}

/// Whether a direction was noted within the last eighth of a second.
#[inline(always)]
pub fn is_fresh(flow: &Flow, side: usize, clock: Clock) -> bool {
    clock.now.wrapping_sub(flow.last[side & 1].get()) <= clock.hz >> 3
}

/// Notes a packet; writes only when an eighth of a second has passed.
#[inline(always)]
pub fn touch(flow: &Flow, side: usize, clock: Clock) {
    if !is_fresh(flow, side, clock) {
        flow.last[side & 1].set(clock.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{ACK, FIN, RST, SYN};

    #[test]
    fn a_repeated_syn_is_no_answer() {
        let (syn, both) = (seen::ANY | seen::SYN, seen::ANY | seen::SYN);
        assert!(!is_answer(syn, 0, ACK, true), "nothing to answer yet");
        assert!(!is_answer(syn, both, SYN, true));
        assert!(!is_answer(syn, both, RST | ACK, true));
        assert!(!is_answer(syn, seen::ANY, ACK, true), "the other side never sent its SYN");
        assert!(is_answer(syn, both, ACK, true));
        assert!(is_answer(syn, both, FIN | ACK, true));
        assert!(is_answer(seen::ANY, seen::ANY, ACK, true), "picked up in its midst");
        assert!(is_answer(seen::ANY, seen::ANY, 0, false));
    }

    #[test]
    fn a_little_ahead_is_now_and_far_ahead_is_long_past() {
        let clock = Clock { now: 0, hz: 1000 };
        assert_eq!(age(3, clock), 3);
        assert_eq!(age(u32::MAX, clock), 0);
        assert_eq!(age(1 << 31, clock), 1 << 31);
    }

    #[test]
    fn tcp_transitions() {
        let a = advance(0, SYN, true, false);
        assert_eq!(a, seen::ANY | seen::SYN);
        assert_eq!(advance(a, ACK, true, true), a | seen::ANSWERED);
        assert_eq!(advance(a, RST, true, false), a | seen::RST);
        assert_eq!(advance(a | seen::RST, ACK, true, false), a, "a forged reset is taken back");
        assert_eq!(advance(a, FIN | ACK, true, false), a | seen::FIN);
    }
}
