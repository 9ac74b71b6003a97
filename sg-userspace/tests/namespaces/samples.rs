//! Under a storm of policies and packets the reference evaluator says of every sample what
//! the kernel said, under the policy that each names; and no table differs from what was
//! written.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use sg_userspace::{
    ctl::client::ask,
    daemon::protocol::{Action, File, Reply},
    dataplane::engine::OnChange,
    testbed::Daemon,
};

use super::world::*;
use crate::support::{Random, many};

/// A policy that differs a little from others: rules, a list, members.
fn policy(r: &mut Random, world: &World) -> String {
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    let sources = ["0.0.0.0/0", "192.0.2.0/28", "192.0.2.64/26", "192.0.2.77/32"];
    for i in 0..1 + r.below(8) {
        let port = 1000 + 100 * r.below(10);
        let policy = if r.chance(30) { "drop" } else { "accept" };
        let remote = match r.below(4) {
            0 => "source_prefix_list_id: some".to_owned(),
            1 => "source_group_id: others".to_owned(),
            _ => format!("source_cidr_ip: {}", r.pick(&sources)),
        };
        let (priority, last) = (1 + i, port + r.below(300));
        let rule =
            format!("ip_protocol: udp, port_range: {port}/{last}, priority: {priority}, policy: {policy}, {remote}");
        let _ = writeln!(text, "  - {{direction: ingress, {rule}}}");
    }
    let member = if r.chance(50) { "192.0.2.10" } else { "198.51.100.1" };
    let entry = if r.chance(50) { "192.0.2.77/32" } else { "192.0.2.0/29" };
    let _ = write!(
        text,
        "- security_group_name: others\nprefix_lists: [{{prefix_list_name: some, entries: [{{cidr: {entry}}}]}}]\n{}\
         - {{private_ip_addresses: [{member}], security_group_ids: [others]}}\n",
        world.interface("g")
    );
    text
}

/// Sends to ports of the instance, from two addresses, until told to stop.
fn send(world: &World, stop: &AtomicBool) {
    let socket = |from: &str| world.client.run(|| Ok(UdpSocket::bind(from)?)).unwrap();
    let mut r = Random::new(5);
    while !stop.load(Ordering::Relaxed) {
        // Ports of their own, so that flows begin.
        let sockets = [socket("192.0.2.10:0"), socket("192.0.2.77:0")];
        for _ in 0..2000 {
            let to = format!("10.0.0.10:{}", 950 + r.below(1200));
            // What nobody listens to is answered, and told by the next one.
            let _ = sockets[r.below(2)].send_to(b"x", to);
        }
    }
}

fn samples_under_changes(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    let mut daemon = Daemon::new(if way == Way::Guest { &world.router } else { &world.instance }, bin()).unwrap();
    daemon.configure("samples = 100000").unwrap();
    daemon.configure(&format!("metrics.listen = {METRICS:?}")).unwrap();
    daemon.start().unwrap();
    let (changes, samples) = (many(500, 10_000), many(50_000, 1_000_000));
    let (stop, socket) = (AtomicBool::new(false), daemon.dir().join("sgd.sock"));
    let mut r = Random::new(11);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&world, &stop));
        let until = Instant::now() + Duration::from_secs(120 + changes / 5);
        let (mut changed, mut judged) = (0, 0);
        while changed < changes || judged < samples {
            let text = policy(&mut r, &world);
            let action = Action::Document {
                files: vec![File { name: "storm".into(), text: text.clone() }],
                adopt: false,
                apply: true,
                if_generation: None,
                on_change: OnChange::Cut,
                session: None,
                confirm: None,
                all: false,
            };
            let reply = ask(&socket, &action).unwrap();
            if !matches!(reply, Reply::Planned(_)) {
                stop.store(true, Ordering::Relaxed);
                panic!("{reply:?}\n{text}");
            }
            changed += 1;
            if changed % 50 == 0 {
                judged = metric(&daemon, "sg_samples_total{result=\"same\"}");
            }
            if Instant::now() > until {
                stop.store(true, Ordering::Relaxed);
                panic!("{changed} changes, {judged} samples");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(metric(&daemon, "sg_samples_total{result=\"mismatch\"}"), 0, "{}", daemon.log());
    assert_eq!(metric(&daemon, "sg_table_differences_total"), 0, "{}", daemon.log());
}

#[test]
fn samples_under_changes_on_the_host_side() {
    samples_under_changes(Way::HostXdp);
}

#[test]
fn samples_under_changes_on_the_guest_side() {
    samples_under_changes(Way::Guest);
}
