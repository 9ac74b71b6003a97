//! Devices that this kernel's modules make.

use std::net::UdpSocket;

use super::machine::*;
use crate::world::*;

/// Both ends get a VLAN of their own over the pair.
fn tag(world: &World) {
    world.router.ip("link add link tap0 name vlan5 type vlan id 5").unwrap();
    world.instance.ip("link add link eth0 name vlan5 type vlan id 5").unwrap();
    for (net, number) in [(&world.router, 1), (&world.instance, 10)] {
        net.ip("link set vlan5 up").unwrap();
        net.address("vlan5", &[&format!("10.8.0.{number}/24"), &format!("2001:db8:8::{number}/64")]).unwrap();
    }
    servers(&world.instance);
}

const TAGGED: [&str; 2] = ["10.8.0.10", "[2001:db8:8::10]"];

/// The tag comes beside the packet, and once more within it.
#[test]
fn tagged_packets_are_judged_on_the_parent() {
    let Some(kernel) = kernel() else { return };
    let world = World::new(Way::HostTc);
    tag(&world);
    let daemon = world.daemon();
    daemon.apply(&policy("eth0", "hook: tc"), &[]).unwrap();
    let view = judged(&daemon, "eth0", &world.router, TAGGED);
    assert_eq!(view.status.hooks, [kernel.tc(), kernel.tc()]);
    // Without the sender's offload the tag is in the frame.
    world.router.run(|| Ok(output("ethtool", &["-K", "tap0", "txvlan", "off"]))).unwrap();
    judged(&daemon, "eth0", &world.router, TAGGED);
}

/// A stated limit: XDP sees frames, and a tag beside one is in none.
#[test]
fn a_tag_beside_the_packet_is_not_seen_at_xdp() {
    let Some(_) = kernel() else { return };
    let world = World::new(Way::HostTc);
    tag(&world);
    world.router.tcp_server(7000).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy("eth0", "hook: xdp"), &[]).unwrap();
    let connects = || world.instance.tcp(to("10.8.0.1:7000")).unwrap();
    let unknown = || reason(&daemon.interface("eth0").unwrap(), "ingress", "no_flow");
    assert!(!connects() && unknown() > 0, "the reply belongs to no flow");
    // Without the sender's offload the tag is in the frame.
    world.router.run(|| Ok(output("ethtool", &["-K", "tap0", "txvlan", "off"]))).unwrap();
    assert!(connects());
}

#[test]
fn a_vlan_device_is_protected_alone() {
    let Some(kernel) = kernel() else { return };
    let world = World::new(Way::HostTc);
    tag(&world);
    let daemon = world.daemon();
    daemon.apply(&policy("vlan5", "hook: auto"), &[]).unwrap();
    let view = judged(&daemon, "vlan5", &world.router, TAGGED);
    assert_eq!(view.status.hooks, [kernel.tc(), kernel.tc()]);
    assert!(world.client.tcp(to("10.0.0.10:81")).unwrap(), "its parent is not protected");
}

#[test]
fn what_leaves_by_a_dummy_is_judged() {
    let Some(kernel) = kernel() else { return };
    let world = World::new(Way::HostTc);
    world.instance.ip("link add dummy0 type dummy").unwrap();
    world.instance.ip("link set dummy0 up").unwrap();
    world.instance.address("dummy0", &["10.9.0.10/24"]).unwrap();
    let daemon = world.daemon();
    let text = "security_groups:\n- security_group_name: g\n  permissions:\n\
                \x20 - {direction: egress, policy: drop, ip_protocol: udp, port_range: 9/9, dest_cidr_ip: 10.9.0.0/24}\n\
                network_interfaces:\n- {device: dummy0, side: host, security_group_ids: [g]}\n";
    daemon.apply(text, &[]).unwrap();
    let send = |to: &'static str| {
        world.instance.run(move || Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", to).is_ok())).unwrap()
    };
    send("10.9.0.1:9");
    send("10.9.0.1:10");
    let view = daemon.interface("dummy0").unwrap();
    assert_eq!(view.status.hooks, [kernel.tc(), kernel.tc()]);
    assert_eq!(rule(&view, "egress", "g[0]"), 1, "{:?}", view.rules);
    assert_eq!(reason(&view, "egress", "default"), 1, "{:?}", view.reasons);
}
