//! What a flood of denied packets costs while somebody watches, and logs flows.

use anyhow::{Result, ensure};
use sg_common::watch::{STREAMS, Tell, stream};
use sg_userspace::{
    daemon::sampler,
    dataplane::{
        events::{self, Sums},
        probe::Entry,
    },
    model::Direction,
};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, rounds},
    packets::probe,
    peers::{Peers, time_live},
    policy::packet,
};

const PART: &str = "watch";
const LOOPBACK: u32 = 1;
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
                    .over("nothing told", base)
                    .goal(goal, None),
            );
        }
    }
    Ok(())
}
