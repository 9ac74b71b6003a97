//! What a plan says of packets is so: each of its witnesses is sent for real, before the
//! change and after it, and the kernel's counters say what became of it.

use sg_userspace::{daemon::protocol::Planned, explain, packet::first_packet, testbed::Daemon};

use super::{wire::raw, world::*};

const BEFORE: &str = "security_groups:
- security_group_name: g
  inner_access_policy: drop
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.0.0.0/8}
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0, priority: 2}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '2001:db8::/32'}
  - {direction: egress, policy: drop, ip_protocol: gre, dest_cidr_ip: 192.0.2.0/24}
";
const AFTER: &str = "security_groups:
- security_group_name: g
  inner_access_policy: drop
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 203.0.113.0/25}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 203.0.113.128/25}
  - {direction: ingress, policy: drop, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 198.51.100.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0, priority: 2}
  - {direction: ingress, ip_protocol: tcp, port_range: 80/81, ipv6_source_cidr_ip: '2001:db8::/32'}
  - {direction: ingress, ip_protocol: udp, port_range: 500/500, source_port_range: 500/500, source_cidr_ip: 0.0.0.0/0}
  - {direction: egress, policy: drop, ip_protocol: tcp, port_range: 9000/9100, dest_cidr_ip: 0.0.0.0/0}
  - {direction: egress, policy: drop, ip_protocol: udp, port_range: 53/53, ipv6_dest_cidr_ip: '::/0'}
  - {direction: egress, policy: drop, ip_protocol: icmp, dest_cidr_ip: 172.16.0.0/12}
";

fn plan(daemon: &Daemon<'_>, text: &str, output: &str) -> String {
    let file = daemon.dir().join("planned.yaml");
    std::fs::write(&file, text).unwrap();
    let (done, said) = daemon.sgctl(&["plan", "-f", file.to_str().unwrap(), "-o", output]).unwrap();
    assert!(done, "{said}");
    said
}

/// Packets accepted and dropped, those aside that always pass.
fn counted(daemon: &Daemon<'_>, direction: &str) -> [u64; 2] {
    let view = daemon.interface("tap0").unwrap();
    ["accept", "drop"].map(|verdict| {
        let there = view.reasons.iter().filter(|r| r.reason != "essential");
        there.filter(|r| r.direction == direction && r.verdict == verdict).map(|r| r.packets).sum()
    })
}

/// Sends a packet to the instance, or as the instance; what became of it. Its link-layer
/// address is nobody's, so that no answer is counted.
fn sent(world: &World, daemon: &Daemon<'_>, witness: &explain::Line) -> &'static str {
    let (_, q) = explain::read(&serde_json::to_string(witness).unwrap()).unwrap();
    let before = counted(daemon, &witness.direction);
    let frame = first_packet(&q, [2, 0, 0, 0, 0, 1]);
    if witness.direction == "ingress" {
        raw(&world.router, "tap0", &frame);
    } else {
        raw(&world.instance, "eth0", &frame);
    }
    let mut after = before;
    eventually("the packet is counted", || {
        after = counted(daemon, &witness.direction);
        after != before
    });
    match [0, 1].map(|i| after[i] - before[i]) {
        [1, 0] => "accept",
        [0, 1] => "drop",
        other => panic!("{other:?}: {witness:?}"),
    }
}

#[test]
fn each_witness_of_a_plan_is_judged_as_told() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    let [before, after] = [BEFORE, AFTER].map(|rules| format!("{rules}{}", world.interface("g")));
    daemon.apply(&before, &[]).unwrap();
    let planned: Planned = serde_json::from_str(&plan(&daemon, &after, "json")).unwrap();
    assert_eq!((planned.compared, planned.differences.len()), (1, 1));
    let told = &planned.differences[0];
    assert_eq!((told.devices.as_slice(), told.count), (["tap0".to_owned()].as_slice(), told.largest.len() as u64));
    assert!(!told.cut && told.count >= 10, "{told:?}");
    let shown = plan(&daemon, &after, "table");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("newly allowed ingress tcp from 203.0.113.0/24 to port 22 g[0], g[1] (default)"), "{shown}");
    assert!(words.contains("newly denied ingress tcp from 198.51.100.0/24 to port 443 g[2] g[1]"), "{shown}");

    let witnesses: Vec<_> = told.largest.iter().map(|d| (d, d.witness.as_ref().expect("a packet"))).collect();
    for (d, witness) in &witnesses {
        assert_eq!(sent(&world, &daemon, witness), d.from, "before: {d:?}");
    }
    daemon.apply(&after, &[]).unwrap();
    for (d, witness) in &witnesses {
        assert_eq!(sent(&world, &daemon, witness), d.to, "after: {d:?}");
    }

    // What is in force is no change, nor is the same in other words.
    let other = AFTER.replace("203.0.113.0/25", "203.0.113.0/24").replace("80/81", "80/80");
    let other = format!(
        "{other}  - {{direction: ingress, ip_protocol: tcp, port_range: 81/81, ipv6_source_cidr_ip: '2001:db8::/32'}}\n{}",
        world.interface("g")
    );
    for same in [&after, &other] {
        let planned: Planned = serde_json::from_str(&plan(&daemon, same, "json")).unwrap();
        assert!(planned.differences.is_empty() && planned.compared == 1, "{:?}", planned.differences);
    }
    assert!(plan(&daemon, &other, "table").contains("no packet is decided otherwise on 1 device"));
}
