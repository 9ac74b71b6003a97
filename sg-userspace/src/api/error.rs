//! Every error that a call can have: status, code, message. Codes and messages
//! are the published ones, misspellings included.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// HTTP status.
    pub status: u16,
    /// What programs look at.
    pub code: &'static str,
    /// What people read; `%s` is what the error is about.
    pub message: &'static str,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What programs look at.
    pub code: Cow<'static, str>,
    /// What people read.
    pub message: String,
}

impl Kind {
    /// The error about something.
    pub fn of(&self, what: &str) -> ApiError {
        ApiError { status: self.status, code: Cow::Borrowed(self.code), message: self.message.replace("%s", what) }
    }

    /// The error, with more said.
    pub fn because(&self, why: &str) -> ApiError {
        self.of("").and(why)
    }
}

impl ApiError {
    /// The same, with more said.
    #[must_use]
    pub fn and(self, why: &str) -> Self {
        Self { message: format!("{} {why}", self.message.trim_end()), ..self }
    }
}

impl From<Kind> for ApiError {
    fn from(kind: Kind) -> Self {
        kind.of("")
    }
}

macro_rules! errors {
    ($($name:ident = $status:literal $code:literal $message:literal;)*) => {
        $(
            #[doc = concat!(stringify!($status), " `", $code, "`: ", $message)]
            pub const $name: Kind = Kind { status: $status, code: $code, message: $message };
        )*
        /// All of them, in order.
        pub const ALL: &[(&str, Kind)] = &[$((stringify!($name), $name)),*];
    };
}

