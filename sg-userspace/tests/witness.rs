//! The differences of two policies are so, by the evaluator of record: on random pairs, a
//! flow is judged otherwise exactly when it lies in a difference, and each difference has
//! a packet that shows it. Documents that say the same differ in nothing.

mod support;

use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use sg_common::reason::Reason;
use sg_userspace::{
    effective::{Members, Origin, PolicyKey},
    lint::space::Budget,
    model::{Direction, Group, Instance, Model, Object, Ports, Rule, Verdict},
    reference::{FlowQuery, Outcome, Reference, before_rules},
    witness::{BUDGET, Deciders, Difference, Found, Policy, compare},
};
use support::{Random, scale};

/// Flows asked of each interface.
const FLOWS: usize = 150;

/// A policy with all that judges it.
struct Whole {
    model: Model,
    instances: Vec<Instance>,
    members: Members,
}

impl Whole {
    fn of(model: Model) -> Self {
        let instances = model.declared_instances();
        let members = Members::of_all(&model, &instances);
        Self { model, instances, members }
    }

    fn place(&self, i: usize) -> (&sg_userspace::model::Interface, &Instance) {
        (&self.model.interfaces[self.instances[i].interface], &self.instances[i])
    }
}

fn differences(before: &Whole, after: &Whole, instance: usize, most: usize) -> Found {
    let keys = [before, after].map(|w| PolicyKey::of(&w.model, w.place(instance).1));
    let [before, after] =
        [(before, &keys[0]), (after, &keys[1])].map(|(w, key)| Policy { model: &w.model, members: &w.members, key });
    compare(&before, &after, most, &mut Budget(BUDGET))
}

fn origin(outcome: &Outcome) -> Option<Origin> {
    match outcome.reason {
        Reason::Rule => outcome.group.zip(outcome.rule).map(|(g, r)| Origin::Rule(g, r)),
        Reason::IntraGroup => outcome.group.map(Origin::IntraGroup),
        Reason::Smtp => Some(Origin::Smtp),
        Reason::Provider => Some(Origin::Provider),
        _ => None,
    }
}

fn names(deciders: &Deciders, outcome: &Outcome) -> bool {
    // Which of its ports it was is told by the port.
    let is_failsafe = |o: &Option<Origin>| matches!(o, Some(Origin::Failsafe(_)));
    let by_it = outcome.reason == Reason::Failsafe && deciders.some.iter().any(is_failsafe);
    deciders.more || by_it || deciders.some.contains(&origin(outcome))
}

