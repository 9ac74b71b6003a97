//! Live flows: listed with their rules, counted, and cut.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;
use sg_userspace::testbed::{Daemon, echoes};

use super::world::*;

const PATIENCE: Duration = Duration::from_millis(300);

fn policy(world: &World) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 7000/7001, source_cidr_ip: 0.0.0.0/0}}\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 7000/7001, ipv6_source_cidr_ip: '::/0'}}\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 7002/7002, source_cidr_ip: 0.0.0.0/0}}\n\
         - {{security_group_name: other}}\n{}",
        world.interface("g")
    )
}

fn json(daemon: &Daemon<'_>, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(daemon, &[arguments, &["-o", "json"]].concat())).unwrap()
}

/// A connection and its other end, at the instance.
pub struct Pair {
    pub client: TcpStream,
    pub instance: TcpStream,
}

impl Pair {
    pub fn new(world: &World, listener: &TcpListener, address: &str) -> Self {
        let client = world.client.connect(to(address)).unwrap();
        let (instance, _) = listener.accept().unwrap();
        for end in [&client, &instance] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut pair = Self { client, instance };
        assert!(pair.speaks());
        pair
    }

    pub fn speaks(&mut self) -> bool {
        let passes = |from: &mut TcpStream, to: &mut TcpStream| {
            from.write_all(b"x").is_ok() && to.read(&mut [0; 64]).is_ok_and(|n| n > 0)
        };
        passes(&mut self.client, &mut self.instance) && passes(&mut self.instance, &mut self.client)
    }

    pub fn port(&self) -> u16 {
        self.client.local_addr().unwrap().port()
    }
}

#[test]
fn they_are_listed_with_their_rules_and_counted_by_remote() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.client.tcp_server(8000).unwrap();
    let listener = world.instance.run(|| Ok(TcpListener::bind("[::]:7000")?)).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let four = Pair::new(&world, &listener, "10.0.0.10:7000");
    let six = Pair::new(&world, &listener, "[2001:db8:1::10]:7000");
    let mut out = world.instance.connect(to("192.0.2.10:8000")).unwrap();
    assert!(echoes(&mut out, b"x"));

    let all = json(&daemon, &["flows"]);
    let flow = |remote_port: u16| {
        let found = all["flows"].as_array().unwrap().iter().find(|f| f["remote_port"] == remote_port);
        found.unwrap_or_else(|| panic!("{remote_port}: {all}"))
    };
    let source = six.client.local_addr().unwrap().ip().to_string();
    for (port, rule, direction, local, remote) in [
        (four.port(), "g[0]", "ingress", "10.0.0.10", "192.0.2.10"),
        (six.port(), "g[1]", "ingress", "2001:db8:1::10", source.as_str()),
        (8000, "(default)", "egress", "10.0.0.10", "192.0.2.10"),
    ] {
        let f = flow(port);
        let shown = ["rule", "direction", "local", "remote", "state", "protocol", "verdict", "device"]
            .map(|k| f[k].as_str().unwrap());
        assert_eq!(shown, [rule, direction, local, remote, "confirmed", "tcp", "accept", "eth0"], "{f}");
        assert!(f["idle"].as_u64().unwrap() < 60 && f["timeout"] == 910, "{f}");
    }
    for (filter, count) in [
        (["--port", "7000"], 2),
        (["--address", "2001:db8::/32"], 1),
        (["--address", "10.0.0.10"], 2),
        (["--protocol", "udp"], 0),
        (["--verdict", "drop"], 0),
        (["--group", "g"], 3),
        (["--group", "other"], 0),
        (["--device", "eth0"], 3),
    ] {
        let found = json(&daemon, &["flows", filter[0], filter[1]]);
        assert_eq!(found["total"], count, "{filter:?}: {found}");
    }
    let few = json(&daemon, &["flows", "--limit", "1"]);
    assert_eq!((few["flows"].as_array().unwrap().len(), &few["total"], &few["not_shown"]), (1, &3.into(), &2.into()));
    assert!(done(&daemon, &["flows", "--limit", "1"]).contains("3 live flows; 2 are not shown (--limit)"));
    assert!(refused(&daemon, &["flows", "--device", "eth9"]).contains("eth9 is not protected"));
    assert!(refused(&daemon, &["flows", "--group", "none"]).contains("no security group \"none\""));

    let top = json(&daemon, &["flows", "--top"]);
    assert_eq!((&top["flows"], &top["remotes"]), (&3.into(), &2.into()), "{top}");
    assert_eq!(top["top"][0]["remote"], "192.0.2.10/32");
    assert_eq!((&top["top"][0]["flows"], &top["top"][0]["confirmed"]), (&2.into(), &2.into()), "{top}");
    assert_eq!(top["top"][1]["remote"], "2001:db8:99::/64");
}

