//! ICMP errors that quote what they like: one passes only if it quotes a packet
//! of a live flow that went the other way, and it changes no flow.

use std::net::IpAddr;

use sg_common::{
    flow::Direction,
    reason::{Reason, Verdict},
};
use sg_ebpf::{Direct, Scratch, packet::Bytes, pipeline, verdict::Decision};

use super::{
    Input,
    flows::Flows,
    world::{SENDER, START, query, worlds},
};
use crate::{packet::first_packet, reference::FlowQuery};

const ETHERNET: usize = 14;
/// Flows from the instance, as [`query`] draws them: kind, remote, ports.
const LIVE: [(u8, u8, u8); 3] = [(0, 1, 0x57), (2, 1, 0x27), (3, 1, 0)];

fn judge(flows: &Flows, frame: &[u8], direction: Direction) -> Decision {
    let mut scratch = Scratch::default();
    scratch.begin(START, direction);
    let stages = Direct { packet: &Bytes::new(frame), tables: flows };
    pipeline(&stages, &flows.world().generation, &mut scratch)
}

/// An error of `router` to the sender of `quoted`, an IP packet.
fn error(v4: bool, kind: u8, code: u8, router: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let shape = FlowQuery {
        direction: Direction::Inbound,
        protocol: if v4 { 1 } else { 58 },
        local: to,
        remote: router,
        local_port: 0,
        remote_port: 0,
        icmp_type: kind,
        icmp_code: code,
    };
    let mut frame = first_packet(&shape, SENDER);
    frame.truncate(ETHERNET + if v4 { 20 } else { 40 });
    frame.extend([kind, code, 0, 0, 0, 0, 0, 0]);
    frame.extend(quoted);
    let payload = frame.len() - ETHERNET;
    let (at, length) = if v4 { (16, payload) } else { (18, payload - 40) };
    frame[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    frame
}

/// One error about one of the live flows, bent as the input says.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (how, kind, code, cut) = (input.byte(), input.byte(), input.byte(), input.byte());
    let v4 = how & 1 == 0;
    let flows = Flows::new(&worlds()[0]);
    let addresses = &flows.world().instances[0].addresses;
    let mut quotes = Vec::new();
    for (what, remote, ports) in LIVE {
        // Echo is another protocol in each family.
        let (what, ports) = if what == 3 && !v4 { (4, 2) } else { (what, ports) };
        let first = first_packet(&query(false, v4, what, addresses, remote, ports), SENDER);
        let opened = judge(&flows, &first, Direction::Outbound);
        assert_eq!(opened.verdict, Verdict::Accept);
        quotes.push(first[ETHERNET..].to_vec());
    }
    let mut quoted = quotes[(how >> 1) as usize % quotes.len()].clone();
    let whole = quoted.clone();
    while !input.is_empty() {
        let (at, value) = (input.byte() as usize, input.byte());
        match quoted.get_mut(at) {
            Some(byte) => *byte = value,
            // Extension headers, and whatever else may stand in front.
            None if at & 1 == 0 => quoted.insert(at % (quoted.len() + 1), value),
            None => quoted.push(value),
        }
    }
    quoted.truncate(quoted.len().saturating_sub(cut as usize));
    let bent = quoted != whole;
    let (router, to) = if v4 {
        (IpAddr::from([203, 0, 113, 9]), IpAddr::from([10, 0, 0, 5]))
    } else {
        (IpAddr::from([0x9000, 0, 0, 0, 0, 0, 0, 9]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 5]))
    };
    let (low, high) = if v4 { ([3, 11, 12], 12) } else { ([1, 2, 3], 4) };
    let kind = if kind < 16 { low[kind as usize % 3] } else { kind % (high + 1) };
    let decision = judge(&flows, &error(v4, kind, code, router, to, &quoted), Direction::Inbound);
    let related = decision.reason == Reason::Related as u8;
    if !bent && low.contains(&kind) {
        assert!(related, "an honest error of type {kind} is {decision:?}");
    }
    if related {
        assert!(quotes.iter().any(|q| is_of(&quoted, q, v4)), "{quoted:x?} is of no flow");
    }
}

/// Whether a quoted packet carries the addresses, and further back the ports, of a flow's packet.
fn is_of(quoted: &[u8], flow: &[u8], v4: bool) -> bool {
    let (addresses, base) = if v4 { (12..20, 20) } else { (8..40, 40) };
    if quoted.get(addresses.clone()) != Some(&flow[addresses]) {
        return false;
    }
    let ports = match (v4, flow[if v4 { 9 } else { 6 }]) {
        (_, 6 | 17) => &flow[base..base + 4],
        // The identifier.
        _ => &flow[base + 4..base + 6],
    };
    quoted[base..].windows(ports.len()).any(|w| w == ports)
}