/// One flow, by both policies and by their differences.
fn agrees(whole: [&Whole; 2], references: &[Reference<'_>; 2], i: usize, q: &FlowQuery, found: &[Difference]) {
    if whole.iter().any(|w| before_rules(w.place(i).0, w.place(i).1, q).is_some()) {
        return;
    }
    let [before, after] = references.each_ref().map(|r| r.judge(i, q));
    let there: Vec<_> = found.iter().filter(|d| d.contains(q)).collect();
    match there.as_slice() {
        [] => assert_eq!(before.verdict, after.verdict, "no difference has it: {q:?}, {before:?}, {after:?}"),
        [d] => {
            assert_eq!((before.verdict, after.verdict), (d.from(), d.to), "{q:?} of {d:?}");
            assert!(names(&d.before, &before) && names(&d.after, &after), "{q:?}, {before:?}, {after:?} of {d:?}");
        }
        more => panic!("several have it: {q:?} of {more:?}"),
    }
}

fn hold(r: &mut Random, before: &Whole, after: &Whole) -> usize {
    let references = [before, after].map(|w| Reference::new(&w.model, &w.instances));
    let mut all = 0;
    for i in 0..before.instances.len() {
        let found = differences(before, after, i, usize::MAX / 4);
        assert!(!found.cut && found.count == found.shown.len() as u64);
        assert!(found.shown.is_sorted_by(|a, b| a.size() >= b.size()));
        let few = differences(before, after, i, 3);
        assert_eq!((few.count, few.shown.as_slice()), (found.count, &found.shown[..found.shown.len().min(3)]));
        all += found.shown.len();
        for d in &found.shown {
            let Some(q) = d.sample(before.place(i), after.place(i)) else { continue };
            assert!(d.contains(&q), "{q:?} of {d:?}");
            let [old, new] = references.each_ref().map(|r| r.judge(i, &q).verdict);
            assert_eq!((old, new), (d.from(), d.to), "{q:?} of {d:?}");
        }
        let mut named = [nets(before), nets(after)].concat();
        named.extend(found.shown.iter().flat_map(|d| d.peer.except.iter().chain([&d.peer.prefix])));
        for _ in 0..FLOWS {
            let whole = if r.chance(50) { before } else { after };
            let rules: Vec<&Rule> = whole.model.groups.iter().flat_map(|g| &g.rules).collect();
            let instance = &whole.instances[i];
            let q = if rules.is_empty() || r.chance(30) {
                support::flow_near(r, std::slice::from_ref(instance), &named).1
            } else {
                let rule = rules[r.below(rules.len())];
                support::near(r, &whole.model, rule, instance, &named)
            };
            agrees([before, after], &references, i, &q, &found.shown);
        }
    }
    all
}

fn nets(w: &Whole) -> Vec<IpNet> {
    support::nets(&w.model, &w.instances)
}

/// A rule of a model, if it has any.
fn one_rule<'a>(r: &mut Random, model: &'a mut Model) -> Option<&'a mut Vec<Rule>> {
    let g = r.below(model.groups.len());
    Some(&mut Arc::make_mut(&mut model.groups[g]).rules).filter(|rules| !rules.is_empty())
}

/// Changes a few things of some rules.
fn altered(r: &mut Random, model: &Model) -> Model {
    let mut model = model.clone();
    for _ in 0..=r.below(3) {
        let what = r.below(6);
        let Some(rules) = one_rule(r, &mut model) else { continue };
        let n = r.below(rules.len());
        match what {
            0 => drop(rules.remove(n)),
            1 => rules[n].verdict = if r.chance(50) { Verdict::Accept } else { Verdict::Drop },
            2 => rules[n].priority = 1 + r.below(4) as u8,
            3 => rules[n].local = None,
            4 => rules[n].source_ports = None,
            _ if matches!(rules[n].protocol, Some(6 | 17)) => {
                let first = 1 + r.below(9000) as u16;
                rules[n].ports = Ports::Range(first, first + r.below(50) as u16);
            }
            _ => rules[n].protocol = Some(6),
        }
    }
    model
}

fn random_pairs_hold(seed: u64) {
    let mut r = Random::new(seed);
    let texts = [support::document(&mut r), support::document(&mut r)];
    let before = Whole::of(support::with_failsafe(seed, support::model(&texts[0])));
    let other = |text| support::with_failsafe(seed, support::model(text));
    let after = Whole::of(if r.chance(50) { altered(&mut r, &before.model) } else { other(&texts[1]) });
    println!("seed {seed}");
    hold(&mut r, &before, &after);
}

/// The two halves of a prefix.
fn halves(net: IpNet) -> Option<[IpNet; 2]> {
    let mut halves = net.subnets(net.prefix_len() + 1).ok()?;
    Some([halves.next()?, halves.next()?])
}

