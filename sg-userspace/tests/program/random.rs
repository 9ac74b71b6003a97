//! Random documents and flows: kernel == host pipeline == reference.

use sg_userspace::reference::Reference;

use crate::support::{self, Random, host, kernel::probe, many};

const FLOWS: usize = 60;

#[test]
fn the_kernel_agrees_with_the_reference() {
    let Some(mut probe) = probe() else { return };
    for seed in 1..=many(200, 2000) {
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
        let compiled: Vec<_> = (0..4).map(|i| host::compiled(&model, &instances, i)).collect();
        for xdp in [false, true] {
            let outcomes = probe.judge(&model, &instances, &flows, xdp).unwrap();
            for ((instance, q), got) in flows.iter().zip(outcomes) {
                assert_eq!(got, reference.judge(*instance, q), "seed {seed}, xdp {xdp}, {instance}, {q:?}\n{text}");
                let on_host = &compiled[*instance];
                assert_eq!(
                    got,
                    host::outcome(on_host, &host::ask(on_host, q)),
                    "seed {seed}, {instance}, {q:?}\n{text}"
                );
            }
        }
    }
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
