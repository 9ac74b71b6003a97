//! What only the administrator sets stays as it was set, whatever is called: where
//! an interface is and what is lifted for it, and who may change a group.

use std::collections::BTreeSet;

use serde_json::Value;
use sg_userspace::{api::actions::ACTIONS, testbed::Daemon};

use super::client::{call, daemon, key};
use crate::world::{Way, World, can_run, to};

const DOCUMENT: &str = "document: host
security_groups:
- {security_group_name: base, security_group_id: sg-base}
- {security_group_name: held, security_group_id: sg-held}
network_interfaces:
- {device: tap0, side: guest, hook: tc, smtp_egress: open, source_check: off, network_interface_id: eni-first,
   instance_id: i-guest, private_ip_addresses: [10.0.0.10], security_group_ids: [sg-base]}
- {device: tap1, side: guest, hook: tc, smtp_egress: open, source_check: off, network_interface_id: eni-second,
   instance_id: i-guest, private_ip_addresses: [10.0.0.11], security_group_ids: [sg-base]}
";

/// What clients could call such a setting, each with another value than it has.
const OTHERWISE: &str = "Device=eth9 Side=host Hook=xdp SmtpEgress=blocked SourceCheck=on Managed=false \
                         ServiceManaged=false Protected=false DeletionProtection=false";

/// A call, its error if it has one, and which fields of objects it may change.
type Step = (&'static str, &'static str, &'static [&'static str]);

/// About interfaces that are devices of this host.
const INTERFACES: &[Step] = &[
    ("JoinSecurityGroup SecurityGroupId=sg-held NetworkInterfaceId=eni-first", "", &["security_group_ids"]),
    ("LeaveSecurityGroup SecurityGroupId=sg-held NetworkInterfaceId=eni-first", "", &["security_group_ids"]),
    ("JoinSecurityGroup SecurityGroupId=sg-held InstanceId=i-guest", "", &["security_group_ids"]),
    ("LeaveSecurityGroup SecurityGroupId=sg-held InstanceId=i-guest", "", &["security_group_ids"]),
    ("ModifyInstanceAttribute InstanceId=i-guest SecurityGroupIds.1=sg-held", "", &["security_group_ids"]),
    (
        "ModifyNetworkInterfaceAttribute NetworkInterfaceId=eni-second SecurityGroupId.1=sg-held",
        "",
        &["security_group_ids"],
    ),
    (
        "ModifyNetworkInterfaceAttribute NetworkInterfaceId=eni-first NetworkInterfaceName=first Description=text \
         ConnectionTrackingConfiguration.UdpTimeout=60",
        "",
        &["network_interface_name", "connection_tracking_configuration"],
    ),
    ("TagResources ResourceType=eni ResourceId.1=eni-first Tag.1.Key=device Tag.1.Value=eth9", "", &[]),
    ("UntagResources ResourceType=eni ResourceId.1=eni-first All=true", "", &[]),
    ("JoinResourceGroup ResourceType=eni ResourceId=eni-first ResourceGroupId=rg-other", "", &[]),
    (
        "AttachNetworkInterface NetworkInterfaceId=eni-second InstanceId=i-guest",
        "InvalidOperation.InvalidEniState",
        &[],
    ),
    (
        "DetachNetworkInterface NetworkInterfaceId=eni-second InstanceId=i-guest",
        "InvalidOperation.InvalidEniState",
        &[],
    ),
    ("DeleteNetworkInterface NetworkInterfaceId=eni-second", "InvalidOperation.InvalidEniState", &[]),
    // One of the caller's own gets none of it.
    (
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=sg-held PrimaryIpAddress=198.51.100.1 \
         NetworkInterfaceId=eni-first",
        "",
        &[],
    ),
];