/// Says the same in other words: rules shuffled, split, one word of a list alone.
fn reworded(r: &mut Random, model: &Model) -> Model {
    let mut model = model.clone();
    let (prefixes, ports) = (model.prefix_lists.clone(), model.port_lists.clone());
    for group in &mut model.groups {
        let Group { rules, .. } = Arc::make_mut(group);
        let mut other = Vec::new();
        for rule in rules.drain(..) {
            let objects: Vec<Object> = match rule.object {
                Object::Cidr(net) if r.chance(50) => {
                    halves(net).map_or(vec![Object::Cidr(net)], |halves| halves.map(Object::Cidr).into())
                }
                Object::PrefixList(l) if r.chance(50) => {
                    prefixes[l].entries.iter().copied().map(Object::Cidr).collect()
                }
                ref object => vec![object.clone()],
            };
            for object in objects {
                let split: Vec<Ports> = match rule.ports {
                    Ports::Range(first, last) if first < last && r.chance(50) => {
                        let middle = first + r.below(usize::from(last - first)) as u16;
                        vec![Ports::Range(first, middle), Ports::Range(middle + 1, last)]
                    }
                    Ports::List(l) if r.chance(50) => {
                        ports[l].entries.iter().map(|(first, last)| Ports::Range(*first, *last)).collect()
                    }
                    ref ports => vec![ports.clone()],
                };
                other.extend(split.into_iter().map(|ports| Rule { ports, object: object.clone(), ..rule.clone() }));
            }
        }
        while !other.is_empty() {
            rules.push(other.swap_remove(r.below(other.len())));
        }
    }
    model
}

