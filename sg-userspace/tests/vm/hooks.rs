//! The hooks at which this kernel runs the program, over veth.

use super::machine::*;
use crate::world::*;

const INSTANCE: [&str; 2] = ["10.0.0.10", "[2001:db8:1::10]"];

#[test]
fn tc_is_tcx_where_the_kernel_has_it_and_clsact_below() {
    let Some(kernel) = kernel() else { return };
    let world = World::new(Way::HostTc);
    servers(&world.instance);
    let daemon = world.daemon();
    daemon.apply(&policy("eth0", "hook: tc"), &[]).unwrap();
    let view = judged(&daemon, "eth0", &world.client, INSTANCE);
    assert_eq!(view.status.hooks, [kernel.tc(), kernel.tc()]);
}
