//! What the engine needs for a change of one member, and of one rule, of the
//! largest policy; and what freeing a large table costs others.

use std::{
    ffi::CString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::IpNet;
use sg_common::limits::MAX_FLOWS;
use sg_userspace::{
    compiler::{
        live::Live,
        skeleton::{Skeleton, sets},
    },
    dataplane::{
        engine::{Engine, OnChange, Setup},
        machine::{Device, Machine},
        policies,
        probe::Probe,
    },
    effective::{Members, PolicyKey},
    model::Model,
    testbed::{Net, with_bpf},
};

use crate::{
    Scale,
    change::{MEMBERS, RULES},
    figures::{Bound, Figure},
    measure::{Samples, pin},
    peers::Peers,
    policy::{document, model},
};

fn machine(device: &str) -> Result<Machine> {
    let name = CString::new(device)?;
    // SAFETY: a terminated name.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "no device {device}");
    let device = Device {
        index,
        name: device.into(),
        ethernet: true,
        loopback: false,
        up: true,
        master: None,
        vrf: false,
        kind: Some("veth".into()),
        generic_xdp: false,
        xdp: None,
        addresses: Vec::new(),
    };
    Ok(Machine { devices: vec![device] })
}

/// Milliseconds that the engine takes to put each of two models in force in turn.
fn in_turn(
    engine: &mut Engine,
    machine: &Machine,
    models: [&Arc<Model>; 2],
    rounds: usize,
    patched: bool,
) -> Result<Samples> {
    let mut samples = Vec::new();
    engine.enforce(models[1], machine, OnChange::Cut)?;
    for round in 0..rounds * 2 {
        let start = Instant::now();
        let report = engine.enforce(models[round % 2], machine, OnChange::Cut)?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(report.changed.len() == 1, "nothing was changed: {report:?}");
        ensure!((report.deltas > 0) == patched, "not as it should be made: {report:?}");
        engine.tidy()?;
    }
    Ok(Samples::new(samples))
}

/// One member more or less, and one rule more or less.
pub fn deltas(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let of = |members: usize| model(&document(RULES, members, "eth0")).map(Arc::new);
    let (few, many) = (of(MEMBERS)?, of(MEMBERS + 1)?);
    let text = document(RULES, MEMBERS, "eth0").replace("port_range: 1007/1007", "port_range: 61007/61007");
    let other = Arc::new(model(&text)?);
    let (net, peer) = (Net::new("delta")?, Net::new("peer")?);
    net.veth("eth0", &peer, "eth0")?;
    let rounds = scale.rounds.min(15);
    let (one, rule) = with_bpf(&net, |bpf| {
        let machine = machine("eth0")?;
        let setup = Setup { pin_root: &bpf.join("sg"), tcx: true, max_flows: MAX_FLOWS, account: false };
        let mut engine = Engine::open(setup, &machine, &few, Default::default())?;
        let one = in_turn(&mut engine, &machine, [&many, &few], rounds * 5, true)?;
        let rule = in_turn(&mut engine, &machine, [&other, &few], rounds, false)?;
        Ok((one, rule))
    })?;
    let name = |what: &str| format!("{what}, {RULES} rules with {MEMBERS} members");
    let one = Figure::new("change", name("one member joins or leaves"), "ms", &one);
    figures.push(one.goal(Bound::Most(1.0), Some(Bound::Most(0.2))));
    let rule = Figure::new("change", name("one rule changes"), "ms", &rule);
    figures.push(rule.goal(Bound::Most(60.0), Some(Bound::Most(25.0))));
    Ok(())
}

const PREFIXES: u32 = 100_000;

/// The longest time in which each CPU's busy loop did not get on, while something is done.
fn longest_stall(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let spin = |cpu: usize| {
            let stop = &stop;
            scope.spawn(move || -> Result<f64> {
                pin(cpu)?;
                // SAFETY: no memory is passed; it is for this thread alone.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let now = Instant::now();
                    longest = longest.max(now - last);
                    last = now;
                }
                Ok(longest.as_secs_f64() * 1e3)
            })
        };
        let spinning: Vec<_> = (0..cpus).map(spin).collect();
        thread::sleep(Duration::from_millis(50));
        let done = what();
        // The kernel frees on its own time.
        thread::sleep(Duration::from_millis(600));
        stop.store(true, Ordering::Relaxed);
        let mut longest = 0.0_f64;
        for thread in spinning {
            longest = longest.max(thread.join().map_err(|_| anyhow!("a thread died"))??);
        }
        done.map(|()| longest)
    })
}

/// A policy with a trie of many prefixes, made and taken out.
pub fn freeing(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let text = "security_groups:\n- security_group_name: g\n  permissions:\n\
                \x20 - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: l}\n\
                prefix_lists: [{prefix_list_name: l, entries: []}]\n\
                network_interfaces: [{device: eth0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}]\n";
    let mut model = model(text)?;
    let net = |i: u32| IpNet::new(std::net::Ipv4Addr::from((11 << 24) + i * 512).into(), 25);
    std::sync::Arc::make_mut(&mut model.prefix_lists[0]).entries = (0..PREFIXES).map(net).collect::<Result<_, _>>()?;
    let key = PolicyKey::of(&model, &model.declared_instances()[0]);
    let (skeleton, sources) = Skeleton::new(&model, &key, |_| 1)?;
    let sets = sets(&model, &Members::of_all(&model, &model.declared_instances()), &sources);
    let live = Live::build(skeleton, &sets)?;
    let count = live.prefixes();
    ensure!(count > PREFIXES as usize, "the trie has {count} prefixes only");
    let probe = Probe::load()?;
    let (mut ours, mut at_once, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.few(5) {
        nothing.push(longest_stall(|| Ok(()))?);
        for (bit_by_bit, samples) in [(true, &mut ours), (false, &mut at_once)] {
            let held = probe.install(1, &live.tables)?;
            samples.push(longest_stall(|| {
                policies::remove(probe.maps(), 1).context("cannot remove the policy")?;
                if bit_by_bit {
                    held.free(count);
                }
                Ok(())
            })?);
        }
    }
    let name = format!("freeing a policy of {PREFIXES} prefixes: longest stall of a CPU");
    figures.push(Figure::new("change", name, "ms", &Samples::new(ours)).goal(Bound::Most(10.0), None));
    let at_once = Figure::new("change", "the same, freed in one go", "ms", &Samples::new(at_once));
    figures.push(at_once.over("doing nothing", Samples::new(nothing).median()));
    Ok(())
}
