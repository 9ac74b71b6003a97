//! Random documents and flows: kernel == reference. That the pipeline on the
//! host agrees, too, is the differential test's business.

use sg_userspace::reference::Reference;

use crate::support::{self, Random, kernel::probe, scale};

const FLOWS: usize = 300;

#[test]
fn the_kernel_agrees_with_the_reference() {
    let Some(mut probe) = probe() else { return };
    for seed in 1..=40 * scale() {
        let mut r = Random::new(seed);
        let text = support::document(&mut r);
        let model = support::model(&text);
        let instances = model.declared_instances();
        let reference = Reference::new(&model, &instances);
        let flows: Vec<_> = (0..FLOWS).map(|_| support::flow(&mut r, &instances)).collect();
        for xdp in [false, true] {
            let outcomes = probe.judge(&model, &instances, &flows, xdp).unwrap();
            for ((instance, q), got) in flows.iter().zip(outcomes) {
                assert_eq!(got, reference.judge(*instance, q), "seed {seed}, xdp {xdp}, {instance}, {q:?}\n{text}");
            }
        }
    }
}
