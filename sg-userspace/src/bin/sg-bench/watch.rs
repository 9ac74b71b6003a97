//! What a flood of denied packets costs while somebody watches, and logs flows.

use std::os::fd::BorrowedFd;

use anyhow::{Result, ensure};
use sg_common::{
    generation::{
        Generation,
        flags::{ACCOUNT, SHADOW},
    },
    shadow::pack,
    watch::{STREAMS, Tell, stream},
};
use sg_userspace::{
    daemon::sampler,
    dataplane::{
        events::{self, Sums},
        probe::{Entry, Probe, record},
    },
    model::Direction,
};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, Samples, rounds},
    packets::{establish, probe},
    peers::{Hook, Peers, time, time_live},
    policy::{document, model, packet, tables},
};

const PART: &str = "watch";
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the daemon asks for by default, and what it asks for with watchers and a log of flows.
fn asked(hz: u32, all: bool) -> Tell {
    let mut tell = Tell { window: (hz / 10).max(1), version: u32::from(all), ..Tell::NOTHING };
    sampler::ask(20, &mut tell);
    if all {
        for s in [stream::WATCH, stream::LOG] {
            tell.tokens[s] = 100;
            tell.reasons[s] = [!0, !0];
        }
    }
    tell
}

/// Denied packets by live XDP frames: nothing is told, samples are, and all streams are.
pub fn floods(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    for v4 in [true, false] {
        let (mut off, mut samples, mut on) = (probe(1000, 0)?, probe(1000, 0)?, probe(1000, 0)?);
        let hz = on.ticks_per_second();
        samples.tell(&asked(hz, false))?;
        on.tell(&asked(hz, true))?;
        let frame = packet(v4, Direction::Inbound, UDP, 1500);
        let repeat = scale.repeat;
        let mut sent = 0u64;
        let measured = rounds(
            scale.rounds,
            &mut [
                Contestant::new("nothing told", || time_live(off.program(Entry::Xdp)?, &frame, LOOPBACK, repeat)),
                Contestant::new("samples", || {
                    samples.events();
                    time_live(samples.program(Entry::Xdp)?, &frame, LOOPBACK, repeat)
                }),
                Contestant::new("watched and logged", || {
                    on.events();
                    sent += u64::from(repeat);
                    time_live(on.program(Entry::Xdp)?, &frame, LOOPBACK, repeat)
                }),
            ],
        )?;
        // Each packet was told or left out, by each stream.
        let Sums { told, left_out, .. } = events::sums(on.maps())?;
        for s in 0..STREAMS {
            ensure!(told[s] + left_out[s] == sent, "stream {s}: {} told, {} left out, of {sent}", told[s], left_out[s]);
        }
        let family = if v4 { "IPv4" } else { "IPv6" };
        let base = measured[0].median();
        // 1.05 times as much, and three nanoseconds.
        let goal = Bound::Most(1.05 + 3.0 / base);
        for (i, kind) in [(1, "sampled"), (2, "watched, logged and sampled")] {
            figures.push(
                Figure::new(PART, format!("denied flood, live XDP, {family}, {kind}"), "ns", &measured[i])
                    .beside("nothing told", &measured[i], &measured[0])
                    .goal(goal, None),
            );
        }
    }
    Ok(())
}

/// A probe as [`probe`] makes it, whose flows are counted, or judged by a candidate beside.
fn with(flags: u32) -> Result<Probe> {
    let probe = probe(1000, 0)?;
    let tables = tables(&model(&document(1000, 0, "eth0"))?)?.1;
    let class = tables.size_class() as u32;
    // The candidate says the same: nothing is to be remembered.
    probe.install(1, &tables)?;
    let shadow = if flags & SHADOW != 0 { pack(1, class) } else { 0 };
    probe.enforce(&Generation { policy_class: class, flags, shadow, ..record() })?;
    Ok(probe)
}

/// What a log of flows, and a candidate, cost a packet of a flow, and one that begins a flow.
pub fn flows(peers: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let kinds = [("as it is", 0), ("counted for the log of flows", ACCOUNT), ("with a candidate beside", SHADOW)];
    for v4 in [true, false] {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let mut probes = [with(kinds[0].1)?, with(kinds[1].1)?, with(kinds[2].1)?];
        let mut frame = Vec::new();
        for probe in &mut probes {
            frame = establish(probe, v4)?;
        }
        let [a, b, c] = &mut probes;
        let programs = [a.program(Entry::TcIn)?, b.program(Entry::TcIn)?, c.program(Entry::TcIn)?];
        let run = |frame: &[u8], source: Option<BorrowedFd<'_>>| -> Result<Vec<Samples>> {
            let contestant = |i: usize| {
                let (program, repeat) = (programs[i], scale.repeat);
                Contestant::new(kinds[i].0, move || match source {
                    None => time(program, frame, repeat),
                    Some(source) => {
                        peers.vary(Hook::Tc, frame, v4, 65_536, Some(program))?;
                        time(source, frame, repeat)
                    }
                })
            };
            rounds(scale.rounds, &mut [contestant(0), contestant(1), contestant(2)])
        };
        let source = peers.program("bench_tc_vary")?;
        let first = packet(v4, Direction::Inbound, TCP, 443);
        let denied = packet(v4, Direction::Inbound, UDP, 1500);
        for (what, samples) in [
            ("established packet", run(&frame, None)?),
            ("new flow, accepted", run(&first, Some(source))?),
            ("new flow, denied", run(&denied, Some(source))?),
        ] {
            for i in [1, 2] {
                figures.push(
                    Figure::new(PART, format!("{what}, TC, {family}, {}", kinds[i].0), "ns", &samples[i]).beside(
                        "as it is",
                        &samples[i],
                        &samples[0],
                    ),
                );
            }
        }
    }
    Ok(())
}
