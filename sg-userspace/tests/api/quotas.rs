//! Quotas that became stricter than what is stored: that stays in force, everything
//! else can be changed, and what passes a quota may become less, but no more.

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{
    client::{call, daemon, key},
    console::done,
    errors::{Key, request, send},
};
use crate::world::{Way, World, can_run, to};

const DOCUMENT: &str = "document: host
security_groups:
- security_group_name: base
  security_group_id: sg-base
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 7000/7000, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 7001/7001, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 1/1, source_group_id: sg-other}
  - {direction: ingress, ip_protocol: tcp, port_range: 2/2, source_group_id: sg-other}
  - {direction: ingress, ip_protocol: tcp, port_range: 3/3, source_group_id: sg-other}
  - {direction: ingress, ip_protocol: tcp, port_range: 4/4, source_prefix_list_id: pl-a}
- {security_group_name: other, security_group_id: sg-other}
- {security_group_name: third, security_group_id: sg-third}
prefix_lists:
- prefix_list_name: a
  prefix_list_id: pl-a
  max_entries: 10
  entries: [{cidr: 198.51.100.0/30}, {cidr: 198.51.100.4/30}, {cidr: 198.51.100.8/30}]
network_interfaces:
- {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,
   private_ip_addresses: [10.0.0.10, '2001:db8:1::10'], security_group_ids: [sg-base, sg-other, sg-third]}
- {network_interface_id: eni-far, private_ip_addresses: [10.0.0.99, 10.0.0.98, 10.0.0.97],
   security_group_ids: [sg-other]}
";

/// Each of them is passed by the document, and by how much.
const STRICTER: &[&str] = &[
    "quotas.rules_per_interface = 8",
    "quotas.group_rules_per_group = 2",
    "quotas.groups_per_interface = 2",
    "quotas.addresses_per_normal_group = 3",
    "quotas.prefix_list_entries = 2",
];

/// What makes it worse: request, code, and the numbers that are said.
const WORSE: &[(&str, &str, &str)] = &[
    (
        "AuthorizeSecurityGroup SecurityGroupId=sg-base IpProtocol=tcp PortRange=9/9 SourceCidrIp=1.2.3.4",
        "AuthorizationLimitExceed",
        "(16 rules in this group, lists count their MaxEntries; the limit is 8)",
    ),
    (
        "AuthorizeSecurityGroup SecurityGroupId=sg-third IpProtocol=tcp PortRange=9/9 SourceCidrIp=1.2.3.4",
        "AuthorizationLimitExceed",
        "16 rules apply here",
    ),
    (
        "ModifyPrefixList PrefixListId=pl-a AddEntry.1.Cidr=198.51.100.12/30",
        "LimitExceed.Entry",
        "4 entries, the limit is 2",
    ),
    (
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=sg-other PrimaryIpAddress=10.0.0.50",
        "SecurityGroupInstanceLimitExceed",
        "6 member addresses, the limit is 3",
    ),
    (
        "JoinSecurityGroup SecurityGroupId=$new NetworkInterfaceId=eni-guest",
        "InstanceSecurityGroupLimitExceeded",
        "(4 groups, the limit is 2)",
    ),
];

