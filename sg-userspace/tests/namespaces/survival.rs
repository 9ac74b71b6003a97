//! What must not shake it: changes by the thousand under traffic, a daemon that
//! is killed at any moment, stopped, out of disk; devices that come and go.

use std::{
    net::UdpSocket,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sg_userspace::{
    ctl::client::ask,
    daemon::{
        protocol::{Action, File, Reply},
        store::{Store, embedded::Embedded},
    },
    dataplane::engine::OnChange,
    testbed::{Daemon, echoes},
};

use super::world::*;
use crate::support::{Random, many};

/// Those that keep a machine busy, one after the other: they ask what becomes of
/// packets, not how two of them share a CPU.
static BUSY: Mutex<()> = Mutex::new(());

/// Waits until no other busy one runs.
pub fn alone() -> MutexGuard<'static, ()> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a document in force without a process of its own.
pub fn put(daemon: &Daemon<'_>, text: &str) -> anyhow::Result<Reply> {
    let files = vec![File { name: "policy.yaml".into(), text: text.into() }];
    let apply = Action::Document {
        files,
        adopt: false,
        apply: true,
        if_generation: None,
        on_change: OnChange::Cut,
        session: None,
        confirm: None,
        all: false,
    };
    Ok(ask(&daemon.dir().join("sgd.sock"), &apply)?)
}

/// Two rules that decide all traffic of the test, among others that would decide
/// otherwise: other classes, other columns, another size.
fn mixed(world: &World, variant: usize) -> String {
    let mut text = String::from(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {direction: ingress, ip_protocol: udp, port_range: 5000/5000, source_cidr_ip: 192.0.2.0/24, priority: 50}\n\
         \x20 - {direction: ingress, policy: drop, ip_protocol: udp, port_range: 5001/5001, source_cidr_ip: 192.0.2.0/24, priority: 50}\n",
    );
    for i in 0..[7, 40, 400, 90][variant % 4] {
        let (policy, port) = (["accept", "drop"][(i + variant) % 2], 4000 + (i * 7 + variant * 13) % 3000);
        let net = (i * 5 + variant) % 250;
        text += &format!(
            "  - {{direction: ingress, policy: {policy}, ip_protocol: udp, port_range: {port}/{port}, source_cidr_ip: 10.{net}.0.0/16, priority: {}}}\n",
            1 + (i + variant) % 100
        );
    }
    text + &world.interface("g")
}

fn no_packet_sees_a_mix(way: Way, flips: u64) {
    let world = World::new(way);
    // Nobody else sends: IPv6 would report its groups and look for routers now and then.
    for net in [&world.client, &world.router, &world.instance] {
        net.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
    }
    let daemon = world.daemon();
    daemon.apply(&mixed(&world, 0), &[]).unwrap();
    let before = daemon.interface(world.device()).unwrap();
    let receiver = |port: u16| {
        world.instance.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        })
    };
    let (open, closed) = (receiver(5000).unwrap(), receiver(5001).unwrap());
    let (stop, sent, got) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            world.client.run(|| {
                let sockets: Vec<UdpSocket> =
                    (0..32).map(|_| UdpSocket::bind("192.0.2.10:0")).collect::<Result<_, _>>()?;
                while !stop.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        // A full queue is no verdict.
                        let _ = socket.send_to(b"open", "10.0.0.10:5000");
                        let _ = socket.send_to(b"closed", "10.0.0.10:5001");
                        sent.fetch_add(2, Ordering::Relaxed);
                    }
                    std::thread::yield_now();
                }
                Ok(())
            })
        });
        scope.spawn(|| {
            let mut buffer = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                got.fetch_add(u64::from(open.recv(&mut buffer).is_ok()), Ordering::Relaxed);
            }
        });
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for flip in 1..=flips {
                match put(&daemon, &mixed(&world, flip as usize)).unwrap() {
                    Reply::Planned(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }));
        eventually("packets arrive", || got.load(Ordering::Relaxed) > flips);
        stop.store(true, Ordering::Relaxed);
        changes.unwrap();
    });
    let view = daemon.interface(world.device()).unwrap();
    let (sent, got) = (sent.into_inner(), got.into_inner());
    closed.set_nonblocking(true).unwrap();
    assert!(closed.recv(&mut [0; 16]).is_err(), "{way:?}: a packet passed that no policy admits");
    let since = |what: &str| reason(&view, "ingress", what) - reason(&before, "ingress", what);
    for wrong in ["default", "table_missing", "disagreement", "no_policy", "cut"] {
        assert_eq!(since(wrong), 0, "{way:?}: {wrong}: {:?}", view.reasons);
    }
    let by = |verdict: &str, what: &str| -> u64 {
        let lines =
            view.reasons.iter().filter(|r| r.direction == "ingress" && r.verdict == verdict && r.reason == what);
        lines.map(|r| r.packets).sum()
    };
    // A queue before the program may lose some; none may be judged as the other kind is.
    let (passed, dropped) = (by("accept", "rule") + by("accept", "established"), by("drop", "rule"));
    assert!(passed <= sent / 2 && dropped <= sent / 2, "{way:?}: {passed} passed, {dropped} dropped of {sent}");
    assert!(passed >= got && dropped > flips, "{way:?}: {passed} passed, {got} arrived, {dropped} dropped");
    for line in view.rules.iter().filter(|r| r.direction == "ingress" && r.packets > 0) {
        // Neighbours are asked for now and then.
        let expected = ["g[0]", "g[1]", "(essential)"].contains(&line.rule.as_str());
        assert!(expected, "{way:?}: {line:?} decided");
    }
    // Each change names other rules; those that are gone give their counters back.
    eventually("counters of rules that are gone are given back", || {
        put(&daemon, &mixed(&world, 0)).unwrap();
        // The daemon has the store open: a copy is looked at.
        let copy = daemon.dir().join("copy");
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(daemon.dir().join("state/state.redb"), copy.join("state.redb")).unwrap();
        Embedded::open(&copy).unwrap().load().unwrap().counters.len() < 1000
    });
    eprintln!("{way:?}: {flips} changes, {sent} packets sent, {got} arrived, none judged by a mix");
}

