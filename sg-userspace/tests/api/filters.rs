//! Filters and fields of listings, asked for and read by an official SDK: a filter that
//! was not heeded would be answered with objects that nobody asked for.

use serde_json::{Value, json};

use super::sdk::with;

const DOCUMENT: &str = "document: host
security_groups:
- {security_group_name: base, security_group_id: sg-base}
- {security_group_name: far, security_group_id: sg-far, vpc_id: vpc-other}
network_interfaces:
- {device: tap0, side: guest, network_interface_id: eni-guest, instance_id: i-guest,
   private_ip_addresses: [10.0.0.10, 10.0.0.11, '2001:db8:1::10'], security_group_ids: [sg-base]}
- {network_interface_id: eni-far, network_interface_name: far, instance_id: i-far,
   private_ip_addresses: [198.51.100.9, '2001:db8:9::9'], security_group_ids: [sg-far]}
instances:
- {instance_id: i-guest, instance_name: web-1, network_interface_ids: [eni-guest]}
- {instance_id: i-far, instance_name: db-1, network_interface_ids: [eni-far]}
";

fn ids(listed: &Value, list: &str, item: &str, id: &str) -> Vec<String> {
    let items = listed[list][item].as_array().or_else(|| listed[list].as_array());
    let mut ids: Vec<String> = items.unwrap().iter().map(|i| i[id].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn listings_heed_their_filters() {
    with("tea", &["api.vpcs = [\"vpc-other\"]"], |_, daemon, api| {
        daemon.apply(DOCUMENT, &[]).unwrap();
        let made = json!({"VSwitchId": "vsw-default", "SecurityGroupIds": ["sg-base"], "PrimaryIpAddress": "10.0.0.50",
            "NetworkInterfaceName": "spare", "ResourceGroupId": "rg-1", "Description": "a spare one",
            "Tag": [{"Key": "env", "Value": "prod"}]});
        let made = api.good("CreateNetworkInterface", made);
        let spare = made["NetworkInterfaceId"].as_str().unwrap().to_owned();
        for (field, value) in [
            ("NetworkInterfaceName", json!("spare")),
            ("Description", json!("a spare one")),
            ("ResourceGroupId", json!("rg-1")),
            ("VpcId", json!("vpc-default")),
            ("ZoneId", json!("local")),
            ("Tags", json!({"Tag": [{"TagKey": "env", "TagValue": "prod"}]})),
        ] {
            assert_eq!(made[field], value, "{field}: {made}");
        }
        for (filter, expected) in [
            (json!({}), vec!["eni-far", "eni-guest", &spare]),
            (json!({"NetworkInterfaceName": "spare"}), vec![&spare]),
            (json!({"NetworkInterfaceName": "tap0"}), vec!["eni-guest"]),
            (json!({"PrimaryIpAddress": "10.0.0.10"}), vec!["eni-guest"]),
            (json!({"PrimaryIpAddress": "10.0.0.11"}), vec![]),
            (json!({"PrivateIpAddress": ["10.0.0.11", "198.51.100.9"]}), vec!["eni-far", "eni-guest"]),
            (json!({"Ipv6Address": ["2001:db8:9::9"]}), vec!["eni-far"]),
            (json!({"VpcId": "vpc-other"}), vec!["eni-far"]),
            (json!({"VSwitchId": "vsw-default"}), vec!["eni-guest", &spare]),
            (json!({"Type": "Secondary"}), vec![&spare]),
            (json!({"Type": "Primary", "VpcId": "vpc-default"}), vec!["eni-guest"]),
            (json!({"ResourceGroupId": "rg-1"}), vec![&spare]),
            (json!({"Tag": [{"Key": "env", "Value": "prod"}]}), vec![&spare]),
            (json!({"Tag": [{"Key": "env", "Value": "test"}]}), vec![]),
            (json!({"InstanceId": "i-far"}), vec!["eni-far"]),
            (json!({"Status": "Available"}), vec![&spare]),
        ] {
            let listed = api.good("DescribeNetworkInterfaces", filter.clone());
            let mut expected = expected;
            expected.sort();
            assert_eq!(
                ids(&listed, "NetworkInterfaceSets", "NetworkInterfaceSet", "NetworkInterfaceId"),
                expected,
                "{filter}"
            );
        }
        let listed = api.good("DescribeNetworkInterfaces", json!({"InstanceId": "i-guest"}));
        let item = &listed["NetworkInterfaceSets"]["NetworkInterfaceSet"][0];
        assert_eq!(item["Attachment"]["InstanceId"], "i-guest", "{item}");
        assert_eq!((&item["ZoneId"], &item["OwnerId"]), (&json!("local"), &json!("1000000000000001")), "{item}");

        // Instances, by the addresses and networks of their interfaces and by their labels.
        let tags =
            json!({"ResourceType": "instance", "ResourceId": ["i-far"], "Tag": [{"Key": "tier", "Value": "db"}]});
        api.good("TagResources", tags);
        for (filter, expected) in [
            (json!({}), vec!["i-far", "i-guest"]),
            (json!({"InstanceName": "web-1"}), vec!["i-guest"]),
            (json!({"InstanceName": "*-1"}), vec!["i-far", "i-guest"]),
            (json!({"InstanceName": "web"}), vec![]),
            (json!({"VpcId": "vpc-other"}), vec!["i-far"]),
            (json!({"VSwitchId": "vsw-default"}), vec!["i-guest"]),
            (json!({"PrivateIpAddresses": "[\"10.0.0.11\"]"}), vec!["i-guest"]),
            (json!({"Ipv6Address": ["2001:db8:9::9"]}), vec!["i-far"]),
            (json!({"Status": "Stopped"}), vec![]),
            (json!({"Status": "Running", "SecurityGroupId": "sg-far"}), vec!["i-far"]),
            (json!({"Tag": [{"Key": "tier"}]}), vec!["i-far"]),
            (json!({"ImageId": "img-1"}), vec![]),
            (json!({"ZoneId": "elsewhere"}), vec![]),
        ] {
            let listed = api.good("DescribeInstances", filter.clone());
            assert_eq!(ids(&listed, "Instances", "Instance", "InstanceId"), expected, "{filter}");
        }
        // Labels by what is like them, or exactly.
        for (filter, found) in [
            (json!({"TagFilter": [{"TagKey": "tie"}]}), 1),
            (json!({"TagFilter": [{"TagKey": "tier", "TagValues": ["web", "d*"]}]}), 1),
            (json!({"TagFilter": [{"TagKey": "tier", "TagValues": ["*x"]}]}), 0),
            (json!({"TagFilter": [{"TagKey": "t*"}, {"TagKey": "env"}]}), 0),
            (json!({"Tag": [{"Key": "tie"}]}), 0),
        ] {
            let mut asked = json!({"ResourceType": "instance"});
            asked.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
            let listed = api.good("ListTagResources", asked);
            assert_eq!(ids(&listed, "TagResources", "TagResource", "ResourceId").len(), found, "{filter}");
        }
        // What cannot be changed here is refused, not passed over.
        for field in ["InstanceName", "Description", "DeletionProtection"] {
            let value = if field == "DeletionProtection" { json!(true) } else { json!("another") };
            let change = json!({"InstanceId": "i-far", field: value});
            api.bad("ModifyInstanceAttribute", change, 400, "InvalidParameter");
        }
        let listed = api.good("DescribeInstances", json!({"InstanceIds": "[\"i-far\"]"}));
        let item = &listed["Instances"]["Instance"][0];
        assert_eq!(item["Tags"]["Tag"], json!([{"TagKey": "tier", "TagValue": "db"}]), "{item}");
        let interface = &item["NetworkInterfaces"]["NetworkInterface"][0];
        assert_eq!(interface["PrimaryIpAddress"], "198.51.100.9", "{item}");
        api.bad("DescribeInstances", json!({"DryRun": true}), 400, "DryRunOperation");
        api.bad("DescribeSecurityGroups", json!({"DryRun": true}), 400, "DryRunOperation");
        // Asking whether it would be answered is answered as it would be.
        api.bad(
            "DescribeSecurityGroups",
            json!({"DryRun": true, "MaxResults": 101}),
            400,
            "InvalidParameter.MaxResults",
        );

        // Lists by their resource groups; networks by whether they are the default one.
        for (group, list) in [("rg-1", "pl-one"), ("rg-2", "pl-two")] {
            let list =
                json!({"PrefixListName": list, "AddressFamily": "IPv4", "MaxEntries": 1, "ResourceGroupId": group});
            api.good("CreatePrefixList", list);
            let list = json!({"PortRangeListName": group, "MaxEntries": 1, "ResourceGroupId": group});
            api.good("CreatePortRangeList", list);
        }
        let listed = api.good("DescribePrefixLists", json!({"ResourceGroupId": "rg-2"}));
        assert_eq!(ids(&listed, "PrefixLists", "PrefixList", "PrefixListName"), ["pl-two"]);
        let listed = api.good("DescribePortRangeLists", json!({"ResourceGroupId": "rg-1"}));
        assert_eq!(ids(&listed, "PortRangeLists", "", "PortRangeListName"), ["rg-1"]);
        let listed = api.good("DescribeVpcs", json!({"IsDefault": false}));
        assert_eq!(ids(&listed, "Vpcs", "Vpc", "VpcId"), ["vpc-other"]);
        let listed = api.good("DescribeVSwitches", json!({"IsDefault": true}));
        assert_eq!(ids(&listed, "VSwitches", "VSwitch", "VSwitchId"), ["vsw-default"]);

        // Addresses are named here, so what asks for some is refused, and makes nothing.
        for field in ["SecondaryPrivateIpAddressCount", "Ipv6AddressCount", "Ipv4PrefixCount"] {
            let ask = json!({"VSwitchId": "vsw-default", "SecurityGroupId": "sg-base", "PrimaryIpAddress": "10.0.0.51",
                field: 2});
            api.bad("CreateNetworkInterface", ask, 400, "InvalidIp.Address");
        }
    });
}
