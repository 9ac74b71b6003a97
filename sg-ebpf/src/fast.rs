//! The short way: a plain TCP or UDP packet of a confirmed flow, or a plain
//! one without any flow that the rules drop. What is not plain in every
//! respect (tags, options, fragments, extension headers, a SYN on a flow, an
//! older epoch, …) takes the long way, which would say the same of these.
//!
//! It is one function without calls, keys lie on the stack, and nothing is
//! written but what the packet changes.

use core::mem::offset_of;

use sg_common::{
    addr::Addr,
    flow::{Direction, Flow, FlowKey, FlowKey4},
    generation::{Generation, NO_POLICY, OwnKey, flags},
    reason::{Reason, Verdict},
};

use crate::{
    classify::Query,
    conntrack::{Clock, state},
    packet::Packet,
    proto,
    tables::{Tables, Without},
    verdict::Decision,
};

const ETHERNET: u32 = 14;
const IPV4: u32 = 20;
const IPV6: u32 = 40;

/// Transport of a plain packet.
#[derive(Clone, Copy)]
struct Plain {
    protocol: u8,
    /// TCP flags; 0 for UDP.
    flags: u8,
    /// TCP acknowledgement number; 0 for UDP.
    ack: u32,
    /// Source and destination port, host order.
    ports: [u16; 2],
}

impl Plain {
    /// TCP that acknowledges is hardly ever the first of its flow.
    #[inline(always)]
    const fn is_likely_known(self) -> bool {
        self.flags & proto::ACK != 0
    }
}

/// Judges a packet if it is a plain one; `None` asks for the pipeline. The
/// direction is a constant, so that nothing has to be chosen by it.
#[inline(always)]
pub fn fast<const INBOUND: bool, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    clock: Clock,
) -> Option<Decision> {
    if generation.flags & flags::NO_L2 != 0 || generation.policy == NO_POLICY || packet.metadata_vlan().is_some() {
        return None;
    }
    let ether_type: u16 = packet.linear(ETHERNET - 2)?;
    let on = On { packet, tables, generation, clock, direction: direction::<INBOUND>() };
    match u16::from_be(ether_type) {
        proto::ETH_IPV4 => v4::<INBOUND, P, T>(&on),
        proto::ETH_IPV6 => v6::<INBOUND, P, T>(&on),
        _ => None,
    }
}

/// What every step of one packet looks at.
struct On<'a, P, T> {
    packet: &'a P,
    tables: &'a T,
    generation: &'a Generation,
    clock: Clock,
    direction: Direction,
}

#[inline(always)]
const fn direction<const INBOUND: bool>() -> Direction {
    if INBOUND { Direction::Inbound } else { Direction::Outbound }
}

/// Local and remote of what the packet has as source and destination.
#[inline(always)]
const fn ends<const INBOUND: bool, A: Copy>(source: A, destination: A) -> (A, A) {
    if INBOUND { (destination, source) } else { (source, destination) }
}

#[inline(always)]
fn v4<const INBOUND: bool, P: Packet, T: Tables>(on: &On<'_, P, T>) -> Option<Decision> {
    let h: [u32; 5] = on.packet.linear(ETHERNET)?;
    let word = u32::from_be(h[0]);
    let total = word & 0xffff;
    // Version 4, no options, one piece, and all of it here.
    if word >> 24 != 0x45 || u32::from_be(h[1]) & 0x3fff != 0 || total < IPV4 {
        return None;
    }
    if total > on.packet.linear_len().wrapping_sub(ETHERNET) {
        return None;
    }
    let protocol = (u32::from_be(h[2]) >> 16) as u8;
    let plain = transport(on.packet, ETHERNET + IPV4, protocol, total - IPV4)?;
    let (local, remote) = ends::<INBOUND, _>(h[3], h[4]);
    let (local_port, remote_port) = ends::<INBOUND, _>(plain.ports[0], plain.ports[1]);
    let key = FlowKey4 {
        zone: on.generation.zone,
        vlan_proto: u32::from(protocol),
        local: local.to_ne_bytes(),
        remote: remote.to_ne_bytes(),
        local_port,
        remote_port,
    };
    match on.tables.confirmed4(&key, plain.is_likely_known()) {
        Ok(flow) => established(on, plain, flow, || Addr::v4(h[3].to_ne_bytes())),
        Err(Without::AnyFlow) if h[3] != h[4] => {
            denied(on, plain, || query(on.direction, plain, true, Addr::v4(key.local), Addr::v4(key.remote)))
        }
        Err(_) => None,
    }
}

/// A [`FlowKey`], put together of double words.
#[repr(C)]
struct WideKey {
    head: [u32; 2],
    local: [u64; 2],
    remote: [u64; 2],
    ports: [u16; 2],
    behind: u32,
}

