//! The benchmark: figures beside their peers, in one run, interleaved.
//!
//! `cargo xtask bench` builds and runs it. Everything happens in network
//! namespaces of its own.

mod api;
mod change;
mod delta;
mod figures;
mod floods;
mod flows;
mod growth;
mod interfaces;
mod measure;
mod memory;
mod nft;
mod packets;
mod peers;
mod plot;
mod policy;
mod profile;
mod report;
mod streams;
mod watch;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use figures::{Curve, Figure};

/// What is asked.
#[derive(Parser)]
struct Arguments {
    /// The object with the programs to compare with
    #[arg(long)]
    peers: PathBuf,
    /// Fewer rounds: less than four minutes
    #[arg(long)]
    quick: bool,
    /// Writes the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only parts whose name contains this; several with commas between
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Shows where a packet's time goes, by function and line
    #[arg(long)]
    profile: bool,
    /// Writes benchmarks.md and its plots there
    #[arg(long)]
    docs: Option<PathBuf>,
}

/// How much is measured.
pub struct Scale {
    /// Counted rounds.
    pub rounds: usize,
    /// Runs of a program in one sample.
    pub repeat: u32,
    /// Less than four minutes for all: fewer packets, flows and seconds, where they are not part of a goal.
    pub quick: bool,
}

impl Scale {
    /// Rounds of what takes long.
    pub fn few(&self, rounds: usize) -> usize {
        if self.quick { 2 } else { self.rounds.min(rounds) }
    }

    /// Points of a curve: every second of them, with the last.
    pub fn points<'a, T: Copy>(&self, all: &'a [T]) -> impl Iterator<Item = T> + use<'a, T> {
        let step = if self.quick { 2 } else { 1 };
        all.iter().skip((all.len() - 1) % step).step_by(step).copied()
    }
}

type Growth = fn(&peers::Peers, &Scale, &mut Vec<Curve>) -> Result<()>;

const GROWTHS: &[(&str, Growth)] = &[
    ("growth: rules", growth::rules),
    ("growth: members", growth::members),
    ("growth: prefixes", growth::prefixes),
    ("growth: flows", flows::growth),
];

type Part = fn(&peers::Peers, &Scale, &mut Vec<Figure>) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("established", packets::established),
    ("denied", packets::denied),
    ("nftables", nft::denied),
    ("new-flows", packets::new_flows),
    ("watch", watch::floods),
    ("watch: flows", watch::flows),
    ("streams", streams::streams),
    ("change", change::rebuild),
    ("change: deltas", delta::deltas),
    ("change: freeing", delta::freeing),
    ("api: changes", api::changes),
    ("api: crowd", api::crowd),
    ("memory", memory::million),
    ("floods", floods::floods),
    ("slots", interfaces::slots),
    // The last: the kernel is busy with taking them down for a while.
    ("interfaces", interfaces::interfaces),
];

/// Whether a part is wanted: all are when none is named.
pub fn named(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

fn run(arguments: &Arguments) -> Result<bool> {
    let scale = if arguments.quick {
        Scale { rounds: 5, repeat: 50_000, quick: true }
    } else {
        Scale { rounds: 45, repeat: 333_333, quick: false }
    };
    measure::pin(1).or_else(|_| measure::pin(0))?;
    let peers = peers::Peers::load(&arguments.peers)?;
    if arguments.profile {
        profile::profile(&peers, &scale, &arguments.only)?.iter().for_each(profile::Profile::print);
        return Ok(true);
    }
    let wanted = |name: &str| named(&arguments.only, name);
    let names = || GROWTHS.iter().map(|(name, _)| *name).chain(PARTS.iter().map(|(name, _)| *name));
    if let Some(wrong) = arguments.only.iter().find(|only| !names().any(|name| name.contains(only.as_str()))) {
        bail!("no part of the benchmark is called {wrong}; there are: {}", names().collect::<Vec<_>>().join(", "));
    }
    let mut curves = Vec::new();
    for (name, growth) in GROWTHS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("\x1b[1m--> {name}\x1b[0m");
        growth(&peers, &scale, &mut curves).with_context(|| format!("{name} could not be measured"))?;
    }
    let mut figures = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("\x1b[1m--> {name}\x1b[0m");
        part(&peers, &scale, &mut figures).with_context(|| format!("{name} could not be measured"))?;
    }
    curves.extend(interfaces::curves(&figures));
    println!("{}", figures::terminal(&figures));
    for curve in &curves {
        let points: Vec<String> = curve.points.iter().map(|(n, v)| format!("{n}: {}", figures::short(*v))).collect();
        println!("{} ({}), {} at {}: {}", curve.plot, curve.name, curve.unit, curve.over, points.join(", "));
    }
    if let Some(file) = &arguments.json {
        let json = serde_json::json!({ "figures": figures, "curves": curves });
        std::fs::write(file, format!("{json:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(dir) = &arguments.docs {
        eprintln!("\x1b[1m--> profile\x1b[0m");
        let profiles = profile::profile(&peers, &scale, &[])?;
        report::write(dir, &figures, &curves, &profiles, arguments.quick)?;
    }
    Ok(figures.iter().all(|f| f.met != Some(false)))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
