//! What is in force, for listings: read from the kernel's own counters.

use std::{collections::HashMap, io, time::Instant};

use sg_common::{
    event::Counter,
    flow::Direction,
    generation::NO_POLICY,
    maps::reason_index,
    reason::{Reason, Verdict},
};

use super::{
    control::Control,
    drift, pressure,
    protocol::{DeviceStatus, FailsafeView, InterfaceView, Missing, ReasonLine, RuleLine, Status},
    watch::names::Time,
};
use crate::{
    dataplane::{
        clock::possible_cpus,
        engine::Bound,
        flows::{self, Live},
        machine::{Binding, Resolved},
        object::Maps,
        report::Observed,
    },
    effective::{self, PolicyKey},
    model::Side,
};

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
const VERDICTS: [Verdict; 2] = [Verdict::Accept, Verdict::Drop];

fn sum(counters: Vec<Counter>) -> Counter {
    counters
        .iter()
        .fold(Counter::default(), |a, c| Counter { packets: a.packets + c.packets, bytes: a.bytes + c.bytes })
}

fn reason(maps: &Maps, slot: u32, direction: Direction, reason: Reason, verdict: Verdict) -> io::Result<Counter> {
    let index = reason_index(slot, direction as u8, reason as u8, verdict as u8);
    maps.reasons.get_per_cpu(&index, possible_cpus()).map(sum)
}

fn reasons(maps: &Maps, slot: u32) -> io::Result<Vec<ReasonLine>> {
    let mut lines = Vec::new();
    for direction in DIRECTIONS {
        for verdict in VERDICTS {
            for &r in Reason::ALL {
                let packets = reason(maps, slot, direction, r, verdict)?.packets;
                if packets > 0 {
                    lines.push(ReasonLine {
                        direction: direction.name().into(),
                        verdict: verdict.name().into(),
                        reason: r.name().into(),
                        packets,
                    });
                }
            }
        }
    }
    Ok(lines)
}

/// What a slot has counted in all: dropped, accepted.
///
/// # Errors
/// A table that cannot be read.
pub fn verdicts(maps: &Maps, slot: u32) -> io::Result<[Counter; 2]> {
    let (first, cpus) = (reason_index(slot, 0, 0, 0), possible_cpus());
    let count = reason_index(slot + 1, 0, 0, 0) - first;
    let values = maps.reasons.range_per_cpu(first, count as usize, cpus)?;
    // The verdict is the last bit of an index.
    let of = |verdict: usize| sum(values.chunks(cpus).skip(verdict).step_by(2).flatten().copied().collect());
    Ok([of(Verdict::Drop as usize), of(Verdict::Accept as usize)])
}

/// What a slot has judged in all: inbound, outbound.
///
/// # Errors
/// A table that cannot be read.
pub fn directions(maps: &Maps, slot: u32) -> io::Result<[Counter; 2]> {
    let (cpus, first) = (possible_cpus(), reason_index(slot, 0, 0, 0));
    let half = (reason_index(slot, 1, 0, 0) - first) as usize;
    let values = maps.reasons.range_per_cpu(first, 2 * half, cpus)?;
    let (inbound, outbound) = values.split_at(half * cpus);
    Ok([inbound, outbound].map(|of| sum(of.to_vec())))
}

/// What an observing device has seen so far.
fn observed(flows: &[Live], zone: u32) -> Observed {
    let mut observed = Observed::default();
    for flow in flows.iter().filter(|f| f.key.zone == zone) {
        match flow.verdict {
            Verdict::Accept => observed.adopted += 1,
            Verdict::Drop => observed.denied.add(|| flows::text(&flow.key, flow.origin)),
        }
    }
    observed
}

/// Jiffies since the last packet of the live flows of each zone.
fn silent(flows: &[Live], time: &Time) -> HashMap<u32, u32> {
    let mut zones = HashMap::new();
    for flow in flows {
        // Those that came since the clock was read lie ahead of it.
        let ago = flow.last.map(|last| (time.jiffies.wrapping_sub(last) as i32).max(0) as u32);
        let known = zones.entry(flow.key.zone).or_insert(u32::MAX);
        *known = ago.into_iter().fold(*known, u32::min);
    }
    zones
}

