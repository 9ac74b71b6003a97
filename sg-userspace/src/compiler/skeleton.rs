//! What a policy is besides its addresses: the rules in order, with the groups
//! and lists that they name. While this stays, a change takes the short way.

use std::collections::HashMap;

use ipnet::IpNet;
use sg_common::limits::MAX_POLICY_RULES;

use super::{
    CompileError,
    addresses::{FAMILIES, Net, PRIVATE},
    tree::{Fixed, Item},
};
use crate::{
    effective::{self, Entry, Members, Origin, PolicyKey, Remote},
    model::{Direction, Model, Ports, Verdict},
};

/// The remote side of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// A prefix.
    Net(IpNet),
    /// A set that changes, by its place among the sources.
    Source(u16),
    /// Everything outside the private set.
    Public,
}

/// One entry of the merged view, names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its counter.
    pub counter: u32,
    /// Accept or drop.
    pub verdict: Verdict,
    /// Number of the reason it gives.
    pub reason: u8,
    /// `None` is every protocol.
    pub protocol: Option<u8>,
    /// Destination port ranges; `None` is any, or none at all.
    pub ports: Option<Vec<(u16, u16)>>,
    /// Source ports.
    pub source_ports: Option<(u16, u16)>,
    /// Remote side.
    pub far: Far,
    /// Local side.
    pub local: Option<IpNet>,
}

impl Line {
    fn new(model: &Model, entry: &Entry, counter: u32, far: Far) -> Self {
        let ports = match &entry.ports {
            Ports::Any => None,
            Ports::Range(first, last) => Some(vec![(*first, *last)]),
            Ports::List(i) => Some(model.port_lists[*i].entries.clone()),
        };
        Self {
            counter,
            verdict: entry.verdict,
            reason: entry.reason as u8,
            protocol: entry.protocol,
            ports,
            source_ports: entry.source_ports,
            far,
            local: entry.local,
        }
    }

    /// Whether it looks at source ports or the local address.
    pub fn is_five_tuple(&self) -> bool {
        self.local.is_some() || self.source_ports.is_some()
    }
}

/// A policy without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// By direction; row `i + 1` of the rule table is line `i`.
    pub sides: [Vec<Line>; 2],
    /// When no line matches.
    pub defaults: [Verdict; 2],
    /// Ids of the groups and lists that lines name.
    pub sources: Vec<String>,
}

/// All addresses of both families.
fn everything() -> impl Iterator<Item = (Net, bool)> {
    FAMILIES.into_iter().map(|net| (net.into(), true))
}

impl Skeleton {
    /// The skeleton of a policy, and what its sources are in this model.
    ///
    /// # Errors
    /// More rules than the tables hold.
    pub fn new(
        model: &Model,
        key: &PolicyKey,
        mut counter: impl FnMut(Origin) -> u32,
    ) -> Result<(Self, Vec<Remote>), CompileError> {
        let directions = [Direction::Inbound, Direction::Outbound];
        let entries = directions.map(|direction| effective::entries(model, key, direction));
        for (entries, direction) in entries.iter().zip(directions) {
            if entries.len() > MAX_POLICY_RULES {
                return Err(CompileError::Rules { rules: entries.len(), direction: direction.name() });
            }
        }
        let (mut sources, mut remotes, mut known) = (Vec::new(), Vec::new(), HashMap::new());
        let mut source = |remote: Remote, id: &str| {
            Far::Source(*known.entry(remote).or_insert_with(|| {
                sources.push(id.to_owned());
                remotes.push(remote);
                remotes.len() as u16 - 1
            }))
        };
        let sides = entries.map(|entries| {
            let lines = entries.iter().map(|entry| {
                let far = match entry.remote {
                    Remote::Net(net) => Far::Net(net),
                    Remote::Public => Far::Public,
                    Remote::Members(g) => source(entry.remote, &model.groups[g].id),
                    Remote::List(l) => source(entry.remote, &model.prefix_lists[l].id),
                    Remote::Failsafe => source(entry.remote, "failsafe"),
                };
                Line::new(model, entry, counter(entry.origin), far)
            });
            lines.collect()
        });
        let defaults = directions.map(|direction| effective::default_verdict(model, key, direction));
        Ok((Self { sides, defaults, sources }, remotes))
    }

    /// Entries of each source, by direction.
    pub(super) fn source_entries(&self) -> Vec<[Vec<u16>; 2]> {
        let mut all = vec![<[Vec<u16>; 2]>::default(); self.sources.len()];
        for (side, lines) in self.sides.iter().enumerate() {
            for (i, line) in lines.iter().enumerate() {
                if let Far::Source(source) = line.far {
                    all[usize::from(source)][side].push(i as u16);
                }
            }
        }
        all
    }

    /// What names remote prefixes, given what is in each source.
    pub(super) fn remote_items(&self, sets: &[Vec<Net>]) -> Vec<(Net, Item)> {
        let mut items = Vec::with_capacity(sets.iter().map(Vec::len).sum::<usize>() + 64);
        self.fixed(&mut items, |line| match line.far {
            Far::Net(net) => vec![(net.into(), true)],
            Far::Public => everything().chain(PRIVATE.map(|net| (net.into(), false))).collect(),
            Far::Source(_) => Vec::new(),
        });
        for (source, set) in sets.iter().enumerate() {
            items.extend(set.iter().map(|net| (*net, Item::Source(source as u16))));
        }
        items
    }

    /// What names local prefixes.
    pub(super) fn local_items(&self) -> Vec<(Net, Item)> {
        let mut items = Vec::new();
        self.fixed(&mut items, |line| match line.local {
            Some(net) => vec![(net.into(), true)],
            None => everything().collect(),
        });
        items
    }

    fn fixed(&self, items: &mut Vec<(Net, Item)>, patterns: impl Fn(&Line) -> Vec<(Net, bool)>) {
        for (side, lines) in self.sides.iter().enumerate() {
            for (entry, line) in lines.iter().enumerate() {
                let item = |set| Item::Fixed(Fixed { side: side as u8, entry: entry as u16, set });
                items.extend(patterns(line).into_iter().map(|(net, set)| (net, item(set))));
            }
        }
    }
}

/// What is in each source now.
pub fn sets(model: &Model, members: &Members, sources: &[Remote]) -> Vec<Vec<Net>> {
    let set = |source: &Remote| match *source {
        Remote::Members(g) => members.of(g).map(Net::from).collect(),
        Remote::List(l) => model.prefix_lists[l].entries.iter().map(|net| Net::from(*net)).collect(),
        Remote::Failsafe => effective::sources(model).iter().map(|net| Net::from(*net)).collect(),
        Remote::Net(_) | Remote::Public => Vec::new(),
    };
    sources.iter().map(set).collect()
}
