//! The story: groups, rules, references, lists, interfaces, members, refusals;
//! after each step packets are sent, and what becomes of them is what was asked for.

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::client::{daemon, key};
use crate::world::{World, to};

/// What a client makes of a refusal.
#[derive(Debug)]
pub struct Refused {
    pub code: String,
    pub status: Option<u16>,
    pub message: String,
}

/// Something that calls.
pub trait Api {
    fn call(&mut self, action: &str, params: Value) -> Result<Value, Refused>;

    /// A call in the region that must be good.
    #[track_caller]
    fn good(&mut self, action: &str, mut params: Value) -> Value {
        params["RegionId"] = "local".into();
        match self.call(action, params.clone()) {
            Ok(body) => body,
            Err(e) => panic!("{action} {params}: {e:?}"),
        }
    }

    /// A call in the region that must be refused so.
    #[track_caller]
    fn bad(&mut self, action: &str, mut params: Value, status: u16, code: &str) {
        params["RegionId"] = "local".into();
        match self.call(action, params.clone()) {
            Ok(body) => panic!("{action} {params} was not refused: {body}"),
            Err(e) => {
                assert!(e.code == code && e.status.is_none_or(|s| s == status), "{action} {params}: {e:?}");
                // It must say something that a person can read.
                assert!(e.message.len() > 10, "{e:?}");
            }
        }
    }
}

/// The daemon of a world, with its API and a document in force, and a key for it.
pub fn begun<'a>(world: &'a World, document: &str) -> (Daemon<'a>, (String, String)) {
    let daemon = daemon(world);
    daemon.apply(document, &[]).unwrap();
    let key = key(&daemon, &[]);
    (daemon, key)
}

/// What is protected first: a guest in a group without rules.
pub fn document() -> &'static str {
    "security_groups:\n- {security_group_name: base, inner_access_policy: drop}\nnetwork_interfaces:\n\
     - {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,\n   \
     private_ip_addresses: [10.0.0.10, '2001:db8:1::10'], security_group_ids: [base]}\n"
}

