//! `sgctl replay`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, IsTerminal, Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sg_common::addr::Addr;

use super::{
    Ended,
    apply::files_of,
    args::{Arguments, Output, Replay},
    client, count, document, output,
};
use crate::{
    daemon::{
        network::Network,
        protocol::{Action, Candidate, Policies, Reply},
    },
    dataplane::machine::Machine,
    document::Document,
    explain::find,
    failsafe::Failsafe,
    model::{Instance, Model},
    replay::{
        self,
        capture::{self, CaptureError},
        frame,
        judge::Judge,
        place,
        tally::{Flow, Report},
    },
    validate::{Quotas, Valid},
};

/// Flows that are shown unless all are asked for.
const SHOWN: usize = 20;
/// How often progress is shown, and from when on.
const PROGRESS: Duration = Duration::from_secs(1);

/// A policy on this machine.
struct Policy {
    model: Arc<Model>,
    instances: Vec<Instance>,
}

impl Policy {
    fn of(
        documents: Vec<Document>,
        quotas: &Quotas,
        machine: &Machine,
        failsafe: Option<&Arc<Failsafe>>,
    ) -> Result<Self> {
        let model = Valid::of(documents, quotas, failsafe)?.model().clone();
        let instances = machine.resolve(&model).instances;
        Ok(Self { model, instances })
    }

    fn devices(&self) -> impl Iterator<Item = &String> {
        self.instances.iter().filter_map(|i| i.device.as_ref())
    }

    fn addresses(&self, device: &str) -> impl Iterator<Item = Addr> {
        let found = find(&self.instances, device).map(|i| self.instances[i].addresses.as_slice());
        found.unwrap_or_default().iter().map(|&ip| Addr::from(ip))
    }

    fn judge(mut self, device: &str, local: &[std::net::IpAddr]) -> Result<Judge> {
        let Some(index) = find(&self.instances, device) else { return Ok(Judge::unprotected()) };
        if !local.is_empty() {
            self.instances[index].addresses = local.to_vec();
        }
        Ok(Judge::of(&self.model, &self.instances, index)?)
    }
}

/// This machine's devices.
fn machine() -> Result<Machine> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(Network::watch()?.machine().await?) })
}

/// What is compared with what; with the generation in force, if that is one of them.
fn policies(arguments: &Arguments, a: &Replay) -> Result<(Policy, Policy, Option<u64>)> {
    if a.from.is_empty() {
        let candidate = Candidate { files: files_of(&a.file)?, adopt: a.adopt };
        let policies = match client::ask(&arguments.socket, &Action::Policies(candidate))? {
            Reply::Policies(policies) => *policies,
            other => return client::unexpected(other),
        };
        let Policies { generation, now, candidate, machine, failsafe } = policies;
        let failsafe = failsafe.map(Arc::new);
        // The daemon has judged them by its quotas.
        let of = |documents| Policy::of(documents, &Quotas::UNBOUNDED, &machine, failsafe.as_ref());
        return Ok((of(now)?, of(candidate)?, Some(generation)));
    }
    let machine = machine().context("cannot list this machine's devices")?;
    let of = |files: &[String]| Policy::of(vec![document(files)?], &Quotas::default(), &machine, None);
    Ok((of(&a.from)?, of(&a.file)?, None))
}

fn open(name: &str) -> Result<Box<dyn Read + Send>> {
    if name == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(name).with_context(|| format!("cannot read {name}"))?;
    Ok(Box::new(BufReader::new(file)))
}

fn shown(name: &str) -> &str {
    if name == "-" { "standard input" } else { name }
}

/// The device whose packets they are: the one that is named, the only one there is, or the
/// only one whose addresses they have.
fn device(a: &Replay, now: &Policy, then: &Policy) -> Result<String> {
    let names: BTreeSet<&String> = now.devices().chain(then.devices()).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let known = |name: &str| find(&now.instances, name).or(find(&then.instances, name)).is_some();
    match (&a.device, names.as_slice()) {
        (Some(name), _) if known(name) => return Ok(name.clone()),
        (_, []) => bail!("neither policy protects a device: there is nothing to compare"),
        (Some(name), _) => bail!("neither policy names the device {name}; they name {}", names.join(", ")),
        (None, [one]) => return Ok(one.clone()),
        (None, _) if a.capture == "-" || !a.local.is_empty() => {
            bail!("whose packets are they? Name one of {} with --device", names.join(", "))
        }
        _ => {}
    }
    let own = names.iter().map(|n| now.addresses(n).chain(then.addresses(n)).collect::<BTreeSet<Addr>>());
    let own: Vec<BTreeSet<Addr>> = own.collect();
    let (mut packets, mut buffer) = (vec![0; own.len()], Vec::new());
    capture::read(&a.capture, open(&a.capture)?, |packet| {
        if let Ok(ready) = frame::prepare(packet, &mut buffer) {
            for (own, packets) in own.iter().zip(&mut packets) {
                *packets += u64::from(place::direction(&ready.parsed, own).is_ok());
            }
        }
        Ok::<(), CaptureError>(())
    })?;
    place::only(&names, &packets).map(|i| names[i].clone()).map_err(anyhow::Error::msg)
}