#[test]
fn changes_by_the_thousand_judge_no_packet_by_a_mix() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    for way in [Way::HostTc, Way::HostXdp] {
        no_packet_sees_a_mix(way, many(500, 5_000));
    }
}

/// One of two policies, which differ in one port.
pub fn either(world: &World, second: bool) -> String {
    let (port, other) = if second { (82, 81) } else { (81, 82) };
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}\n\
         \x20 - {{direction: ingress, policy: drop, ip_protocol: tcp, port_range: {other}/{other}, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    )
}

fn killed_at_any_moment(way: Way, kills: u64) {
    let world = World::new(way);
    [80, 81, 82, 83].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let mut daemon = world.daemon();
    daemon.apply(&either(&world, false), &[]).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    let mut random = Random::new(7);
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut changed = 0;
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if !echoes(&mut live, &[7; 5000]) {
                    return false;
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            true
        });
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 0..kills {
                // A change is under way when it dies, or has just been made, or has not begun.
                let moment = Duration::from_micros(random.below(60_000) as u64);
                let second = kill % 2 == 0;
                let pid = daemon.pid().unwrap() as i32;
                let done = std::thread::scope(|inner| {
                    let change = inner.spawn(|| put(&daemon, &either(&world, second)).is_ok());
                    // Not a wait for anything: the moment of death is what is drawn.
                    std::thread::sleep(moment);
                    // SAFETY: a process of ours that has not been waited for.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                    change.join().unwrap()
                });
                daemon.stop(libc::SIGKILL).unwrap();
                if kill % 8 == 0 {
                    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap(), "{way:?}: kill {kill}");
                    assert!(!world.client.tcp(to("10.0.0.10:83")).unwrap(), "{way:?}: kill {kill}");
                }
                daemon.start().unwrap();
                changed += u64::from(done);
                let (first, other) = (world.client.tcp(to("10.0.0.10:81")), world.client.tcp(to("10.0.0.10:82")));
                let (first, other) = (first.unwrap(), other.unwrap());
                assert!(first != other, "{way:?}: kill {kill}: one of both policies, wholly: {first} {other}");
                if done {
                    assert_eq!(other, second, "{way:?}: kill {kill}: what was confirmed is in force");
                }
            }
        }));
        let seen = rounds.load(Ordering::Relaxed);
        if work.is_ok() {
            eventually("the transfer goes on", || rounds.load(Ordering::Relaxed) > seen + 3);
        }
        stop.store(true, Ordering::Relaxed);
        let alive = transfer.join().unwrap();
        work.unwrap();
        assert!(alive, "{way:?}: the transfer was cut");
    });
    eprintln!("{way:?}: {kills} kills, {changed} changes confirmed, 0 flows lost, 0 wrong");
    daemon.stop(libc::SIGTERM).unwrap();
}

