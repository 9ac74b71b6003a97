//! The short way: a plain TCP or UDP packet of a confirmed flow, or a plain
//! one without any flow that the rules drop. What is not plain in every
//! respect (tags, options, fragments, extension headers, a SYN on a flow, an
//! older epoch, …) takes the long way, which would say the same of these.
//!
//! It is one function without calls, keys lie on the stack, and nothing is
//! written but what the packet changes.

use sg_common::{
    flow::{Direction, Flow, FlowKey, FlowKey4},
    generation::{Generation, NO_POLICY, OwnKey, flags},
    reason::{Reason, Verdict},
};

use crate::{
    classify::Query,
    conntrack::{Clock, state},
    packet::Packet,
    parse::ip::addr_of,
    proto,
    tables::{Tables, Without},
    verdict::Decision,
};
use sg_common::addr::Addr;

const ETHERNET: u32 = 14;
const IPV4: u32 = 20;
const IPV6: u32 = 40;

/// Transport of a plain packet.
#[derive(Clone, Copy)]
struct Plain {
    protocol: u8,
    /// TCP flags; 0 for UDP.
    flags: u8,
    /// Source and destination port, host order.
    ports: [u16; 2],
}

/// Judges a packet if it is a plain one; `None` asks for the pipeline.
#[inline(always)]
pub fn fast<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
    direction: Direction,
) -> Option<Decision> {
    if generation.flags & flags::NO_L2 != 0 || generation.policy == NO_POLICY || packet.metadata_vlan().is_some() {
        return None;
    }
    let ether_type: u16 = packet.linear(ETHERNET - 2)?;
    match u16::from_be(ether_type) {
        proto::ETH_IPV4 => v4(packet, tables, generation, clock, direction),
        proto::ETH_IPV6 => v6(packet, tables, generation, clock, direction),
        _ => None,
    }
}

#[inline(always)]
fn v4<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
    direction: Direction,
) -> Option<Decision> {
    let h: [u32; 5] = packet.linear(ETHERNET)?;
    let word = u32::from_be(h[0]);
    let total = word & 0xffff;
    // Version 4, no options, one piece, and all of it here.
    if word >> 24 != 0x45 || u32::from_be(h[1]) & 0x3fff != 0 || total < IPV4 {
        return None;
    }
    if total > packet.linear_len().wrapping_sub(ETHERNET) {
        return None;
    }
    let protocol = (u32::from_be(h[2]) >> 16) as u8;
    let plain = transport(packet, ETHERNET + IPV4, protocol, total - IPV4)?;
    let (local, remote) = match direction {
        Direction::Inbound => (h[4], h[3]),
        Direction::Outbound => (h[3], h[4]),
    };
    let (local_port, remote_port) = plain.ends(direction);
    let key = FlowKey4 {
        zone: generation.zone,
        vlan_proto: u32::from(protocol),
        local: local.to_ne_bytes(),
        remote: remote.to_ne_bytes(),
        local_port,
        remote_port,
    };
    match tables.confirmed4(&key) {
        Ok(flow) => {
            let source = || Addr::v4(h[3].to_ne_bytes());
            established(packet, tables, generation, clock, direction, plain, flow, source)
        }
        Err(Without::AnyFlow) if h[3] != h[4] => {
            let query = || query(direction, plain, true, Addr::v4(key.local), Addr::v4(key.remote));
            denied(tables, generation, direction, plain, query)
        }
        Err(_) => None,
    }
}

#[inline(always)]
fn v6<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
    direction: Direction,
) -> Option<Decision> {
    let h: [u32; 10] = packet.linear(ETHERNET)?;
    let word = u32::from_be(h[1]);
    let payload = word >> 16;
    if u32::from_be(h[0]) >> 28 != 6 || payload == 0 {
        return None;
    }
    if payload > packet.linear_len().wrapping_sub(ETHERNET + IPV6) || packet.linear_len() < ETHERNET + IPV6 {
        return None;
    }
    let protocol = (word >> 8) as u8;
    let plain = transport(packet, ETHERNET + IPV6, protocol, payload)?;
    let (src, dst) = (addr_of([h[2], h[3], h[4], h[5]]), addr_of([h[6], h[7], h[8], h[9]]));
    let (local, remote) = match direction {
        Direction::Inbound => (dst, src),
        Direction::Outbound => (src, dst),
    };
    let (local_port, remote_port) = plain.ends(direction);
    let key =
        FlowKey { zone: generation.zone, vlan_proto: u32::from(protocol), local, remote, local_port, remote_port };
    match tables.confirmed6(&key) {
        Ok(flow) => established(packet, tables, generation, clock, direction, plain, flow, || src),
        // An address that starts with zeroes may be a mapped one, which is malformed.
        Err(Without::AnyFlow) if h[2] != 0 && h[6] != 0 && src != dst => {
            denied(tables, generation, direction, plain, || query(direction, plain, false, key.local, key.remote))
        }
        Err(_) => None,
    }
}

