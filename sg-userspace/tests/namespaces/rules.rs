//! Every kind of rule, by real sockets.

use std::net::IpAddr;

use super::world::*;
use sg_userspace::testbed::Daemon;

const POLICY: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_source_cidr_ip: '2001:db8:99::/64'}
  - {direction: ingress, policy: drop, priority: 1, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 192.0.2.77}
  - {direction: ingress, ip_protocol: tcp, port_range: 81/81, source_prefix_list_id: clients}
  - {direction: ingress, ip_protocol: tcp, port_range_list_id: ports, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 83/83, source_group_id: friends}
  - {direction: ingress, ip_protocol: tcp, port_range: 84/84, source_port_range: 5000/5000, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 85/85, source_cidr_ip: 0.0.0.0/0, dest_cidr_ip: 10.0.0.11}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, ipv6_source_cidr_ip: '::/0'}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 192.0.2.10}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '::/0'}
  - {direction: egress, policy: drop, ip_protocol: tcp, port_range: 9000/9000, dest_cidr_ip: 192.0.2.10}
- security_group_name: friends
prefix_lists:
- {prefix_list_name: clients, entries: [{cidr: 192.0.2.10/32}]}
port_range_lists:
- {port_range_list_name: ports, entries: [{port_range: 82/82}, {port_range: 86/87}]}
";
const MEMBER: &str = "- {private_ip_addresses: [192.0.2.77], security_group_ids: [friends]}\n";

struct Bench<'a> {
    world: &'a World,
    daemon: Daemon<'a>,
}

impl Bench<'_> {
    /// Tries something; the named line of the merged view must have decided it.
    #[track_caller]
    fn check(&self, what: &str, direction: &str, passes: bool, line: &str, act: impl FnOnce() -> bool) {
        let before = self.daemon.interface(self.world.device()).unwrap();
        let observed = act();
        let after = self.daemon.interface(self.world.device()).unwrap();
        let way = self.world.way;
        assert_eq!(observed, passes, "{way:?}: {what}: {:?}", after.reasons);
        let more = rule(&after, direction, line) > rule(&before, direction, line);
        assert!(more, "{way:?}: {what}: not decided by {line}: {:#?}", after.rules);
    }
}

