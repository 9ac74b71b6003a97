//! Changes of members and prefix lists that patch a policy where it is: after
//! each the tables decide as if they had been compiled, and within each every
//! flow is decided as before or as after.

mod support;

use proptest::prelude::*;
use sg_userspace::{
    compiler::skeleton::sets,
    effective::Members,
    model::{Direction, Model},
    reference::{FlowQuery, Outcome, Reference},
};
use support::{
    Random,
    host::{ask, compiled, living, outcome},
    scale,
};

/// Changes of one document.
const ROUNDS: usize = 12;
/// Flows asked before, within and after each.
const FLOWS: usize = 40;

/// Changes in place, and rebuilds.
fn follow(seed: u64, scattered: bool) -> (usize, usize) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let groups = text.matches("- security_group_name").count();
    let text = if scattered { support::with_scattered(text) } else { text };
    let text = support::with_remote(text, groups);
    let mut model = support::model(&text);
    let mut instances = model.declared_instances();
    let mut grace = 0;
    let (mut changed, mut rebuilt) = (0, 0);
    let mut policies: Vec<_> = (0..4).map(|i| living(&model, &instances, i)).collect();
    for round in 0..ROUNDS {
        let before_model = model.clone();
        let before_instances = instances.clone();
        let touched = support::shuffle(&mut r, &mut model, &mut instances, groups);
        let flows: Vec<_> = (0..FLOWS).map(|_| support::flow_near(&mut r, &instances[..4], &touched)).collect();
        let (before, after) = (Reference::new(&before_model, &before_instances), Reference::new(&model, &instances));
        let members = Members::of_all(&model, &instances);
        for (i, (live, sources, tables)) in policies.iter_mut().enumerate() {
            let own: Vec<_> = flows.iter().filter(|(instance, _)| *instance == i).collect();
            let changes = live.difference(&sets(&model, &members, sources));
            if live.waits(grace) {
                grace += 1;
            }
            let Ok(steps) = live.change(&changes, grace) else {
                rebuilt += 1;
                (*live, *sources, *tables) = living(&model, &instances, i);
                continue;
            };
            changed += usize::from(!steps.is_empty());
            let checked = (steps.len() / 50).max(1);
            for (s, step) in steps.iter().enumerate() {
                tables.policy().step(step);
                for (_, q) in own.iter().filter(|_| s % checked == 0) {
                    let got: Outcome = outcome(tables, &ask(tables, q));
                    let either = [before.judge(i, q), after.judge(i, q)];
                    assert!(
                        either.contains(&got),
                        "seed {seed}, round {round}, step {s} {step:?}: {q:?}\n{got:?} is neither of {either:?}\n{text}"
                    );
                }
            }
            let fresh = compiled(&model, &instances, i);
            for (_, q) in own {
                let want = after.judge(i, q);
                assert_eq!(
                    outcome(tables, &ask(tables, q)),
                    want,
                    "seed {seed}, round {round}: {q:?}\n{changes:?}\n{steps:?}\n{text}"
                );
                assert_eq!(
                    outcome(&fresh, &ask(&fresh, q)),
                    want,
                    "compiled anew: seed {seed}, round {round}: {q:?}\n{text}"
                );
            }
        }
        if r.chance(30) {
            grace += 1;
        }
    }
    (changed, rebuilt)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150 * scale() as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patched_tables_agree_with_the_reference(seed: u64) {
        follow(seed, false);
    }
}

/// With members so many and so far apart that hash and trie hold them.
#[test]
fn patched_hash_and_trie_agree_with_the_reference() {
    let (mut changed, mut rebuilt) = (0, 0);
    for seed in 1..=6 * scale() {
        let (c, r) = follow(seed, true);
        (changed, rebuilt) = (changed + c, rebuilt + r);
    }
    eprintln!("{changed} changes in place, {rebuilt} rebuilds");
    assert!(changed > 20 && rebuilt * 5 < changed, "{changed} in place, {rebuilt} rebuilds");
}

/// What does not need a rebuild does not get one.
#[test]
fn most_changes_are_made_in_place() {
    let (mut changed, mut rebuilt) = (0, 0);
    for seed in 1..=30 {
        let (c, r) = follow(seed, false);
        (changed, rebuilt) = (changed + c, rebuilt + r);
    }
    eprintln!("{changed} changes in place, {rebuilt} rebuilds");
    assert!(rebuilt * 10 < changed, "{changed} in place, {rebuilt} rebuilds");
}

