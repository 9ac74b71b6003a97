//! Rules as the API says them: parameters to permissions and back, and when two
//! rules are the same.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{
    draft::Draft,
    error::{self, ApiError, Kind},
    params::Params,
};
use crate::{
    document::{Permission, Text},
    model::Direction,
    validate::{
        names::{Kind as Kinds, Names},
        parse,
    },
};

/// The fields of one side of a rule, as parameters are named.
pub struct Side {
    /// IPv4 prefix.
    pub cidr: &'static str,
    /// IPv6 prefix.
    pub ipv6: &'static str,
    /// Group.
    pub group: &'static str,
    /// Account of the group.
    pub owners: [&'static str; 2],
    /// Prefix list.
    pub list: &'static str,
}

/// Where packets come from.
pub const SOURCE: Side = Side {
    cidr: "SourceCidrIp",
    ipv6: "Ipv6SourceCidrIp",
    group: "SourceGroupId",
    owners: ["SourceGroupOwnerAccount", "SourceGroupOwnerId"],
    list: "SourcePrefixListId",
};
/// Where they go.
pub const DEST: Side = Side {
    cidr: "DestCidrIp",
    ipv6: "Ipv6DestCidrIp",
    group: "DestGroupId",
    owners: ["DestGroupOwnerAccount", "DestGroupOwnerId"],
    list: "DestPrefixListId",
};

/// Every parameter of a rule.
pub const FIELDS: &[&str] = &[
    "Policy",
    "Priority",
    "IpProtocol",
    "PortRange",
    "SourcePortRange",
    "PortRangeListId",
    "SourceCidrIp",
    "Ipv6SourceCidrIp",
    "SourceGroupId",
    "SourcePrefixListId",
    "SourceGroupOwnerAccount",
    "SourceGroupOwnerId",
    "DestCidrIp",
    "Ipv6DestCidrIp",
    "DestGroupId",
    "DestPrefixListId",
    "DestGroupOwnerAccount",
    "DestGroupOwnerId",
    "NicType",
    "Description",
];

/// Remote and local side of a direction.
pub const fn sides(direction: Direction) -> (&'static Side, &'static Side) {
    match direction {
        Direction::Inbound => (&SOURCE, &DEST),
        Direction::Outbound => (&DEST, &SOURCE),
    }
}

/// How a rule is said: in a list of permissions, or by parameters of the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `Permissions.N`.
    Listed(usize),
    /// The call's own.
    Flat {
        /// To take a rule away.
        revoke: bool,
    },
}

impl Form {
    fn name(self, field: &str) -> String {
        match self {
            Self::Listed(n) => format!("Permissions.{n}.{field}"),
            Self::Flat { .. } => field.to_owned(),
        }
    }

    /// The error of a form: in a list, or flat.
    fn either(self, listed: Kind, flat: Kind, field: &str) -> ApiError {
        match self {
            Self::Listed(_) => listed.of(&self.name(field)),
            Self::Flat { .. } => flat.of(field),
        }
    }
}

fn text(value: &str) -> Option<Text> {
    Some(Text::from(value))
}

