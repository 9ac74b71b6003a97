//! Conntrack short of room: what the daemon says, what `sgctl status` shows, and
//! that nobody is refused.

use sg_userspace::{daemon::protocol::Status, testbed::echoes};

use super::world::*;

#[test]
fn short_of_room() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(80).unwrap();
    let mut daemon = world.daemon();
    // One interface may hold 20 flows of a family, one remote 18, who comes by IPv6 any number.
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("conntrack.flows_per_interface = 20").unwrap();
    daemon.configure("conntrack.flows_per_remote = 18").unwrap();
    daemon.configure("conntrack.management = ['2001:db8:99::/64']").unwrap();
    daemon.start().unwrap();
    daemon
        .apply(
            &format!(
                "security_groups:\n- security_group_name: g\n  permissions:\n\
                 \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n\
                 \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_source_cidr_ip: '::/0'}}\n{}",
                world.interface("g")
            ),
            &[],
        )
        .unwrap();
    let status = || -> Status {
        let (done, text) = daemon.sgctl(&["status", "-o", "json"]).unwrap();
        assert!(done, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let said = |what: &str| std::fs::read_to_string(daemon.dir().join("sgd.log")).unwrap().matches(what).count();
    let used = |status: &Status, name: &str| {
        let share = status.conntrack.interfaces.iter().find(|s| s.name == name).unwrap();
        (share.used, share.of)
    };
    let at_rest = status();
    assert_eq!(used(&at_rest, "eth0 IPv4"), (0, 20));
    assert_eq!((at_rest.conntrack.flows_per_remote, at_rest.conntrack.talkers.len()), (18, 0));

    let mut open: Vec<_> = (0..30).map(|_| world.client.connect(to("10.0.0.10:80")).unwrap()).collect();
    let mut managed: Vec<_> = (0..25).map(|_| world.client.connect(to("[2001:db8:1::10]:80")).unwrap()).collect();
    // All are served, those past the quota, too.
    assert!(open.iter_mut().chain(&mut managed).all(|stream| echoes(stream, b"hello")));
    let full = status();
    assert_eq!((used(&full, "eth0 IPv4"), used(&full, "eth0 IPv6")), ((18, 20), (25, 20)));
    let talkers: Vec<_> =
        full.conntrack.talkers.iter().map(|t| (t.device.as_str(), t.remote.as_str(), t.flows)).collect();
    assert_eq!(talkers, [("eth0", "192.0.2.10", 30), ("eth0", "2001:db8:99::/64", 25)]);
    let (_, text) = daemon.sgctl(&["status"]).unwrap();
    assert!(text.contains("eth0 IPv4 18 of 20") && text.contains("192.0.2.10 on eth0: 30 flows"), "{text}");
    let shares = text.lines().skip_while(|line| !line.starts_with("confirmed flows by"));
    assert!(shares.chain(text.lines().take(3)).all(|line| line.chars().count() <= 80), "{text}");

    // Once for each family, however long it lasts.
    eventually("the daemon says so", || said("conntrack is short of room") == 2);
    assert_eq!(said("192.0.2.10 on eth0: 30"), 2);
    drop((open, managed));
    // Closed flows go seconds after their timeout.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while said("conntrack has room again") < 2 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    eventually("the daemon says so, too", || said("conntrack has room again") == 2);
    assert_eq!(said("conntrack is short of room"), 2);
    assert_eq!(used(&status(), "eth0 IPv4").0, 0);
}
