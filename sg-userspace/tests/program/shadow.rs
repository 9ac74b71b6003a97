//! A candidate beside the policy in force: exactly the flows that it decides otherwise are
//! remembered, and nothing is decided otherwise.

use std::collections::BTreeMap;

use sg_common::{
    flow::FlowKey,
    generation::{Generation, flags},
    reason::{Reason, Verdict},
    shadow::pack,
    watch::{Tell, stream},
};
use sg_userspace::{
    compiler::compile,
    dataplane::{
        clock::possible_cpus,
        probe::{Entry, Probe, generation_of},
    },
    effective::PolicyKey,
    model::Direction,
    packet::first_packet,
    reference::{FlowQuery, Reference},
};

use crate::support::{self, Random, kernel::probe, many};

const BEFORE: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 1000/1999, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: udp, port_range: 1/2999, ipv6_source_cidr_ip: '2001:db8::/32'}
  - {direction: egress, policy: drop, ip_protocol: udp, port_range: 53/53, dest_cidr_ip: 192.0.2.0/25}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [g]}
";

/// Differs in one rule: 1900 to 2099 in place of 1000 to 1999.
fn after() -> String {
    BEFORE.replace("1000/1999", "1900/2099")
}

fn flow(r: &mut Random, n: u64) -> FlowQuery {
    let v4 = r.chance(70);
    let [a, b] = [(n >> 8) as u8, n as u8];
    let port = (900 + r.below(1400)) as u16;
    FlowQuery {
        direction: if r.chance(80) { Direction::Inbound } else { Direction::Outbound },
        protocol: if r.chance(70) { 6 } else { 17 },
        local: if v4 { [10, 0, 0, 5].into() } else { "2001:db8::5".parse().unwrap() },
        remote: if v4 {
            [192, 0, [2, 2, 3][r.below(3)], b].into()
        } else {
            format!("2001:db8:{a:x}::{b:x}").parse().unwrap()
        },
        local_port: port,
        // So that no two are one flow.
        remote_port: 10_000 + (n % 50_000) as u16,
        icmp_type: 0,
        icmp_code: 0,
    }
}

#[test]
fn exactly_the_flows_that_differ_are_remembered() {
    let Some(mut probe) = probe() else { return };
    let (before, after) = (support::model(BEFORE), support::model(&after()));
    let instances = before.declared_instances();
    let key = PolicyKey::of(&before, &instances[0]);
    let mut held = Vec::new();
    let mut classes = [0; 2];
    for (i, model) in [&before, &after].into_iter().enumerate() {
        let tables = compile(model, &instances, &key, |_| i as u32 + 1).unwrap();
        classes[i] = tables.size_class() as u32;
        held.push(probe.install(i as u32, &tables).unwrap());
    }
    let plain = Generation { policy_class: classes[0], ..generation_of(&before, &instances[0], 1) };
    let shadowed = Generation { flags: plain.flags | flags::SHADOW, shadow: pack(1, classes[1]), zone: 2, ..plain };
    probe.quiet().unwrap();

    let (now, then) = (Reference::new(&before, &instances), Reference::new(&after, &instances));
    let mut r = Random::new(7);
    let count = many(10_000, 100_000);
    let mut expected = BTreeMap::new();
    for n in 0..count {
        let q = flow(&mut r, n);
        let entry = if q.direction == Direction::Inbound { Entry::Xdp } else { Entry::TcOut };
        let frame = first_packet(&q, [2, 0, 0, 0, 0, 1]);
        let verdict = now.judge(0, &q).verdict;
        for generation in [&plain, &shadowed] {
            probe.enforce(generation).unwrap();
            assert_eq!(probe.passes(entry, &frame).unwrap(), verdict == Verdict::Accept, "{q:?}");
        }
        let (a, b) = (now.judge(0, &q), then.judge(0, &q));
        if a.verdict != b.verdict {
            let flow = (q.local, q.remote, q.local_port, q.remote_port, q.protocol);
            expected.insert(flow, (q.direction as u8, a.verdict as u8, a.reason as u8, b.reason as u8));
        }
    }
    let mut found = BTreeMap::new();
    let shadow = &probe.maps().shadow;
    shadow
        .each(|key: &FlowKey, d| {
            let flow = (key.local.into(), key.remote.into(), key.local_port, key.remote_port, key.protocol());
            assert_eq!((d.packets, key.zone), (1, 2), "{flow:?}");
            // Counters of the first policy are 1, of the second 2, of a default 0.
            assert_eq!(d.rule, u32::from(d.reason == Reason::Rule as u8));
            assert_eq!(d.shadow_rule, 2 * u32::from(d.shadow_reason == Reason::Rule as u8));
            found.insert(flow, (d.direction, d.verdict, d.reason, d.shadow_reason));
        })
        .unwrap();
    assert!(expected.len() > count as usize / 20, "{}", expected.len());
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
    let sums = |probe: &Probe| {
        let compared = probe.maps().shadowed.get_per_cpu(&0, possible_cpus()).unwrap();
        compared.iter().fold((0, 0), |sum, c| (sum.0 + c.judged, sum.1 + c.left_out))
    };
    assert_eq!(sums(&probe), (count, 0));

    // Also one that somebody hears of is compared once.
    let mut tell = Tell { window: 1_000_000, version: 1, ..Tell::NOTHING };
    tell.tokens[stream::WATCH] = 1000;
    tell.reasons[stream::WATCH] = [!0, !0];
    probe.tell(&tell).unwrap();
    for n in 0..100 {
        let q = FlowQuery { direction: Direction::Inbound, local_port: 5000 + n, ..flow(&mut r, count) };
        assert!(!probe.passes(Entry::Xdp, &first_packet(&q, [2, 0, 0, 0, 0, 1])).unwrap());
    }
    assert_eq!((sums(&probe), probe.events()), ((count + 100, 0), 100));
}
