//! Why a flow is decided as it is: the merged rules in their order, which of them
//! decides, and of each that does not match the first field that keeps it from that.

use std::{fmt::Write, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sg_common::{addr::Addr, reason::Reason};

use crate::{
    effective::{self, Entry, Members, PolicyKey, Remote},
    failsafe,
    model::{Direction, Instance, Model, Ports, protocol_name},
    reference::{FlowQuery, Reference},
};

/// Near misses that are named.
const NEAR: usize = 5;

/// A field of a flow, in the order in which a rule's are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The IP protocol.
    Protocol,
    /// The destination port.
    Port,
    /// The other side's address.
    Remote,
    /// The source port.
    SourcePort,
    /// The instance's address.
    Local,
}

impl Field {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Port => "port",
            Self::Remote => "remote",
            Self::SourcePort => "source port",
            Self::Local => "local address",
        }
    }
}

/// What a rule says of the flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Met {
    /// It matches, first of all.
    Decides,
    /// It matches, and one before it decides.
    TooLate,
    /// It does not match.
    Fails {
        /// The first field that keeps it from that.
        field: Field,
        /// What the flow has there.
        has: String,
        /// What the rule asks for.
        wants: String,
        /// Fields that fail besides.
        more: usize,
    },
}

/// A rule of the merged view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name: group and index, or what the rule that cannot be seen is.
    pub rule: String,
    /// `accept` or `drop`.
    pub verdict: String,
    /// Absent where it stands before all priorities.
    pub priority: Option<u8>,
    /// What it matches.
    pub matches: String,
    /// What it says of the flow.
    pub met: Met,
}

/// Why a flow is decided as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// `accept` or `drop`.
    pub verdict: String,
    /// One of [`Reason`].
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// Whether it is decided before any rule is looked at: then no row decides.
    pub before_rules: bool,
    /// Every rule, invisible ones included, first match first.
    pub order: Vec<Row>,
    /// Indices into [`Trace::order`]: rules that would decide otherwise, did they match or
    /// were it their turn; the closest first.
    pub near: Vec<usize>,
}

fn range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

struct Judge<'a> {
    model: &'a Model,
    members: &'a Members,
    query: &'a FlowQuery,
}

impl Judge<'_> {
    fn port_fits(&self, ports: &Ports) -> Result<(), String> {
        let port = self.query.ports().1;
        let fits = |(first, last): (u16, u16)| (first..=last).contains(&port);
        match ports {
            Ports::Any => Ok(()),
            Ports::Range(first, last) if fits((*first, *last)) => Ok(()),
            Ports::Range(first, last) => Err(range((*first, *last))),
            Ports::List(i) => {
                let list = &self.model.port_lists[*i];
                let fit = list.entries.iter().any(|entry| fits(*entry));
                if fit { Ok(()) } else { Err(format!("an entry of list {}", list.name)) }
            }
        }
    }

    fn remote_fits(&self, remote: Remote) -> Result<(), String> {
        let ip = self.query.remote;
        let (fits, wants) = match remote {
            Remote::Net(net) => (net.contains(&ip), net.to_string()),
            Remote::Members(g) => (self.members.has(g, ip), format!("a member of {}", self.model.groups[g].name)),
            Remote::List(i) => {
                let list = &self.model.prefix_lists[i];
                (list.entries.iter().any(|net| net.contains(&ip)), format!("an entry of list {}", list.name))
            }
            Remote::Failsafe => {
                let sources = effective::sources(self.model);
                (sources.iter().any(|net| net.contains(&ip)), failsafe::some(sources))
            }
            Remote::Public => (!Addr::from(ip).is_private(ip.is_ipv4()), "a public address".into()),
        };
        if fits { Ok(()) } else { Err(wants) }
    }

    /// Every field that keeps an entry from matching, and what it asks for.
    fn failures(&self, e: &Entry) -> Vec<(Field, String)> {
        let q = self.query;
        let wants = |ok: bool, text: String| if ok { Ok(()) } else { Err(text) };
        let local = |net: IpNet| wants(net.contains(&q.local), net.to_string());
        let source = |ports: (u16, u16)| wants((ports.0..=ports.1).contains(&q.ports().0), range(ports));
        let protocol = wants(e.protocol.is_none_or(|p| p == q.protocol), protocol_name(e.protocol));
        [
            (Field::Protocol, protocol),
            (Field::Port, self.port_fits(&e.ports)),
            (Field::Remote, self.remote_fits(e.remote)),
            (Field::SourcePort, e.source_ports.map_or(Ok(()), source)),
            (Field::Local, e.local.map_or(Ok(()), local)),
        ]
        .into_iter()
        .filter_map(|(field, fits)| Some((field, fits.err()?)))
        .collect()
    }

    fn has(&self, field: Field) -> String {
        let q = self.query;
        let address = |ip: IpAddr| ip.to_string();
        match field {
            Field::Protocol => protocol_name(Some(q.protocol)),
            Field::Port => q.ports().1.to_string(),
            Field::Remote => address(q.remote),
            Field::SourcePort => q.ports().0.to_string(),
            Field::Local => address(q.local),
        }
    }
}

