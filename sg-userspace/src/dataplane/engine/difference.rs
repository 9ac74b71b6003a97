//! Which addresses groups and lists gained and lost between two models on their
//! machines, provided that nothing else is different. What is the same is looked
//! at once, and not copied.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    compiler::addresses::Net,
    dataplane::machine::Resolved,
    effective::{Members, Remote},
    model::{Instance, Interface, Model},
};

/// What groups and lists hold.
#[derive(Debug)]
pub struct Known {
    model: Arc<Model>,
    /// Instances on this machine, or named and not here.
    local: Vec<Instance>,
    /// Members of each group.
    pub members: Members,
}

/// Prefixes that a group or list has from now on, or no longer.
pub type Differences = HashMap<Remote, Vec<(Net, bool)>>;

/// Whether rules and groups are the same, so that groups and lists have the same indices.
fn is_same_frame(old: &Model, new: &Model) -> bool {
    let lists = |m: &Model| m.prefix_lists.len();
    old.groups == new.groups
        && old.failsafe == new.failsafe
        && old.port_lists == new.port_lists
        && lists(old) == lists(new)
        && old.prefix_lists.iter().zip(&new.prefix_lists).all(|(a, b)| a.id == b.id && a.v4 == b.v4)
}

/// What is left of two lists when what they begin and end with alike is taken off.
fn middle<'a, T>(a: &'a [T], b: &'a [T], same: impl Fn(&T, &T) -> bool) -> (&'a [T], &'a [T]) {
    let from = a.iter().zip(b).take_while(|(a, b)| same(a, b)).count();
    let (a, b) = (&a[from..], &b[from..]);
    let to = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    (&a[..a.len() - to], &b[..b.len() - to])
}

impl Known {
    /// Collects everything.
    pub fn new(model: &Arc<Model>, resolved: &Resolved) -> Self {
        let mut members = Members::of_all(model, &resolved.instances);
        for interface in model.interfaces.iter().filter(|i| i.device.is_none()) {
            for (&group, &address) in
                interface.groups.iter().flat_map(|g| interface.addresses.iter().map(move |a| (g, a)))
            {
                members.shift(group, address, 1);
            }
        }
        Self { model: model.clone(), local: resolved.instances.clone(), members }
    }

    /// Follows to another model and machine, whose instances here are `resolved`.
    /// `None` when more is different than addresses; nothing has changed then.
    pub fn follow(&mut self, model: &Arc<Model>, resolved: &Resolved) -> Option<Differences> {
        let old = self.model.clone();
        let mut differences = Differences::new();
        let mut shifts: HashMap<(usize, IpAddr), i64> = HashMap::new();
        let mut shift = |groups: &[usize], addresses: &[IpAddr], by: i64| {
            for (&group, &address) in groups.iter().flat_map(|g| addresses.iter().map(move |a| (g, a))) {
                *shifts.entry((group, address)).or_default() += by;
            }
        };
        if !Arc::ptr_eq(&old, model) {
            if !is_same_frame(&old, model) {
                return None;
            }
            let same = |a: &Arc<Interface>, b: &Arc<Interface>| {
                Arc::ptr_eq(a, b)
                    || a.device.is_none() == b.device.is_none() && a.addresses == b.addresses && a.groups == b.groups
            };
            let (gone, come) = middle(&old.interfaces, &model.interfaces, same);
            for (interfaces, by) in [(gone, -1), (come, 1)] {
                interfaces.iter().filter(|i| i.device.is_none()).for_each(|i| shift(&i.groups, &i.addresses, by));
            }
            for (i, (a, b)) in old.prefix_lists.iter().zip(&model.prefix_lists).enumerate() {
                let changes = entries(&a.entries, &b.entries);
                if !changes.is_empty() {
                    differences.insert(Remote::List(i), changes);
                }
            }
        }
        for (instances, model, by) in [(&self.local, &old, -1), (&resolved.instances, model, 1)] {
            instances.iter().for_each(|i| shift(&model.interfaces[i.interface].groups, &i.addresses, by));
        }
        for ((group, address), by) in shifts.into_iter().filter(|(_, by)| *by != 0) {
            if let Some(on) = self.members.shift(group, address, by) {
                differences.entry(Remote::Members(group)).or_default().push((address.into(), on));
            }
        }
        self.model = model.clone();
        self.local.clone_from(&resolved.instances);
        Some(differences)
    }

    /// The same once more, to try something out.
    pub fn copy(&self) -> Self {
        Self { model: self.model.clone(), local: self.local.clone(), members: self.members.clone() }
    }
}

fn entries(old: &[IpNet], new: &[IpNet]) -> Vec<(Net, bool)> {
    if old == new {
        return Vec::new();
    }
    let nets = |all: &[IpNet]| all.iter().map(|n| Net::from(*n)).collect::<HashSet<_>>();
    let (old, new) = (nets(old), nets(new));
    let gone = old.difference(&new).map(|n| (*n, false));
    gone.chain(new.difference(&old).map(|n| (*n, true))).collect()
}
