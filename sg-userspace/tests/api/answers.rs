//! What listings answer: filters, sizes of pages, limits as they are configured, and
//! rules that are the same however they are written.

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::{
    client::{call, key},
    errors::{Key, request},
};
use crate::world::{Way, World, can_run};

const DOCUMENT: &str = "document: host
security_groups:
- security_group_name: base
  security_group_id: sg-base
  permissions:
  - {direction: ingress, priority: '01', ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 10.0.0.5/8}
network_interfaces:
- {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,
   private_ip_addresses: [10.0.0.10], security_group_ids: [sg-base]}
";

fn good(daemon: &Daemon<'_>, key: &Key, text: &str) -> Value {
    let all = request(text, &Default::default());
    let pairs: Vec<(&str, &str)> = all.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (status, body) = call(daemon, key, &pairs);
    assert_eq!(status, 200, "{text}: {body}");
    body
}

#[test]
fn listings_answer_what_was_asked() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = super::client::daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("api.vpcs = [\"vpc-other\"]").unwrap();
    daemon.configure("quotas.addresses_per_normal_group = 7").unwrap();
    daemon.configure("quotas.interfaces_per_enterprise_group = 5").unwrap();
    daemon.start().unwrap();
    daemon.apply(DOCUMENT, &[]).unwrap();
    let key = key(&daemon, &[]);
    let good = |text: &str| good(&daemon, &key, text);
    let interfaces = |text: &str| {
        let all = good(&format!("DescribeNetworkInterfaces {text}"));
        all["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap().len()
    };

    // Each VPC has a VSwitch, and interfaces that are made there are of that VPC.
    let group = good("CreateSecurityGroup SecurityGroupName=other VpcId=vpc-other SecurityGroupType=enterprise");
    let group = group["SecurityGroupId"].as_str().unwrap();
    let listed = good("DescribeVSwitches VpcId=vpc-other");
    assert_eq!(listed["VSwitches"]["VSwitch"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["VSwitches"]["VSwitch"][0]["VSwitchId"], "vsw-other");
    let vpcs = good("DescribeVpcs VpcId=vpc-other");
    assert_eq!(vpcs["Vpcs"]["Vpc"][0]["VSwitchIds"]["VSwitchId"], json!(["vsw-other"]));
    let made = good(&format!(
        "CreateNetworkInterface VSwitchId=vsw-other SecurityGroupId={group} PrimaryIpAddress=198.51.100.1 \
         PrivateIpAddress.1=198.51.100.2"
    ));
    let id = made["NetworkInterfaceId"].as_str().unwrap();
    let shown = good(&format!("DescribeNetworkInterfaceAttribute NetworkInterfaceId={id}"));
    assert_eq!((&shown["VpcId"], &shown["VSwitchId"]), (&"vpc-other".into(), &"vsw-other".into()));

    // None is managed. Their pages have ten at least, whatever is asked.
    assert_eq!((interfaces("ServiceManaged=true"), interfaces("ServiceManaged=false")), (0, 2));
    assert_eq!((interfaces("MaxResults=1"), interfaces("MaxResults=1000")), (2, 2));
    // Those of lists can be shorter.
    for name in ["first", "second"] {
        good(&format!("CreatePrefixList PrefixListName={name} AddressFamily=IPv4 MaxEntries=1"));
    }
    let page = good("DescribePrefixLists MaxResults=1");
    assert_eq!(page["PrefixLists"]["PrefixList"].as_array().unwrap().len(), 1, "{page}");
    assert_ne!(page["NextToken"], "");

    // What is left of limits: addresses in a basic group, interfaces in an enterprise one.
    for (group, left) in [("sg-base", 6), (group, 4)] {
        let listed = good(&format!("DescribeSecurityGroups IsQueryEcsCount=True SecurityGroupId={group}"));
        assert_eq!(listed["SecurityGroups"]["SecurityGroup"][0]["AvailableInstanceAmount"], left, "{listed}");
    }

    // The document's rule in other words is that rule.
    good(
        "AuthorizeSecurityGroup SecurityGroupId=sg-base Permissions.1.IpProtocol=TCP Permissions.1.PortRange=80/80 \
         Permissions.1.Priority=1 Permissions.1.SourceCidrIp=10.0.0.0/8",
    );
    let rules = good("DescribeSecurityGroupAttribute SecurityGroupId=sg-base");
    assert_eq!(rules["Permissions"]["Permission"].as_array().unwrap().len(), 1, "{rules}");
}

/// A rule whose sides are the same in two spellings, which no call makes.
const TWO_SIDES: &str = "document: host
security_groups:
- security_group_name: base
  security_group_id: sg-base
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 10.0.0.1, dest_cidr_ip: 10.0.0.1/32}
  - {direction: ingress, ip_protocol: tcp, port_range: 81/81, source_cidr_ip: 10.0.0.1/8, dest_cidr_ip: 10.0.0.0/8}
  - {direction: egress, ip_protocol: tcp, port_range: 82/82, ipv6_source_cidr_ip: '2001:db8::/32',
     ipv6_dest_cidr_ip: '2001:db8::1/32'}
