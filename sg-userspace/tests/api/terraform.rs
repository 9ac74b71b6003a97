//! The exchanges that Terraform's provider (aliyun/alicloud) makes, as request
//! sequences; each names the function of its source that it follows. What comes
//! back must be what it compares with, to the letter.

mod import;

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{client::call, story};
use crate::world::{Way, World, can_run};

struct Provider<'a> {
    daemon: Daemon<'a>,
    key: (String, String),
}

impl Provider<'_> {
    #[track_caller]
    fn good(&self, action: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, body) = call(&self.daemon, &self.key, &[&[("Action", action)], parameters].concat());
        assert_eq!(status, 200, "{action} {parameters:?}: {body}");
        body
    }

    /// `DescribeSecurityGroups` as `resourceAliCloudEcsSecurityGroupRead` asks.
    fn group(&self, id: &str) -> Option<Value> {
        let body = self.good("DescribeSecurityGroups", &[("SecurityGroupId", id)]);
        body["SecurityGroups"]["SecurityGroup"].as_array().unwrap().first().cloned()
    }

    /// `DescribeSecurityGroupRule` of `service_alicloud_ecs.go`: the rule that is
    /// compared field by field.
    fn rule(&self, id: &str, direction: &str, same: &dyn Fn(&Value) -> bool) -> Option<Value> {
        // The provider sends literally this where the user said nothing.
        let ask = [("SecurityGroupId", id), ("Direction", direction), ("NicType", "<nil>")];
        let body = self.good("DescribeSecurityGroupAttribute", &ask);
        body["Permissions"]["Permission"].as_array().unwrap().iter().find(|r| same(r)).cloned()
    }
}

