//! Members of one group among themselves: isolated, open, and let through by rules of
//! five fields.

use sg_userspace::testbed::{Daemon, Net};

use super::{Caller, Key};
use crate::{
    api::story,
    world::{Way, World, can_run, to},
};

/// Three guests of one router, in a group where nobody reaches anybody.
const DOCUMENT: &str = "security_groups:\n- {security_group_name: base, inner_access_policy: drop}\n\
    network_interfaces:\n\
    - {device: wan, side: guest, network_interface_id: eni-1, private_ip_addresses: [192.0.2.10],\n   \
    security_group_ids: [base]}\n\
    - {device: tap0, side: guest, network_interface_id: eni-2, private_ip_addresses: [10.0.0.10],\n   \
    security_group_ids: [base]}\n\
    - {device: tap1, side: guest, network_interface_id: eni-3, private_ip_addresses: [198.51.100.10],\n   \
    security_group_ids: [base]}\n";
const ADDRESSES: [&str; 3] = ["192.0.2.10", "10.0.0.10", "198.51.100.10"];

struct Three {
    world: World,
    third: Net,
}

impl Three {
    fn new() -> Self {
        let (world, third) = (World::new(Way::Guest), Net::new("third").unwrap());
        world.router.veth("tap1", &third, "eth0").unwrap();
        world.router.address("tap1", &["198.51.100.1/24"]).unwrap();
        third.address("eth0", &["198.51.100.10/24"]).unwrap();
        third.ip("route add default via 198.51.100.1").unwrap();
        let three = Self { world, third };
        for port in [80, 443] {
            three.nets().iter().for_each(|net| net.tcp_server(port).unwrap());
        }
        three
    }

    fn nets(&self) -> [&Net; 3] {
        [&self.world.client, &self.world.instance, &self.third]
    }

    /// Whether the first reaches a port of the second; they are counted from one.
    fn reaches(&self, who: usize, whom: usize, port: u16) -> bool {
        self.nets()[who - 1].tcp(to(&format!("{}:{port}", ADDRESSES[whom - 1]))).unwrap()
    }

    /// Whether both reach each other.
    #[track_caller]
    fn both(&self, one: usize, other: usize) -> bool {
        let (there, back) = (self.reaches(one, other, 80), self.reaches(other, one, 80));
        assert_eq!(there, back, "one way only: {one} and {other}");
        there
    }
}

struct Policy<'a> {
    daemon: Daemon<'a>,
    key: Key,
}

impl Caller for Policy<'_> {
    fn daemon(&self) -> &Daemon<'_> {
        &self.daemon
    }
    fn key(&self) -> &Key {
        &self.key
    }
}

impl<'a> Policy<'a> {
    fn new(three: &'a Three) -> Self {
        let (daemon, key) = story::begun(&three.world, DOCUMENT);
        Self { daemon, key }
    }

    fn inner(&self, group: &str, policy: &str) {
        self.good(&[
            ("Action", "ModifySecurityGroupPolicy"),
            ("SecurityGroupId", group),
            ("InnerAccessPolicy", policy),
        ]);
        let shown = self.good(&[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", group)]);
        assert_eq!(shown["InnerAccessPolicy"], policy);
    }

    /// Puts an interface into these groups, and no other.
    fn members(&self, interface: &str, groups: &[&str]) {
        let names: Vec<String> = (1..=groups.len()).map(|n| format!("SecurityGroupId.{n}")).collect();
        let mut ask = vec![("Action", "ModifyNetworkInterfaceAttribute"), ("NetworkInterfaceId", interface)];
        ask.extend(names.iter().map(String::as_str).zip(groups.iter().copied()));
        self.good(&ask);
    }
}

#[test]
fn two_groups_of_which_one_is_isolated() {
    if !can_run() {
        return;
    }
    let three = Three::new();
    let p = Policy::new(&three);
    let (group1, group2) = (p.group("Group1"), p.group("Group2"));
    p.members("eni-1", &[&group1]);
    p.members("eni-2", &[&group1, &group2]);
    p.members("eni-3", &[&group2]);

    // The matrix of the documentation: Group1 isolated, Group2 not.
    p.inner(&group1, "Drop");
    assert!(!three.both(1, 2) && three.both(2, 3) && !three.both(1, 3));
    // Both open: each group's members reach each other, and nobody by way of the one that is in both.
    p.inner(&group1, "Accept");
    assert!(three.both(1, 2) && three.both(2, 3) && !three.both(1, 3));
    // No rule of a group shuts out its own members; other groups' neither.
    p.good(&[
        ("Action", "AuthorizeSecurityGroup"),
        ("SecurityGroupId", &group2),
        ("Permissions.1.Policy", "drop"),
        ("Permissions.1.IpProtocol", "ALL"),
        ("Permissions.1.PortRange", "-1/-1"),
        ("Permissions.1.SourceCidrIp", "0.0.0.0/0"),
    ]);
    assert!(three.both(1, 2) && three.both(2, 3));
    // Each for itself: the other way about, and both isolated.
    p.inner(&group2, "Drop");
    assert!(three.both(1, 2) && !three.both(2, 3));
    p.inner(&group1, "Drop");
    assert!(!three.both(1, 2) && !three.both(1, 3));
    // Of two groups that both have, one that is open is enough.
    p.members("eni-3", &[&group1, &group2]);
    assert!(!three.both(2, 3));
    p.inner(&group2, "Accept");
    assert!(three.both(2, 3) && !three.both(1, 3));
}

#[test]
fn chosen_members_of_an_isolated_group_reach_each_other() {
    if !can_run() {
        return;
    }
    let three = Three::new();
    let p = Policy::new(&three);
    let group = p.group("isolated");
    p.inner(&group, "Drop");
    for interface in ["eni-1", "eni-2", "eni-3"] {
        p.members(interface, &[&group]);
    }
    assert!(!three.reaches(1, 2, 80) && !three.reaches(2, 3, 443));
    // The first may reach the second's web server, the second the third's; and that is all.
    for (who, whom, ports) in [(1, 2, "80/80"), (2, 3, "443/443")] {
        p.good(&[
            ("Action", "AuthorizeSecurityGroup"),
            ("SecurityGroupId", &group),
            ("Permissions.1.IpProtocol", "TCP"),
            ("Permissions.1.PortRange", ports),
            ("Permissions.1.SourceCidrIp", ADDRESSES[who - 1]),
            ("Permissions.1.DestCidrIp", ADDRESSES[whom - 1]),
        ]);
    }
    for who in 1..=3 {
        for whom in (1..=3).filter(|whom| *whom != who) {
            for port in [80, 443] {
                let may = matches!((who, whom, port), (1, 2, 80) | (2, 3, 443));
                assert_eq!(three.reaches(who, whom, port), may, "{who} to port {port} of {whom}");
            }
        }
    }
}