errors! {
    // Authentication.
    NO_KEY = 404 "InvalidAccessKeyId.NotFound" "Specified access key is not found.";
    KEY_INACTIVE = 400 "InvalidAccessKeyId.Inactive" "The specified access key is disabled.";
    NOT_SIGNED = 400 "MissingParameter" "The input parameter %s that is mandatory for processing this request is not supplied.";
    SIGNATURE = 400 "SignatureDoesNotMatch" "Specified signature is not matched with our calculation. server string to sign is:%s";
    SIGNATURE_METHOD = 400 "InvalidSignatureMethod" "The specified signature method %s is not supported; HMAC-SHA1 and ACS3-HMAC-SHA256 are.";
    EXPIRED = 400 "InvalidTimeStamp.Expired" "Specified time stamp or date value is expired.";
    TIMESTAMP = 400 "InvalidTimeStamp.Format" "Specified time stamp or date value is not well formatted.";
    NONCE_USED = 400 "SignatureNonceUsed" "Specified signature nonce was used already.";
    READ_ONLY = 403 "Forbidden.RAM" "User not authorized to operate on the specified resource, or this API doesn't support RAM: the key is read-only.";
    THROTTLED = 400 "Throttling.User" "Request was denied due to user flow control.";
    // Common parameters.
    NO_ACTION = 404 "InvalidAction.NotFound" "Specified api is not found, please check your url and method.";
    VERSION = 400 "InvalidVersion" "Specified parameter Version is not valid.";
    UNREADABLE = 400 "InvalidParameter" "The specified parameter %s is not valid.";
    JSON_PARAMETER = 400 "InvalidParameter.Format" "Illegal parameter serialization format. Flat format is required. (%s)";
    INTERNAL = 500 "InternalError" "The request processing has failed due to some unknown error.";
    UNAVAILABLE = 503 "ServiceUnavailable" "The request has failed due to a temporary failure of the server.";
    CONFLICT = 403 "OperationConflict" "The operation conflicts with one that is under way.";
    REGION_MISSING = 400 "MissingParameter.RegionId" "The input parameter RegionId that is mandatory for processing this request is not supplied.";
    REGION_MISSING_POLICY = 400 "MissingParamter.RegionId" "The parameter RegionId is missing.";
    REGION = 404 "InvalidRegionId.NotFound" "The specified RegionId does not exist.";
    TOKEN = 400 "InvalidClientToken.ValueNotSupported" "The ClientToken parameter is invalid: at most 64 ASCII characters.";
    TOKEN_MISMATCH = 400 "IdempotentParameterMismatch" "The request uses the same client token as a previous, but non-identical request.";
    NEXT_TOKEN = 400 "InValidParameter.NextToken" "The specified parameter NextToken is not valid.";
    MAX_RESULTS = 400 "InvalidParameter.MaxResults" "The specified parameter MaxResults is not valid.";
    PAGE = 400 "NotSupported.PageNumberAndPageSize" "The parameters PageNumber and PageSize are not valid.";
    DRY_RUN = 400 "DryRunOperation" "Request validation has been passed with DryRun flag set.";
    // Groups.
    GROUP_ID_MISSING = 400 "InvalidSecurityGroupId.Malformed" "The specified parameter SecurityGroupId is not valid.";
    GROUP_NOT_FOUND = 404 "InvalidSecurityGroupId.NotFound" "The specified SecurityGroupId does not exist.";
    GROUP_TO_DELETE_NOT_FOUND = 404 "InvalidSecurityGroup.NotFound" "The specified security group is not found.";
    GROUP_NAME = 400 "InvalidSecurityGroupName.Malformed" "The specified parameter SecurityGroupName is not valid.";
    GROUP_DESCRIPTION = 400 "InvalidDescription.Malformed" "The specified parameter Description is not valid.";
    GROUP_TYPE = 400 "InvalidParams.GroupType" "The specified security group type is not valid.";
    GROUP_TYPE_FILTER = 400 "InvalidParameter.SecurityGroupType" "The specified parameter SecurityGroupType is not valid.";
    VPC_NOT_FOUND = 404 "InvalidVpcId.NotFound" "Specified VPC does not exist.";
    TAG_KEY = 400 "InvalidTagKey.Malformed" "The specified Tag.n.Key is not valid.";
    TAG_VALUE = 400 "InvalidTagValue.Malformed" "The specified Tag.n.Value is not valid.";
    TAG_DUPLICATE = 400 "Duplicate.TagKey" "The Tag.N.Key contain duplicate key.";
    TAG_QUOTA = 403 "QuotaExceed.Tags" "The number of tags exceeds the limit: 20 for each resource.";
    GROUP_QUOTA = 403 "QuotaExceed.SecurityGroup" "The maximum number of security groups is reached.";
    HAS_MEMBERS = 403 "DependencyViolation" "There is still instance(s) in the specified security group.";
    IS_REFERENCED = 403 "DependencyViolation" "The specified security group has been authorized in another one.";
    PROTECTED = 403 "InvalidOperation.DeletionProtection" "The operation is not allowed due to deletion protection.";
    MANAGED = 403 "InvalidOperation.ResourceManagedByCloudProduct" "The security group %s is managed: only the administrator of this host changes it.";
    INNER_POLICY = 400 "InvalidPolicy.Malformed" "The Policy is invalid. Only 'Accept' and 'Drop' are supported. Ignore case.";
    INNER_POLICY_ENTERPRISE = 404 "InvalidParameter.InnerAccessPolicy" "The InnerAccessPolicy attribute of enterprise level security group can't be modified.";
    REFERENCES_COUNT = 400 "InvalidSecurityGroupId.Malformed" "The specified parameter SecurityGroupId is essential and size should less than 10";
    ATTRIBUTE = 400 "InvalidParameter.AttributeNotSupported" "The specified parameter Attribute is not supported.";
    DIRECTION = 400 "InvalidParamter" "Invalid Parameter.";
    RESOURCE_GROUP = 404 "InvalidResourceGroup.NotFound" "The specified ResourceGroupId is not found: an id has at most 128 characters.";
    // Rules.
    PROTOCOL_PORTS = 400 "OperationDenied" "The specified IpProtocol does not exist or IpProtocol and PortRange do not match.";
    PORTS_FLAT = 400 "InvalidIpProtocol.Malformed" "The specified parameter PortRange is not valid.";
    PORTS_FLAT_REVOKE = 400 "InvalidIpPortRange.Malformed" "The specified parameter PortRange is not valid.";
    PROTOCOL = 400 "InvalidIpProtocol.ValueNotSupported" "The parameter %s must be specified with case insensitive TCP, UDP, ICMP, GRE or All.";
    PORTS = 400 "InvalidParam.PortRange" "The specified parameter %s is not valid. It should be two integers less than 65535 in ?/? format.";
    PORTS_MISSING = 400 "InvalidPortRange.Malformed" "The specified parameter PortRange must set.";
    SOURCE_PORTS = 400 "InvalidSourcePortRange.Malformed" "The specified parameter SourcePortRange is not valid.";
    PROTOCOL_PORT_LIST = 400 "InvalidParam.ProtocolNotSupportPortRangeList" "The specified protocol does not support the port range list.";
    PORT_LIST_NOT_FOUND = 400 "InvalidPortRangeListId.NotFound" "The specified port range list was not found.";
    POLICY = 400 "InvalidPolicy.Malformed" "The specified parameter %s is not valid.";
    PRIORITY = 400 "InvalidPriority.Malformed" "The parameter Priority is invalid.";
    PRIORITY_RANGE = 400 "InvalidPriority.ValueNotSupported" "The specified parameter %s is invalid.";
    NIC_TYPE = 400 "InvalidNicType.ValueNotSupported" "The specified parameter %s is not valid.";
    RULE_DESCRIPTION = 400 "InvalidSecurityGroupDiscription.Malformed" "The specified security group rule description parameter %s is not valid.";
    MISSING_SOURCE = 400 "MissingParameter.Source" "One of the parameters SourceCidrIp, Ipv6SourceCidrIp, SourceGroupId or SourcePrefixListId in %s must be specified.";
    MISSING_DEST = 400 "MissingParameter.Dest" "One of the parameters DestCidrIp, Ipv6DestCidrIp, DestGroupId or DestPrefixListId in %s must be specified.";
    MISSING_SOURCE_FLAT = 403 "MissingParameter" "The input parameter SourceGroupId or SourceCidrIp cannot be both blank.";
    MISSING_DEST_FLAT = 403 "MissingParameter" "The input parameter DestGroupId or DestCidrIp cannot be both blank.";
    SOURCE_CIDR_FLAT = 400 "InvalidSourceCidrIp.Malformed" "The specified parameter SourceCidrIp is not valid.";
    DEST_CIDR_FLAT = 400 "InvalidDestCidrIp.Malformed" "The specified parameter DestCidrIp is not valid.";
    IPV6_CIDR_FLAT = 400 "InvalidParameter.Ipv6CidrIp" "The specified Ipv6CidrIp is not valid.";
    SOURCE_CIDR = 400 "InvalidParam.SourceCidrIp" "The specified parameter %s is not valid.";
    DEST_CIDR = 400 "InvalidParam.DestCidrIp" "The specified parameter %s is not valid.";
    IPV6_SOURCE_CIDR = 400 "InvalidParam.Ipv6SourceCidrIp" "The specified parameter %s is not valid.";
    IPV6_DEST_CIDR = 400 "InvalidParam.Ipv6DestCidrIp" "The specified parameter %s is not valid.";
    SOURCE_FAMILIES = 400 "InvalidParam.SourceIp" "The Parameters SourceCidrIp and Ipv6SourceCidrIp in %s cannot be set at the same time.";
    DEST_FAMILIES = 400 "InvalidParam.DestIp" "The Parameters DestCidrIp and Ipv6DestCidrIp in %s cannot be set at the same time.";
    FAMILIES = 400 "InvalidParameter.Conflict" "IPv6 and IPv4 addresses cannot exist at the same time.";
    SAME_CIDR = 400 "InvalidParamter.Conflict" "The specified SourceCidrIp should be different from the DestCidrIp.";
    ICMP_V6_ADDRESS = 400 "InvalidParam.Ipv4ProtocolConflictWithIpv6Address" "IPv6 address cannot be specified for IPv4-specific protocol.";
    ICMPV6_V4_ADDRESS = 400 "InvalidParam.Ipv6ProtocolConflictWithIpv4Address" "IPv4 address cannot be specified for IPv6-specific protocol.";
    LIST_FAMILY = 400 "InvalidParam.PrefixListAddressFamilyMismatch" "The address family of the specified prefix list does not match the specified CidrIp.";
    SOURCE_GROUP_NOT_FOUND = 404 "InvalidSourceGroupId.NotFound" "The SourceGroupId provided does not exist in our records.";
    DEST_GROUP_NOT_FOUND = 404 "InvalidDestGroupId.NotFound" "The DestGroupId provided does not exist in our records.";
    SOURCE_GROUP_VPC = 400 "InvalidSourceGroupId.Mismatch" "Specified security group and source group are not in the same VPC.";
    DEST_GROUP_VPC = 400 "InvalidDestGroupId.Mismatch" "Specified security group and destination group are not in the same VPC.";
    SOURCE_GROUP_SELF = 403 "InvalidParamter.Conflict" "The specified SecurityGroupId should be different from the SourceGroupId.";
    DEST_GROUP_SELF = 403 "InvalidSecurityGroup.IsSame" "The authorized SecurityGroupId should be different from the DestGroupId.";
    GROUP_ENTERPRISE = 400 "InvalidGroupAuthParameter.OperationDenied" "The security group can not authorize to enterprise level security group.";
    ENTERPRISE_GROUP_OBJECT = 400 "InvalidGroupParameter.OperationDenied" "The attributes Policy, SourceGroupId, DestGroupId of enterprise level security groups are not allowed to be set or modified.";
    GROUP_RULES_QUOTA = 400 "AuthorizedGroupRule.LimitExceed" "You have reached the limit on the number of group authorization rules that you can add to a security group.When authorization object of rule is security group, the limit is %s.";
    RULES_QUOTA = 403 "AuthorizationLimitExceed" "The limit of authorization records in the security group reaches.";
    RULES_QUOTA_MODIFY = 400 "AuthorizationLimitExceed" "The limit of authorization records in the security group reaches.";
    PERMISSIONS_AND_FLAT = 400 "InvalidParam.Permissions" "The specified parameter Permissions cannot coexist with other parameters.";
    PERMISSIONS_COUNT = 400 "InvalidParam.PermissionsCount" "The specified parameter %s is not valid: 1 to 100 permissions are possible in one call.";
    PERMISSIONS_TWICE = 400 "InvalidParam.DuplicatePermissions" "There are duplicate permissions in the specified parameter Permissions.";
    LIST_ASSOCIATIONS = 403 "LimitExceed.PrefixListAssociationResource" "The number of resources associated with the prefix list exceeds the limit.";
    PREFIX_LIST_NOT_FOUND = 404 "InvalidPrefixListId.NotFound" "The specified prefix list was not found.";
    RULE_ID_NOT_FOUND = 404 "InvalidSecurityGroupRuleId.NotFound" "The specified SecurityGroupRuleId is not exists.";
    RULE_ID = 400 "InvalidParam.SecurityGroupRuleId" "The specified parameter SecurityGroupRuleId is not valid.";
    RULE_ID_TWICE = 400 "InvalidParam.SecurityGroupRuleIdRepeated" "The specified parameter SecurityGroupRuleId is repeated.";
    RULE_NOT_FOUND = 404 "SecurityGroupRule.NotFound" "The target security group rule not exist.";
    RULE_OBJECT_TYPE = 400 "InvalidOperation.ModifySgRuleEntityType" "The source or destination type of the rules cannot be modified.";
    RULE_NIC_TYPE = 400 "InvalidOperation.ModifyNicType" "NicType is not allowed to modify.";
    RULE_PORTS_TYPE = 400 "InvalidOperation.ModifyPortRangeType" "The type of the port range of the rule cannot be modified.";
    RULE_TWICE = 400 "InvalidOperation.RuleDuplicate" "The rule is the same as another one of the security group.";
    RULE_DIRECTION = 400 "InvalidSourceOrDestGroupId.DirectionMissmatch" "The specified source or destination does not go with the direction of the rule.";
    RULE_REQUEST = 400 "InvalidParam.InvalidModifyRuleRequest" "The request parameters are illegal.";
    RULE_PROTOCOL_FAMILY = 400 "InvalidParam.ProtocolAndAddressFamilyMismatch" "The specified Protocol and the address family do not match.";
    RULE_PROTOCOL_PORTS = 400 "InvalidParam.ProtocolAndPortRangeMismatch" "The specified Protocol and PortRange do not match.";
    // Members.
    JOIN_WHAT = 400 "MissingParameter" "The input parameter InstanceId or NetworkInterfaceId that is mandatory for processing this request is not supplied.";
    JOIN_BOTH = 403 "InvalidParam.EniIdAndInstanceId.Conflict" "The specified NetworkInterfaceId and InstanceId cannot be set at the same time.";
    INSTANCE_ID = 400 "InvalidInstanceId.Malformed" "The specified parameter InstanceId is not valid.";
    INTERFACE_ID = 403 "InvalidParam.Malformed" "The specified parameter %s is not valid.";
    INSTANCE_NOT_FOUND = 404 "InvalidInstanceId.NotFound" "The InstanceId provided does not exist in our records.";
    INTERFACE_NOT_FOUND = 404 "InvalidEniId.NotFound" "The specified NetworkInterfaceId does not exist.";
    ALREADY_MEMBER = 403 "InvalidInstanceId.AlreadyExists" "The specified instance already exists in the specified security group.";
    NOT_A_MEMBER = 400 "InvalidSecurityGroupAssociation.NotFound" "The specified instance or network interface is not in the specified security group.";
    LAST_GROUP_OF_INSTANCE = 403 "InstanceLastSecurityGroup" "The specified security group is the last security group for the instance.";
    LAST_GROUP_OF_INTERFACE = 403 "InvalidOperation.AtLeastInOneGroup" "The network interface must be in at least one security group.";
    JOIN_VPC = 400 "InvalidInstanceId.Mismatch" "Specified instance and security group are not in the same VPC.";
    JOIN_VPC_INTERFACE = 403 "InvalidOperation.VpcMismatch" "The specified network interface and security group are not in the same VPC.";
    ATTACH_VPC = 403 "InvalidOperation.VpcMismatch" "The specified network interface and instance are not in the same VPC.";
    JOIN_TYPES = 400 "InvalidOperation.MultiGroupType" "The specified instance can't join different types of security group.";
    JOIN_TOO_MANY = 400 "InstanceSecurityGroupLimitExceeded" "The maximum number of security groups of the instance is exceeded.";
    JOIN_RULES = 403 "AclLimitExceed" "The number of rules of the security groups exceeds the limit of the network interface.";
    JOIN_ADDRESSES = 403 "SecurityGroupInstanceLimitExceeded" "The maximum number of instances in a security group is exceeded.";
    JOIN_INTERFACES = 403 "InvalidOperation.NetworkInterfaceCountExceeded" "The number of network interfaces in the security group exceeds the limit.";
    GROUP_ID_TWICE = 404 "InvalidParameter.SecurityGroupIdRepeated" "The specified SecurityGroupId is repeated.";
    INSTANCE_VPCS = 404 "InvalidSecurityGroupVpc.NotBelongToOneVpc" "The specified security groups do not belong to one VPC.";
    INSTANCE_TYPES = 403 "EnterpriseGroupLimited.MutliGroupType" "The specified security groups are of different types.";
    GROUPS_OF_INTERFACE = 400 "JoinedGroupLimitExceed" "The number of security groups exceeds the limit of the network interface.";
    INTERFACE_TYPES = 403 "InvalidOperation.MultiGroupType" "The specified security groups are of different types.";
    INTERFACE_ADDRESSES = 403 "SecurityGroupInstanceLimitExceed" "The number of addresses in the security group exceeds the limit.";
    INTERFACE_COUNT = 403 "InvalidOperation.EniCountExceeded" "The number of network interfaces in the security group exceeds the limit.";
    INTERFACE_PRIMARY = 404 "InvalidOperation.PrimaryEniOnlySupportModifyNameAndDesc" "Of a primary network interface only the name and the description can be modified.";
    INTERFACE_TIMEOUTS = 400 "InvalidParameter.EniConnectionTrackingConfiguration" "The specify network interface connection tracking configuration exceeds limit.";
    INTERFACE_ADDRESS = 400 "InvalidIp.Address" "The specified parameter %s is not a valid address, or another network interface has it.";
    INTERFACE_IN_USE = 400 "InvalidOperation.InvalidEniState" "The network interface is a device of this host, or attached to an instance.";
    INTERFACE_GROUPS_BOTH = 400 "InvalidParameter.Conflict" "SecurityGroupId and SecurityGroupIds cannot be set at the same time.";
    VSWITCH_NOT_FOUND = 404 "InvalidVSwitchId.NotFound" "The specified VSwitchId does not exist.";
    // Prefix lists.
    LIST_NAME = 400 "InvalidParameter.PrefixListName" "The specified parameter PrefixListName is not valid.";
    LIST_ADDRESS_FAMILY = 400 "InvalidParameter.AddressFamily" "The specified parameter AddressFamily is not valid.";
    LIST_MAX_ENTRIES = 400 "LimitExceed.MaxEntries" "The specified parameter MaxEntries exceeds the limit: 1 to %s.";
    LIST_ENTRIES = 400 "LimitExceed.Entry" "The number of entries exceeds the limit.";
    LIST_CIDR = 400 "InvalidParameter.CidrMalformed" "The specified parameter %s is not valid.";
    LIST_CIDR_TWICE = 400 "InvalidParameter.CidrDuplicated" "The specified parameter %s is duplicated.";
    LIST_QUOTA = 404 "LimitExceed.PrefixListPerRegion" "The number of prefix lists exceeds the limit of the region.";
    LIST_IN_USE = 400 "NotAllowed.AssociationExist" "The specified prefix list has associated resources.";
    // Port range lists.
    PORT_LIST_NAME = 400 "InvalidParameter.PortRangeListName" "The specified parameter PortRangeListName is not valid.";
    PORT_LIST_MAX_ENTRIES = 400 "InvalidOperation.MaxEntriesCountExceed" "The specified parameter MaxEntries exceeds the limit: 1 to %s.";
    PORT_LIST_ENTRIES = 400 "InvalidOperation.EntryCountExceedMaxEntries" "The number of entries exceeds MaxEntries.";
    PORT_LIST_PORTS = 400 "InvalidParameter.PortRange" "The specified parameter %s is not valid. It should be two integers less than 65535 in specified format.";
    PORT_LIST_ENTRY = 400 "InvalidParam.Entry" "The specified parameter %s is not valid.";
    PORT_LIST_QUOTA = 400 "InvalidOperation.MaxCountExceed" "The number of port range lists exceeds the limit of the account.";
    PORT_LIST_TWICE = 400 "InvalidParameter.PortRangeDuplicated" "The specified parameter %s is duplicated.";
    PORT_LIST_IN_USE = 400 "InvalidPortRangeListId.AssociationExist" "The specified port range list has associated resources.";
    // Tags.
    RESOURCE_TYPE = 400 "InvalidResourceType.NotFound" "The ResourceType provided does not exist in our records.";
    RESOURCE_NOT_FOUND = 404 "InvalidResourceId.NotFound" "The specified ResourceId %s is not found.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_something_names_it() {
        assert_eq!(PORTS.of("Permissions.3.PortRange").message.matches("Permissions.3.PortRange").count(), 1);
        assert_eq!(HAS_MEMBERS.because("eth0 is.").message, format!("{} eth0 is.", HAS_MEMBERS.message));
        for (name, kind) in ALL {
            assert!((400..=503).contains(&kind.status) && !kind.message.is_empty(), "{name}");
        }
    }
}
