//! What of the quotas a policy uses: what is refused when it is too much, and told while
//! it is not.

use std::collections::HashSet;

use crate::model::{GroupType, Model, Object, Ports, Rule};

/// What a rule counts for on its interface: lists count with their `max_entries`.
fn cost(model: &Model, rule: &Rule) -> usize {
    let object = if let Object::PrefixList(i) = rule.object { model.prefix_lists[i].max_entries } else { 0 };
    let ports = if let Ports::List(i) = rule.ports { model.port_lists[i].max_entries } else { 0 };
    (object + ports).max(1)
}

/// Rules that apply to each interface, by its index.
pub fn rules(model: &Model) -> Vec<usize> {
    let costs: Vec<usize> = model.groups.iter().map(|g| g.rules.iter().map(|rule| cost(model, rule)).sum()).collect();
    model.interfaces.iter().map(|i| i.groups.iter().map(|&g| costs[g]).sum()).collect()
}

/// Member addresses of a basic group, member interfaces of an enterprise group, by its index.
pub fn members(model: &Model) -> Vec<usize> {
    let mut members = vec![0; model.groups.len()];
    for interface in &model.interfaces {
        for &g in &interface.groups {
            members[g] += match model.groups[g].kind {
                GroupType::Normal => interface.addresses.len(),
                GroupType::Enterprise => 1,
            };
        }
    }
    members
}

/// Groups whose rules name each prefix list, by its index: an update of it touches them all.
pub fn list_groups(model: &Model) -> Vec<usize> {
    let mut named = vec![0; model.prefix_lists.len()];
    for group in &model.groups {
        let lists =
            group.rules.iter().filter_map(|r| if let Object::PrefixList(i) = r.object { Some(i) } else { None });
        lists.collect::<HashSet<_>>().into_iter().for_each(|i| named[i] += 1);
    }
    named
}

/// Rules of each group that name a group, by its index.
pub fn group_rules(model: &Model) -> Vec<usize> {
    let names_one = |r: &&Rule| matches!(r.object, Object::Group(_));
    model.groups.iter().map(|g| g.rules.iter().filter(names_one).count()).collect()
}
