//! Flows: who belongs to which, which are new, and what a policy change does
//! to those that live.

pub mod related;
pub mod state;

use sg_common::{
    flow::{BY_HAND, Cell, Direction, Flow, FlowKeys, place, seen},
    generation::{Generation, flags, on_change},
    limits,
    reason::{Reason, Verdict},
};

use crate::{
    classify::{Query, query},
    parse::Parsed,
    proto,
    tables::{FlowTable, Tables},
    verdict::Decision,
};

/// The clock of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Jiffies, wrapping.
    pub now: u32,
    /// Jiffies a second.
    pub hz: u32,
}

/// A packet of a flow, normalised to local and remote.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Parsed fields.
    pub parsed: &'a Parsed,
    /// As the instance sees it.
    pub direction: Direction,
    /// The flow's key.
    pub keys: &'a FlowKeys,
}

impl Packet<'_> {
    #[inline(always)]
    fn is_tcp(&self) -> bool {
        self.parsed.protocol == proto::TCP
    }
    #[inline(always)]
    fn has(&self, flags: u8) -> bool {
        self.is_tcp() && self.parsed.tcp_flags & flags == flags
    }
    #[inline(always)]
    fn is_pure_syn(&self) -> bool {
        self.is_tcp() && self.parsed.tcp_flags & (proto::SYN | proto::ACK | proto::RST | proto::FIN) == proto::SYN
    }
}

/// Judges a packet by its flow, or as the first of a new one.
#[inline(always)]
pub fn track<T: Tables>(tables: &T, generation: &Generation, clock: Clock, packet: &Packet<'_>) -> Decision {
    let p = packet.parsed;
    // Nothing but echo has an identifier that could name a flow.
    let flow = if p.is_icmp() && !p.is_echo() { None } else { tables.flow(packet.keys) };
    if let Some(flow) = flow {
        if state::is_expired(flow, p.protocol, clock) {
            // Its successor must not stand behind it.
            tables.remove(FlowTable::Main, packet.keys);
            tables.remove(FlowTable::Churn(Direction::Inbound), packet.keys);
            tables.remove(FlowTable::Churn(Direction::Outbound), packet.keys);
            tables.remove(FlowTable::Probation, packet.keys);
            return first(tables, generation, clock, packet);
        }
        let origin = Direction::from_u8(flow.origin.get());
        let forward = packet.direction as u8 == origin as u8;
        if p.is_icmp() && p.is_echo_request() != forward {
            // A request is no reply, whatever its identifier.
            return judge(tables, generation, packet.keys, packet.direction);
        }
        let dead = flow.verdict.get() == Verdict::Drop as u8 || state::is_closing(flow);
        if packet.is_pure_syn() && (dead || !forward) {
            let decision = judge_new(tables, generation, packet.keys, packet.direction);
            if decision.is_accept() && dead {
                if flow.place == place::MAIN {
                    renew(flow, generation, clock, packet, decision.rule);
                } else {
                    // It may lie in another table than the new one will.
                    tables.remove(FlowTable::Churn(packet.direction.reverse()), packet.keys);
                    tables.remove(FlowTable::Probation, packet.keys);
                    let flow = new_flow(generation, clock, packet, packet.direction, decision.rule);
                    tables.insert(FlowTable::Churn(packet.direction), packet.keys, &flow);
                }
            }
            return decision;
        }
        return follow(tables, generation, clock, packet, flow, origin);
    }
    first(tables, generation, clock, packet)
}

