//! Who reaches a service of an interface, exactly; and which rule would let somebody in.
//!
//! The packets that a policy lets in are those that it decides otherwise than a policy
//! without any group, which lets in nothing: so [`crate::witness`] has the answer, for all
//! sources at once.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    effective::{self, Entry, Members, PolicyKey, Remote},
    explain::{self, trace},
    lint::{
        lines::{Range, last},
        space::Budget,
    },
    model::{Direction, Instance, Model, Ports, Verdict},
    reference::FlowQuery,
    witness::{BUDGET, Difference, Policy, compare, peers::ends},
};

/// Services that are looked at when none is named: protocol, port, and what people call it.
pub const USUAL: [(&str, Option<u16>, &str); 6] = [
    ("icmp", None, "ping"),
    ("tcp", Some(22), "ssh"),
    ("tcp", Some(80), "http"),
    ("tcp", Some(443), "https"),
    ("tcp", Some(3389), "rdp"),
    ("tcp", Some(8080), "http-alt"),
];
/// Differences that are looked through: more than any interface lets in by its rules.
const MOST: usize = 100_000;
/// Sources and rules that are named.
const NAMED: usize = 4;

/// A service that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A name or a number; `icmp` is that of either family.
    pub protocol: String,
    /// For TCP and UDP.
    pub port: Option<u16>,
    /// What people call it.
    pub name: String,
}

impl Check {
    /// Those of [`USUAL`].
    pub fn usual() -> Vec<Self> {
        let check =
            |(protocol, port, name): (&str, _, &str)| Self { protocol: protocol.into(), port, name: name.into() };
        USUAL.map(check).into()
    }
}

/// Whether it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// By everybody that was asked about.
    Open,
    /// By some of them.
    Partly,
    /// By nobody of them.
    Closed,
}

/// A rule that would open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The group that it would stand in.
    pub group: String,
    /// As a rule has it.
    pub protocol: String,
    /// As a rule has it.
    pub ports: String,
    /// A priority that wins.
    pub priority: u8,
}

/// What is found of one service in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The service.
    pub check: Check,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Whether it is reached.
    pub state: State,
    /// Who reaches it, of those asked about: the largest first.
    pub sources: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// What decides.
    pub by: Vec<String>,
    /// What would open it.
    pub opening: Option<Opening>,
    /// The rule against which none wins.
    pub forbidden: Option<String>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The policy.
    pub model: &'a Model,
    /// Its instances.
    pub instances: &'a [Instance],
    /// Which of them.
    pub instance: usize,
    /// From where; everywhere if that is not said.
    pub source: Option<IpNet>,
}

fn takes(ports: &Ports, port: Option<u16>, model: &Model) -> bool {
    let Some(port) = port else { return true };
    match ports {
        Ports::Any => true,
        Ports::Range(first, last) => (*first..=*last).contains(&port),
        Ports::List(i) => model.port_lists[*i].entries.iter().any(|(first, last)| (*first..=*last).contains(&port)),
    }
}

struct Service<'a> {
    check: &'a Check,
    protocol: u8,
    v4: bool,
}

