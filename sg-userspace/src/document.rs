//! The policy document as written: texts with places, nothing interpreted.
//!
//! # Layout
//! - [`tree`]: YAML and JSON to nodes
//! - [`read`]: nodes to the types below
//! - [`problem`]: what is wrong, where, and how to mend it

pub mod problem;
pub mod read;
pub mod tree;

pub use problem::{Problem, Problems};
pub use read::{List, Text};
use read::{Mapping, Read, mapping};
pub use tree::At;

/// Bytes a document may have, all its files together.
pub const MAX_DOCUMENT: usize = 8 << 20;
/// Name of a document that does not name itself.
pub const DEFAULT_NAME: &str = "main";

/// Name of the document that holds what came by the API; no file can have it.
pub const API_NAME: &str = "(api)";

/// Where an object stands; equal to any other, so that moved objects are equal.
#[derive(Clone, Debug, Default)]
pub struct Position(pub At);

impl PartialEq for Position {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Position {}

mapping! {
    /// The whole document.
    Document {
        /// Its name; default [`DEFAULT_NAME`].
        document: Option<Text>,
        /// Security groups.
        security_groups: List<Group>,
        /// Prefix lists.
        prefix_lists: List<PrefixList>,
        /// Port range lists.
        port_range_lists: List<PortRangeList>,
        /// Interfaces.
        network_interfaces: List<NetworkInterface>,
        /// Instances.
        instances: List<Instance>,
    }
}

mapping! {
    /// A label.
    Tag {
        /// Key.
        key: Option<Text>,
        /// Value.
        value: Option<Text>,
    }
}

mapping! {
    /// A security group.
    Group {
        /// Name.
        security_group_name: Option<Text>,
        /// Id; derived from the name when absent.
        security_group_id: Option<Text>,
        /// `normal` (default) or `enterprise`.
        security_group_type: Option<Text>,
        /// `accept` (default of normal) or `drop`.
        inner_access_policy: Option<Text>,
        /// Free text.
        description: Option<Text>,
        /// VPC; default `vpc-default`.
        vpc_id: Option<Text>,
        /// Resource group.
        resource_group_id: Option<Text>,
        /// Labels.
        tags: List<Tag>,
        /// Rules of both directions.
        permissions: List<Permission>,
    }
}

mapping! {
    /// A rule.
    Permission {
        /// `ingress` or `egress`.
        direction: Option<Text>,
        /// `accept` (default) or `drop`.
        policy: Option<Text>,
        /// 1 (default, first) to 100.
        priority: Option<Text>,
        /// TCP, UDP, ICMP, ICMPv6, GRE, ALL or 0 to 255.
        ip_protocol: Option<Text>,
        /// `first/last`.
        port_range: Option<Text>,
        /// `first/last`.
        source_port_range: Option<Text>,
        /// Port list instead of `port_range`.
        port_range_list_id: Option<Text>,
        /// IPv4 source.
        source_cidr_ip: Option<Text>,
        /// IPv4 destination.
        dest_cidr_ip: Option<Text>,
        /// IPv6 source.
        ipv6_source_cidr_ip: Option<Text>,
        /// IPv6 destination.
        ipv6_dest_cidr_ip: Option<Text>,
        /// Source group.
        source_group_id: Option<Text>,
        /// Destination group.
        dest_group_id: Option<Text>,
        /// Account of the source group.
        source_group_owner_account: Option<Text>,
        /// Account of the destination group.
        dest_group_owner_account: Option<Text>,
        /// Source prefix list.
        source_prefix_list_id: Option<Text>,
        /// Destination prefix list.
        dest_prefix_list_id: Option<Text>,
        /// `intranet` or `internet`; one network here.
        nic_type: Option<Text>,
        /// Free text.
        description: Option<Text>,
    }
}

mapping! {
    /// A prefix list.
    PrefixList {
        /// Name.
        prefix_list_name: Option<Text>,
        /// Id; derived from the name when absent.
        prefix_list_id: Option<Text>,
        /// `IPv4` (default) or `IPv6`.
        address_family: Option<Text>,
        /// What it counts against the rule quota.
        max_entries: Option<Text>,
        /// Free text.
        description: Option<Text>,
        /// Labels.
        tags: List<Tag>,
        /// Prefixes.
        entries: List<PrefixEntry>,
    }
}

mapping! {
    /// An entry of a prefix list.
    PrefixEntry {
        /// The prefix, host bits zero.
        cidr: Option<Text>,
        /// Free text.
        description: Option<Text>,
    }
}

mapping! {
    /// A port range list.
    PortRangeList {
        /// Name.
        port_range_list_name: Option<Text>,
        /// Id; derived from the name when absent.
        port_range_list_id: Option<Text>,
        /// What it counts against the rule quota.
        max_entries: Option<Text>,
        /// Free text.
        description: Option<Text>,
        /// Labels.
        tags: List<Tag>,
        /// Ranges.
        entries: List<PortEntry>,
    }
}

mapping! {
    /// An entry of a port range list.
    PortEntry {
        /// `first/last`.
        port_range: Option<Text>,
        /// Free text.
        description: Option<Text>,
    }
}

mapping! {
    /// Timeouts, seconds.
    ConnectionTracking {
        /// Established TCP.
        tcp_established_timeout: Option<Text>,
        /// Closed TCP.
        tcp_closed_and_time_wait_timeout: Option<Text>,
        /// UDP.
        udp_timeout: Option<Text>,
    }
}

mapping! {
    /// An interface.
    NetworkInterface {
        /// Device name or glob; absent for a member that lives elsewhere.
        device: Option<Text>,
        /// `host` (default) or `guest`.
        side: Option<Text>,
        /// Id; derived when absent.
        network_interface_id: Option<Text>,
        /// Name.
        network_interface_name: Option<Text>,
        /// Addresses of both families.
        private_ip_addresses: Vec<Text>,
        /// 1 to 10 groups.
        security_group_ids: Vec<Text>,
        /// Instance it belongs to.
        instance_id: Option<Text>,
        /// Timeouts.
        connection_tracking_configuration: Option<Box<ConnectionTracking>>,
        /// `auto` (default), `xdp` or `tc`.
        hook: Option<Text>,
        /// `blocked` (default) or `open`.
        smtp_egress: Option<Text>,
        /// `on` (default) or `off`.
        source_check: Option<Text>,
    }
}

mapping! {
    /// An instance.
    Instance {
        /// Id.
        instance_id: Option<Text>,
        /// Name.
        instance_name: Option<Text>,
        /// Interfaces, primary first.
        network_interface_ids: Vec<Text>,
    }
}

impl Instance {
    /// By what it is known: its id, else its name.
    pub fn key(&self) -> Option<&Text> {
        self.instance_id.as_ref().or(self.instance_name.as_ref())
    }
}

impl Document {
    /// All documents as one.
    pub fn merge(documents: &[Self]) -> Self {
        let mut whole = Self::default();
        for d in documents {
            whole.security_groups.append(&d.security_groups);
            whole.prefix_lists.append(&d.prefix_lists);
            whole.port_range_lists.append(&d.port_range_lists);
            whole.network_interfaces.append(&d.network_interfaces);
            whole.instances.append(&d.instances);
        }
        whole
    }

