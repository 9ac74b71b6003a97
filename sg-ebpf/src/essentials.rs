//! Traffic that keeps a machine on the network whatever the rules say, and
//! what a guest must never send: addresses of others, and what only a router
//! or a DHCP server sends.

use sg_common::{
    addr::Addr,
    flow::Direction,
    generation::{Generation, OwnKey, flags},
    reason::{Reason, Verdict},
};

use crate::{
    packet::Packet,
    parse::{Fragment, Kind, Parsed, ip::addr_of},
    proto,
    tables::Tables,
};

const ZERO_V4: Addr = Addr::v4([0; 4]);
const BROADCAST: Addr = Addr::v4([255; 4]);

/// Judges a packet by everything that stands before conntrack and rules.
#[inline(always)]
pub fn essentials<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    generation: &Generation,
    direction: Direction,
    p: &Parsed,
) -> Option<(Verdict, Reason)> {
    let from_guest = generation.flags & flags::GUEST != 0 && matches!(direction, Direction::Outbound);
    if matches!(p.kind, Kind::Ip) && p.src == p.dst {
        return Some((Verdict::Drop, Reason::Land));
    }
    if from_guest {
        if generation.flags & flags::SOURCE_CHECK != 0 && spoofs(packet, tables, generation, p) {
            return Some((Verdict::Drop, Reason::Spoofed));
        }
        if matches!(p.kind, Kind::Ip) && is_rogue(p) {
            return Some((Verdict::Drop, Reason::Rogue));
        }
    }
    let off = generation.flags & flags::NO_ESSENTIALS != 0;
    match p.kind {
        Kind::Arp if off => Some((Verdict::Drop, Reason::Default)),
        Kind::Arp => Some((Verdict::Accept, Reason::Essential)),
        Kind::Other if generation.flags & flags::ETHERTYPE_PASS != 0 => Some((Verdict::Accept, Reason::Ethertype)),
        Kind::Other => Some((Verdict::Drop, Reason::Ethertype)),
        Kind::Ip if !off && matches!(p.fragment, Fragment::Whole) && is_essential(p, direction) => {
            Some((Verdict::Accept, Reason::Essential))
        }
        Kind::Ip => None,
    }
}

/// Neighbours, multicast membership, address leases; each with the hop limit
/// that proves it came from the link.
#[inline(always)]
fn is_essential(p: &Parsed, direction: Direction) -> bool {
    let out = matches!(direction, Direction::Outbound);
    let local = if out { &p.src } else { &p.dst };
    match p.protocol {
        proto::ICMPV6 if !p.v4 => match p.icmp_type {
            proto::ND_RS => out && p.ttl == 255 && p.icmp_code == 0,
            proto::ND_NS | proto::ND_NA => p.ttl == 255 && p.icmp_code == 0,
            proto::ND_RA | proto::ND_REDIRECT => !out && p.ttl == 255 && p.icmp_code == 0,
            proto::MLD_QUERY => !out && p.ttl == 1 && p.src.is_link_local_v6(),
            proto::MLD_REPORT | proto::MLD_DONE | proto::MLD2_REPORT => out && p.ttl == 1 && p.src.is_link_local_v6(),
            _ => false,
        },
        proto::IGMP if p.v4 && p.ttl == 1 => match p.icmp_type {
            0x11 => !out,
            0x12 | 0x16 | 0x17 | 0x22 => out,
            _ => false,
        },
        proto::UDP if p.v4 && out => {
            p.src_port == 68 && p.dst_port == 67 && (p.dst == BROADCAST || p.dst.is_private(true))
        }
        proto::UDP if p.v4 => p.src_port == 67 && p.dst_port == 68,
        proto::UDP => {
            let ports = if out { (546, 547) } else { (547, 546) };
            (p.src_port, p.dst_port) == ports && local.is_link_local_v6()
        }
        _ => false,
    }
}

/// Router advertisements, redirects and DHCP-server packets.
#[inline(always)]
fn is_rogue(p: &Parsed) -> bool {
    if matches!(p.fragment, Fragment::Later) {
        return false;
    }
    match p.protocol {
        proto::ICMPV6 if !p.v4 => matches!(p.icmp_type, proto::ND_RA | proto::ND_REDIRECT),
        proto::ICMP if p.v4 => matches!(p.icmp_type, proto::ICMP_REDIRECT | proto::ICMP_ROUTER_ADVERT),
        proto::UDP if p.v4 => p.src_port == 67 && p.dst_port == 68,
        proto::UDP => p.src_port == 547 && p.dst_port == 546,
        _ => false,
    }
}

#[inline(always)]
fn spoofs<P: Packet, T: Tables>(packet: &P, tables: &T, generation: &Generation, p: &Parsed) -> bool {
    if generation.flags & flags::MAC_KNOWN != 0 {
        let m = &generation.mac;
        let own =
            [u16::from_ne_bytes([m[0], m[1]]), u16::from_ne_bytes([m[2], m[3]]), u16::from_ne_bytes([m[4], m[5]])];
        if p.src_mac != own {
            return true;
        }
    }
    let owns = |addr: &Addr| tables.owns(&OwnKey { zone: generation.zone, addr: *addr });
    match p.kind {
        // An ARP probe asks with sender 0.0.0.0.
        Kind::Arp => p.arp_mac != p.src_mac || !(p.src == ZERO_V4 || owns(&p.src)),
        Kind::Other => false,
        Kind::Ip if p.v4 => {
            let leasing = p.src == ZERO_V4
                && p.protocol == proto::UDP
                && matches!(p.fragment, Fragment::Whole)
                && (p.src_port, p.dst_port) == (68, 67);
            !leasing && !owns(&p.src)
        }
        Kind::Ip => {
            let nd = p.protocol == proto::ICMPV6 && !matches!(p.fragment, Fragment::Later);
            let unspecified = p.src == Addr::UNSPECIFIED;
            let source = if unspecified {
                // Duplicate address detection, and joining its multicast group.
                nd && matches!(p.icmp_type, proto::ND_NS | proto::ND_RS | proto::MLD2_REPORT | proto::MLD_REPORT)
            } else {
                p.src.is_link_local_v6() || owns(&p.src)
            };
            if !source {
                return true;
            }
            // An advertisement, and a probe from `::`, claim their target.
            let claims = nd && (p.icmp_type == proto::ND_NA || (p.icmp_type == proto::ND_NS && unspecified));
            if !claims {
                return false;
            }
            match packet.load::<[u32; 4]>(p.l4 + 8) {
                Some(target) if p.l4_len >= 24 => {
                    let target = addr_of(target);
                    !(target.is_link_local_v6() || owns(&target))
                }
                _ => true,
            }
        }
    }
}