fn a_cut_connection_is_dead_at_both_ends(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    let listener = world.instance.run(|| Ok(TcpListener::bind("[::]:7000")?)).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let device = world.device();
    let cuts = |daemon: &Daemon<'_>, direction: &str| reason(&daemon.interface(device).unwrap(), direction, "cut");
    for address in ["10.0.0.10:7000", "[2001:db8:1::10]:7000"] {
        let (mut cut, mut other) = (Pair::new(&world, &listener, address), Pair::new(&world, &listener, address));
        let port = cut.port().to_string();
        let command = ["flows", "--device", device, "--port", &port, "--cut"];
        assert!(refused(&daemon, &["flows", "--cut", "--yes"]).contains("say which flows are to be cut"));
        let unasked = refused(&daemon, &command);
        assert!(unasked.contains("cut 1 live flow") && unasked.contains(&format!(":{port} -> ")), "{unasked}");
        assert!(cut.speaks(), "nobody agreed");
        // A change that it has not been judged by yet: its next packet would be.
        daemon.apply(&policy(&world).replace("7002/7002", "7002/7003"), &[]).unwrap();
        let before = ["ingress", "egress"].map(|d| cuts(&daemon, d));
        let done = done(&daemon, &[&command[..], &["--yes"]].concat());
        assert!(done.contains("1 live flow is cut"), "{done}");

        // Both ends have something to say, and go on trying.
        cut.client.write_all(b"x").unwrap();
        cut.instance.write_all(b"x").unwrap();
        eventually("each end has tried three times", || {
            ["ingress", "egress"].iter().zip(before).all(|(direction, before)| cuts(&daemon, direction) >= before + 3)
        });
        for end in [&mut cut.client, &mut cut.instance] {
            assert!(end.read(&mut [0; 64]).is_err(), "{way:?} {address}: it came back by itself");
        }
        assert!(other.speaks(), "{way:?}: another connection was cut, too");
        let shown = json(&daemon, &["flows", "--port", &port]);
        assert_eq!((&shown["flows"][0]["state"], &shown["flows"][0]["rule"]), (&"cut".into(), &Value::Null), "{shown}");
        assert_eq!(json(&daemon, &["flows", "--verdict", "drop", "--port", &port])["total"], 1);
        // A new connection is another flow.
        assert!(Pair::new(&world, &listener, address).speaks());

        // Neither a change whose rules admit it nor another daemon opens it again.
        let more = policy(&world).replace("7000/7001, source", "7000/7001, description: again, priority: 2, source");
        daemon.apply(&more.replace("7000/7001, ipv6", "7000/7001, priority: 2, ipv6"), &[]).unwrap();
        daemon.stop(libc::SIGTERM).unwrap();
        daemon.start().unwrap();
        let before = cuts(&daemon, "ingress");
        within(Duration::from_secs(40), "an end has tried again", || cuts(&daemon, "ingress") > before);
        assert!(cut.client.read(&mut [0; 64]).is_err(), "{way:?} {address}: it is open again");
        daemon.apply(&policy(&world), &[]).unwrap();
    }
    let audit = fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    let intents = audit.lines().filter(|l| l.contains("\"intent\"") && l.contains("\"flows cut\"")).count();
    assert_eq!(intents, 2, "{audit}");
    assert!(audit.contains(&format!("\"device\":\"{device}\"")), "{audit}");
}

#[test]
fn a_cut_connection_is_dead_at_both_ends_on_the_host_side() {
    a_cut_connection_is_dead_at_both_ends(Way::HostTc);
}

#[test]
fn a_cut_connection_is_dead_at_both_ends_of_a_guest() {
    a_cut_connection_is_dead_at_both_ends(Way::Guest);
}

#[test]
fn a_cut_connection_is_dead_at_both_ends_at_xdp() {
    a_cut_connection_is_dead_at_both_ends(Way::HostXdp);
}

