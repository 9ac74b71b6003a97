//! ICMP errors about a tracked flow.

use sg_common::{
    flow::{Direction, FlowKey, FlowKeys},
    generation::Generation,
    limits::MAX_EXT_HEADERS,
    reason::{Reason, Verdict},
};

use super::{Clock, Packet, rejudge, state};
use crate::{
    packet,
    parse::ip::{addr_of, is_extension},
    proto,
    tables::Tables,
    verdict::Decision,
};

/// Reads the key of the flow that an error is about into `keys`; false when
/// it quotes nothing that could be one.
#[inline(always)]
pub fn quote<B: packet::Packet>(bytes: &B, packet: &Packet<'_>, keys: &mut FlowKeys) -> bool {
    match quoted(bytes, packet) {
        Some(key) => {
            *keys = FlowKeys::new(key, packet.parsed.v4);
            true
        }
        None => false,
    }
}

/// Accepts an error that quotes a packet of an accepted flow: the quoted source
/// is the error's destination, so the quoted packet went the other way. It
/// never creates, refreshes or confirms a flow.
#[inline(always)]
pub fn related<T: Tables>(tables: &T, generation: &Generation, clock: Clock, keys: &FlowKeys) -> Option<Decision> {
    let flow = tables.flow(keys)?;
    if state::is_expired(flow, keys.full.protocol(), clock) {
        return None;
    }
    if flow.epoch.get() != generation.epoch {
        let origin = Direction::from_u8(flow.origin.get());
        rejudge(tables, generation, clock, keys, flow, origin);
    }
    if flow.verdict.get() != Verdict::Accept as u8 {
        return None;
    }
    Some(Decision::new(Verdict::Accept, Reason::Related, flow.rule.get()))
}

/// Key of the flow that the quoted packet belongs to.
#[inline(always)]
fn quoted<B: packet::Packet>(bytes: &B, packet: &Packet<'_>) -> Option<FlowKey> {
    let p = packet.parsed;
    let inner = p.l4 + 8;
    let (src, dst, protocol, header) = if p.v4 {
        let h: [u32; 5] = bytes.load(inner)?;
        let word = u32::from_be(h[0]);
        let header = ((word >> 24) & 0xf) * 4;
        // A later fragment quotes no ports.
        if word >> 28 != 4 || header < 20 || u32::from_be(h[1]) & 0x1fff != 0 {
            return None;
        }
        let protocol = (u32::from_be(h[2]) >> 16) as u8;
        (v4(h[3]), v4(h[4]), protocol, header)
    } else {
        let h: [u32; 10] = bytes.load(inner)?;
        if u32::from_be(h[0]) >> 28 != 6 {
            return None;
        }
        let (protocol, header) = past_extensions(bytes, inner, p.l4_len, (u32::from_be(h[1]) >> 8) as u8)?;
        (addr_of([h[2], h[3], h[4], h[5]]), addr_of([h[6], h[7], h[8], h[9]]), protocol, header)
    };
    if src != p.dst || p.l4_len < 8 + header {
        return None;
    }
    let (src_port, dst_port) = match protocol {
        proto::TCP | proto::UDP if p.l4_len >= 16 + header => {
            let ports = u32::from_be(load_at(bytes, inner + header)?);
            ((ports >> 16) as u16, ports as u16)
        }
        proto::ICMP | proto::ICMPV6 if p.l4_len >= 16 + header => {
            let h: [u32; 2] = load_at(bytes, inner + header)?;
            let kind = (u32::from_be(h[0]) >> 24) as u8;
            let echo = if p.v4 {
                matches!(kind, proto::ICMP_ECHO | proto::ICMP_ECHO_REPLY)
            } else {
                matches!(kind, proto::ICMP6_ECHO | proto::ICMP6_ECHO_REPLY)
            };
            if !echo {
                return None;
            }
            let id = (u32::from_be(h[1]) >> 16) as u16;
            (id, id)
        }
        proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6 => return None,
        _ => (0, 0),
    };
    // The error is inbound when the quoted packet went out from the instance.
    let outbound = matches!(packet.direction, Direction::Inbound);
    let (local, remote) = if outbound { (src, dst) } else { (dst, src) };
    let (local_port, remote_port) = if outbound { (src_port, dst_port) } else { (dst_port, src_port) };
    let vlan_proto = (packet.keys.full.vlan_proto & !0xff) | u32::from(protocol);
    Some(FlowKey { zone: packet.keys.full.zone, vlan_proto, local, remote, local_port, remote_port })
}

/// Loads at a sum that stays a sum: added to the packet one part after the
/// other, neither part would have the bound that the verifier wants.
#[inline(always)]
fn load_at<B: packet::Packet, T: packet::Plain>(bytes: &B, offset: u32) -> Option<T> {
    bytes.load(core::hint::black_box(offset))
}

/// Protocol and offset behind the quoted packet's extension headers; a later
/// fragment quotes no ports.
#[inline(always)]
fn past_extensions<B: packet::Packet>(bytes: &B, inner: u32, length: u32, first: u8) -> Option<(u8, u32)> {
    let (mut next, mut header) = (first, 40u32);
    let mut i = 0;
    while i < MAX_EXT_HEADERS {
        i += 1;
        if !is_extension(next) {
            break;
        }
        if length < 16 + header {
            return None;
        }
        let h: [u32; 2] = load_at(bytes, inner + header)?;
        let word = u32::from_be(h[0]);
        header += match next {
            proto::EXT_FRAGMENT if word & 0xfff8 != 0 => return None,
            proto::EXT_FRAGMENT => 8,
            proto::EXT_AUTH => (((word >> 16) & 0xff) + 2) * 4,
            _ => (((word >> 16) & 0xff) + 1) * 8,
        };
        next = (word >> 24) as u8;
    }
    if is_extension(next) { None } else { Some((next, header)) }
}

#[inline(always)]
fn v4(word: u32) -> sg_common::addr::Addr {
    sg_common::addr::Addr::v4(word.to_ne_bytes())
}
