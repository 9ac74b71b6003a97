//! Compiled tables, run through the pipeline on the host, agree with the
//! evaluator of record on random documents and flows.

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use sg_userspace::reference::{FlowQuery, Reference};
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
