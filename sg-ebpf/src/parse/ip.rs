//! IPv4 with options, IPv6 with a bounded walk over extension headers.

use sg_common::{addr::Addr, limits::MAX_EXT_HEADERS, reason::Reason};

use super::{Fragment, Kind, Parsed, transport};
use crate::{packet::Packet, proto};

const MORE_FRAGMENTS_V4: u16 = 0x2000;
const OFFSET_V4: u16 = 0x1fff;
/// A datagram reassembles to at most this.
const MAX_DATAGRAM: u32 = 65_535;

/// Parses IPv4 at `offset`.
#[inline(always)]
pub fn parse_v4<P: Packet>(packet: &P, offset: u32, parsed: &mut Parsed) -> Result<(), Reason> {
    let h: [u32; 5] = packet.load(offset).ok_or(Reason::Truncated)?;
    let word = u32::from_be(h[0]);
    let header = ((word >> 24) & 0xf) * 4;
    if word >> 28 != 4 || header < 20 {
        return Err(Reason::IpHeader);
    }
    let left = packet.len().saturating_sub(offset);
    let mut total = word & 0xffff;
    if total == 0 && packet.is_super_packet() {
        total = left;
    }
    if total < header || total > left {
        return Err(Reason::IpLength);
    }
    parsed.kind = Kind::Ip;
    parsed.v4 = true;
    let word = u32::from_be(h[2]);
    parsed.ttl = (word >> 24) as u8;
    parsed.protocol = (word >> 16) as u8;
    parsed.src = Addr::v4(h[3].to_ne_bytes());
    parsed.dst = Addr::v4(h[4].to_ne_bytes());
    parsed.l4 = offset + header;
    parsed.l4_len = total - header;

    let word = u32::from_be(h[1]);
    let bits = word as u16;
    parsed.fragment_id = word >> 16;
    fragment(parsed, parsed.protocol, (bits & OFFSET_V4) << 3, bits & MORE_FRAGMENTS_V4 != 0)?;
    transport::parse(packet, parsed)
}

/// Parses IPv6 at `offset`.
#[inline(always)]
pub fn parse_v6<P: Packet>(packet: &P, offset: u32, parsed: &mut Parsed) -> Result<(), Reason> {
    let h: [u32; 10] = packet.load(offset).ok_or(Reason::Truncated)?;
    if u32::from_be(h[0]) >> 28 != 6 {
        return Err(Reason::IpHeader);
    }
    let left = packet.len().saturating_sub(offset + 40);
    let word = u32::from_be(h[1]);
    let mut payload = word >> 16;
    if payload == 0 && packet.is_super_packet() {
        payload = left;
    }
    if packet.len() < offset + 40 || payload > left {
        return Err(Reason::IpLength);
    }
    // An IPv4 address in IPv6 clothes never belongs on the wire (RFC 4291, 2.5.5.2;
    // RFC 6052 uses others), and would pass for the IPv4 one in our tables.
    let mapped = u32::from_be(0xffff);
    if (h[2] | h[3] == 0 && h[4] == mapped) || (h[6] | h[7] == 0 && h[8] == mapped) {
        return Err(Reason::Malformed);
    }
    parsed.kind = Kind::Ip;
    parsed.v4 = false;
    parsed.ttl = word as u8;
    parsed.src = addr_of([h[2], h[3], h[4], h[5]]);
    parsed.dst = addr_of([h[6], h[7], h[8], h[9]]);
    parsed.l4 = offset + 40;
    parsed.l4_len = payload;
    extensions(packet, parsed, (word >> 8) as u8)?;
    transport::parse(packet, parsed)
}

/// Four words of the packet to an address.
#[inline(always)]
pub fn addr_of(words: [u32; 4]) -> Addr {
    // SAFETY: both are sixteen bytes of which every pattern is valid.
    Addr(unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) })
}

/// Whether a next-header value is a header to walk past.
#[inline(always)]
pub(crate) const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        proto::EXT_HOP
            | proto::EXT_ROUTING
            | proto::EXT_FRAGMENT
            | proto::EXT_AUTH
            | proto::EXT_DEST
            | proto::EXT_MOBILITY
            | proto::EXT_HIP
            | proto::EXT_SHIM6
    )
}

/// Moves `l4` past the extension headers; stops at a later fragment.
#[inline(always)]
fn extensions<P: Packet>(packet: &P, parsed: &mut Parsed, first: u8) -> Result<(), Reason> {
    let mut next = first;
    let mut fragmented = false;
    let mut i = 0;
    while i < MAX_EXT_HEADERS {
        i += 1;
        if !is_extension(next) {
            break;
        }
        if parsed.l4_len < 8 {
            return Err(Reason::ExtensionHeader);
        }
        let h: [u32; 2] = packet.load(parsed.l4).ok_or(Reason::Truncated)?;
        let word = u32::from_be(h[0]);
        let length = match next {
            proto::EXT_FRAGMENT => 8,
            proto::EXT_AUTH => (((word >> 16) & 0xff) + 2) * 4,
            _ => (((word >> 16) & 0xff) + 1) * 8,
        };
        if length > parsed.l4_len {
            return Err(Reason::ExtensionHeader);
        }
        parsed.l4 += length;
        parsed.l4_len -= length;
        if next == proto::EXT_FRAGMENT {
            if fragmented {
                return Err(Reason::ExtensionHeader);
            }
            fragmented = true;
            parsed.fragment_id = u32::from_be(h[1]);
            let bits = word as u16;
            next = (word >> 24) as u8;
            fragment(parsed, next, bits & 0xfff8, bits & 1 != 0)?;
            if matches!(parsed.fragment, Fragment::Later) {
                break;
            }
        } else {
            next = (word >> 24) as u8;
        }
    }
    if is_extension(next) && !matches!(parsed.fragment, Fragment::Later) {
        return Err(Reason::ExtensionDepth);
    }
    parsed.protocol = next;
    Ok(())
}

#[inline(always)]
fn fragment(parsed: &mut Parsed, protocol: u8, offset: u16, more: bool) -> Result<(), Reason> {
    parsed.fragment_protocol = protocol;
    parsed.fragment_base = parsed.l4;
    parsed.fragment_offset = offset;
    parsed.fragment = match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    if u32::from(offset) + parsed.l4_len > MAX_DATAGRAM && offset != 0 {
        return Err(Reason::IpLength);
    }
    Ok(())
}