#[test]
fn killed_at_any_moment_of_a_change() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    for way in [Way::HostXdp, Way::Guest] {
        killed_at_any_moment(way, many(25, 250));
    }
}

/// A daemon that gets no CPU protects as one that does.
#[test]
fn a_stopped_daemon_protects() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    [80, 83].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let daemon = world.daemon();
    daemon.apply(&either(&world, false), &[]).unwrap();
    let pid = daemon.pid().unwrap() as i32;
    // SAFETY: a process of ours.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
    assert!(!world.client.tcp(to("10.0.0.10:83")).unwrap());
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    daemon.apply(&either(&world, true), &[]).unwrap();
}

/// A change that cannot be stored is not made.
#[test]
fn a_full_disk_changes_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    [81, 82].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let mut daemon = world.daemon();
    daemon.apply(&either(&world, false), &[]).unwrap();
    daemon.stop(libc::SIGTERM).unwrap();
    let state = daemon.dir().join("state");
    let state = state.to_str().unwrap();
    let kept = daemon.dir().join("kept");
    let run = |program: &str, arguments: &[&str]| {
        let (done, text) = daemon.command(program.as_ref(), arguments).unwrap();
        assert!(done, "{program}: {text}");
    };
    run("cp", &["-a", state, kept.to_str().unwrap()]);
    run("mount", &["-t", "tmpfs", "-o", "size=8m", "none", state]);
    run("sh", &["-c", &format!("cp -a {}/. {state}", kept.display())]);
    daemon.start().unwrap();
    let epoch = daemon.interface("eth0").unwrap().status.epoch;
    let fill = format!("head -c 16M /dev/zero > {state}/filler; true");
    let (_, _) = daemon.command("sh".as_ref(), &["-c", &fill]).unwrap();
    let refused = daemon.apply(&either(&world, true), &[]).unwrap_err().to_string();
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(daemon.interface("eth0").unwrap().status.epoch, epoch, "nothing was flipped");
    assert!(world.client.tcp(to("10.0.0.10:81")).unwrap());
    assert!(!world.client.tcp(to("10.0.0.10:82")).unwrap());
    // With room again, the same change is made.
    let (_, _) = daemon.command("rm".as_ref(), &[&format!("{state}/filler")]).unwrap();
    daemon.apply(&either(&world, true), &[]).unwrap();
    assert!(world.client.tcp(to("10.0.0.10:82")).unwrap());
    daemon.stop(libc::SIGTERM).unwrap();
}

/// Devices that come and go, all at once, and are gone before the daemon looks.
#[test]
fn devices_by_the_hundred_come_and_go() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    let text = "security_groups:\n- security_group_name: g\nnetwork_interfaces:\n\
                - {device: 'm*', side: guest, security_group_ids: [g]}\n";
    daemon.apply(text, &[]).unwrap();
    let count = many(20, 200);
    let batch = |lines: String| {
        let file = daemon.dir().join("batch");
        std::fs::write(&file, lines).unwrap();
        world.router.ip(&format!("-batch {}", file.display())).unwrap();
    };
    let protected = || match ask(&daemon.dir().join("sgd.sock"), &Action::Status).unwrap() {
        Reply::Status(status) => status.devices.len() as u64,
        other => panic!("{other:?}"),
    };
    for round in 0..3 {
        batch((0..count).map(|i| format!("link add m{i} type veth peer name n{i}\n")).collect());
        // Every other round they are gone while they are being bound.
        if round != 1 {
            eventually("all are protected", || protected() == count);
        }
        batch((0..count).map(|i| format!("link del m{i}\n")).collect());
    }
    eventually("none is left", || protected() == 0);
    batch("link add m0 type veth peer name n0\n".into());
    eventually("the next one is protected", || daemon.interface("m0").is_ok_and(|v| v.status.hooks.len() == 2));
    world.router.ip("link set m0 mtu 9000").unwrap();
    world.router.ip("link set m0 address 02:00:00:00:00:77").unwrap();
    world.router.address("m0", &["10.77.0.1/24"]).unwrap();
    assert_eq!(daemon.interface("m0").unwrap().status.hooks.len(), 2);
    // Under another name it is another device; under its own, protected again.
    world.router.ip("link set m0 name x0").unwrap();
    eventually("what is not named is let go", || daemon.interface("x0").is_err() && daemon.interface("m0").is_err());
    world.router.ip("link set x0 name m0").unwrap();
    eventually("renamed back, it is protected", || daemon.interface("m0").is_ok());
    let path = world.client.path();
    world.router.ip(&format!("link set m0 netns {path}")).unwrap();
    eventually("one that moved away is forgotten", || daemon.interface("m0").is_err());
}

