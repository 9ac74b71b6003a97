//! A policy that lives: its tables, and all that a change of addresses needs to
//! patch them where they are. A packet has one remote address and one direction,
//! so it loads one class; each address goes from its old class to its new one in
//! one write, whatever order a packet's loads have. Therefore no packet sees a
//! mix, and none sees what is neither old nor new.
//!
//! Rows, nodes and lists are whole before anything names them, and are not used
//! again before a grace period. Longer prefixes enter the trie before shorter
//! ones change, and none leaves it: a prefix that nothing names any more has the
//! class of what lies around it. The hash of hosts only loses: an element of
//! the kernel's hash may be used again while a program still reads it.

use std::collections::BTreeSet;

use sg_common::{
    addr::Addr,
    limits::MAX_MATRIX_CELLS,
    policy::{
        AddrClass, POLICY_HOSTS, POLICY_HOSTS_V4, POLICY_LIST6, POLICY_PREFIXES, POLICY_TABLE4, RuleRow, TABLE4_NODE,
    },
    reason::Reason,
};

pub use super::tree::NoRoom;
use super::{
    CompileError, Shape, Tables,
    addresses::{Net, Prefix},
    bits::Bits,
    flat::{self, Places, Side},
    list6,
    multibit::{self, Painter},
    services::Services,
    skeleton::{Far, Line, Skeleton},
    tree::{Place, Seen, Tree},
};

/// One prefix more, or less, in one of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place among [`Skeleton::sources`].
    pub source: u16,
    /// The prefix.
    pub net: Net,
    /// Whether it is in it from now on.
    pub on: bool,
}

/// One write of a change, in the order in which they have to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To a part of the flat value that nothing names.
    Bytes {
        /// Byte offset.
        at: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// One half-word of the flat value, in one store.
    Half {
        /// Byte offset.
        at: u32,
        /// What, host order.
        value: u16,
    },
    /// One word of the flat value, in one store.
    Word {
        /// Byte offset.
        at: u32,
        /// What, host order.
        value: u32,
    },
    /// Into the trie.
    Prefix {
        /// The prefix.
        prefix: Prefix,
        /// Its class.
        class: AddrClass,
    },
    /// Out of the hash of hosts.
    NoHost(Addr),
}

/// Prefixes that the trie has room for beside those it begins with; it takes no memory for them.
pub const SPARE_PREFIXES: usize = 4096;

/// A policy.
#[derive(Clone, Debug)]
pub struct Live {
    /// What it is besides its addresses.
    pub skeleton: Skeleton,
    /// Its tables; hosts and prefixes as they were in the beginning.
    pub tables: Tables,
    tree: Tree,
    places: [Places; 2],
    /// Whether hash and trie are asked for a family.
    asked: [bool; 2],
    /// Prefixes of the trie, and how many it may have.
    prefixes: (usize, usize),
}

fn rows(lines: &[Line], default: crate::model::Verdict) -> Vec<RuleRow> {
    let row = |counter, verdict, reason| RuleRow { counter, verdict, reason, pad: 0 };
    let default = row(0, default as u8, Reason::Default as u8);
    [default].into_iter().chain(lines.iter().map(|l| row(l.counter, l.verdict as u8, l.reason))).collect()
}

/// Prefixes that differ from what lies around them.
fn telling(tree: &Tree) -> Vec<(Net, AddrClass)> {
    let mut around: Vec<(Net, AddrClass)> = Vec::new();
    let mut all = Vec::new();
    for (&net, node) in tree.nodes() {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            around.pop();
        }
        if node.class != around.last().map(|(_, class)| *class).unwrap_or_default() {
            all.push((net, node.class));
        }
        around.push((net, node.class));
    }
    all
}