/// About a group that is protected from deletion.
const GROUPS: &[Step] = &[
    ("CreateSecurityGroup SecurityGroupName=more SecurityGroupId=sg-held", "", &[]),
    ("ModifySecurityGroupAttribute SecurityGroupId=sg-held Description=text", "", &["description"]),
    ("ModifySecurityGroupPolicy SecurityGroupId=sg-held InnerAccessPolicy=Drop", "", &["inner_access_policy"]),
    ("AuthorizeSecurityGroup SecurityGroupId=sg-held $rule SourceCidrIp=192.0.2.0/24", "", &["permissions"]),
    (
        "ModifySecurityGroupRule SecurityGroupId=sg-held $rule SourceCidrIp=192.0.2.0/24 Description=text",
        "",
        &["permissions"],
    ),
    ("RevokeSecurityGroup SecurityGroupId=sg-held $rule SourceCidrIp=192.0.2.0/24", "", &["permissions"]),
    ("AuthorizeSecurityGroupEgress SecurityGroupId=sg-held $rule DestCidrIp=192.0.2.0/24", "", &["permissions"]),
    (
        "ModifySecurityGroupEgressRule SecurityGroupId=sg-held $rule DestCidrIp=192.0.2.0/24 Description=text",
        "",
        &["permissions"],
    ),
    ("RevokeSecurityGroupEgress SecurityGroupId=sg-held $rule DestCidrIp=192.0.2.0/24", "", &["permissions"]),
    ("TagResources ResourceType=securitygroup ResourceId.1=sg-held Tag.1.Key=managed", "", &["tags"]),
    ("UntagResources ResourceType=securitygroup ResourceId.1=sg-held All=true", "", &["tags"]),
    (
        "JoinResourceGroup ResourceType=securitygroup ResourceId=sg-held ResourceGroupId=rg-other",
        "",
        &["resource_group_id"],
    ),
    ("DeleteSecurityGroup SecurityGroupId=sg-held", "InvalidOperation.DeletionProtection", &[]),
];

/// About lists, which have no such setting, nor may they touch another's.
const LISTS: &[Step] = &[
    ("CreatePrefixList PrefixListName=list AddressFamily=IPv4 MaxEntries=2", "", &[]),
    ("ModifyPrefixList PrefixListId=$PrefixListId AddEntry.1.Cidr=192.0.2.0/24", "", &[]),
    ("DeletePrefixList PrefixListId=$PrefixListId", "", &[]),
    ("CreatePortRangeList PortRangeListName=list MaxEntries=2", "", &[]),
    ("ModifyPortRangeList PortRangeListId=$PortRangeListId AddEntry.1.PortRange=80/80", "", &[]),
    ("DeletePortRangeList PortRangeListId=$PortRangeListId", "", &[]),
];

/// A document as it is in force, without some fields of its objects.
fn export(daemon: &Daemon<'_>, name: &str, without: &[&str]) -> Value {
    let (done, text) = daemon.sgctl(&["export", name]).unwrap();
    assert!(done, "{text}");
    let mut document: Value = serde_yaml_ng::from_str(&text).unwrap();
    for object in document.as_object_mut().unwrap().values_mut().filter_map(Value::as_array_mut).flatten() {
        without.iter().for_each(|field| drop(object.as_object_mut().unwrap().remove(*field)));
    }
    document
}

/// Where the device is and what is lifted for it, as the kernel has it.
fn in_force(daemon: &Daemon<'_>) -> (String, String, Vec<String>, bool) {
    let view = daemon.interface("tap0").unwrap();
    let smtp = view.rules.iter().any(|r| r.rule == "(smtp)");
    (view.status.device, view.status.side, view.status.hooks, smtp)
}