pub fn tell(world: &World, daemon: &Daemon<'_>, api: &mut dyn Api) {
    daemon.apply(document(), &[]).unwrap();
    for port in [7000, 7001, 7002, 7003, 25] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    // A group, and its first member.
    let made = api.good("CreateSecurityGroup", json!({"SecurityGroupName": "web", "Description": "a story"}));
    let web = text(&made["SecurityGroupId"]);
    assert!(web.starts_with("sg-"), "{made}");
    assert!(!reaches(7000), "no rule yet");
    api.good("JoinSecurityGroup", json!({"SecurityGroupId": web, "NetworkInterfaceId": "eni-guest"}));
    api.bad(
        "JoinSecurityGroup",
        json!({"SecurityGroupId": web, "NetworkInterfaceId": "eni-guest"}),
        403,
        "InvalidInstanceId.AlreadyExists",
    );

    // Rules, by one and by a hundred; what is there already changes nothing.
    let rule = |port: u16, from: &str| {
        json!({"IpProtocol": "tcp", "PortRange": format!("{port}/{port}"), "SourceCidrIp": from, "Policy": "accept",
               "Priority": "1"})
    };
    for _ in 0..2 {
        let permissions = json!([rule(7000, "192.0.2.0/24")]);
        api.good("AuthorizeSecurityGroup", json!({"SecurityGroupId": web, "Permissions": permissions}));
        assert!(reaches(7000), "in force when the answer is there");
    }
    let hundred: Vec<Value> = (0..100).map(|i| rule(20_000 + i, "198.51.100.7")).collect();
    api.good("AuthorizeSecurityGroup", json!({"SecurityGroupId": web, "Permissions": hundred}));
    let mut bad: Vec<Value> = (0..3).map(|i| rule(21_000 + i, "198.51.100.7")).collect();
    bad[2]["PortRange"] = "9/3".into();
    api.bad(
        "AuthorizeSecurityGroup",
        json!({"SecurityGroupId": web, "Permissions": bad}),
        400,
        "InvalidParam.PortRange",
    );
    let (mut rules, mut token) = (Vec::new(), String::new());
    loop {
        let mut ask = json!({"SecurityGroupId": web, "Direction": "ingress", "MaxResults": 40});
        if !token.is_empty() {
            ask["NextToken"] = token.as_str().into();
        }
        let page = api.good("DescribeSecurityGroupAttribute", ask);
        assert_eq!(page["InnerAccessPolicy"], "Accept");
        rules.extend(page["Permissions"]["Permission"].as_array().unwrap().iter().cloned());
        token = page.get("NextToken").map(text).unwrap_or_default();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(rules.len(), 101, "all or nothing, and nothing twice");
    let first = rules.iter().find(|r| r["PortRange"] == "7000/7000").unwrap().clone();
    assert_eq!((&first["SourceCidrIp"], &first["IpProtocol"]), (&json!("192.0.2.0/24"), &json!("TCP")));
    let bare = rules.iter().filter(|r| r["SourceCidrIp"] == "198.51.100.7").count();
    assert_eq!(bare, 100, "as it was said");

    // A group as the object: whoever is in it, while it is.
    let app = text(&api.good("CreateSecurityGroup", json!({"SecurityGroupName": "app"}))["SecurityGroupId"]);
    let permissions = json!([{"IpProtocol": "TCP", "PortRange": "7001/7001", "SourceGroupId": app}]);
    api.good("AuthorizeSecurityGroup", json!({"SecurityGroupId": web, "Permissions": permissions}));
    assert!(!reaches(7001), "nobody is in it");
    let elsewhere = json!({"VSwitchId": "vsw-default", "SecurityGroupId": app, "PrimaryIpAddress": "192.0.2.10"});
    let eni = text(&api.good("CreateNetworkInterface", elsewhere)["NetworkInterfaceId"]);
    assert!(reaches(7001), "its member");
    let references = api.good("DescribeSecurityGroupReferences", json!({"SecurityGroupId": [app]}));
    let by = &references["SecurityGroupReferences"]["SecurityGroupReference"][0]["ReferencingSecurityGroups"];
    assert_eq!(by["ReferencingSecurityGroup"][0]["SecurityGroupId"], json!(web), "{references}");
    api.bad("DeleteSecurityGroup", json!({"SecurityGroupId": app}), 403, "DependencyViolation");
    api.good("DeleteNetworkInterface", json!({"NetworkInterfaceId": eni}));
    assert!(!reaches(7001), "no member any more");

    // A prefix list.
    let list = json!({"PrefixListName": "office", "AddressFamily": "IPv4", "MaxEntries": 5,
                      "Entry": [{"Cidr": "192.0.2.0/24", "Description": "the client"}]});
    let pl = text(&api.good("CreatePrefixList", list)["PrefixListId"]);
    let permissions = json!([{"IpProtocol": "TCP", "PortRange": "7002/7002", "SourcePrefixListId": pl}]);
    api.good("AuthorizeSecurityGroup", json!({"SecurityGroupId": web, "Permissions": permissions}));
    assert!(reaches(7002));
    api.good("ModifyPrefixList", json!({"PrefixListId": pl, "RemoveEntry": [{"Cidr": "192.0.2.0/24"}]}));
    assert!(!reaches(7002));
    api.good("ModifyPrefixList", json!({"PrefixListId": pl, "AddEntry": [{"Cidr": "192.0.2.10/32"}]}));
    assert!(reaches(7002));
    api.bad("DeletePrefixList", json!({"PrefixListId": pl}), 400, "NotAllowed.AssociationExist");
    api.good("RevokeSecurityGroup", json!({"SecurityGroupId": web, "Permissions": permissions}));
    assert!(!reaches(7002));
    api.good("DeletePrefixList", json!({"PrefixListId": pl}));

    // A rule keeps its id, whatever it becomes.
    let id = &first["SecurityGroupRuleId"];
    api.good("ModifySecurityGroupRule", json!({"SecurityGroupId": web, "SecurityGroupRuleId": id, "Policy": "drop"}));
    assert!(!reaches(7000));
    api.good(
        "ModifySecurityGroupRule",
        json!({"SecurityGroupId": web, "SecurityGroupRuleId": id, "Policy": "accept", "PortRange": "7003/7003"}),
    );
    assert!(!reaches(7000) && reaches(7003));
    api.good("RevokeSecurityGroup", json!({"SecurityGroupId": web, "SecurityGroupRuleId": [id]}));
    assert!(!reaches(7003));

    // Egress: what the instance may reach.
    world.client.tcp_server(7000).unwrap();
    let out = || world.instance.tcp(to("192.0.2.10:7000")).unwrap();
    assert!(out(), "a basic group lets all out");
    let permissions = json!([{"IpProtocol": "ALL", "PortRange": "-1/-1", "DestCidrIp": "0.0.0.0/0", "Policy": "drop"}]);
    api.good("AuthorizeSecurityGroupEgress", json!({"SecurityGroupId": web, "Permissions": permissions}));
    assert!(!out());
    api.good("RevokeSecurityGroupEgress", json!({"SecurityGroupId": web, "Permissions": permissions}));
    assert!(out());

    // Listings, and the end.
    let listed = api.good("DescribeSecurityGroups", json!({"MaxResults": 1}));
    assert_eq!(listed["SecurityGroups"]["SecurityGroup"].as_array().map(Vec::len), Some(1));
    assert!(listed["NextToken"].as_str().is_some_and(|t| !t.is_empty()), "{listed}");
    let instances = api.good("DescribeInstances", json!({"InstanceIds": "[\"i-guest\"]"}));
    let groups = &instances["Instances"]["Instance"][0]["SecurityGroupIds"]["SecurityGroupId"];
    assert!(groups.as_array().is_some_and(|g| g.contains(&json!(web))), "{instances}");
    api.bad("DeleteSecurityGroup", json!({"SecurityGroupId": web}), 403, "DependencyViolation");
    api.good("LeaveSecurityGroup", json!({"SecurityGroupId": web, "InstanceId": "i-guest"}));
    let base = text(&groups[0]);
    api.bad(
        "LeaveSecurityGroup",
        json!({"SecurityGroupId": base, "InstanceId": "i-guest"}),
        403,
        "InstanceLastSecurityGroup",
    );
    api.good("DeleteSecurityGroup", json!({"SecurityGroupId": web}));
    api.good("DeleteSecurityGroup", json!({"SecurityGroupId": app}));
    let gone = api.good("DescribeSecurityGroups", json!({"SecurityGroupId": web}));
    assert_eq!(gone["SecurityGroups"]["SecurityGroup"], json!([]), "{gone}");
    api.bad("DeleteSecurityGroup", json!({"SecurityGroupId": web}), 404, "InvalidSecurityGroup.NotFound");
}
