//! Under a storm of policies and packets the reference evaluator says of every sample what
//! the kernel said, under the policy that each names: datagrams, connections and echoes of both
//! families, admitted and denied; and no table differs from what was
//! written.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::FromRawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use sg_userspace::{
    ctl::client::ask,
    daemon::protocol::{Action, File, Reply},
    dataplane::engine::OnChange,
    testbed::Daemon,
};

use super::world::*;
use crate::support::{Random, many};

/// Protocols of rules, and what a rule of each may say of addresses.
const KINDS: [(&str, bool); 6] =
    [("udp", true), ("udp", false), ("tcp", true), ("tcp", false), ("icmp", true), ("icmpv6", false)];

/// A policy that differs a little from others: rules of all protocols and both families, lists, members.
fn policy(r: &mut Random, world: &World) -> String {
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    let sources = [
        ["0.0.0.0/0", "192.0.2.0/28", "192.0.2.64/26", "192.0.2.77/32"],
        ["'::/0'", "'2001:db8:99::/124'", "'2001:db8:99::40/122'", "'2001:db8:99::77/128'"],
    ];
    for i in 0..3 + r.below(12) {
        let (protocol, v4) = KINDS[r.below(KINDS.len())];
        let port = 1000 + 100 * r.below(10);
        let ports = match protocol {
            "tcp" | "udp" => format!("{port}/{}", port + r.below(300)),
            _ => "-1/-1".into(),
        };
        let policy = if r.chance(30) { "drop" } else { "accept" };
        let remote = match (r.below(4), v4) {
            (0, true) => "source_prefix_list_id: some".to_owned(),
            (0, false) => "source_prefix_list_id: some6".to_owned(),
            (1, _) => "source_group_id: others".to_owned(),
            (_, true) => format!("source_cidr_ip: {}", r.pick(&sources[0])),
            (_, false) => format!("ipv6_source_cidr_ip: {}", r.pick(&sources[1])),
        };
        let priority = 1 + i;
        let rule =
            format!("ip_protocol: {protocol}, port_range: {ports}, priority: {priority}, policy: {policy}, {remote}");
        let _ = writeln!(text, "  - {{direction: ingress, {rule}}}");
    }
    let members =
        ["192.0.2.10, '2001:db8:99::10'", "198.51.100.1, '2001:db8:99::77'", "192.0.2.77", "'2001:db8:99::10'"];
    let entry = if r.chance(50) { "192.0.2.77/32" } else { "192.0.2.0/29" };
    let entry6 = if r.chance(50) { "2001:db8:99::77/128" } else { "2001:db8:99::/125" };
    let _ = write!(
        text,
        "- security_group_name: others\nprefix_lists:\n\
         - {{prefix_list_name: some, entries: [{{cidr: {entry}}}]}}\n\
         - {{prefix_list_name: some6, address_family: IPv6, entries: [{{cidr: '{entry6}'}}]}}\n{}\
         - {{private_ip_addresses: [{}], security_group_ids: [others]}}\n",
        world.interface("g"),
        r.pick(&members)
    );
    text
}

/// The instance, by family.
const INSTANCE: [&str; 2] = ["10.0.0.10", "2001:db8:1::10"];

/// Ports that somebody listens to: what is admitted there is confirmed.
const SERVED: [u16; 3] = [1050, 1250, 1450];

fn port(r: &mut Random) -> u16 {
    if r.chance(25) { SERVED[r.below(SERVED.len())] } else { 950 + r.below(1200) as u16 }
}

/// Sends datagrams of both families, from two addresses of each, until told to stop.
fn datagrams(world: &World, stop: &AtomicBool) {
    let socket = |from: &str| world.client.run(|| Ok(UdpSocket::bind((from, 0))?)).unwrap();
    let mut r = Random::new(5);
    while !stop.load(Ordering::Relaxed) {
        // Ports of their own, so that flows begin.
        let sockets = [["192.0.2.10", "192.0.2.77"], ["2001:db8:99::10", "2001:db8:99::77"]].map(|two| two.map(socket));
        for _ in 0..2000 {
            let family = r.below(2);
            // What nobody listens to is answered, and told by the next one.
            let _ = sockets[family][r.below(2)].send_to(b"x", (INSTANCE[family], port(&mut r)));
        }
    }
}

