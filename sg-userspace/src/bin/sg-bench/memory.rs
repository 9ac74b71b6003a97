//! What everything weighs with a million live flows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sg_common::{ABI_VERSION, flow::FlowKey4, generation::Generation, maps};
use sg_userspace::{
    dataplane::{
        object::FlowWords,
        sys::{self, Raw, RawMap},
    },
    testbed::{Daemon, Net},
};

use crate::{
    Scale,
    figures::Figure,
    flows::entry,
    interfaces::{known, map_bytes, resident},
    measure::{Samples, progress},
    peers::Peers,
};

const PART: &str = "size";
const FLOWS: u32 = 1_000_000;

fn map<K: Raw, V: Raw>(pins: &Path, name: &str) -> Result<RawMap<K, V>> {
    let path = pins.join(name);
    let pin = sys::open_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(RawMap::new(pin, size_of::<K>() as u32, size_of::<V>() as u32)?)
}

/// A daemon whose tables hold a million flows.
pub fn million(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let count = if scale.quick { 100_000 } else { FLOWS };
    let named = |what: &str| format!("{},000 live IPv4 flows: {what}", if scale.quick { "100" } else { "1,000" });
    progress("a table full of flows");
    let bin = std::env::current_exe()?.parent().context("no directory")?.to_path_buf();
    let (net, peer) = (Net::new("million")?, Net::new("peer")?);
    net.veth("eth0", &peer, "eth0")?;
    net.ip("link set eth0 up")?;
    let before = known();
    let mut daemon = Daemon::new(&net, &bin)?;
    daemon.configure("max_flows = 1048576")?;
    daemon.start()?;
    daemon.apply(
        "security_groups: [{security_group_name: g}]\nnetwork_interfaces: [{device: eth0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}]\n",
        &["--yes"],
    )?;
    let index = daemon.interface("eth0")?.status.index;
    let pins = daemon.dir().join(format!("bpf/sg/v{ABI_VERSION}"));
    daemon.enter(|| {
        let record = map::<u32, u64>(&pins, maps::IFACES)?.get(&index)?.context("eth0 is not bound")?;
        let records = map::<u32, Generation>(&pins, maps::GENERATIONS)?;
        let generation = records.get(&(record as u32))?.context("eth0 has no generation")?;
        let flows = map::<FlowKey4, FlowWords>(&pins, maps::FLOWS[0])?;
        let now = sg_userspace::dataplane::probe::Probe::load()?.now()?;
        let key = |i: u32| FlowKey4 {
            zone: generation.zone,
            vlan_proto: 6,
            local: [10, 0, 0, 5],
            remote: [198, 18, (i >> 8) as u8, i as u8],
            local_port: 80,
            remote_port: 1024 + (i >> 16) as u16,
        };
        let keys: Vec<FlowKey4> = (0..count).map(key).collect();
        flows.update_batch(&keys, &vec![entry(&generation, now); keys.len()])?;
        Ok(())
    })?;
    // It lists them all, as a sweep does.
    let (done, said) = daemon.sgctl(&["status", "-o", "json"])?;
    ensure!(done, "{said}");
    let status: serde_json::Value = serde_json::from_str(&said).context("status is not JSON")?;
    ensure!(status["flows"][0].as_u64() >= Some(u64::from(count) * 99 / 100), "not there: {}", status["flows"]);
    let one = |value: f64| Samples::new(vec![value]);
    let bytes = map_bytes(&before).values().sum::<f64>() / f64::from(1 << 20);
    figures.push(Figure::new(PART, named("kernel maps, both families"), "MiB", &one(bytes)));
    let pid = daemon.pid().context("sgd is not running")?;
    figures.push(Figure::new(PART, named("daemon, resident"), "MiB", &one(resident(pid)?)));
    // Each flow is judged by what would be in force.
    let file = daemon.dir().join("plan.yaml");
    std::fs::write(&file, crate::policy::document(990, 0, "eth0"))?;
    let file = file.to_str().context("not a path")?;
    let start = std::time::Instant::now();
    let (done, said) = daemon.sgctl(&["plan", "-f", file, "-o", "json"])?;
    let took = start.elapsed().as_secs_f64();
    ensure!(done, "{said}");
    let planned: serde_json::Value = serde_json::from_str(&said).context("the plan is not JSON")?;
    ensure!(planned["cut_count"].as_u64() >= Some(u64::from(count) * 99 / 100), "not judged: {}", planned["cut_count"]);
    figures.push(Figure::new(PART, named("plan of 1000 rules that deny all"), "s", &one(took)));
    progress("");
    Ok(())
}
