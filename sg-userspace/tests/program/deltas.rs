//! Changes of addresses on the real maps: no outer map is written, and the
//! program decides as the reference does.

use sg_common::maps;
use sg_userspace::{
    compiler::skeleton::sets,
    dataplane::probe::{entry_of, generation_of, outcome},
    effective::Members,
    packet::first_packet,
    reference::Reference,
};

use crate::support::{self, Random, host::living, kernel::probe, scale};

const ROUNDS: usize = 6;
const FLOWS: usize = 40;

#[test]
fn patched_maps_agree_with_the_reference() {
    let Some(mut probe) = probe() else { return };
    assert_eq!(maps::POLICIES.len(), probe.maps().policies.len());
    let (mut changed, mut rebuilt, mut zone) = (0, 0, 1000);
    for seed in 1..=8 * scale() {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        let groups = text.matches("- security_group_name").count();
        // Every other time more than table and list hold.
        let text = if seed % 2 == 0 { support::with_scattered(text) } else { text };
        let text = support::with_remote(text, groups);
        let mut model = support::model(&text);
        let mut instances = model.declared_instances();
        let (mut live, mut sources, host) = living(&model, &instances, 0);
        // Of the host's copy the lists are still whole.
        let mut held = probe.install(0, host.tables()).unwrap();
        let mut grace = 0;
        for round in 0..ROUNDS {
            let touched = support::shuffle(&mut r, &mut model, &mut instances, groups);
            let members = Members::of_all(&model, &instances);
            let changes = live.difference(&sets(&model, &members, &sources));
            grace += u64::from(live.waits(grace));
            let maps = probe.maps();
            let inner = || {
                let flat = maps.policies.iter().map(|m| m.get(&0).unwrap()).collect::<Vec<_>>();
                (flat, maps.hosts.get(&0).unwrap(), maps.prefixes.get(&0).unwrap())
            };
            let before = inner();
            match live.change(&changes, grace) {
                Ok(steps) => {
                    held.write(&steps).unwrap();
                    assert_eq!(inner(), before, "an outer map was written");
                    changed += usize::from(!steps.is_empty());
                }
                Err(_) => {
                    let anew = living(&model, &instances, 0);
                    (live, sources) = (anew.0, anew.1);
                    sg_userspace::dataplane::policies::remove(maps, 0).unwrap();
                    held = probe.install(0, anew.2.tables()).unwrap();
                    rebuilt += 1;
                }
            }
            zone += 1;
            let mut generation = generation_of(&model, &instances[0], zone);
            generation.policy_class = live.tables.size_class() as u32;
            probe.enforce(&generation).unwrap();
            for &own in &instances[0].addresses {
                probe.own(zone, own).unwrap();
            }
            let reference = Reference::new(&model, &instances);
            for _ in 0..FLOWS {
                let (_, q) = support::flow_near(&mut r, &instances[..1], &touched);
                let side = model.interfaces[0].side;
                let frame = first_packet(&q, [2, 0, 0, 0, 0, 1]);
                let (verdict, event) = probe.run(entry_of(side, q.direction, r.chance(50)), &frame).unwrap();
                probe.forget(zone, &event).unwrap();
                let got = outcome(verdict, &event, host.origins()).unwrap();
                assert_eq!(got, reference.judge(0, &q), "seed {seed}, round {round}, {q:?}\n{changes:?}\n{text}");
            }
        }
    }
    eprintln!("{changed} changes in place, {rebuilt} rebuilds");
    assert!(changed > 10 && rebuilt * 4 < changed, "{changed} in place, {rebuilt} rebuilds");
}
