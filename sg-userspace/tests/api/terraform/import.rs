//! `terraform import`, of what somebody else has made: an id is known, all else is
//! read; and the data source that lists groups.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Provider, call};
use crate::{
    api::client::{daemon, key},
    world::{Way, World, can_run},
};

/// What was there before Terraform came.
const DOCUMENT: &str = "security_groups:
- security_group_name: legacy
  security_group_id: sg-legacy
  description: before terraform
  tags: [{key: env, value: prod}]
  inner_access_policy: drop
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.159.6.18/12, description: ssh}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.159.6.18/12, priority: 2}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '2001:0DB8:0::/32'}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_group_id: friends}
  - {direction: ingress, policy: Drop, priority: 100, ip_protocol: All, source_cidr_ip: 0.0.0.0/0}
  - {direction: egress, ip_protocol: tcp, port_range: 1/65535, ipv6_dest_cidr_ip: '::/0'}
- security_group_name: friends
  security_group_id: sg-friends
";

/// Its rules, as they are imported.
const RULES: [&str; 6] = [
    "sg-legacy:ingress:tcp:22/22:intranet:10.159.6.18/12:accept:1",
    "sg-legacy:ingress:tcp:22/22:intranet:10.159.6.18/12:accept:2",
    "sg-legacy:ingress:icmpv6:-1/-1:intranet:2001_db8__/32:accept:1",
    "sg-legacy:ingress:udp:53/53:intranet:sg-friends:accept:1",
    "sg-legacy:ingress:all:-1/-1:intranet:0.0.0.0/0:drop:100",
    "sg-legacy:egress:tcp:1/65535:intranet:__/0:accept:1",
];
/// What it has not.
const NO_RULES: [&str; 2] = [
    "sg-legacy:ingress:tcp:22/22:intranet:10.159.6.18/12:drop:1",
    "sg-legacy:egress:tcp:22/22:intranet:10.159.6.18/12:accept:1",
];

/// The object of a rule, in the order in which `DescribeSecurityGroupRule` looks for it; and its parameter.
fn object(rule: &Value) -> (&'static str, String) {
    let fields = match rule["Direction"].as_str().unwrap() {
        "ingress" => ["SourceCidrIp", "SourceGroupId", "Ipv6SourceCidrIp"],
        _ => ["DestCidrIp", "DestGroupId", "Ipv6DestCidrIp"],
    };
    let of = |field: &'static str| (field, rule[field].as_str().unwrap().to_owned());
    fields.map(of).into_iter().find(|(_, value)| !value.is_empty()).unwrap()
}

impl Provider<'_> {
    /// `DescribeSecurityGroupRule` of `service_alicloud_ecs.go`, with nothing but the id: the first rule
    /// whose fields are those of its parts, in which IPv6 has underlines for colons.
    fn by_id(&self, id: &str) -> Option<Value> {
        let parts: Vec<&str> = id.split(':').collect();
        let [group, direction, protocol, ports, nic, cidr, policy, priority] = parts[..] else { panic!("{id}") };
        let cidr = cidr.replace('_', ":");
        let ask = [("SecurityGroupId", group), ("Direction", direction), ("NicType", nic)];
        let body = self.good("DescribeSecurityGroupAttribute", &ask);
        let same = |r: &&Value| {
            r["IpProtocol"].as_str().unwrap().to_lowercase() == protocol
                && r["PortRange"] == ports
                && object(r).1 == cidr
                && r["Policy"].as_str().unwrap().to_lowercase() == policy
                && r["Priority"].as_i64() == priority.parse().ok()
        };
        body["Permissions"]["Permission"].as_array().unwrap().iter().find(same).cloned()
    }

    fn new(world: &World) -> Provider<'_> {
        let daemon = daemon(world);
        let key = key(&daemon, &[]);
        Provider { daemon, key }
    }
}

