//! What rules have counted, over restarts, kills and changes.

use sg_userspace::{
    daemon::protocol::{RuleStats, StatsView},
    explain,
    packet::first_packet,
    testbed::Daemon,
};

use super::{wire::raw, world::*};

/// A document whose group `g` has these rules, and one more group that no device has.
fn policy(world: &World, rules: &[&str], bound: bool) -> String {
    let rules: Vec<String> = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
    let interface = if bound { world.interface("g") } else { String::new() };
    format!(
        "security_groups:\n- security_group_name: g\n  inner_access_policy: drop\n  permissions:\n{}\
         - {{security_group_name: idle, permissions: [{{{WEB}}}]}}\n{interface}",
        rules.concat()
    )
}

const DNS: &str = "direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0";
const SSH: &str = "direction: ingress, policy: drop, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 0.0.0.0/0";
const WEB: &str = "direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0";
const OTHER: &str = "direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0";

fn stats(daemon: &Daemon<'_>, more: &[&str]) -> StatsView {
    let (done, text) = daemon.sgctl(&[&["stats", "-o", "json"], more].concat()).unwrap();
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn rule(daemon: &Daemon<'_>, name: &str) -> RuleStats {
    let view = stats(daemon, &[]);
    let found = view.rules.iter().find(|r| r.rule == name);
    found.unwrap_or_else(|| panic!("{name}: {view:?}")).clone()
}

/// What of a rule must never change by itself.
fn kept(daemon: &Daemon<'_>, name: &str) -> (u64, u64, Option<String>, String) {
    let r = rule(daemon, name);
    (r.packets, r.bytes, r.last_hit, r.since)
}

/// Sends first packets of flows to the instance, from ports of their own, and waits until
/// the kernel has counted them.
fn send(world: &World, daemon: &Daemon<'_>, protocol: &str, port: u16, from: std::ops::Range<u16>) {
    let packets = || -> u64 {
        let view = daemon.interface("tap0").unwrap();
        let there = view.reasons.iter().filter(|r| r.direction == "ingress" && r.reason == "rule");
        there.map(|r| r.packets).sum()
    };
    let (before, count) = (packets(), from.len() as u64);
    for source in from {
        let line = format!(
            "{{\"device\":\"tap0\",\"direction\":\"ingress\",\"protocol\":\"{protocol}\",\"local\":\"10.0.0.10\",\
             \"remote\":\"192.0.2.10\",\"local_port\":{port},\"remote_port\":{source}}}"
        );
        let (_, query) = explain::read(&line).unwrap();
        // Its link-layer address is nobody's, so that no answer is counted.
        raw(&world.router, "tap0", &first_packet(&query, [2, 0, 0, 0, 0, 1]));
    }
    eventually("the packets are counted", || packets() == before + count);
}

#[test]
fn what_rules_have_counted_outlives_restarts_kills_and_changes() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world, &[DNS, SSH, WEB], true), &[]).unwrap();
    send(&world, &daemon, "udp", 53, 4000..4007);
    send(&world, &daemon, "tcp", 22, 4000..4003);

    let view = stats(&daemon, &[]);
    let [dns, ssh, web] = ["g[0]", "g[1]", "g[2]"].map(|name| rule(&daemon, name));
    assert_eq!([dns.packets, ssh.packets, web.packets], [7, 3, 0]);
    assert_eq!((dns.bytes % 7, ssh.bytes % 3, web.bytes), (0, 0, 0));
    assert!(dns.bytes >= 7 * 28, "{dns:?}");
    assert_eq!([dns.flows, ssh.flows, web.flows], [7, 0, 0]);
    assert!(dns.last_hit.as_ref() >= Some(&dns.since) && ssh.last_hit.is_some() && web.last_hit.is_none());
    assert_eq!((view.uncounted, view.resolution), (1, 1), "the rule of the idle group");
    let group = &view.groups[0];
    assert_eq!((group.group.as_str(), group.rules, group.unused), ("g", 3, 1));
    assert_eq!((group.packets, group.bytes, group.flows), (10, dns.bytes + ssh.bytes, 7));
    assert_eq!(group.last_hit, dns.last_hit.clone().max(ssh.last_hit.clone()));
    let interface = &view.interfaces[0];
    assert_eq!((interface.device.as_str(), interface.flows), ("tap0", 7));
    assert!(interface.accepted >= 7 && interface.dropped >= 3 && interface.dropped_bytes >= ssh.bytes, "{interface:?}");
    let shown = daemon.interface("tap0").unwrap().status;
    assert!(shown.accepted >= interface.accepted && shown.dropped >= interface.dropped);
    let unused = stats(&daemon, &["--unused"]);
    assert_eq!(unused.rules.iter().map(|r| r.rule.as_str()).collect::<Vec<_>>(), ["g[2]"]);
    let (_, table) = daemon.sgctl(&["stats", "--unused"]).unwrap();
    assert!(table.contains("g[2]") && table.contains("unused for") && !table.contains("g[0]"), "{table}");
    assert!(stats(&daemon, &["--group", "idle"]).rules.is_empty());
    assert_eq!(stats(&daemon, &["--device", "tap0"]).rules.len(), 3);

    // A restart.
    let before = ["g[0]", "g[1]", "g[2]"].map(|name| kept(&daemon, name));
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.start().unwrap();
    assert_eq!(["g[0]", "g[1]", "g[2]"].map(|name| kept(&daemon, name)), before);

    // Killed, with and without anything new.
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert_eq!(["g[0]", "g[1]", "g[2]"].map(|name| kept(&daemon, name)), before);
    send(&world, &daemon, "udp", 53, 4007..4009);
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    let (packets, bytes, _, since) = kept(&daemon, "g[0]");
    assert_eq!((packets, bytes, &since), (9, before[0].1 / 7 * 9, &before[0].3));

    // Changes that keep the rule, which moves, and drop another.
    let before = kept(&daemon, "g[0]");
    daemon.apply(&policy(&world, &[OTHER, DNS, SSH], true), &[]).unwrap();
    assert_eq!(kept(&daemon, "g[1]"), before);
    assert_eq!(rule(&daemon, "g[0]").packets, 0);
    let view = daemon.interface("tap0").unwrap();
    assert_eq!(super::world::rule(&view, "ingress", "g[1]"), 9, "the merged view says the same");

    // The machine starts anew: nothing of the kernel's is left.
    let before = ["g[1]", "g[2]"].map(|name| kept(&daemon, name));
    daemon.stop(libc::SIGTERM).unwrap();
    let (done, text) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{text}");
    daemon.start().unwrap();
    assert_eq!(["g[1]", "g[2]"].map(|name| kept(&daemon, name)), before);
    send(&world, &daemon, "udp", 53, 5000..5011);
    assert_eq!(rule(&daemon, "g[1]").packets, 20, "more than the counter had shown before");
    send(&world, &daemon, "tcp", 22, 5000..5001);
    assert_eq!(rule(&daemon, "g[2]").packets, 4);
}

