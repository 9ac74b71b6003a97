//! The benchmark: figures beside their peers, in one run, interleaved.
//!
//! `cargo xtask bench` builds and runs it. Everything happens in network
//! namespaces of its own.

mod api;
mod change;
mod delta;
mod figures;
mod floods;
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
    /// Fewer rounds: two minutes
    #[arg(long)]
    quick: bool,
    /// Writes the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only parts whose name contains this
    #[arg(long)]
    only: Option<String>,
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
}

type Growth = fn(&peers::Peers, &Scale, &mut Vec<Curve>) -> Result<()>;

const GROWTHS: &[(&str, Growth)] = &[
    ("growth: rules", growth::rules),
    ("growth: members", growth::members),
    ("growth: prefixes", growth::prefixes),
    ("growth: flows", growth::flows),
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
    ("interfaces", interfaces::interfaces),
    ("slots", interfaces::slots),
    ("memory", memory::million),
    ("floods", floods::floods),
];

fn run(arguments: &Arguments) -> Result<bool> {
    let scale =
        if arguments.quick { Scale { rounds: 5, repeat: 200_000 } } else { Scale { rounds: 45, repeat: 333_333 } };
    measure::pin(1).or_else(|_| measure::pin(0))?;
    let peers = peers::Peers::load(&arguments.peers)?;
    if arguments.profile {
        profile::profile(&peers, &scale, arguments.only.as_deref())?.iter().for_each(profile::Profile::print);
        return Ok(true);
    }
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let names = || PARTS.iter().map(|(name, _)| *name).chain(GROWTHS.iter().map(|(name, _)| *name));
    if !names().any(wanted) {
        bail!("no part of the benchmark is called that; there are: {}", names().collect::<Vec<_>>().join(", "));
    }
    let mut figures = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("\x1b[1m--> {name}\x1b[0m");
        part(&peers, &scale, &mut figures).with_context(|| format!("{name} could not be measured"))?;
    }
    let mut curves = Vec::new();
    for (name, growth) in GROWTHS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("\x1b[1m--> {name}\x1b[0m");
        growth(&peers, &scale, &mut curves).with_context(|| format!("{name} could not be measured"))?;
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
        let profiles = profile::profile(&peers, &scale, Some("XDP"))?;
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