impl Plain {
    /// Local and remote port.
    #[inline(always)]
    fn ends(self, direction: Direction) -> (u16, u16) {
        match direction {
            Direction::Inbound => (self.ports[1], self.ports[0]),
            Direction::Outbound => (self.ports[0], self.ports[1]),
        }
    }
}

/// TCP or UDP whose header is whole and makes sense.
#[inline(always)]
fn transport<P: Packet>(packet: &P, at: u32, protocol: u8, length: u32) -> Option<Plain> {
    match protocol {
        proto::TCP => {
            let h: [u32; 4] = packet.linear(at)?;
            let ports = u32::from_be(h[0]);
            let word = u32::from_be(h[3]);
            let header = (word >> 28) * 4;
            if header < 20 || header > length {
                return None;
            }
            let flags = ((word >> 16) & 0x3f) as u8;
            Some(Plain { protocol, flags, ports: [(ports >> 16) as u16, ports as u16] })
        }
        proto::UDP => {
            let h: [u32; 2] = packet.linear(at)?;
            let ports = u32::from_be(h[0]);
            let datagram = u32::from_be(h[1]) >> 16;
            if datagram < 8 || datagram > length {
                return None;
            }
            Some(Plain { protocol, flags: 0, ports: [(ports >> 16) as u16, ports as u16] })
        }
        _ => None,
    }
}

/// Data of a confirmed flow that was accepted under this very epoch.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined twice, by family")]
fn established<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
    direction: Direction,
    plain: Plain,
    flow: &Flow,
    source: impl FnOnce() -> Addr,
) -> Option<Decision> {
    let tcp = plain.protocol == proto::TCP;
    if tcp && plain.flags & (proto::SYN | proto::FIN | proto::RST | proto::ACK) != proto::ACK {
        return None;
    }
    if flow.epoch.get() != generation.epoch || flow.verdict.get() != Verdict::Accept as u8 {
        return None;
    }
    let side = direction as usize & 1;
    let (own, other) = (flow.seen[side].get(), flow.seen[side ^ 1].get());
    let answered = state::is_answer(own, other, plain.flags, tcp);
    if state::advance(own, plain.flags, tcp, answered) != own || (tcp && state::is_closing(flow)) {
        return None;
    }
    // No timeout is shorter than this; past it the exact one is asked.
    if state::idle(flow, clock) > state::SHORTEST * clock.hz {
        return None;
    }
    if generation.flags & flags::GUEST != 0 && matches!(direction, Direction::Outbound) {
        if generation.flags & flags::SOURCE_CHECK != 0 && !is_own(packet, tables, generation, source()) {
            return None;
        }
        // Only a server of leases sends these.
        if !tcp && matches!(plain.ports[1], 68 | 546) {
            return None;
        }
    }
    state::touch(flow, side, clock);
    Some(Decision::new(Verdict::Accept, Reason::Established, flow.rule.get()))
}

/// Whether a guest sends from an address and a MAC of its own.
#[inline(always)]
fn is_own<P: Packet, T: Tables>(packet: &P, tables: &T, generation: &Generation, source: Addr) -> bool {
    if generation.flags & flags::MAC_KNOWN != 0 {
        let Some(mac) = packet.linear::<[u16; 3]>(6) else { return false };
        let m = &generation.mac;
        let own =
            [u16::from_ne_bytes([m[0], m[1]]), u16::from_ne_bytes([m[2], m[3]]), u16::from_ne_bytes([m[4], m[5]])];
        if mac != own {
            return false;
        }
    }
    tables.owns(&OwnKey { zone: generation.zone, addr: source })
}

#[inline(always)]
fn query(direction: Direction, plain: Plain, v4: bool, local: Addr, remote: Addr) -> Query {
    Query {
        local,
        remote,
        source_port: plain.ports[0],
        destination_port: plain.ports[1],
        protocol: plain.protocol,
        direction: direction as u8,
        v4: v4 as u8,
        pad: 0,
    }
}

/// A packet that belongs to no flow at all: what the rules drop is dropped here.
#[inline(always)]
fn denied<T: Tables>(
    tables: &T,
    generation: &Generation,
    direction: Direction,
    plain: Plain,
    query: impl FnOnce() -> Query,
) -> Option<Decision> {
    let from_guest = generation.flags & flags::GUEST != 0 && matches!(direction, Direction::Outbound);
    if from_guest || generation.flags & flags::OBSERVE != 0 {
        return None;
    }
    let opens = match plain.protocol {
        proto::TCP => plain.flags & (proto::SYN | proto::FIN | proto::RST | proto::ACK) == proto::SYN,
        // Leases are essential.
        _ => !matches!(plain.ports[1], 67 | 68 | 546 | 547),
    };
    if !opens {
        return None;
    }
    let decision = Decision::from_row(tables.decide(generation, &query())?);
    (!decision.is_accept()).then_some(decision)
}