fn same_is_nothing(seed: u64) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let one = Whole::of(support::with_failsafe(seed, support::model(&text)));
    let other = Whole::of(reworded(&mut r, &one.model));
    for i in 0..one.instances.len() {
        for (a, b) in [(&one, &one), (&one, &other), (&other, &one)] {
            assert_eq!(differences(a, b, i, 20), Found::default(), "seed {seed}, instance {i}\n{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200 * scale() as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_is_judged_otherwise_exactly_where_it_is_told(seed: u64) {
        random_pairs_hold(seed);
    }

    #[test]
    fn other_words_are_no_difference(seed: u64) {
        same_is_nothing(seed);
    }
}

/// Random pairs are not all alike, or there would be nothing to see.
#[test]
fn most_pairs_differ() {
    let mut differ = 0;
    for seed in 0..20 {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        let before = Whole::of(support::model(&text));
        let after = Whole::of(altered(&mut r, &before.model));
        differ += usize::from(hold(&mut r, &before, &after) > 0);
    }
    assert!(differ > 10, "{differ}");
}

fn group(rules: &[&str]) -> Whole {
    let rules: String = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
    Whole::of(support::model(&format!(
        "security_groups:\n- security_group_name: g\n  inner_access_policy: drop\n  permissions:\n{rules}network_interfaces:\n\
         - {{device: e, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [g]}}\n"
    )))
}

fn told(before: &[&str], after: &[&str]) -> Vec<String> {
    let found = differences(&group(before), &group(after), 0, 100);
    assert!(!found.cut);
    let line = |d: &Difference| {
        let ports = d.ports.map_or(String::new(), |(a, b)| format!(" {a}-{b}"));
        let sources = d.source_ports.map_or(String::new(), |(a, b)| format!(" by {a}-{b}"));
        let local = d.local.as_ref().map_or(String::new(), |l| format!(" at {}", l.text()));
        let word = if d.to == Verdict::Accept { "allowed" } else { "denied" };
        let direction = d.direction.name();
        format!("{word} {direction} {} {}{ports}{sources}{local}", d.protocols.text(), d.peer.text())
    };
    found.shown.iter().map(line).collect()
}

const TCP22: &str = "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip";

#[test]
fn what_lies_side_by_side_is_one() {
    let of = |net: &str| format!("{TCP22}: {net}");
    assert_eq!(told(&[], &[&of("10.0.0.0/9"), &of("10.128.0.0/9")]), ["allowed ingress tcp 10.0.0.0/8 22-22"]);
    let ports =
        |range: &str| format!("direction: ingress, ip_protocol: udp, port_range: {range}, source_cidr_ip: 10.0.0.0/8");
    assert_eq!(told(&[], &[&ports("1/9"), &ports("10/20")]), ["allowed ingress udp 10.0.0.0/8 1-20"]);
    let all = "direction: ingress, ip_protocol: all, ipv6_source_cidr_ip: '2001:db8::/32'";
    assert_eq!(told(&[all], &[]), ["denied ingress all 2001:db8::/32"]);
    // One address of many is told as the exception that it is.
    let open = of("0.0.0.0/0");
    let deny = format!("{}, policy: drop", of("192.0.2.7/32"));
    assert_eq!(told(&[], &[&open, &deny]), ["allowed ingress tcp 0.0.0.0/0 except 192.0.2.7/32 22-22"]);
    assert_eq!(told(&[&open], &[&open, &deny]), ["denied ingress tcp 192.0.2.7/32 22-22"]);
}

#[test]
fn what_decides_before_the_rules_is_no_part() {
    // DHCP always passes, whatever a rule says of it.
    let dhcp =
        "direction: ingress, ip_protocol: udp, port_range: 68/68, source_port_range: 67/67, source_cidr_ip: 10.0.0.0/8";
    assert!(told(&[], &[dhcp]).is_empty());
    let near = dhcp.replace("67/67", "66/67");
    assert_eq!(told(&[], &[&near]), ["allowed ingress udp 10.0.0.0/8 68-68 by 66-67"]);
    // Mail and metadata are decided by invisible rules, which stay.
    let out = "direction: egress, policy: drop, ip_protocol: tcp, port_range: 20/30, dest_cidr_ip: 0.0.0.0/0";
    let public = "0.0.0.0/0 except 100.100.100.200/32";
    let mut lines = told(&[], &[out]);
    assert_eq!(lines.remove(0), format!("denied egress tcp {public} 20-24"));
    assert_eq!(lines.remove(0), format!("denied egress tcp {public} 26-30"));
    assert_eq!(lines[0], "denied egress tcp 10.0.0.0/8 25-25");
    assert_eq!(lines.len(), 6, "{lines:?}");
}

/// A thousand rules with ports and prefixes of their own, lists, and six thousand members.
fn large(shift: usize, swap: usize) -> Whole {
    use std::fmt::Write;
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    for i in 0..980 {
        let policy = if (i + swap).is_multiple_of(3) { "drop" } else { "accept" };
        let _ = writeln!(
            text,
            "  - {{direction: ingress, policy: {policy}, priority: {}, ip_protocol: tcp, port_range: {}/{}, source_cidr_ip: 10.{}.{}.0/{}}}",
            i % 100 + 1,
            i + 1 + shift,
            i + 1 + shift + i % 50,
            (i + shift) % 250,
            i % 7,
            12 + i % 13
        );
    }
    for i in 0..20 {
        let port = 2000 + i + shift;
        let _ = writeln!(
            text,
            "  - {{direction: ingress, priority: 50, ip_protocol: tcp, port_range: {port}/{port}, source_group_id: m}}"
        );
    }
    text += "- security_group_name: m\nnetwork_interfaces:\n- {device: e, private_ip_addresses: [192.0.2.1], security_group_ids: [g]}\n";
    for i in 0..6000 {
        let address = std::net::IpAddr::from([10, 200, (i / 125) as u8, (i % 125 * 2 + shift % 2) as u8]);
        let _ = writeln!(text, "- {{private_ip_addresses: [{address}], security_group_ids: [m]}}");
    }
    Whole::of(support::model(&text))
}

#[test]
fn large_policies_are_compared_whole() {
    let (first, again) = (large(0, 0), large(0, 0));
    for (what, other) in [("equal", &again), ("one verdict in three", &large(0, 1)), ("all of it", &large(1, 0))] {
        let start = std::time::Instant::now();
        let found = differences(&first, other, 0, 20);
        println!("{what}: {} differences in {:?}", found.count, start.elapsed());
        assert!(!found.cut);
        assert_eq!(found.count == 0, what == "equal");
    }
}

#[test]
fn a_budget_that_ends_is_told() {
    let (before, after) = (large(0, 0), large(1, 0));
    let keys = [&before, &after].map(|w| PolicyKey::of(&w.model, w.place(0).1));
    let policy = |w: usize| {
        let whole = [&before, &after][w];
        Policy { model: &whole.model, members: &whole.members, key: &keys[w] }
    };
    let found = compare(&policy(0), &policy(1), 20, &mut Budget(100_000));
    assert!(found.cut && found.shown.len() <= 20);
    assert!(found.shown.iter().all(|d| d.direction == Direction::Inbound));
}
