//! Ids, names, and what a reference means: first an exact id, then a name
//! within account and VPC; a name borne by two objects means neither.

use std::collections::HashMap;

use crate::document::{At, Document, Problems, Text};

/// Name of the VPC that a document need not name.
pub const DEFAULT_VPC: &str = "vpc-default";

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    what: &'static str,
    /// Ids, in document order.
    pub ids: Vec<String>,
    /// Names; the id where there is none.
    pub names: Vec<String>,
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, Vec<usize>>,
}

/// All kinds.
#[derive(Debug)]
pub struct Names {
    /// Security groups.
    pub groups: Kind,
    /// Prefix lists.
    pub prefix_lists: Kind,
    /// Port range lists.
    pub port_lists: Kind,
    /// Interfaces.
    pub interfaces: Kind,
}

/// An id that depends on nothing but what it is made of (FNV-1a, 64 bits).
pub fn derived_id(prefix: &str, parts: &[&str]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    format!("{prefix}-{hash:016x}")
}

struct Entry<'a> {
    id: Option<&'a Text>,
    name: Option<&'a Text>,
    scope: &'a str,
    at: &'a At,
    path: String,
}

impl Kind {
    fn of<'a>(
        what: &'static str,
        prefix: &str,
        entries: impl Iterator<Item = Entry<'a>>,
        nameless: bool,
        problems: &mut Problems,
    ) -> Self {
        let mut kind =
            Self { what, ids: Vec::new(), names: Vec::new(), by_id: HashMap::new(), by_name: HashMap::new() };
        let mut places: Vec<&At> = Vec::new();
        for (i, entry) in entries.enumerate() {
            let Entry { id, name, scope, at, path } = entry;
            for text in [id, name].into_iter().flatten() {
                if text.chars().count() > 128 || text.chars().any(char::is_control) {
                    problems.add(&text.at, &path, "ids and names have at most 128 printable characters", None);
                }
            }
            if id.is_none() && name.is_none() && !nameless {
                problems.add(at, &path, format!("a {what} needs a name or an id"), None);
            }
            let unique = format!("#{i}");
            let key = name.map_or(unique.as_str(), |n| n.value.as_str());
            let derived = id.map_or_else(|| derived_id(prefix, &[scope, key]), |t| t.value.clone());
            if let Some(&first) = kind.by_id.get(&derived) {
                let message = format!("this {what} is defined twice, first at {}", places[first]);
                let help = id.is_none().then(|| "give one of them another name, or ids of their own".to_owned());
                problems.add(at, &path, message, help);
            } else {
                kind.by_id.insert(derived.clone(), i);
            }
            let shown = name.map_or_else(|| derived.clone(), |t| t.value.clone());
            if let Some(name) = name {
                kind.by_name.entry(name.value.clone()).or_default().push(i);
            }
            kind.ids.push(derived);
            kind.names.push(shown);
            places.push(at);
        }
        kind
    }

    /// The object of an id.
    pub fn with_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The one object of a name.
    pub fn named(&self, name: &str) -> Option<usize> {
        match self.by_name.get(name).map(Vec::as_slice) {
            Some([one]) => Some(*one),
            _ => None,
        }
    }

    /// What a reference means.
    pub fn resolve(&self, text: &Text, path: &str, problems: &mut Problems) -> Option<usize> {
        if let Some(&i) = self.by_id.get(&text.value) {
            return Some(i);
        }
        match self.by_name.get(&text.value).map(Vec::as_slice) {
            Some([one]) => Some(*one),
            Some(several) => {
                let ids: Vec<_> = several.iter().map(|&i| self.ids[i].as_str()).collect();
                let message = format!("the name {:?} is borne by {}", text.value, ids.join(" and "));
                problems.add(&text.at, path, message, Some("refer to it by its id".into()));
                None
            }
            None => {
                let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
                let help = crate::document::read::nearest(text, &known).map(|n| format!("did you mean {n:?}?"));
                let help = help.or_else(|| (known.is_empty()).then(|| format!("no {} is defined", self.what)));
                problems.add(&text.at, path, format!("there is no {} {:?}", self.what, text.value), help);
                None
            }
        }
    }
}

impl Names {
    /// Names of everything in a document.
    pub fn of(document: &Document, problems: &mut Problems) -> Self {
        Self::of_all(std::slice::from_ref(document), problems)
    }

    /// Names of everything in several, in their order.
    pub fn of_all(documents: &[Document], problems: &mut Problems) -> Self {
        let groups = documents.iter().flat_map(|d| d.security_groups.iter()).enumerate().map(|(i, g)| Entry {
            id: g.security_group_id.as_ref(),
            name: g.security_group_name.as_ref(),
            scope: g.vpc_id.as_deref().unwrap_or(DEFAULT_VPC),
            at: &g.at.0,
            path: format!("security_groups[{i}]"),
        });
        let groups = Kind::of("security group", "sg", groups, false, problems);
        let lists = documents.iter().flat_map(|d| d.prefix_lists.iter()).enumerate().map(|(i, l)| Entry {
            id: l.prefix_list_id.as_ref(),
            name: l.prefix_list_name.as_ref(),
            scope: "",
            at: &l.at.0,
            path: format!("prefix_lists[{i}]"),
        });
        let prefix_lists = Kind::of("prefix list", "pl", lists, false, problems);
        let lists = documents.iter().flat_map(|d| d.port_range_lists.iter()).enumerate().map(|(i, l)| Entry {
            id: l.port_range_list_id.as_ref(),
            name: l.port_range_list_name.as_ref(),
            scope: "",
            at: &l.at.0,
            path: format!("port_range_lists[{i}]"),
        });
        let port_lists = Kind::of("port range list", "prl", lists, false, problems);
        let interfaces = documents.iter().flat_map(|d| d.network_interfaces.iter()).enumerate().map(|(i, n)| Entry {
            id: n.network_interface_id.as_ref(),
            name: n.network_interface_name.as_ref().or(n.device.as_ref()).or(n.private_ip_addresses.first()),
            scope: "",
            at: &n.at.0,
            path: format!("network_interfaces[{i}]"),
        });
        let interfaces = Kind::of("network interface", "eni", interfaces, true, problems);
        Self { groups, prefix_lists, port_lists, interfaces }
    }
}
