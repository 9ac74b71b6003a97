//! The daemon's own life: killed, restarted, detached; devices that appear.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::world::*;
use sg_userspace::testbed::echoes;

fn policy(world: &World) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    )
}

fn survives(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    world.instance.tcp_server(80).unwrap();
    world.instance.tcp_server(81).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if !echoes(&mut live, &[7; 20_000]) {
                    return false;
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            true
        });
        let goes_on = || {
            let seen = rounds.load(Ordering::Relaxed);
            eventually("the transfer goes on", || rounds.load(Ordering::Relaxed) > seen + 3);
        };
        goes_on();
        daemon.stop(libc::SIGKILL).unwrap();
        goes_on();
        assert!(!world.client.tcp(to("10.0.0.10:81")).unwrap(), "{way:?}: the rules hold without a daemon");
        assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
        daemon.start().unwrap();
        goes_on();
        stop.store(true, Ordering::Relaxed);
        assert!(transfer.join().unwrap(), "{way:?}: the transfer was never cut");
    });
    let view = daemon.interface(world.device()).unwrap();
    assert_eq!(rule(&view, "ingress", "g[0]"), 2, "{way:?}: counters were kept: {:?}", view.rules);
    assert_eq!(reason(&view, "ingress", "cut"), 0);
    assert!(!world.client.tcp(to("10.0.0.10:81")).unwrap());
    // An ordered end leaves the protection in place, too.
    daemon.stop(libc::SIGTERM).unwrap();
    assert!(!world.client.tcp(to("10.0.0.10:81")).unwrap());
    let (done, text) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{text}");
    // The kernel takes the last link down on a worker of its own.
    eventually("the device is open again", || world.client.tcp(to("10.0.0.10:81")).unwrap());
}

#[test]
fn killed_and_restarted_on_the_host_side() {
    survives(Way::HostTc);
}
#[test]
fn killed_and_restarted_at_clsact() {
    survives(Way::HostClsact);
}
#[test]
fn killed_and_restarted_at_xdp() {
    survives(Way::HostXdp);
}
#[test]
fn killed_and_restarted_on_the_guest_side() {
    survives(Way::Guest);
}

#[test]
fn a_change_of_hooks_judges_no_packet_twice() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(80).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let original = std::fs::read_to_string(daemon.dir().join("sgd.toml")).unwrap();
    for (line, hooks) in [("tcx = false", "clsact"), ("tcx = true", tc_place())] {
        daemon.stop(libc::SIGTERM).unwrap();
        std::fs::write(daemon.dir().join("sgd.toml"), &original).unwrap();
        daemon.configure(line).unwrap();
        daemon.start().unwrap();
        assert_eq!(daemon.interface("eth0").unwrap().status.hooks, [hooks, hooks]);
        let before = rule(&daemon.interface("eth0").unwrap(), "ingress", "g[0]");
        let established = reason(&daemon.interface("eth0").unwrap(), "ingress", "established");
        assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
        let view = daemon.interface("eth0").unwrap();
        assert_eq!(rule(&view, "ingress", "g[0]"), before + 1);
        // ACK, data, ACK, FIN, ACK: twice that if each were judged twice.
        assert!(reason(&view, "ingress", "established") - established < 8, "{:?}", view.reasons);
    }
}

#[test]
fn a_device_that_appears_is_protected() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    let text = "security_groups:\n- security_group_name: g\nnetwork_interfaces:\n\
                - {device: 'late*', side: guest, security_group_ids: [g]}\n";
    let said = daemon.apply(text, &[]).unwrap();
    assert!(said.contains("protected as soon as they appear): late*"), "{said}");
    world.router.ip("link add late0 type veth peer name other0").unwrap();
    eventually("late0 is protected", || daemon.interface("late0").is_ok());
    assert!(daemon.interface("other0").is_err(), "what is not named is not touched");
    world.router.ip("link del late0").unwrap();
    eventually("late0 is forgotten", || daemon.interface("late0").is_err());
    world.router.ip("link add late0 type veth peer name other0").unwrap();
    eventually("late0 is protected again", || daemon.interface("late0").is_ok());
}

/// The device goes and another comes with its index while no daemon runs: the
/// new one is bound, and no flow of the old one lets anybody in.
#[test]
fn a_reused_index_inherits_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    world.instance.tcp_server(80).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let index = daemon.interface("tap0").unwrap().status.index;
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    daemon.stop(libc::SIGKILL).unwrap();
    world.router.ip("link del tap0").unwrap();
    let path = world.instance.path();
    world.router.ip(&format!("link add tap0 index {index} type veth peer name eth0 netns {path}")).unwrap();
    world.router.ip("link set tap0 up").unwrap();
    world.instance.ip("link set eth0 up").unwrap();
    world.router.address("tap0", &["10.0.0.1/24"]).unwrap();
    world.instance.address("eth0", &["10.0.0.10/24"]).unwrap();
    world.instance.ip("route add default via 10.0.0.1").unwrap();
    daemon.start().unwrap();
    let view = daemon.interface("tap0").unwrap();
    assert_eq!((view.status.index, view.status.hooks.len()), (index, 2));
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
    // The old connection is judged anew, in the new device's own zone.
    let before = rule(&daemon.interface("tap0").unwrap(), "ingress", "g[0]");
    assert!(echoes(&mut live, b"after"), "the rules admit it in its midst");
    assert_eq!(rule(&daemon.interface("tap0").unwrap(), "ingress", "g[0]"), before + 1);
}

#[test]
fn applying_twice_writes_nothing_and_export_is_the_identity() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let before = daemon.interface("tap0").unwrap().status.epoch;
    let said = daemon.apply(&policy(&world), &[]).unwrap();
    assert!(said.contains("in force as it is") && said.contains("nothing had to be changed"), "{said}");
    let (done, exported) = daemon.sgctl(&["export"]).unwrap();
    assert!(done);
    let said = daemon.apply(&exported, &[]).unwrap();
    assert!(said.contains("in force as it is"), "{said}");
    assert_eq!(daemon.interface("tap0").unwrap().status.epoch, before);
}
