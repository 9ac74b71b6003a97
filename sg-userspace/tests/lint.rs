//! What is said of rules is so, by the evaluator of record: on random documents, a rule
//! that is called needless changes no verdict when it is removed; and one that is not has
//! a packet that shows it.

mod support;

use std::{net::IpAddr, sync::Arc};

use proptest::prelude::*;
use sg_common::reason::Reason;
use sg_userspace::{
    effective::{Members, Origin, PolicyKey},
    lint::{
        Code, Subject,
        fate::{Fate, Judged, judge},
        lint,
        space::Budget,
    },
    model::{Direction, Instance, Model, Side},
    reference::{Outcome, Reference},
    validate::Quotas,
};
use support::{Random, near, nets, scale};

/// Flows asked of each rule that is called needless.
const FLOWS: usize = 60;

fn without(model: &Model, g: usize, r: usize) -> Model {
    let mut model = model.clone();
    Arc::make_mut(&mut model.groups[g]).rules.remove(r);
    model
}

/// Nothing but one rule.
fn alone(model: &Model, g: usize, r: usize) -> Model {
    let mut model = model.clone();
    for (i, group) in model.groups.iter_mut().enumerate() {
        let group = Arc::make_mut(group);
        group.inner_accept = false;
        group.rules = if i == g { vec![group.rules[r].clone()] } else { Vec::new() };
    }
    model
}

/// Findings of rules, which hold for the whole policy.
fn findings_hold(seed: u64) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let model = support::with_failsafe(seed, support::model(&text));
    let instances = model.declared_instances();
    let quotas = Quotas::default();
    let before = Reference::new(&model, &instances);
    let nets = nets(&model, &instances);
    let needless = [Code::RuleCovered, Code::RuleRedundant, Code::RuleMatchesNothing, Code::RuleNamesEmpty];
    let subject = Subject { model: &model, instances: &instances, quotas: &quotas, document: None };
    for finding in lint(&subject).into_iter().filter(|f| needless.contains(&f.code)) {
        let name = finding.place.security_group.as_deref().expect("a group");
        let g = model.groups.iter().position(|g| g.name == name).expect("its group");
        let rule = finding.place.rule.expect("a rule");
        let other = without(&model, g, rule);
        let after = Reference::new(&other, &instances);
        for _ in 0..FLOWS {
            let i = r.below(instances.len());
            let q = near(&mut r, &model, &model.groups[g].rules[rule], &instances[i], &nets);
            assert_eq!(
                before.judge(i, &q).verdict,
                after.judge(i, &q).verdict,
                "seed {seed}, {finding:?}, instance {i}, {q:?}\n{text}"
            );
        }
    }
}

fn judged(model: &Model, instances: &[Instance], instance: usize, direction: Direction) -> Judged {
    let members = Members::of_all(model, instances);
    let key = PolicyKey::of(model, &instances[instance]);
    judge(model, &members, &[], &key, direction, &mut Budget(u64::MAX)).expect("small")
}

fn place(origin: Option<Origin>) -> Option<(usize, usize)> {
    if let Some(Origin::Rule(g, r)) = origin { Some((g, r)) } else { None }
}

