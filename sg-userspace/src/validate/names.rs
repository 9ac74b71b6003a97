//! Ids, names, and what a reference means: first an exact id, then a name
//! within account and VPC; a name borne by two objects means neither. Names that
//! documents give come before those that were given by the API.

use std::{collections::HashMap, sync::Arc};

use crate::document::{
    API_NAME, At, Document, Group, List, NetworkInterface, PortRangeList, PrefixList, Problems, Text,
};

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
    /// Where each stands: document, and place in its list.
    pub places: Vec<(usize, usize)>,
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, Vec<usize>>,
    /// The same of what came by the API: whoever writes a document does not know of it, so
    /// that a name means it only if no document has an object of that name.
    by_api_name: HashMap<String, Vec<usize>>,
}

/// All kinds.
#[derive(Clone, Debug)]
pub struct Names {
    /// Security groups.
    pub groups: Arc<Kind>,
    /// Prefix lists.
    pub prefix_lists: Arc<Kind>,
    /// Port range lists.
    pub port_lists: Arc<Kind>,
    /// Interfaces.
    pub interfaces: Arc<Kind>,
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

/// An object that has a name or an id.
trait Named: Sized {
    const WHAT: &'static str;
    const PREFIX: &'static str;
    /// Its list, as a document calls it.
    const LIST: &'static str;
    /// Whether it may have neither.
    const NAMELESS: bool = false;
    fn list(document: &Document) -> &List<Self>;
    fn id(&self) -> Option<&Text>;
    fn name(&self) -> Option<&Text>;
    /// What its name is unique in.
    fn scope(&self) -> &str {
        ""
    }
    fn at(&self) -> &At;
}

impl Named for Group {
    const WHAT: &'static str = "security group";
    const PREFIX: &'static str = "sg";
    const LIST: &'static str = "security_groups";
    fn list(document: &Document) -> &List<Self> {
        &document.security_groups
    }
    fn id(&self) -> Option<&Text> {
        self.security_group_id.as_ref()
    }
    fn name(&self) -> Option<&Text> {
        self.security_group_name.as_ref()
    }
    fn scope(&self) -> &str {
        self.vpc_id.as_deref().unwrap_or(DEFAULT_VPC)
    }
    fn at(&self) -> &At {
        &self.at.0
    }
}

impl Named for PrefixList {
    const WHAT: &'static str = "prefix list";
    const PREFIX: &'static str = "pl";
    const LIST: &'static str = "prefix_lists";
    fn list(document: &Document) -> &List<Self> {
        &document.prefix_lists
    }
    fn id(&self) -> Option<&Text> {
        self.prefix_list_id.as_ref()
    }
    fn name(&self) -> Option<&Text> {
        self.prefix_list_name.as_ref()
    }
    fn at(&self) -> &At {
        &self.at.0
    }
}

impl Named for PortRangeList {
    const WHAT: &'static str = "port range list";
    const PREFIX: &'static str = "prl";
    const LIST: &'static str = "port_range_lists";
    fn list(document: &Document) -> &List<Self> {
        &document.port_range_lists
    }
    fn id(&self) -> Option<&Text> {
        self.port_range_list_id.as_ref()
    }
    fn name(&self) -> Option<&Text> {
        self.port_range_list_name.as_ref()
    }
    fn at(&self) -> &At {
        &self.at.0
    }
}

impl Named for NetworkInterface {
    const WHAT: &'static str = "network interface";
    const PREFIX: &'static str = "eni";
    const LIST: &'static str = "network_interfaces";
    const NAMELESS: bool = true;
    fn list(document: &Document) -> &List<Self> {
        &document.network_interfaces
    }
    fn id(&self) -> Option<&Text> {
        self.network_interface_id.as_ref()
    }
    fn name(&self) -> Option<&Text> {
        self.network_interface_name.as_ref().or(self.device.as_ref()).or(self.private_ip_addresses.first())
    }
    fn at(&self) -> &At {
        &self.at.0
    }
}

/// Whether ids and names of one kind are the same in both, place for place.
fn is_named_alike<T: Named>(old: &[Document], new: &[Document]) -> bool {
    let alike = |a: &Arc<T>, b: &Arc<T>| {
        Arc::ptr_eq(a, b) || (a.id() == b.id() && a.name() == b.name() && a.scope() == b.scope())
    };
    let same = |old: &List<T>, new: &List<T>| {
        old.len() == new.len() && old.shared().iter().zip(new.shared()).all(|(a, b)| alike(a, b))
    };
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(T::list(a), T::list(b)))
}

