//! Random documents and flows: kernel == host pipeline == reference.

use sg_userspace::{
    dataplane::probe::{Probe, entry_of, outcome},
    packet::first_packet,
    reference::Reference,
};

use crate::support::{self, Random, host, kernel::probe, many};

const FLOWS: usize = 60;

/// Judges the flows of some documents at both hooks, each with an empty conntrack.
fn judged(mut probe: Probe, seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        // Every so often more than table and list hold: the kernel's hash and trie.
        let scattered = seed % 8 == 0;
        let text = if scattered { support::with_scattered(text) } else { text };
        let model = support::with_failsafe(seed, support::model(&text));
        let instances = model.declared_instances();
        let reference = Reference::new(&model, &instances);
        let mut flows: Vec<_> = (0..FLOWS).map(|_| support::flow(&mut r, &instances[..4])).collect();
        for (_, q) in flows.iter_mut().filter(|_| scattered).step_by(2) {
            let near = support::scattered(r.below(support::SCATTERED + 20));
            q.remote = near[usize::from(q.local.is_ipv6())];
        }
        for instance in 0..4 {
            // The kernel takes its time to put a policy in force: once for both hooks.
            let origins = probe.prepare(&model, &instances, instance).unwrap();
            let compiled = host::compiled(&model, &instances, instance);
            let side = model.interfaces[instances[instance].interface].side;
            for (q, xdp) in flows.iter().filter(|f| f.0 == instance).flat_map(|f| [(&f.1, false), (&f.1, true)]) {
                let frame = first_packet(q, [2, 0, 0, 0, 0, 1]);
                let (verdict, event) = probe.run(entry_of(side, q.direction, xdp), &frame).unwrap();
                probe.forget(probe.zone(), &event).unwrap();
                let got = outcome(verdict, &event, &origins).unwrap();
                assert_eq!(got, reference.judge(instance, q), "seed {seed}, xdp {xdp}, {instance}, {q:?}\n{text}");
                let on_host = host::outcome(&compiled, &host::ask(&compiled, q));
                assert_eq!(got, on_host, "seed {seed}, {instance}, {q:?}\n{text}");
            }
        }
    }
}

#[test]
fn the_kernel_agrees_with_the_reference() {
    // Two of them, as each waits for the kernel most of the time.
    let Some(probes) = probe().zip(probe()) else { return };
    let documents = many(200, 2000);
    std::thread::scope(|scope| {
        scope.spawn(|| judged(probes.0, (1..=documents).step_by(2)));
        scope.spawn(|| judged(probes.1, (2..=documents).step_by(2)));
    });
}

/// The verifier walks at most a million instructions; room is left for older
/// kernels that prune less well.
#[test]
fn the_verifier_has_room_to_spare() {
    let Some(mut probe) = probe() else { return };
    for (name, instructions) in probe.verified_instructions().unwrap() {
        eprintln!("{name}: {instructions} instructions verified");
        assert!(instructions > 0 && instructions < 250_000, "{name}: {instructions}");
    }
}
