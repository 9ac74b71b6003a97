//! Compiled tables, run through the pipeline on the host, agree with the
//! evaluator of record on random documents and flows.

mod support;

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use proptest::prelude::*;
use sg_common::reason::{Reason, Verdict};
use sg_userspace::{
    diagnose::{Check, Question, State},
    effective::{Entry, Members, PolicyKey, Remote, entries},
    explain::trace::{Field, Met, trace},
    model::{Direction, Instance, Model, Ports},
    reference::{FlowQuery, Reference},
};
use support::{
    Random,
    host::{Compiled, ask, compiled, outcome},
    scale,
};

/// Flows asked of each document.
const FLOWS: usize = 100;

fn agree(seed: u64) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let model = support::with_failsafe(seed, support::model(&text));
    let instances = model.declared_instances();
    let reference = Reference::new(&model, &instances);
    let mut cache: HashMap<usize, Compiled> = HashMap::new();
    for _ in 0..FLOWS {
        let (instance, q) = support::flow(&mut r, &instances);
        let compiled = cache.entry(instance).or_insert_with(|| compiled(&model, &instances, instance));
        let want = reference.judge(instance, &q);
        let got = outcome(compiled, &ask(compiled, &q));
        assert_eq!(got, want, "seed {seed}, instance {instance}, {q:?}\n{text}");
    }
}

/// The first field that keeps a rule from matching is the true one: a flow that has there
/// what the rule asks for, and is the same otherwise, gets further.
fn near_misses_are_true(seed: u64) {
    let mut r = Random::new(seed);
    let model = support::with_failsafe(seed, support::model(&support::document(&mut r)));
    let instances = model.declared_instances();
    let reference = Reference::new(&model, &instances);
    for _ in 0..50 {
        let (instance, q) = support::flow(&mut r, &instances);
        let told = trace(&model, &instances, instance, &q);
        let outcome = reference.judge(instance, &q);
        assert_eq!((told.verdict.as_str(), told.reason.as_str()), (outcome.verdict.name(), outcome.reason.name()));
        let rule = outcome.group.zip(outcome.rule).map(|(g, r)| format!("{}[{r}]", model.groups[g].name));
        assert_eq!(
            told.decider().map(|at| told.order[at].rule.clone()).filter(|_| rule.is_some()),
            rule,
            "seed {seed}"
        );
        let key = PolicyKey::of(&model, &instances[instance]);
        let entries = entries(&model, &key, q.direction);
        for (entry, row) in entries.iter().zip(&told.order) {
            let Met::Fails { field, more, .. } = &row.met else { continue };
            let Some(flipped) = flipped(&model, &instances, entry, *field, &q) else { continue };
            let now = trace(&model, &instances, instance, &flipped);
            let now = &now.order[told.order.iter().position(|other| other == row).unwrap()].met;
            match now {
                Met::Fails { field: next, more: left, .. } => {
                    assert!(next > field && left < more, "seed {seed}: {row:?}: {now:?}");
                }
                _ => assert_eq!(*more, 0, "seed {seed}: {row:?}: {now:?}"),
            }
        }
    }
}

/// A flow with one field as a rule asks for it; `None` where that makes no flow.
fn flipped(model: &Model, instances: &[Instance], e: &Entry, field: Field, q: &FlowQuery) -> Option<FlowQuery> {
    let mut q = *q;
    let same = |ip: &IpAddr| ip.is_ipv4() == q.remote.is_ipv4();
    let (source, destination) = match q.direction {
        Direction::Inbound => (&mut q.remote_port, &mut q.local_port),
        Direction::Outbound => (&mut q.local_port, &mut q.remote_port),
    };
    match field {
        Field::Protocol => {
            let protocol = e.protocol?;
            q.protocol = protocol;
        }
        Field::Port => {
            *destination = match &e.ports {
                Ports::Any => return None,
                Ports::Range(first, _) => *first,
                Ports::List(i) => model.port_lists[*i].entries.first()?.0,
            }
        }
        Field::SourcePort => *source = e.source_ports?.0,
        Field::Remote => {
            q.remote = match e.remote {
                Remote::Net(net) => Some(net.network()).filter(same)?,
                Remote::List(i) => model.prefix_lists[i].entries.iter().map(|n| n.network()).find(same)?,
                Remote::Members(g) => Members::of_all(model, instances).of(g).find(same)?,
                Remote::Failsafe => model.failsafe.as_ref()?.sources.iter().map(|n| n.network()).find(same)?,
                Remote::Public => return None,
            }
        }
        Field::Local => q.local = Some(e.local?.network()).filter(same)?,
    }
    Some(q)
}

