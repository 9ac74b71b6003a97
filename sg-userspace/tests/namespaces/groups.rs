//! Members and groups: isolation, references, addresses that change, hairpins.

use super::world::*;
use sg_userspace::testbed::{Daemon, Net};

/// Guests behind one host, each on a device `tap<n>`, address 10.0.<n>.10; or
/// all on one bridge, address 10.0.0.<n>0.
fn guests(host: &Net, names: &[&str], bridge: bool) -> Vec<Net> {
    host.sysctl("ipv4/ip_forward", "1").unwrap();
    if bridge {
        host.ip("link add br0 type bridge").unwrap();
        host.ip("link set br0 up").unwrap();
    }
    let mut nets = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let (net, n) = (Net::new(name).unwrap(), i + 1);
        host.veth(&format!("tap{n}"), &net, "eth0").unwrap();
        if bridge {
            host.ip(&format!("link set tap{n} master br0")).unwrap();
            net.address("eth0", &[&format!("10.0.0.{n}0/24")]).unwrap();
        } else {
            host.address(&format!("tap{n}"), &[&format!("10.0.{n}.1/24")]).unwrap();
            net.address("eth0", &[&format!("10.0.{n}.10/24")]).unwrap();
            net.ip(&format!("route add default via 10.0.{n}.1")).unwrap();
        }
        net.tcp_server(7000).unwrap();
        nets.push(net);
    }
    nets
}

fn start<'a>(host: &'a Net, policy: &str) -> Daemon<'a> {
    let mut daemon = Daemon::new(host, bin()).unwrap();
    daemon.start().unwrap();
    daemon.apply(policy, &[]).unwrap();
    daemon
}

#[test]
fn isolation_over_three_interfaces() {
    if !can_run() {
        return;
    }
    let host = Net::new("host").unwrap();
    let nets = guests(&host, &["a", "b", "c"], false);
    let daemon = start(
        &host,
        "security_groups:\n- {security_group_name: isolated, inner_access_policy: drop}\n- {security_group_name: open}\n\
         network_interfaces:\n\
         - {device: tap1, side: guest, private_ip_addresses: [10.0.1.10], security_group_ids: [isolated]}\n\
         - {device: tap2, side: guest, private_ip_addresses: [10.0.2.10], security_group_ids: [isolated, open]}\n\
         - {device: tap3, side: guest, private_ip_addresses: [10.0.3.10], security_group_ids: [open]}\n",
    );
    let reach = |from: usize, to_guest: usize| nets[from].tcp(to(&format!("10.0.{}.10:7000", to_guest + 1))).unwrap();
    assert!(!reach(0, 1) && !reach(1, 0), "A and B share only an isolated group");
    assert!(reach(1, 2) && reach(2, 1), "B and C share an open group");
    assert!(!reach(0, 2) && !reach(2, 0), "A and C share no group");
    let c = daemon.interface("tap3").unwrap();
    assert!(reason(&c, "ingress", "intra_group") > 0 && reason(&c, "ingress", "default") > 0, "{:?}", c.reasons);
    assert!(reason(&daemon.interface("tap1").unwrap(), "ingress", "default") > 0);
}

#[test]
fn a_reference_follows_an_address_that_changes() {
    if !can_run() {
        return;
    }
    let host = Net::new("host").unwrap();
    let nets = guests(&host, &["db"], false);
    let client = Net::new("client").unwrap();
    host.veth("wan", &client, "eth0").unwrap();
    host.address("wan", &["192.0.2.1/24"]).unwrap();
    let daemon = start(
        &host,
        "security_groups:\n- security_group_name: web\n- security_group_name: db\n  permissions:\n\
         \x20 - {direction: ingress, ip_protocol: tcp, port_range: 7000/7000, source_group_id: web}\n\
         network_interfaces:\n- {device: wan, side: host, security_group_ids: [web]}\n\
         - {device: tap1, side: guest, private_ip_addresses: [10.0.1.10], security_group_ids: [db]}\n",
    );
    let reach = |source: &str| {
        host.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&to(&format!("{source}:0")).into())?;
            Ok(socket.connect_timeout(&to("10.0.1.10:7000").into(), sg_userspace::testbed::PATIENCE).is_ok())
        })
        .unwrap()
    };
    assert!(reach("192.0.2.1"), "a member's address");
    host.address("lo", &["192.0.2.50/32"]).unwrap();
    assert!(!reach("192.0.2.50"), "not a member's address yet");
    assert!(reason(&daemon.interface("tap1").unwrap(), "ingress", "default") > 0);
    host.address("wan", &["192.0.2.50/24"]).unwrap();
    let listed = || daemon.interface("wan").unwrap().status.addresses.iter().any(|a| a.to_string() == "192.0.2.50");
    eventually("the new address is followed", listed);
    assert!(reach("192.0.2.50"), "a member's address now");
    host.ip("addr del 192.0.2.50/24 dev wan").unwrap();
    eventually("the removal is followed", || !listed());
    assert!(!reach("192.0.2.50"), "no longer");
    drop(nets);
}

#[test]
fn a_hairpin_between_two_guests_of_one_bridge() {
    if !can_run() {
        return;
    }
    let host = Net::new("host").unwrap();
    let nets = guests(&host, &["a", "b"], true);
    nets[1].tcp_server(7001).unwrap();
    let daemon = start(
        &host,
        "security_groups:\n- security_group_name: a\n- security_group_name: b\n  permissions:\n\
         \x20 - {direction: ingress, ip_protocol: tcp, port_range: 7000/7000, source_group_id: a}\n\
         network_interfaces:\n\
         - {device: tap1, side: guest, private_ip_addresses: [10.0.0.10], security_group_ids: [a]}\n\
         - {device: tap2, side: guest, private_ip_addresses: [10.0.0.20], security_group_ids: [b]}\n",
    );
    assert!(nets[0].tcp(to("10.0.0.20:7000")).unwrap());
    assert!(!nets[0].tcp(to("10.0.0.20:7001")).unwrap());
    let (a, b) = (daemon.interface("tap1").unwrap(), daemon.interface("tap2").unwrap());
    assert!(rule(&a, "egress", "(default)") >= 2, "both left the first guest: {:?}", a.rules);
    assert!(rule(&b, "ingress", "b[0]") == 1 && rule(&b, "ingress", "(default)") >= 1, "{:?}", b.rules);
}

#[test]
fn a_guest_that_spoofs() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    world.client.tcp_server(7000).unwrap();
    let daemon = world.daemon();
    let policy = |check: &str| {
        let interface = world.interface("g").replace("side: guest", &format!("side: guest, source_check: {check}"));
        format!("security_groups:\n- security_group_name: g\n{interface}")
    };
    daemon.apply(&policy("on"), &[]).unwrap();
    world.instance.address("eth0", &["10.0.0.66/24"]).unwrap();
    let spoof = || {
        world.instance.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&to("10.0.0.66:0").into())?;
            Ok(socket.connect_timeout(&to("192.0.2.10:7000").into(), sg_userspace::testbed::PATIENCE).is_ok())
        })
    };
    assert!(!spoof().unwrap());
    assert!(reason(&daemon.interface("tap0").unwrap(), "egress", "spoofed") > 0);
    assert!(world.instance.tcp(to("192.0.2.10:7000")).unwrap(), "its own address works");
    daemon.apply(&policy("off"), &[]).unwrap();
    assert!(spoof().unwrap(), "with the check off, it may");
}