/// What makes it no worse, in this order.
const NO_WORSE: &[&str] = &[
    // What has nothing to do with it.
    "CreateSecurityGroup SecurityGroupName=more",
    "AuthorizeSecurityGroup SecurityGroupId=$new IpProtocol=tcp PortRange=9/9 SourceCidrIp=1.2.3.4",
    "ModifySecurityGroupAttribute SecurityGroupId=sg-base Description=stricter",
    "TagResources ResourceType=securitygroup ResourceId.1=sg-base Tag.1.Key=seen",
    // What is as many as before.
    "ModifySecurityGroupRule SecurityGroupId=sg-base IpProtocol=tcp PortRange=7000/7000 SourceCidrIp=192.0.2.0/24 \
     Description=text",
    "ModifyPrefixList PrefixListId=pl-a AddEntry.1.Cidr=198.51.100.12/30 RemoveEntry.1.Cidr=198.51.100.8/30",
    "ModifyNetworkInterfaceAttribute NetworkInterfaceId=eni-far NetworkInterfaceName=far",
    // What is less.
    "RevokeSecurityGroup SecurityGroupId=sg-base IpProtocol=tcp PortRange=7001/7001 SourceCidrIp=192.0.2.0/24",
    "RevokeSecurityGroup SecurityGroupId=sg-base IpProtocol=tcp PortRange=3/3 SourceGroupId=sg-other",
    "ModifyPrefixList PrefixListId=pl-a RemoveEntry.1.Cidr=198.51.100.12/30",
    "LeaveSecurityGroup SecurityGroupId=sg-third NetworkInterfaceId=eni-guest",
    "LeaveSecurityGroup SecurityGroupId=sg-other InstanceId=i-guest",
    "RevokeSecurityGroup SecurityGroupId=sg-base IpProtocol=tcp PortRange=4/4 SourcePrefixListId=pl-a",
    "DeletePrefixList PrefixListId=pl-a",
];

fn good(daemon: &Daemon<'_>, key: &Key, made: &std::collections::BTreeMap<&str, String>, text: &str) -> Value {
    let (status, body) = send(daemon, key, &request(text, made));
    assert_eq!(status, 200, "{text}: {body}");
    body
}

#[test]
fn what_passes_a_stricter_quota_stays_and_becomes_only_less() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    daemon.apply(DOCUMENT, &[]).unwrap();
    let key = key(&daemon, &[]);
    let mut made = std::collections::BTreeMap::new();
    let new = good(&daemon, &key, &made, "CreateSecurityGroup SecurityGroupName=new");
    made.insert("new", new["SecurityGroupId"].as_str().unwrap().to_owned());
    done(&daemon, &["snapshot", "create", "good"]);
    let kept = serde_json::from_str::<Value>(&done(&daemon, &["status", "-o", "json"])).unwrap()["generation"].clone();
    assert!(reaches(7000) && reaches(7001));
    daemon.stop(libc::SIGTERM).unwrap();
    STRICTER.iter().for_each(|line| daemon.configure(line).unwrap());
    daemon.start().unwrap();
    let log = daemon.log();
    for said in ["passes quotas of today", "15 rules apply here", "3 entries, the limit is 2", "5 member addresses"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(reaches(7000) && reaches(7001), "what is stored is in force");
    // The same document once more is no change; one with more is refused, by numbers.
    daemon.apply(DOCUMENT, &["--yes"]).unwrap();
    let more = "  - {direction: ingress, ip_protocol: tcp, port_range: 5/5, source_group_id: sg-other}\n";
    let more = DOCUMENT.replacen("- {security_group_name: other", &format!("{more}- {{security_group_name: other"), 1);
    let e = daemon.apply(&more, &["--yes"]).unwrap_err().to_string();
    assert!(e.contains("4 rules of this group name a group, the limit is 2"), "{e}");
    assert!(!e.contains("member addresses"), "what is no worse is no reason: {e}");

    for (text, code, numbers) in WORSE {
        let (_, body) = send(&daemon, &key, &request(text, &made));
        assert_eq!(body["Code"], *code, "{text}: {body}");
        assert!(body["Message"].as_str().unwrap().contains(numbers), "{text}: {body}");
    }
    for text in NO_WORSE {
        good(&daemon, &key, &made, text);
    }
    assert!(reaches(7000) && !reaches(7001), "and what was changed is in force, too");
    // What became less does not become more again, by whatever way.
    let back = "AuthorizeSecurityGroup SecurityGroupId=sg-base IpProtocol=tcp PortRange=3/3 SourceGroupId=sg-other";
    assert_eq!(send(&daemon, &key, &request(back, &made)).1["Code"], "AuthorizedGroupRule.LimitExceed");
    let (ok, said) = daemon.sgctl(&["snapshot", "restore", &kept.to_string(), "--yes"]).unwrap();
    assert!(!ok && said.contains("the limit is"), "{said}");
    // A kill later it is as it was.
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert!(reaches(7000) && !reaches(7001));
    let (status, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
    assert_eq!(status, 200, "{body}");
}

/// Of two groups that one interface is in, which may have six rules.
const ROOM_FOR_THREE: &str = "document: host
security_groups:
- security_group_name: base
  security_group_id: sg-base
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 7000/7000, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 7001/7001, source_cidr_ip: 192.0.2.0/24}
- security_group_name: other
  security_group_id: sg-other
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 7002/7002, source_cidr_ip: 192.0.2.0/24}
- {security_group_name: third, security_group_id: sg-third}
network_interfaces:
- {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,
   private_ip_addresses: [10.0.0.10], security_group_ids: [sg-base, sg-other]}
