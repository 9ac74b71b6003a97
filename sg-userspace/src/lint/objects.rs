//! Groups without members, lists, and how much of the quotas is left.

use super::{
    View,
    finding::{Code, Finding, Spot, some},
};
use crate::model::{GroupType, Object, Ports, Rule};

/// From so much of a quota on it is nearly used up, in percent.
const NEAR: usize = 80;

/// `9 of 10`, when that is near.
fn near(used: usize, limit: usize) -> bool {
    limit > 0 && limit < usize::MAX && used * 100 >= limit * NEAR
}

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    groups(view, findings);
    lists(view, findings);
    interfaces(view, findings);
}

fn groups(view: &View<'_>, findings: &mut Vec<Finding>) {
    let model = view.model;
    let mut members = vec![(0, 0); model.groups.len()];
    for interface in &model.interfaces {
        for &g in &interface.groups {
            members[g].0 += 1;
            members[g].1 += interface.addresses.len();
        }
    }
    for (g, group) in model.groups.iter().enumerate() {
        let spot = Spot::Group(g);
        let by: Vec<String> = model
            .groups
            .iter()
            .flat_map(|other| other.rules.iter().enumerate().map(move |(r, rule)| (other, r, rule)))
            .filter(|(.., rule)| rule.object == Object::Group(g))
            .map(|(other, r, _)| format!("{}[{r}]", other.name))
            .collect();
        let (interfaces, addresses) = members[g];
        let known = view.members.of(g).next().is_some() || view.is_unknown(g);
        if interfaces == 0 || !known {
            let what = if interfaces == 0 {
                "no interface is in this group"
            } else {
                "no member of this group has an address: guests need private_ip_addresses"
            };
            let named = match by.len() {
                0 if interfaces == 0 => "its rules apply to nobody".to_owned(),
                0 => "nobody is accepted as its member".to_owned(),
                _ => format!("what names it matches nothing: {}", some(&by)),
            };
            let advice = "put its members in, or delete it";
            let finding = Finding::new(model, Code::GroupEmpty, spot, format!("{what}: {named}"), advice);
            findings.push(Finding { because_of: by, ..finding });
        }
        let quotas = view.quotas;
        let (used, limit, what) = match group.kind {
            GroupType::Normal => (addresses, quotas.addresses_per_normal_group, "addresses"),
            GroupType::Enterprise => (interfaces, quotas.interfaces_per_enterprise_group, "interfaces"),
        };
        if near(used, limit) {
            let message = format!("{used} of {limit} member {what}: past that, no more can join");
            let advice = "put members into several groups, and let rules accept those from each other";
            findings.push(Finding::new(model, Code::QuotaNear, spot, message, advice).about(what));
        }
        let named = group.rules.iter().filter(|r| matches!(r.object, Object::Group(_))).count();
        if near(named, quotas.group_rules_per_group) {
            let message = format!("{named} of {} rules that name a group", quotas.group_rules_per_group);
            let advice = "name a prefix list, or put those who are to be accepted into one group";
            findings.push(Finding::new(model, Code::QuotaNear, spot, message, advice).about("group rules"));
        }
    }
}

fn lists(view: &View<'_>, findings: &mut Vec<Finding>) {
    let model = view.model;
    let rules = || model.groups.iter().flat_map(|g| &g.rules);
    let list = |spot: Spot, held: usize, max: usize, quota: usize, rules: usize| {
        if rules == 0 {
            let message = "no rule names this list".to_owned();
            return Some(Finding::new(model, Code::ListUnused, spot, message, "delete it, or name it"));
        }
        // One that names no size is as large as what it holds, up to the quota.
        let limit = if held == max { quota } else { max };
        near(held, limit).then(|| {
            let message = format!("{held} of {limit} entries: past that, no more can be added");
            let advice = if limit < quota {
                "raise max_entries: each rule that names the list counts so many of the interface's rules"
            } else {
                "take entries together in wider ones, or make a second list"
            };
            Finding::new(model, Code::ListNearLimit, spot, message, advice)
        })
    };
    for (l, prefixes) in model.prefix_lists.iter().enumerate() {
        let named = rules().filter(|r| r.object == Object::PrefixList(l)).count();
        let (held, quota) = (prefixes.entries.len(), view.quotas.prefix_list_entries);
        findings.extend(list(Spot::PrefixList(l), held, prefixes.max_entries, quota, named));
    }
    for (l, ports) in model.port_lists.iter().enumerate() {
        let named = rules().filter(|r| r.ports == Ports::List(l)).count();
        let (held, quota) = (ports.entries.len(), view.quotas.port_list_entries);
        findings.extend(list(Spot::PortList(l), held, ports.max_entries, quota, named));
    }
}

/// What a rule counts: lists count as many as they may hold.
fn cost(view: &View<'_>, rule: &Rule) -> usize {
    let object = if let Object::PrefixList(l) = rule.object { view.model.prefix_lists[l].max_entries } else { 0 };
    let ports = if let Ports::List(l) = rule.ports { view.model.port_lists[l].max_entries } else { 0 };
    (object + ports).max(1)
}

fn interfaces(view: &View<'_>, findings: &mut Vec<Finding>) {
    let (model, quotas) = (view.model, view.quotas);
    let costs: Vec<usize> = model.groups.iter().map(|g| g.rules.iter().map(|rule| cost(view, rule)).sum()).collect();
    for (i, interface) in model.interfaces.iter().enumerate() {
        let spot = Spot::Interface(i);
        let used: usize = interface.groups.iter().map(|g| costs[*g]).sum();
        if near(used, quotas.rules_per_interface) {
            let message = format!(
                "{used} of {} rules apply here, a list counting its max_entries: past that, changes are refused",
                quotas.rules_per_interface
            );
            let advice = "remove what is needless, lower max_entries of its lists, or take it out of a group";
            findings.push(Finding::new(model, Code::QuotaNear, spot, message, advice).about("rules"));
        }
        let groups = interface.groups.len();
        if near(groups, quotas.groups_per_interface) {
            let message = format!("{groups} of {} groups", quotas.groups_per_interface);
            findings.push(Finding::new(model, Code::QuotaNear, spot, message, "merge groups").about("groups"));
        }
    }
}
