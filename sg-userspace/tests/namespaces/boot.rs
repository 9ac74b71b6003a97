//! The protection stands before the network does.

use std::{
    net::UdpSocket,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use sg_userspace::{daemon::protocol::InterfaceView, testbed::Daemon};

use super::{
    foreign::{Foreign, XDP_PASS},
    world::*,
};

const UNIT: &str = include_str!("../../../packaging/sgd.service");

/// The service manager's end, as long as this lives.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn of(daemon: &mut Daemon<'_>) -> Self {
        let path = daemon.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        daemon.under(&["env", &format!("NOTIFY_SOCKET={}", path.display())]);
        Self { socket }
    }
    fn said(&self) -> String {
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).expect("word from the daemon");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }
}

/// As after a boot: the policy is stored, nothing is in the kernel.
fn booted<'a>(world: &'a World, policy: &str) -> Daemon<'a> {
    let mut daemon = world.daemon();
    daemon.apply(policy, &[]).unwrap();
    daemon.stop(libc::SIGTERM).unwrap();
    let (done, text) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{text}");
    daemon
}

fn policy(world: &World) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 5000/5000, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    )
}

/// Numbers that arrived.
fn drain(socket: &UdpSocket) -> Vec<u64> {
    let mut buffer = [0; 8];
    std::iter::from_fn(|| (socket.recv(&mut buffer).ok()? == 8).then(|| u64::from_ne_bytes(buffer))).collect()
}

fn total(view: &InterfaceView, direction: &str) -> u64 {
    view.reasons.iter().filter(|r| r.direction == direction).map(|r| r.packets).sum()
}

/// A peer sends to an open and to a closed port, from before the link is up.
fn no_packet_comes_before_the_policy(way: Way) {
    let world = World::new(way);
    let mut daemon = booted(&world, &policy(&world));
    let guest = way == Way::Guest;
    // The guest's link comes up at the host's end, which is the one protected.
    let (net, device) = if guest { (&world.router, "tap0") } else { (&world.instance, "eth0") };
    let receiver = |port: u16| {
        let socket = world.instance.run(|| Ok(UdpSocket::bind(("0.0.0.0", port))?)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let (open, closed) = (receiver(5000), receiver(5001));
    // So that the first packet is there when the link is, not after a question for an address.
    let mac = link_address(&world);
    net.ip(&format!("link set {device} down")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            world.router.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                let mut n = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // No route as long as there is no link, and then some.
                    for port in [5001, 5000] {
                        let _ = socket.send_to(&n.to_ne_bytes(), ("10.0.0.10", port));
                    }
                    n += 1;
                    // A rate, not a wait: so that no queue is full.
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(())
            })
        });
        let up = || {
            net.ip(&format!("link set {device} up")).unwrap();
            // The route and the neighbour had gone with the link.
            let _ = world.router.ip(&format!("neigh replace 10.0.0.10 lladdr {mac} dev tap0 nud permanent"));
        };
        let checks = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Without the daemon both ports hear it: the test can fail.
            up();
            eventually("packets come without a policy", || !drain(&closed).is_empty());
            net.ip(&format!("link set {device} down")).unwrap();
            eventually("the link is down", || drain(&closed).is_empty() && drain(&open).is_empty());
            let manager = Manager::of(&mut daemon);
            daemon.start().unwrap();
            assert_eq!(manager.said(), "READY=1\nSTATUS=1 device protected");
            up();
            let mut numbers = Vec::new();
            eventually("what is open hears it", || {
                numbers.extend(drain(&open));
                numbers.len() > 500
            });
            let view = daemon.interface(device).unwrap();
            assert!(reason(&view, "ingress", "default") > 400, "{way:?}: {:?}", view.reasons);
            assert_eq!(drain(&closed), Vec::<u64>::new(), "{way:?}: what no rule admits");
            assert_eq!(reason(&view, "ingress", "no_policy"), 0, "{way:?}");
            // From the first one on, none is missing.
            let last = numbers[0] + numbers.len() as u64;
            assert!(numbers.iter().copied().eq(numbers[0]..last), "{way:?}: {numbers:?}");
        }));
        stop.store(true, Ordering::Relaxed);
        checks.unwrap();
    });
    assert_eq!(drain(&closed), Vec::<u64>::new());
    if way == Way::HostTc {
        // Every packet that the other end sent was judged. It had sent some
        // before, which the daemon never saw.
        let sent = || world.router.run(|| Ok(statistic("tap0"))).unwrap();
        let (before, judged) = (sent(), total(&daemon.interface("eth0").unwrap(), "ingress"));
        let socket = world.router.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap();
        (0..100).for_each(|_| drop(socket.send_to(b"one more", "10.0.0.10:5001")));
        eventually("each is judged", || {
            sent() - before == total(&daemon.interface("eth0").unwrap(), "ingress") - judged
        });
    }
}