/// A packet of a live flow.
#[inline(always)]
fn follow<T: Tables>(
    tables: &T,
    generation: &Generation,
    clock: Clock,
    packet: &Packet<'_>,
    flow: &Flow,
    mut origin: Direction,
) -> Decision {
    if flow.epoch.get() != generation.epoch {
        rejudge(tables, generation, clock, packet.keys, flow, origin);
    }
    if observes(generation, clock)
        && flow.verdict.get() == Verdict::Drop as u8
        && turns(tables, generation, packet, flow, origin)
    {
        origin = packet.direction;
    }
    let rule = flow.rule.get();
    let side = packet.direction as usize & 1;
    if flow.verdict.get() == Verdict::Drop as u8 {
        state::touch(flow, side, clock);
        return Decision::new(Verdict::Drop, Reason::Cut, rule);
    }
    let reset = packet.has(proto::RST);
    if reset && !state::believes_reset(flow, side, packet.parsed.seq, clock) {
        // Its receiver will not believe it either, and judges it itself.
        return Decision::new(Verdict::Accept, Reason::Established, rule);
    }
    state::touch(flow, side, clock);
    if packet.has(proto::ACK) && !reset {
        state::acknowledge(flow, side, packet.parsed.ack);
        state::survive_reset(flow, side);
    }
    let (own, other) = (flow.seen[side].get(), flow.seen[side ^ 1].get());
    let answered = state::is_answer(own, other, packet.parsed.tcp_flags, packet.is_tcp());
    let bits = state::advance(own, packet.parsed.tcp_flags, packet.is_tcp(), answered);
    if bits != flow.seen[side].get() {
        flow.seen[side].set(bits);
    }
    if flow.place != place::MAIN && side == origin as usize && answered {
        confirm(tables, generation, packet, flow, origin);
    }
    Decision::new(Verdict::Accept, Reason::Established, rule)
}

/// Whether the interface only observes, see [`flags::OBSERVE`].
#[inline(always)]
pub const fn observes(generation: &Generation, clock: Clock) -> bool {
    generation.flags & flags::OBSERVE != 0 && generation.observes_at(clock.now)
}

/// While the interface observes: whether a flow that would be denied is admitted
/// from its other end. The first packet seen of a connection that was there before
/// need not be its initiator's, so the rules may admit it either way; a SYN or an
/// echo request says who began, and settles it.
#[inline(always)]
fn turns<T: Tables>(tables: &T, generation: &Generation, packet: &Packet<'_>, flow: &Flow, origin: Direction) -> bool {
    let begun = (flow.seen[0].get() | flow.seen[1].get()) & seen::SYN != 0 || packet.has(proto::SYN);
    if begun || packet.parsed.is_icmp() || packet.direction as u8 == origin as u8 {
        return false;
    }
    let decision = judge(tables, generation, packet.keys, packet.direction);
    if !decision.is_accept() {
        return false;
    }
    flow.origin.set(packet.direction as u8);
    flow.rule.set(decision.rule);
    flow.verdict.set(Verdict::Accept as u8);
    true
}

/// Puts an unconfirmed flow into the main table, if that has room and the flow's
/// interface and remote have not used up theirs. If not, it is served where it is.
#[inline(always)]
fn confirm<T: Tables>(tables: &T, generation: &Generation, packet: &Packet<'_>, flow: &Flow, origin: Direction) {
    let mut confirmed = flow.clone();
    confirmed.place = place::MAIN;
    if tables.confirm(generation, packet.keys, &confirmed) {
        let from = if flow.place == place::CHURN { FlowTable::Churn(origin) } else { FlowTable::Probation };
        tables.remove(from, packet.keys);
    }
}

/// Judges a flow once under a new epoch, in its original direction.
#[inline(always)]
pub fn rejudge<T: Tables>(
    tables: &T,
    generation: &Generation,
    clock: Clock,
    keys: &FlowKeys,
    flow: &Flow,
    origin: Direction,
) {
    if flow.rule.get() == BY_HAND && flow.verdict.get() == Verdict::Drop as u8 {
        flow.epoch.set(generation.epoch);
        return;
    }
    let decision = judge(tables, generation, keys, origin);
    if !decision.is_accept() && flow.verdict.get() == Verdict::Accept as u8 {
        if generation.on_change == on_change::KEEP {
            flow.epoch.set(generation.epoch);
            return;
        }
        if generation.drains_at(clock.now) {
            return;
        }
    }
    flow.rule.set(decision.rule);
    flow.verdict.set(decision.verdict as u8);
    flow.epoch.set(generation.epoch);
}

