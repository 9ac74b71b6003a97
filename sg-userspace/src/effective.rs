//! The merged view of an interface: the rules of all its groups in the order
//! in which they decide, invisible ones included.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use sg_common::reason::Reason;

use crate::{
    failsafe,
    model::{Direction, Group, GroupType, Instance, Model, Object, Ports, Verdict, protocol_name},
};

/// The provider's metadata address: outbound always accepted.
pub const METADATA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200));
/// The mail port that is blocked outbound.
pub const SMTP_PORT: u16 = 25;

/// What makes up the policy of an interface; equal ones are one policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// Indices of the groups, ascending: document order.
    pub groups: Vec<usize>,
    /// Outbound port 25 is left to the rules.
    pub smtp_open: bool,
    /// The failsafe stands before the rules.
    pub failsafe: bool,
}

impl PolicyKey {
    /// The policy of an instance: two of one interface, which are two devices of one
    /// pattern, may differ in whether they have the failsafe.
    pub fn of(model: &Model, instance: &Instance) -> Self {
        let interface = &model.interfaces[instance.interface];
        let mut groups = interface.groups.clone();
        groups.sort_unstable();
        Self { groups, smtp_open: interface.smtp_open, failsafe: model.failsafe_of(instance).is_some() }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A rule: indices of its group, and of it within the group.
    Rule(usize, usize),
    /// Members of a group accept each other.
    IntraGroup(usize),
    /// Port 25 to public addresses.
    Smtp,
    /// The metadata address.
    Provider,
    /// A port range of the failsafe, by its index.
    Failsafe(usize),
}

/// The remote side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A prefix.
    Net(IpNet),
    /// Member addresses of a group.
    Members(usize),
    /// Entries of a prefix list.
    List(usize),
    /// Everything outside the private set.
    Public,
    /// Sources of the failsafe.
    Failsafe,
}

/// One entry of the merged view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it comes from.
    pub origin: Origin,
    /// Accept or drop.
    pub verdict: Verdict,
    /// Reason it gives.
    pub reason: Reason,
    /// 1 to 100; `None` for invisible rules.
    pub priority: Option<u8>,
    /// `None` is every protocol.
    pub protocol: Option<u8>,
    /// Destination ports.
    pub ports: Ports,
    /// Source ports.
    pub source_ports: Option<(u16, u16)>,
    /// Remote side.
    pub remote: Remote,
    /// Local side.
    pub local: Option<IpNet>,
}

fn invisible(origin: Origin, verdict: Verdict, reason: Reason, remote: Remote) -> Entry {
    Entry {
        origin,
        verdict,
        reason,
        priority: None,
        protocol: None,
        ports: Ports::Any,
        source_ports: None,
        remote,
        local: None,
    }
}

/// The entries of one direction, first match first.
pub fn entries(model: &Model, key: &PolicyKey, direction: Direction) -> Vec<Entry> {
    let mut entries = Vec::new();
    match direction {
        Direction::Outbound => {
            if !key.smtp_open {
                let smtp = invisible(Origin::Smtp, Verdict::Drop, Reason::Smtp, Remote::Public);
                entries.push(Entry { protocol: Some(6), ports: Ports::Range(SMTP_PORT, SMTP_PORT), ..smtp });
            }
            let metadata = Remote::Net(IpNet::from(METADATA));
            entries.push(invisible(Origin::Provider, Verdict::Accept, Reason::Provider, metadata));
        }
        Direction::Inbound => {
            let failsafe = model.failsafe.as_ref().filter(|_| key.failsafe);
            for (i, &(first, last)) in failsafe.iter().flat_map(|f| f.ports.iter().enumerate()) {
                let entry = invisible(Origin::Failsafe(i), Verdict::Accept, Reason::Failsafe, Remote::Failsafe);
                let protocol = Some(failsafe::PROTOCOL);
                entries.push(Entry { protocol, ports: Ports::Range(first, last), ..entry });
            }
            for &g in key.groups.iter().filter(|&&g| model.groups[g].inner_accept) {
                let members = Remote::Members(g);
                entries.push(invisible(Origin::IntraGroup(g), Verdict::Accept, Reason::IntraGroup, members));
            }
        }
    }
    let mut rules: Vec<Entry> = Vec::new();
    for &g in &key.groups {
        for (r, rule) in model.groups[g].rules.iter().enumerate().filter(|(_, r)| r.direction == direction) {
            rules.push(Entry {
                origin: Origin::Rule(g, r),
                verdict: rule.verdict,
                reason: Reason::Rule,
                priority: Some(rule.priority),
                protocol: rule.protocol,
                ports: rule.ports.clone(),
                source_ports: rule.source_ports,
                remote: match rule.object {
                    Object::Cidr(net) => Remote::Net(net),
                    Object::Group(g) => Remote::Members(g),
                    Object::PrefixList(l) => Remote::List(l),
                },
                local: rule.local,
            });
        }
    }
    // Drop before accept; the rest of the order is the document's own.
    rules.sort_by_key(|e| (e.priority, e.verdict as u8));
    entries.extend(rules);
    entries
}

