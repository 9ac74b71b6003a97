//! Changes of members and prefix lists that patch a policy where it is: after
//! each the tables decide as if they had been compiled, and within each every
//! flow is decided as before or as after.

mod support;

use proptest::prelude::*;
use sg_userspace::{
    compiler::skeleton::sets,
    effective::Members,
    reference::{Outcome, Reference},
};
use support::{
    Random,
    host::{ask, compiled, outcome},
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
    let mut living: Vec<_> = (0..4).map(|i| support::host::living(&model, &instances, i)).collect();
    for round in 0..ROUNDS {
        let before_model = model.clone();
        let before_instances = instances.clone();
        let touched = support::shuffle(&mut r, &mut model, &mut instances, groups);
        let flows: Vec<_> = (0..FLOWS).map(|_| support::flow_near(&mut r, &instances[..4], &touched)).collect();
        let (before, after) = (Reference::new(&before_model, &before_instances), Reference::new(&model, &instances));
        let members = Members::of_all(&model, &instances);
        for (i, (live, sources, tables)) in living.iter_mut().enumerate() {
            let own: Vec<_> = flows.iter().filter(|(instance, _)| *instance == i).collect();
            let changes = live.difference(&sets(&model, &members, sources));
            if live.waits(grace) {
                grace += 1;
            }
            let Ok(steps) = live.change(&changes, grace) else {
                rebuilt += 1;
                (*live, *sources, *tables) = support::host::living(&model, &instances, i);
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