/// A packet without a flow.
#[inline(always)]
fn first<T: Tables>(tables: &T, generation: &Generation, clock: Clock, packet: &Packet<'_>) -> Decision {
    let observes = observes(generation, clock);
    let mut origin = packet.direction;
    if packet.has(proto::SYN | proto::ACK) {
        // Nobody answers a SYN that was never let out; but one that came in
        // before we looked may be answered, if the rules would admit it.
        if matches!(packet.direction, Direction::Inbound) && !observes {
            return Decision::new(Verdict::Drop, Reason::NoFlow, 0);
        }
        origin = packet.direction.reverse();
    }
    let decision = judge_new(tables, generation, packet.keys, origin);
    if !decision.is_accept() && !observes {
        return decision;
    }
    let p = packet.parsed;
    let stateless = packet.has(proto::RST) || (p.is_icmp() && !p.is_echo_request());
    if !stateless {
        let mut flow = new_flow(generation, clock, packet, origin, decision.rule);
        if !decision.is_accept() {
            // It passes while we observe, is listed, and is cut once we enforce.
            flow.verdict = Cell::new(Verdict::Drop as u8);
            if !packet.has(proto::SYN) {
                // Its origin may turn, and the other tables are by origin.
                flow.place = place::PROBATION;
            }
        }
        let table = if flow.place == place::CHURN { FlowTable::Churn(origin) } else { FlowTable::Probation };
        tables.insert(table, packet.keys, &flow);
    }
    decision
}

#[inline(always)]
fn new_flow(generation: &Generation, clock: Clock, packet: &Packet<'_>, origin: Direction, rule: u32) -> Flow {
    let timeout = match packet.parsed.protocol {
        proto::TCP => generation.tcp_established,
        proto::UDP => generation.udp,
        proto::ICMP | proto::ICMPV6 => limits::TIMEOUT_ICMP,
        _ => limits::TIMEOUT_OTHER,
    };
    let bits = state::advance(0, packet.parsed.tcp_flags, packet.is_tcp(), false);
    let inbound = matches!(packet.direction, Direction::Inbound);
    let ack = if packet.has(proto::ACK) { state::known(packet.parsed.ack) } else { 0 };
    Flow {
        last: [Cell::new(clock.now), Cell::new(clock.now)],
        ack: [Cell::new(if inbound { ack } else { 0 }), Cell::new(if inbound { 0 } else { ack })],
        epoch: Cell::new(generation.epoch),
        rule: Cell::new(rule),
        timeout,
        seen: [Cell::new(if inbound { bits } else { 0 }), Cell::new(if inbound { 0 } else { bits })],
        origin: Cell::new(origin as u8),
        verdict: Cell::new(Verdict::Accept as u8),
        timeout_closed: generation.tcp_closed,
        // A segment in the midst of a connection is no SYN of a flood.
        place: if packet.is_tcp() && !packet.has(proto::SYN) { place::PROBATION } else { place::CHURN },
    }
}

/// Starts an entry anew in place: a SYN was accepted on a closed or cut flow.
#[inline(always)]
fn renew(flow: &Flow, generation: &Generation, clock: Clock, packet: &Packet<'_>, rule: u32) {
    let side = packet.direction as usize & 1;
    flow.seen[side ^ 1].set(0);
    flow.seen[side].set(seen::ANY | seen::SYN);
    // Numbers of the connection before.
    flow.ack[0].set(0);
    flow.ack[1].set(0);
    flow.last[0].set(clock.now);
    flow.last[1].set(clock.now);
    flow.rule.set(rule);
    flow.origin.set(packet.direction as u8);
    flow.epoch.set(generation.epoch);
    flow.verdict.set(Verdict::Accept as u8);
}

/// Asks the policy about what begins, and the candidate.
#[inline(always)]
fn judge_new<T: Tables>(tables: &T, generation: &Generation, keys: &FlowKeys, origin: Direction) -> Decision {
    let query = query(keys, origin);
    let decision = decide(tables, generation, &query);
    if generation.flags & flags::SHADOW != 0 {
        tables.shadow(generation, &query, &decision);
    }
    decision
}

/// Asks the policy.
#[inline(always)]
fn judge<T: Tables>(tables: &T, generation: &Generation, keys: &FlowKeys, origin: Direction) -> Decision {
    decide(tables, generation, &query(keys, origin))
}

#[inline(always)]
fn decide<T: Tables>(tables: &T, generation: &Generation, query: &Query) -> Decision {
    match tables.decide(generation, query) {
        Some(row) => Decision::from_row(row),
        None => Decision::new(Verdict::Drop, Reason::TableMissing, 0),
    }
}
