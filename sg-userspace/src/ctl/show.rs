//! `sgctl status`, `sgctl interface show`, `sgctl export`.

use std::io::Write;

use anyhow::Result;

use super::{
    Ended, apply,
    args::{Arguments, Output},
    client, count, drift, output,
};
use crate::{
    daemon::{
        headroom::{self, Room},
        protocol::{Action, DeviceStatus, FlowShare, InterfaceView, Reply, Status},
        seen::LastPacket,
    },
    failsafe::some,
};

/// Bounds that are told unless all are.
const FULLEST: usize = 5;

fn devices(devices: &[DeviceStatus]) -> comfy_table::Table {
    let head = ["device", "side", "state", "hooks (in, out)", "groups", "addresses", "epoch", "accepted", "dropped"];
    let mut table = output::table(&head);
    for d in devices {
        let addresses: Vec<String> = d.addresses.iter().map(ToString::to_string).collect();
        table.add_row([
            d.device.clone(),
            d.side.clone(),
            d.observing.map_or_else(|| "enforcing".into(), |left| format!("observing, {left} s left")),
            d.hooks.join(", "),
            d.groups.join(", "),
            addresses.join(", "),
            d.epoch.to_string(),
            d.accepted.to_string(),
            d.dropped.to_string(),
        ]);
    }
    table
}

/// Which programs are on a device, and who runs before and after them.
fn tell_attached(out: &mut impl Write, d: &DeviceStatus) -> Result<()> {
    for a in &d.attached {
        let Some(program) = a.program else {
            writeln!(out, "{}, {}: NOT THERE", a.at, a.hook)?;
            continue;
        };
        let link = a.link.map_or_else(String::new, |id| format!(", link {id}"));
        let tag = a.tag.as_ref().map_or_else(String::new, |tag| format!(" (tag {tag})"));
        let others = |all: &[String]| if all.is_empty() { "nobody".into() } else { all.join(", ") };
        let (before, after) = (others(&a.before), others(&a.after));
        writeln!(out, "{}, {}{link}, program {program}{tag}; before it: {before}; after it: {after}", a.at, a.hook)?;
    }
    Ok(())
}

/// What a device carried when it was first protected; `whole` names flows.
fn tell_observed(out: &mut impl Write, d: &DeviceStatus, whole: bool) -> Result<()> {
    let Some(o) = &d.observed else { return Ok(()) };
    let (admitted, denied) = (count(o.adopted, "live flow"), o.denied.count);
    if d.observing.is_some() {
        writeln!(out, "{}: {admitted} that the rules admit, {denied} that they deny and will cut", d.device)?;
    } else if whole || denied > 0 {
        writeln!(out, "{}: when it began to enforce, {admitted} adopted, {denied} denied", d.device)?;
    }
    if whole {
        o.denied.lines().iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    } else if denied > 0 {
        writeln!(out, "  `sgctl interface show {}` names them", d.device)?;
    }
    Ok(())
}

/// When its last packets came and went.
fn tell_seen(out: &mut impl Write, d: &DeviceStatus) -> Result<()> {
    let one = |p: &LastPacket| match &p.at {
        Some(at) => format!("{} {at} (within {} s)", p.direction, p.within),
        None => format!("{} none since {}", p.direction, p.since),
    };
    let all: Vec<String> = d.seen.iter().map(one).collect();
    if !all.is_empty() {
        writeln!(out, "{}: last packet {}", d.device, all.join(", "))?;
    }
    Ok(())
}

/// How full everything is; without `all` the fullest, and what is nearly full.
fn tell_room(out: &mut impl Write, room: &[Room], all: bool) -> Result<()> {
    let told = if all { room.len() } else { headroom::told(room, FULLEST) };
    if told == 0 {
        return Ok(());
    }
    let mut table = output::table(&["the fullest", "whose", "used", "of", "%"]);
    for r in &room[..told] {
        let whose = r.whose.clone().unwrap_or_else(|| "-".into());
        table.add_row([r.what.clone(), whose, r.used.to_string(), r.of.to_string(), r.percent().to_string()]);
    }
    writeln!(out, "\n{}", output::fit(table))?;
    if told < room.len() {
        writeln!(out, "{} of {} bounds; `sgctl status --all` shows all", told, room.len())?;
    }
    Ok(())
}

/// What no rule closes to the administrator.
fn failsafe(s: &Status) -> String {
    let Some(f) = &s.failsafe else {
        return "none; [failsafe] in sgd.toml keeps ports of management open whatever rules say".into();
    };
    let now = match f.devices.as_slice() {
        [] => "no protected device has it now".into(),
        devices => devices.join(", "),
    };
    format!("{} from {}, on {}: {now}", f.services, some(&f.sources), f.place)
}

