//! Packets in any order, changes of policy and of time between them. Each is
//! judged twice, by the short way and by the pipeline, and what they say is held
//! against the evaluator of record and a plain set of accepted flows.

use std::sync::Arc;

use sg_common::{
    flow::Direction,
    generation::{Generation, flags},
    reason::{Reason, Verdict},
};
use sg_ebpf::{
    Direct, Scratch, Stages,
    conntrack::{Clock, observes},
    packet::Bytes,
    parse::{Fragment, Kind, Parsed},
    pipeline,
    verdict::Decision,
};

use super::{
    Input,
    flows::Flows,
    world::{SENDER, START, query, worlds},
};
use crate::{
    effective::Origin,
    packet::first_packet,
    reference::{FlowQuery, Reference},
};

const SYN: u8 = 2;
const ACK: u8 = 16;

/// One run: what happens is drawn from the input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut run = Run::new(input.byte());
    while !input.is_empty() {
        let op = input.byte();
        match op >> 5 {
            0 => run.clock.now = run.clock.now.wrapping_add(u32::from(input.half()) << (op & 7)),
            1 => run.change(op),
            2 => {
                let length = input.byte() as usize;
                run.packet(input.take(length), op & 1 == 0);
            }
            kind => {
                let (remote, ports, flags) = (input.byte(), input.byte(), input.byte());
                let addresses = run.flows.world().instances[0].addresses.clone();
                let (inbound, v4) = (op & 1 == 0, op & 2 == 0);
                let query = query(inbound, v4, op >> 2, &addresses, remote, ports);
                let mut frame = first_packet(&query, SENDER);
                if query.protocol == 6 {
                    frame[if v4 { 47 } else { 67 }] = flags;
                }
                // Some are not what they should be.
                for _ in 0..kind.saturating_sub(5) {
                    let (at, value) = (input.byte() as usize, input.byte());
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = value;
                    }
                }
                run.packet(&frame, inbound);
            }
        }
    }
}

struct Run {
    flows: Flows,
    generation: Generation,
    clock: Clock,
}

impl Run {
    fn new(first: u8) -> Self {
        let world = &worlds()[first as usize % worlds().len()];
        Self { flows: Flows::new(world), generation: world.generation, clock: START }
    }

    /// Another policy, or the same once more; flows are cut, kept or drained; some only observe.
    fn change(&mut self, how: u8) {
        let world = &worlds()[how as usize & 3];
        self.flows.change(world);
        let epoch = self.generation.epoch + 1;
        let drain_until = self.clock.now.wrapping_add(5 * self.clock.hz);
        let observe = if how & 16 != 0 { flags::OBSERVE } else { 0 };
        let flags = world.generation.flags | observe;
        self.generation = Generation {
            epoch,
            drain_until,
            observe_until: drain_until,
            on_change: (how >> 2 & 3) % 3,
            flags,
            ..world.generation
        };
    }

    fn packet(&mut self, frame: &[u8], inbound: bool) {
        let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
        let packet = Bytes::new(frame);
        let stages = Direct { packet: &packet, tables: &self.flows };
        let short = stages.fast(&self.generation, self.clock, direction);
        let mut scratch = Scratch::default();
        scratch.begin(self.clock, direction);
        let decision = pipeline(&stages, &self.generation, &mut scratch);
        if let Some(short) = short {
            assert_eq!(short, decision, "the short way says otherwise");
        }
        if decision.reason != 0 && scratch.parsed.kind == Kind::Ip && scratch.keys.full.zone != 0 {
            self.hold(&decision, &scratch, direction);
        }
    }

