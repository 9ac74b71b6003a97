//! Every error that a call can have, provoked: request, status, code, message.

use std::collections::{BTreeMap, BTreeSet};

use sg_userspace::{
    api::{
        error::ALL,
        published::{CODES, NEVER},
    },
    testbed::Daemon,
};

use super::client::{call, key, parsed, post, raw, signed};
use crate::world::{Way, World, can_run};

pub type Key = (String, String);
pub type Request<'a> = Vec<(&'a str, String)>;

/// Errors that are not provoked here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("THROTTLED", "its own test"),
    ("MANAGED", "its own test, as the administrator makes a group managed"),
    ("PROTECTED", "its own test, as the administrator protects a group"),
    ("TOKEN_MISMATCH", "its own test"),
    ("KEY_INACTIVE", "its own test"),
];

/// `Action.field=value field=value …`, with `$name` for what was made before.
pub fn request<'a>(text: &'a str, made: &BTreeMap<&str, String>) -> Request<'a> {
    let mut words = text.split_whitespace();
    let mut all = vec![("Action", words.next().unwrap().to_owned())];
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let value = match value.strip_prefix('$') {
            Some(name) => made.get(name).unwrap_or_else(|| panic!("{name} was not made")).clone(),
            None => value.replace('_', " "),
        };
        all.push((name, value));
    }
    all
}

pub fn send(daemon: &Daemon<'_>, key: &Key, request: &Request<'_>) -> (u16, serde_json::Value) {
    let pairs: Vec<(&str, &str)> = request.iter().map(|(k, v)| (*k, v.as_str())).collect();
    call(daemon, key, &pairs)
}

