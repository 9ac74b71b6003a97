//! The log of flows: what each carried both ways, who let it in, how it ended; over a
//! daemon's death, too.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::world::*;

fn file(daemon: &Daemon<'_>) -> PathBuf {
    daemon.dir().join("flows.jsonl")
}

/// Lines of a kind.
fn lines(daemon: &Daemon<'_>, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(file(daemon)).unwrap_or_default();
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{e}: {l}")));
    all.filter(|l| l["kind"] == kind).collect()
}

fn logging(world: &World) -> Daemon<'_> {
    let net = if world.way == Way::Guest { &world.router } else { &world.instance };
    let mut daemon = Daemon::new(net, bin()).unwrap();
    let file = file(&daemon);
    daemon.configure(&format!("flow_log.file = {file:?}")).unwrap();
    daemon.configure("flow_log.every = 1").unwrap();
    daemon.start().unwrap();
    daemon
}

fn talk(session: &mut TcpStream, bytes: usize) {
    session.write_all(&vec![7; bytes]).unwrap();
    let mut got = 0;
    while got < 1 {
        got += session.read(&mut [0; 4096]).unwrap();
    }
}

/// Packets and bytes accepted on the device, those aside that always pass.
fn accepted(daemon: &Daemon<'_>, device: &str, direction: &str) -> u64 {
    let view = daemon.interface(device).unwrap();
    let all =
        view.reasons.iter().filter(|r| r.direction == direction && r.verdict == "accept" && r.reason != "essential");
    all.map(|r| r.packets).sum()
}

/// The next line of a flow that is over.
fn over(daemon: &Daemon<'_>, before: usize) -> Value {
    within(Duration::from_secs(30), "the flow is logged", || lines(daemon, "flow").len() > before);
    lines(daemon, "flow")[before].clone()
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_else(|| panic!("{name}: {line}"))
}

fn each_flow_has_its_line(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let mut daemon = logging(&world);
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let device = world.device();

    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    talk(&mut session, 1000);
    // Nobody knows of a flow that goes on; a daemon that dies takes nothing with it.
    assert!(lines(&daemon, "flow").is_empty());
    daemon.stop(libc::SIGKILL).unwrap();
    talk(&mut session, 1000);
    daemon.start().unwrap();
    talk(&mut session, 1000);
    drop(session);
    let line = over(&daemon, 0);
    assert_eq!(
        (&line["ended"], &line["verdict"], &line["reason"], &line["rule"]),
        (&"closed".into(), &"accept".into(), &"rule".into(), &"g[0]".into()),
        "{line}"
    );
    assert_eq!(
        (&line["device"], &line["direction"], &line["protocol"]),
        (&device.into(), &"ingress".into(), &"tcp".into())
    );
    assert_eq!(
        (&line["local"], number(&line, "local_port"), &line["remote"]),
        (&"10.0.0.10".into(), 7000, &"192.0.2.10".into())
    );
    assert_eq!(number(&line, "packets_in"), accepted(&daemon, device, "ingress"), "{way:?}: {line}");
    assert_eq!(number(&line, "packets_out"), accepted(&daemon, device, "egress"), "{way:?}: {line}");
    // Three times a thousand, and headers of each packet.
    let headers = 54 * number(&line, "packets_in")..100 * number(&line, "packets_in");
    assert!(headers.contains(&(number(&line, "bytes_in") - 3000)), "{line}");
    assert!(line.get("connections").is_none(), "{line}");
    let time = |name: &str| humantime::parse_rfc3339(line[name].as_str().unwrap()).unwrap();
    assert!(time("end") >= time("start"), "{line}");

    assert!(!world.client.tcp(to("10.0.0.10:7001")).unwrap());
    eventually("it is logged", || !lines(&daemon, "denied").is_empty());
    let denied = &lines(&daemon, "denied")[0];
    assert_eq!(
        (&denied["verdict"], &denied["reason"], &denied["local_port"]),
        (&"drop".into(), &"default".into(), &7001.into()),
        "{denied}"
    );

    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    talk(&mut session, 10);
    // What a plan would cut is told with what it has carried.
    let next = daemon.dir().join("next.yaml");
    fs::write(&next, lets_in(&world, &[7001])).unwrap();
    let (planned, said) = daemon.sgctl(&["plan", "-f", next.to_str().unwrap()]).unwrap();
    assert!(planned && said.starts_with("1 live flow that the new rules deny:"), "{said}");
    assert!(said.contains("-> 10.0.0.10:7000, let in by g[0], ") && said.contains(" bytes in and "), "{said}");
    assert!(!said.contains("[flow_log]"), "{said}");
    assert!(said.contains(", idle for 0s") || said.contains(", idle for 1s"), "{said}");
    daemon.apply(&lets_in(&world, &[7001]), &["--yes"]).unwrap();
    let _ = session.write_all(b"x");
    let line = over(&daemon, 1);
    assert_eq!((&line["ended"], &line["verdict"]), (&"cut".into(), &"cut".into()), "{line}");
}

#[test]
fn each_flow_has_its_line_on_the_host_side() {
    each_flow_has_its_line(Way::HostXdp);
}

#[test]
fn each_flow_has_its_line_on_the_guest_side() {
    each_flow_has_its_line(Way::Guest);
}

#[test]
fn without_a_log_nothing_is_counted() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(7000).unwrap();
    let mut daemon = logging(&world);
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let accounts = |daemon: &Daemon<'_>| crate::support::pins::accounts(daemon);
    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    talk(&mut session, 10);
    assert_eq!(accounts(&daemon), 1);
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("flow_log.file = \"\"").unwrap();
    daemon.start().unwrap();
    talk(&mut session, 10);
    assert_eq!(accounts(&daemon), 0);
}

#[test]
fn what_waits_is_written_when_the_daemon_ends() {
    const PACKETS: u64 = 50;
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = logging(&world);
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let socket = world.client.run(|| Ok(std::net::UdpSocket::bind("192.0.2.10:0")?)).unwrap();
    // As many as a window of the kernel's may hold, with some to spare.
    for _ in 0..PACKETS {
        socket.send_to(b"x", "10.0.0.10:9").unwrap();
    }
    eventually("all are judged", || reason(&daemon.interface("eth0").unwrap(), "ingress", "default") >= PACKETS);
    daemon.stop(libc::SIGTERM).unwrap();
    let written = lines(&daemon, "denied").len() as u64;
    let left_out: u64 = lines(&daemon, "left_out").iter().map(|l| number(l, "denied")).sum();
    // What is beyond the rate is said by the next look, which the next daemon has.
    assert!(written >= 5 && written + left_out <= PACKETS, "{written} {left_out}");
    assert!(!daemon.log().contains("lines of the log of flows were not written"), "{}", daemon.log());
    assert!(daemon.log().contains("ended; what was in force"), "{}", daemon.log());
}