/// The first interface of a document, its lists as given from now on.
fn with_lists(text: &str, before: [&[&str]; 2], after: [&[&str]; 2], ask_of: &str, port: u16) -> Option<Vec<Outcome>> {
    let mut model = support::model(text);
    let instances = model.declared_instances();
    let put = |model: &mut Model, lists: [&[&str]; 2]| {
        for (list, entries) in model.prefix_lists.iter_mut().zip(lists) {
            list.entries = entries.iter().map(|e| e.parse().unwrap()).collect();
        }
    };
    put(&mut model, before);
    let (mut live, sources, mut tables) = living(&model, &instances, 0);
    put(&mut model, after);
    let changes = live.difference(&sets(&model, &Members::of_all(&model, &instances), &sources));
    let q = FlowQuery {
        direction: Direction::Inbound,
        protocol: 6,
        local: "10.0.0.1".parse().unwrap(),
        remote: ask_of.parse().unwrap(),
        local_port: port,
        remote_port: 5555,
        icmp_type: 0,
        icmp_code: 0,
    };
    let steps = live.change(&changes, 0).ok()?;
    let mut outcomes = vec![outcome(&tables, &ask(&tables, &q))];
    for step in steps {
        tables.policy().step(&step);
        outcomes.push(outcome(&tables, &ask(&tables, &q)));
    }
    outcomes.dedup();
    Some(outcomes)
}

/// A prefix and one inside it, both new: what lies in both is never under one alone.
#[test]
fn a_prefix_inside_a_new_one_is_never_judged_by_the_outer_alone() {
    let text = "security_groups:\n- security_group_name: g0\n  permissions:\n\
                \x20 - {direction: ingress, policy: drop, priority: 1, ip_protocol: tcp, port_range: 80/80, source_prefix_list_id: l1}\n\
                \x20 - {direction: ingress, priority: 2, ip_protocol: tcp, port_range: 80/80, source_prefix_list_id: l0}\n\
                prefix_lists: [{prefix_list_name: l0}, {prefix_list_name: l1}]\n\
                network_interfaces:\n- {device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [g0]}\n";
    for text in [text.to_owned(), support::with_scattered(text.to_owned())] {
        let outcomes = with_lists(&text, [&[], &[]], [&["20.0.0.0/8"], &["20.1.0.0/16"]], "20.1.2.3", 80).unwrap();
        assert_eq!(outcomes.iter().map(|o| o.rule).collect::<Vec<_>>(), [None, Some(0)], "{outcomes:?}");
        let back = with_lists(&text, [&["20.0.0.0/8"], &["20.1.0.0/16"]], [&[], &[]], "20.1.2.3", 80).unwrap();
        assert_eq!(back.iter().map(|o| o.rule).collect::<Vec<_>>(), [Some(0), None], "{back:?}");
    }
}

/// Services that only a rule behind another tells apart share a column while all
/// addresses of the one are of the other, too; that takes a rebuild once they are not.
#[test]
fn services_that_have_to_part_take_a_rebuild() {
    let text = "security_groups:\n- security_group_name: g0\n  permissions:\n\
                \x20 - {direction: ingress, policy: drop, priority: 1, ip_protocol: tcp, port_range: 1/65535, source_prefix_list_id: l0}\n\
                \x20 - {direction: ingress, priority: 2, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 20.0.0.0/8}\n\
                \x20 - {direction: ingress, policy: drop, priority: 2, ip_protocol: tcp, port_range: 81/81, source_cidr_ip: 20.0.0.0/8}\n\
                prefix_lists: [{prefix_list_name: l0}, {prefix_list_name: l1}]\n\
                network_interfaces:\n- {device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [g0]}\n";
    assert_eq!(with_lists(text, [&["20.0.0.0/8"], &[]], [&[], &[]], "20.1.2.3", 80), None);
    let outcomes = with_lists(text, [&[], &[]], [&["20.0.0.0/8"], &[]], "20.1.2.3", 80).unwrap();
    assert_eq!(outcomes.iter().map(|o| o.rule).collect::<Vec<_>>(), [Some(1), Some(0)], "{outcomes:?}");
}
