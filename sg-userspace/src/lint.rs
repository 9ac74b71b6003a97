//! What is unwise or needless in a policy: one pure function, [`lint`].
//!
//! A finding says what it is, where, why, and what to do about it. Its place is a group, a
//! rule of it, an interface or a list. *Warnings* are what hardly anybody wants; *advice*
//! is the rest.
//!
//! # Layout
//! - [`finding`]: what is said
//! - [`lines`], [`space`]: a policy as sets of packets
//! - [`fate`]: which rules decide anything, exactly; the definition is there
//! - `rules`: rules that decide nothing, or nothing new
//! - `open`: what everybody reaches
//! - `objects`: groups, lists, quotas
//! - `habits`: the other advice of the original

pub mod fate;
pub mod finding;
mod habits;
pub mod lines;
mod objects;
mod open;
mod rules;
pub mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use finding::{Code, Finding, Place, Severity};

use crate::{
    document::Document,
    effective::{Members, PolicyKey},
    model::{Direction, Instance, Model, Side},
    validate::Quotas,
};
use fate::Judged;
use space::Budget;

/// Cells that are looked at for one policy; past it, the policy is one finding that says so.
/// A thousand rules with ports and prefixes of their own have about two million.
pub const CELLS_OF_A_POLICY: u64 = 12_000_000;
/// The same for all policies together.
pub const CELLS: u64 = 40_000_000;

/// Both, in the order in which findings name them.
const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The policy.
    pub model: &'a Model,
    /// Who is in its groups, with the addresses that are known.
    pub instances: &'a [Instance],
    /// What it may hold.
    pub quotas: &'a Quotas,
    /// Where it is written, so that findings can point there.
    pub document: Option<&'a Document>,
}

/// The merged policy of some interfaces.
struct Policy {
    key: PolicyKey,
    /// Who has it; nobody if it is that of a group without interfaces.
    interfaces: Vec<usize>,
    /// By direction; `None`: too large.
    judged: [Option<Judged>; 2],
}

/// What the parts look at.
struct View<'a> {
    model: &'a Model,
    quotas: &'a Quotas,
    members: Members,
    /// Groups of interfaces whose addresses are not known.
    unknown: Vec<Vec<usize>>,
    policies: Vec<Policy>,
}

impl<'a> View<'a> {
    fn of(subject: &Subject<'a>) -> Self {
        let model = subject.model;
        let mut interfaces: BTreeMap<PolicyKey, Vec<usize>> = BTreeMap::new();
        for instance in subject.instances {
            let of = interfaces.entry(PolicyKey::of(model, instance)).or_default();
            // A pattern stands for several devices.
            if of.last() != Some(&instance.interface) {
                of.push(instance.interface);
            }
        }
        for g in (0..model.groups.len()).filter(|g| model.interfaces.iter().all(|i| !i.groups.contains(g))) {
            interfaces.insert(PolicyKey { groups: vec![g], smtp_open: false, failsafe: false }, Vec::new());
        }
        let members = Members::of_all(model, subject.instances);
        let mut unknown: Vec<Vec<usize>> = subject
            .instances
            .iter()
            .filter(|i| i.addresses.is_empty() && i.device.is_some())
            // A guest without declared addresses is a member of nothing.
            .filter(|i| model.interfaces[i.interface].side == Side::Host)
            .map(|i| PolicyKey::of(model, i).groups)
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let mut left = CELLS;
        let policies = interfaces.into_iter().map(|(key, interfaces)| {
            let mut budget = Budget(left.min(CELLS_OF_A_POLICY));
            let before = budget.0;
            let judged = DIRECTIONS.map(|d| fate::judge(model, &members, &unknown, &key, d, &mut budget));
            left -= before - budget.0;
            Policy { key, interfaces, judged }
        });
        let policies = policies.collect();
        Self { model, quotas: subject.quotas, members, unknown, policies }
    }

    /// Whether a group has members whose addresses are not known.
    fn is_unknown(&self, group: usize) -> bool {
        self.unknown.iter().any(|groups| groups.contains(&group))
    }

    /// `eth0, eth1 and 3 more`; empty for nobody.
    fn interfaces<'i>(&self, interfaces: impl IntoIterator<Item = &'i usize>) -> String {
        let mut all: Vec<usize> = interfaces.into_iter().copied().collect();
        all.sort_unstable();
        all.dedup();
        let names: Vec<String> = all.iter().map(|i| self.model.interfaces[*i].name.clone()).collect();
        finding::some(&names)
    }
}

/// Everything that is unwise or needless in a policy: warnings first, then by place.
pub fn lint(subject: &Subject<'_>) -> Vec<Finding> {
    let view = View::of(subject);
    let mut findings = Vec::new();
    rules::look(&view, &mut findings);
    open::look(&view, &mut findings);
    objects::look(&view, &mut findings);
    habits::look(&view, &mut findings);
    if let Some(document) = subject.document {
        findings.iter_mut().for_each(|f| f.at = f.spot.at(document));
    }
    findings.sort_by(|a, b| (a.severity, a.spot, &a.key).cmp(&(b.severity, b.spot, &b.key)));
    // Several policies may show the same.
    findings.dedup_by(|a, b| a.key == b.key);
    findings
}

/// Those findings of `after` that are not in `before`.
pub fn added(before: &[Finding], after: Vec<Finding>) -> Vec<Finding> {
    let known: std::collections::HashSet<&str> = before.iter().map(|f| f.key.as_str()).collect();
    after.into_iter().filter(|f| !known.contains(f.key.as_str())).collect()
}
