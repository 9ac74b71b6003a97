//! Merged rules to tables: equivalence classes of addresses and services, and
//! the search done ahead of time. Pure: no kernel, no clock.
//!
//! # Layout
//! - [`bits`]: sets of rules
//! - [`addresses`]: prefixes to classes
//! - [`services`]: protocols and ports to classes
//! - [`flat`]: everything but addresses, in one value
//! - [`multibit`], [`list6`]: addresses as plain loads
//! - [`host`]: the tables, asked on the host

pub mod addresses;
pub mod bits;
pub mod flat;
pub mod host;
pub mod list6;
pub mod multibit;
pub mod services;

use std::net::IpAddr;

use sg_common::{
    limits::{MAX_MATRIX_CELLS, MAX_POLICY_RULES},
    policy::{
        AddrClass, CLASS_SIZES, POLICY_HOSTS, POLICY_HOSTS_V4, POLICY_LIST6, POLICY_PREFIXES, POLICY_TABLE4, RuleRow,
        kind,
    },
    reason::Reason,
};
use thiserror::Error;

use crate::{
    effective::{self, Entry, Origin, PolicyKey, Remote},
    model::{Direction, Instance, Model, Ports},
};
use addresses::{AddressTables, Pattern};
use bits::Bits;
use services::Services;

/// A policy that is too large for its tables.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// Too many rules.
    #[error(
        "{rules} {direction} rules apply to one interface, the tables hold {MAX_POLICY_RULES}: use fewer, or prefix and port lists"
    )]
    Rules {
        /// Rules of one direction, invisible ones included.
        rules: usize,
        /// `ingress` or `egress`.
        direction: &'static str,
    },
    /// Too many bytes.
    #[error("the tables of one interface need {bytes} bytes, the limit is {}: use fewer distinct ranges", CLASS_SIZES[2])]
    Size {
        /// Bytes needed.
        bytes: usize,
    },
    /// Too many classes.
    #[error("{classes} classes of {what}, the tables hold 65535: use fewer distinct ranges")]
    Classes {
        /// Classes needed.
        classes: usize,
        /// Of what.
        what: &'static str,
    },
}

/// The compiled tables of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The flat value.
    pub flat: Vec<u8>,
    /// Exact remote hosts, of the families that neither table nor list knows.
    pub hosts: Vec<(sg_common::addr::Addr, AddrClass)>,
    /// Prefixes: kind, address bytes, length; remote ones as the hosts.
    pub prefixes: Vec<(addresses::Prefix, AddrClass)>,
    /// Entries by direction; row `i + 1` of the rule table is entry `i`.
    pub entries: [Vec<Entry>; 2],
    /// Shape of each direction.
    pub shape: [Shape; 2],
}

impl Tables {
    /// Whether the kernel would hold the same bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        self.flat == other.flat && self.hosts == other.hosts && self.prefixes == other.prefixes
    }

    /// Counters of its rules, as its rows name them; 0 where nothing counts.
    pub fn counters(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().enumerate().flat_map(move |(side, entries)| {
            let rows = flat::rows(&self.flat, side);
            (1..=entries.len()).filter_map(move |row| flat::counter(&self.flat, rows, row))
        })
    }

    /// Size class of the flat value.
    pub fn size_class(&self) -> usize {
        CLASS_SIZES.iter().position(|&size| self.flat.len() <= size as usize).unwrap_or(CLASS_SIZES.len() - 1)
    }
}

/// Figures of one direction's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Remote address classes.
    pub remotes: usize,
    /// Service classes.
    pub services: usize,
    /// Whether bit-vectors replace the matrix.
    pub bitvec: bool,
}

/// One direction before it is laid out.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rows: Vec<RuleRow>,
    pub(crate) remotes: Vec<Bits>,
    pub(crate) services: Services,
    pub(crate) locals: Vec<Bits>,
    pub(crate) bitvec: bool,
}

