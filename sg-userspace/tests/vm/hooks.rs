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

/// The filter of a clsact qdisc has no pin that goes when another takes its place.
#[test]
fn a_change_between_xdp_and_tc_judges_no_packet_twice() {
    let Some(kernel) = kernel() else { return };
    let world = World::new(Way::HostTc);
    servers(&world.instance);
    let daemon = world.daemon();
    for (hook, place) in [("hook: tc", kernel.tc()), ("hook: xdp", "xdp"), ("hook: tc", kernel.tc())] {
        daemon.apply(&policy("eth0", hook), &[]).unwrap();
        let before = daemon.interface("eth0").unwrap();
        assert_eq!(before.status.hooks, [place, kernel.tc()]);
        assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
        let after = daemon.interface("eth0").unwrap();
        assert_eq!(rule(&after, "ingress", "g[0]"), rule(&before, "ingress", "g[0]") + 1, "{hook}");
        let packets = reason(&after, "ingress", "established") - reason(&before, "ingress", "established");
        // ACK, data, ACK, FIN, ACK: twice that if each were judged twice.
        assert!(packets < 8, "{hook}: {packets}: {:?}", after.reasons);
    }
}