#[test]
fn a_rule_that_no_device_has_for_a_while_keeps_its_count() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world, &[DNS, WEB], true), &[]).unwrap();
    send(&world, &daemon, "udp", 53, 4000..4005);
    let before = kept(&daemon, "g[0]");
    daemon.apply(&policy(&world, &[DNS, WEB], false), &["--yes"]).unwrap();
    // Its counter is another's by then, and the daemon the only one that knew what it had counted.
    eventually("the counter is given back", || !rule(&daemon, "g[0]").in_force);
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert_eq!(kept(&daemon, "g[0]"), before);
    daemon.apply(&policy(&world, &[WEB, DNS], true), &[]).unwrap();
    send(&world, &daemon, "udp", 53, 4005..4006);
    let after = rule(&daemon, "g[1]");
    assert_eq!((after.packets, after.since, after.in_force), (6, before.3.clone(), true));

    // A rule that is deleted, and made again, is another one. The one that stays says when
    // counters were given back.
    daemon.apply(&policy(&world, &[WEB], false), &["--yes"]).unwrap();
    eventually("the counters are given back", || !rule(&daemon, "g[0]").in_force);
    daemon.apply(&policy(&world, &[WEB, DNS], true), &[]).unwrap();
    assert_eq!(rule(&daemon, "g[1]").packets, 0);
}

/// A change on trial that deletes a rule, and is taken back, takes nothing from it.
#[test]
fn a_trial_that_is_taken_back_costs_no_rule_its_count() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    daemon.apply(&policy(&world, &[DNS, SSH], true), &[]).unwrap();
    send(&world, &daemon, "udp", 53, 4000..4005);
    let before = kept(&daemon, "g[0]");
    daemon.apply(&policy(&world, &[SSH], true), &["--yes", "--confirm", "60s"]).unwrap();
    assert!(!stats(&daemon, &[]).rules.iter().any(|r| r.packets == 5), "it is not there");
    let (done, text) = daemon.sgctl(&["rollback", "--yes"]).unwrap();
    assert!(done, "{text}");
    assert_eq!(kept(&daemon, "g[0]"), before);
    send(&world, &daemon, "udp", 53, 4005..4006);
    assert_eq!(rule(&daemon, "g[0]").packets, 6);
}