impl Kind {
    fn of<T: Named>(documents: &[Document], problems: &mut Problems) -> Arc<Self> {
        let what = T::WHAT;
        let count = documents.iter().map(|d| T::list(d).len()).sum();
        let mut kind = Self {
            what,
            ids: Vec::with_capacity(count),
            names: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            by_id: HashMap::with_capacity(count),
            by_name: HashMap::with_capacity(count),
            by_api_name: HashMap::new(),
        };
        let mut positions: Vec<&At> = Vec::with_capacity(count);
        let all = documents.iter().enumerate().flat_map(|(d, document)| {
            T::list(document).iter().enumerate().map(move |(place, object)| ((d, place), object))
        });
        for (i, (place, object)) in all.enumerate() {
            let (id, name, at) = (object.id(), object.name(), object.at());
            let path = || format!("{}[{i}]", T::LIST);
            for text in [id, name].into_iter().flatten() {
                if text.chars().count() > 128 || text.chars().any(char::is_control) {
                    problems.add(&text.at, &path(), "ids and names have at most 128 printable characters", None);
                }
            }
            if id.is_none() && name.is_none() && !T::NAMELESS {
                problems.add(at, &path(), format!("a {what} needs a name or an id"), None);
            }
            let derived = match (id, name) {
                (Some(id), _) => id.value.clone(),
                (None, Some(name)) => derived_id(T::PREFIX, &[object.scope(), name]),
                (None, None) => derived_id(T::PREFIX, &[object.scope(), &format!("#{i}")]),
            };
            if let Some(&first) = kind.by_id.get(&derived) {
                let message = format!("this {what} is defined twice, first at {}", positions[first]);
                let help = id.is_none().then(|| "give one of them another name, or ids of their own".to_owned());
                problems.add(at, &path(), message, help);
            } else {
                kind.by_id.insert(derived.clone(), i);
            }
            let shown = name.map_or_else(|| derived.clone(), |t| t.value.clone());
            if let Some(name) = name {
                let api = documents[place.0].name() == API_NAME;
                let names = if api { &mut kind.by_api_name } else { &mut kind.by_name };
                names.entry(name.value.clone()).or_default().push(i);
            }
            kind.ids.push(derived);
            kind.names.push(shown);
            kind.places.push(place);
            positions.push(at);
        }
        Arc::new(kind)
    }

    /// After a change of the documents: the same, where nothing is named otherwise.
    fn follow<T: Named>(self: &Arc<Self>, old: &[Document], new: &[Document]) -> Arc<Self> {
        if is_named_alike::<T>(old, new) { self.clone() } else { Self::of::<T>(new, &mut Problems::default()) }
    }

    /// The object of an id.
    pub fn with_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The one object of a name.
    pub fn named(&self, name: &str) -> Option<usize> {
        match self.bearers(name) {
            Some([one]) => Some(*one),
            _ => None,
        }
    }

    fn bearers(&self, name: &str) -> Option<&[usize]> {
        self.by_name.get(name).or_else(|| self.by_api_name.get(name)).map(Vec::as_slice)
    }

    /// What a reference means.
    pub fn resolve(&self, text: &Text, path: &str, problems: &mut Problems) -> Option<usize> {
        if let Some(&i) = self.by_id.get(&text.value) {
            return Some(i);
        }
        match self.bearers(&text.value) {
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
        Self {
            groups: Kind::of::<Group>(documents, problems),
            prefix_lists: Kind::of::<PrefixList>(documents, problems),
            port_lists: Kind::of::<PortRangeList>(documents, problems),
            interfaces: Kind::of::<NetworkInterface>(documents, problems),
        }
    }

    /// The same after a change from `old` documents, which these are the names of, to
    /// `new` ones. Kinds in which nothing is named otherwise are shared.
    #[must_use]
    pub fn follow(&self, old: &[Document], new: &[Document]) -> Self {
        Self {
            groups: self.groups.follow::<Group>(old, new),
            prefix_lists: self.prefix_lists.follow::<PrefixList>(old, new),
            port_lists: self.port_lists.follow::<PortRangeList>(old, new),
            interfaces: self.interfaces.follow::<NetworkInterface>(old, new),
        }
    }
}
