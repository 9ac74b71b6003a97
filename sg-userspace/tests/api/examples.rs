//! The worked examples of the ECS documentation, each as calls, and as packets.

mod accounts;
mod isolation;
mod quintuple;

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::client::call;
use crate::world::{Way, World, can_run, to};

type Key = (String, String);

/// Who calls, and whom.
trait Caller {
    fn daemon(&self) -> &Daemon<'_>;
    fn key(&self) -> &Key;

    /// A call that must be good.
    #[track_caller]
    fn good(&self, parameters: &[(&str, &str)]) -> Value {
        let (status, body) = call(self.daemon(), self.key(), parameters);
        assert_eq!(status, 200, "{parameters:?}: {body}");
        body
    }

    /// A new basic group; its id.
    #[track_caller]
    fn group(&self, name: &str) -> String {
        let made = self.good(&[("Action", "CreateSecurityGroup"), ("SecurityGroupName", name)]);
        made["SecurityGroupId"].as_str().unwrap().to_owned()
    }
}

/// A guest in a group of its own, and who calls.
struct Stage<'a> {
    world: &'a World,
    daemon: Daemon<'a>,
    key: Key,
    group: String,
}

impl Caller for Stage<'_> {
    fn daemon(&self) -> &Daemon<'_> {
        &self.daemon
    }
    fn key(&self) -> &Key {
        &self.key
    }
}

impl<'a> Stage<'a> {
    fn new(world: &'a World) -> Self {
        Self::of(world, super::story::document())
    }

    /// One whose document, with the instance `i-guest`, is another.
    fn of(world: &'a World, document: &str) -> Self {
        let (daemon, key) = super::story::begun(world, document);
        let mut stage = Self { world, daemon, key, group: String::new() };
        stage.group = stage.group("example");
        let group = stage.group.clone();
        stage.good(&[("Action", "ModifyInstanceAttribute"), ("InstanceId", "i-guest"), ("SecurityGroupIds.1", &group)]);
        stage
    }

    /// `Authorize…`: policy, priority, protocol, ports, remote side.
    #[track_caller]
    fn rule(&self, egress: bool, policy: &str, priority: &str, protocol: &str, ports: &str, remote: (&str, &str)) {
        let action = if egress { "AuthorizeSecurityGroupEgress" } else { "AuthorizeSecurityGroup" };
        let remote_name = format!("Permissions.1.{}", remote.0);
        self.good(&[
            ("Action", action),
            ("SecurityGroupId", &self.group),
            ("Permissions.1.Policy", policy),
            ("Permissions.1.Priority", priority),
            ("Permissions.1.IpProtocol", protocol),
            ("Permissions.1.PortRange", ports),
            (&remote_name, remote.1),
        ]);
    }

    /// Whether the client at 192.0.2.10 reaches a port of the guest.
    fn reaches(&self, port: u16) -> bool {
        self.world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap()
    }
}