/// Compiles one policy. `counter` gives the counter of an entry, by its
/// identity (see [`effective::identity`]).
///
/// # Errors
/// [`CompileError`] when a table would pass its bound.
pub fn compile(
    model: &Model,
    instances: &[Instance],
    key: &PolicyKey,
    mut counter: impl FnMut(Origin) -> u32,
) -> Result<Tables, CompileError> {
    let directions = [Direction::Inbound, Direction::Outbound];
    let mut entries: Vec<Vec<Entry>> = Vec::new();
    for direction in directions {
        let side = effective::entries(model, key, direction);
        if side.len() > MAX_POLICY_RULES {
            return Err(CompileError::Rules { rules: side.len(), direction: direction.name() });
        }
        entries.push(side);
    }

    let remote_patterns = |e: &Entry| patterns(model, instances, e.remote);
    let local_patterns = |e: &Entry| match e.local {
        Some(net) => vec![Pattern { net, set: true }],
        None => everything(),
    };
    let five_tuple = |side: &[Entry]| side.iter().any(|e| e.local.is_some() || e.source_ports.is_some());
    let remote = AddressTables::build([&entries[0], &entries[1]], remote_patterns)?;
    let any_five_tuple = [five_tuple(&entries[0]), five_tuple(&entries[1])];
    let local = if any_five_tuple.contains(&true) {
        AddressTables::build([&entries[0], &entries[1]], local_patterns)?
    } else {
        AddressTables::default()
    };

    let mut sides = Vec::new();
    for (i, direction) in directions.into_iter().enumerate() {
        let side_entries = std::mem::take(&mut entries[i]);
        let services = Services::build(&side_entries, |e| port_ranges(model, e));
        let default = effective::default_verdict(model, key, direction);
        let mut rows = vec![RuleRow { counter: 0, verdict: default as u8, reason: Reason::Default as u8, pad: 0 }];
        rows.extend(side_entries.iter().map(|e| RuleRow {
            counter: counter(e.origin),
            verdict: e.verdict as u8,
            reason: e.reason as u8,
            pad: 0,
        }));
        let cells = remote.classes[i].len() * services.classes.len();
        let bitvec = any_five_tuple[i] || cells > MAX_MATRIX_CELLS;
        sides.push(Side {
            entries: side_entries,
            rows,
            remotes: remote.classes[i].clone(),
            services,
            locals: local.classes[i].clone(),
            bitvec,
        });
    }
    let needs_local = [sides[0].bitvec, sides[1].bitvec].contains(&true);
    let local = match (needs_local, any_five_tuple.contains(&true)) {
        (true, false) => {
            // Too many cells, but no five-tuple rule: every local address is in one class.
            for side in &mut sides {
                side.locals = vec![Bits::first(side.entries.len())];
            }
            AddressTables::default()
        }
        _ => local,
    };
    let tables4 = [remote.table4(0), remote.table4(1)];
    let lists6 = [remote.list6(0), remote.list6(1)];
    let (hosts, prefixes) = remote.split(false);
    let local = local.into_prefixes(true);
    let lists6 = match lists6 {
        [Some(inbound), Some(outbound)] => Some([inbound, outbound]),
        _ => None,
    };
    let mut tables =
        Tables { flat: Vec::new(), hosts, prefixes, entries: Default::default(), shape: Default::default() };
    // What is worth its memory is not worth a refusal: without the table where it does not fit.
    let with_table4 = match &tables4 {
        [Some(inbound), Some(outbound)] => {
            flat::lay_out(&sides, 0, [inbound, outbound], lists6.as_ref()).ok().map(|flat| (flat, POLICY_TABLE4))
        }
        _ => None,
    };
    let (flat, mut flags) = match with_table4 {
        Some(laid_out) => laid_out,
        None => (flat::lay_out(&sides, 0, [&[], &[]], lists6.as_ref())?, 0),
    };
    flags |= if lists6.is_some() { POLICY_LIST6 } else { 0 };
    // What table and list know is asked nowhere else, and has no place there.
    let known = |v4: bool| flags & if v4 { POLICY_TABLE4 } else { POLICY_LIST6 } != 0;
    tables.hosts.retain(|(host, _)| !known(host.is_v4()));
    tables.prefixes.retain(|(prefix, _)| !known(prefix.data.kind[0] == kind::REMOTE_V4));
    tables.prefixes.extend(local);
    for (flag, on) in [
        (POLICY_HOSTS, !tables.hosts.is_empty()),
        (POLICY_HOSTS_V4, tables.hosts.iter().all(|(host, _)| host.is_v4())),
        (POLICY_PREFIXES, !tables.prefixes.is_empty()),
    ] {
        flags |= if on { flag } else { 0 };
    }
    tables.flat = flat::with_flags(flat, flags);
    let shape = |s: &Side| Shape { remotes: s.remotes.len(), services: s.services.classes.len(), bitvec: s.bitvec };
    let shape = [shape(&sides[0]), shape(&sides[1])];
    let mut sides = sides.into_iter().map(|s| s.entries);
    tables.entries = [sides.next().unwrap_or_default(), sides.next().unwrap_or_default()];
    tables.shape = shape;
    Ok(tables)
}

fn everything() -> Vec<Pattern> {
    addresses::FAMILIES.iter().map(|&net| Pattern { net, set: true }).collect()
}

/// The prefixes an entry matches, and those it does not although they lie inside.
fn patterns(model: &Model, instances: &[Instance], remote: Remote) -> Vec<Pattern> {
    let set = |net| Pattern { net, set: true };
    match remote {
        Remote::Net(net) => vec![set(net)],
        Remote::List(i) => model.prefix_lists[i].entries.iter().map(|&net| set(net)).collect(),
        Remote::Members(g) => {
            effective::members(model, instances, g).into_iter().map(|ip: IpAddr| set(ip.into())).collect()
        }
        Remote::Public => {
            let mut patterns = everything();
            patterns.extend(addresses::PRIVATE.iter().map(|&net| Pattern { net, set: false }));
            patterns
        }
    }
}

/// Destination port ranges; `None` is any, or none at all.
fn port_ranges(model: &Model, entry: &Entry) -> Option<Vec<(u16, u16)>> {
    match &entry.ports {
        Ports::Any => None,
        Ports::Range(first, last) => Some(vec![(*first, *last)]),
        Ports::List(i) => Some(model.port_lists[*i].entries.clone()),
    }
}
