//! Requests that are wrong in two ways: what is checked earlier is the answer.
//!
//! Each action has a request that is good, and faults of several classes. Every fault
//! is sent alone, so that it is known to be one, and together with each of a later
//! class. What is never done leaves the next request what it found.

use std::collections::BTreeMap;

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{
    client::{call, key, parsed, post, raw, signed},
    errors::{Key, expand, request, send},
};
use crate::world::{Way, World, can_run};

/// In the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Common,
    Syntax,
    Existence,
    State,
    Quota,
}
use Class::{Common, Existence, Quota, State, Syntax};

/// Class, parameters that replace those of the good request, code.
type Fault = (Class, &'static str, &'static str);

const REGION: Fault = (Common, "RegionId=UPPER", "InvalidRegionId.NotFound");

const ACTIONS: &[(&str, &[Fault])] = &[
    (
        "CreateSecurityGroup SecurityGroupName=good",
        &[
            REGION,
            (Common, "ClientToken=ü", "InvalidClientToken.ValueNotSupported"),
            (Syntax, "SecurityGroupName=1a", "InvalidSecurityGroupName.Malformed"),
            (Syntax, "ResourceGroupId=rg\u{7f}", "InvalidResourceGroup.NotFound"),
            (Existence, "VpcId=vpc-none", "InvalidVpcId.NotFound"),
            (Quota, "$tags=21", "QuotaExceed.Tags"),
        ],
    ),
    (
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/1 \
         Permissions.1.SourceCidrIp=1.2.3.4",
        &[
            REGION,
            (Common, "Version=2016-03-14", "InvalidVersion"),
            (Syntax, "Permissions.1.Policy=maybe", "InvalidPolicy.Malformed"),
            (Existence, "SecurityGroupId=sg-none", "InvalidSecurityGroupId.NotFound"),
            (
                State,
                "Permissions.2.IpProtocol=tcp Permissions.2.PortRange=2/2 Permissions.2.SourceGroupId=$ent",
                "InvalidGroupAuthParameter.OperationDenied",
            ),
            (
                Quota,
                "Permissions.3.IpProtocol=tcp Permissions.3.PortRangeListId=$prl Permissions.3.SourceCidrIp=1.2.3.4",
                "AuthorizationLimitExceed",
            ),
        ],
    ),
    (
        "RevokeSecurityGroup SecurityGroupId=$a",
        &[
            REGION,
            (
                Syntax,
                "SecurityGroupRuleId.2=sgr-x SecurityGroupRuleId.3=sgr-x",
                "InvalidParam.SecurityGroupRuleIdRepeated",
            ),
            (Existence, "SecurityGroupRuleId.1=sgr-none", "InvalidSecurityGroupRuleId.NotFound"),
        ],
    ),
    (
        "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule Description=good",
        &[
            REGION,
            (Syntax, "Priority=101", "InvalidPriority.ValueNotSupported"),
            (Syntax, "SourcePortRange=9/1", "InvalidSourcePortRange.Malformed"),
            (Existence, "SecurityGroupId=sg-none", "InvalidSecurityGroupId.NotFound"),
            (Existence, "SecurityGroupRuleId=sgr-none", "InvalidSecurityGroupRuleId.NotFound"),
            (State, "SourceGroupId=$ent", "InvalidOperation.ModifySgRuleEntityType"),
            (State, "PortRange=6/6", "InvalidOperation.RuleDuplicate"),
        ],
    ),
    (
        "ModifySecurityGroupPolicy SecurityGroupId=$a InnerAccessPolicy=Accept",
        &[
            REGION,
            (Syntax, "InnerAccessPolicy=maybe", "InvalidPolicy.Malformed"),
            (State, "SecurityGroupId=$ent", "InvalidParameter.InnerAccessPolicy"),
        ],
    ),
    (
        "JoinSecurityGroup SecurityGroupId=$b NetworkInterfaceId=$eni",
        &[
            REGION,
            (Syntax, "InstanceId=i-guest", "InvalidParam.EniIdAndInstanceId.Conflict"),
            (Syntax, "NetworkInterfaceId=eni_x", "InvalidParam.Malformed"),
            (Existence, "NetworkInterfaceId=eni-none", "InvalidEniId.NotFound"),
            (Existence, "SecurityGroupId=sg-none", "InvalidSecurityGroupId.NotFound"),
            (State, "SecurityGroupId=$a", "InvalidInstanceId.AlreadyExists"),
            (Quota, "SecurityGroupId=$full", "AclLimitExceed"),
        ],
    ),
    (
        "ModifyInstanceAttribute InstanceId=i-guest",
        &[
            (
                Syntax,
                "SecurityGroupIds.2=sg-none SecurityGroupIds.3=sg-none",
                "InvalidParameter.SecurityGroupIdRepeated",
            ),
            (Existence, "InstanceId=i-none", "InvalidInstanceId.NotFound"),
            (State, "SecurityGroupIds.1=$a SecurityGroupIds.4=$ent", "EnterpriseGroupLimited.MutliGroupType"),
        ],
    ),
    (
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$a PrimaryIpAddress=198.51.100.50",
        &[
            REGION,
            (
                Syntax,
                "ConnectionTrackingConfiguration.UdpTimeout=31",
                "InvalidParameter.EniConnectionTrackingConfiguration",
            ),
            (Syntax, "Ipv6Address.1=x", "InvalidIp.Address"),
            (Existence, "VSwitchId=vsw-none", "InvalidVSwitchId.NotFound"),
            (Existence, "SecurityGroupId=sg-none", "InvalidSecurityGroupId.NotFound"),
            (State, "SecurityGroupId=$vpc", "InvalidOperation.VpcMismatch"),
            (State, "PrimaryIpAddress=198.51.100.1", "InvalidIp.Address"),
            (Quota, "$tags=21", "QuotaExceed.Tags"),
            (
                Quota,
                "PrivateIpAddress.1=198.51.100.51 PrivateIpAddress.2=198.51.100.52",
                "SecurityGroupInstanceLimitExceed",
            ),
        ],
    ),
    (
        "ModifyNetworkInterfaceAttribute NetworkInterfaceId=$eni NetworkInterfaceName=good",
        &[
            REGION,
            (Syntax, "NetworkInterfaceName=1a", "InvalidParameter"),
            (Syntax, "SecurityGroupId.2=sg-none SecurityGroupId.3=sg-none", "InvalidParameter.SecurityGroupIdRepeated"),
            (Existence, "NetworkInterfaceId=eni-none", "InvalidEniId.NotFound"),
            (State, "SecurityGroupId.1=$a SecurityGroupId.4=$ent", "InvalidOperation.MultiGroupType"),
        ],
    ),
    (
        "CreatePrefixList PrefixListName=good AddressFamily=IPv4 MaxEntries=1",
        &[
            REGION,
            (Syntax, "MaxEntries=0", "LimitExceed.MaxEntries"),
            (Syntax, "ResourceGroupId=rg\u{7f}", "InvalidResourceGroup.NotFound"),
            (Quota, "$tags=21", "QuotaExceed.Tags"),
        ],
    ),
    (
        "ModifyPrefixList PrefixListId=$p4 Description=good",
        &[
            REGION,
            (Syntax, "AddEntry.1.Cidr=10.0.0.1/8", "InvalidParameter.CidrMalformed"),
            (Existence, "PrefixListId=pl-none", "InvalidPrefixListId.NotFound"),
            (Quota, "AddEntry.2.Cidr=10.1.0.0/16 AddEntry.3.Cidr=10.2.0.0/16", "LimitExceed.Entry"),
        ],
    ),
    (
        "CreatePortRangeList PortRangeListName=good MaxEntries=1",
        &[
            REGION,
            (Syntax, "Entry.1.PortRange=2/1", "InvalidParameter.PortRange"),
            (Syntax, "ResourceGroupId=rg\u{7f}", "InvalidResourceGroup.NotFound"),
            (Quota, "$tags=21", "QuotaExceed.Tags"),
        ],
    ),
    (
        "ModifyPortRangeList PortRangeListId=$few Description=good",
        &[
            REGION,
            (Syntax, "AddEntry.1.PortRange=2/1", "InvalidParameter.PortRange"),
            (Syntax, "AddEntry.4.PortRange=5/5 RemoveEntry.1.PortRange=5/5", "InvalidParameter.PortRangeDuplicated"),
            (Existence, "PortRangeListId=prl-none", "InvalidPortRangeListId.NotFound"),
            (Quota, "AddEntry.2.PortRange=3/3 AddEntry.3.PortRange=4/4", "InvalidOperation.EntryCountExceedMaxEntries"),
        ],
    ),
    (
        "TagResources ResourceType=securitygroup ResourceId.1=$a",
        &[
            REGION,
            (Syntax, "Tag.30.Key=acs:x", "InvalidTagKey.Malformed"),
            (Existence, "ResourceId.1=sg-none Tag.31.Key=good", "InvalidResourceId.NotFound"),
            (Quota, "$tags=21", "QuotaExceed.Tags"),
        ],
    ),
];

