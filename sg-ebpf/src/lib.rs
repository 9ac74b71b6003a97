//! The packet pipeline: `parse → essentials → conntrack → classify → verdict`.
//!
//! Pure stages over two traits, [`packet::Packet`] (bytes) and
//! [`tables::Tables`] (lookups): the same code runs in tests on the host, at
//! XDP and at TC. Everything after parsing is side-blind: a packet has a
//! local and a remote end, and a direction as the instance sees it.
//!
//! # Layout
//! - [`packet`], [`tables`]: what a stage may ask
//! - [`parse`]: bytes to fields, or a reason
//! - [`essentials`]: what stands before any rule
//! - [`fragments`]: later fragments follow their first
//! - [`conntrack`][]: flows
//! - [`classify`]: classes and matrix to a rule
//! - [`verdict`]: the decision
#![no_std]

pub mod classify;
pub mod conntrack;
pub mod essentials;
pub mod fragments;
pub mod packet;
pub mod parse;
pub mod proto;
pub mod tables;
pub mod verdict;

use conntrack::{Clock, Packet as FlowPacket, related, track};
use parse::{Fragment, Kind, Parsed};
use sg_common::{
    addr::Addr,
    flow::{Direction, FlowKey, FlowKey4, FlowKeys, FragKey},
    generation::{Generation, NO_POLICY, flags},
    reason::{Reason, Verdict},
};
use verdict::Decision;

/// Room for what one packet needs: a kernel program has 512 bytes of stack,
/// so this lies in a per-CPU map.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
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
        Self { parsed: Parsed::empty(), keys: NO_KEYS, quoted: NO_KEYS, fragment }
    }
}

/// Judges one packet of an interface.
#[inline(always)]
pub fn pipeline<P: packet::Packet, T: tables::Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    direction: Direction,
    clock: Clock,
    scratch: &mut Scratch,
) -> Decision {
    if let Err(reason) = parse::parse(packet, generation.flags & flags::NO_L2 == 0, &mut scratch.parsed) {
        scratch.keys = NO_KEYS;
        return observe(generation, Decision::new(Verdict::Drop, reason, 0));
    }
    let Scratch { parsed, keys, quoted, fragment } = forget(scratch);
    *keys = FlowKeys::new(key_of(parsed, generation, direction), parsed.v4);
    let flow_packet = FlowPacket { parsed, direction, keys };
    let decision = match essentials::essentials(packet, tables, generation, direction, parsed) {
        Some((verdict, reason)) => Decision::new(verdict, reason, 0),
        None if generation.policy == NO_POLICY => Decision::new(Verdict::Drop, Reason::NoPolicy, 0),
        None if matches!(parsed.fragment, Fragment::Later) => fragments::follow(tables, clock, &flow_packet, fragment),
        None => stateful(packet, tables, generation, clock, &flow_packet, quoted),
    };
    if matches!(parsed.kind, Kind::Ip) && matches!(parsed.fragment, Fragment::First) {
        fragments::remember(tables, clock, &flow_packet, &decision, fragment);
    }
    observe(generation, decision)
}

/// The end of a stage: what it left in memory is read anew. The verifier would
/// otherwise follow every path of one stage through all the later ones.
#[inline(always)]
fn forget<T>(value: &mut T) -> &mut T {
    core::hint::black_box(value)
}

/// An interface that only observes passes what it would drop.
#[inline(always)]
fn observe(generation: &Generation, decision: Decision) -> Decision {
    if generation.flags & flags::OBSERVE != 0 && !decision.is_accept() {
        return Decision::new(Verdict::Accept, Reason::Observed, decision.rule);
    }
    decision
}

#[inline(always)]
fn stateful<P: packet::Packet, T: tables::Tables>(
    bytes: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
    packet: &FlowPacket<'_>,
    quoted: &mut FlowKeys,
) -> Decision {
    let p = packet.parsed;
    if matches!(p.fragment, Fragment::Whole)
        && p.is_icmp_error()
        && let Some(decision) = related::related(bytes, tables, generation, clock, packet, quoted)
    {
        return decision;
    }
    track(tables, generation, clock, packet)
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
