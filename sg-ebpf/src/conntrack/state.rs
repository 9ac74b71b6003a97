//! What state a flow is in, from what its two directions have shown.
//!
//! There is no state word that both directions would fight over: each records
//! what it has sent, and the state is a function of the two records.

use sg_common::{
    flow::{ACK_GRAIN, Flow, seen},
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
        // A connection that begins again on the same ports has closed nothing yet.
        if tcp_flags & (proto::SYN | proto::ACK) == proto::SYN {
            next &= !seen::FIN;
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

/// Seconds for which what a direction sent may still be on its way.
const IN_FLIGHT: u32 = 1;
/// Sequence numbers that may be on their way.
const WINDOW: u32 = 1 << 20;

/// A number that tells itself from none: 0 is kept as 1, which the grain covers.
#[inline(always)]
pub const fn known(ack: u32) -> u32 {
    if ack == 0 { 1 } else { ack }
}

/// Notes what a direction acknowledges; writes only when that has moved.
#[inline(always)]
pub fn acknowledge(flow: &Flow, side: usize, ack: u32) {
    let old = flow.ack[side & 1].get();
    if old == 0 || ack.wrapping_sub(old).wrapping_add(ACK_GRAIN) > 2 * ACK_GRAIN {
        flow.ack[side & 1].set(known(ack));
    }
}

/// Whether a RST ends the flow. Its receiver believes it only if it stands exactly
/// where the next byte is due (RFC 5961, 3.2), which is what that side last
/// acknowledged. A sender that is busy may be ahead by what is still on its way.
/// Missing a genuine one costs no more than that the entry lives for its timeout.
#[inline(always)]
pub fn believes_reset(flow: &Flow, side: usize, seq: u32, clock: Clock) -> bool {
    let due = flow.ack[(side & 1) ^ 1].get();
    // It answers a SYN: such a flow is half open, and forgotten soon. One that was
    // adopted in its midst has no number yet: nobody can tell a forged one there.
    if due == 0 {
        return flow.seen[(side & 1) ^ 1].get() & seen::ANSWERED == 0;
    }
    let silent = age(clock.now.wrapping_sub(flow.last[side & 1].get()), clock);
    let ahead = if silent <= IN_FLIGHT * clock.hz { WINDOW } else { ACK_GRAIN };
    seq.wrapping_sub(due).wrapping_add(ACK_GRAIN) <= ACK_GRAIN + ahead
}

/// Takes back the other side's RST: who sends on after it has not believed it.
/// The one place where a direction writes into the record of the other; what may
/// get lost in a race is what another packet of the flow shows again.
#[inline(always)]
pub fn survive_reset(flow: &Flow, side: usize) {
    let other = &flow.seen[(side & 1) ^ 1];
    if other.get() & seen::RST != 0 {
        other.set(other.get() & !seen::RST);
    }
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

/// Whether the daemon may delete the flow: it expired once more its timeout ago.
///
/// Its clock was read before the table was, perhaps long before if it was stopped
/// in between: what looks like the future is a packet since then, however far
/// ahead. So the flow has expired by the program's own clock, which is never behind.
#[inline(always)]
pub fn is_stale(flow: &Flow, protocol: u8, clock: Clock) -> bool {
    let passed = |side: usize| clock.now.wrapping_sub(flow.last[side].get()) as i32;
    let least = if passed(0) < passed(1) { passed(0) } else { passed(1) };
    let most = 2 * timeout(flow, protocol) * clock.hz;
    least > 0 && least as u32 > most
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