/// Says that it is over when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Packets go both ways on many flows while these are cut: none goes on.
#[test]
fn flows_under_load_are_cut_all_of_them() {
    const PAIRS: usize = 32;
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let listener = world.instance.run(|| Ok(TcpListener::bind("[::]:7001")?)).unwrap();
    let udp = world.instance.run(|| Ok(UdpSocket::bind("10.0.0.10:7002")?)).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let pairs: Vec<Pair> = (0..PAIRS).map(|_| Pair::new(&world, &listener, "10.0.0.10:7001")).collect();
    let speakers: Vec<UdpSocket> = (0..PAIRS)
        .map(|_| {
            let socket = world.client.run(|| Ok(UdpSocket::bind("192.0.2.10:0")?)).unwrap();
            socket.connect("10.0.0.10:7002").unwrap();
            socket
        })
        .collect();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Whatever fails here, the others end.
        let end = End(&stop);
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((n, from)) = udp.recv_from(&mut buffer) {
                    heard.fetch_add(1, Ordering::Relaxed);
                    // One that the cut drops is an error here, and none of ours.
                    let _ = udp.send_to(&buffer[..n], from);
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                speakers.iter().for_each(|s| drop(s.send(b"x")));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for pair in &pairs {
            let (mut reader, mut writer) = (pair.instance.try_clone().unwrap(), pair.client.try_clone().unwrap());
            let (stop, heard) = (&stop, &heard);
            scope.spawn(move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if reader.read(&mut buffer).is_ok_and(|n| n > 0) {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            writer.set_write_timeout(Some(PATIENCE)).unwrap();
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Full when nobody takes it.
                    let _ = writer.write(b"x");
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        eventually("all are flows, and speak", || {
            json(&daemon, &["flows", "--verdict", "accept"])["total"] == 2 * PAIRS
                && heard.load(Ordering::Relaxed) > 1000
        });
        let done = json(&daemon, &["flows", "--device", "eth0", "--cut", "--yes"]);
        assert_eq!(done, serde_json::json!({"cut": 2 * PAIRS, "ended": 0, "open": 0}));
        // What had been taken in before is read by then.
        let mut last = heard.load(Ordering::Relaxed);
        eventually("nothing is heard any more", || {
            std::thread::sleep(PATIENCE);
            last == std::mem::replace(&mut last, heard.load(Ordering::Relaxed))
        });
        let before = reason(&daemon.interface("eth0").unwrap(), "ingress", "cut");
        eventually("they go on trying", || {
            reason(&daemon.interface("eth0").unwrap(), "ingress", "cut") > before + 1000
        });
        assert_eq!(heard.load(Ordering::Relaxed), last, "one goes on");
        assert_eq!(json(&daemon, &["flows", "--verdict", "drop"])["total"], 2 * PAIRS);
        drop(end);
    });
}

#[test]
fn a_cut_outbound_flow_is_not_opened_anew_by_its_next_packet() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.client.udp_server(to("192.0.2.10:9000")).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    // Confirmed by the second, and not yet at the first.
    for packets in [1, 2] {
        let socket = world.instance.run(|| Ok(UdpSocket::bind("10.0.0.10:0")?)).unwrap();
        socket.connect("192.0.2.10:9000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let answered = || socket.send(b"x").is_ok() && socket.recv(&mut [0; 64]).is_ok();
        (0..packets).for_each(|_| assert!(answered()));
        done(&daemon, &["flows", "--protocol", "udp", "--port", "9000", "--cut", "--yes"]);
        let cuts = || reason(&daemon.interface("eth0").unwrap(), "egress", "cut");
        let before = cuts();
        for _ in 0..5 {
            assert!(!answered(), "after {packets}");
        }
        assert_eq!(cuts(), before + 5);
        // Nor by a change.
        daemon.apply(&policy(&world).replace("7002/7002", &format!("7002/700{}", 2 + packets)), &[]).unwrap();
        assert!(!answered());
    }
}

#[test]
fn nobody_cuts_the_branch_he_sits_on_unless_he_says_so() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.client.tcp_server(7002).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    // Whoever has a connection and is called like this is taken for the way in.
    let sshd = daemon.dir().join("sshd");
    fs::copy("/bin/bash", &sshd).unwrap();
    let run = |more: &str| {
        let sgctl = bin().join("sgctl");
        let script = format!(
            "exec 3<>/dev/tcp/192.0.2.10/7002; echo x >&3; read -u 3; {} flows --port 7002 --cut --yes {more}; exit $?",
            sgctl.display()
        );
        daemon.command(&sshd, &["-c", &script]).unwrap()
    };
    let (done, text) = run("");
    assert!(!done && text.contains("YOUR OWN SSH CONNECTION") && text.contains("--with-my-session"), "{text}");
    assert_eq!(json(&daemon, &["flows", "--verdict", "drop"])["total"], 0, "nothing was cut");
    let (done, text) = run("--with-my-session");
    assert!(done && text.contains("cut"), "{text}");
    assert!(json(&daemon, &["flows", "--verdict", "drop", "--port", "7002"])["total"].as_u64() >= Some(1));
}

#[test]
fn flows_of_a_device_that_only_observes_cannot_be_cut() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let listener = world.instance.run(|| Ok(TcpListener::bind("[::]:7000")?)).unwrap();
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("guest_observe = 600").unwrap();
    daemon.start().unwrap();
    daemon.apply(&policy(&world), &[]).unwrap();
    let mut pair = Pair::new(&world, &listener, "10.0.0.10:7000");
    let text = refused(&daemon, &["flows", "--port", "7000", "--cut", "--yes"]);
    assert!(text.contains("tap0 only observes yet") && text.contains("nothing was cut"), "{text}");
    assert!(pair.speaks());
}
