//! `explain --kernel` of the daemon: the real program over the tables in force says what
//! the policy says, leaves no trace, and what a packet gets is what it said.

use sg_common::generation::{Generation, NO_POLICY};
use sg_userspace::{
    daemon::protocol::InterfaceView,
    explain::{Answer, Line},
    model::{Direction, Side},
    packet::first_packet,
    testbed::{Daemon, Net},
};

use super::{wire::raw, world::*};
use crate::support::{self, Random, pins::alter, scale};

const FLOWS: usize = 50;

fn answers(daemon: &Daemon<'_>, more: &[&str]) -> Vec<Answer> {
    let file = daemon.dir().join("flows.jsonl").to_str().unwrap().to_owned();
    let arguments = [&["explain", "--flows", &file, "-o", "json"], more].concat();
    let (done, said) = daemon.sgctl(&arguments).unwrap();
    assert!(done, "{more:?}: {said}");
    said.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Packets counted on a device, those aside that always pass, by verdict.
fn counted(view: &InterfaceView) -> [u64; 2] {
    ["drop", "accept"].map(|verdict| {
        let all = view.reasons.iter().filter(|r| r.reason != "essential" && r.verdict == verdict);
        all.map(|r| r.packets).sum()
    })
}

fn flows(daemon: &Daemon<'_>) -> String {
    let (_, text) = daemon.sgctl(&["status", "-o", "json"]).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["flows"].to_string()
}

#[test]
fn the_program_in_force_says_what_the_policy_says_and_leaves_no_trace() {
    if !can_run() {
        return;
    }
    let (net, peer) = (Net::new("instance").unwrap(), Net::new("peer").unwrap());
    // Nothing comes of itself.
    for side in [&net, &peer] {
        side.sysctl("ipv6/conf/default/disable_ipv6", "1").unwrap();
    }
    for i in 0..4 {
        net.veth(&format!("eth{i}"), &peer, &format!("p{i}")).unwrap();
    }
    let mut daemon = Daemon::new(&net, bin()).unwrap();
    daemon.configure("quotas.group_rules_per_group = 200").unwrap();
    daemon.start().unwrap();
    let mut sent = 0;
    for seed in 1..=20 * scale() {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        let model = support::model(&text);
        let instances = model.declared_instances();
        daemon.apply(&text, &["--yes"]).unwrap();
        let all: Vec<_> = (0..FLOWS).map(|_| support::flow(&mut r, &instances[..4])).collect();
        let line = |(i, q): &(usize, _)| serde_json::to_string(&Line::of(&format!("eth{i}"), q)).unwrap();
        let lines: Vec<String> = all.iter().map(line).collect();
        std::fs::write(daemon.dir().join("flows.jsonl"), lines.join("\n")).unwrap();

        let (before, views) =
            (flows(&daemon), [0, 1, 2, 3].map(|i| counted(&daemon.interface(&format!("eth{i}")).unwrap())));
        let (policy, kernel) = (answers(&daemon, &[]), answers(&daemon, &["--kernel"]));
        assert_eq!(policy, kernel, "seed {seed}\n{text}");
        assert_eq!(flows(&daemon), before, "seed {seed}: it made a flow");
        assert_eq!([0, 1, 2, 3].map(|i| counted(&daemon.interface(&format!("eth{i}")).unwrap())), views, "seed {seed}");

        // One of them for real.
        let by_rules = |a: &Answer| matches!(a, Answer::Judged { reason, .. } if ["rule", "default", "intra_group", "smtp"].contains(&reason.as_str()));
        let Some(at) = kernel.iter().position(by_rules) else { continue };
        let (i, query) = &all[at];
        let Answer::Judged { verdict, .. } = &kernel[at] else { continue };
        let host = model.interfaces[instances[*i].interface].side == Side::Host;
        let inbound = query.direction == Direction::Inbound;
        let frame = first_packet(query, [2, 0, 0, 0, 0, 1]);
        if inbound == host {
            raw(&peer, &format!("p{i}"), &frame);
        } else {
            raw(&net, &format!("eth{i}"), &frame);
        }
        let mut after = views[*i];
        eventually("the packet is counted", || {
            after = counted(&daemon.interface(&format!("eth{i}")).unwrap());
            after != views[*i]
        });
        let accepted = usize::from(verdict == "accept");
        assert_eq!(after[accepted], views[*i][accepted] + 1, "seed {seed}, {}: {verdict}", lines[at]);
        sent += 1;
    }
    assert!(sent >= 10, "only {sent} packets were sent");
}

#[test]
fn what_the_kernel_says_otherwise_is_said() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostXdp);
    let daemon = world.daemon();
    let rule = "{direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 192.0.2.0/24}";
    daemon
        .apply(
            &format!("security_groups:\n- {{security_group_name: g, permissions: [{rule}]}}\n{}", world.interface("g")),
            &[],
        )
        .unwrap();
    let ask = |port: u16| {
        let (local, arguments) = (format!("10.0.0.10:{port}"), ["explain", "eth0", "ingress", "tcp"]);
        daemon.sgctl(&[&arguments[..], &[&local, "192.0.2.10:4000", "--kernel"]].concat()).unwrap()
    };
    for (port, said) in [(22, "ACCEPT"), (23, "DROP")] {
        let (done, text) = ask(port);
        assert!(done && text.contains(said) && text.contains("the kernel program says the same"), "{text}");
    }
    // The program is made to go by another policy: that of a device whose policy is missing.
    // The daemon puts that right within a second.
    let said = (0..10).any(|_| {
        alter(&daemon, |_, there| Generation { policy: NO_POLICY, ..there });
        let (done, text) = ask(22);
        !done && text.contains("THE KERNEL PROGRAM SAYS OTHERWISE: drop (reason: no_policy)")
    });
    assert!(said);
}