const MAKE: &[(&str, &str, &str)] = &[
    ("a", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=aa"),
    ("b", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=bb"),
    ("ent", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=ee SecurityGroupType=enterprise"),
    ("vpc", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=vv VpcId=vpc-other"),
    ("full", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=ff"),
    ("p4", "PrefixListId", "CreatePrefixList PrefixListName=four AddressFamily=IPv4 MaxEntries=1"),
    ("prl", "PortRangeListId", "CreatePortRangeList PortRangeListName=ports MaxEntries=9"),
    ("few", "PortRangeListId", "CreatePortRangeList PortRangeListName=few MaxEntries=1"),
    (
        "eni",
        "NetworkInterfaceId",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$a PrimaryIpAddress=198.51.100.1",
    ),
    ("", "", "AuthorizeSecurityGroup SecurityGroupId=$full $permissions=7"),
    (
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=5/5 \
         Permissions.1.SourceCidrIp=1.2.3.4 Permissions.2.IpProtocol=tcp Permissions.2.PortRange=6/6 \
         Permissions.2.SourceCidrIp=1.2.3.4",
    ),
];

/// A good request with these faults in it.
fn with(good: &str, faults: &[&str], made: &BTreeMap<&str, String>) -> Vec<(String, String)> {
    let faulty = format!("{} {}", good.split(' ').next().unwrap(), faults.join(" "));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for text in [good, faulty.as_str()] {
        let mut request = request(text, made);
        let more = expand(&mut request, made);
        all.extend(request.into_iter().map(|(k, v)| (k.to_owned(), v)).chain(more));
    }
    all.into_iter().collect()
}

fn ask(daemon: &Daemon<'_>, key: &Key, request: &[(String, String)]) -> (u16, Value) {
    send(daemon, key, &request.iter().map(|(k, v)| (k.as_str(), v.clone())).collect())
}

/// Whether two faults are of the same parameter: then they cannot both be there.
fn clash(one: &str, other: &str) -> bool {
    let fields = |text: &str| text.split(' ').map(|w| w.split('=').next().unwrap().to_owned()).collect::<Vec<_>>();
    let other = fields(other);
    fields(one).iter().any(|f| other.contains(f))
}

#[test]
fn what_is_checked_earlier_is_the_answer() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = super::client::daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    for line in
        ["quotas.rules_per_interface = 8", "quotas.addresses_per_normal_group = 3", "api.vpcs = [\"vpc-other\"]"]
    {
        daemon.configure(line).unwrap();
    }
    daemon.start().unwrap();
    daemon.apply(super::story::document(), &[]).unwrap();
    let (key, looks) = (key(&daemon, &[]), key(&daemon, &["--read-only"]));
    let mut made: BTreeMap<&str, String> = BTreeMap::new();
    for (name, field, text) in MAKE {
        let (status, body) = ask(&daemon, &key, &with(text, &[], &made));
        assert_eq!(status, 200, "{text}: {body}");
        if !name.is_empty() {
            made.insert(name, body[field].as_str().unwrap().to_owned());
        }
    }
    let rules = call(&daemon, &key, &[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &made["a"])]).1;
    let rule = rules["Permissions"]["Permission"].as_array().unwrap().iter().find(|r| r["PortRange"] == "5/5");
    made.insert("rule", rule.unwrap()["SecurityGroupRuleId"].as_str().unwrap().to_owned());

    let (mut wrong, mut pairs) = (Vec::new(), 0);
    for (good, faults) in ACTIONS {
        let mut check = |faults: &[&str], code: &str, body: &Value| {
            if body["Code"] != code {
                wrong.push(format!("{good}\n  with {faults:?}: {code} is due, not {body}"));
            }
        };
        for (class, fault, code) in *faults {
            let request = with(good, &[fault], &made);
            check(&[fault], code, &ask(&daemon, &key, &request).1);
            // Who calls comes before all of it.
            let words: Vec<(&str, &str)> = request.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let mut forged = signed(&key, &words);
            forged.insert("Signature".into(), "bm90aGluZw==".into());
            check(&["a signature", fault], "SignatureDoesNotMatch", &parsed(&raw(&daemon, &post(&forged))).1);
            if *class > Common {
                check(&["a key that only looks", fault], "Forbidden.RAM", &ask(&daemon, &looks, &request).1);
            }
            for (_, other, _) in faults.iter().filter(|(later, other, _)| later > class && !clash(fault, other)) {
                check(&[fault, other], code, &ask(&daemon, &key, &with(good, &[fault, other], &made)).1);
                pairs += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(pairs >= 80, "only {pairs} pairs");
    eprintln!("{pairs} requests with two faults");
}