impl Question<'_> {
    /// Answers for each service, in both families unless the source has one.
    ///
    /// # Errors
    /// A protocol that there is not, for a human.
    pub fn answer(&self, checks: &[Check]) -> Result<Vec<Row>, String> {
        let interface = &self.model.interfaces[self.instances[self.instance].interface];
        let key = PolicyKey::of(interface);
        let members = Members::of_all(self.model, self.instances);
        let nothing = PolicyKey { groups: Vec::new(), smtp_open: key.smtp_open };
        let policy = |key| Policy { model: self.model, members: &members, key };
        let found = compare(&policy(&nothing), &policy(&key), MOST, &mut Budget(BUDGET));
        if found.cut {
            return Err("the policy is too large to say who reaches what; `sgctl explain` answers for one flow".into());
        }
        let inbound: Vec<&Difference> =
            found.shown.iter().filter(|d| d.direction == Direction::Inbound && d.to == Verdict::Accept).collect();
        let entries = effective::entries(self.model, &key, Direction::Inbound);
        let mut rows = Vec::new();
        for check in checks {
            for v4 in [true, false] {
                if self.source.is_some_and(|net| net.addr().is_ipv4() != v4) {
                    continue;
                }
                let protocol = match (check.protocol.as_str(), v4) {
                    ("icmp", true) => 1,
                    ("icmp", false) => 58,
                    (other, _) => explain::protocol(&other.into())?,
                };
                let service = Service { check, protocol, v4 };
                rows.push(self.row(&service, &inbound, &entries, &members));
            }
        }
        Ok(rows)
    }

    fn row(&self, service: &Service<'_>, inbound: &[&Difference], entries: &[Entry], members: &Members) -> Row {
        let Service { check, protocol, v4 } = *service;
        let asked = self.source.map_or((0, last(v4)), |net| ends(&net));
        let own = &self.instances[self.instance].addresses;
        let is_own = |d: &Difference| {
            d.local.as_ref().is_none_or(|l| own.iter().any(|a| l.contains(*a)) || own.iter().all(|a| a.is_ipv4() != v4))
        };
        let in_ports = |d: &Difference| {
            d.ports.is_none_or(|(first, last)| check.port.is_none_or(|port| (first..=last).contains(&port)))
        };
        let admitting = inbound
            .iter()
            .filter(|d| d.is_v4() == v4 && d.protocols.has(protocol) && in_ports(d) && is_own(d))
            .map(|d| (d, d.peer.ranges().into_iter().filter_map(|r| common(r, asked)).collect::<Vec<_>>()))
            // What it sends to itself comes by no device.
            .filter(|(_, ranges)| !ranges.iter().all(|r| own.iter().any(|ip| *r == ends(&IpNet::from(*ip)))));
        let (mut sources, mut by, mut ranges) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (d, reached) in admitting {
            let mut text = d.peer.text();
            if let Some((first, last)) = d.source_ports {
                text += &format!(" (from ports {first}-{last} only)");
            } else {
                ranges.extend(reached);
            }
            if !sources.contains(&text) {
                sources.push(text);
            }
            by.extend(d.after.names(self.model));
        }
        let state = match () {
            () if sources.is_empty() => State::Closed,
            () if covers(ranges, asked) => State::Open,
            () => State::Partly,
        };
        let stops: Vec<&Entry> = entries
            .iter()
            .filter(|e| e.verdict == Verdict::Drop && e.protocol.is_none_or(|p| p == protocol))
            .filter(|e| takes(&e.ports, check.port, self.model) && self.meets(e.remote, asked, v4, members))
            .collect();
        if state == State::Closed {
            by = self.closed_by(service, &stops);
        }
        let first = stops.iter().min_by_key(|e| e.priority);
        let forbidden = first.filter(|e| e.priority == Some(1)).map(|e| effective::name(self.model, e.origin));
        let group = self.model.interfaces[self.instances[self.instance].interface].groups.first();
        let opening = group.filter(|_| state != State::Open && forbidden.is_none()).map(|g| Opening {
            group: self.model.groups[*g].name.clone(),
            protocol: if protocol == 58 { "icmpv6".into() } else { check.protocol.clone() },
            ports: check.port.map_or_else(|| "-1/-1".into(), |p| format!("{p}/{p}")),
            priority: first.and_then(|e| e.priority).map_or(1, |p| p - 1),
        });
        let more = sources.len().saturating_sub(NAMED);
        sources.truncate(NAMED);
        Row {
            check: check.clone(),
            family: if v4 { "ipv4" } else { "ipv6" }.into(),
            sources,
            more,
            by: by.into_iter().take(NAMED).collect(),
            opening,
            forbidden: forbidden.filter(|_| state != State::Open),
            state,
        }
    }

    /// What keeps a source out: the rule that decides its first address; or else, of
    /// everybody, the rules that stand against it.
    fn closed_by(&self, service: &Service<'_>, stops: &[&Entry]) -> BTreeSet<String> {
        let own = self.instances[self.instance].addresses.iter().copied().find(|a| a.is_ipv4() == service.v4);
        let named = || {
            let names: BTreeSet<String> = stops.iter().map(|e| effective::name(self.model, e.origin)).collect();
            if names.is_empty() { BTreeSet::from(["(default)".to_owned()]) } else { names }
        };
        let (Some(source), Some(local)) = (self.source, own) else { return named() };
        let query = FlowQuery {
            direction: Direction::Inbound,
            protocol: service.protocol,
            local,
            remote: source.network(),
            local_port: service.check.port.unwrap_or(0),
            remote_port: if service.check.port.is_some() { 40_000 } else { 0 },
            icmp_type: if service.protocol == 58 { 128 } else { 8 },
            icmp_code: 0,
        };
        let told = trace::trace(self.model, self.instances, self.instance, &query);
        let decider = told.decider().map(|at| told.order[at].rule.clone());
        BTreeSet::from([decider.unwrap_or_else(|| format!("({})", told.reason))])
    }

    /// Whether a rule's remote side has any of the addresses asked about.
    fn meets(&self, remote: Remote, asked: Range, v4: bool, members: &Members) -> bool {
        let net = |net: &IpNet| net.addr().is_ipv4() == v4 && common(ends(net), asked).is_some();
        match remote {
            Remote::Net(one) => net(&one),
            Remote::Members(g) => members.of(g).any(|ip| net(&ip.into())),
            Remote::List(i) => self.model.prefix_lists[i].entries.iter().any(net),
            Remote::Public => true,
        }
    }
}