/// Who reaches a service, as it is told, is who the evaluator lets in.
fn who_reaches_what(seed: u64) {
    let mut r = Random::new(seed);
    let model = support::with_failsafe(seed, support::model(&support::document(&mut r)));
    let instances = model.declared_instances();
    let reference = Reference::new(&model, &instances);
    for _ in 0..60 {
        let (instance, q) = support::flow(&mut r, &instances);
        let own = &instances[instance].addresses;
        if q.direction != Direction::Inbound || !own.contains(&q.local) {
            continue;
        }
        let outcome = reference.judge(instance, &q);
        if !matches!(outcome.reason, Reason::Rule | Reason::IntraGroup | Reason::Failsafe | Reason::Default) {
            continue;
        }
        let port = matches!(q.protocol, 6 | 17).then_some(q.local_port).filter(|port| *port > 0);
        let check = Check { protocol: q.protocol.to_string(), port, name: String::new() };
        let source = Some(IpNet::from(q.remote));
        let question = Question { model: &model, instances: &instances, instance, source };
        let Ok(rows) = question.answer(&[check]) else { continue };
        let accepts = outcome.verdict == Verdict::Accept;
        match rows[0].state {
            State::Open => assert!(accepts, "seed {seed}: {q:?}: {rows:?}"),
            State::Closed => assert!(!accepts, "seed {seed}: {q:?}: {rows:?}"),
            // By some ports, or at some of its addresses.
            State::Partly => assert!(rows[0].sources[0].contains("only"), "seed {seed}: {rows:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000 * scale() as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_tables_agree_with_the_reference(seed: u64) {
        agree(seed);
    }

    #[test]
    fn who_reaches_what_is_told_truly(seed: u64) {
        who_reaches_what(seed);
    }

    #[test]
    fn what_keeps_a_rule_from_matching_is_told_truly(seed: u64) {
        near_misses_are_true(seed);
    }
}

/// Found by the test above: duplicate address detection from `::`.
#[test]
fn seeds_that_once_failed() {
    agree(13_384_397_360_455_100_928);
    agree(200_867_648_952_353_778);
}

/// Too many distinct services for a matrix, and the largest rule number.
#[test]
fn a_thousand_rules_agree_with_the_reference() {
    let rules: String = (0..1000)
        .map(|i| {
            let policy = if i % 3 == 0 { "drop" } else { "accept" };
            format!(
                "  - {{direction: ingress, policy: {policy}, priority: {}, ip_protocol: tcp, port_range: {}/{}, source_cidr_ip: 10.{}.0.0/{}}}\n",
                i % 100 + 1, i + 1, i + 1 + i % 50, i % 250, 12 + i % 13
            )
        })
        .collect();
    let text = format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n{rules}network_interfaces: [{{device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [g]}}]\n"
    );
    let model = support::model(&text);
    let instances = model.declared_instances();
    let compiled = compiled(&model, &instances, 0);
    let reference = Reference::new(&model, &instances);
    let mut r = Random::new(7);
    for _ in 0..2000 {
        let q = FlowQuery {
            direction: sg_userspace::model::Direction::Inbound,
            protocol: 6,
            local: "10.0.0.1".parse().unwrap(),
            remote: std::net::IpAddr::from([10, r.below(255) as u8, r.below(4) as u8, 9]),
            local_port: r.below(1100) as u16,
            remote_port: 5555,
            icmp_type: 0,
            icmp_code: 0,
        };
        assert_eq!(outcome(&compiled, &ask(&compiled, &q)), reference.judge(0, &q), "{q:?}");
    }
}
