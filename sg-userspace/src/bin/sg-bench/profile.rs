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

/// Where the time of one kind of packet goes.
pub struct Profile {
    /// The packet, and the hook.
    pub title: String,
    /// Of a packet, the empty run included.
    pub nanoseconds: f64,
    /// Samples taken.
    pub samples: usize,
    /// Shares of the functions, the largest first.
    pub functions: Vec<(String, f64)>,
    /// Shares of the lines, the largest first.
    pub lines: Vec<(String, f64)>,
}

impl Profile {
    fn of(title: &str, addresses: &[u64], places: &program::Places, nanoseconds: f64) -> Result<Self> {
        let symbols = perf::Symbols::read()?;
        let (mut functions, mut lines) = (Places::new(), Places::new());
        for &address in addresses {
            let (function, line) = match places.find(address) {
                Some((function, line)) => (format!("ours: {function}"), format!("ours: {function}, at {line}")),
                None => {
                    let name = symbols.find(address);
                    (format!("kernel: {name}"), name)
                }
            };
            *functions.entry(function).or_default() += 1;
            *lines.entry(line).or_default() += 1;
        }
        let samples = addresses.len();
        let shares = |places: Places| {
            let mut shares: Vec<_> = places.into_iter().map(|(at, n)| (at, n as f64 / samples as f64)).collect();
            shares.sort_by(|a, b| b.1.total_cmp(&a.1));
            shares.truncate(SHOWN);
            shares
        };
        let (functions, lines) = (shares(functions), shares(lines));
        Ok(Self { title: title.to_owned(), nanoseconds, samples, functions, lines })
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\n{}: {:.0} ns a packet, {} samples", self.title, self.nanoseconds, self.samples);
        for (what, shares) in [("by function", &self.functions), ("by line", &self.lines)] {
            println!("  {what}");
            for (place, share) in shares {
                println!("  {:5.1} %  {:5.1} ns  {place}", share * 100.0, share * self.nanoseconds);
            }
        }
    }
}

/// Profiles `judge`, which runs on what `run` is given: itself, or a source that hands packets to it.
fn one(title: &str, judge: BorrowedFd<'_>, run: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Profile> {
    let places = program::Places::read(judge)?;
    let mut times = Vec::new();
    let found = samples(|| {
        times.push(time(run, frame, repeat)?);
        Ok(())
    })?;
    Profile::of(title, &found, &places, Samples::new(times).median())
}

/// Profiles packets of each kind, at both hooks.
///
/// # Errors
/// No rights to sample, or what the kernel says.
pub fn profile(peers: &Peers, scale: &Scale, only: &[String]) -> Result<Vec<Profile>> {
    let mut profiles = Vec::new();
    for (name, v4) in [("IPv4", true), ("IPv6", false)] {
        for (hook, entry, source) in
            [(Hook::Xdp, Entry::Xdp, "bench_xdp_vary"), (Hook::Tc, Entry::TcIn, "bench_tc_vary")]
        {
            let title = format!("established, {hook}, {name}");
            if crate::named(only, &title) {
                let mut own = probe(1000, 0)?;
                let frame = establish(&mut own, v4)?;
                let judge = own.program(entry)?;
                profiles.push(one(&title, judge, judge, &frame, scale.repeat)?);
            }
            let title = format!("denied, {hook}, {name}");
            if crate::named(only, &title) {
                let mut own = probe(1000, 0)?;
                let frame = packet(v4, Direction::Inbound, UDP, 1500);
                let judge = own.program(entry)?;
                peers.vary(hook, &frame, v4, 65_536, Some(judge))?;
                profiles.push(one(&title, judge, peers.program(source)?, &frame, scale.repeat)?);
            }
        }
    }
    Ok(profiles)
}