/// What an entry is called in listings.
pub fn name(model: &Model, origin: Origin) -> String {
    match origin {
        Origin::Rule(g, r) => format!("{}[{r}]", model.groups[g].name),
        Origin::IntraGroup(g) => format!("(members of {})", model.groups[g].name),
        Origin::Smtp => "(smtp)".into(),
        Origin::Provider => "(provider)".into(),
        Origin::Failsafe(i) => {
            let ports = model.failsafe.as_ref().and_then(|f| f.ports.get(i).copied());
            ports.map_or_else(|| "(failsafe)".into(), |ports| format!("(failsafe {})", failsafe::range(ports)))
        }
    }
}

/// What an entry matches, as listings show it.
pub fn matches(model: &Model, e: &Entry) -> String {
    let range = |(a, b): (u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let mut text = protocol_name(e.protocol);
    match &e.ports {
        Ports::Any => {}
        Ports::Range(a, b) => text += &format!(" {}", range((*a, *b))),
        Ports::List(i) => text += &format!(" {}", model.port_lists[*i].name),
    }
    let remote = match e.remote {
        Remote::Net(net) => net.to_string(),
        Remote::Members(g) => format!("group {}", model.groups[g].name),
        Remote::List(i) => format!("list {}", model.prefix_lists[i].name),
        Remote::Public => "public addresses".into(),
        Remote::Failsafe => failsafe::some(sources(model)),
    };
    text += &format!(", remote {remote}");
    if let Some(ports) = e.source_ports {
        text += &format!(", source port {}", range(ports));
    }
    if let Some(local) = e.local {
        text += &format!(", local {local}");
    }
    text
}

/// Sources of the failsafe.
pub fn sources(model: &Model) -> &[IpNet] {
    model.failsafe.as_ref().map_or(&[], |f| &f.sources)
}

/// What happens when no entry matches.
pub fn default_verdict(model: &Model, key: &PolicyKey, direction: Direction) -> Verdict {
    let normal = key.groups.iter().any(|&g| model.groups[g].kind == GroupType::Normal);
    if normal && direction == Direction::Outbound { Verdict::Accept } else { Verdict::Drop }
}

/// Addresses of each group's members, and how many members have each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Vec<HashMap<IpAddr, u32>>);

impl Members {
    /// The members of all groups.
    pub fn of_all(model: &Model, instances: &[Instance]) -> Self {
        let mut members = Self(vec![HashMap::new(); model.groups.len()]);
        for instance in instances {
            for &group in &model.interfaces[instance.interface].groups {
                for &address in &instance.addresses {
                    *members.0[group].entry(address).or_default() += 1;
                }
            }
        }
        members
    }

    /// Addresses of a group's members, in no order.
    pub fn of(&self, group: usize) -> impl Iterator<Item = IpAddr> {
        self.0.get(group).into_iter().flat_map(|m| m.keys().copied())
    }

    /// Whether a member of a group has an address.
    pub fn has(&self, group: usize, address: IpAddr) -> bool {
        self.0.get(group).is_some_and(|members| members.contains_key(&address))
    }

    /// So many members more have an address, or less; whether the group has it
    /// now, if that is not as before.
    pub fn shift(&mut self, group: usize, address: IpAddr, by: i64) -> Option<bool> {
        let members = self.0.get_mut(group)?;
        let before = members.get(&address).copied().unwrap_or(0);
        let after = u32::try_from(i64::from(before) + by).unwrap_or(0);
        if after == 0 {
            members.remove(&address);
        } else {
            members.insert(address, after);
        }
        ((before == 0) != (after == 0)).then_some(after != 0)
    }
}

/// How an entry's origin is named across rebuilds: its counter lives as long as this stays.
pub fn identity(model: &Model, origin: Origin) -> String {
    match origin {
        Origin::Rule(g, r) => format!("{}/{}", model.groups[g].id, model.groups[g].rules[r].id),
        Origin::IntraGroup(g) => format!("{}/intra_group", model.groups[g].id),
        Origin::Smtp => "smtp".into(),
        Origin::Provider => "provider".into(),
        Origin::Failsafe(i) => {
            let ports = model.failsafe.as_ref().and_then(|f| f.ports.get(i).copied());
            format!("failsafe:{}", ports.map_or_else(String::new, failsafe::range))
        }
    }
}

/// Everything that a counter can be of, by its identity.
pub fn origins(model: &Model) -> HashMap<String, Origin> {
    let of_group = |(g, group): (usize, &std::sync::Arc<Group>)| {
        (0..group.rules.len()).map(move |r| Origin::Rule(g, r)).chain([Origin::IntraGroup(g)])
    };
    let failsafe = 0..model.failsafe.as_ref().map_or(0, |f| f.ports.len());
    let invisible = [Origin::Smtp, Origin::Provider].into_iter().chain(failsafe.map(Origin::Failsafe));
    let all = model.groups.iter().enumerate().flat_map(of_group).chain(invisible);
    all.map(|origin| (identity(model, origin), origin)).collect()
}