fn device(
    control: &Control,
    index: u32,
    bound: &Bound,
    flows: &[Live],
    last_packet: Option<String>,
) -> io::Result<DeviceStatus> {
    let resolved = control.resolved();
    let model = control.model();
    let instance = resolved.bindings.iter().find(|b| b.device.index == index).map(|b| &resolved.instances[b.instance]);
    let interface = instance.map(|i| &model.interfaces[i.interface]);
    let counters = reasons(control.engine().maps(), bound.slot)?;
    let total = |v: Verdict| counters.iter().filter(|c| c.verdict == v.name()).map(|c| c.packets).sum();
    Ok(DeviceStatus {
        device: bound.device.clone(),
        index,
        side: if interface.is_some_and(|i| i.side == Side::Guest) { "guest" } else { "host" }.into(),
        hooks: bound.places.iter().flatten().map(|p| p.name().to_owned()).collect(),
        groups: interface.map(|i| i.groups.iter().map(|&g| model.groups[g].name.clone()).collect()).unwrap_or_default(),
        addresses: instance.map(|i| i.addresses.clone()).unwrap_or_default(),
        epoch: bound.generation.epoch,
        accepted: total(Verdict::Accept),
        dropped: total(Verdict::Drop),
        // One that is gone has none.
        attached: control.engine().attached(index).unwrap_or_default(),
        last_packet,
        seen: control.last_packets(bound.generation.zone),
        observing: bound
            .is_observing()
            .then(|| bound.until.map_or(0, |until| until.saturating_duration_since(Instant::now()).as_secs())),
        observed: if bound.is_observing() {
            Some(observed(flows, bound.generation.zone))
        } else {
            bound.observed.clone()
        },
    })
}

/// How things stand; `time` is the kernel's clock.
///
/// # Errors
/// A table that cannot be read.
pub fn status(control: &Control, time: &Time) -> io::Result<Status> {
    let resolved = control.resolved();
    let engine = control.engine();
    let flows = flows::all(engine.maps())?;
    let confirmed = flows.iter().filter(|f| f.confirmed).count();
    let silent = silent(&flows, time);
    let documents = control.state().documents.iter().map(|d| {
        let objects = d.security_groups.len()
            + d.prefix_lists.len()
            + d.port_range_lists.len()
            + d.network_interfaces.len()
            + d.instances.len();
        (d.name().to_owned(), objects)
    });
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime: Some(control.uptime().as_secs()),
        generation: control.state().generation,
        documents: documents.collect(),
        drift: drift::of_all(&control.state().applied, &control.state().documents, control.stored().names()),
        devices: engine
            .bound()
            .iter()
            .filter(|(_, b)| !b.passes())
            .map(|(&i, b)| {
                let last = silent.get(&b.generation.zone).map(|ago| time.of(time.jiffies.wrapping_sub(*ago)));
                let last = last.map(|at| humantime::format_rfc3339_seconds(at).to_string());
                device(control, i, b, &flows, last)
            })
            .collect::<io::Result<_>>()?,
        absent: resolved.absent.clone(),
        conntrack: pressure::conntrack(engine, &flows)?,
        room: control.room(&flows)?,
        refused: resolved
            .refused
            .iter()
            .map(|r| format!("{}: {}", r.device, r.why))
            .chain(control.order().failed.iter().map(|(device, why)| format!("{device}: {why}")))
            .collect(),
        trouble: control.trouble().map(str::to_owned),
        trial: control.on_trial(),
        failsafe: failsafe(control, &resolved),
        before: control.order().before.iter().map(ToString::to_string).collect(),
        flows: (confirmed, flows.len() - confirmed),
    })
}