impl Live {
    /// Compiles a policy, given what is in each of its sources.
    ///
    /// # Errors
    /// [`CompileError`] when a table would pass its bound.
    pub fn build(skeleton: Skeleton, sets: &[Vec<Net>]) -> Result<Self, CompileError> {
        let too_many = |what| move |NoRoom| CompileError::Classes { classes: usize::from(u16::MAX) + 1, what };
        let limit = usize::from(u16::MAX);
        let mut tree = Tree::build(skeleton.remote_items(sets), skeleton.source_entries(), limit)
            .map_err(too_many("addresses"))?;
        let five_tuple = skeleton.sides.each_ref().map(|lines| lines.iter().any(Line::is_five_tuple));
        let services = skeleton.sides.each_ref().map(|lines| Services::build(lines));
        let mut bitvec = five_tuple;
        for (i, services) in services.iter().enumerate() {
            bitvec[i] |= tree.classes[i].sets.len() * services.classes.len() > MAX_MATRIX_CELLS;
        }
        let local = if five_tuple.contains(&true) {
            Tree::build(skeleton.local_items(), Vec::new(), limit).map_err(too_many("local addresses"))?
        } else {
            Tree::default()
        };
        let mut telling4 = telling(&tree);
        let telling6 = telling4.split_off(telling4.partition_point(|(net, _)| net.is_v4()));
        let table4 =
            |i: usize| multibit::build(telling4.iter().filter_map(|(net, class)| Some((net.v4()?, class.class[i]))));
        let list6 =
            |i: usize| list6::build(telling6.iter().filter_map(|(net, class)| Some((net.v6()?, class.class[i]))));
        let mut services = services.into_iter();
        let mut side = |i: usize| {
            let lines = &skeleton.sides[i];
            // Too many cells, but no five-tuple rule: every local address is in one class.
            let locals =
                if five_tuple.contains(&true) { local.classes[i].sets.clone() } else { vec![Bits::first(lines.len())] };
            let dynamic = lines.iter().enumerate().filter(|(_, l)| matches!(l.far, Far::Source(_)));
            Side {
                rows: rows(lines, skeleton.defaults[i]),
                remotes: tree.classes[i].sets.clone(),
                services: services.next().unwrap_or_default(),
                locals,
                bitvec: bitvec[i],
                dynamic: dynamic.map(|(i, _)| i).collect(),
                table4: table4(i),
                list6: list6(i),
            }
        };
        let mut sides = [side(0), side(1)];
        if sides.iter().any(|s| s.list6.is_none()) {
            sides.iter_mut().for_each(|s| s.list6 = None);
        }
        let spare = !skeleton.sources.is_empty();
        // What is worth its memory is not worth a refusal: without the table where it does not fit.
        let with_table4 = sides.iter().all(|s| s.table4.is_some()).then(|| flat::lay_out(&sides, spare).ok());
        let (flat, places, mut flags) = match with_table4.flatten() {
            Some((flat, places)) => (flat, places, POLICY_TABLE4),
            None => {
                sides.iter_mut().for_each(|s| s.table4 = None);
                let (flat, places) = flat::lay_out(&sides, spare)?;
                (flat, places, 0)
            }
        };
        flags |= if sides[0].list6.is_some() { POLICY_LIST6 } else { 0 };
        for (classes, places) in tree.classes.iter_mut().zip(&places) {
            classes.bound(places.rows.room);
            classes.take_fresh();
        }

        // What table and list know is asked nowhere else, and has no place there.
        let asked = [flags & POLICY_TABLE4 == 0, flags & POLICY_LIST6 == 0];
        let (mut hosts, mut prefixes) = (Vec::new(), Vec::new());
        for &(net, class) in telling4.iter().chain(&telling6).filter(|(net, _)| asked[usize::from(!net.is_v4())]) {
            if let Some(node) = tree.node_mut(&net) {
                node.place = if net.is_host() { Place::Hash } else { Place::Trie };
            }
            if net.is_host() {
                hosts.push((net.addr(), class));
            } else {
                prefixes.push((net.prefix(false), class));
            }
        }
        prefixes.extend(telling(&local).into_iter().map(|(net, class)| (net.prefix(true), class)));
        for (flag, on) in [
            (POLICY_HOSTS, !hosts.is_empty()),
            (POLICY_HOSTS_V4, hosts.iter().all(|(host, _)| host.is_v4())),
            (POLICY_PREFIXES, !prefixes.is_empty()),
        ] {
            flags |= if on { flag } else { 0 };
        }
        let shape = |s: &Side| Shape { remotes: s.remotes.len(), services: s.services.classes.len(), bitvec: s.bitvec };
        let shape = [shape(&sides[0]), shape(&sides[1])];
        // No trie was made where there was nothing for it.
        let room = if spare && !prefixes.is_empty() { SPARE_PREFIXES } else { 0 };
        let count = (prefixes.len(), prefixes.len() + room);
        let tables = Tables { flat: flat::with_flags(flat, flags), hosts, prefixes, room, shape };
        Ok(Self { skeleton, tables, tree, places, asked, prefixes: count })
    }

