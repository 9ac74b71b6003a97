//! Compiled tables, run through the pipeline on the host, agree with the
//! evaluator of record on random documents and flows.

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use sg_common::{
    generation::{Generation, flags},
    reason::{Reason, Verdict},
};
use sg_ebpf::{Direct, Scratch, conntrack::Clock, packet::Bytes, pipeline, verdict::Decision};
use sg_userspace::{
    compiler::{
        compile,
        host::{HostPolicy, HostTables},
    },
    effective::{Origin, PolicyKey},
    model::{Instance, Model, Side},
    packet::first_packet,
    reference::{FlowQuery, Outcome, Reference},
};
use support::{Random, scale};

/// Flows asked of each document.
const FLOWS: usize = 100;

struct Compiled {
    tables: HostTables,
    origins: Vec<Origin>,
    generation: Generation,
}

fn compiled(model: &Model, instances: &[Instance], instance: usize) -> Compiled {
    let interface = &model.interfaces[instances[instance].interface];
    let mut origins = Vec::new();
    let tables = compile(model, instances, &PolicyKey::of(interface), |origin| {
        origins.push(origin);
        origins.len() as u32
    })
    .unwrap();
    let mut generation = empty_generation();
    if interface.side == Side::Guest {
        generation.flags |= flags::GUEST;
    }
    if interface.source_check {
        generation.flags |= flags::SOURCE_CHECK;
    }
    let own = instances[instance].addresses.iter().map(|a| (*a).into()).collect();
    Compiled { tables: HostTables { policy: HostPolicy::new(&tables), own }, origins, generation }
}

fn empty_generation() -> Generation {
    Generation {
        deadline: 0,
        policy: 0,
        epoch: 1,
        previous: 0,
        shadow: 0,
        zone: 1,
        slot: 0,
        flags: 0,
        drain_until: 0,
        tcp_established: 910,
        udp: 30,
        tcp_closed: 3,
        on_change: 0,
        mac: [0; 6],
        policy_class: 0,
    }
}

fn ask(compiled: &Compiled, q: &FlowQuery) -> Decision {
    let frame = first_packet(q, [2, 0, 0, 0, 0, 1]);
    let mut scratch = Scratch::default();
    scratch.begin(Clock { now: 1000, hz: 250 }, q.direction);
    let packet = Bytes::new(&frame);
    pipeline(&Direct { packet: &packet, tables: &compiled.tables }, &compiled.generation, &mut scratch)
}

fn outcome(compiled: &Compiled, d: &Decision) -> Outcome {
    let reason = Reason::from_u8(d.reason).unwrap();
    let (group, rule) = match d.rule.checked_sub(1).map(|i| compiled.origins[i as usize]) {
        Some(Origin::Rule(g, r)) => (Some(g), Some(r)),
        Some(Origin::IntraGroup(g)) => (Some(g), None),
        _ => (None, None),
    };
    Outcome { verdict: if d.is_accept() { Verdict::Accept } else { Verdict::Drop }, reason, group, rule }
}

fn agree(seed: u64) {
    let mut r = Random::new(seed);
    let text = support::document(&mut r);
    let model = support::model(&text);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000 * scale() as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_tables_agree_with_the_reference(seed: u64) {
        agree(seed);
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