/// What is there before anything is refused.
const MAKE: &[(&str, &str, &str)] = &[
    ("a", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=aa"),
    ("b", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=bb"),
    ("ent", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=ee SecurityGroupType=enterprise"),
    ("vpc", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=vv VpcId=vpc-other"),
    ("full", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=ff"),
    (
        "p4",
        "PrefixListId",
        "CreatePrefixList PrefixListName=four AddressFamily=IPv4 MaxEntries=2 Entry.1.Cidr=10.0.0.0/8",
    ),
    ("p6", "PrefixListId", "CreatePrefixList PrefixListName=six AddressFamily=IPv6 MaxEntries=2"),
    ("prl", "PortRangeListId", "CreatePortRangeList PortRangeListName=ports MaxEntries=2 Entry.1.PortRange=80/80"),
    (
        "eni",
        "NetworkInterfaceId",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$a PrimaryIpAddress=198.51.100.1",
    ),
    (
        "big",
        "NetworkInterfaceId",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$full PrimaryIpAddress=198.51.100.10 \
         PrivateIpAddress.1=198.51.100.11 PrivateIpAddress.2=198.51.100.12",
    ),
    (
        "one",
        "NetworkInterfaceId",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$ent PrimaryIpAddress=198.51.100.2",
    ),
    (
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$b Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/1 \
              Permissions.1.SourceGroupId=$a Permissions.2.IpProtocol=tcp Permissions.2.PortRange=2/2 \
              Permissions.2.SourcePrefixListId=$p4 Permissions.3.IpProtocol=tcp \
              Permissions.3.PortRangeListId=$prl Permissions.3.SourceCidrIp=1.2.3.4",
    ),
];

/// Which error, and a request that has it.
const BAD: &[(&str, &str)] = &[
    ("NO_ACTION", "RunInstances"),
    ("VERSION", "DescribeRegions Version=2016-03-14"),
    ("UNREADABLE", "RevokeSecurityGroup SecurityGroupId=$a Permissions.0.IpProtocol=tcp"),
    ("JSON_PARAMETER", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions=[]"),
    ("REGION_MISSING", "DescribeSecurityGroups RegionId=<absent>"),
    ("REGION_MISSING_POLICY", "ModifySecurityGroupPolicy SecurityGroupId=$a InnerAccessPolicy=Drop RegionId=<absent>"),
    ("REGION", "DescribeSecurityGroups RegionId=UPPER"),
    ("TOKEN", "CreateSecurityGroup ClientToken=ü"),
    ("NEXT_TOKEN", "DescribeSecurityGroups NextToken=?"),
    ("MAX_RESULTS", "DescribeSecurityGroups MaxResults=x"),
    ("MAX_RESULTS", "DescribeSecurityGroups MaxResults=101"),
    ("MAX_RESULTS", "DescribeSecurityGroupAttribute SecurityGroupId=$a MaxResults=9"),
    ("MAX_RESULTS", "DescribePrefixLists MaxResults=101"),
    ("PAGE", "DescribeSecurityGroups PageSize=51"),
    ("DRY_RUN", "DescribeSecurityGroups DryRun=true"),
    ("GROUP_ID_MISSING", "ModifySecurityGroupAttribute SecurityGroupName=xx"),
    ("GROUP_NOT_FOUND", "DescribeSecurityGroupAttribute SecurityGroupId=sg-none"),
    ("GROUP_TO_DELETE_NOT_FOUND", "DeleteSecurityGroup SecurityGroupId=sg-none"),
    ("GROUP_NAME", "CreateSecurityGroup SecurityGroupName=1a"),
    ("GROUP_DESCRIPTION", "CreateSecurityGroup Description=http://x"),
    ("GROUP_TYPE", "CreateSecurityGroup SecurityGroupType=basic"),
    ("GROUP_TYPE_FILTER", "DescribeSecurityGroups SecurityGroupType=basic"),
    ("VPC_NOT_FOUND", "CreateSecurityGroup VpcId=vpc-none"),
    ("TAG_KEY", "CreateSecurityGroup Tag.1.Key=acs:x"),
    ("TAG_VALUE", "CreateSecurityGroup Tag.1.Key=x Tag.1.Value=http://x"),
    ("TAG_DUPLICATE", "CreateSecurityGroup Tag.1.Key=x Tag.2.Key=x"),
    ("TAG_QUOTA", "CreateSecurityGroup $tags=21"),
    ("GROUP_QUOTA", "CreateSecurityGroup"),
    ("HAS_MEMBERS", "DeleteSecurityGroup SecurityGroupId=$full"),
    ("IS_REFERENCED", "DeleteSecurityGroup SecurityGroupId=$alone"),
    ("INNER_POLICY", "ModifySecurityGroupPolicy SecurityGroupId=$a InnerAccessPolicy=maybe"),
    ("INNER_POLICY_ENTERPRISE", "ModifySecurityGroupPolicy SecurityGroupId=$ent InnerAccessPolicy=Drop"),
    ("REFERENCES_COUNT", "DescribeSecurityGroupReferences"),
    ("REFERENCES_COUNT", "DescribeSecurityGroupReferences $groups=11"),
    ("RESOURCE_GROUP", "CreateSecurityGroup ResourceGroupId=rg\u{7f}"),
    ("ATTRIBUTE", "DescribeSecurityGroupAttribute SecurityGroupId=$a Attribute=x"),
    ("DIRECTION", "DescribeSecurityGroupAttribute SecurityGroupId=$a Direction=up"),
    (
        "PROTOCOL_PORTS",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=icmp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4",
    ),
    ("PORTS_FLAT", "AuthorizeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=80 SourceCidrIp=1.2.3.4"),
    ("PORTS_FLAT_REVOKE", "RevokeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=80 SourceCidrIp=1.2.3.4"),
    ("PROTOCOL", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=sctp Permissions.1.PortRange=1/2"),
    ("PORTS", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=200/1"),
    ("PORTS_MISSING", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp"),
    (
        "SOURCE_PORTS",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourcePortRange=x",
    ),
    (
        "PROTOCOL_PORT_LIST",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=icmp Permissions.1.PortRangeListId=$prl",
    ),
    (
        "PORT_LIST_NOT_FOUND",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRangeListId=prl-none Permissions.1.SourceCidrIp=1.2.3.4",
    ),
    ("POLICY", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.Policy=deny"),
    ("PRIORITY", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.Priority=high"),
    ("PRIORITY_RANGE", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.Priority=101"),
    ("NIC_TYPE", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.NicType=extranet"),
    (
        "RULE_DESCRIPTION",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.Description=http://x",
    ),
    (
        "MISSING_SOURCE",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2",
    ),
    (
        "MISSING_DEST",
        "AuthorizeSecurityGroupEgress SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2",
    ),
    ("MISSING_SOURCE_FLAT", "AuthorizeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=1/2"),
    ("MISSING_DEST_FLAT", "AuthorizeSecurityGroupEgress SecurityGroupId=$a IpProtocol=tcp PortRange=1/2"),
    ("SOURCE_CIDR_FLAT", "AuthorizeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=1/2 SourceCidrIp=1.2.3"),
    ("DEST_CIDR_FLAT", "AuthorizeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=1/2 DestCidrIp=1.2.3"),
    (
        "IPV6_CIDR_FLAT",
        "AuthorizeSecurityGroup SecurityGroupId=$a IpProtocol=tcp PortRange=1/2 Ipv6SourceCidrIp=1.2.3.4",
    ),
    (
        "SOURCE_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4/33",
    ),
    (
        "DEST_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.DestCidrIp=x",
    ),
    (
        "IPV6_SOURCE_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.Ipv6SourceCidrIp=x",
    ),
    (
        "IPV6_DEST_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.Ipv6DestCidrIp=x",
    ),
    (
        "SOURCE_FAMILIES",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.1.Ipv6SourceCidrIp=::1",
    ),
    (
        "DEST_FAMILIES",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.DestCidrIp=1.2.3.4 Permissions.1.Ipv6DestCidrIp=::1",
    ),
    (
        "FAMILIES",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.1.Ipv6DestCidrIp=::1",
    ),
    (
        "SAME_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.1.DestCidrIp=1.2.3.4",
    ),
    (
        "SAME_CIDR",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=10.0.0.5/8 Permissions.1.DestCidrIp=10.0.0.0/8",
    ),
    (
        "ICMP_V6_ADDRESS",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=icmp Permissions.1.PortRange=-1/-1 Permissions.1.Ipv6SourceCidrIp=::1",
    ),
    (
        "ICMPV6_V4_ADDRESS",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=icmpv6 Permissions.1.PortRange=-1/-1 Permissions.1.SourceCidrIp=1.2.3.4",
    ),
    (
        "LIST_FAMILY",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=icmp Permissions.1.PortRange=-1/-1 Permissions.1.SourcePrefixListId=$p6",
    ),
    (
        "SOURCE_GROUP_NOT_FOUND",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceGroupId=sg-none",
    ),
    (
        "DEST_GROUP_NOT_FOUND",
        "AuthorizeSecurityGroupEgress SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.DestGroupId=sg-none",
    ),
    (
        "SOURCE_GROUP_VPC",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceGroupId=$vpc",
    ),
    (
        "DEST_GROUP_VPC",
        "AuthorizeSecurityGroupEgress SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.DestGroupId=$vpc",
    ),
    (
        "SOURCE_GROUP_SELF",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceGroupId=$a",
    ),
    (
        "DEST_GROUP_SELF",
        "AuthorizeSecurityGroupEgress SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.DestGroupId=$a",
    ),
    (
        "GROUP_ENTERPRISE",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceGroupId=$ent",
    ),
    (
        "ENTERPRISE_GROUP_OBJECT",
        "AuthorizeSecurityGroup SecurityGroupId=$ent Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceGroupId=$a",
    ),
    (
        "GROUP_RULES_QUOTA",
        "AuthorizeSecurityGroup SecurityGroupId=$b Permissions.1.IpProtocol=tcp Permissions.1.PortRange=3/3 Permissions.1.SourceGroupId=$a Permissions.2.IpProtocol=tcp Permissions.2.PortRange=4/4 Permissions.2.SourceGroupId=$a",
    ),
    ("RULES_QUOTA", "AuthorizeSecurityGroup SecurityGroupId=$a $permissions=6"),
    // Nobody is in it.
    ("RULES_QUOTA", "AuthorizeSecurityGroup SecurityGroupId=$b $permissions=6"),
    // Only with its other groups does a member have too many.
    ("RULES_QUOTA", "AuthorizeSecurityGroup SecurityGroupId=$g1 $permissions=5"),
    (
        "LIST_ASSOCIATIONS",
        "AuthorizeSecurityGroup SecurityGroupId=$alone Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/1 Permissions.1.SourcePrefixListId=$p4",
    ),
    (
        "RULES_QUOTA_MODIFY",
        "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$list_rule SourcePrefixListId=$wide",
    ),
    ("PERMISSIONS_AND_FLAT", "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp IpProtocol=tcp"),
    ("PERMISSIONS_COUNT", "AuthorizeSecurityGroup SecurityGroupId=$a $permissions=101"),
    (
        "PERMISSIONS_TWICE",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.2.IpProtocol=TCP Permissions.2.PortRange=1/2 Permissions.2.SourceCidrIp=1.2.3.4/32",
    ),
    (
        "PREFIX_LIST_NOT_FOUND",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/2 Permissions.1.SourcePrefixListId=pl-none",
    ),
    ("RULE_ID_NOT_FOUND", "RevokeSecurityGroup SecurityGroupId=$a SecurityGroupRuleId.1=sgr-none"),
    ("RULE_ID", "RevokeSecurityGroup SecurityGroupId=$a SecurityGroupRuleId.x=sgr-none"),
    ("RULE_ID_TWICE", "RevokeSecurityGroup SecurityGroupId=$a SecurityGroupRuleId.1=sgr-a SecurityGroupRuleId.2=sgr-a"),
    (
        "RULE_NOT_FOUND",
        "ModifySecurityGroupRule SecurityGroupId=$a IpProtocol=tcp PortRange=7/7 SourceCidrIp=1.2.3.4 Description=xx",
    ),
    ("RULE_OBJECT_TYPE", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule SourceGroupId=$b"),
    ("RULE_NIC_TYPE", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule NicType=internet"),
    ("RULE_PORTS_TYPE", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule PortRangeListId=$prl"),
    ("RULE_TWICE", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule PortRange=6/6"),
    ("RULE_DIRECTION", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule DestGroupId=$b"),
    ("RULE_REQUEST", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule"),
    (
        "RULE_REQUEST",
        "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule Permissions.1.PortRange=9/9",
    ),
    (
        "RULE_PROTOCOL_FAMILY",
        "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule IpProtocol=icmpv6 PortRange=-1/-1",
    ),
    ("RULE_PROTOCOL_PORTS", "ModifySecurityGroupRule SecurityGroupId=$a SecurityGroupRuleId=$rule IpProtocol=icmp"),
    ("JOIN_WHAT", "JoinSecurityGroup SecurityGroupId=$a"),
    ("JOIN_BOTH", "JoinSecurityGroup SecurityGroupId=$a InstanceId=i-x NetworkInterfaceId=$eni"),
    ("INSTANCE_ID", "JoinSecurityGroup SecurityGroupId=$a InstanceId=i_x"),
    ("INTERFACE_ID", "LeaveSecurityGroup SecurityGroupId=$a NetworkInterfaceId=eni_x"),
    ("INSTANCE_NOT_FOUND", "JoinSecurityGroup SecurityGroupId=$a InstanceId=i-none"),
    ("INTERFACE_NOT_FOUND", "JoinSecurityGroup SecurityGroupId=$a NetworkInterfaceId=eni-none"),
    ("ALREADY_MEMBER", "JoinSecurityGroup SecurityGroupId=$a NetworkInterfaceId=$eni"),
    ("NOT_A_MEMBER", "LeaveSecurityGroup SecurityGroupId=$b NetworkInterfaceId=$eni"),
    ("LAST_GROUP_OF_INSTANCE", "LeaveSecurityGroup SecurityGroupId=$base InstanceId=i-guest"),
    ("LAST_GROUP_OF_INTERFACE", "LeaveSecurityGroup SecurityGroupId=$full NetworkInterfaceId=$big"),
    ("JOIN_VPC", "JoinSecurityGroup SecurityGroupId=$vpc InstanceId=i-guest"),
    ("JOIN_VPC_INTERFACE", "JoinSecurityGroup SecurityGroupId=$vpc NetworkInterfaceId=$big"),
    (
        "JOIN_VPC_INTERFACE",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$vpc PrimaryIpAddress=198.51.100.77",
    ),
    (
        "JOIN_VPC_INTERFACE",
        "CreateNetworkInterface VSwitchId=vsw-other SecurityGroupId=$a PrimaryIpAddress=198.51.100.77",
    ),
    ("JOIN_TYPES", "JoinSecurityGroup SecurityGroupId=$ent InstanceId=i-guest"),
    ("JOIN_TOO_MANY", "JoinSecurityGroup SecurityGroupId=$g10 NetworkInterfaceId=$eni"),
    ("JOIN_RULES", "JoinSecurityGroup SecurityGroupId=$many NetworkInterfaceId=$big"),
    ("JOIN_ADDRESSES", "JoinSecurityGroup SecurityGroupId=$full InstanceId=i-guest"),
    ("JOIN_INTERFACES", "JoinSecurityGroup SecurityGroupId=$ent NetworkInterfaceId=$second"),
    ("GROUP_ID_TWICE", "ModifyInstanceAttribute InstanceId=i-guest SecurityGroupIds.1=$a SecurityGroupIds.2=$a"),
    ("INSTANCE_VPCS", "ModifyInstanceAttribute InstanceId=i-guest SecurityGroupIds.1=$a SecurityGroupIds.2=$vpc"),
    ("INSTANCE_TYPES", "ModifyInstanceAttribute InstanceId=i-guest SecurityGroupIds.1=$a SecurityGroupIds.2=$ent"),
    ("GROUPS_OF_INTERFACE", "ModifyNetworkInterfaceAttribute NetworkInterfaceId=$big $groups=11"),
    (
        "INTERFACE_TYPES",
        "ModifyNetworkInterfaceAttribute NetworkInterfaceId=$big SecurityGroupId.1=$a SecurityGroupId.2=$ent",
    ),
    (
        "INTERFACE_ADDRESSES",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$full PrimaryIpAddress=198.51.100.99",
    ),
    (
        "INTERFACE_COUNT",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$ent PrimaryIpAddress=198.51.100.99",
    ),
    ("INTERFACE_PRIMARY", "ModifyNetworkInterfaceAttribute NetworkInterfaceId=eni-guest SecurityGroupId.1=$a"),
    (
        "INTERFACE_TIMEOUTS",
        "ModifyNetworkInterfaceAttribute NetworkInterfaceId=$eni ConnectionTrackingConfiguration.UdpTimeout=31",
    ),
    (
        "INTERFACE_ADDRESS",
        "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$a PrimaryIpAddress=198.51.100.1",
    ),
    ("INTERFACE_IN_USE", "DeleteNetworkInterface NetworkInterfaceId=eni-guest"),
    ("INTERFACE_GROUPS_BOTH", "CreateNetworkInterface VSwitchId=vsw-default SecurityGroupId=$a SecurityGroupIds.1=$a"),
    (
        "VSWITCH_NOT_FOUND",
        "CreateNetworkInterface VSwitchId=vsw-none SecurityGroupId=$a PrimaryIpAddress=198.51.100.77",
    ),
    ("LIST_NAME", "CreatePrefixList AddressFamily=IPv4 MaxEntries=1"),
    ("LIST_ADDRESS_FAMILY", "CreatePrefixList PrefixListName=xx AddressFamily=IPv5 MaxEntries=1"),
    ("LIST_MAX_ENTRIES", "CreatePrefixList PrefixListName=xx AddressFamily=IPv4 MaxEntries=200"),
    ("LIST_ENTRIES", "ModifyPrefixList PrefixListId=$p4 AddEntry.1.Cidr=1.0.0.0/8 AddEntry.2.Cidr=2.0.0.0/8"),
    ("LIST_CIDR", "ModifyPrefixList PrefixListId=$p4 AddEntry.1.Cidr=10.0.0.1/8"),
    ("LIST_CIDR_TWICE", "ModifyPrefixList PrefixListId=$p4 AddEntry.1.Cidr=1.0.0.0/8 AddEntry.2.Cidr=1.0.0.0/8"),
    // The same prefix, whatever its letters and zeros.
    (
        "LIST_CIDR_TWICE",
        "ModifyPrefixList PrefixListId=$p6 AddEntry.1.Cidr=2001:db8::/32 AddEntry.2.Cidr=2001:DB8:0::/32",
    ),
    (
        "LIST_CIDR_TWICE",
        "CreatePrefixList PrefixListName=xx AddressFamily=IPv4 MaxEntries=2 Entry.1.Cidr=10.0.0.1 Entry.2.Cidr=10.0.0.1/32",
    ),
    ("LIST_QUOTA", "CreatePrefixList PrefixListName=xx AddressFamily=IPv4 MaxEntries=1"),
    ("LIST_IN_USE", "DeletePrefixList PrefixListId=$p4"),
    ("PORT_LIST_NAME", "CreatePortRangeList MaxEntries=1"),
    ("PORT_LIST_MAX_ENTRIES", "CreatePortRangeList PortRangeListName=xx MaxEntries=2000"),
    ("PORT_LIST_ENTRIES", "ModifyPortRangeList PortRangeListId=$prl AddEntry.1.PortRange=1/1 AddEntry.2.PortRange=2/2"),
    ("PORT_LIST_PORTS", "ModifyPortRangeList PortRangeListId=$prl AddEntry.1.PortRange=2/1"),
    ("PORT_LIST_TWICE", "ModifyPortRangeList PortRangeListId=$prl AddEntry.1.PortRange=2/2 AddEntry.2.PortRange=2/2"),
    ("PORT_LIST_ENTRY", "ModifyPortRangeList PortRangeListId=$prl AddEntry.0.PortRange=2/2"),
    ("PORT_LIST_QUOTA", "CreatePortRangeList PortRangeListName=xx MaxEntries=1"),
    ("PORT_LIST_IN_USE", "DeletePortRangeList PortRangeListId=$prl"),
    ("RESOURCE_TYPE", "TagResources ResourceType=disk ResourceId.1=$a Tag.1.Key=x"),
    ("RESOURCE_NOT_FOUND", "TagResources ResourceType=securitygroup ResourceId.1=sg-none Tag.1.Key=x"),
];

/// What messages say of limits that the test sets.
const LIMITS: &[(&str, &str)] = &[
    ("GROUP_RULES_QUOTA", "the limit is 2."),
    ("LIST_MAX_ENTRIES", "1 to 199."),
    ("PORT_LIST_MAX_ENTRIES", "1 to 1999."),
];

/// What stands for many parameters.
pub fn expand(request: &mut Request<'_>, made: &BTreeMap<&str, String>) -> Vec<(String, String)> {
    let mut more = Vec::new();
    request.retain(|(name, count)| {
        let n: usize = count.parse().unwrap_or(0);
        match *name {
            "$tags" => more.extend((1..=n).map(|i| (format!("Tag.{i}.Key"), format!("k{i}")))),
            "$permissions" => more.extend((1..=n).flat_map(|i| {
                let field = move |f: &str, v: String| (format!("Permissions.{i}.{f}"), v);
                [
                    field("IpProtocol", "tcp".into()),
                    field("PortRange", format!("{}/{}", 100 + i, 100 + i)),
                    field("SourceCidrIp", "1.2.3.4".into()),
                ]
            })),
            "$groups" => {
                more.extend((1..=n).map(|i| (format!("SecurityGroupId.{i}"), made[format!("g{i}").as_str()].clone())))
            }
            _ => return true,
        }
        false
    });
    more
}

#[test]
fn every_error_is_provoked() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = super::client::daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    super::full::place(&daemon);
    let lines = "quotas.rules_per_interface = 8\nquotas.group_rules_per_group = 2\nquotas.addresses_per_normal_group = 3\n\
                 quotas.interfaces_per_enterprise_group = 1\napi.vpcs = [\"vpc-other\"]\napi.max_groups = 20\n\
                 api.max_prefix_lists = 3\napi.max_port_lists = 1\nquotas.groups_per_prefix_list = 2\n\
                 quotas.prefix_list_entries = 199\nquotas.port_list_entries = 1999";
    for line in lines.lines() {
        daemon.configure(line).unwrap();
    }
    daemon.start().unwrap();
    daemon.apply(super::story::document(), &[]).unwrap();
    let key = key(&daemon, &[]);
    let mut made: BTreeMap<&str, String> = BTreeMap::new();
    let make = |made: &mut BTreeMap<&str, String>, name: &'static str, field: &str, text: &str| {
        let mut request = request(text, made).into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Vec<_>>();
        let mut short: Request<'_> = request.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let more = expand(&mut short, made);
        request = short.into_iter().map(|(k, v)| (k.to_owned(), v)).chain(more).collect();
        let pairs: Vec<(&str, &str)> = request.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (status, body) = call(&daemon, &key, &pairs);
        assert_eq!(status, 200, "{text}: {body}");
        if !name.is_empty() {
            made.insert(name, body[field].as_str().unwrap().to_owned());
        }
    };
    for (name, field, text) in MAKE {
        make(&mut made, name, field, text);
    }
    // One that only another group's rule holds.
    make(&mut made, "alone", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=alone");
    make(&mut made, "many", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=many");
    make(&mut made, "wide", "PrefixListId", "CreatePrefixList PrefixListName=wide AddressFamily=IPv4 MaxEntries=199");
    make(&mut made, "", "", "AuthorizeSecurityGroup SecurityGroupId=$many $permissions=5");
    // What each may have alone, and no interface of both.
    make(&mut made, "", "", "AuthorizeSecurityGroup SecurityGroupId=$full $permissions=3");
    make(
        &mut made,
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$many Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/1 Permissions.1.SourceGroupId=$alone",
    );
    make(
        &mut made,
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=5/5 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.2.IpProtocol=tcp Permissions.2.PortRange=6/6 Permissions.2.SourceCidrIp=1.2.3.4 Permissions.3.IpProtocol=tcp Permissions.3.PortRange=7/8 Permissions.3.SourcePrefixListId=$p4",
    );
    for name in ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9", "g10", "g11"] {
        make(&mut made, name, "SecurityGroupId", &format!("CreateSecurityGroup SecurityGroupName=xx{name}"));
    }
    for name in ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"] {
        make(&mut made, "", "", &format!("JoinSecurityGroup SecurityGroupId=${name} NetworkInterfaceId=$eni"));
    }
    // Rules of $a by their ids; the guest's group; a guest's second interface.
    let (_, body) =
        call(&daemon, &key, &[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &made["a"])]);
    for rule in body["Permissions"]["Permission"].as_array().unwrap() {
        let name = match rule["PortRange"].as_str() {
            Some("5/5") => "rule",
            Some("7/8") => "list_rule",
            _ => continue,
        };
        made.insert(name, rule["SecurityGroupRuleId"].as_str().unwrap().to_owned());
    }
    let (_, body) = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("SecurityGroupName", "base")]);
    made.insert("base", body["SecurityGroups"]["SecurityGroup"][0]["SecurityGroupId"].as_str().unwrap().to_owned());

    let mut provoked: BTreeSet<&str> = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut check = |name: &'static str, what: &str, (status, body): (u16, serde_json::Value)| {
        let (_, kind) = ALL.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is no error"));
        let begins = kind.message.split("%s").next().unwrap_or_default();
        let message = body["Message"].as_str().unwrap_or_default();
        if status != kind.status || body["Code"] != kind.code || !message.starts_with(begins) {
            wrong.push(format!("{name}: {what}\n  {status} {body}"));
        }
        if ["Code", "Message", "RequestId", "HostId"].iter().any(|f| body[*f].as_str().is_none_or(str::is_empty)) {
            wrong.push(format!("{name}: not a whole error: {body}"));
        }
        provoked.insert(name);
    };
    for (name, text) in
        BAD.iter().filter(|(name, _)| *name != "GROUP_QUOTA" && *name != "LIST_QUOTA" && *name != "JOIN_INTERFACES")
    {
        let mut request = request(text, &made);
        let more = expand(&mut request, &made);
        request.extend(more.iter().map(|(k, v)| (k.as_str(), v.clone())));
        let answer = send(&daemon, &key, &request);
        if let Some((_, said)) = LIMITS.iter().find(|(of, _)| of == name) {
            let message = answer.1["Message"].as_str().unwrap_or_default();
            assert!(message.contains(said), "{name} names another limit than is configured: {message}");
        }
        check(name, text, answer);
    }
    // While a change is on trial, no other is made.
    let tried = "document: tried\nsecurity_groups: [{security_group_name: tried}]\n";
    daemon.apply(tried, &["--yes", "--confirm", "1h"]).unwrap();
    let change = [("Action", "CreateSecurityGroup")];
    check("CONFLICT", "a change while another is on trial", call(&daemon, &key, &change));
    assert!(daemon.sgctl(&["rollback", "--yes"]).unwrap().0);
    // What comes at the end, as it uses up what there is.
    for n in 0.. {
        let (status, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
        if status != 200 {
            check("GROUP_QUOTA", "groups", (status, body));
            break;
        }
        assert!(n < 20, "the quota of groups does not count");
    }
    let list =
        [("Action", "CreatePrefixList"), ("PrefixListName", "xx"), ("AddressFamily", "IPv4"), ("MaxEntries", "1")];
    check("LIST_QUOTA", "lists", call(&daemon, &key, &list));
    let two = [
        ("Action", "ModifyInstanceAttribute"),
        ("InstanceId", "i-guest"),
        ("SecurityGroupIds.1", made["ent"].as_str()),
    ];
    check("JOIN_INTERFACES", "a second member of an enterprise group", call(&daemon, &key, &two));

    // Who calls, and when.
    let ask = [("Action", "DescribeRegions")];
    let mut with = |name: &'static str, key: &Key, change: &dyn Fn(&mut BTreeMap<String, String>), again: bool| {
        let mut all = signed(key, &ask);
        change(&mut all);
        let bytes = post(&all);
        if again {
            assert_eq!(parsed(&raw(&daemon, &bytes)).0, 200);
        }
        check(name, "who calls", parsed(&raw(&daemon, &bytes)));
    };
    let resign = |all: &mut BTreeMap<String, String>, name: &str, value: &str| {
        all.insert(name.into(), value.into());
        let signature = sg_userspace::api::sign::v1_sign(&key.1, &sg_userspace::api::sign::v1_text("POST", all));
        all.insert("Signature".into(), signature);
    };
    with("NO_KEY", &("SGNONE".into(), "x".into()), &|_| {}, false);
    with("NOT_SIGNED", &key, &|all| drop(all.remove("Signature")), false);
    with("SIGNATURE", &key, &|all| drop(all.insert("RegionId".into(), "other".into())), false);
    with("SIGNATURE_METHOD", &key, &|all| resign(all, "SignatureMethod", "HMAC-MD5"), false);
    with("EXPIRED", &key, &|all| resign(all, "Timestamp", "2020-01-01T00:00:00Z"), false);
    with("TIMESTAMP", &key, &|all| resign(all, "Timestamp", "yesterday"), false);
    with("NONCE_USED", &key, &|_| {}, true);
    let looks = super::client::key(&daemon, &["--read-only"]);
    check("READ_ONLY", "a key that only looks", call(&daemon, &looks, &[("Action", "CreateSecurityGroup")]));

    // A host that fails, and a daemon that ends.
    super::full::fill(&daemon);
    let change = [
        ("Action", "ModifySecurityGroupAttribute"),
        ("SecurityGroupId", made["a"].as_str()),
        ("Description", &"x".repeat(200)),
    ];
    let failed = super::full::until_refused(|| call(&daemon, &key, &change));
    check("INTERNAL", "a change that cannot be written down", failed);
    super::full::clear(&daemon);
    let cut = super::client::cut(&daemon, &key, &change);
    check("UNAVAILABLE", "a change that comes too late", parsed(&cut));

    let known: BTreeSet<&str> = provoked.iter().copied().chain(ELSEWHERE.iter().map(|(name, _)| *name)).collect();
    let missing: Vec<&str> = ALL.iter().map(|(name, _)| *name).filter(|name| !known.contains(name)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(missing.is_empty(), "never provoked: {missing:?}");
    // All that a client may know of: provoked here or elsewhere, or it cannot occur.
    let codes: BTreeSet<&str> =
        ALL.iter().filter(|(name, _)| known.contains(name)).map(|(_, kind)| kind.code).collect();
    let forgotten: Vec<_> =
        CODES.iter().filter(|c| !codes.contains(*c) && NEVER.iter().all(|(never, _)| never != *c)).collect();
    assert!(forgotten.is_empty(), "published, but neither provoked nor given a reason: {forgotten:?}");
    eprintln!("{} errors provoked, {} elsewhere", provoked.len(), ELSEWHERE.len());
}

/// What is changed in a permission, and the code of the refusal.
const BAD_PERMISSIONS: &[(&str, &str)] = &[
    ("IpProtocol=", "OperationDenied"),
    ("IpProtocol=xyz", "InvalidIpProtocol.ValueNotSupported"),
    ("Priority=x", "InvalidPriority.Malformed"),
    ("Priority=101", "InvalidPriority.ValueNotSupported"),
    ("Policy=maybe", "InvalidPolicy.Malformed"),
    ("PortRange=", "InvalidPortRange.Malformed"),
    ("PortRange=-1/-1", "OperationDenied"),
    ("PortRange=9/1", "InvalidParam.PortRange"),
    ("SourcePortRange=9/1", "InvalidSourcePortRange.Malformed"),
    ("SourceCidrIp=1.2.3", "InvalidParam.SourceCidrIp"),
    ("SourceCidrIp=", "MissingParameter.Source"),
    ("DestCidrIp=1.2.3.4", "InvalidParamter.Conflict"),
    ("Ipv6DestCidrIp=fe80::1", "InvalidParameter.Conflict"),
    ("IpProtocol=icmpv6 PortRange=-1/-1", "InvalidParam.Ipv6ProtocolConflictWithIpv4Address"),
    ("SourceCidrIp= SourceGroupId=sg-none", "InvalidSourceGroupId.NotFound"),
    ("SourceCidrIp= SourceGroupId=$a", "InvalidParamter.Conflict"),
    ("SourceCidrIp= SourcePrefixListId=pl-none", "InvalidPrefixListId.NotFound"),
    ("PortRangeListId=prl-none", "InvalidPortRangeListId.NotFound"),
    ("PortRange=101/101", "InvalidParam.DuplicatePermissions"),
];

#[test]
fn a_refusal_names_the_permission_that_it_is_about() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = super::client::daemon(&world);
    let key = key(&daemon, &[]);
    let (_, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
    let made = BTreeMap::from([("a", body["SecurityGroupId"].as_str().unwrap().to_owned())]);
    // The numbers are those of the client, which may leave some out.
    for (numbers, bad) in [((1..=59).collect::<Vec<_>>(), 57), (vec![1, 5, 57, 570], 570), (vec![1, 5, 57], 5)] {
        for (change, code) in BAD_PERMISSIONS {
            let line = format!("AuthorizeSecurityGroup {change}");
            let changes = request(&line, &made);
            let mut all = BTreeMap::from([("SecurityGroupId".to_owned(), made["a"].clone())]);
            for n in &numbers {
                let mut field = |f: &str, v: String| all.insert(format!("Permissions.{n}.{f}"), v);
                field("IpProtocol", "tcp".into());
                field("PortRange", format!("{0}/{0}", 100 + n));
                field("SourceCidrIp", "1.2.3.4".into());
                for (f, v) in changes.iter().skip(1).filter(|_| *n == bad) {
                    field(f, v.clone());
                }
            }
            for (action, only) in [("AuthorizeSecurityGroup", ""), ("RevokeSecurityGroup", ".NotFound")] {
                let pairs = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain([("Action", action)]);
                let (status, body) = call(&daemon, &key, &pairs.collect::<Vec<_>>());
                if !only.is_empty() && status == 200 {
                    // What does not exist is in no rule that could be taken away.
                    assert!(code.ends_with(only), "{change}: {body}");
                    continue;
                }
                let message = body["Message"].as_str().unwrap_or_default();
                assert_eq!(body["Code"], *code, "{change}: {body}");
                let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
                let named: Vec<String> = message.split("Permissions.").skip(1).map(number).collect();
                // One message ends a sentence with the word.
                let named: Vec<&String> = named.iter().filter(|n| !n.is_empty()).collect();
                assert_eq!(named, [&bad.to_string()], "{change}: {message}");
            }
        }
    }
    let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", made["a"].as_str())];
    let body = call(&daemon, &key, &ask).1;
    assert_eq!(body["Permissions"]["Permission"], serde_json::json!([]), "all or nothing");
}