    /// The name, or the default one.
    pub fn name(&self) -> &str {
        self.document.as_deref().unwrap_or(DEFAULT_NAME)
    }
}

/// One file of a document.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

fn refuse(name: &str, message: String, help: Option<String>) -> Problems {
    let at = At { file: name.into(), line: 0, column: 0 };
    Problems(vec![Problem { at, path: String::new(), message, help, over: None }])
}

/// Reads several files as one document.
///
/// # Errors
/// Every problem of shape: too large, not UTF-8, not YAML, unknown keys,
/// wrong kinds of values, two names.
pub fn parse(sources: &[Source]) -> Result<Document, Problems> {
    let total: usize = sources.iter().map(|s| s.bytes.len()).sum();
    if let Some(largest) = sources.iter().max_by_key(|s| s.bytes.len()).filter(|_| total > MAX_DOCUMENT) {
        let message = format!("the document has {total} bytes, the limit is {MAX_DOCUMENT} (max_document)");
        return Err(refuse(&largest.name, message, Some("move long address lists into prefix lists".into())));
    }
    let mut problems = Problems::default();
    let mut whole = Document::default();
    for source in sources {
        let text = match std::str::from_utf8(&source.bytes) {
            Ok(text) => text,
            Err(e) => {
                let line = source.bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u32 + 1;
                let at = At { file: source.name.as_str().into(), line, column: 1 };
                problems.add(&at, "", format!("not UTF-8 (byte {})", e.valid_up_to()), None);
                continue;
            }
        };
        // A byte order mark is no part of the text.
        let node = match tree::parse(text.trim_start_matches('\u{feff}'), &source.name) {
            Ok(node) => node,
            Err(e) => {
                problems.add(&e.at, "", e.message, None);
                continue;
            }
        };
        let tree::Value::Mapping(entries) = &node.value else {
            let message = format!("a document is a mapping, not {}", node.value.kind());
            problems.add(&node.at, "", message, Some("start with `security_groups:`".into()));
            continue;
        };
        let part = Document::read_entries(&node.at, entries, "", &mut problems);
        if let (Some(a), Some(b)) = (&whole.document, &part.document)
            && a != b
        {
            problems.add(
                &b.at,
                "document",
                format!("this file is of document {b:?}, another of {a:?}", b = b.value, a = a.value),
                None,
            );
        }
        whole.document = whole.document.or(part.document);
        whole.security_groups.append(&part.security_groups);
        whole.prefix_lists.append(&part.prefix_lists);
        whole.port_range_lists.append(&part.port_range_lists);
        whole.network_interfaces.append(&part.network_interfaces);
        whole.instances.append(&part.instances);
    }
    problems.or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, Problems> {
        parse(&[Source { name: "p.yaml".into(), bytes: text.into() }])
    }

    #[test]
    fn all_problems_come_at_once_with_their_places() {
        let text = "security_groups:\n  - security_group_nam: web\n    permissions: {}\nnetwork_interface: []\n";
        let e = read(text).unwrap_err().to_string();
        assert_eq!(
            e,
            "p.yaml:2:5: security_groups[0].security_group_nam: unknown key \"security_group_nam\"; \
             did you mean \"security_group_name\"?\n\
             p.yaml:3:18: security_groups[0].permissions: a list is expected here, not a mapping\n\
             p.yaml:4:1: network_interface: unknown key \"network_interface\"; did you mean \"network_interfaces\"?"
        );
    }

    #[test]
    fn what_is_written_back_reads_as_the_same() {
        let text = "security_groups: [{security_group_name: '123', description: 'on: x', permissions: [{direction: ingress, priority: 7, ip_protocol: all}]}]";
        let a = read(text).unwrap();
        let b = read(&serde_yaml_ng::to_string(&a).unwrap()).unwrap();
        assert_eq!(a, b);
        assert_eq!(b.security_groups[0].security_group_name.as_deref(), Some("123"));
        let json: Document = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(a, json);
    }

    #[test]
    fn size_and_encoding() {
        let e = parse(&[Source { name: "x".into(), bytes: vec![b'a'; MAX_DOCUMENT + 1] }]).unwrap_err();
        assert!(e.to_string().contains("the limit is 8388608"));
        let e = parse(&[Source { name: "x".into(), bytes: b"a: 1\nb: \xff\n".to_vec() }]).unwrap_err();
        assert_eq!(e.to_string(), "x:2:1: not UTF-8 (byte 8)");
    }
}