#[test]
fn the_worked_examples_do_what_they_say() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    for port in [80, 443, 22, 3389, 3306, 1433, 5432, 21] {
        world.instance.tcp_server(port).unwrap();
    }
    for port in [80, 443, 25] {
        world.client.tcp_server(port).unwrap();
    }
    let s = Stage::new(&world);

    // 1. A web server: 80 and 443 from everywhere, all else denied.
    for ports in ["80/80", "443/443"] {
        s.rule(false, "accept", "1", "TCP", ports, ("SourceCidrIp", "0.0.0.0/0"));
    }
    assert!(s.reaches(80) && s.reaches(443) && !s.reaches(22));

    // 2. Administration from one address.
    s.rule(false, "accept", "1", "TCP", "22/22", ("SourceCidrIp", "192.0.2.77"));
    assert!(!s.reaches(22), "from another address");
    s.rule(false, "accept", "1", "TCP", "22/22", ("SourceCidrIp", "192.0.2.10"));
    assert!(s.reaches(22));
    // A desktop the same way.
    s.rule(false, "accept", "1", "TCP", "3389/3389", ("SourceCidrIp", "192.0.2.77"));
    assert!(!s.reaches(3389), "from another address");
    s.rule(false, "accept", "1", "TCP", "3389/3389", ("SourceCidrIp", "192.0.2.10"));
    assert!(s.reaches(3389));

    // 3. A database, by address; and a drop behind an accept has no effect.
    s.rule(false, "accept", "1", "TCP", "3306/3306", ("SourceCidrIp", "192.0.2.0/24"));
    s.rule(false, "drop", "100", "TCP", "3306/3306", ("SourceCidrIp", "0.0.0.0/0"));
    assert!(s.reaches(3306), "the drop comes after");
    s.rule(false, "drop", "1", "TCP", "3306/3306", ("SourceCidrIp", "192.0.2.10/32"));
    assert!(!s.reaches(3306), "of one priority the drop counts");
    // MS SQL from a network.
    s.rule(false, "accept", "1", "TCP", "1433/1433", ("SourceCidrIp", "192.168.0.0/16"));
    assert!(!s.reaches(1433), "from outside it");
    s.rule(false, "accept", "1", "TCP", "1433/1433", ("SourceCidrIp", "192.0.0.0/16"));
    assert!(s.reaches(1433));
    // PostgreSQL from the group of the applications.
    let app = &s.group("app-tier");
    s.rule(false, "accept", "1", "TCP", "5432/5432", ("SourceGroupId", app));
    assert!(!s.reaches(5432));
    let member = s.good(&[
        ("Action", "CreateNetworkInterface"),
        ("VSwitchId", "vsw-default"),
        ("SecurityGroupId", app),
        ("PrimaryIpAddress", "192.0.2.10"),
    ]);
    assert!(s.reaches(5432), "a member of it");

    // 4. Ping, of either family; the client has one address of IPv6.
    world.client.ip("-6 addr del 2001:db8:99::77/64 dev eth0").unwrap();
    let ping = || world.client.ping("10.0.0.10".parse().unwrap()).unwrap();
    let ping6 = || world.client.ping("2001:db8:1::10".parse().unwrap()).unwrap();
    assert!(!ping());
    s.rule(false, "accept", "1", "ICMPv6", "-1/-1", ("Ipv6SourceCidrIp", "2001:db8:99::77"));
    assert!(!ping6(), "from another address");
    s.rule(false, "accept", "1", "ICMPv6", "-1/-1", ("Ipv6SourceCidrIp", "2001:db8:99::10"));
    assert!(ping6() && !ping(), "of IPv4 nothing was said");
    assert!(!world.client.tcp(to("[2001:db8:1::10]:22")).unwrap(), "nor of other protocols");
    s.rule(false, "accept", "1", "ICMP", "-1/-1", ("SourceCidrIp", "192.0.2.10"));
    assert!(ping());

    // 5. Group to group: FTP's port, for members of the other group only.
    s.rule(false, "accept", "1", "TCP", "21/21", ("SourceGroupId", app));
    assert!(s.reaches(21));
    let eni = member["NetworkInterfaceId"].as_str().unwrap();
    s.good(&[("Action", "DeleteNetworkInterface"), ("NetworkInterfaceId", eni)]);
    assert!(!s.reaches(21) && !s.reaches(5432));

    // 6. Egress: an allow-list, behind it a drop of all.
    let out = |port: u16| world.instance.tcp(to(&format!("192.0.2.10:{port}"))).unwrap();
    assert!(out(80) && out(443));
    s.rule(true, "drop", "2", "ALL", "-1/-1", ("DestCidrIp", "0.0.0.0/0"));
    s.rule(true, "accept", "1", "TCP", "80/80", ("DestCidrIp", "192.0.2.10"));
    assert!(out(80) && !out(443));
    assert!(s.reaches(80), "answers of what is let in are no egress of its own");

    // Mail to the outside: no rule lifts it.
    s.rule(true, "accept", "1", "TCP", "25/25", ("DestCidrIp", "0.0.0.0/0"));
    assert!(!out(25));

    // Several groups: a drop of any counts before an accept of a lower priority.
    let other = &s.group("other");
    s.good(&[
        ("Action", "AuthorizeSecurityGroup"),
        ("SecurityGroupId", other),
        ("Permissions.1.Policy", "drop"),
        ("Permissions.1.IpProtocol", "TCP"),
        ("Permissions.1.PortRange", "443/443"),
        ("Permissions.1.SourceCidrIp", "0.0.0.0/0"),
    ]);
    assert!(s.reaches(443));
    s.good(&[("Action", "JoinSecurityGroup"), ("SecurityGroupId", other), ("InstanceId", "i-guest")]);
    assert!(!s.reaches(443) && s.reaches(80));
    s.good(&[("Action", "LeaveSecurityGroup"), ("SecurityGroupId", other), ("InstanceId", "i-guest")]);
    assert!(s.reaches(443));
}