/// Says why a flow of an instance is decided as it is.
pub fn trace(model: &Model, instances: &[Instance], instance: usize, query: &FlowQuery) -> Trace {
    let outcome = Reference::new(model, instances).judge(instance, query);
    let members = Members::of_all(model, instances);
    let key = PolicyKey::of(model, &instances[instance]);
    let by_rules = matches!(
        outcome.reason,
        Reason::Rule | Reason::IntraGroup | Reason::Smtp | Reason::Provider | Reason::Failsafe | Reason::Default
    );
    let judge = Judge { model, members: &members, query };
    let mut decided = !by_rules;
    let mut near: Vec<(usize, usize)> = Vec::new();
    let mut order = Vec::new();
    for entry in effective::entries(model, &key, query.direction) {
        let failures = judge.failures(&entry);
        let met = match failures.first() {
            Some((field, wants)) => {
                if entry.verdict != outcome.verdict {
                    near.push((failures.len(), order.len()));
                }
                Met::Fails { field: *field, has: judge.has(*field), wants: wants.clone(), more: failures.len() - 1 }
            }
            None if decided => {
                if entry.verdict != outcome.verdict {
                    near.push((0, order.len()));
                }
                Met::TooLate
            }
            None => {
                decided = true;
                Met::Decides
            }
        };
        order.push(Row {
            rule: effective::name(model, entry.origin),
            verdict: entry.verdict.name().into(),
            priority: entry.priority,
            matches: effective::matches(model, &entry),
            met,
        });
    }
    // Fewest fields first; of those the one whose turn comes first.
    near.sort_unstable();
    Trace {
        verdict: outcome.verdict.name().into(),
        reason: outcome.reason.name().into(),
        meaning: outcome.reason.describe().into(),
        before_rules: !by_rules,
        order,
        near: near.into_iter().take(NEAR).map(|(_, at)| at).collect(),
    }
}

impl Trace {
    /// The row that decides; none does if it is decided before the rules, or by what
    /// holds where no rule matches.
    pub fn decider(&self) -> Option<usize> {
        self.order.iter().position(|row| row.met == Met::Decides)
    }

    /// What decides, for people.
    pub fn by(&self, direction: Direction) -> String {
        let traffic = match direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        match self.decider().map(|at| &self.order[at]) {
            Some(row) => {
                let mut text = format!("by {}", row.rule);
                if let Some(priority) = row.priority {
                    let _ = write!(text, ", priority {priority}");
                }
                format!("{text}: {} {}", row.verdict, row.matches)
            }
            None if self.before_rules => format!("before any rule: {}", self.meaning),
            None => format!("no rule matches: what is left of {traffic} traffic is decided like this"),
        }
    }
}

/// What keeps a rule from matching, for people.
pub fn but(met: &Met) -> String {
    match met {
        Met::Decides => "decides".into(),
        Met::TooLate => "matches, too late".into(),
        Met::Fails { field, has, wants, more } => {
            let more = match more {
                0 => String::new(),
                1 => ", and another field".into(),
                n => format!(", and {n} other fields"),
            };
            format!("{} is {has}, not {wants}{more}", field.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{Source, parse},
        model::Verdict,
        validate::{Quotas, validate},
    };

    #[test]
    fn a_near_miss_names_what_keeps_it_from_matching() {
        let text = "security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.0.0.0/8}
  - {direction: ingress, ip_protocol: udp, port_range: 22/22, source_cidr_ip: 10.0.0.0/8, priority: 2}
  - {direction: ingress, ip_protocol: tcp, port_range: 80/90, source_cidr_ip: 0.0.0.0/0, priority: 3}
network_interfaces: [{device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [g]}]
";
        let document = parse(&[Source { name: "t".into(), bytes: text.into() }]).unwrap();
        let model = validate(&document, &Quotas::default()).unwrap();
        let instances = model.declared_instances();
        let mut query = FlowQuery {
            direction: Direction::Inbound,
            protocol: 6,
            local: "10.0.0.1".parse().unwrap(),
            remote: "192.0.2.7".parse().unwrap(),
            local_port: 22,
            remote_port: 40000,
            icmp_type: 0,
            icmp_code: 0,
        };
        let told = trace(&model, &instances, 0, &query);
        assert_eq!((told.verdict.as_str(), told.decider()), ("drop", None));
        let near: Vec<(String, String)> =
            told.near.iter().map(|&at| (told.order[at].rule.clone(), but(&told.order[at].met))).collect();
        let expected = [
            ("(members of g)", "remote is 192.0.2.7, not a member of g"),
            ("g[0]", "remote is 192.0.2.7, not 10.0.0.0/8"),
            ("g[2]", "port is 22, not 80-90"),
            ("g[1]", "protocol is tcp, not udp, and another field"),
        ];
        assert_eq!(near, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        query.remote = "10.1.2.3".parse().unwrap();
        let told = trace(&model, &instances, 0, &query);
        assert!(told.by(query.direction).starts_with("by g[0], priority 1: accept tcp 22"), "{told:?}");
        query.remote = query.local;
        let told = trace(&model, &instances, 0, &query);
        assert!(told.before_rules && told.order[0].met == Met::TooLate, "{told:?}");
        assert_eq!(Verdict::Drop.name(), told.verdict);
    }
}
