//! `explain --kernel` of the daemon: the real program over the tables in force says what
//! the policy says, leaves no trace, and what a packet gets is what it said.

use std::collections::HashSet;

use sg_common::generation::{Generation, NO_POLICY};
use sg_userspace::{
    ctl::client::ask,
    daemon::protocol::{Action, InterfaceView, Reply},
    explain::{Answer, Line},
    model::{Direction, Side},
    packet::first_packet,
    reference::FlowQuery,
    testbed::{Daemon, Net},
};

use super::{survival::put, wire::raw, world::*};
use crate::support::{self, Random, many, pins::alter};

const FLOWS: usize = 50;

fn asked(daemon: &Daemon<'_>, action: &Action) -> Reply {
    ask(&daemon.dir().join("sgd.sock"), action).unwrap()
}

/// What `sgctl explain` gets, `--kernel` or not.
fn answers(daemon: &Daemon<'_>, flows: &str, kernel: bool) -> Vec<Answer> {
    match asked(daemon, &Action::Explain { flows: flows.into(), trace: false, kernel }) {
        Reply::Explained { answers, differ, .. } if differ.is_empty() => answers,
        other => panic!("kernel {kernel}: {other:?}"),
    }
}

fn view(daemon: &Daemon<'_>, device: &str) -> InterfaceView {
    match asked(daemon, &Action::Interface { device: device.into() }) {
        Reply::Interface(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// Packets counted on a device, those aside that always pass, by verdict.
fn counted(view: &InterfaceView) -> [u64; 2] {
    ["drop", "accept"].map(|verdict| {
        let all = view.reasons.iter().filter(|r| r.reason != "essential" && r.verdict == verdict);
        all.map(|r| r.packets).sum()
    })
}

/// Flows of both families. Those of earlier documents are swept in their time.
fn flows(daemon: &Daemon<'_>) -> u64 {
    match asked(daemon, &Action::Status) {
        Reply::Status(status) => (status.flows.0 + status.flows.1) as u64,
        other => panic!("{other:?}"),
    }
}

/// Judges the flows of some documents, and sends a packet of each for real; how many were sent.
fn judged_and_sent(seeds: impl Iterator<Item = u64>) -> u64 {
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
    let views = || [0, 1, 2, 3].map(|i| counted(&view(&daemon, &format!("eth{i}"))));
    let (mut sent, mut used) = (0, HashSet::new());
    for seed in seeds {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        let model = support::model(&text);
        let instances = model.declared_instances();
        assert!(matches!(put(&daemon, &text).unwrap(), Reply::Planned(_)), "seed {seed}\n{text}");
        let all: Vec<_> = (0..FLOWS).map(|_| support::flow(&mut r, &instances[..4])).collect();
        let line = |(i, q): &(usize, _)| serde_json::to_string(&Line::of(&format!("eth{i}"), q)).unwrap();
        let lines: Vec<String> = all.iter().map(line).collect();
        let file = lines.join("\n");

        let (before, seen) = (flows(&daemon), views());
        let (policy, kernel) = (answers(&daemon, &file, false), answers(&daemon, &file, true));
        assert_eq!(policy, kernel, "seed {seed}\n{text}");
        assert!(flows(&daemon) <= before, "seed {seed}: it made a flow");
        assert_eq!(views(), seen, "seed {seed}: it counted");

        // One of them for real.
        let by_rules = |a: &Answer| matches!(a, Answer::Judged { reason, .. } if ["rule", "default", "intra_group", "smtp"].contains(&reason.as_str()));
        // Not a packet of a flow that an earlier document may have let begin: it is asked how
        // one begins.
        let mut fresh =
            |(i, q): &(usize, FlowQuery)| used.insert((*i, q.protocol, q.local, q.remote, q.local_port, q.remote_port));
        let mut pairs = kernel.iter().zip(&all).map(|(answer, flow)| by_rules(answer) && fresh(flow));
        let Some(at) = pairs.position(|good| good) else { continue };
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
        let mut after = seen[*i];
        eventually("the packet is counted", || {
            after = counted(&view(&daemon, &format!("eth{i}")));
            after != seen[*i]
        });
        let accepted = usize::from(verdict == "accept");
        assert_eq!(after[accepted], seen[*i][accepted] + 1, "seed {seed}, {}: {verdict}", lines[at]);
        sent += 1;
    }
    sent
}

#[test]
fn the_program_in_force_says_what_the_policy_says_and_leaves_no_trace() {
    if !can_run() {
        return;
    }
    // An emulated machine is slow.
    let documents = if std::env::var_os("SG_VM").is_some() { 20 } else { many(200, 2000) };
    // Two hosts, as each waits for its kernel half of the time.
    let sent: u64 = std::thread::scope(|scope| {
        let host = |first: u64| scope.spawn(move || judged_and_sent((first..=documents).step_by(2)));
        [host(1), host(2)].into_iter().map(|h| h.join().unwrap()).sum()
    });
    eprintln!("{documents} documents of {FLOWS} flows, {sent} packets sent");
    assert!(sent * 20 >= documents * 19, "only {sent} packets of {documents} documents were sent");
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