#[test]
fn groups_and_rules_are_imported_by_their_ids() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let p = Provider::new(&world);
    p.daemon.apply(DOCUMENT, &[]).unwrap();

    // resourceAliCloudEcsSecurityGroupRead: what the configuration is compared with.
    let group = p.group("sg-legacy").unwrap();
    let read = ["SecurityGroupName", "Description", "SecurityGroupType", "VpcId", "ResourceGroupId"].map(|f| &group[f]);
    assert_eq!(read, ["legacy", "before terraform", "normal", "vpc-default", ""].map(Value::from).each_ref());
    assert_eq!(group["Tags"]["Tag"], json!([{"TagKey": "env", "TagValue": "prod"}]));
    let attribute = p.good("DescribeSecurityGroupAttribute", &[("SecurityGroupId", "sg-legacy")]);
    assert_eq!((&attribute["SecurityGroupId"], &attribute["InnerAccessPolicy"]), (&json!("sg-legacy"), &json!("Drop")));

    // resourceAliyunSecurityGroupRuleRead: what it sets makes the same id again, so a plan is empty.
    let mut ids = BTreeSet::new();
    for id in RULES {
        let rule = p.by_id(id).unwrap_or_else(|| panic!("{id}: {attribute}"));
        let text = |field: &str| rule[field].as_str().unwrap();
        let again = [
            "sg-legacy",
            text("Direction"),
            &text("IpProtocol").to_lowercase(),
            text("PortRange"),
            text("NicType"),
            &object(&rule).1.replace(':', "_"),
            &text("Policy").to_lowercase(),
            &rule["Priority"].to_string(),
        ];
        assert_eq!(again.join(":"), id);
        ids.insert(text("SecurityGroupRuleId").to_owned());
    }
    assert_eq!(ids.len(), RULES.len(), "each is another rule: {ids:?}");
    for id in NO_RULES {
        assert!(p.by_id(id).is_none(), "{id}");
    }
    let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", "sg-gone"), ("NicType", "intranet")];
    let (status, body) = call(&p.daemon, &p.key, &ask);
    assert_eq!((status, &body["Code"]), (404, &json!("InvalidSecurityGroupId.NotFound")), "{body}");
    assert!(p.group("sg-gone").is_none());

    // From then on Terraform's: made once more it is that rule, and deleted by what was read it is gone, and no other.
    for (n, id) in RULES.iter().enumerate() {
        let rule = p.by_id(id).unwrap();
        let ingress = rule["Direction"] == "ingress";
        let (field, value) = object(&rule);
        let (protocol, policy) = (rule["IpProtocol"].as_str().unwrap(), rule["Policy"].as_str().unwrap());
        let (protocol, policy) = (protocol.to_lowercase(), policy.to_lowercase());
        let priority = rule["Priority"].to_string();
        let flat = [
            ("SecurityGroupId", "sg-legacy"),
            ("IpProtocol", &protocol),
            ("PortRange", rule["PortRange"].as_str().unwrap()),
            ("Priority", &priority),
            ("Policy", &policy),
            ("NicType", "intranet"),
            (field, &value),
        ];
        let left = || {
            let all = p.good("DescribeSecurityGroupAttribute", &[("SecurityGroupId", "sg-legacy")]);
            all["Permissions"]["Permission"].as_array().unwrap().len()
        };
        p.good(if ingress { "AuthorizeSecurityGroup" } else { "AuthorizeSecurityGroupEgress" }, &flat);
        assert_eq!(left(), RULES.len() - n, "{id} is there already");
        p.good(if ingress { "RevokeSecurityGroup" } else { "RevokeSecurityGroupEgress" }, &flat);
        assert!(p.by_id(id).is_none() && left() == RULES.len() - n - 1, "{id}");
    }
}

/// `dataSourceAlicloudSecurityGroupsRead`: pages of fifty, until one is shorter; each group is looked at, too.
#[test]
fn the_data_source_of_groups_reads_all_pages() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let p = Provider::new(&world);
    let read = |more: &[(&str, &str)]| {
        let (mut groups, mut sizes) = (Vec::new(), Vec::new());
        for number in 1_u32.. {
            let number = number.to_string();
            let ask = [&[("PageNumber", number.as_str()), ("PageSize", "50")], more].concat();
            let body = p.good("DescribeSecurityGroups", &ask);
            let page = body["SecurityGroups"]["SecurityGroup"].as_array().unwrap().clone();
            assert_eq!((&body["PageNumber"].to_string(), &body["PageSize"]), (&number, &json!(50)), "{body}");
            let full = page.len() == 50;
            sizes.push((page.len(), body["TotalCount"].as_u64().unwrap()));
            groups.extend(page);
            if !full {
                break;
            }
        }
        (groups, sizes)
    };
    let mut made = BTreeSet::new();
    let mut make = |n: usize| {
        let name = format!("tf-{n}");
        let ask = [("SecurityGroupName", name.as_str()), ("Tag.1.Key", "n"), ("Tag.1.Value", &name)];
        made.insert(p.good("CreateSecurityGroup", &ask)["SecurityGroupId"].as_str().unwrap().to_owned());
    };
    (1..=50).for_each(&mut make);
    assert_eq!(read(&[]).1, [(50, 50), (0, 50)], "a page that is full is followed by one that is empty");
    make(51);
    let (groups, sizes) = read(&[]);
    assert_eq!(sizes, [(50, 51), (1, 51)]);
    let ids: Vec<&str> = groups.iter().map(|g| g["SecurityGroupId"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>(), made, "each, and once");
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    for group in &groups {
        let id = group["SecurityGroupId"].as_str().unwrap();
        let details = p.good("DescribeSecurityGroupAttribute", &[("SecurityGroupId", id)]);
        assert_eq!((&details["SecurityGroupId"], &details["InnerAccessPolicy"]), (&json!(id), &json!("Accept")));
        assert_eq!(group["Tags"]["Tag"], json!([{"TagKey": "n", "TagValue": group["SecurityGroupName"]}]));
    }
    // Of a filter the pages are of what it leaves.
    assert_eq!(read(&[("Tag.1.Key", "n"), ("Tag.1.Value", "tf-51")]).1, [(1, 1)]);
    assert_eq!(read(&[("VpcId", "vpc-none")]).1, [(0, 0)]);
}
