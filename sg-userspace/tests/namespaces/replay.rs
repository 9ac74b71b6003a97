//! A capture through what is in force and a candidate, by the daemon and `sgctl`.

use serde_json::Value;

use super::world::*;
use crate::support::{
    frames::{ACK, SYN, tcp, udp, v4},
    pcap::{ETHERNET, pcap, whole},
};

const LOCAL: [u8; 4] = [10, 0, 0, 10];
const REMOTE: [u8; 4] = [192, 0, 2, 10];

/// A policy of two groups; the second one lets in what is said.
fn policy(world: &World, more: &str) -> String {
    let head = "security_groups:
- security_group_name: web
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 7000/7000, source_cidr_ip: 0.0.0.0/0}
- security_group_name: own
  permissions:
";
    format!("{head}{more}{}", world.interface("web, own"))
}

#[test]
fn exactly_what_a_candidate_decides_otherwise_is_told() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    world.instance.tcp_server(7000).unwrap();
    let closed = "  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 192.0.2.0/24}\n";
    daemon.apply(&policy(&world, closed), &[]).unwrap();
    // In force is what the file says and what the API made of it.
    done(&daemon, &["rule", "add", "own", "ingress", "udp", "5353/5353", "192.0.2.0/24"]);
    assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    let rules = |daemon| {
        let view: Vec<_> = sg_userspace::testbed::Daemon::interface(daemon, "tap0").unwrap().rules;
        // Neighbours go on asking for each other.
        view.into_iter().filter(|r| r.rule != "(essential)").map(|r| (r.rule, r.packets)).collect::<Vec<_>>()
    };
    let (before, status) = (rules(&daemon), done(&daemon, &["status", "-o", "json"]));

    let asks = |from: u16, port: u16| v4(REMOTE, LOCAL, 6).frame(&tcp(from, port, SYN));
    let answers = |to: u16, port: u16| v4(LOCAL, REMOTE, 6).frame(&tcp(port, to, SYN | ACK));
    let acknowledges = |from: u16, port: u16| v4(REMOTE, LOCAL, 6).frame(&tcp(from, port, ACK));
    let capture = [
        whole(0, asks(4000, 443)),
        whole(10, answers(4000, 443)),
        whole(20, asks(4001, 80)),
        whole(30, answers(4001, 80)),
        whole(40, acknowledges(4001, 80)),
        whole(50, asks(4002, 22)),
        whole(60, v4(REMOTE, LOCAL, 17).frame(&udp(4003, 5353, b"?"))),
        whole(70, asks(4004, 7000)),
        whole(80, asks(4005, 23)),
        whole(90, v4(LOCAL, REMOTE, 17).frame(&udp(5000, 123, b"?"))),
    ];
    let dir = daemon.dir();
    let (file, candidate) = (dir.join("a.pcap"), dir.join("candidate.yaml"));
    std::fs::write(&file, pcap(ETHERNET, &capture)).unwrap();
    let open = "  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 192.0.2.0/24}\n";
    std::fs::write(&candidate, policy(&world, open)).unwrap();
    let line = ["replay", file.to_str().unwrap(), "-f", candidate.to_str().unwrap()];
    let answer: Value = serde_json::from_str(&done(&daemon, &[&line[..], &["-o", "json"]].concat())).unwrap();
    let generation = serde_json::from_str::<Value>(&status).unwrap()["generation"].clone();
    assert_eq!((&answer["device"], &answer["generation"]), (&"tap0".into(), &generation), "{answer}");
    let report = &answer["replay"];
    let told = |flow: &Value| {
        let by = |answer: &Value| match answer["security_group"].as_str() {
            Some(group) => format!("{group}[{}]", answer["rule"]),
            None => format!("({})", answer["reason"].as_str().unwrap()),
        };
        let rules = [by(&flow["now"]), by(&flow["candidate"])];
        let (change, ports) = (flow["change"].as_str().unwrap(), (&flow["local_port"], &flow["remote_port"]));
        format!(
            "{change} {} {} {}: {} x{}",
            flow["protocol"].as_str().unwrap(),
            ports.0,
            ports.1,
            rules.join(" -> "),
            flow["packets"]
        )
    };
    let mut flows: Vec<String> = report["flows"].as_array().unwrap().iter().map(told).collect();
    flows.sort();
    assert_eq!(
        flows,
        [
            "newly accepted tcp 22 4002: (default) -> own[0] x1",
            "newly dropped tcp 80 4001: own[0] -> (default) x3",
            "newly dropped udp 5353 4003: own[1] -> (default) x1",
        ]
    );
    let counts = ["packets", "same", "newly_accepted", "newly_dropped"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [10, 5, 1, 4], "{report}");
    // For people, too; what is in force is also a candidate, of which nothing differs.
    let said = done(&daemon, &line);
    assert!(said.contains("newly dropped") && said.contains("192.0.2.10:4001") && said.contains("own[0]"), "{said}");
    std::fs::write(&candidate, done(&daemon, &["export"])).unwrap();
    let same: Value = serde_json::from_str(&done(&daemon, &[&line[..], &["-o", "json"]].concat())).unwrap();
    assert_eq!((&same["replay"]["flow_count"], &same["replay"]["same"]), (&0.into(), &10.into()), "{same}");
    // And nothing of it was counted, or changed.
    assert_eq!(rules(&daemon), before);
    let after: Value = serde_json::from_str(&done(&daemon, &["status", "-o", "json"])).unwrap();
    assert_eq!(after["generation"], generation);
    assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
}