/// Port 80 is open to members of a group, of which one is a device of this
/// host with the addresses that it happens to have.
const BY_MEMBER: &str = "security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_group_id: office}
- {security_group_name: office}
network_interfaces:
- {device: tap0, side: guest, private_ip_addresses: [10.0.0.10], security_group_ids: [g]}
- {device: mem0, side: host, security_group_ids: [office]}
";

/// Whatever becomes of the device, the rules hold on it: what they admit
/// passes, what they deny does not.
#[test]
fn a_device_that_changes_enforces_on() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    [80, 81].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let router = &world.router;
    router.ip("link add mem0 type veth peer name mem1").unwrap();
    router.address("mem0", &["10.50.0.1/32"]).unwrap();
    // They stay this host's own, whatever mem0 has.
    router.address("lo", &["10.50.0.1/32", "10.50.0.2/32"]).unwrap();
    let daemon = world.daemon();
    daemon.apply(BY_MEMBER, &[]).unwrap();
    let from = |last: u8, port: u16| {
        router
            .run(|| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.bind(&std::net::SocketAddr::from(([10, 50, 0, last], 0)).into())?;
                let to = std::net::SocketAddr::from(([10, 0, 0, 10], port));
                Ok(socket.connect_timeout(&to.into(), sg_userspace::testbed::PATIENCE).is_ok())
            })
            .unwrap()
    };
    let enforces = |what: &str| {
        let (done, said) = daemon.sgctl(&["wait", "tap0"]).unwrap();
        assert!(done, "{what}: {said}");
        let dropped = daemon.interface("tap0").unwrap().status.dropped;
        // The daemon hears of a device's new addresses or name a moment later.
        eventually(&format!("{what}: what is admitted"), || from(1, 80));
        assert!(!from(1, 81) && !from(2, 80), "{what}: what is denied");
        assert!(daemon.interface("tap0").unwrap().status.dropped > dropped, "{what}: and counted");
    };
    let addresses = || {
        router.ip("link set tap0 up").unwrap();
        router.address("tap0", &["10.0.0.1/24"]).unwrap();
    };
    enforces("as it came");
    router.ip("link set tap0 mtu 1400").unwrap();
    router.ip("link set tap0 address 02:00:00:00:00:77").unwrap();
    router.ip("addr add 10.0.0.2/24 dev tap0").unwrap();
    // The other end still knows the MAC of before.
    world.instance.ip("neigh flush all").unwrap();
    enforces("another MTU, MAC and address");

    // Gone, and back.
    router.ip("link del tap0").unwrap();
    eventually("it is let go", || daemon.interface("tap0").is_err());
    router.veth("tap0", &world.instance, "eth0").unwrap();
    router.address("tap0", &["10.0.0.1/24"]).unwrap();
    world.instance.address("eth0", &["10.0.0.10/24"]).unwrap();
    world.instance.ip("route add default via 10.0.0.1").unwrap();
    enforces("a device that returned");

    // Another name is another device.
    router.ip("link set tap0 down").unwrap();
    router.ip("link set tap0 name x0").unwrap();
    router.ip("link set x0 up").unwrap();
    eventually("what is not named is let go", || from(1, 81));
    router.ip("link set x0 down").unwrap();
    router.ip("link set x0 name tap0").unwrap();
    router.ip("link set tap0 up").unwrap();
    enforces("its own name again");

    // Away, and back.
    router.ip(&format!("link set tap0 netns {}", world.client.path())).unwrap();
    eventually("one that moved away is forgotten", || daemon.interface("tap0").is_err());
    world.client.ip(&format!("link set tap0 netns {}", router.path())).unwrap();
    addresses();
    enforces("a device that moved away and came back");

    // A member is who has the address now.
    router.ip("addr add 10.50.0.2/32 dev mem0").unwrap();
    eventually("a new address is a member's", || from(2, 80));
    router.ip("addr del 10.50.0.1/32 dev mem0").unwrap();
    eventually("one that it no longer has is nobody's", || !from(1, 80));
    assert!(from(2, 80) && !from(2, 81));
}
