//! The packet pipeline: `parse → essentials → conntrack → classify → verdict`.
//!
//! Pure stages over two traits, [`packet::Packet`] (bytes) and
//! [`tables::Tables`] (lookups): the same code runs in tests on the host, at
//! XDP and at TC. Everything after parsing is side-blind: a packet has a
//! local and a remote end, and a direction as the instance sees it.
//!
//! # Layout
//! - [`packet`], [`tables`]: what a stage may ask
//! - [`fast`](mod@fast): the short way of plain packets
//! - [`parse`]: bytes to fields, or a reason
//! - [`essentials`]: what stands before any rule
//! - [`fragments`]: later fragments follow their first
//! - [`conntrack`][]: flows
//! - [`classify`]: classes and matrix to a rule
//! - [`verdict`]: the decision; [`tell`]: who wants to hear of it
#![no_std]

pub mod classify;
pub mod conntrack;
pub mod essentials;
pub mod fast;
pub mod fragments;
pub mod packet;
pub mod parse;
pub mod proto;
pub mod tables;
pub mod tell;
pub mod verdict;

use conntrack::{Clock, Packet as FlowPacket, observes, related, track};
use parse::{Fragment, Kind, Parsed};
use sg_common::{
    addr::Addr,
    flow::{Direction, FlowKey, FlowKey4, FlowKeys, FragKey},
    generation::{Generation, NO_POLICY, flags},
    reason::{Reason, Verdict},
};
use verdict::Decision;

/// What the stages of one packet hand to each other. A kernel program has 512
/// bytes of stack, so this lies in a per-CPU map; and what is read back from
/// there carries no history that the verifier would have to follow.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// When the packet was seen.
    pub clock: Clock,
    /// Number of the [`Direction`].
    pub direction: u32,
    /// Counter id of the rule that decided; 0 for none.
    pub rule: u32,
    /// Number of the [`Verdict`].
    pub verdict: u8,
    /// Number of the [`Reason`].
    pub reason: u8,
    /// Parsed fields.
    pub parsed: Parsed,
    /// The packet's flow as the instance sees it; zero when parsing failed.
    pub keys: FlowKeys,
    quoted: FlowKeys,
    fragment: FragKey,
}

const NO_KEY: FlowKey = FlowKey {
    zone: 0,
    vlan_proto: 0,
    local: Addr::UNSPECIFIED,
    remote: Addr::UNSPECIFIED,
    local_port: 0,
    remote_port: 0,
};
const NO_KEY4: FlowKey4 =
    FlowKey4 { zone: 0, vlan_proto: 0, local: [0; 4], remote: [0; 4], local_port: 0, remote_port: 0 };
const NO_KEYS: FlowKeys = FlowKeys { full: NO_KEY, short: NO_KEY4, v4: 0 };

impl Default for Scratch {
    fn default() -> Self {
        let fragment = FragKey {
            zone: 0,
            vlan_proto: 0,
            local: Addr::UNSPECIFIED,
            remote: Addr::UNSPECIFIED,
            id: 0,
            direction: 0,
        };
        Self {
            clock: Clock { now: 0, hz: 250 },
            direction: 0,
            rule: 0,
            verdict: 0,
            reason: 0,
            parsed: Parsed::empty(),
            keys: NO_KEYS,
            quoted: NO_KEYS,
            fragment,
        }
    }
}

impl Scratch {
    /// Readies it for a packet.
    #[inline(always)]
    pub fn begin(&mut self, clock: Clock, direction: Direction) {
        self.clock = clock;
        self.direction = direction as u32;
    }

    /// The direction as the instance sees it.
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        Direction::from_u8(self.direction as u8)
    }

    /// What the last stage decided.
    #[inline(always)]
    pub fn decision(&self) -> Decision {
        Decision { verdict: Verdict::from_u8(self.verdict), reason: self.reason, rule: self.rule }
    }

    #[inline(always)]
    fn decide(&mut self, decision: Decision) {
        self.verdict = decision.verdict as u8;
        self.reason = decision.reason;
        self.rule = decision.rule;
    }

    #[inline(always)]
    fn drop(&mut self, reason: Reason) {
        self.decide(Decision::new(Verdict::Drop, reason, 0));
    }
}

/// The stages of one packet; each returns whether it decided. The program
/// has each as a function of its own, which the verifier checks once and
/// alone; on the host they are plain calls.
pub trait Stages {
    /// The short way, if the packet can take it.
    fn fast(&self, generation: &Generation, clock: Clock, direction: Direction) -> Option<Decision>;
    /// Bytes to fields and key.
    fn parse(&self, generation: &Generation, scratch: &mut Scratch) -> bool;
    /// What stands before conntrack and rules.
    fn essentials(&self, generation: &Generation, scratch: &mut Scratch) -> bool;
    /// Whether it is an error that quotes a packet, whose flow it names.
    fn quote(&self, scratch: &mut Scratch) -> bool;
    /// An error about the flow that was quoted.
    fn related(&self, generation: &Generation, scratch: &mut Scratch) -> bool;
    /// Flows and rules.
    fn track(&self, generation: &Generation, scratch: &mut Scratch);
    /// A later fragment.
    fn follow(&self, scratch: &mut Scratch);
    /// What happened to a first fragment.
    fn remember(&self, scratch: &mut Scratch);
}