fn common(a: Range, b: Range) -> Option<Range> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// Whether ranges leave nothing of another out.
fn covers(mut ranges: Vec<Range>, all: Range) -> bool {
    ranges.sort_unstable();
    let mut next = all.0;
    for (from, to) in ranges {
        if from > next {
            return false;
        }
        match to.checked_add(1) {
            None => return true,
            Some(after) => next = next.max(after),
        }
    }
    next > all.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{Source, parse},
        validate::{Quotas, validate},
    };

    const TEXT: &str = "security_groups:
- security_group_name: web
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 10.0.0.0/8, priority: 5}
  - {direction: ingress, policy: drop, ip_protocol: tcp, port_range: 20/100, source_cidr_ip: 10.1.0.0/16, priority: 3}
  - {direction: ingress, policy: drop, ip_protocol: tcp, port_range: 3389/3389, source_cidr_ip: 0.0.0.0/0}
network_interfaces: [{device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [web]}]
";

    fn ask(source: Option<&str>) -> Vec<Row> {
        let document = parse(&[Source { name: "t".into(), bytes: TEXT.into() }]).unwrap();
        let model = validate(&document, &Quotas::default()).unwrap();
        let instances = model.declared_instances();
        let source = source.map(|s| s.parse().unwrap());
        Question { model: &model, instances: &instances, instance: 0, source }.answer(&Check::usual()).unwrap()
    }

    fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
        rows.iter().find(|r| r.check.name == name && r.family == "ipv4").unwrap()
    }

    #[test]
    fn who_reaches_what_is_exact() {
        let rows = ask(None);
        assert_eq!(rows.len(), 12);
        assert_eq!(
            (row(&rows, "https").state, &row(&rows, "https").sources[..]),
            (State::Open, &["0.0.0.0/0".into()][..])
        );
        assert_eq!(row(&rows, "https").opening, None);
        let ssh = row(&rows, "ssh");
        assert_eq!((ssh.state, &ssh.sources[..]), (State::Partly, &["10.0.0.0/8 except 10.1.0.0/16".to_owned()][..]));
        assert_eq!(ssh.opening.as_ref().unwrap().priority, 2, "before the rule that stops some");
        let rdp = row(&rows, "rdp");
        assert_eq!((rdp.state, rdp.forbidden.as_deref(), &rdp.opening), (State::Closed, Some("web[3]"), &None));
        let http = row(&rows, "http");
        assert_eq!((http.state, http.opening.as_ref().unwrap().ports.as_str()), (State::Closed, "80/80"));
        let v6 = rows.iter().find(|r| r.check.name == "https" && r.family == "ipv6").unwrap();
        assert_eq!((v6.state, &v6.by[..]), (State::Closed, &["(default)".to_owned()][..]));
    }

    #[test]
    fn of_one_source_only_its_own_rules_count() {
        let ssh = |source| {
            let rows = ask(Some(source));
            assert_eq!(rows.len(), 6, "the other family is not asked about");
            row(&rows, "ssh").clone()
        };
        assert_eq!(ssh("10.2.0.0/16").state, State::Open);
        assert_eq!(ssh("10.0.0.0/15").state, State::Partly);
        let stopped = ssh("10.1.2.3/32");
        assert_eq!((stopped.state, &stopped.by[..]), (State::Closed, &["web[2]".to_owned()][..]));
        let other = ssh("192.0.2.0/24");
        assert_eq!((other.state, &other.by[..]), (State::Closed, &["(default)".to_owned()][..]));
        assert_eq!(other.opening.unwrap().priority, 1, "nothing stands against it");
    }
}
