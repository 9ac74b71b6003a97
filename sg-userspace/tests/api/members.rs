//! Who is in which groups, by `sgctl`; and the default group.

use serde_json::Value;

use super::{
    client::daemon,
    console::{done, refused},
};
use crate::world::{Way, World, can_run, to};

#[test]
fn groups_of_instances_and_interfaces_are_set() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let elsewhere = "- {network_interface_id: eni-far, network_interface_name: far, private_ip_addresses: [10.0.0.99],\n   \
                     security_group_ids: [base]}\n";
    daemon.apply(&format!("{}{elsewhere}", super::story::document()), &[]).unwrap();
    world.instance.tcp_server(443).unwrap();
    let reaches = || world.client.tcp(to("10.0.0.10:443")).unwrap();
    let groups = || daemon.interface("tap0").unwrap().status.groups;
    done(&daemon, &["group", "create", "web", "--open", "https@192.0.2.0/24"]);
    done(&daemon, &["group", "create", "idle"]);

    // By the instance: its primary interface.
    done(&daemon, &["instance", "set-groups", "i-guest", "web", "idle"]);
    assert_eq!(groups(), ["web", "idle"]);
    assert!(reaches());
    let said = done(&daemon, &["instance", "list"]);
    assert!(said.contains("i-guest") && said.contains("web, idle") && said.contains("10.0.0.10"), "{said}");
    let shown: Value = serde_json::from_str(&done(&daemon, &["instance", "show", "i-guest", "-o", "json"])).unwrap();
    let first = &shown["NetworkInterfaces"]["NetworkInterface"][0];
    assert_eq!((&first["NetworkInterfaceId"], &first["Type"]), (&"eni-guest".into(), &"Primary".into()), "{shown}");
    let said = refused(&daemon, &["instance", "set-groups", "nobody", "web"]);
    assert!(said.contains("there is no instance \"nobody\"") && said.contains("sgctl instance list"), "{said}");
    let said = refused(&daemon, &["instance", "set-groups", "i-guest", "web", "nothing"]);
    assert!(said.contains("InvalidSecurityGroupId.NotFound"), "{said}");
    assert_eq!(groups(), ["web", "idle"]);

    // By the interface, primary or not.
    done(&daemon, &["interface", "set-groups", "tap0", "base"]);
    assert!(groups() == ["base"] && !reaches());
    done(&daemon, &["interface", "join", "eni-guest", "web"]);
    assert!(groups() == ["base", "web"] && reaches());
    done(&daemon, &["interface", "leave", "tap0", "base"]);
    assert!(groups() == ["web"] && reaches());
    let said = refused(&daemon, &["interface", "leave", "tap0", "web"]);
    assert!(said.contains("AtLeastInOneGroup"), "{said}");
    done(&daemon, &["interface", "set-groups", "far", "idle"]);
    let said = done(&daemon, &["interface", "list"]);
    let line = |name: &str| said.lines().find(|l| l.contains(name)).unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(line("eni-far").contains("idle") && line("eni-guest").contains("i-guest (primary)"), "{said}");
    for command in ["set-groups", "join", "leave"] {
        let said = refused(&daemon, &["interface", command, "nothing", "web"]);
        assert!(said.contains("there is no network interface \"nothing\"; `sgctl interface list`"), "{said}");
    }

    // One is made, given to an instance, taken from it, and deleted, by names.
    let made = ["interface", "create", "--name", "spare", "--address", "10.0.0.98", "--address", "2001:db8::98", "web"];
    let said = done(&daemon, &made);
    assert!(said.starts_with("eni-") && said.contains("members of web"), "{said}");
    let said = refused(&daemon, &made);
    assert!(said.contains("PrimaryIpAddress"), "an address that another has: {said}");
    done(&daemon, &["interface", "attach", "spare", "i-guest"]);
    let said = done(&daemon, &["instance", "show", "i-guest"]);
    assert!(said.contains("spare") && said.contains("10.0.0.98, 2001:db8::98"), "{said}");
    let said = refused(&daemon, &["interface", "attach", "spare", "nobody"]);
    assert!(said.contains("there is no instance \"nobody\""), "{said}");
    assert!(done(&daemon, &["interface", "detach", "spare"]).contains("spare detached from i-guest"));
    let said = refused(&daemon, &["interface", "delete", "spare"]);
    for part in ["delete the network interface spare (eni-", "10.0.0.98", "it is a member of: web", "add --yes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    done(&daemon, &["interface", "delete", "spare", "--yes"]);
    assert!(!done(&daemon, &["interface", "list"]).contains("spare"));

    // A device is shown as it is protected; what lives elsewhere, as the policy knows it.
    assert!(done(&daemon, &["interface", "show", "tap0"]).contains("enforcing"));
    let said = done(&daemon, &["interface", "show", "far"]);
    assert!(said.contains("10.0.0.99") && said.contains("no device of that name is protected here"), "{said}");
    for arguments in [&["interface", "show", "far", "--rules"][..], &["interface", "show", "nothing"]] {
        let said = refused(&daemon, arguments);
        assert!(said.contains("is not protected; `sgctl status` lists what is"), "{said}");
    }
}