    /// Lets go of what was only needed to write the tables.
    pub fn settle(&mut self) {
        (self.tables.hosts, self.tables.prefixes) = (Vec::new(), Vec::new());
    }

    /// Prefixes in the trie.
    pub fn prefixes(&self) -> usize {
        self.prefixes.0
    }

    /// What has to change so that the sources hold exactly these sets.
    pub fn difference(&self, sets: &[Vec<Net>]) -> Vec<Change> {
        let now: BTreeSet<(u16, Net)> = self.tree.named().collect();
        let then: BTreeSet<(u16, Net)> =
            sets.iter().enumerate().flat_map(|(s, set)| set.iter().map(move |net| (s as u16, *net))).collect();
        let change = |on| move |&(source, net): &(u16, Net)| Change { source, net, on };
        now.difference(&then).map(change(false)).chain(then.difference(&now).map(change(true))).collect()
    }

    /// Whether spare room is short, and there would be more after a grace period.
    pub fn waits(&self, grace: u64) -> bool {
        let lists =
            |p: &Places| !self.asked[1] && (0..flat::LISTS).all(|i| i == p.lists.current || !p.is_ready(i, grace));
        self.tree.classes.iter().any(|c| c.waits(grace)) || self.places.iter().any(lists)
    }

    /// Changes what is in the sources; returns the writes that make the kernel's
    /// tables agree. `grace` counts the grace periods that have passed.
    ///
    /// # Errors
    /// It takes a rebuild; this policy is of no more use.
    pub fn change(&mut self, changes: &[Change], grace: u64) -> Result<Vec<Step>, NoRoom> {
        let mut nets: Vec<Net> = Vec::with_capacity(changes.len());
        for &Change { source, net, on } in changes {
            self.tree.name(net, source, on);
            nets.push(net);
        }
        nets.sort_unstable();
        let mut seen = Vec::new();
        let mut root: Option<Net> = None;
        for net in nets {
            if root.is_some_and(|root| root.contains(&net)) {
                continue;
            }
            root = Some(net);
            let outer = self.tree.around(&net);
            self.tree.renew(net, outer, grace, |s, _| seen.push(s))?;
        }
        let mut steps = self.rows()?;
        let (mut publish, mut gone) = (Vec::new(), Vec::new());
        self.table4(&seen, &mut steps, &mut publish)?;
        self.list6(&seen, grace, &mut steps, &mut publish)?;
        self.trie(&seen, &mut steps, &mut gone)?;
        steps.extend(publish);
        steps.extend(gone);
        for s in &seen {
            self.tree.forget(&s.net, grace);
        }
        Ok(steps)
    }

    /// Rows of new classes.
    fn rows(&mut self) -> Result<Vec<Step>, NoRoom> {
        let mut steps = Vec::new();
        for (classes, places) in self.tree.classes.iter_mut().zip(&self.places) {
            let mut fresh = classes.take_fresh();
            fresh.sort_unstable();
            fresh.dedup();
            for class in fresh {
                let (at, bytes) = places.rows.row(class, &classes.sets[usize::from(class)]).ok_or(NoRoom)?;
                self.tables.flat[at..at + bytes.len()].copy_from_slice(&bytes);
                steps.push(Step::Bytes { at: at as u32, bytes });
            }
        }
        Ok(steps)
    }

