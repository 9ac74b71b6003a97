//! Rules of five fields, which the console has not: both addresses, both ports, the protocol.

use super::{Caller, Stage};
use crate::world::{Way, World, can_run, from, rule};

/// The guest, with two addresses.
const DOCUMENT: &str = "security_groups:\n- {security_group_name: base, inner_access_policy: drop}\n\
    network_interfaces:\n- {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,\n   \
    private_ip_addresses: [10.0.0.10, 10.0.0.11], security_group_ids: [base]}\n";

fn world() -> World {
    let world = World::new(Way::Guest);
    world.instance.address("eth0", &["10.0.0.11/24"]).unwrap();
    world
}

#[test]
fn what_leaves_one_port_of_one_address_is_forbidden_to_one_other() {
    if !can_run() {
        return;
    }
    let world = world();
    // Each connection has a port of its own there: none waits for the end of another.
    for port in 7000..=7005 {
        world.client.tcp_server(port).unwrap();
    }
    let s = Stage::of(&world, DOCUMENT);
    let out = |source: &str, target: &str| from(&world.instance, source, target);
    assert!(out("10.0.0.10:22", "192.0.2.10:7000"), "a basic group lets all out");
    s.good(&[
        ("Action", "AuthorizeSecurityGroupEgress"),
        ("SecurityGroupId", &s.group),
        ("Permissions.1.Policy", "drop"),
        ("Permissions.1.IpProtocol", "TCP"),
        ("Permissions.1.PortRange", "1/65535"),
        ("Permissions.1.SourceCidrIp", "10.0.0.10/32"),
        ("Permissions.1.SourcePortRange", "22/22"),
        ("Permissions.1.DestCidrIp", "192.0.2.10/32"),
    ]);
    let dropped = || rule(&s.daemon.interface("tap0").unwrap(), "egress", "example[0]");
    assert!(!out("10.0.0.10:22", "192.0.2.10:7001") && !out("10.0.0.10:22", "192.0.2.10:7002"), "any port");
    let count = dropped();
    assert!(count >= 2, "by this rule: {count}");
    assert!(out("10.0.0.10:23", "192.0.2.10:7003"), "another port of that address");
    assert!(out("10.0.0.11:22", "192.0.2.10:7004"), "that port of another address");
    assert!(out("10.0.0.10:22", "192.0.2.77:7005"), "to another address");
    assert_eq!(dropped(), count);

    // Who is let in to that port is answered.
    world.instance.tcp_server(22).unwrap();
    s.rule(false, "accept", "1", "TCP", "22/22", ("SourceCidrIp", "192.0.2.10"));
    assert!(s.reaches(22));
    assert_eq!(dropped(), count);
}

#[test]
fn one_address_of_a_member_is_opened_to_some_ports_of_one_other() {
    if !can_run() {
        return;
    }
    let world = world();
    world.instance.tcp_server(80).unwrap();
    let s = Stage::of(&world, DOCUMENT);
    s.good(&[
        ("Action", "AuthorizeSecurityGroup"),
        ("SecurityGroupId", &s.group),
        ("Permissions.1.IpProtocol", "TCP"),
        ("Permissions.1.PortRange", "80/80"),
        ("Permissions.1.SourceCidrIp", "192.0.2.10/32"),
        ("Permissions.1.SourcePortRange", "4000/4999"),
        ("Permissions.1.DestCidrIp", "10.0.0.11/32"),
    ]);
    let reach = |source: &str, target: &str| from(&world.client, source, target);
    assert!(reach("192.0.2.10:4000", "10.0.0.11:80") && reach("192.0.2.10:4999", "10.0.0.11:80"));
    let dropped = || rule(&s.daemon.interface("tap0").unwrap(), "ingress", "(default)");
    let before = dropped();
    assert!(!reach("192.0.2.10:3999", "10.0.0.11:80") && !reach("192.0.2.10:5000", "10.0.0.11:80"), "another port");
    assert!(!reach("192.0.2.10:4001", "10.0.0.10:80"), "another address of the member");
    assert!(!reach("192.0.2.77:4002", "10.0.0.11:80"), "from another address");
    assert!(dropped() >= before + 4, "each was judged, and dropped");
    let shown = s.good(&[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &s.group)]);
    let shown = &shown["Permissions"]["Permission"][0];
    let fields = ["SourceCidrIp", "SourcePortRange", "DestCidrIp", "PortRange"].map(|f| shown[f].as_str().unwrap());
    assert_eq!(fields, ["192.0.2.10/32", "4000/4999", "10.0.0.11/32", "80/80"]);
}