/// How far it is, where somebody waits for it.
struct Progress {
    begun: Instant,
    told: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { begun: Instant::now(), told: None, terminal }
    }

    fn at(&mut self, packets: u64) {
        if !self.terminal || !packets.is_multiple_of(256) || self.told.unwrap_or(self.begun).elapsed() < PROGRESS {
            return;
        }
        self.told = Some(Instant::now());
        let _ = write!(std::io::stderr(), "\r{packets} packets");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r{:32}\r", "");
        }
    }
}

pub fn run(arguments: &Arguments, a: &Replay) -> Result<Ended> {
    if a.capture == "-" && a.file.iter().chain(&a.from).any(|f| f == "-") {
        bail!("standard input can be the capture or a document, not both");
    }
    let (now, then, generation) = policies(arguments, a)?;
    let device = device(a, &now, &then)?;
    let mut own: BTreeSet<Addr> = a.local.iter().map(|&ip| Addr::from(ip)).collect();
    if own.is_empty() {
        own = now.addresses(&device).chain(then.addresses(&device)).collect();
    }
    if own.is_empty() {
        bail!("no address of {device} is known: say which are its own with --local ADDRESS");
    }
    // Before minutes pass with programs that are loaded for a file that is not there.
    let source = open(&a.capture)?;
    let replay = replay::Replay::new(now.judge(&device, &a.local)?, then.judge(&device, &a.local)?, own);
    let mut progress = Progress::new();
    let mut report = replay.run(shown(&a.capture), source, |packets| progress.at(packets))?;
    drop(progress);
    if !a.all {
        report.flows.truncate(SHOWN);
    }
    if arguments.output == Output::Table {
        tell(&device, generation, &report)?;
    } else {
        let value = serde_json::json!({"device": device, "generation": generation, "replay": report});
        output::print(arguments.output, &value, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

fn ends(flow: &Flow) -> String {
    let end = |ip: std::net::IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(ip, port).to_string(),
        None => ip.to_string(),
    };
    let (local, remote) = (end(flow.local, flow.local_port), end(flow.remote, flow.remote_port));
    let (from, to) = if flow.direction == "ingress" { (remote, local) } else { (local, remote) };
    format!("{} {from} -> {to}", flow.protocol)
}

fn tell(device: &str, generation: Option<u64>, report: &Report) -> Result<()> {
    let mut out = output::stdout();
    let packets = |n: u64| count(usize::try_from(n).unwrap_or(usize::MAX), "packet");
    if !report.flows.is_empty() {
        let mut table = output::table(&["change", "flow", "packets", "bytes", "first", "by", "before by"]);
        for flow in &report.flows {
            let [before, by] = flow.rules.clone();
            let (n, bytes) = (flow.packets.to_string(), flow.bytes.to_string());
            let first = format!("{} at {}", flow.first, flow.at);
            table.add_row([flow.change.to_owned(), ends(flow), n, bytes, first, by, before]);
        }
        writeln!(out, "{}", output::fit(table))?;
        let more = report.flow_count - report.flows.len();
        if more > 0 {
            writeln!(out, "  … and {more} more flows, of fewer packets (--all)")?;
        }
        if report.untold > 0 {
            writeln!(out, "  … and {} of flows beyond those", packets(report.untold))?;
        }
        writeln!(out)?;
    }
    let than = generation.map_or_else(|| "the one before".into(), |g| format!("generation {g}"));
    writeln!(out, "{device}: {} read, the candidate compared with {than}:", packets(report.packets))?;
    writeln!(out, "  {} decided alike", packets(report.same))?;
    writeln!(out, "  {} newly accepted", packets(report.newly_accepted))?;
    writeln!(out, "  {} newly dropped", packets(report.newly_dropped))?;
    for (why, n) in &report.skipped {
        writeln!(out, "  {} skipped: {why}", packets(*n))?;
    }
    if report.padded > 0 {
        writeln!(out, "  {} kept in part only, and judged by the headers", packets(report.padded))?;
    }
    if report.ends_early {
        writeln!(out, "  the capture ends in the middle of a packet")?;
    }
    Ok(())
}
