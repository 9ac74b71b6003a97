//! What is said of a policy.

use serde::{Deserialize, Serialize};

use crate::{document::Document, model::Model};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Hardly anybody wants this.
    Warning,
    /// Could be better, or may be meant so.
    Advice,
}

impl Severity {
    /// `warning` or `advice`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Advice => "advice",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $severity:ident;)+) => {
        /// What kind of finding it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code { $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];
            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $text,)+ }
            }
            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    /// A rule never decides: others before it decide all its packets, some the other way.
    RuleShadowed = "rule-shadowed", Warning;
    /// A rule never decides: others before it say the same for all its packets.
    RuleCovered = "rule-covered", Advice;
    /// A rule decides, but what comes after it says the same.
    RuleRedundant = "rule-redundant", Advice;
    /// No packet at all is what a rule describes.
    RuleMatchesNothing = "rule-matches-nothing", Warning;
    /// A rule names a group without members, or a list without entries.
    RuleNamesEmpty = "rule-names-empty", Advice;
    /// ICMP is IPv4, ICMPv6 is IPv6; the prefixes of a rule are of the other family.
    WrongFamily = "wrong-family", Warning;
    /// The local side of a rule is no address of its members.
    LocalElsewhere = "local-elsewhere", Warning;
    /// Everybody reaches everything.
    AnyAny = "any-any", Warning;
    /// Everybody reaches a port of remote management.
    ManagementOpen = "management-open", Warning;
    /// The failsafe lets everybody in.
    FailsafeOpen = "failsafe-open", Warning;
    /// Everybody reaches a port of a database.
    DatabaseOpen = "database-open", Warning;
    /// Everybody may send mail here, or may be sent mail.
    MailOpen = "port-25-open", Warning;
    /// A rule accepts outbound port 25, which stays blocked all the same.
    MailBlocked = "port-25-blocked", Warning;
    /// Outbound is dropped of one family only.
    OneFamily = "egress-one-family", Warning;
    /// An enterprise group lets everything out.
    EgressAny = "egress-any", Advice;
    /// Outbound is closed, and names cannot be looked up.
    NoDns = "egress-no-dns", Advice;
    /// Inbound is dropped for health checks, too.
    HealthChecks = "health-checks-dropped", Advice;
    /// A group has no members.
    GroupEmpty = "group-empty", Advice;
    /// A group serves several purposes.
    MixedPurposes = "mixed-purposes", Advice;
    /// Production and test are not kept apart.
    MixedEnvironments = "mixed-environments", Advice;
    /// A group's name is not made as the other ones are.
    GroupName = "group-name", Advice;
    /// A list is full, or nearly.
    ListNearLimit = "list-near-limit", Advice;
    /// No rule names a list.
    ListUnused = "list-unused", Advice;
    /// A quota is used up, or nearly.
    QuotaNear = "quota-near", Advice;
    /// Too large to be looked at.
    NotLookedAt = "not-looked-at", Advice;
}

/// A place, by index: of groups and rules, of interfaces, of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// The whole policy.
    #[default]
    Whole,
    /// A group.
    Group(usize),
    /// A rule of a group.
    Rule(usize, usize),
    /// An interface.
    Interface(usize),
    /// A prefix list.
    PrefixList(usize),
    /// A port list.
    PortList(usize),
}

impl Spot {
    /// File and line.
    pub(super) fn at(self, document: &Document) -> Option<String> {
        let at = match self {
            Self::Whole => None,
            Self::Group(g) => document.security_groups.get(g).map(|g| &g.at),
            Self::Rule(g, r) => document.security_groups.get(g)?.permissions.get(r).map(|r| &r.at),
            Self::Interface(i) => document.network_interfaces.get(i).map(|i| &i.at),
            Self::PrefixList(l) => document.prefix_lists.get(l).map(|l| &l.at),
            Self::PortList(l) => document.port_range_lists.get(l).map(|l| &l.at),
        };
        at.filter(|at| at.0.line > 0).map(|at| at.0.to_string())
    }

    fn place(self, model: &Model) -> Place {
        let mut place = Place::default();
        match self {
            Self::Whole => {}
            Self::Group(g) => place.security_group = Some(model.groups[g].name.clone()),
            Self::Rule(g, r) => {
                (place.security_group, place.rule) = (Some(model.groups[g].name.clone()), Some(r));
            }
            Self::Interface(i) => place.network_interface = Some(model.interfaces[i].name.clone()),
            Self::PrefixList(l) => place.prefix_list = Some(model.prefix_lists[l].name.clone()),
            Self::PortList(l) => place.port_range_list = Some(model.port_lists[l].name.clone()),
        }
        place
    }

    /// What it is called, however much around it changes.
    fn identity(self, model: &Model) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Group(g) => model.groups[g].id.clone(),
            Self::Rule(g, r) => format!("{}/{}", model.groups[g].id, model.groups[g].rules[r].id),
            Self::Interface(i) => model.interfaces[i].id.clone(),
            Self::PrefixList(l) => model.prefix_lists[l].id.clone(),
            Self::PortList(l) => model.port_lists[l].id.clone(),
        }
    }
}

/// Where a finding is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group: Option<String>,
    /// Index in that group's permissions, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Name of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_interface: Option<String>,
    /// Name of the prefix list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_list: Option<String>,
    /// Name of the port list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_list: Option<String>,
}

impl Place {
    /// In a word: `web[2]`, `group web`, `interface eth0`.
    pub fn text(&self) -> String {
        let name = |what: &str, name: &Option<String>| name.as_ref().map(|n| format!("{what} {n}"));
        match (&self.security_group, self.rule) {
            (Some(group), Some(rule)) => format!("{group}[{rule}]"),
            (Some(group), None) => format!("group {group}"),
            (None, _) => name("interface", &self.network_interface)
                .or_else(|| name("list", &self.prefix_list))
                .or_else(|| name("list", &self.port_range_list))
                .unwrap_or_else(|| "the policy".into()),
        }
    }
}

/// Something that is unwise or needless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// File, line and column of that, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What, and why that matters.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// The rules that make a rule needless, `web[2]` being rule 2 of `web`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because_of: Vec<String>,
    #[serde(skip)]
    pub(super) spot: Spot,
    #[serde(skip)]
    pub(super) key: String,
}

impl Finding {
    /// One of this kind, at a place.
    pub(super) fn new(model: &Model, code: Code, spot: Spot, message: String, advice: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            place: spot.place(model),
            at: None,
            message,
            advice: advice.into(),
            because_of: Vec::new(),
            spot,
            key: format!("{} {}", code.name(), spot.identity(model)),
        }
    }

    /// The same, told from others of its kind at its place.
    pub(super) fn about(mut self, what: &str) -> Self {
        self.key = format!("{} {what}", self.key);
        self
    }
}

/// `a, b, c and 5 more`.
pub(super) fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] if names.len() <= SHOWN => format!("{} and {last}", some.join(", ")),
        _ => format!("{} and {} more", names[..SHOWN - 1].join(", "), names.len() - SHOWN + 1),
    }
}