#[test]
fn the_exchanges_of_terraforms_provider() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = story::begun(&world, story::document());
    let p = Provider { daemon, key };

    // resourceAliCloudEcsSecurityGroupCreate
    let made = p.good(
        "CreateSecurityGroup",
        &[
            ("ClientToken", "TF-CreateSecurityGroup-1"),
            ("SecurityGroupName", "tf-testAcc"),
            ("Description", "alice"),
            ("SecurityGroupType", "normal"),
            ("VpcId", "vpc-default"),
            ("Tag.1.Key", "Created"),
            ("Tag.1.Value", "TF"),
        ],
    );
    let id = made["SecurityGroupId"].as_str().unwrap();
    let inner = || p.good("DescribeSecurityGroupAttribute", &[("SecurityGroupId", id)])["InnerAccessPolicy"].clone();
    assert_eq!(inner(), "Accept");
    // resourceAliCloudEcsSecurityGroupUpdate, each attribute; and back.
    for policy in ["Drop", "Accept"] {
        let ask = [("SecurityGroupId", id), ("InnerAccessPolicy", policy), ("ClientToken", policy)];
        p.good("ModifySecurityGroupPolicy", &ask);
        assert_eq!(inner(), policy);
    }
    for name in ["tf-renamed", "tf-testAcc"] {
        p.good("ModifySecurityGroupAttribute", &[("SecurityGroupId", id), ("SecurityGroupName", name)]);
        let group = p.group(id).unwrap();
        assert_eq!((&group["SecurityGroupName"], &group["Description"]), (&name.into(), &"alice".into()));
    }
    let resource = [("ResourceType", "securitygroup"), ("ResourceId.1", id)];
    p.good("UntagResources", &[&resource[..], &[("TagKey.1", "Created")]].concat());
    p.good("TagResources", &[&resource[..], &[("Tag.1.Key", "For"), ("Tag.1.Value", "Test")]].concat());
    let tags = &p.group(id).unwrap()["Tags"]["Tag"];
    assert_eq!(tags, &serde_json::json!([{"TagKey": "For", "TagValue": "Test"}]));
    let join = [("ResourceType", "securitygroup"), ("ResourceId", id), ("ResourceGroupId", "rg-1")];
    p.good("JoinResourceGroup", &join);
    assert_eq!(p.group(id).unwrap()["ResourceGroupId"], "rg-1");

    // resourceAliyunSecurityGroupRuleCreate, …Read, …Update, …Delete: what is said, and what must come back.
    let cases = [
        ("ingress", "tcp", "22/22", "SourceCidrIp", "10.159.6.18/12", "10.159.6.18/12"),
        ("ingress", "udp", "1/65535", "SourceCidrIp", "192.0.2.7", "192.0.2.7"),
        ("egress", "icmp", "-1/-1", "DestCidrIp", "0.0.0.0/0", "0.0.0.0/0"),
        ("egress", "all", "-1/-1", "DestCidrIp", "198.51.100.0/24", "198.51.100.0/24"),
        ("ingress", "gre", "-1/-1", "SourceCidrIp", "0.0.0.0/0", "0.0.0.0/0"),
        ("ingress", "icmpv6", "-1/-1", "Ipv6SourceCidrIp", "::/0", "::/0"),
        (
            "ingress",
            "tcp",
            "80/80",
            "Ipv6SourceCidrIp",
            "2001:0db8:3c4d:0015:0000:0000:1a2f:1a2b/0",
            "2001:db8:3c4d:15::1a2f:1a2b/0",
        ),
    ];
    for (direction, protocol, ports, field, said, read) in cases {
        let (authorize, modify, revoke) = if direction == "ingress" {
            ("AuthorizeSecurityGroup", "ModifySecurityGroupRule", "RevokeSecurityGroup")
        } else {
            ("AuthorizeSecurityGroupEgress", "ModifySecurityGroupEgressRule", "RevokeSecurityGroupEgress")
        };
        let names: Vec<String> = ["IpProtocol", "PortRange", "Priority", "Policy", "NicType", field]
            .iter()
            .map(|f| format!("Permissions.1.{f}"))
            .collect();
        let values = [protocol, ports, "1", "accept", "intranet", said];
        let mut ask = vec![("SecurityGroupId", id)];
        ask.extend(names.iter().map(String::as_str).zip(values));
        p.good(authorize, &ask);
        let same = |r: &Value| {
            r["IpProtocol"].as_str().unwrap().to_lowercase() == protocol
                && r["PortRange"] == ports
                && r[field] == read
                && r["Policy"].as_str().unwrap().to_lowercase() == "accept"
                && r["Priority"] == 1
        };
        let rule = || p.rule(id, direction, &same);
        assert!(rule().is_some(), "{protocol} {ports} {said} is not read as {read}");
        // An update is sent twice, flat, without the rule's id.
        let mut flat = vec![
            ("SecurityGroupId", id),
            ("IpProtocol", protocol),
            ("PortRange", ports),
            ("Priority", "1"),
            ("Policy", "accept"),
            ("NicType", "intranet"),
            (field, said),
        ];
        for _ in 0..2 {
            p.good(modify, &[&flat[..], &[("Description", "SHDRP-7513")]].concat());
            assert_eq!(rule().unwrap()["Description"], "SHDRP-7513");
        }
        // A delete sends the description, too, and fields that are empty; a second one is no error.
        flat.extend([
            ("Description", "another"),
            ("SourceGroupId", ""),
            ("DestPrefixListId", ""),
            ("PortRangeListId", ""),
        ]);
        for _ in 0..2 {
            p.good(revoke, &flat);
            assert!(rule().is_none(), "{protocol} {ports} {said}");
        }
    }

    // resourceAliCloudEcsPrefixList: an entry without a description has an empty one.
    let list = [
        ("PrefixListName", "tf-testAcc"),
        ("AddressFamily", "IPv4"),
        ("MaxEntries", "2"),
        ("Entry.1.Cidr", "192.168.0.0/16"),
        ("Entry.1.Description", ""),
    ];
    let pl = p.good("CreatePrefixList", &list)["PrefixListId"].as_str().unwrap().to_owned();
    let read = p.good("DescribePrefixListAttributes", &[("PrefixListId", &pl)]);
    assert_eq!(read["Entries"]["Entry"], serde_json::json!([{"Cidr": "192.168.0.0/16", "Description": ""}]));

    // resourceAliCloudEcsSecurityGroupDelete: tried again while somebody is in it; and one that is gone is gone.
    let member = [("SecurityGroupId", id), ("NetworkInterfaceId", "eni-guest")];
    p.good("JoinSecurityGroup", &member);
    let delete = [("Action", "DeleteSecurityGroup"), ("SecurityGroupId", id)];
    let (status, body) = call(&p.daemon, &p.key, &delete);
    assert_eq!((status, &body["Code"]), (403, &"DependencyViolation".into()), "{body}");
    p.good("LeaveSecurityGroup", &member);
    assert_eq!(call(&p.daemon, &p.key, &delete).0, 200);
    assert!(p.group(id).is_none());
    assert_eq!(call(&p.daemon, &p.key, &delete).0, 404);
    p.good("DeletePrefixList", &[("PrefixListId", &pl)]);
}
