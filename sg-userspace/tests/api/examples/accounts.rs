//! A group of another account as the object of a rule.

use serde_json::{Value, json};

use super::{Caller, Stage};
use crate::{
    api::client::{call, key},
    world::{Way, World, can_run, from},
};

const OWN: &str = "1000000000000001";
const OTHER: &str = "2000000000000002";

#[test]
fn members_of_another_accounts_group_are_let_in() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    for port in [21, 6379, 443] {
        world.instance.tcp_server(port).unwrap();
    }
    let s = Stage::new(&world);
    let other = key(&s.daemon, &["--account", OTHER]);
    let by_other = |ask: &[(&str, &str)]| {
        let (status, body) = call(&s.daemon, &other, ask);
        assert_eq!(status, 200, "{ask:?}: {body}");
        body
    };
    let text = |body: &Value, field: &str| body[field].as_str().unwrap().to_owned();
    let made = by_other(&[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "theirs")]);
    let theirs = text(&made, "SecurityGroupId");
    let own_app = s.group("own-app");

    // Whose it is must be said, and be so; by either of the two fields.
    let authorize = |group: &str, ports: &str, owner: Option<(&str, &str)>| {
        let mut ask = vec![
            ("Action", "AuthorizeSecurityGroup"),
            ("SecurityGroupId", s.group.as_str()),
            ("Permissions.1.IpProtocol", "TCP"),
            ("Permissions.1.PortRange", ports),
            ("Permissions.1.SourceGroupId", group),
        ];
        ask.extend(owner);
        let (status, body) = call(&s.daemon, &s.key, &ask);
        (status, body["Code"].as_str().unwrap_or_default().to_owned())
    };
    let (account, id) = ("Permissions.1.SourceGroupOwnerAccount", "Permissions.1.SourceGroupOwnerId");
    let refused = (404, "InvalidSourceGroupId.NotFound".to_owned());
    for owner in [None, Some((account, OWN)), Some((id, OWN)), Some((account, "2000000000000003"))] {
        assert_eq!(authorize(&theirs, "21/21", owner), refused, "{owner:?}");
    }
    assert_eq!(authorize(&theirs, "21/21", Some((account, OTHER))).0, 200);
    assert_eq!(authorize(&theirs, "6379/6379", Some((id, OTHER))).0, 200);
    assert_eq!(authorize(&own_app, "443/443", None).0, 200);

    // Its members, and nobody else.
    let reaches = |source: &str, port: u16| from(&world.client, &format!("{source}:0"), &format!("10.0.0.10:{port}"));
    assert!(!reaches("192.0.2.10", 21), "it has no member");
    let member = by_other(&[
        ("Action", "CreateNetworkInterface"),
        ("VSwitchId", "vsw-default"),
        ("SecurityGroupId", &theirs),
        ("PrimaryIpAddress", "192.0.2.10"),
    ]);
    let eni = text(&member, "NetworkInterfaceId");
    assert!(reaches("192.0.2.10", 21) && reaches("192.0.2.10", 6379));
    assert!(!reaches("192.0.2.10", 443), "which is for members of another group");
    assert!(!reaches("192.0.2.77", 21) && !reaches("192.0.2.77", 6379), "no member");

    // The rule says whose group it names; of that group itself each account sees its own only.
    let shown = s.good(&[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &s.group)]);
    let owners: Vec<&Value> = shown["Permissions"]["Permission"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["SourceGroupId"] == theirs.as_str())
        .map(|r| &r["SourceGroupOwnerAccount"])
        .collect();
    assert_eq!(owners, [&json!(OTHER); 2], "{shown}");
    for (key, unseen, interface) in [(&s.key, &theirs, eni.as_str()), (&other, &s.group, "eni-guest")] {
        let of = |ask: &[(&str, &str)]| call(&s.daemon, key, ask);
        let every = of(&[("Action", "DescribeSecurityGroups"), ("PageSize", "50")]).1;
        let all = every["SecurityGroups"]["SecurityGroup"].as_array().unwrap();
        assert!(!all.is_empty() && all.iter().all(|g| g["SecurityGroupId"] != unseen.as_str()), "{every}");
        let one = of(&[("Action", "DescribeSecurityGroups"), ("SecurityGroupId", unseen)]).1;
        assert_eq!(one["SecurityGroups"]["SecurityGroup"], json!([]));
        for (action, field) in [
            ("DescribeSecurityGroupAttribute", "SecurityGroupId"),
            ("DescribeSecurityGroupReferences", "SecurityGroupId.1"),
        ] {
            let (status, body) = of(&[("Action", action), (field, unseen)]);
            assert_eq!((status, &body["Code"]), (404, &json!("InvalidSecurityGroupId.NotFound")), "{body}");
        }
        let interfaces = of(&[("Action", "DescribeNetworkInterfaces")]).1;
        let all = interfaces["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap();
        assert!(all.iter().all(|i| i["NetworkInterfaceId"] != interface), "{interfaces}");
    }

    // Who owns it is told what names it, and cannot delete it as long.
    let by = by_other(&[("Action", "DescribeSecurityGroupReferences"), ("SecurityGroupId.1", &theirs)]);
    let by = &by["SecurityGroupReferences"]["SecurityGroupReference"][0]["ReferencingSecurityGroups"];
    assert_eq!(by["ReferencingSecurityGroup"], json!([{"SecurityGroupId": s.group, "AliUid": OWN}]));
    by_other(&[("Action", "DeleteNetworkInterface"), ("NetworkInterfaceId", &eni)]);
    assert!(!reaches("192.0.2.10", 21) && !reaches("192.0.2.10", 6379), "no member any more");
    let (status, body) = call(&s.daemon, &other, &[("Action", "DeleteSecurityGroup"), ("SecurityGroupId", &theirs)]);
    assert_eq!((status, &body["Code"]), (403, &json!("DependencyViolation")), "{body}");
}