/// Makes a call with everything that it should not heed; what it answered.
fn make(daemon: &Daemon<'_>, key: &(String, String), text: &str, last: &Value) -> (u16, Value) {
    let mut text = format!("{text} {OTHERWISE}").replace("$rule", "IpProtocol=tcp PortRange=80/80");
    if text.starts_with("ModifyInstanceAttribute ") {
        // An instance has such a field in the cloud: what cannot be changed here is refused.
        text = text.replace(" DeletionProtection=false", "");
    }
    let mut words = text.split_whitespace();
    let mut pairs = vec![("Action", words.next().unwrap().to_owned())];
    for (name, value) in words.map(|w| w.split_once('=').unwrap()) {
        let made = value.strip_prefix('$').and_then(|field| last[field].as_str());
        pairs.push((name, made.unwrap_or(value).to_owned()));
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    call(daemon, key, &pairs)
}

#[test]
fn what_the_administrator_sets_is_touched_by_no_call() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(DOCUMENT, &[]).unwrap();
    let key = key(&daemon, &[]);
    let flag = |which: &str, group: &str, more: &[&str]| {
        let (done, said) = daemon.sgctl(&[&["group", which, group], more].concat()).unwrap();
        assert!(done, "{said}");
    };
    let is_managed = || {
        let asked = [("Action", "DescribeSecurityGroups"), ("SecurityGroupId", "sg-held")];
        call(&daemon, &key, &asked).1["SecurityGroups"]["SecurityGroup"][0]["ServiceManaged"].clone()
    };
    flag("protect", "sg-held", &[]);
    let stands = in_force(&daemon);
    assert!(stands.1 == "guest" && !stands.3, "{stands:?}");
    let mut called = BTreeSet::new();
    let mut last = Value::Null;
    for (text, error, may) in INTERFACES.iter().chain(GROUPS).chain(LISTS) {
        let before = export(&daemon, "host", may);
        let (status, body) = make(&daemon, &key, text, &last);
        assert_eq!(body["Code"].as_str().unwrap_or_default(), *error, "{text}: {status} {body}");
        assert_eq!(export(&daemon, "host", may), before, "{text}");
        assert_eq!(in_force(&daemon), stands, "{text}");
        assert_eq!(is_managed(), false, "{text}");
        let delete = make(&daemon, &key, "DeleteSecurityGroup SecurityGroupId=sg-held", &last).1;
        assert_eq!(delete["Code"], "InvalidOperation.DeletionProtection", "{text}: {delete}");
        called.insert(text.split(' ').next().unwrap());
        if ["PrefixListId", "PortRangeListId"].iter().any(|f| body[*f].is_string()) {
            last = body;
        }
    }
    let missing: Vec<&str> = ACTIONS.iter().filter(|a| a.writes && !called.contains(a.name)).map(|a| a.name).collect();
    assert!(missing.is_empty(), "not called: {missing:?}");
    let own = export(&daemon, "(api)", &[]).to_string();
    for setting in ["device", "side", "hook", "smtp_egress", "source_check"] {
        assert!(!own.contains(&format!("\"{setting}\"")), "{own}");
    }

    // Managed: no call changes the group, nor lets anything in or out of it; its labels are the tenant's.
    flag("protect", "sg-held", &["--off"]);
    flag("manage", "sg-held", &[]);
    let managed = "InvalidOperation.ResourceManagedByCloudProduct";
    let whole = |may: &[&str]| (export(&daemon, "host", may), export(&daemon, "(api)", may));
    let about = |s: &&Step| s.0.contains("=sg-held") && !s.0.starts_with("CreateSecurityGroup");
    for (text, _, may) in INTERFACES.iter().chain(GROUPS).filter(about) {
        let label = may.iter().any(|m| matches!(*m, "tags" | "resource_group_id"));
        let may = if label { *may } else { &[] };
        let before = whole(may);
        let (_, body) = make(&daemon, &key, &text.replace("198.51.100.1", "198.51.100.2"), &last);
        assert_eq!(body["Code"].as_str().unwrap_or_default(), if label { "" } else { managed }, "{text}: {body}");
        assert_eq!(whole(may), before, "{text}");
        assert_eq!(is_managed(), true, "{text}");
    }
    let names = "AuthorizeSecurityGroup SecurityGroupId=sg-base $rule SourceGroupId=sg-held";
    assert_eq!(make(&daemon, &key, names, &last).1["Code"], managed);

    // After all that mail to the outside is still not blocked.
    world.client.tcp_server(25).unwrap();
    assert!(world.instance.tcp(to("192.0.2.10:25")).unwrap());
}