fn link_address(world: &World) -> String {
    let output = world.instance.run(|| Ok(Command::new("ip").args(["-o", "link", "show", "eth0"]).output()?)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

/// Packets that a device of this namespace sent.
fn statistic(device: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|l| l.trim().strip_prefix(&format!("{device}:"))).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn no_packet_comes_between_link_up_and_the_first_policy() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        no_packet_comes_before_the_policy(way);
    }
}

/// The daemon with no more rights than its unit gives.
#[test]
fn the_rights_of_the_unit_are_enough() {
    if !can_run() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let line = UNIT.lines().find_map(|l| l.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set: String = line.split(' ').map(|c| format!(",+{}", c.trim_start_matches("CAP_").to_lowercase())).collect();
    for way in [Way::HostXdp, Way::HostClsact, Way::Guest] {
        let world = World::new(way);
        world.instance.tcp_server(80).unwrap();
        let mut daemon = booted(
            &world,
            &policy(&world).replace("ip_protocol: udp, port_range: 5000/5000", "ip_protocol: tcp, port_range: 80/80"),
        );
        daemon.under(&["setpriv", &format!("--bounding-set=-all{set}"), "--inh-caps=-all", "--no-new-privs"]);
        for _ in 0..2 {
            daemon.start().unwrap();
            assert!(world.client.tcp(to("10.0.0.10:80")).unwrap(), "{way:?}");
            assert!(!world.client.tcp(to("10.0.0.10:81")).unwrap(), "{way:?}");
            assert_eq!(daemon.interface(world.device()).unwrap().status.hooks.len(), 2, "{way:?}");
            daemon.stop(libc::SIGKILL).unwrap();
        }
        assert!(!daemon.log().contains("error") && !daemon.log().contains("warning"), "{way:?}: {}", daemon.log());
    }
}

#[test]
fn ready_says_what_is_not_as_it_should_be() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostXdp);
    [80, 81].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let text = policy(&world).replace("ip_protocol: udp, port_range: 5000/5000", "ip_protocol: tcp, port_range: 80/80")
        + "- {device: late0, side: guest, security_group_ids: [g]}\n";
    let mut daemon = booted(&world, &text);
    let manager = Manager::of(&mut daemon);
    // Somebody else has the hook that the policy asks for.
    let foreign = Foreign::xdp(&world.instance, "eth0", XDP_PASS).unwrap();
    daemon.start().unwrap();
    let said = manager.said();
    assert!(
        said.starts_with("READY=1\nSTATUS=1 device protected; NOT ALL IN FORCE: eth0 carries an XDP program"),
        "{said}"
    );
    assert!(said.ends_with("not here yet: late0"), "{said}");
    let (_, status) = daemon.sgctl(&["status"]).unwrap();
    assert!(status.contains("NOT ALL IN FORCE: eth0 carries an XDP program that is not ours"), "{status}");
    // Not open for all that: at TC, until the hook is free.
    assert_eq!(daemon.interface("eth0").unwrap().status.hooks, [tc_place(); 2]);
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap() && !world.client.tcp(to("10.0.0.10:81")).unwrap());
    drop(foreign);
    world.instance.ip("link set eth0 alias looked-at").unwrap();
    eventually("it has its hook", || daemon.interface("eth0").unwrap().status.hooks[0].starts_with("xdp"));
    eventually("and says so", || manager.said() == "STATUS=1 device protected; not here yet: late0");
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap() && !world.client.tcp(to("10.0.0.10:81")).unwrap());
}

/// More rules than the tables hold, for a device that is not there yet.
fn too_large() -> String {
    let rules: String = (0..1100)
        .map(|i| {
            format!(
                "  - {{direction: ingress, ip_protocol: udp, port_range: {}/{}, source_cidr_ip: 0.0.0.0/0}}\n",
                i + 1,
                i + 1
            )
        })
        .collect();
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n{rules}network_interfaces:\n\
         - {{device: late0, side: guest, source_check: off, security_group_ids: [g]}}\n"
    )
}

/// No policy, no traffic: a device whose policy cannot be put in force denies.
#[test]
fn what_cannot_be_put_in_force_denies() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("quotas = {rules_per_interface = 5000}").unwrap();
    daemon.start().unwrap();
    daemon.apply(&too_large(), &[]).unwrap();
    world.router.veth("late0", &world.instance, "inner0").unwrap();
    world.router.address("late0", &["10.9.0.1/24"]).unwrap();
    world.instance.address("inner0", &["10.9.0.10/24"]).unwrap();
    for boot in [false, true] {
        if boot {
            daemon.stop(libc::SIGTERM).unwrap();
            daemon.sgd(&["--detach"]).unwrap();
            daemon.start().unwrap();
        }
        eventually("it is bound", || daemon.interface("late0").is_ok_and(|v| v.status.hooks.len() == 2));
        assert!(!world.router.udp(to("10.9.0.10:5"), 8).unwrap());
        let view = daemon.interface("late0").unwrap();
        assert!(reason(&view, "ingress", "no_policy") > 0, "{:?}", view.reasons);
        let (_, status) = daemon.sgctl(&["status"]).unwrap();
        assert!(status.contains("NOT ALL IN FORCE: 1101 ingress rules apply to one interface"), "{status}");
        let (done, said) = daemon.sgctl(&["wait", "late0", "--for", "0s"]).unwrap();
        assert!(
            !done && said.contains("late0 is not protected after 0 s") && said.contains("ingress rules apply"),
            "{said}"
        );
    }
    // With a policy that fits it is as any other.
    let fits = too_large()
        .lines()
        .filter(|l| !l.contains("port_range: 9") && !l.contains("port_range: 8"))
        .collect::<Vec<_>>()
        .join("\n");
    daemon.apply(&fits, &[]).unwrap();
    assert!(daemon.sgctl(&["wait", "late0", "--for", "5s"]).unwrap().0);
    assert!(!daemon.sgctl(&["status"]).unwrap().1.contains("NOT"), "{}", daemon.log());
}