    /// What a decision about an IP packet promises.
    fn hold(&self, decision: &Decision, scratch: &Scratch, direction: Direction) {
        let reason = Reason::from_u8(decision.reason).expect("a reason");
        let (p, key, now) = (&scratch.parsed, scratch.keys.full, self.clock.now);
        let mut accepted = self.flows.accepted.borrow_mut();
        let later = p.fragment == Fragment::Later;
        match reason {
            Reason::Established | Reason::Cut => {
                let last = accepted.get(&key).unwrap_or_else(|| panic!("nothing of {key:?} was ever accepted"));
                // No timeout of these policies is longer.
                let longest = 910 * self.clock.hz;
                if reason == Reason::Established {
                    assert!(now.wrapping_sub(*last) <= longest, "{key:?} lives on long after its last packet");
                }
            }
            Reason::Related => {
                assert!(p.is_icmp_error() && !accepted.is_empty(), "{p:?}");
            }
            Reason::Fragment | Reason::FragmentUnseen | Reason::FragmentOverlap => assert!(later, "{p:?}"),
            Reason::Rule
            | Reason::Default
            | Reason::IntraGroup
            | Reason::Failsafe
            | Reason::Smtp
            | Reason::Provider
            | Reason::Essential
            | Reason::Land
            | Reason::Spoofed
            | Reason::Rogue
                if !later =>
            {
                self.as_the_reference(decision, reason, p, direction);
            }
            _ => {}
        }
        let belongs = decision.is_accept() && !matches!(reason, Reason::Related | Reason::Essential);
        // A packet of a flow that is cut keeps it, too: another policy may let it go on.
        if (belongs || reason == Reason::Cut) && !later {
            accepted.insert(key, now);
        }
    }

    fn as_the_reference(&self, decision: &Decision, reason: Reason, p: &Parsed, direction: Direction) {
        let world = self.flows.world();
        let answer = p.protocol == 6 && p.tcp_flags & (SYN | ACK) == SYN | ACK;
        let ports = matches!(p.protocol, 6 | 17);
        let ask = |direction: Direction, source_is_local: bool| {
            let (src, dst) = (std::net::IpAddr::from(p.src), std::net::IpAddr::from(p.dst));
            let pair = if ports { (p.src_port, p.dst_port) } else { (0, 0) };
            let (local, remote, local_port, remote_port) =
                if source_is_local { (src, dst, pair.0, pair.1) } else { (dst, src, pair.1, pair.0) };
            let (icmp_type, icmp_code) = (p.icmp_type, p.icmp_code);
            FlowQuery { direction, protocol: p.protocol, local, remote, local_port, remote_port, icmp_type, icmp_code }
        };
        let judge = |query: &FlowQuery| Reference::new(&world.model, &world.instances).judge(0, query);
        let outbound = direction == Direction::Outbound;
        let mut expected = judge(&ask(direction, outbound));
        let by_rules = !matches!(reason, Reason::Essential | Reason::Land | Reason::Spoofed | Reason::Rogue);
        if by_rules && answer && (outbound || observes(&self.generation, self.clock)) {
            // It answers a SYN that came before anyone looked.
            let first = ask(direction.reverse(), outbound);
            expected = judge(&first);
            if expected.reason == Reason::Spoofed && !outbound {
                // What it answers is not here to be checked; what the instance sends on it will be.
                let mut model = world.model.clone();
                model.interfaces.iter_mut().for_each(|i| Arc::make_mut(i).source_check = false);
                expected = Reference::new(&model, &world.instances).judge(0, &first);
            }
        }
        if expected.reason == Reason::Essential && by_rules {
            // The reference knows neither hop limits nor fragments.
            return;
        }
        if reason == Reason::Spoofed && p.protocol == 58 {
            // Nor what a neighbour message claims.
            return;
        }
        let verdict = if decision.is_accept() { Verdict::Accept } else { Verdict::Drop };
        assert_eq!((verdict, reason), (expected.verdict, expected.reason), "{p:?}");
        let origin = decision.rule.checked_sub(1).and_then(|i| world.origins.get(i as usize));
        if let Some(Origin::Rule(group, rule)) = origin {
            assert_eq!((Some(*group), Some(*rule)), (expected.group, expected.rule), "{p:?}");
        }
    }
}
