//! What an established packet costs as the table of flows grows.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use anyhow::{Result, ensure};
use sg_common::{
    filter::{bit4, bit6},
    flow::{Cell, Flow, FlowKey, place, seen},
    generation::Generation,
};
use sg_userspace::{
    dataplane::{
        filter::Halves,
        object::FlowWords,
        probe::{Entry, Probe, record},
        shapes::Sizes,
    },
    model::Direction,
};

use crate::{
    Scale,
    figures::Curve,
    measure::{Contestant, progress, rounds},
    packets::enforcing,
    peers::{Hook, Peers, time},
    policy::{packet, with_flags},
};

const TCP: u8 = 6;
const ACK: u8 = 0x10;
/// Ten times what the table holds unless it is told otherwise.
const MOST: u32 = 10 * sg_common::limits::MAX_FLOWS;
/// The source in front of the program varies so many senders.
const SENDERS: u32 = 1 << 16;

/// A live flow of the device, just used.
pub fn entry(generation: &Generation, now: u32) -> FlowWords {
    let both = seen::ANY | seen::SYN | seen::ANSWERED;
    let flow = Flow {
        last: [Cell::new(now), Cell::new(now)],
        ack: [Cell::new(1), Cell::new(1)],
        epoch: Cell::new(generation.epoch),
        rule: Cell::new(0),
        timeout: generation.tcp_established,
        seen: [Cell::new(both), Cell::new(both)],
        origin: Cell::new(0),
        verdict: Cell::new(1),
        timeout_closed: generation.tcp_closed,
        place: place::MAIN,
    };
    // SAFETY: as many bytes, without padding; asserted in sg-common.
    unsafe { std::mem::transmute::<Flow, FlowWords>(flow) }
}

/// The flow of the measured packet's form that is number `i`: each sender has one before any has two.
fn key(v4: bool, i: u32) -> FlowKey {
    let low = i as u16;
    let (local, remote): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::new(10, 0, 0, 5).into(), Ipv4Addr::from(0xc000_0000 | u32::from(low)).into())
    } else {
        let of = |net, host| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host).into();
        (of(1, 5), of(0x99, low))
    };
    let remote_port = 40_000 + (i >> 16) as u16;
    let (local, remote) = (local.into(), remote.into());
    FlowKey { zone: record().zone, vlan_proto: u32::from(TCP), local, remote, local_port: 443, remote_port }
}

/// Puts flows into the table.
fn fill(probe: &mut Probe, v4: bool, numbers: Range<u32>) -> Result<()> {
    let value = entry(&record(), probe.now()?);
    let filter = Halves::open(probe.maps())?;
    let keys = numbers.map(|i| key(v4, i));
    let values = vec![value; keys.len()];
    if v4 {
        let keys: Vec<_> = keys.map(|k| k.to_v4()).inspect(|k| filter.add(bit4(k))).collect();
        probe.maps().flows4.update_batch(&keys, &values)?;
    } else {
        let keys: Vec<_> = keys.inspect(|k| filter.add(bit6(k))).collect();
        probe.maps().flows6.update_batch(&keys, &values)?;
    }
    Ok(())
}

/// An established packet over the flows in the table, all of one flow, and each of another.
pub fn growth(peers: &Peers, scale: &Scale, curves: &mut Vec<Curve>) -> Result<()> {
    let source = peers.program("bench_xdp_vary")?;
    for v4 in [true, false] {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let frame = with_flags(packet(v4, Direction::Inbound, TCP, 443), v4, ACK);
        let mut own = enforcing(Probe::load_sized(Sizes::of(MOST))?, 100, 0)?;
        let mut points = [const { Vec::new() }; 2];
        let mut there = 0;
        for count in scale.points(&[1, 10, 100, 1000, 10_000, 65_536, MOST]) {
            progress(&format!("{count} {family} flows"));
            fill(&mut own, v4, there..count)?;
            there = count;
            // As many senders as have a flow, by halving.
            let many = SENDERS.min((count + 1).next_power_of_two() / 2);
            let program = own.program(Entry::Xdp)?;
            let run = |senders| {
                peers.vary(Hook::Xdp, &frame, v4, senders, Some(program))?;
                time(source, &frame, scale.repeat / 2)
            };
            let samples = rounds(
                scale.few(9),
                &mut [Contestant::new("of one flow", || run(1)), Contestant::new("each of another flow", || run(many))],
            )?;
            for (points, samples) in points.iter_mut().zip(&samples) {
                points.push((f64::from(count), samples.median()));
            }
            let maps = own.maps();
            let begun = maps.churn4.iter().any(|m| !matches!(m.next_key(None), Ok(None)))
                || maps.churn6.iter().any(|m| !matches!(m.next_key(None), Ok(None)));
            ensure!(!begun, "packets of flows in the table began new ones");
        }
        for (points, kind) in points.into_iter().zip(["of one flow", "each of another flow"]) {
            let (plot, over) = ("established packet over flows", "flows in the table");
            curves.push(Curve { plot, over, unit: "ns", name: format!("{family}, {kind}"), points });
        }
    }
    Ok(())
}
