//! Builds the first packet of a flow, so that the real pipeline can be asked.

use std::net::IpAddr;

use crate::{model::Direction, reference::FlowQuery};

const ETHERNET: usize = 14;
/// What a probe from the unspecified address asks for.
const PROBED: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Hop limit that the protocol prescribes for this message, else 64.
fn hop_limit(q: &FlowQuery) -> u8 {
    match (q.protocol, q.local.is_ipv4(), q.icmp_type) {
        (58, false, 133..=137) => 255,
        (58, false, 130..=132 | 143) | (2, true, _) => 1,
        _ => 64,
    }
}

fn transport(q: &FlowQuery) -> Vec<u8> {
    let (source, destination) = q.ports();
    let mut bytes = Vec::new();
    match q.protocol {
        6 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        }
        17 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0, 8, 0, 0]);
        }
        // The target of a neighbour message is the sender itself; a probe from
        // `::` asks for a link-local address, which every guest may claim.
        58 if matches!(q.icmp_type, 133..=137) => {
            bytes.extend([q.icmp_type, q.icmp_code, 0, 0, 0, 0, 0, 0]);
            let sender = if q.direction == Direction::Outbound { q.local } else { q.remote };
            let target = if sender.is_unspecified() { PROBED } else { sender };
            bytes.extend(sg_common::addr::Addr::from(target).0);
        }
        1 | 2 | 58 => bytes.extend([q.icmp_type, q.icmp_code, 0, 0, 0x12, 0x34, 0, 1]),
        47 => bytes.extend([0, 0, 8, 0]),
        _ => bytes.extend([0; 8]),
    }
    bytes
}

/// An Ethernet frame with the first packet of a flow. `source_mac` is that of
/// its sender.
pub fn first_packet(q: &FlowQuery, source_mac: [u8; 6]) -> Vec<u8> {
    let body = transport(q);
    let (source, destination) = match q.direction {
        Direction::Inbound => (q.remote, q.local),
        Direction::Outbound => (q.local, q.remote),
    };
    let mut frame = Vec::with_capacity(ETHERNET + 40 + body.len());
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend(source_mac);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + body.len() as u16).to_be_bytes());
            frame.extend([0, 1, 0, 0, hop_limit(q), q.protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((body.len() as u16).to_be_bytes());
            frame.extend([q.protocol, hop_limit(q)]);
            for ip in [source, destination] {
                frame.extend(sg_common::addr::Addr::from(ip).0);
            }
        }
    }
    frame.extend(body);
    frame
}