/// Quotas are for changes: lower ones take nothing out of force.
#[test]
fn a_lower_quota_leaves_what_is_in_force() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(80).unwrap();
    let mut daemon = booted(&world, &policy(&world).replace("ip_protocol: udp, port_range: 5000/5000", "ip_protocol: tcp, port_range: 80/80").replace("  - {direction: ingress", "  - {direction: ingress, ip_protocol: udp, port_range: 7/7, source_cidr_ip: 0.0.0.0/0}\n  - {direction: ingress"));
    daemon.configure("quotas = {rules_per_interface = 1}").unwrap();
    daemon.start().unwrap();
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap() && !world.client.tcp(to("10.0.0.10:81")).unwrap());
    assert!(daemon.log().contains("the stored policy stays in force, but passes quotas of today"));
    let with = |ports: &[u16]| {
        let rule = |port| {
            format!(
                "  - {{direction: ingress, ip_protocol: udp, port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}\n"
            )
        };
        let rules: String = ports.iter().map(rule).collect();
        policy(&world).replacen("  - {direction: ingress", &format!("{rules}  - {{direction: ingress"), 1)
    };
    daemon.apply(&with(&[8]), &[]).expect("no change for the worse");
    assert!(daemon.apply(&with(&[8, 9]), &[]).is_err(), "and none goes further past them");
}

#[test]
fn waiting_for_devices() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    let text = "security_groups:\n- security_group_name: g\nnetwork_interfaces:\n\
                - {device: 'late*', side: guest, security_group_ids: [g]}\n";
    daemon.apply(text, &[]).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let ended = daemon.sgctl(&["wait", "late0", "late1", "--for", "1m"]).unwrap();
            (ended, daemon.interface("late0"), daemon.interface("late1"), Instant::now())
        });
        world.router.ip("link add late0 type veth peer name other0").unwrap();
        eventually("one is protected", || daemon.interface("late0").is_ok());
        assert!(!waiting.is_finished(), "both are waited for");
        let made = Instant::now();
        world.router.ip("link add late1 type veth peer name other1").unwrap();
        let ((done, said), first, second, when) = waiting.join().unwrap();
        assert!(done && said.is_empty(), "{said}");
        assert_eq!((first.unwrap().status.hooks.len(), second.unwrap().status.hooks.len()), (2, 2));
        assert!(when > made && when - made < Duration::from_secs(5), "{:?}", when - made);
    });
    assert!(daemon.sgctl(&["wait", "late0"]).unwrap().0, "what is protected is not waited for");
    let (done, said) = daemon.sgctl(&["wait", "late0", "late7", "other0", "--for", "1s"]).unwrap();
    assert!(!done);
    assert_eq!(
        said,
        "late7 is not protected after 1 s: there is no such device\n\
         other0 is not protected after 1 s: no document in force names it\n"
    );
    let (done, said) = daemon.sgctl(&["wait", "late7", "--for", "soon"]).unwrap();
    assert!(!done && said.contains("a time such as 30s"), "{said}");
}

#[test]
fn the_unit_says_the_order() {
    let has = |line: &str| UNIT.lines().any(|l| l == line);
    for line in [
        "DefaultDependencies=no",
        "Before=network-pre.target",
        "Wants=network-pre.target",
        "Conflicts=shutdown.target",
        "Before=shutdown.target",
        "RequiresMountsFor=/var/lib/sg /sys/fs/bpf",
        "Type=notify",
        "Restart=on-failure",
    ] {
        assert!(has(line), "{line}");
    }
    // Its pins are below /sys, and nothing that ends it may take them off.
    assert!(!UNIT.lines().any(|l| l.starts_with("ProtectKernelTunables=") || l.starts_with("ExecStop")));
    let needs = UNIT.lines().find(|l| l.starts_with("After=")).unwrap();
    assert!(!needs.contains("network"), "{needs}");
    // It comes with a service manager, which is not installed for a test.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped in part: no systemd-analyze, which says whether the unit is one");
        return;
    }
    let dir = sg_userspace::testbed::TempDir::new().unwrap();
    let unit = dir.path().join("sgd.service");
    std::fs::write(&unit, UNIT.replace("/usr/sbin/sgd", &bin().join("sgd").to_string_lossy())).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains(&*Path::new("sgd.service").to_string_lossy()), "{text}");
}