";

#[test]
fn a_preview_says_of_each_rule_what_the_import_does() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    for line in ["quotas.rules_per_interface = 6", "quotas.group_rules_per_group = 1"] {
        daemon.configure(line).unwrap();
    }
    daemon.start().unwrap();
    daemon.apply(ROOM_FOR_THREE, &[]).unwrap();
    let rule = |port: u16, object: &str, value: &str| serde_json::json!({"Direction": "ingress", "IpProtocol": "tcp", "PortRange": format!("{port}/{port}"), object: value});
    let cidr = |port| rule(port, "SourceCidrIp", "192.0.2.0/24");
    // Each of them alone would be good, but for the last.
    let file = [
        rule(1, "SourceGroupId", "sg-third"),
        rule(2, "SourceGroupId", "sg-third"),
        cidr(7001),
        cidr(3),
        cidr(3),
        cidr(4),
        cidr(5),
        cidr(5),
        rule(6, "SourceCidrIp", "nowhere"),
    ];
    let path = daemon.dir().join("rules.json");
    std::fs::write(&path, Value::from(file.to_vec()).to_string()).unwrap();
    let import = |more: &[&str]| -> (Vec<String>, String) {
        let (_, said) = daemon.sgctl(&[&["group", "import", "base", path.to_str().unwrap()], more].concat()).unwrap();
        let value: Value = serde_json::from_str(said.split_inclusive("\n}").next().unwrap()).unwrap_or_default();
        let one = |r: &Value| format!("{} {} {}", r["Put"], r["There"], r["Reason"].as_str().unwrap_or_default());
        (value["Rules"].as_array().into_iter().flatten().map(one).collect(), said)
    };
    let would = import(&["--preview", "-o", "json"]).0;
    let shown = import(&["--preview"]).1;
    assert!(shown.contains("3 would be put in, 6 not, of which 2 are there already"), "{shown}");
    let did = import(&["-o", "json"]).0;
    assert_eq!(would, did, "the preview is what became of them");
    let expected = [
        ("true false", ""),
        ("false false", "AuthorizedGroupRule.LimitExceed"),
        ("false true", "it is there already"),
        ("true false", ""),
        ("false true", "it is there already"),
        ("true false", ""),
        ("false false", "7 rules apply here"),
        ("false false", "7 rules apply here"),
        ("false false", "SourceCidrIp is not valid"),
    ];
    for ((said, (fate, why)), n) in would.iter().zip(expected).zip(1..) {
        assert!(said.starts_with(fate) && said.contains(why) && !said.contains("Permissions."), "{n}: {said}");
    }
    assert_eq!(would.len(), expected.len(), "{would:?}");
    let rules = done(&daemon, &["group", "show", "base", "-o", "json"]);
    let rules: Value = serde_json::from_str(&rules).unwrap();
    assert_eq!(rules["Permissions"]["Permission"].as_array().unwrap().len(), 5, "{rules}");
}
