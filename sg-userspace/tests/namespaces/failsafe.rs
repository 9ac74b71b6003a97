//! The failsafe: management ports that rules cannot close, by real sockets.

use super::world::*;
use sg_userspace::testbed::{Daemon, echoes};

const ON: [&str; 2] = ["failsafe.ports = [22]", "failsafe.sources = [\"192.0.2.10\", \"2001:db8:99::10\"]"];
const OFF: [&str; 2] = ["failsafe.ports = []", "failsafe.sources = []"];

/// Everything is dropped at the highest priority; the client at .77 is a fellow member.
fn policy(world: &World, inner: &str) -> String {
    let drop = "direction: ingress, policy: drop, priority: 1, ip_protocol: tcp, port_range: 22/22";
    format!(
        "security_groups:\n- security_group_name: g\n  inner_access_policy: {inner}\n  permissions:\n\
         \x20 - {{{drop}, source_cidr_ip: 0.0.0.0/0}}\n\
         \x20 - {{{drop}, ipv6_source_cidr_ip: '::/0'}}\n{}\
         - {{private_ip_addresses: [192.0.2.77, 192.0.2.10], security_group_ids: [g]}}\n",
        world.interface("g")
    )
}

fn restart(world: &World, daemon: &mut Daemon<'_>, lines: &[&str]) {
    daemon.stop(libc::SIGTERM).unwrap();
    lines.iter().for_each(|line| daemon.configure(line).unwrap());
    if world.way == Way::Guest {
        // Unless it is named, a guest has none.
        let off = lines == OFF;
        daemon.configure(if off { "failsafe.devices = []" } else { "failsafe.devices = [\"tap*\"]" }).unwrap();
    }
    daemon.start().unwrap();
}

fn holds(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    world.instance.tcp_server(22).unwrap();
    world.instance.tcp_server(23).unwrap();
    let mut daemon = world.daemon();
    let ssh = |source: &str, port: u16| {
        let target = if source.starts_with('[') { "[2001:db8:1::10]" } else { "10.0.0.10" };
        from(&world.client, &format!("{source}:0"), &format!("{target}:{port}"))
    };
    let view = |daemon: &Daemon<'_>| daemon.interface(world.device()).unwrap();
    daemon.apply(&policy(&world, "drop"), &[]).unwrap();
    let (four, six) = ("192.0.2.10", "[2001:db8:99::10]");
    assert!(!ssh(four, 22) && !ssh(six, 22), "{way:?}: the rules drop it");
    let status = daemon.sgctl(&["status"]).unwrap().1;
    assert!(status.contains("failsafe: none"), "{status}");
    restart(&world, &mut daemon, &ON);
    let before = view(&daemon);
    assert!(ssh(four, 22) && ssh(six, 22), "{way:?}: {:?}", view(&daemon).reasons);
    let after = view(&daemon);
    let more = |name: &str| rule(&after, "ingress", name) - rule(&before, "ingress", name);
    assert_eq!((more("(failsafe 22)"), more("g[0]"), more("g[1]")), (2, 0, 0), "{way:?}: {:#?}", after.rules);
    assert_eq!(reason(&after, "ingress", "failsafe"), 2, "{way:?}: {:?}", after.reasons);
    assert_eq!(
        after.rules.iter().position(|r| r.rule == "(failsafe 22)"),
        Some(1),
        "before all rules: {:?}",
        after.rules
    );
    // Others, and other ports, are judged as before.
    assert!(!ssh("192.0.2.77", 22) && !ssh("[2001:db8:99::77]", 22) && !ssh(four, 23), "{way:?}");
    let last = view(&daemon);
    assert!(rule(&last, "ingress", "g[0]") > rule(&after, "ingress", "g[0]"), "{way:?}: {:#?}", last.rules);
    assert!(rule(&last, "ingress", "g[1]") > rule(&after, "ingress", "g[1]"), "{way:?}: {:#?}", last.rules);
    assert!(rule(&last, "ingress", "(default)") > rule(&after, "ingress", "(default)"), "{way:?}: {:#?}", last.rules);
    assert_eq!(reason(&last, "ingress", "failsafe"), 2, "{way:?}: {:?}", last.reasons);

    // Also before members of the same group, whom the other client is by now.
    daemon.apply(&policy(&world, "accept"), &[]).unwrap();
    assert!(ssh("192.0.2.77", 22) && ssh(four, 22));
    let members = view(&daemon);
    let counts = ["(failsafe 22)", "(members of g)"].map(|name| rule(&members, "ingress", name));
    assert_eq!(counts, [3, 1], "{way:?}: {:#?}", members.rules);
    daemon.apply(&policy(&world, "drop"), &[]).unwrap();

    // The evaluators know it, and say what it is.
    let flow = [world.device(), "ingress", "tcp", "10.0.0.10:22", "192.0.2.10:4000"];
    let why = daemon.sgctl(&[&["explain"], &flow[..]].concat()).unwrap().1;
    assert!(why.contains("(failsafe 22)") && why.contains("192.0.2.10/32"), "{why}");
    let open = daemon.sgctl(&["diagnose", world.device(), "tcp", "22", "--from", "192.0.2.10"]).unwrap().1;
    assert!(open.contains(" open ") && open.contains("(failsafe 22)"), "{open}");
    let lint = daemon.sgctl(&["lint"]).unwrap().1;
    assert!(!lint.contains("failsafe-open"), "{lint}");
    let status = daemon.sgctl(&["status"]).unwrap().1;
    let line = format!(
        "failsafe: tcp 22 from 192.0.2.10/32, 2001:db8:99::10/128, on {}",
        match way {
            Way::Guest => "tap*: tap0",
            _ => "all devices of side host: eth0",
        }
    );
    assert!(status.contains(&line), "{status}");

    // Flows are judged anew when it goes, and when it comes.
    let mut live = world.client.connect(to("10.0.0.10:22")).unwrap();
    assert!(echoes(&mut live, b"kept by it"));
    restart(&world, &mut daemon, &ON);
    assert!(echoes(&mut live, b"a restart changes nothing"), "{way:?}");
    assert!(rule(&view(&daemon), "ingress", "(failsafe 22)") >= 4, "its counter goes on: {:#?}", view(&daemon).rules);
    restart(&world, &mut daemon, &OFF);
    assert!(!echoes(&mut live, b"cut") && !ssh(four, 22), "{way:?}: {:?}", view(&daemon).reasons);
    let without = view(&daemon);
    assert!(reason(&without, "ingress", "cut") > 0, "{way:?}: {:?}", without.reasons);
    assert!(without.rules.iter().all(|r| r.rule != "(failsafe 22)"), "{:#?}", without.rules);
    restart(&world, &mut daemon, &ON);
    assert!(ssh(four, 22), "{way:?}");
    assert_eq!(rule(&view(&daemon), "ingress", "(failsafe 22)"), 1, "{:#?}", view(&daemon).rules);
}