/// The failsafe, and who has it.
fn failsafe(control: &Control, resolved: &Resolved) -> Option<FailsafeView> {
    let (model, bound) = (control.model(), control.engine().bound());
    let failsafe = model.failsafe.as_ref()?;
    let has = |b: &&Binding| {
        let bound = bound.get(&b.device.index).is_some_and(|bound| !bound.passes());
        bound && model.failsafe_of(&resolved.instances[b.instance]).is_some()
    };
    Some(FailsafeView {
        services: failsafe.services(),
        sources: failsafe.sources.clone(),
        place: failsafe.place(),
        devices: resolved.bindings.iter().filter(has).map(|b| b.device.name.clone()).collect(),
    })
}

/// Which of some devices are not protected, and why.
pub fn missing(control: &Control, devices: &[String]) -> Vec<Missing> {
    let resolved = control.resolved();
    let enforces = |name: &str| {
        let bound = control.engine().bound().values().find(|b| b.device == name);
        bound.map(|b| b.places.is_some() && b.generation.policy != NO_POLICY && !b.passes())
    };
    let why = |name: &String| -> Option<String> {
        if let Some(refused) = resolved.refused.iter().find(|r| r.device == *name) {
            return Some(refused.why.clone());
        }
        let fault = || control.trouble().unwrap_or("its policy is not in force").to_owned();
        match enforces(name) {
            Some(true) => None,
            Some(false) => Some(fault()),
            None if resolved.bindings.iter().any(|b| b.device.name == *name) => Some(fault()),
            None if control.is_here(name) => Some("no document in force names it".into()),
            None => Some("there is no such device".into()),
        }
    };
    devices.iter().filter_map(|d| Some(Missing { device: d.clone(), why: why(d)? })).collect()
}

/// The rows of a device's merged view, invisible rules included.
fn rules(control: &Control, key: &PolicyKey, slot: u32) -> io::Result<Vec<RuleLine>> {
    let (model, maps) = (control.model(), control.engine().maps());
    let mut lines = Vec::new();
    for direction in DIRECTIONS {
        let count = reason(maps, slot, direction, Reason::Essential, Verdict::Accept)?;
        let line = |rule: String, verdict: Verdict, priority, matches, count: Counter| RuleLine {
            direction: direction.name().into(),
            rule,
            verdict: verdict.name().into(),
            priority,
            matches,
            packets: count.packets,
            bytes: count.bytes,
        };
        let what = "ARP, neighbours, multicast membership, DHCP client".to_owned();
        lines.push(line("(essential)".into(), Verdict::Accept, None, what, count));
        for entry in effective::entries(model, key, direction) {
            let name = effective::name(model, entry.origin);
            let identity = effective::identity(model, entry.origin);
            let account = control.account(&identity);
            let count = account.map_or_else(Counter::default, |a| Counter { packets: a.packets, bytes: a.bytes });
            lines.push(line(name, entry.verdict, entry.priority, effective::matches(model, &entry), count));
        }
        let verdict = effective::default_verdict(model, key, direction);
        let count = reason(maps, slot, direction, Reason::Default, verdict)?;
        lines.push(line("(default)".into(), verdict, None, "everything else".into(), count));
    }
    Ok(lines)
}

/// One device; `None` when it is not protected.
///
/// # Errors
/// A table that cannot be read.
pub fn interface(control: &Control, name: &str) -> io::Result<Option<InterfaceView>> {
    let Some((&index, bound)) = control.engine().bound().iter().find(|(_, b)| b.device == name) else {
        return Ok(None);
    };
    let resolved = control.resolved();
    let Some(binding) = resolved.bindings.iter().find(|b| b.device.index == index) else { return Ok(None) };
    let key = PolicyKey::of(control.model(), &resolved.instances[binding.instance]);
    // Only an observation is told flow by flow.
    let flows = if bound.is_observing() { flows::all(control.engine().maps())? } else { Vec::new() };
    Ok(Some(InterfaceView {
        status: device(control, index, bound, &flows, None)?,
        rules: rules(control, &key, bound.slot)?,
        reasons: reasons(control.engine().maps(), bound.slot)?,
    }))
}
