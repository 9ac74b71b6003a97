//! Where a packet's time goes: the program is run under the kernel's own clock
//! interrupts, and each address found is named by the line information that
//! the program was loaded with, or by the kernel's symbols.

mod perf;
mod program;

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use anyhow::{Result, ensure};
use sg_userspace::{dataplane::probe::Entry, model::Direction};

use crate::{
    Scale,
    measure::{Samples, progress},
    packets::{establish, probe},
    peers::{Hook, Peers, time},
    policy::packet,
};

/// Lines that are shown of each packet.
const SHOWN: usize = 25;
const UDP: u8 = 17;

/// Samples by place.
type Places = BTreeMap<String, usize>;

/// Samples `run` until there are enough of them; returns the addresses.
fn samples(mut run: impl FnMut() -> Result<()>) -> Result<Vec<u64>> {
    let mut sampler = perf::Sampler::open()?;
    let mut found = Vec::new();
    for round in 0..400 {
        run()?;
        sampler.drain(&mut found);
        progress(&format!("{} samples", found.len()));
        if found.len() >= 20_000 {
            break;
        }
        ensure!(round < 50 || !found.is_empty(), "the kernel takes no samples of itself here");
    }
    progress("");
    Ok(found)
}

fn table(title: &str, addresses: &[u64], places: &program::Places, nanoseconds: f64) -> Result<()> {
    let symbols = perf::Symbols::read()?;
    let (mut stages, mut lines) = (Places::new(), Places::new());
    for &address in addresses {
        let (stage, line) = match places.find(address) {
            Some((function, line)) => (format!("sg: {function}"), format!("sg: {function}, at {line}")),
            None => {
                let name = symbols.find(address);
                (format!("kernel: {name}"), name)
            }
        };
        *stages.entry(stage).or_default() += 1;
        *lines.entry(line).or_default() += 1;
    }
    println!("\n{title}: {nanoseconds:.0} ns a packet, {} samples", addresses.len());
    for (what, places) in [("by function", stages), ("by line", lines)] {
        println!("  {what}");
        let mut sorted: Vec<_> = places.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (place, count) in sorted.into_iter().take(SHOWN) {
            let share = count as f64 / addresses.len() as f64;
            println!("  {:5.1} %  {:5.1} ns  {place}", share * 100.0, share * nanoseconds);
        }
    }
    Ok(())
}

/// Profiles `judge`, which runs on what `run` is given: itself, or a source that hands packets to it.
fn one(title: &str, judge: BorrowedFd<'_>, run: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<()> {
    let places = program::Places::read(judge)?;
    let mut times = Vec::new();
    let found = samples(|| {
        times.push(time(run, frame, repeat)?);
        Ok(())
    })?;
    table(title, &found, &places, Samples::new(times).median())
}

/// Profiles packets of each kind, at both hooks.
///
/// # Errors
/// No rights to sample, or what the kernel says.
pub fn profile(peers: &Peers, scale: &Scale, only: Option<&str>) -> Result<()> {
    for (name, v4) in [("IPv4", true), ("IPv6", false)] {
        for (hook, entry, source) in
            [(Hook::Xdp, Entry::Xdp, "bench_xdp_vary"), (Hook::Tc, Entry::TcIn, "bench_tc_vary")]
        {
            let title = format!("established, {hook}, {name}");
            if only.is_none_or(|only| title.contains(only)) {
                let mut own = probe(1000, 0)?;
                let frame = establish(&mut own, v4)?;
                let judge = own.program(entry)?;
                one(&title, judge, judge, &frame, scale.repeat)?;
            }
            let title = format!("denied, {hook}, {name}");
            if only.is_none_or(|only| title.contains(only)) {
                let mut own = probe(1000, 0)?;
                let frame = packet(v4, Direction::Inbound, UDP, 1500);
                let judge = own.program(entry)?;
                peers.vary(hook, &frame, v4, 65_536, Some(judge))?;
                one(&title, judge, peers.program(source)?, &frame, scale.repeat)?;
            }
        }
    }
    Ok(())
}