/// What is said of each rule of each policy: needless ones are, all others are not.
fn fates_hold(seed: u64) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let mut model = support::with_failsafe(seed, support::model(&text));
    // The source check is not looked at.
    model.interfaces.iter_mut().for_each(|i| Arc::make_mut(i).side = Side::Host);
    let instances = model.declared_instances();
    let before = Reference::new(&model, &instances);
    let nets = nets(&model, &instances);
    for (i, instance) in instances.iter().enumerate() {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let judged = judged(&model, &instances, i, direction);
            for (line, fate) in judged.lines.iter().zip(&judged.fates) {
                let Some(Origin::Rule(g, n)) = line.origin else { continue };
                let said = || format!("seed {seed}, instance {i}, group {g}, rule {n}: {fate:?}\n{text}");
                let other = without(&model, g, n);
                let after = Reference::new(&other, &instances);
                if let Fate::Needed(witness) = fate {
                    let q = witness.unwrap_or_else(|| panic!("all addresses are known: {}", said()));
                    let with = before.judge(i, &q);
                    assert_eq!((with.group, with.rule), (Some(g), Some(n)), "{q:?} {}", said());
                    assert_ne!(with.verdict, after.judge(i, &q).verdict, "{q:?} {}", said());
                    continue;
                }
                let own = alone(&model, g, n);
                let own = Reference::new(&own, &instances);
                for _ in 0..FLOWS {
                    let q = near(&mut r, &model, &model.groups[g].rules[n], instance, &nets);
                    let with = before.judge(i, &q);
                    assert_eq!(with.verdict, after.judge(i, &q).verdict, "{q:?} {}", said());
                    let matches = own.judge(i, &q).reason == Reason::Rule;
                    let decides = (with.group, with.rule) == (Some(g), Some(n));
                    let named = |lines: &[usize], o: &Outcome| match o.reason {
                        Reason::Rule => lines.iter().any(|l| o.group.zip(o.rule) == place(judged.lines[*l].origin)),
                        _ => true,
                    };
                    match fate {
                        // One that matches all of it may itself be hidden in part.
                        Fate::Hidden(before) if before.len() == 1 => {
                            assert!(!decides, "{q:?} {}", said());
                            if let Some((g, n)) = place(judged.lines[before[0]].origin).filter(|_| matches) {
                                let cover = alone(&model, g, n);
                                let cover = Reference::new(&cover, &instances).judge(i, &q);
                                assert_eq!(cover.reason, Reason::Rule, "{q:?} {}", said());
                            }
                        }
                        Fate::Hidden(before) => {
                            assert!(!decides, "{q:?} {}", said());
                            assert!(!matches || named(before, &with), "{q:?} by {with:?} {}", said());
                        }
                        Fate::Spare { before, after: instead, .. } if matches => {
                            let mut without = after.judge(i, &q);
                            // The rules behind it have moved up.
                            let moved = without.group == Some(g) && without.rule >= Some(n);
                            without.rule = without.rule.map(|r| r + usize::from(moved));
                            assert!(decides || named(before, &with), "{q:?} by {with:?} {}", said());
                            assert!(!decides || named(instead, &without), "{q:?} by {without:?} {}", said());
                        }
                        Fate::Empty => assert!(!matches, "{q:?} {}", said()),
                        _ => {}
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200 * scale() as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_needless_rule_changes_no_verdict(seed: u64) {
        findings_hold(seed);
    }

    #[test]
    fn each_rule_is_needed_or_not_as_told(seed: u64) {
        fates_hold(seed);
    }
}

/// A thousand rules with ports and prefixes of their own, and six thousand members of a group that some name.
fn large() -> String {
    use std::fmt::Write;
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    for i in 0..980 {
        let policy = if i % 3 == 0 { "drop" } else { "accept" };
        let _ = writeln!(
            text,
            "  - {{direction: ingress, policy: {policy}, priority: {}, ip_protocol: tcp, port_range: {}/{}, source_cidr_ip: 10.{}.{}.0/{}}}",
            i % 100 + 1,
            i + 1,
            i + 1 + i % 50,
            i % 250,
            i % 7,
            12 + i % 13
        );
    }
    for i in 0..20 {
        let _ = writeln!(
            text,
            "  - {{direction: ingress, priority: 50, ip_protocol: tcp, port_range: {0}/{0}, source_group_id: m}}",
            2000 + i
        );
    }
    text += "- security_group_name: m\nnetwork_interfaces:\n- {device: e, private_ip_addresses: [192.0.2.1], security_group_ids: [g]}\n";
    for i in 0..6000 {
        let address = IpAddr::from([10, 200, (i / 250) as u8, (i % 250) as u8]);
        let _ = writeln!(text, "- {{private_ip_addresses: [{address}], security_group_ids: [m]}}");
    }
    text
}

#[test]
fn a_large_policy_is_looked_at_whole() {
    let model = support::model(&large());
    let instances = model.declared_instances();
    let quotas = Quotas::default();
    let start = std::time::Instant::now();
    let findings = lint(&Subject { model: &model, instances: &instances, quotas: &quotas, document: None });
    println!("{} findings in {:?}", findings.len(), start.elapsed());
    assert!(findings.iter().all(|f| f.code != Code::NotLookedAt));
    assert!(findings.iter().any(|f| f.code == Code::QuotaNear));
}