fn tell(s: &Status, all: bool) -> Result<()> {
    let mut out = output::stdout();
    let documents: Vec<String> =
        s.documents.iter().map(|(name, n)| format!("{name} ({})", count(*n, "object"))).collect();
    let documents = if documents.is_empty() { "none".into() } else { documents.join(", ") };
    writeln!(out, "sgd {}, generation {}, documents: {documents}", s.version, s.generation)?;
    if let Some(trial) = &s.trial {
        writeln!(out, "{}", apply::on_trial(trial))?;
    }
    drift::standing(&mut out, &s.drift)?;
    writeln!(out, "live flows: {} confirmed, {} not confirmed yet", s.flows.0, s.flows.1)?;
    let shares = |shares: &[FlowShare]| -> Vec<String> {
        shares.iter().map(|s| format!("{} {} of {}", s.name, s.used, s.of)).collect()
    };
    writeln!(out, "confirmed flows: {}", shares(&s.conntrack.tables).join(", "))?;
    writeln!(out, "failsafe: {}", failsafe(s))?;
    if s.devices.is_empty() {
        writeln!(out, "no device is protected; `sgctl apply -f FILE` protects those that FILE names")?;
    } else {
        writeln!(out, "\n{}", output::fit(devices(&s.devices)))?;
        s.devices.iter().try_for_each(|d| tell_observed(&mut out, d, false))?;
        s.devices.iter().try_for_each(|d| tell_seen(&mut out, d))?;
    }
    tell_room(&mut out, &s.room, all)?;
    let busy: Vec<FlowShare> = s.conntrack.interfaces.iter().filter(|i| i.used > 0).cloned().collect();
    if !busy.is_empty() {
        writeln!(out, "\nconfirmed flows by interface, each remote at most {}:", s.conntrack.flows_per_remote)?;
        for line in shares(&busy) {
            writeln!(out, "  {line}")?;
        }
    }
    if !s.conntrack.talkers.is_empty() {
        writeln!(out, "\nSHORT OF ROOM for flows; the remotes with the most:")?;
        for t in &s.conntrack.talkers {
            writeln!(out, "  {} on {}: {}", t.remote, t.device, count(t.flows, "flow"))?;
        }
    }
    if !s.absent.is_empty() {
        writeln!(out, "\nnamed but not here (protected as soon as they appear): {}", s.absent.join(", "))?;
    }
    for line in &s.refused {
        writeln!(out, "\nNOT PROTECTED: {line}")?;
    }
    if let Some(line) = &s.trouble {
        writeln!(out, "\nNOT ALL IN FORCE: {line}")?;
    }
    for line in &s.before {
        writeln!(out, "\nNOT FIRST: {line}")?;
    }
    Ok(())
}

pub fn status(arguments: &Arguments, all: bool) -> Result<Ended> {
    let status = match client::ask(&arguments.socket, &Action::Status)? {
        Reply::Status(status) => status,
        other => return client::unexpected(other),
    };
    if arguments.output == Output::Table {
        tell(&status, all)?;
    } else {
        output::print(arguments.output, &status, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

fn tell_interface(view: &InterfaceView, rules: bool) -> Result<()> {
    let mut out = output::stdout();
    writeln!(out, "{}", output::fit(devices(std::slice::from_ref(&view.status))))?;
    tell_attached(&mut out, &view.status)?;
    tell_observed(&mut out, &view.status, true)?;
    tell_seen(&mut out, &view.status)?;
    if rules {
        let mut table = output::table(&["direction", "rule", "verdict", "priority", "matches", "packets", "bytes"]);
        for r in &view.rules {
            table.add_row([
                r.direction.clone(),
                r.rule.clone(),
                r.verdict.clone(),
                r.priority.map_or_else(|| "-".into(), |p| p.to_string()),
                r.matches.clone(),
                r.packets.to_string(),
                r.bytes.to_string(),
            ]);
        }
        writeln!(out, "\n{}", output::fit(table))?;
        writeln!(out, "packets: those a rule decided, not those of flows that it had let in")?;
        return Ok(());
    }
    let mut table = output::table(&["direction", "verdict", "reason", "packets"]);
    for r in &view.reasons {
        table.add_row([&r.direction, &r.verdict, &r.reason, &r.packets.to_string()]);
    }
    writeln!(out, "\n{}", output::fit(table))?;
    Ok(())
}

/// `sgctl interface show`, of a device that is protected.
pub fn device(arguments: &Arguments, device: &str, rules: bool) -> Result<Ended> {
    let view = match client::ask(&arguments.socket, &Action::Interface { device: device.to_owned() })? {
        Reply::Interface(view) => view,
        other => return client::unexpected(other),
    };
    if arguments.output == Output::Table {
        tell_interface(&view, rules)?;
    } else {
        output::print(arguments.output, &view, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

pub fn export(arguments: &Arguments, document: Option<&str>) -> Result<Ended> {
    let action = Action::Export { document: document.map(str::to_owned) };
    match client::ask(&arguments.socket, &action)? {
        Reply::Exported { text } => output::text(arguments.output, &text, || Ok(serde_yaml_ng::from_str(&text)?)),
        other => client::unexpected(other),
    }
}
