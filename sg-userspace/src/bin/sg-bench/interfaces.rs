//! Many interfaces with few distinct policies, and what everything weighs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io::Write as _,
    os::fd::{AsFd, AsRawFd},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use sg_userspace::testbed::{Daemon, Net};

use crate::{
    Scale,
    figures::{Bound, Curve, Figure},
    measure::{Samples, progress},
    packets::probe,
    peers::Peers,
};

const PART: &str = "size";
const POLICIES: usize = 20;

/// Ids of all maps that there are.
pub fn known() -> BTreeSet<u32> {
    aya::maps::loaded_maps().flatten().map(|info| info.id()).collect()
}

/// Bytes that the kernel has taken for our maps, by name. Those of `before` do not
/// count: the kernel frees the maps of what has just ended in its own time.
pub fn map_bytes(before: &BTreeSet<u32>) -> BTreeMap<String, f64> {
    let mut bytes = BTreeMap::new();
    for info in aya::maps::loaded_maps().flatten().filter(|info| !before.contains(&info.id())) {
        let Some(name) = info.name_as_str().filter(|n| n.to_lowercase().starts_with("sg_")).map(str::to_owned) else {
            continue;
        };
        let Ok(fd) = info.fd() else { continue };
        let file = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let locked = text.lines().find_map(|l| l.strip_prefix("memlock:")).and_then(|v| v.trim().parse::<f64>().ok());
        *bytes.entry(name).or_default() += locked.unwrap_or(0.0);
    }
    bytes
}

/// Megabytes that a process has in memory.
pub fn resident(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no resident size")?;
    let kilobytes: f64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}

fn document(interfaces: usize, change: usize) -> String {
    let mut text = String::from("security_groups:\n");
    for group in 0..POLICIES {
        let _ = writeln!(text, "- security_group_name: g{group}\n  permissions:");
        for rule in 0..20 {
            let port = 1000 + rule * 50 + change;
            let _ = writeln!(
                text,
                "  - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 10.{group}.{rule}.0/24}}"
            );
        }
    }
    text += "network_interfaces:\n";
    for i in 0..interfaces {
        let _ = writeln!(text, "- {{device: d{i}, side: guest, security_group_ids: [g{}]}}", i % POLICIES);
    }
    text
}

fn devices(net: &Net, from: usize, to: usize) -> Result<()> {
    let lines: String =
        (from..to).map(|i| format!("link add d{i} type veth peer name p{i}\nlink set d{i} up\n")).collect();
    net.run(|| {
        let mut ip =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("cannot start ip")?;
        ip.stdin.take().context("no pipe")?.write_all(lines.as_bytes())?;
        ensure!(ip.wait()?.success(), "ip -batch failed");
        Ok(())
    })
}

/// What the figures say of numbers of interfaces, as lines.
pub fn curves(figures: &[Figure]) -> Vec<Curve> {
    let plots = [
        ("a change of all policies in force", "a change of all policies over interfaces", "ms", 1000.0),
        ("kernel maps", "kernel maps over interfaces", "MiB", 1.0),
    ];
    let of = |(what, plot, unit, factor): (&str, &'static str, &'static str, f64)| {
        let point = |f: &Figure| {
            let count = f.name.strip_suffix(what)?.split_once(" interfaces")?.0;
            Some((count.parse().ok()?, f.value * factor))
        };
        let points: Vec<(f64, f64)> = figures.iter().filter(|f| f.part == PART).filter_map(point).collect();
        (points.len() > 1).then(|| Curve { plot, over: "interfaces", unit, name: "security groups".into(), points })
    };
    plots.into_iter().filter_map(of).collect()
}

fn one(value: f64) -> Samples {
    Samples::new(vec![value])
}

/// 1, 100 and 1000 interfaces, twenty policies: once each, as people would do it.
pub fn interfaces(_: &Peers, _: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let bin = std::env::current_exe()?.parent().context("no directory")?.to_path_buf();
    let net = Net::new("many")?;
    let before = known();
    let mut daemon = Daemon::new(&net, &bin)?;
    daemon.start()?;
    let mut made = 0;
    let mut first = 0.0;
    for count in [1, 100, 1000] {
        progress(&format!("{count} interfaces"));
        devices(&net, made, count)?;
        made = count;
        let start = Instant::now();
        daemon.apply(&document(count, 0), &["--yes"])?;
        let attach = start.elapsed().as_secs_f64();
        let start = Instant::now();
        daemon.apply(&document(count, 1), &["--yes"])?;
        let change = start.elapsed().as_secs_f64();
        let pid = daemon.pid().context("sgd is not running")?;
        let maps = map_bytes(&before).values().sum::<f64>() / f64::from(1 << 20);
        first = if count == 1 { maps } else { first };
        let name = |what: &str| format!("{count} interfaces, {} policies: {what}", count.min(POLICIES));
        let mut attached = Figure::new(PART, name("attached"), "s", &one(attach));
        let mut changed = Figure::new(PART, name("a change of all policies in force"), "s", &one(change));
        if count == 1000 {
            attached = attached.goal(Bound::Most(30.0), None);
            changed = changed.goal(Bound::Most(1.0), None);
        }
        figures.extend([attached, changed]);
        figures.push(Figure::new(PART, name("kernel maps"), "MiB", &one(maps)).over("one interface", first));
        figures.push(Figure::new(PART, name("daemon, resident"), "MiB", &one(resident(pid)?)));
    }
    progress("");
    Ok(())
}

/// Bytes for each slot of the conntrack tables.
pub fn slots(_: &Peers, _: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let before = known();
    let probe = probe(1, 0)?;
    let bytes = map_bytes(&before);
    let of = |names: &[&str]| -> f64 { names.iter().filter_map(|n| bytes.get(*n)).sum() };
    let slots = f64::from(sg_common::limits::MAX_FLOWS + 3 * sg_common::limits::MAX_CHURN);
    for (family, names, most) in [
        ("IPv4", ["SG_FLOWS4", "SG_CHURN_IN4", "SG_CHURN_OUT4", "SG_PROBATION4"], 128.0),
        ("IPv6", ["SG_FLOWS6", "SG_CHURN_IN6", "SG_CHURN_OUT6", "SG_PROBATION6"], 176.0),
    ] {
        let name = format!("conntrack, {family}: bytes for each slot, all tables");
        figures.push(
            Figure::new(PART, name, "B", &one(of(&names) / slots))
                .over("nf_conntrack", 320.0)
                .goal(Bound::Most(most / 320.0), None),
        );
    }
    drop(probe);
    Ok(())
}
