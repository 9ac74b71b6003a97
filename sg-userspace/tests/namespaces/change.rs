//! Changes of policy under live flows, with real sockets.

use std::io::{Read, Write};

use super::world::*;
use sg_userspace::testbed::echoes;

fn policy(world: &World, port: u16) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    )
}

fn cut(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    world.instance.tcp_server(80).unwrap();
    world.instance.tcp_server(81).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world, 80), &[]).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    daemon.apply(&policy(&world, 81), &["--on-change", "keep"]).unwrap();
    assert!(echoes(&mut live, b"kept"), "keep lets it live");
    assert!(!world.client.tcp(to("10.0.0.10:80")).unwrap(), "but no new one");
    daemon.apply(&policy(&world, 80), &[]).unwrap();
    assert!(echoes(&mut live, b"allowed again"));
    daemon.apply(&policy(&world, 81), &[]).unwrap();
    assert!(!echoes(&mut live, b"cut"), "{way:?}: cut");
    // The server never saw the end, and keeps sending into the cut flow.
    assert!(!echoes(&mut live, b"still"), "stays cut");
    let view = daemon.interface(world.device()).unwrap();
    assert!(reason(&view, "ingress", "cut") > 0, "{:?}", view.reasons);
    assert!(world.client.tcp(to("10.0.0.10:81")).unwrap());
}

#[test]
fn a_flow_is_kept_then_cut_and_stays_cut() {
    for way in WAYS {
        cut(way);
    }
}

/// What nobody asked for does not end a drain that was asked for; what is asked does.
#[test]
fn a_flow_drains_on_while_the_machine_changes() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    // A rule of its own group's names another group, of which the device is a member, too.
    let with = |port: u16| {
        policy(&world, port)
            .replace("security_groups:\n", "security_groups:\n- {security_group_name: m, security_group_id: m}\n")
            .replace(
                "  permissions:\n",
                "  permissions:\n  - {direction: ingress, ip_protocol: udp, port_range: 9/9, source_group_id: m}\n",
            )
            .replace("[g]", "[g, m]")
    };
    world.instance.tcp_server(80).unwrap();
    let daemon = world.daemon();
    daemon.apply(&with(80), &[]).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    daemon.apply(&with(81), &["--on-change", "drain:86400"]).unwrap();
    assert!(echoes(&mut live, b"drains"));
    assert!(!world.client.tcp(to("10.0.0.10:80")).unwrap(), "but no new one");
    // The group has another member: a delta, which a look finds.
    let epoch = || daemon.interface("eth0").unwrap().status.epoch;
    let before = epoch();
    world.instance.ip("addr add 10.0.0.77/24 dev eth0").unwrap();
    eventually("the new address is a member", || epoch() != before);
    assert!(echoes(&mut live, b"drains on"));
    daemon.apply(&with(82), &[]).unwrap();
    assert!(!echoes(&mut live, b"cut"));
}

/// The instance keeps sending; what it sends must not open the flow anew.
#[test]
fn a_server_that_keeps_sending_stays_cut() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let listener = world.instance.run(|| Ok(std::net::TcpListener::bind("0.0.0.0:80")?)).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world, 80), &[]).unwrap();
    let mut client = world.client.connect(to("10.0.0.10:80")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"one").unwrap();
    let mut three = [0; 3];
    client.read_exact(&mut three).unwrap();
    daemon.apply(&policy(&world, 81), &[]).unwrap();
    let count = || reason(&daemon.interface("eth0").unwrap(), "egress", "cut");
    for round in 1..=3 {
        server.write_all(b"two").unwrap();
        eventually("what the server sends is dropped as cut", || count() >= round);
    }
    assert!(client.read_exact(&mut three).is_err(), "nothing of it arrives");
}