#[test]
fn the_default_group_is_made_once() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    for port in [22, 80, 3389, 7000] {
        world.instance.tcp_server(port).unwrap();
    }
    world.instance.udp_server(to("10.0.0.10:22")).unwrap();
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let ping = |address: &str| world.client.ping(address.parse().unwrap()).unwrap();
    let said = done(&daemon, &["group", "default"]);
    assert!(said.contains("made with 3 rules: everybody may ping, and reach TCP ports 22 and 3389"), "{said}");
    let id = said.split(' ').next().unwrap();
    let shown: Value = serde_json::from_str(&done(&daemon, &["group", "show", id, "-o", "json"])).unwrap();
    assert_eq!(
        (&shown["SecurityGroupName"], &shown["Description"]),
        (&id.into(), &"System created security group.".into())
    );
    let mut rules: Vec<String> = shown["Permissions"]["Permission"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            let field = |name: &str| r[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(field("Description"), "System created rule.");
            let (direction, policy, priority) = (field("Direction"), field("Policy"), &r["Priority"]);
            let (protocol, ports, from) = (field("IpProtocol"), field("PortRange"), field("SourceCidrIp"));
            format!("{direction} {policy} {priority} {protocol} {ports} {from}")
        })
        .collect();
    rules.sort();
    assert_eq!(
        rules,
        [
            "ingress Accept 100 ICMP -1/-1 0.0.0.0/0",
            "ingress Accept 100 TCP 22/22 0.0.0.0/0",
            "ingress Accept 100 TCP 3389/3389 0.0.0.0/0"
        ]
    );
    assert!(!reaches(22) && !ping("10.0.0.10"), "nobody is in it yet");
    done(&daemon, &["instance", "set-groups", "i-guest", id]);
    assert!(reaches(22) && reaches(3389) && ping("10.0.0.10"));
    assert!(!reaches(80) && !reaches(7000), "no other port");
    assert!(!world.client.udp(to("10.0.0.10:22"), 8).unwrap(), "of TCP only");
    assert!(!ping("2001:db8:1::10") && !world.client.tcp(to("[2001:db8:1::10]:22")).unwrap(), "of IPv4 only");

    // There is one of each VPC; what became of it since is as it was.
    done(&daemon, &["rule", "add", id, "ingress", "tcp", "7000", "192.0.2.0/24"]);
    let said = done(&daemon, &["group", "default", "--web"]);
    assert!(said.contains(&format!("{id} is the default group of vpc-default already; nothing was changed")), "{said}");
    assert!(reaches(22) && reaches(7000));
    let listed: Value = serde_json::from_str(&done(&daemon, &["group", "list", "-o", "json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let said = refused(&daemon, &["group", "default", "--vpc", "vpc-none"]);
    assert!(said.contains("InvalidVpcId.NotFound"), "{said}");
}
