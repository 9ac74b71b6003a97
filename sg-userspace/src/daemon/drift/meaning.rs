//! What documents refer to, and how their rules are told.

use crate::{
    api::rule::{Refers, key_by},
    document::{Permission, Text},
    validate::names::{Kind, Names},
};

/// What references mean: to who wrote the document, or else to all that is in force.
pub struct Meaning<'a> {
    pub own: Option<&'a Names>,
    pub all: &'a Names,
}

impl Meaning<'_> {
    fn of(&self, kind: impl Fn(&Names) -> &Kind, text: &str) -> Option<String> {
        let find = |names| {
            let kind = kind(names);
            kind.with_id(text).or_else(|| kind.named(text)).map(|i| kind.ids[i].clone())
        };
        self.own.and_then(find).or_else(|| find(self.all))
    }

    /// The id of a group.
    pub fn group(&self, text: &str) -> Option<String> {
        self.of(|n| &n.groups, text)
    }

    /// What makes two rules the same.
    pub fn key(&self, rule: &Permission) -> String {
        let refers = Refers {
            group: &|t| self.group(t),
            prefix_list: &|t| self.of(|n| &n.prefix_lists, t),
            port_list: &|t| self.of(|n| &n.port_lists, t),
        };
        key_by(&refers, rule)
    }
}

/// A group by its name, if it has one.
pub fn shown(id: &str, then: &Names, now: &Names) -> String {
    let name = |names: &Names| names.groups.with_id(id).map(|i| names.groups.names[i].clone());
    name(now).or_else(|| name(then)).unwrap_or_else(|| id.to_owned())
}

/// A rule in a line, with the names of what it names.
pub fn said(rule: &Permission, meaning: &Meaning<'_>) -> String {
    let get = |text: &Option<Text>| text.as_deref().filter(|t| !t.is_empty()).map(str::to_owned);
    let name = |kind: fn(&Names) -> &Kind, text: &Option<Text>| {
        let text = get(text)?;
        let id = meaning.of(kind, &text).unwrap_or_else(|| text.clone());
        let known = |names: &Names| kind(names).with_id(&id).map(|i| kind(names).names[i].clone());
        Some(known(meaning.all).or_else(|| meaning.own.and_then(known)).unwrap_or(text))
    };
    let lower = |t: &Option<Text>, default: &str| get(t).unwrap_or_else(|| default.into()).to_ascii_lowercase();
    let mut words = vec![lower(&rule.direction, ""), lower(&rule.policy, "accept"), lower(&rule.ip_protocol, "")];
    words.extend(get(&rule.port_range).filter(|p| p != "-1/-1"));
    words.extend(name(|n| &n.port_lists, &rule.port_range_list_id));
    words.extend(get(&rule.source_port_range).map(|p| format!("source ports {p}")));
    for (word, ends) in [
        ("from", [&rule.source_cidr_ip, &rule.ipv6_source_cidr_ip, &rule.source_group_id, &rule.source_prefix_list_id]),
        ("to", [&rule.dest_cidr_ip, &rule.ipv6_dest_cidr_ip, &rule.dest_group_id, &rule.dest_prefix_list_id]),
    ] {
        let end = get(ends[0]).or_else(|| get(ends[1])).or_else(|| name(|n| &n.groups, ends[2]));
        words.extend(end.or_else(|| name(|n| &n.prefix_lists, ends[3])).map(|end| format!("{word} {end}")));
    }
    words.extend(get(&rule.priority).filter(|p| p != "1").map(|p| format!("priority {p}")));
    words.join(" ")
}