/// Begins connections in both families until told to stop; how many were answered, and how many were not.
fn connections(world: &World, stop: &AtomicBool) -> [u64; 2] {
    let (mut r, mut counts) = (Random::new(6), [0; 2]);
    let mut run = || {
        while !stop.load(Ordering::Relaxed) {
            let to = SocketAddr::new(INSTANCE[r.below(2)].parse()?, port(&mut r));
            let answered = match TcpStream::connect_timeout(&to, Duration::from_millis(4)) {
                Ok(_) => true,
                Err(e) => e.kind() == ErrorKind::ConnectionRefused,
            };
            counts[usize::from(!answered)] += 1;
        }
        Ok(())
    };
    world.client.run(&mut run).unwrap();
    counts
}

/// Sends echo requests of both families until told to stop, each a flow of its own; how many were answered.
fn echoes(world: &World, stop: &AtomicBool) -> u64 {
    let families = [(libc::AF_INET, libc::IPPROTO_ICMP), (libc::AF_INET6, libc::IPPROTO_ICMPV6)];
    let socket = |(family, protocol)| {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a descriptor that nobody else owns; sending and receiving are the same for all sockets.
        let socket = unsafe { UdpSocket::from_raw_fd(fd) };
        socket.set_read_timeout(Some(Duration::from_millis(4))).unwrap();
        socket
    };
    let sockets = world.client.run(|| Ok(families.map(socket))).unwrap();
    let (mut id, mut answered, mut buffer) = (0_u16, 0, [0; 256]);
    while !stop.load(Ordering::Relaxed) {
        id = id.wrapping_add(1);
        let [a, b] = id.to_be_bytes();
        let sum = 0x0800 + u32::from(id) + 1;
        let [x, y] = (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
        for (family, socket) in sockets.iter().enumerate() {
            let to = SocketAddr::new(INSTANCE[family].parse().unwrap(), 0);
            // The kernel itself puts the sum into that of IPv6.
            let _ = socket.send_to(&[[8, 128][family], 0, x, y, a, b, 0, 1], to);
            if let Ok(length) = socket.recv(&mut buffer) {
                let at = [20, 0][family];
                answered += u64::from(length > at && buffer[at] == [0, 129][family]);
            }
        }
    }
    answered
}

fn samples_under_changes(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    let mut daemon = Daemon::new(if way == Way::Guest { &world.router } else { &world.instance }, bin()).unwrap();
    daemon.configure("samples = 100000").unwrap();
    daemon.configure(&format!("metrics.listen = {METRICS:?}")).unwrap();
    daemon.start().unwrap();
    SERVED.iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let (changes, samples) = (many(500, 10_000), many(50_000, 1_000_000));
    let (stop, socket) = (AtomicBool::new(false), daemon.dir().join("sgd.sock"));
    let mut r = Random::new(11);
    std::thread::scope(|scope| {
        scope.spawn(|| datagrams(&world, &stop));
        let connections = scope.spawn(|| connections(&world, &stop));
        let echoes = scope.spawn(|| echoes(&world, &stop));
        let until = Instant::now() + Duration::from_secs(120 + changes / 5);
        let (mut changed, mut judged) = (0, 0);
        while changed < changes || judged < samples {
            let text = policy(&mut r, &world);
            let action = Action::Document {
                files: vec![File { name: "storm".into(), text: text.clone() }],
                adopt: false,
                apply: true,
                if_generation: None,
                on_change: OnChange::Cut,
                session: None,
                confirm: None,
                all: false,
            };
            let reply = ask(&socket, &action).unwrap();
            if !matches!(reply, Reply::Planned(_)) {
                stop.store(true, Ordering::Relaxed);
                panic!("{reply:?}\n{text}");
            }
            changed += 1;
            if changed % 50 == 0 {
                judged = metric(&daemon, "sg_samples_total{result=\"same\"}");
            }
            if Instant::now() > until {
                stop.store(true, Ordering::Relaxed);
                panic!("{changed} changes, {judged} samples");
            }
        }
        stop.store(true, Ordering::Relaxed);
        let ([answered, not], echoes) = (connections.join().unwrap(), echoes.join().unwrap());
        assert!(
            answered > 20 && not > 20 && echoes > 20,
            "{answered} connections answered, {not} not, {echoes} echoes"
        );
    });
    assert_eq!(metric(&daemon, "sg_samples_total{result=\"mismatch\"}"), 0, "{}", daemon.log());
    assert_eq!(metric(&daemon, "sg_table_differences_total"), 0, "{}", daemon.log());
}

#[test]
fn samples_under_changes_on_the_host_side() {
    samples_under_changes(Way::HostXdp);
}

#[test]
fn samples_under_changes_on_the_guest_side() {
    samples_under_changes(Way::Guest);
}
