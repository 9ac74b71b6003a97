//! Who reaches a service of an interface, exactly; and which rule would let somebody in.
//!
//! The merged rules that say anything of the service cut the sources into ranges; within
//! one the same rules match, so one look at each range is one at every source.

mod sources;

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    effective::{self, Entry, Members, PolicyKey},
    explain,
    model::{Direction, Instance, Model, Ports, Verdict},
    witness::peers::{ends, peers},
};
use sources::{Reached, common, covers};

/// Services that are looked at when none is named: protocol, port, and what people call it.
pub const USUAL: [(&str, Option<u16>, &str); 6] = [
    ("icmp", None, "ping"),
    ("tcp", Some(22), "ssh"),
    ("tcp", Some(80), "http"),
    ("tcp", Some(443), "https"),
    ("tcp", Some(3389), "rdp"),
    ("tcp", Some(8080), "http-alt"),
];
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
    /// Id of the group that it would stand in.
    pub group: String,
    /// That group's name.
    pub name: String,
    /// Other members of it, which it would open it on, too.
    pub others: usize,
    /// As a rule has it.
    pub protocol: String,
    /// As a rule has it.
    pub ports: String,
    /// A priority that wins, against what can be won against.
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

/// The protocol of a check in a family; `None` if that family has no such packets.
fn protocol(check: &Check, v4: bool) -> Result<Option<u8>, String> {
    let name = check.protocol.to_ascii_lowercase();
    let protocol = match (name.as_str(), v4) {
        ("icmp", false) => 58,
        _ => explain::protocol(&name.as_str().into())?,
    };
    match (protocol, check.port) {
        (6 | 17, None) => return Err(format!("{name} has ports: say which, such as {name} 443")),
        (6 | 17, Some(0)) => return Err("a port is from 1 to 65535".into()),
        (6 | 17, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(format!("{name} has no ports")),
    }
    Ok(Some(protocol).filter(|p| !matches!((p, v4), (1, false) | (58, true))))
}

impl Question<'_> {
    /// Answers for each service, in both families unless the source has one.
    ///
    /// # Errors
    /// A protocol or port that there is not, for a human.
    pub fn answer(&self, checks: &[Check]) -> Result<Vec<Row>, String> {
        let key = PolicyKey::of(self.model, &self.instances[self.instance]);
        let members = Members::of_all(self.model, self.instances);
        let entries = effective::entries(self.model, &key, Direction::Inbound);
        let mut rows = Vec::new();
        for check in checks {
            for v4 in [true, false] {
                let asked = self.source.is_none_or(|net| net.addr().is_ipv4() == v4);
                let Some(protocol) = protocol(check, v4)?.filter(|_| asked) else { continue };
                rows.push(self.row(&Service { check, protocol, v4 }, &entries, &members));
            }
        }
        if rows.is_empty() {
            return Err("no packet of that protocol comes from such a source".into());
        }
        Ok(rows)
    }

    fn row(&self, service: &Service<'_>, entries: &[Entry], members: &Members) -> Row {
        let Service { check, protocol, v4 } = *service;
        let asked = self.source.map_or((0, crate::lint::lines::last(v4)), |net| ends(&net));
        let instance = &self.instances[self.instance];
        let own: Vec<_> = instance.addresses.iter().copied().filter(|a| a.is_ipv4() == v4).collect();
        let about: Vec<(usize, &Entry)> = entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.protocol.is_none_or(|p| p == protocol) && takes(&e.ports, check.port, self.model))
            .collect();
        // What it sends to itself comes by no device.
        let itself: Vec<_> = own.iter().map(|ip| ends(&IpNet::from(*ip))).collect();
        let at = |local: Option<std::net::IpAddr>| {
            let here: Vec<(usize, &Entry)> = about
                .iter()
                .copied()
                .filter(|(_, e)| e.local.is_none_or(|net| local.is_some_and(|ip| net.contains(&ip))))
                .collect();
            Reached::of(self.model, members, &here, v4, asked, &itself)
        };
        let mut found: Vec<(Option<std::net::IpAddr>, Reached)> =
            own.iter().map(|ip| (Some(*ip), at(Some(*ip)))).collect();
        if found.is_empty() {
            found.push((None, at(None)));
        }
        let differ = found.iter().any(|(_, reached)| *reached != found[0].1);
        let mut sources = Vec::new();
        for (local, reached) in &found[..if differ { found.len() } else { 1 }] {
            let only = local.filter(|_| differ).map_or_else(String::new, |ip| format!(" (to {ip} only)"));
            sources.extend(peers(v4, &reached.all).iter().map(|p| format!("{}{only}", p.text())));
            if !reached.some.is_empty() {
                let some = peers(v4, &reached.some);
                sources.extend(some.iter().map(|p| format!("{} (from some ports only){only}", p.text())));
            }
        }
        let open = found.iter().all(|(_, reached)| reached.is_whole(asked, &itself));
        let state = match (open, sources.is_empty()) {
            (true, _) => State::Open,
            (false, true) => State::Closed,
            (false, false) => State::Partly,
        };
        let by: BTreeSet<Option<usize>> = found
            .iter()
            .flat_map(|(_, reached)| if state == State::Closed { &reached.stopped_by } else { &reached.admitted_by })
            .copied()
            .collect();
        let name = |e: &Entry| effective::name(self.model, e.origin);
        let mut names: Vec<String> = by
            .iter()
            .map(|origin| {
                origin.map_or_else(|| "(default)".into(), |at| entries.get(at).map_or_else(String::new, name))
            })
            .collect();
        if names.len() > NAMED {
            names.truncate(NAMED);
            names.push("…".into());
        }
        let (opening, forbidden) =
            if state == State::Open { (None, None) } else { self.opening(service, &about, members, asked) };
        let more = sources.len().saturating_sub(NAMED);
        sources.truncate(NAMED);
        Row {
            check: check.clone(),
            family: if v4 { "ipv4" } else { "ipv6" }.into(),
            state,
            sources,
            more,
            by: names,
            opening,
            forbidden,
        }
    }

    /// A rule that lets in those asked about; or the one that keeps all of them out for good.
    fn opening(
        &self,
        service: &Service<'_>,
        about: &[(usize, &Entry)],
        members: &Members,
        asked: sources::Range,
    ) -> (Option<Opening>, Option<String>) {
        let Service { check, protocol, v4 } = *service;
        let meeting = |e: &Entry| -> Vec<sources::Range> {
            let all = sources::of(self.model, members, e, v4);
            all.into_iter().filter_map(|range| common(range, asked)).collect()
        };
        let stops: Vec<(&Entry, Vec<sources::Range>)> = about
            .iter()
            .filter(|(_, e)| e.verdict == Verdict::Drop && e.local.is_none() && e.source_ports.is_none())
            .map(|(_, e)| (*e, meeting(e)))
            .filter(|(_, ranges)| !ranges.is_empty())
            .collect();
        let first: Vec<sources::Range> =
            stops.iter().filter(|(e, _)| e.priority == Some(1)).flat_map(|(_, ranges)| ranges.clone()).collect();
        if covers(first, asked) {
            let names = stops.iter().filter(|(e, _)| e.priority == Some(1));
            let names: Vec<String> = names.map(|(e, _)| effective::name(self.model, e.origin)).take(NAMED).collect();
            return (None, Some(names.join(", ")));
        }
        let best = stops.iter().filter_map(|(e, _)| e.priority).min().map_or(1, |p| p.saturating_sub(1).max(1));
        let instance = self.instances[self.instance].interface;
        let protocol = match protocol {
            6 => "tcp",
            17 => "udp",
            1 => "icmp",
            58 => "icmpv6",
            47 => "gre",
            // Rules know no other by itself.
            _ => return (None, None),
        };
        let opening = self.model.interfaces[instance].groups.first().map(|g| {
            let is_other = |(i, other): &(usize, &std::sync::Arc<crate::model::Interface>)| {
                *i != instance && other.groups.contains(g)
            };
            Opening {
                group: self.model.groups[*g].id.clone(),
                name: self.model.groups[*g].name.clone(),
                others: self.model.interfaces.iter().enumerate().filter(is_other).count(),
                protocol: protocol.into(),
                ports: check.port.map_or_else(|| "-1/-1".into(), |p| format!("{p}/{p}")),
                priority: best,
            }
        });
        (opening, None)
    }
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
        assert_eq!(ssh.by, ["web[1]"]);
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