const _: () = {
    assert!(size_of::<WideKey>() >= size_of::<FlowKey>() && align_of::<WideKey>() >= align_of::<FlowKey>());
    assert!(offset_of!(WideKey, local) == offset_of!(FlowKey, local));
    assert!(offset_of!(WideKey, remote) == offset_of!(FlowKey, remote));
    assert!(offset_of!(WideKey, ports) == offset_of!(FlowKey, local_port));
};

impl WideKey {
    #[inline(always)]
    fn key(&self) -> &FlowKey {
        // SAFETY: as long and as aligned, and its fields lie at the same
        // offsets; of integers every bit pattern is valid.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

#[inline(always)]
fn v6<const INBOUND: bool, P: Packet, T: Tables>(on: &On<'_, P, T>) -> Option<Decision> {
    let addresses: [u64; 4] = on.packet.linear(ETHERNET + 8)?;
    let h: [u32; 2] = on.packet.linear(ETHERNET)?;
    let word = u32::from_be(h[1]);
    let payload = word >> 16;
    let left = on.packet.linear_len();
    if u32::from_be(h[0]) >> 28 != 6 || payload == 0 || left < ETHERNET + IPV6 || payload > left - ETHERNET - IPV6 {
        return None;
    }
    let protocol = (word >> 8) as u8;
    let plain = transport(on.packet, ETHERNET + IPV6, protocol, payload)?;
    let [s0, s1, d0, d1] = addresses;
    let (local, remote) = ends::<INBOUND, _>([s0, s1], [d0, d1]);
    let (local_port, remote_port) = ends::<INBOUND, _>(plain.ports[0], plain.ports[1]);
    let key = WideKey {
        head: [on.generation.zone, u32::from(protocol)],
        local,
        remote,
        ports: [local_port, remote_port],
        behind: 0,
    };
    match on.tables.confirmed6(key.key(), plain.is_likely_known()) {
        Ok(flow) => established(on, plain, flow, || addr_of64([s0, s1])),
        // An address that starts with zeroes may be a mapped one, which is malformed.
        Err(Without::AnyFlow) if s0 != 0 && d0 != 0 && (s0 != d0 || s1 != d1) => {
            denied(on, plain, || query(on.direction, plain, false, key.key().local, key.key().remote))
        }
        Err(_) => None,
    }
}

/// Two double words of the packet to an address.
#[inline(always)]
fn addr_of64(words: [u64; 2]) -> Addr {
    // SAFETY: both are sixteen bytes of which every pattern is valid.
    Addr(unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) })
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
            Some(Plain { protocol, flags, ack: u32::from_be(h[2]), ports: [(ports >> 16) as u16, ports as u16] })
        }
        proto::UDP => {
            let h: [u32; 2] = packet.linear(at)?;
            let ports = u32::from_be(h[0]);
            let datagram = u32::from_be(h[1]) >> 16;
            if datagram < 8 || datagram > length {
                return None;
            }
            Some(Plain { protocol, flags: 0, ack: 0, ports: [(ports >> 16) as u16, ports as u16] })
        }
        _ => None,
    }
}

/// Data of a confirmed flow that was accepted under this very epoch.
#[inline(always)]
fn established<P: Packet, T: Tables>(
    on: &On<'_, P, T>,
    plain: Plain,
    flow: &Flow,
    source: impl FnOnce() -> Addr,
) -> Option<Decision> {
    let On { packet, tables, generation, clock, direction } = *on;
    let tcp = plain.protocol == proto::TCP;
    if tcp && plain.flags & (proto::SYN | proto::FIN | proto::RST | proto::ACK) != proto::ACK {
        return None;
    }
    if flow.epoch.get() != generation.epoch || flow.verdict.get() != Verdict::Accept as u8 {
        return None;
    }
    if generation.flags & flags::ACCOUNT != 0 {
        return None;
    }
    let side = direction as usize & 1;
    let (own, other) = (flow.seen[side].get(), flow.seen[side ^ 1].get());
    let answered = state::is_answer(own, other, plain.flags, tcp);
    if state::advance(own, plain.flags, tcp, answered) != own || (tcp && state::is_closing(flow)) {
        return None;
    }
    // A moment ago is alive; no timeout is shorter than `SHORTEST`, past which the
    // exact one is asked.
    let fresh = state::is_fresh(flow, side, clock);
    if !fresh && state::idle(flow, clock) > state::SHORTEST * clock.hz {
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
    if !fresh {
        flow.last[side].set(clock.now);
    }
    if tcp {
        state::acknowledge(flow, side, plain.ack);
    }
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
fn denied<P, T: Tables>(on: &On<'_, P, T>, plain: Plain, query: impl FnOnce() -> Query) -> Option<Decision> {
    let On { tables, generation, direction, .. } = *on;
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
    let query = query();
    let decision = Decision::from_row(tables.decide(generation, &query)?);
    if decision.is_accept() {
        return None;
    }
    // Whoever is to hear of it hears more than the short way knows.
    if tables.tells(generation, &query, &decision) {
        return None;
    }
    if generation.flags & flags::SHADOW != 0 {
        tables.shadow(generation, &query, &decision);
    }
    Some(decision)
}
