//! Connections that are reset before they are cut: both ends know at once.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::{flows::Pair, world::*};

/// TCP ports from 7000 on that are let in over both families, so many of them, and UDP port 7009.
fn policy(world: &World, ports: &[u16], udp: bool) -> String {
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    let all = ["source_cidr_ip: 0.0.0.0/0", "ipv6_source_cidr_ip: '::/0'"];
    for (port, from) in ports.iter().flat_map(|port| all.map(|from| (port, from))) {
        text += &format!("  - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, {from}}}\n");
    }
    if udp {
        text += &format!("  - {{direction: ingress, ip_protocol: udp, port_range: 7009/7009, {}}}\n", all[0]);
    }
    text + &world.interface("g")
}

fn listener(world: &World, at: &str) -> TcpListener {
    world.instance.run(|| Ok(TcpListener::bind(at)?)).unwrap()
}

/// What an end of a connection hears next: an error, or nothing in time.
fn hears(end: &mut TcpStream) -> ErrorKind {
    end.read(&mut [0; 64]).unwrap_err().kind()
}

fn is_reset(pair: &mut Pair) -> bool {
    (hears(&mut pair.client), hears(&mut pair.instance)) == (ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted)
}

/// Puts a document in force; what that did.
fn apply(daemon: &Daemon<'_>, text: &str, more: &[&str]) -> Value {
    serde_json::from_str(&daemon.apply(text, &[more, &["-o", "json"]].concat()).unwrap()).unwrap()
}

fn both_ends_know(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    // Sockets of IPv4, of IPv6, and of IPv4 by an IPv6 socket.
    let (both, four, kept) =
        (listener(&world, "[::]:7000"), listener(&world, "0.0.0.0:7001"), listener(&world, "[::]:7002"));
    let udp = world.instance.run(|| Ok(UdpSocket::bind("10.0.0.10:7009")?)).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world, &[7000, 7001, 7002], true), &[]).unwrap();
    let mut over = [
        Pair::new(&world, &both, "10.0.0.10:7000"),
        Pair::new(&world, &both, "[2001:db8:1::10]:7000"),
        Pair::new(&world, &four, "10.0.0.10:7001"),
    ];
    let mut lives = [Pair::new(&world, &kept, "10.0.0.10:7002"), Pair::new(&world, &kept, "[2001:db8:1::10]:7002")];
    let datagrams = world.client.run(|| Ok(UdpSocket::bind("192.0.2.10:0")?)).unwrap();
    datagrams.send_to(b"x", "10.0.0.10:7009").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    udp.recv_from(&mut [0; 64]).unwrap();

    // Whatever is refused resets nothing.
    let next = daemon.dir().join("next.yaml");
    fs::write(&next, policy(&world, &[7002], false)).unwrap();
    let file = next.to_str().unwrap();
    let no = |more: &[&str]| refused(&daemon, &[&["apply", "-f", file, "--yes", "--reset"], more].concat());
    let trial = no(&["--confirm", "60s"]);
    assert!(trial.contains("a trial can be taken back and a reset can not"), "{trial}");
    assert!(no(&["--on-change", "keep"]).contains("--reset goes with --on-change cut"));
    assert!(no(&["--if-generation", "999"]).contains("not 999"));
    fs::write(&next, policy(&world, &[7002], false).replace("[g]", "[h]")).unwrap();
    assert!(no(&[]).contains("there is no security group"));
    // Nor does a plan, nor what says the same once more.
    fs::write(&next, policy(&world, &[7002], false)).unwrap();
    let planned = done(&daemon, &["plan", "-f", file]);
    assert!(planned.contains("4 live flows that the new rules deny"), "{planned}");
    let how = "their bytes and ages are not counted; [flow_log] in sgd.toml counts them";
    assert_eq!(planned.matches(how).count(), 1, "{planned}");
    assert!(!planned.contains(" bytes in and "), "{planned}");
    let planned: Value = serde_json::from_str(&done(&daemon, &["plan", "-f", file, "-o", "json"])).unwrap();
    assert_eq!((&planned["cut_count"], &planned["cut_counted"]), (&json!(4), &json!(false)), "{planned}");
    let same = apply(&daemon, &policy(&world, &[7000, 7001, 7002], true), &["--reset"]);
    assert_eq!(same["report"]["reset"], json!({"connections": 0, "only_cut": 0}));
    assert!(over.iter_mut().chain(&mut lives).all(Pair::speaks), "{way:?}");

    let made = apply(&daemon, &policy(&world, &[7002], false), &["--reset"]);
    assert_eq!(made["report"]["reset"], json!({"connections": 3, "only_cut": 1}), "{way:?}");
    for (i, pair) in over.iter_mut().enumerate() {
        assert!(is_reset(pair), "{way:?} {i}");
    }
    assert!(lives.iter_mut().all(Pair::speaks), "{way:?}");
    let audit = fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    let intents = audit.lines().filter(|l| l.contains("\"intent\"") && l.contains("\"reset\":\"true\""));
    assert_eq!(intents.filter(|l| l.contains("\"apply\"")).count(), 2, "{audit}");

    // By hand: one of two on one port, whose listener stays.
    let mut third = Pair::new(&world, &kept, "10.0.0.10:7002");
    let port = third.port().to_string();
    let said = done(&daemon, &["flows", "--port", &port, "--cut", "--reset", "--yes"]);
    assert!(said.contains("1 live flow is cut; 1 connection was reset at both ends"), "{said}");
    assert!(is_reset(&mut third) && lives.iter_mut().all(Pair::speaks), "{way:?}");
    assert!(Pair::new(&world, &kept, "10.0.0.10:7002").speaks());
}

