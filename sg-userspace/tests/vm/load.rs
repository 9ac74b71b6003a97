//! The whole object, verified by this kernel.

use super::machine::kernel;
use crate::support::kernel::probe;

/// The limit is the same as on the newest kernel: older ones prune less well.
#[test]
fn the_verifier_accepts_every_program_within_its_budget() {
    let Some(kernel) = kernel() else { return };
    let mut probe = probe().unwrap();
    let counts = probe.verified_instructions().unwrap();
    assert_eq!(counts.len(), 3);
    for (name, instructions) in counts {
        println!("kernel {:?}: {name}: {instructions} instructions verified", kernel.version);
        assert!(instructions > 0 && instructions < 250_000, "{name}: {instructions}");
    }
}