/// Judges one packet of an interface, for which `scratch` has been readied.
#[inline(always)]
pub fn pipeline<S: Stages>(stages: &S, generation: &Generation, scratch: &mut Scratch) -> Decision {
    if !stages.parse(generation, scratch) && !stages.essentials(generation, scratch) {
        if generation.policy == NO_POLICY {
            scratch.drop(Reason::NoPolicy);
        } else if matches!(scratch.parsed.fragment, Fragment::Later) {
            stages.follow(scratch);
        } else {
            let error = scratch.parsed.is_icmp_error() && stages.quote(scratch);
            if !error || !stages.related(generation, scratch) {
                stages.track(generation, scratch);
            }
        }
    }
    if matches!(scratch.parsed.kind, Kind::Ip) && matches!(scratch.parsed.fragment, Fragment::First) {
        stages.remember(scratch);
    }
    observe(generation, scratch.clock, scratch.decision())
}

/// An interface that only observes passes what it would drop.
#[inline(always)]
fn observe(generation: &Generation, clock: Clock, decision: Decision) -> Decision {
    if observes(generation, clock) && !decision.is_accept() {
        return Decision::new(Verdict::Accept, Reason::Observed, decision.rule);
    }
    decision
}

/// The stages over any packet and any tables.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a, P, T> {
    /// The packet.
    pub packet: &'a P,
    /// The tables.
    pub tables: &'a T,
}

impl<P: packet::Packet, T: tables::Tables> Stages for Direct<'_, P, T> {
    #[inline(always)]
    fn fast(&self, generation: &Generation, clock: Clock, direction: Direction) -> Option<Decision> {
        match direction {
            Direction::Inbound => fast::fast::<true, P, T>(self.packet, self.tables, generation, clock),
            Direction::Outbound => fast::fast::<false, P, T>(self.packet, self.tables, generation, clock),
        }
    }

    #[inline(always)]
    fn parse(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
        if let Err(reason) = parse::parse(self.packet, generation.flags & flags::NO_L2 == 0, &mut scratch.parsed) {
            // Nothing of a packet that could not be read is remembered.
            scratch.parsed.fragment = Fragment::Whole;
            scratch.keys = NO_KEYS;
            scratch.drop(reason);
            return true;
        }
        let direction = scratch.direction();
        scratch.keys = FlowKeys::new(key_of(&scratch.parsed, generation, direction), scratch.parsed.v4);
        false
    }

    #[inline(always)]
    fn essentials(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
        let direction = scratch.direction();
        match essentials::essentials(self.packet, self.tables, generation, direction, &scratch.parsed) {
            Some((verdict, reason)) => {
                scratch.decide(Decision::new(verdict, reason, 0));
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn quote(&self, scratch: &mut Scratch) -> bool {
        let direction = scratch.direction();
        let Scratch { parsed, keys, quoted, .. } = scratch;
        matches!(parsed.fragment, Fragment::Whole)
            && related::quote(self.packet, &FlowPacket { parsed, direction, keys }, quoted)
    }

    #[inline(always)]
    fn related(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
        match related::related(self.tables, generation, scratch.clock, &scratch.quoted) {
            Some(decision) => {
                scratch.decide(decision);
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn track(&self, generation: &Generation, scratch: &mut Scratch) {
        let packet = FlowPacket { parsed: &scratch.parsed, direction: scratch.direction(), keys: &scratch.keys };
        let decision = track(self.tables, generation, scratch.clock, &packet);
        scratch.decide(decision);
    }

    #[inline(always)]
    fn follow(&self, scratch: &mut Scratch) {
        let direction = scratch.direction();
        let Scratch { parsed, keys, fragment, clock, .. } = scratch;
        let decision = fragments::follow(self.tables, *clock, &FlowPacket { parsed, direction, keys }, fragment);
        scratch.decide(decision);
    }

    #[inline(always)]
    fn remember(&self, scratch: &mut Scratch) {
        let (direction, decision) = (scratch.direction(), scratch.decision());
        let Scratch { parsed, keys, fragment, clock, .. } = scratch;
        fragments::remember(self.tables, *clock, &FlowPacket { parsed, direction, keys }, &decision, fragment);
    }
}

/// Normalises source and destination to local and remote.
#[inline(always)]
fn key_of(p: &Parsed, generation: &Generation, direction: Direction) -> FlowKey {
    let vlan_proto = (p.vlan << 8) | u32::from(p.protocol);
    match direction {
        Direction::Inbound => FlowKey {
            zone: generation.zone,
            vlan_proto,
            local: p.dst,
            remote: p.src,
            local_port: p.dst_port,
            remote_port: p.src_port,
        },
        Direction::Outbound => FlowKey {
            zone: generation.zone,
            vlan_proto,
            local: p.src,
            remote: p.dst,
            local_port: p.src_port,
            remote_port: p.dst_port,
        },
    }
}