/// A prefix as it is kept: as it was said, IPv6 compressed; host bits stay.
fn prefix(value: &str, v4: bool) -> Option<String> {
    parse::cidr(value, v4).ok()?;
    if v4 {
        return Some(value.to_owned());
    }
    let (address, length) = value.split_once('/').map_or((value, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().ok()?;
    Some(length.map_or_else(|| address.to_string(), |length| format!("{address}/{length}")))
}

/// Reads a rule: first its syntax, field by field, then what it refers to.
///
/// # Errors
/// The first field that is wrong.
pub fn read(
    draft: &Draft<'_>,
    p: &Params,
    form: Form,
    direction: Direction,
    group: usize,
) -> Result<Permission, ApiError> {
    let mut rule = syntax(p, form, direction)?;
    existence(draft, &mut rule, direction, group)?;
    Ok(rule)
}

/// The syntax of a rule, and its own consistency.
///
/// # Errors
/// The first field that is wrong.
pub fn syntax(p: &Params, form: Form, direction: Direction) -> Result<Permission, ApiError> {
    let word = |choices: &[&str], field: &str, kind: Kind| match p.get(field) {
        None => Ok(None),
        Some(value) if choices.iter().any(|c| c.eq_ignore_ascii_case(value)) => Ok(Some(value.to_ascii_lowercase())),
        Some(_) => Err(kind.of(&form.name(field))),
    };
    let policy = word(&["accept", "drop"], "Policy", error::POLICY)?;
    let priority = match p.get("Priority") {
        None => None,
        Some(value) if value.parse::<i64>().is_err() => return Err(error::PRIORITY.into()),
        Some(value) => {
            Some(parse::number(value, 1, 100).map_err(|_| error::PRIORITY_RANGE.of(&form.name("Priority")))?)
        }
    };
    // A client that has none may send what its language calls nothing.
    let nic_type = word(&["intranet", "internet", "<nil>"], "NicType", error::NIC_TYPE)?;
    let protocol = p.get("IpProtocol").ok_or(error::PROTOCOL_PORTS)?;
    let number = parse::protocol(protocol).map_err(|_| error::PROTOCOL.of(&form.name("IpProtocol")))?;
    let with_ports = matches!(number, Some(6 | 17));
    let mut rule = Permission {
        direction: text(direction.name()),
        policy: text(policy.as_deref().unwrap_or("accept")),
        priority: text(&priority.unwrap_or(1).to_string()),
        ip_protocol: text(&protocol_name(number)),
        nic_type: nic_type.filter(|n| n == "internet").and(text("intranet")),
        ..Permission::default()
    };
    ports(p, form, with_ports, &mut rule)?;
    if let Some(value) = p.get("SourcePortRange") {
        match parse::ports(value) {
            Ok(None) => {}
            Ok(Some(_)) if with_ports => rule.source_port_range = text(value),
            _ => return Err(error::SOURCE_PORTS.into()),
        }
    }
    if let Some(value) = p.get("Description") {
        if value.chars().count() > 512 || value.starts_with("http://") || value.starts_with("https://") {
            return Err(error::RULE_DESCRIPTION.of(&form.name("Description")));
        }
        rule.description = text(value);
    }
    prefixes(p, form, direction, number, &mut rule)?;
    Ok(rule)
}

/// Refuses a rule whose two sides are the same prefix, however each is written. Only of one
/// that is made: documents may hold such a rule, and it can be named to change it or to
/// take it away.
///
/// # Errors
/// [`error::SAME_CIDR`].
pub fn two_sides(rule: &Permission) -> Result<(), ApiError> {
    let net = |t: &Option<Text>, v4| t.as_deref().and_then(|t| parse::cidr(t, v4).ok());
    let same = |a: &Option<Text>, b: &Option<Text>, v4| a.is_some() && net(a, v4) == net(b, v4);
    let both = same(&rule.source_cidr_ip, &rule.dest_cidr_ip, true)
        || same(&rule.ipv6_source_cidr_ip, &rule.ipv6_dest_cidr_ip, false);
    if both { Err(error::SAME_CIDR.into()) } else { Ok(()) }
}

fn ports(p: &Params, form: Form, with_ports: bool, rule: &mut Permission) -> Result<(), ApiError> {
    let list = p.get("PortRangeListId").filter(|_| matches!(form, Form::Listed(_)) || p.get("PortRange").is_none());
    if let Some(list) = list {
        if !with_ports {
            return Err(error::PROTOCOL_PORT_LIST.into());
        }
        rule.port_range_list_id = text(list);
        return Ok(());
    }
    let value = p.get("PortRange").ok_or(error::PORTS_MISSING)?;
    let range = parse::ports(value).map_err(|_| match form {
        Form::Listed(_) => error::PORTS.of(&form.name("PortRange")),
        Form::Flat { revoke: false } => error::PORTS_FLAT.into(),
        Form::Flat { revoke: true } => error::PORTS_FLAT_REVOKE.into(),
    })?;
    if range.is_some() != with_ports {
        return Err(error::PROTOCOL_PORTS.into());
    }
    rule.port_range = text(value);
    Ok(())
}

fn prefixes(
    p: &Params,
    form: Form,
    direction: Direction,
    protocol: Option<u8>,
    rule: &mut Permission,
) -> Result<(), ApiError> {
    let get = |field: &str, v4: bool, listed: Kind, flat: Kind| match p.get(field) {
        None => Ok(None),
        Some(value) => prefix(value, v4).map(Some).ok_or_else(|| form.either(listed, flat, field)),
    };
    let source = get(SOURCE.cidr, true, error::SOURCE_CIDR, error::SOURCE_CIDR_FLAT)?;
    let source6 = get(SOURCE.ipv6, false, error::IPV6_SOURCE_CIDR, error::IPV6_CIDR_FLAT)?;
    let dest = get(DEST.cidr, true, error::DEST_CIDR, error::DEST_CIDR_FLAT)?;
    let dest6 = get(DEST.ipv6, false, error::IPV6_DEST_CIDR, error::IPV6_CIDR_FLAT)?;
    let whole = match form {
        Form::Listed(n) => format!("Permissions.{n}"),
        Form::Flat { .. } => "the request".to_owned(),
    };
    if source.is_some() && source6.is_some() {
        return Err(error::SOURCE_FAMILIES.of(&whole));
    }
    if dest.is_some() && dest6.is_some() {
        return Err(error::DEST_FAMILIES.of(&whole));
    }
    if (source.is_some() && dest6.is_some()) || (source6.is_some() && dest.is_some()) {
        return Err(error::FAMILIES.into());
    }
    let (v4, v6) = (source.is_some() || dest.is_some(), source6.is_some() || dest6.is_some());
    if protocol == Some(1) && v6 {
        return Err(error::ICMP_V6_ADDRESS.into());
    }
    if protocol == Some(58) && v4 {
        return Err(error::ICMPV6_V4_ADDRESS.into());
    }
    let (remote, _) = sides(direction);
    let has_prefix = match direction {
        Direction::Inbound => source.is_some() || source6.is_some(),
        Direction::Outbound => dest.is_some() || dest6.is_some(),
    };
    (rule.source_cidr_ip, rule.ipv6_source_cidr_ip) =
        (source.as_deref().and_then(text), source6.as_deref().and_then(text));
    (rule.dest_cidr_ip, rule.ipv6_dest_cidr_ip) = (dest.as_deref().and_then(text), dest6.as_deref().and_then(text));
    // Of several remote sides the first counts: prefix, group, list.
    let (group, list) = (p.get(remote.group), p.get(remote.list));
    let (group, list) = match (has_prefix, group, list) {
        (true, _, _) => (None, None),
        (false, Some(group), _) => (Some(group), None),
        (false, None, Some(list)) => (None, Some(list)),
        (false, None, None) => {
            let (listed, flat) = match direction {
                Direction::Inbound => (error::MISSING_SOURCE, error::MISSING_SOURCE_FLAT),
                Direction::Outbound => (error::MISSING_DEST, error::MISSING_DEST_FLAT),
            };
            return Err(match form {
                Form::Flat { revoke: true } => ApiError { status: 400, ..flat.into() },
                _ => form.either(Kind { ..listed }, flat, "").with_whole(&whole, listed),
            });
        }
    };
    let owner = remote.owners.iter().find_map(|o| p.get(o)).filter(|_| group.is_some());
    match direction {
        Direction::Inbound => {
            rule.source_group_id = group.and_then(text);
            rule.source_prefix_list_id = list.and_then(text);
            rule.source_group_owner_account = owner.and_then(text);
        }
        Direction::Outbound => {
            rule.dest_group_id = group.and_then(text);
            rule.dest_prefix_list_id = list.and_then(text);
            rule.dest_group_owner_account = owner.and_then(text);
        }
    }
    Ok(())
}

impl ApiError {
    /// The message about a whole permission, where the error is of that kind.
    fn with_whole(self, whole: &str, kind: Kind) -> Self {
        if self.code == kind.code { kind.of(whole) } else { self }
    }
}

/// What a rule refers to, by its ids.
fn existence(draft: &Draft<'_>, rule: &mut Permission, direction: Direction, group: usize) -> Result<(), ApiError> {
    let inbound = direction == Direction::Inbound;
    if let Some(list) = &rule.port_range_list_id {
        let own = |i: &usize| draft.sees(&draft.names.port_lists.ids[*i]);
        let i = draft.port_list(list).filter(own).ok_or(error::PORT_LIST_NOT_FOUND)?;
        rule.port_range_list_id = text(draft.names.port_lists.ids[i].as_str());
    }
    let (object, list) = if inbound {
        (&mut rule.source_group_id, &mut rule.source_prefix_list_id)
    } else {
        (&mut rule.dest_group_id, &mut rule.dest_prefix_list_id)
    };
    if let Some(list) = list {
        let own = |i: &usize| draft.sees(&draft.names.prefix_lists.ids[*i]);
        let i = draft.prefix_list(list).filter(own).ok_or(error::PREFIX_LIST_NOT_FOUND)?;
        let v4 = draft.prefix_list_at(i).address_family.as_deref().is_none_or(|f| f.eq_ignore_ascii_case("ipv4"));
        let protocol = rule.ip_protocol.as_deref().and_then(|t| parse::protocol(t).ok()).flatten();
        let local_v4 = rule.source_cidr_ip.is_some() || rule.dest_cidr_ip.is_some();
        let local_v6 = rule.ipv6_source_cidr_ip.is_some() || rule.ipv6_dest_cidr_ip.is_some();
        if (v4 && (protocol == Some(58) || local_v6)) || (!v4 && (protocol == Some(1) || local_v4)) {
            return Err(error::LIST_FAMILY.into());
        }
        *list = Text::from(draft.names.prefix_lists.ids[i].as_str());
    }
    if let Some(named) = object {
        let owner = if inbound { &mut rule.source_group_owner_account } else { &mut rule.dest_group_owner_account };
        let account = owner.take().map(|t| t.value);
        let (missing, vpc, own) = if inbound {
            (error::SOURCE_GROUP_NOT_FOUND, error::SOURCE_GROUP_VPC, error::SOURCE_GROUP_SELF)
        } else {
            (error::DEST_GROUP_NOT_FOUND, error::DEST_GROUP_VPC, error::DEST_GROUP_SELF)
        };
        let i = draft.group_of(named, account.as_deref()).ok_or(missing)?;
        if i == group {
            return Err(own.into());
        }
        if draft.is_enterprise(group) {
            return Err(error::ENTERPRISE_GROUP_OBJECT.into());
        }
        if draft.is_enterprise(i) {
            return Err(error::GROUP_ENTERPRISE.into());
        }
        if draft.vpc_of(i) != draft.vpc_of(group) {
            return Err(vpc.into());
        }
        draft.not_managed(i)?;
        *named = Text::from(draft.names.groups.ids[i].as_str());
    }
    Ok(())
}

/// A protocol as listings say it.
pub fn protocol_name(number: Option<u8>) -> String {
    match number {
        None => "ALL".into(),
        Some(6) => "TCP".into(),
        Some(17) => "UDP".into(),
        Some(1) => "ICMP".into(),
        Some(58) => "ICMPv6".into(),
        Some(47) => "GRE".into(),
        Some(other) => other.to_string(),
    }
}

/// What the texts mean by which a rule names objects; `None` where there is no such object.
pub struct Refers<'a> {
    /// The id of a group.
    pub group: &'a dyn Fn(&str) -> Option<String>,
    /// The id of a prefix list.
    pub prefix_list: &'a dyn Fn(&str) -> Option<String>,
    /// The id of a port range list.
    pub port_list: &'a dyn Fn(&str) -> Option<String>,
}

/// What makes two rules of a group the same: direction, policy, priority and all
/// that is matched, however it is written.
pub fn key(names: &Names, rule: &Permission) -> String {
    let of = |kind: &Kinds, t: &str| kind.with_id(t).or_else(|| kind.named(t)).map(|i| kind.ids[i].clone());
    let refers = Refers {
        group: &|t| of(&names.groups, t),
        prefix_list: &|t| of(&names.prefix_lists, t),
        port_list: &|t| of(&names.port_lists, t),
    };
    key_by(&refers, rule)
}

/// The same, whatever says what names mean.
pub fn key_by(refers: &Refers<'_>, rule: &Permission) -> String {
    let get = |t: &Option<Text>| t.as_deref().unwrap_or_default().to_ascii_lowercase();
    let protocol = rule.ip_protocol.as_deref().and_then(|t| parse::protocol(t).ok());
    let range = |t: &Option<Text>| t.as_deref().and_then(|t| parse::ports(t).ok()).flatten();
    let net = |t: &Option<Text>, v4| t.as_deref().and_then(|t| parse::cidr(t, v4).ok()).map(|n| n.to_string());
    let id = |t: &Option<Text>, find: &dyn Fn(&str) -> Option<String>| {
        t.as_deref().map(|t| find(t).unwrap_or_else(|| t.to_owned()))
    };
    let mut parts = vec![get(&rule.direction), rule.policy.as_deref().unwrap_or("accept").to_ascii_lowercase()];
    // A document may write it with zeros in front.
    parts.push(rule.priority.as_deref().and_then(|t| t.parse::<u8>().ok()).unwrap_or(1).to_string());
    parts.push(protocol.map_or_else(|| get(&rule.ip_protocol), protocol_name));
    let mut add = |name: &str, value: Option<String>| parts.extend(value.map(|v| format!("{name}={v}")));
    add("ports", range(&rule.port_range).map(|(a, b)| format!("{a}/{b}")));
    add("port_list", id(&rule.port_range_list_id, refers.port_list));
    add("source_ports", range(&rule.source_port_range).map(|(a, b)| format!("{a}/{b}")));
    for (name, four, six, groups, lists) in [
        ("source", &rule.source_cidr_ip, &rule.ipv6_source_cidr_ip, &rule.source_group_id, &rule.source_prefix_list_id),
        ("dest", &rule.dest_cidr_ip, &rule.ipv6_dest_cidr_ip, &rule.dest_group_id, &rule.dest_prefix_list_id),
    ] {
        add(name, net(four, true));
        add(name, net(six, false));
        add(name, id(groups, refers.group));
        add(name, id(lists, refers.prefix_list));
    }
    parts.join(" ")
}

/// A rule as listings show it: every key is there, what is not set is empty.
pub fn show(draft: &Draft<'_>, rule: &Permission, id: &str, created: &str) -> Map<String, Value> {
    let get = |t: &Option<Text>| t.as_deref().unwrap_or_default().to_owned();
    // A document may write it in any way; clients compare it with the short one.
    let six = |t: &Option<Text>| t.as_deref().and_then(|t| prefix(t, false)).unwrap_or_else(|| get(t));
    let protocol = rule.ip_protocol.as_deref().and_then(|t| parse::protocol(t).ok());
    let number: u32 = rule.priority.as_deref().and_then(|t| t.parse().ok()).unwrap_or(1);
    let policy = if get(&rule.policy).eq_ignore_ascii_case("drop") { "Drop" } else { "Accept" };
    let with_ports = matches!(protocol, Some(Some(6 | 17)));
    let none = if with_ports { "" } else { "-1/-1" };
    let or = |value: String, other: &str| if value.is_empty() { other.to_owned() } else { value };
    let mut shown = json!({
        "SecurityGroupRuleId": id,
        "Direction": get(&rule.direction).to_ascii_lowercase(),
        "IpProtocol": protocol.map_or_else(|| get(&rule.ip_protocol), protocol_name),
        "PortRange": or(get(&rule.port_range), none),
        "SourcePortRange": or(get(&rule.source_port_range), none),
        "Priority": number,
        "Policy": policy,
        "NicType": "intranet",
        "Description": get(&rule.description),
        "CreateTime": created,
        "SourceCidrIp": get(&rule.source_cidr_ip),
        "Ipv6SourceCidrIp": six(&rule.ipv6_source_cidr_ip),
        "DestCidrIp": get(&rule.dest_cidr_ip),
        "Ipv6DestCidrIp": six(&rule.ipv6_dest_cidr_ip),
    });
    let group = |t: &Option<Text>| match t.as_deref().map(|t| (t, draft.any_group(t))) {
        None => [String::new(), String::new(), String::new()],
        Some((text, None)) => [text.to_owned(), String::new(), String::new()],
        Some((_, Some(i))) => [draft.names.groups.ids[i].clone(), draft.group_name(i), draft.account_of(i)],
    };
    let list = |t: &Option<Text>, kind: &crate::validate::names::Kind, find: Option<usize>| match (t, find) {
        (Some(_), Some(i)) => [kind.ids[i].clone(), kind.names[i].clone()],
        (t, _) => [get(t), String::new()],
    };
    let find = |t: &Option<Text>| t.as_deref().and_then(|t| draft.prefix_list(t));
    for (side, groups, lists) in [
        ("Source", &rule.source_group_id, &rule.source_prefix_list_id),
        ("Dest", &rule.dest_group_id, &rule.dest_prefix_list_id),
    ] {
        let [id, name, account] = group(groups);
        shown[format!("{side}GroupId")] = id.into();
        shown[format!("{side}GroupName")] = name.into();
        shown[format!("{side}GroupOwnerAccount")] = account.into();
        let [id, name] = list(lists, &draft.names.prefix_lists, find(lists));
        shown[format!("{side}PrefixListId")] = id.into();
        shown[format!("{side}PrefixListName")] = name.into();
    }
    let at = rule.port_range_list_id.as_deref().and_then(|t| draft.port_list(t));
    let [id, name] = list(&rule.port_range_list_id, &draft.names.port_lists, at);
    shown["PortRangeListId"] = id.into();
    shown["PortRangeListName"] = name.into();
    match shown {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