    fn table4(&mut self, seen: &[Seen], fill: &mut Vec<Step>, publish: &mut Vec<Step>) -> Result<(), NoRoom> {
        if self.asked[0] {
            return Ok(());
        }
        for (side, places) in self.places.iter_mut().enumerate() {
            let mut painter = Painter::new(&mut self.tables.flat, &mut places.table4);
            for s in seen {
                let Some(net) = s.net.v4() else { continue };
                let class = s.class.class[side];
                if class & TABLE4_NODE != 0 {
                    return Err(NoRoom);
                }
                painter.paint(net, class).ok_or(NoRoom)?;
            }
            let (nodes, entries) = painter.finish();
            fill.extend(nodes.map(|(at, bytes)| Step::Bytes { at: at as u32, bytes }));
            publish.extend(entries.into_iter().map(|(at, value)| Step::Half { at: at as u32, value }));
        }
        Ok(())
    }

    fn list6(
        &mut self,
        seen: &[Seen],
        grace: u64,
        fill: &mut Vec<Step>,
        publish: &mut Vec<Step>,
    ) -> Result<(), NoRoom> {
        if self.asked[1] || seen.iter().all(|s| s.net.is_v4() || s.class == s.before) {
            return Ok(());
        }
        let telling = telling(&self.tree);
        for (side, places) in self.places.iter_mut().enumerate() {
            let prefixes = telling.iter().filter_map(|(net, class)| Some((net.v6()?, class.class[side])));
            let bytes = flat::list_bytes(&list6::build(prefixes).ok_or(NoRoom)?);
            let at = places.list(places.lists.current);
            if self.tables.flat[at..at + bytes.len()] == bytes {
                continue;
            }
            let next = (0..flat::LISTS).find(|i| *i != places.lists.current && places.is_ready(*i, grace));
            let next = next.filter(|_| places.lists.spare).ok_or(NoRoom)?;
            places.lists.left[places.lists.current] = grace + 1;
            places.lists.current = next;
            let (at, head) = (places.list(next), places.lists.head);
            self.tables.flat[at..at + bytes.len()].copy_from_slice(&bytes);
            self.tables.flat[head..head + 4].copy_from_slice(&(at as u32).to_ne_bytes());
            fill.push(Step::Bytes { at: at as u32, bytes });
            publish.push(Step::Word { at: head as u32, value: at as u32 });
        }
        Ok(())
    }

    fn trie(&mut self, seen: &[Seen], steps: &mut Vec<Step>, gone: &mut Vec<Step>) -> Result<(), NoRoom> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for s in seen.iter().filter(|s| self.asked[usize::from(!s.net.is_v4())]) {
            let Some(node) = self.tree.node_mut(&s.net) else { continue };
            match node.place {
                Place::Trie if s.class != s.before => changed.push((s.net, s.class)),
                Place::Hash if s.class != s.before => {
                    node.place = Place::Nowhere;
                    gone.push(Step::NoHost(s.net.addr()));
                    if s.class != s.outer {
                        node.place = Place::Trie;
                        new.push((s.net, s.class));
                    }
                }
                Place::Nowhere if s.class != s.outer => {
                    node.place = Place::Trie;
                    new.push((s.net, s.class));
                }
                Place::Trie | Place::Hash | Place::Nowhere => {}
            }
        }
        self.prefixes.0 += new.len();
        if !new.is_empty() && self.prefixes.0 >= self.prefixes.1 {
            return Err(NoRoom);
        }
        new.sort_by_key(|(net, _)| std::cmp::Reverse(net.length()));
        let step = |(net, class): (Net, AddrClass)| Step::Prefix { prefix: net.prefix(false), class };
        steps.extend(new.into_iter().chain(changed).map(step));
        Ok(())
    }
}

impl Places {
    /// Byte offset of a list's place.
    fn list(&self, index: usize) -> usize {
        self.lists.at + index * flat::LIST_BYTES
    }

    /// Whether no packet can be reading a place any more.
    fn is_ready(&self, index: usize, grace: u64) -> bool {
        self.lists.left[index] <= grace
    }
}