#[test]
fn both_ends_know_at_tc() {
    both_ends_know(Way::HostTc);
}

#[test]
fn both_ends_know_at_xdp() {
    both_ends_know(Way::HostXdp);
}

#[test]
fn what_lived_before_the_first_protection_is_reset_too() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let (denied, admitted) = (listener(&world, "[::]:7000"), listener(&world, "[::]:7002"));
    let daemon = world.daemon();
    let mut over = Pair::new(&world, &denied, "10.0.0.10:7000");
    let mut lives = Pair::new(&world, &admitted, "10.0.0.10:7002");
    let made = apply(&daemon, &policy(&world, &[7002], false), &["--reset"]);
    assert_eq!(made["report"]["reset"], json!({"connections": 1, "only_cut": 0}));
    assert!(is_reset(&mut over) && lives.speaks());
}

#[test]
fn both_ends_of_a_guests_connection_know() {
    if !can_run() || !has("nft", "nftables") {
        return;
    }
    let world = World::new(Way::Guest);
    let (both, kept) = (listener(&world, "[::]:7000"), listener(&world, "[::]:7002"));
    world.client.tcp_server(8000).unwrap();
    let daemon = world.daemon();
    daemon.apply(&policy(&world, &[7000, 7002], false), &[]).unwrap();
    let mut over = [Pair::new(&world, &both, "10.0.0.10:7000"), Pair::new(&world, &both, "[2001:db8:1::10]:7000")];
    let mut lives = [Pair::new(&world, &kept, "10.0.0.10:7002"), Pair::new(&world, &kept, "[2001:db8:1::10]:7002")];
    let mut mute = Pair::new(&world, &both, "10.0.0.10:7000");
    // Whose guest hears nothing of its remote any more.
    let port = mute.port();
    world.instance.run(|| drop_from(port)).unwrap();

    let text = policy(&world, &[7002], false);
    let file = daemon.dir().join("next.yaml");
    fs::write(&file, &text).unwrap();
    let said = done(&daemon, &["apply", "-f", file.to_str().unwrap(), "--yes", "--reset"]);
    assert!(said.contains("TCP connections among them are reset: that cannot be taken back"), "{said}");
    assert!(said.contains("2 connections were reset at both ends, 1 flow is only cut"), "{said}");
    for pair in &mut over {
        assert_eq!((hears(&mut pair.client), hears(&mut pair.instance)), RESET);
    }
    assert!(!mute.speaks() && lives.iter_mut().all(Pair::speaks));
    assert_eq!(hears(&mut mute.client), ErrorKind::WouldBlock);

    // By hand, and one that the guest opened.
    let mut out = world.instance.connect(to("192.0.2.10:8000")).unwrap();
    assert!(answers(&mut out));
    let said = done(&daemon, &["flows", "--port", "8000", "--cut", "--reset", "--yes"]);
    assert!(said.contains("1 live flow is cut; 1 connection was reset at both ends"), "{said}");
    assert_eq!(hears(&mut out), ErrorKind::ConnectionReset);
    assert!(lives.iter_mut().all(Pair::speaks));
}

/// More than are asked for at once, and some that the guest knows nothing of any more: it answers with a reset.
#[test]
fn connections_that_a_guest_forgot_do_not_stand_in_the_way_of_others() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let both = listener(&world, "[::]:7000");
    let daemon = world.daemon();
    daemon.apply(&policy(&world, &[7000], false), &[]).unwrap();
    let mut forgotten: Vec<Pair> = (0..200).map(|_| Pair::new(&world, &both, "10.0.0.10:7000")).collect();
    let mut left = forgotten.split_off(100);
    let _clients: Vec<TcpStream> = forgotten.into_iter().map(forget).collect();
    let said = done(&daemon, &["flows", "--port", "7000", "--cut", "--reset", "--yes"]);
    assert!(said.contains("200 live flows are cut; 100 connections were reset at both ends"), "{said}");
    assert!(left.iter_mut().all(|pair| (hears(&mut pair.client), hears(&mut pair.instance)) == RESET));
}

/// Has the instance forget a connection without a word to its client.
fn forget(pair: Pair) -> TcpStream {
    let on: libc::c_int = 1;
    // SAFETY: an option of the size given, of a descriptor that is open.
    let result = unsafe {
        libc::setsockopt(
            pair.instance.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as u32,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    pair.client
}

/// What both ends hear of a reset that neither has sent.
const RESET: (ErrorKind, ErrorKind) = (ErrorKind::ConnectionReset, ErrorKind::ConnectionReset);

/// Has this namespace drop TCP segments from a port.
fn drop_from(port: u16) -> anyhow::Result<()> {
    let rules =
        format!("table ip t {{\nchain c {{\ntype filter hook input priority 0;\ntcp sport {port} drop\n}}\n}}\n");
    let done = std::process::Command::new("nft").arg(rules).status()?.success();
    anyhow::ensure!(done, "nft does not take it");
    Ok(())
}