#[test]
fn no_rule_closes_it_on_the_host_side() {
    holds(Way::HostTc);
}
#[test]
fn no_rule_closes_it_at_xdp() {
    holds(Way::HostXdp);
}
#[test]
fn no_rule_closes_it_on_the_guest_side() {
    holds(Way::Guest);
}

/// Two devices of one pattern, of which one has it: they share no policy.
#[test]
fn only_the_named_device_of_a_pattern_has_it() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.router.veth("eth7", &world.instance, "eth1").unwrap();
    let mut daemon = world.daemon();
    daemon.stop(libc::SIGTERM).unwrap();
    ON.iter().chain(&["failsafe.devices = [\"eth1\"]"]).for_each(|line| daemon.configure(line).unwrap());
    daemon.start().unwrap();
    let text = policy(&world, "drop").replace("device: eth0", "device: 'eth*'");
    daemon.apply(&text, &[]).unwrap();
    let has = |device: &str| daemon.interface(device).unwrap().rules.iter().any(|r| r.rule == "(failsafe 22)");
    assert!(has("eth1") && !has("eth0"));
    world.instance.tcp_server(22).unwrap();
    assert!(!world.client.tcp(to("10.0.0.10:22")).unwrap());
    let view = daemon.interface("eth0").unwrap();
    assert!(rule(&view, "ingress", "g[0]") > 0, "{:#?}", view.rules);
}

/// Whoever is logged in by SSH at the first start is told what keeps that open.
#[test]
fn a_first_start_suggests_one_from_the_sessions_there_are() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(22).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:22")).unwrap();
    assert!(echoes(&mut live, b"logged in"));
    let mut daemon = world.daemon();
    let source = "sources = [\"192.0.2.10/32\"]";
    eventually("the log has it", || daemon.log().contains(source));
    assert!(daemon.log().contains("ports = [22]") && daemon.log().contains("[failsafe]"), "{}", daemon.log());
    // Not once there is one.
    let said = |daemon: &Daemon<'_>| daemon.log().matches(source).count();
    let ready = |daemon: &Daemon<'_>, n: usize| {
        eventually("it is ready", || daemon.log().matches("ready on ").count() == n);
    };
    restart(&world, &mut daemon, &ON);
    ready(&daemon, 2);
    assert_eq!(said(&daemon), 1, "{}", daemon.log());
    // Nor when it is no first start.
    daemon.apply(&policy(&world, "drop"), &[]).unwrap();
    restart(&world, &mut daemon, &OFF);
    ready(&daemon, 3);
    assert_eq!(said(&daemon), 1, "{}", daemon.log());
}

/// Half a failsafe is found out when it is written, not when it is needed.
#[test]
fn what_is_wrong_with_it_is_said_by_check() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = world.daemon();
    daemon.configure("failsafe.ports = [22]").unwrap();
    let (good, said) = daemon.sgd(&["check"]).unwrap();
    assert!(!good && said.contains("failsafe.sources is empty"), "{said}");
    daemon.configure("failsafe.sources = [\"0.0.0.0/0\"]").unwrap();
    let (good, said) = daemon.sgd(&["check"]).unwrap();
    assert!(good && said.contains("warning: failsafe.sources has 0.0.0.0/0: everybody reaches tcp 22"), "{said}");
}
