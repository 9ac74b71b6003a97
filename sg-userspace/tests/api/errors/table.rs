//! Requests, and the errors that they have.

/// Errors that are not provoked here, and why.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("THROTTLED", "its own test"),
    ("MANAGED", "its own test, as the administrator makes a group managed"),
    ("PROTECTED", "its own test, as the administrator protects a group"),
    ("TOKEN_MISMATCH", "its own test"),
    ("KEY_INACTIVE", "its own test"),
];

/// What is there before anything is refused.
pub const MAKE: &[(&str, &str, &str)] = &[
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
        "far",
        "NetworkInterfaceId",
        "CreateNetworkInterface VSwitchId=vsw-other SecurityGroupId=$vpc PrimaryIpAddress=198.51.100.30",
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
pub const BAD: &[(&str, &str)] = &[
    ("NO_ACTION", "RunInstances"),
    ("VERSION", "DescribeRegions Version=2016-03-14"),
    ("UNREADABLE", "RevokeSecurityGroup SecurityGroupId=$a Permissions.0.IpProtocol=tcp"),
    ("UNREADABLE", "ModifyInstanceAttribute InstanceId=i-guest SecurityGroupIds=$a"),
    ("UNREADABLE", "ModifyInstanceAttribute InstanceId=i-guest InstanceName=another"),
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
    ("ATTACH_VPC", "AttachNetworkInterface NetworkInterfaceId=$far InstanceId=i-guest"),
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
pub const LIMITS: &[(&str, &str)] = &[
    ("GROUP_RULES_QUOTA", "the limit is 2."),
    ("LIST_MAX_ENTRIES", "1 to 199."),
    ("PORT_LIST_MAX_ENTRIES", "1 to 1999."),
];

/// What is changed in a permission, and the code of the refusal.
pub const BAD_PERMISSIONS: &[(&str, &str)] = &[
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
