//! What one packet costs: the program alone, by test runs.

use anyhow::Result;
use sg_common::{generation::Generation, policy::CLASS_SIZES};
use sg_userspace::{
    dataplane::probe::{Entry, Probe, record},
    model::Direction,
};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, rounds},
    peers::{Hook, Peers, time, time_live},
    policy::{document, model, packet, tables, with_flags},
};

const PART: &str = "packet";
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;

/// A probe that enforces a policy of that many rules, quietly.
///
/// # Errors
/// Not root, or it does not fit.
pub fn probe(rules: usize, members: usize) -> Result<Probe> {
    enforcing(Probe::load()?, rules, members)
}

/// Has a probe enforce it, quietly.
///
/// # Errors
/// As [`probe`].
pub fn enforcing(probe: Probe, rules: usize, members: usize) -> Result<Probe> {
    let (_, tables) = tables(&model(&document(rules, members, "eth0"))?)?;
    probe.install(0, &tables)?;
    let generation = Generation { policy_class: tables.size_class() as u32, ..record() };
    debug_assert!(tables.flat.len() <= CLASS_SIZES[tables.size_class()] as usize);
    probe.enforce(&generation)?;
    probe.quiet()?;
    Ok(probe)
}

/// Opens a confirmed TCP flow to port 443; returns the frame of its next packet.
///
/// # Errors
/// What the kernel says.
pub fn establish(probe: &mut Probe, v4: bool) -> Result<Vec<u8>> {
    let syn = packet(v4, Direction::Inbound, TCP, 443);
    let answer = with_flags(packet(v4, Direction::Outbound, TCP, 443), v4, SYN_ACK);
    let data = with_flags(syn.clone(), v4, ACK);
    for (entry, frame) in [(Entry::TcIn, &syn), (Entry::TcOut, &answer), (Entry::TcIn, &data)] {
        time(probe.program(entry)?, frame, 1)?;
    }
    let first =
        if v4 { probe.maps().flows4.next_key(None)?.is_some() } else { probe.maps().flows6.next_key(None)?.is_some() };
    anyhow::ensure!(first, "the flow was not confirmed");
    Ok(data)
}

/// Established packets, beside the least program; both hooks and families.
pub fn established(peers: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    for v4 in [true, false] {
        let mut probe = probe(1000, 0)?;
        let frame = establish(&mut probe, v4)?;
        peers.know(&frame, v4)?;
        for (hook, entry, empty, least) in [
            ("XDP", Entry::Xdp, "bench_xdp_pass", "bench_xdp_least"),
            ("TC", Entry::TcIn, "bench_tc_next", "bench_tc_least"),
        ] {
            let repeat = scale.repeat;
            let ours = probe.program(entry)?;
            let samples = rounds(
                scale.rounds,
                &mut [
                    Contestant::new("an empty program", || time(peers.program(empty)?, &frame, repeat)),
                    Contestant::new("parse and one lookup", || time(peers.program(least)?, &frame, repeat)),
                    Contestant::new("established", || time(ours, &frame, repeat)),
                ],
            )?;
            let family = if v4 { "IPv4" } else { "IPv6" };
            let (least, ours) = (samples[1].without(&samples[0]), samples[2].without(&samples[0]));
            figures.push(
                Figure::new(PART, format!("established, {hook}, {family}, beyond empty"), "ns", &ours)
                    .beside("parse and one hash lookup, beyond empty", &ours, &least)
                    .goal(Bound::Most(1.6), Some(Bound::Most(1.3))),
            );
        }
    }
    Ok(())
}

/// Denied packets by live XDP frames, one sender and many, beside nothing.
pub fn denied(peers: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    for v4 in [true, false] {
        let mut probe = probe(1000, 0)?;
        let frame = packet(v4, Direction::Inbound, UDP, 1500);
        let family = if v4 { "IPv4" } else { "IPv6" };
        let repeat = scale.repeat;
        let ours = probe.program(Entry::Xdp)?;
        let drop = peers.program("bench_xdp_drop")?;
        let source = peers.program("bench_xdp_vary")?;
        let samples = rounds(
            scale.rounds,
            &mut [
                Contestant::new("an empty drop program", || time_live(drop, &frame, LOOPBACK, repeat)),
                Contestant::new("denied", || time_live(ours, &frame, LOOPBACK, repeat)),
                Contestant::new("an empty drop program, many senders", || {
                    peers.vary(Hook::Xdp, &frame, v4, 65_536, Some(drop))?;
                    time_live(source, &frame, LOOPBACK, repeat)
                }),
                Contestant::new("denied, many senders", || {
                    peers.vary(Hook::Xdp, &frame, v4, 65_536, Some(ours))?;
                    time_live(source, &frame, LOOPBACK, repeat)
                }),
            ],
        )?;
        for (i, kind) in [(0, "one sender"), (2, "65,536 senders")] {
            figures.push(
                Figure::new(PART, format!("denied, 1000 rules, live XDP, {family}, {kind}"), "ns", &samples[i + 1])
                    .beside("an empty XDP drop program", &samples[i + 1], &samples[i])
                    .goal(Bound::Most(2.4), Some(Bound::Most(1.6))),
            );
        }
    }
    Ok(())
}

/// New flows, accepted and denied, at ten and at a thousand rules.
pub fn new_flows(peers: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    for (hook, entry, source) in [(Hook::Xdp, Entry::Xdp, "bench_xdp_vary"), (Hook::Tc, Entry::TcIn, "bench_tc_vary")] {
        let source = peers.program(source)?;
        for (kind, v4, protocol, port) in [
            ("denied", true, UDP, 1500),
            ("denied", false, UDP, 1500),
            ("accepted", true, TCP, 443),
            ("accepted", false, TCP, 443),
        ] {
            let frame = packet(v4, Direction::Inbound, protocol, port);
            let (mut few, mut many) = (probe(10, 0)?, probe(1000, 0)?);
            let (few, many) = (few.program(entry)?, many.program(entry)?);
            let run = |program| {
                peers.vary(hook, &frame, v4, 65_536, Some(program))?;
                time(source, &frame, scale.repeat)
            };
            let samples = rounds(
                scale.rounds,
                &mut [
                    Contestant::new(format!("{kind}, 10 rules"), || run(few)),
                    Contestant::new(format!("{kind}, 1000 rules"), || run(many)),
                ],
            )?;
            let family = if v4 { "IPv4" } else { "IPv6" };
            figures.push(
                Figure::new(PART, format!("new flow, {kind}, {hook}, {family}, 1000 rules"), "ns", &samples[1])
                    .beside("10 rules", &samples[1], &samples[0])
                    .goal(Bound::Most(1.25), Some(Bound::Most(1.1))),
            );
        }
    }
    Ok(())
}