fn every_kind(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    world.instance.address("eth0", &["10.0.0.11/24"]).unwrap();
    for port in [79, 80, 81, 82, 83, 84, 85, 86, 88] {
        world.instance.tcp_server(port).unwrap();
    }
    for address in ["10.0.0.10:53", "[2001:db8:1::10]:53", "10.0.0.10:54"] {
        world.instance.udp_server(to(address)).unwrap();
    }
    for port in [9000, 9001, 25] {
        world.client.tcp_server(port).unwrap();
    }
    let daemon = world.daemon();
    let interface = world.interface("g").replace("'2001:db8:1::10'", "10.0.0.11, '2001:db8:1::10'");
    daemon.apply(&format!("{POLICY}{interface}{MEMBER}"), &[]).unwrap();
    let b = Bench { world: &world, daemon };
    let (client, instance) = (&world.client, &world.instance);
    let tcp = |target: &str| client.tcp(to(target)).unwrap();
    b.check("an IPv4 prefix", "ingress", true, "g[0]", || from(client, "192.0.2.10:0", "10.0.0.10:80"));
    b.check("an IPv6 prefix", "ingress", true, "g[1]", || tcp("[2001:db8:1::10]:80"));
    b.check("a drop before an accept of its priority", "ingress", false, "g[2]", || {
        from(client, "192.0.2.77:0", "10.0.0.10:80")
    });
    b.check("no rule", "ingress", false, "(default)", || tcp("10.0.0.10:79"));
    b.check("no rule, IPv6", "ingress", false, "(default)", || tcp("[2001:db8:1::10]:79"));
    b.check("a prefix list", "ingress", true, "g[3]", || from(client, "192.0.2.10:0", "10.0.0.10:81"));
    b.check("not in the prefix list", "ingress", false, "(default)", || from(client, "192.0.2.77:0", "10.0.0.10:81"));
    b.check("a port list", "ingress", true, "g[4]", || tcp("10.0.0.10:82"));
    b.check("a port list, second range", "ingress", true, "g[4]", || tcp("10.0.0.10:86"));
    b.check("not in the port list", "ingress", false, "(default)", || tcp("10.0.0.10:88"));
    b.check("a group", "ingress", true, "g[5]", || from(client, "192.0.2.77:0", "10.0.0.10:83"));
    b.check("not in the group", "ingress", false, "(default)", || from(client, "192.0.2.10:0", "10.0.0.10:83"));
    b.check("a source port", "ingress", true, "g[6]", || from(client, "192.0.2.10:5000", "10.0.0.10:84"));
    b.check("another source port", "ingress", false, "(default)", || from(client, "192.0.2.10:5001", "10.0.0.10:84"));
    b.check("a local address", "ingress", true, "g[7]", || tcp("10.0.0.11:85"));
    b.check("another local address", "ingress", false, "(default)", || tcp("10.0.0.10:85"));
    b.check("udp and its reply", "ingress", true, "g[8]", || client.udp(to("10.0.0.10:53"), 100).unwrap());
    b.check("udp over IPv6", "ingress", true, "g[9]", || client.udp(to("[2001:db8:1::10]:53"), 100).unwrap());
    b.check("udp, no rule", "ingress", false, "(default)", || client.udp(to("10.0.0.10:54"), 100).unwrap());
    b.check("fragments", "ingress", true, "g[8]", || client.udp(to("10.0.0.10:53"), 5000).unwrap());
    b.check("fragments over IPv6", "ingress", true, "g[9]", || client.udp(to("[2001:db8:1::10]:53"), 5000).unwrap());
    b.check("ping", "ingress", true, "g[10]", || client.ping(IpAddr::from([10, 0, 0, 10])).unwrap());
    b.check("ping over IPv6", "ingress", true, "g[11]", || client.ping("2001:db8:1::10".parse().unwrap()).unwrap());
    b.check("outbound", "egress", true, "(default)", || instance.tcp(to("192.0.2.10:9001")).unwrap());
    b.check("outbound over IPv6", "egress", true, "(default)", || instance.tcp(to("[2001:db8:99::10]:9001")).unwrap());
    b.check("an outbound drop", "egress", false, "g[12]", || instance.tcp(to("192.0.2.10:9000")).unwrap());
    b.check("port 25", "egress", false, "(smtp)", || instance.tcp(to("192.0.2.10:25")).unwrap());
    b.check("port 25 over IPv6", "egress", false, "(smtp)", || instance.tcp(to("[2001:db8:99::10]:25")).unwrap());
    b.check("ping outbound", "egress", true, "(default)", || instance.ping(IpAddr::from([192, 0, 2, 10])).unwrap());
    let view = b.daemon.interface(world.device()).unwrap();
    assert!(reason(&view, "ingress", "fragment") > 0, "{:?}", view.reasons);
    assert_eq!(reason(&view, "ingress", "fragment_unseen"), 0);
    let wanted = match way {
        Way::HostTc | Way::Guest => [tc_place(), tc_place()],
        Way::HostClsact => ["clsact", "clsact"],
        Way::HostXdp => ["xdp", tc_place()],
    };
    assert_eq!(view.status.hooks, wanted);
}

#[test]
fn every_kind_on_the_host_side_at_tc() {
    every_kind(Way::HostTc);
}

#[test]
fn every_kind_on_the_host_side_at_xdp() {
    every_kind(Way::HostXdp);
}

#[test]
fn every_kind_on_the_guest_side() {
    every_kind(Way::Guest);
}

#[test]
fn every_kind_on_the_host_side_at_clsact() {
    every_kind(Way::HostClsact);
}