network_interfaces:
- {device: tap0, side: guest, network_interface_id: eni-guest, private_ip_addresses: [10.0.0.10],
   security_group_ids: [sg-base]}
";

#[test]
fn a_rule_that_no_call_makes_is_changed_and_taken_away_by_calls() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = super::client::daemon(&world);
    daemon.apply(TWO_SIDES, &[]).unwrap();
    let key = key(&daemon, &[]);
    let ask = |text: &str| {
        let all = request(text, &Default::default());
        let pairs: Vec<(&str, &str)> = all.iter().map(|(k, v)| (*k, v.as_str())).collect();
        call(&daemon, &key, &pairs)
    };
    let rules = || {
        let all = good(&daemon, &key, "DescribeSecurityGroupAttribute SecurityGroupId=sg-base");
        all["Permissions"]["Permission"].as_array().unwrap().clone()
    };
    let same = "SecurityGroupId=sg-base IpProtocol=tcp PortRange=80/80 SourceCidrIp=10.0.0.1/32 DestCidrIp=10.0.0.1";
    let far = "SecurityGroupId=sg-base IpProtocol=tcp PortRange=81/81 SourceCidrIp=10.0.0.0/8 DestCidrIp=10.9.9.9/8";
    let listed = "SecurityGroupId=sg-base Permissions.1.IpProtocol=tcp Permissions.1.PortRange=82/82 \
                  Permissions.1.Ipv6SourceCidrIp=2001:db8::/32 Permissions.1.Ipv6DestCidrIp=2001:db8::/32";
    for (action, text) in
        [("AuthorizeSecurityGroup", same), ("AuthorizeSecurityGroup", far), ("AuthorizeSecurityGroupEgress", listed)]
    {
        let (status, body) = ask(&format!("{action} {text}"));
        assert_eq!((status, &body["Code"]), (400, &"InvalidParamter.Conflict".into()), "{body}");
    }
    // Described by its fields, as older clients do; and by its id, also in other fields.
    good(&daemon, &key, &format!("ModifySecurityGroupRule {same} Description=seen"));
    let rule = |port: &str| rules().into_iter().find(|r| r["PortRange"] == port).unwrap();
    assert_eq!(rule("80/80")["Description"], "seen");
    let id = rule("81/81")["SecurityGroupRuleId"].as_str().unwrap().to_owned();
    let change = format!("ModifySecurityGroupRule SecurityGroupId=sg-base SecurityGroupRuleId={id}");
    good(&daemon, &key, &format!("{change} Priority=7"));
    assert_eq!((&rule("81/81")["Priority"], &rule("81/81")["SecurityGroupRuleId"]), (&7.into(), &id.as_str().into()));
    // One that has two sides is not given one.
    good(&daemon, &key, &format!("{change} SourceCidrIp=192.0.2.0/24"));
    let (status, body) = ask(&format!("{change} SourceCidrIp=10.1.1.1/8"));
    assert_eq!((status, &body["Code"]), (400, &"InvalidParamter.Conflict".into()), "{body}");
    // And taken away by its fields, flat and listed, in any spelling.
    good(&daemon, &key, &format!("RevokeSecurityGroup {same}"));
    good(&daemon, &key, &format!("RevokeSecurityGroupEgress {listed}"));
    let left: Vec<Value> = rules().into_iter().map(|r| r["PortRange"].clone()).collect();
    assert_eq!(left, [json!("81/81")]);
}
