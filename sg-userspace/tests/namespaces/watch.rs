//! `sgctl watch`: what the kernel decided, as it does; and that a sample of it is what
//! the reference evaluator says.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    mem::offset_of,
    os::fd::AsFd,
    process::Child,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::Value;
use sg_common::{
    addr::Addr,
    generation::{Config, Generation, OVER, OwnKey, events, flags},
    limits, maps,
    policy::{CLASS_SIZES, CLASS_SLACK, DirectionHeader, PolicyHeader},
    quota::Quotas,
    reason::Verdict,
};
use sg_userspace::{
    daemon::protocol::Seen,
    dataplane::sys::{self, LpmKey, Mapping, RawMap},
    testbed::Daemon,
};

use super::world::*;
use crate::support::{many, pins::alter};

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watcher {
    child: Child,
    lines: Receiver<Value>,
}

impl Watcher {
    /// One that the kernel tells already.
    fn begin(daemon: &Daemon<'_>, arguments: &[&str]) -> Self {
        let audit = || fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap_or_default();
        let watching = || audit().matches("\"action\":\"watch\"").count();
        let before = watching();
        let mut child = daemon.sgctl_begin(&[&["watch", "-o", "json"], arguments].concat()).unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        eventually("it watches", || watching() > before);
        Self { child, lines }
    }

    fn next(&self) -> Seen {
        let line = self.lines.recv_timeout(PATIENCE).expect("an event");
        serde_json::from_value(line.clone()).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Lets it end as a person does; its last line.
    fn end(mut self) -> Value {
        // SAFETY: a process of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) }, 0);
        let mut last = Value::Null;
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            last = line;
        }
        assert!(self.child.wait().unwrap().success());
        last["end"].clone()
    }
}

fn shows_what_is_decided(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000, 7002]), &[]).unwrap();
    let watcher = Watcher::begin(&daemon, &["--port", "7000-7002"]);
    let by_rule = Watcher::begin(&daemon, &["--rule", "g[0]"]);

    assert!(!world.client.tcp(to("10.0.0.10:7001")).unwrap());
    let seen = watcher.next();
    assert_eq!((seen.what.as_str(), seen.reason.as_str(), seen.rule.as_deref()), ("drop", "default", None), "{way:?}");
    assert_eq!(
        (seen.device.as_str(), seen.direction.as_str(), seen.protocol.as_str()),
        (world.device(), "ingress", "tcp")
    );
    assert_eq!(
        (seen.local_port, seen.local.to_string(), seen.remote.to_string()),
        (Some(7001), "10.0.0.10".into(), "192.0.2.10".into())
    );
    // Not only once: a client tries again.
    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    let seen = loop {
        let seen = watcher.next();
        if seen.local_port == Some(7000) {
            break seen;
        }
    };
    assert_eq!(
        (seen.what.as_str(), seen.reason.as_str(), seen.rule.as_deref()),
        ("new", "rule", Some("g[0]")),
        "{way:?}"
    );
    assert_eq!(seen.priority, Some(1));
    // The other one sees this alone.
    assert_eq!(by_rule.next().local_port, Some(7000));

    // A change ends the flow, and takes the rule of the other away.
    daemon.apply(&lets_in(&world, &[7002]), &["--yes"]).unwrap();
    let _ = session.write_all(b"x");
    let seen = loop {
        let seen = watcher.next();
        if seen.what != "drop" {
            break seen;
        }
    };
    assert_eq!((seen.what.as_str(), seen.reason.as_str(), seen.local_port), ("cut", "cut", Some(7000)), "{way:?}");
    let end = watcher.end();
    assert_eq!((&end["left_out"], &end["passed_over"]), (&0.into(), &0.into()), "{end}");
    assert_eq!(by_rule.end()["shown"], 1);

    // All that was judged in between is what the policy of that moment says.
    let text = daemon.log();
    assert!(!text.contains("a verdict is not what the policy says"), "{text}");
}

#[test]
fn shows_what_is_decided_on_the_host_side() {
    shows_what_is_decided(Way::HostTc);
}

#[test]
fn shows_what_is_decided_at_xdp() {
    shows_what_is_decided(Way::HostXdp);
}

#[test]
fn shows_what_is_decided_on_the_guest_side() {
    shows_what_is_decided(Way::Guest);
}

#[test]
fn what_is_beyond_the_rate_is_counted_to_the_packet() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostXdp);
    // Nobody else sends.
    for net in [&world.client, &world.router, &world.instance] {
        net.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
    }
    let mut daemon = Daemon::new(&world.instance, bin()).unwrap();
    let log = daemon.dir().join("flows.jsonl");
    daemon.configure(&format!("flow_log.file = {log:?}")).unwrap();
    daemon.start().unwrap();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let some = Watcher::begin(&daemon, &["--port", "9", "--rate", "10"]);
    // Each packet is dropped, and nobody says so: none is sent again.
    let socket = world.client.run(|| Ok(std::net::UdpSocket::bind("192.0.2.10:0")?)).unwrap();
    let judged = || reason(&daemon.interface("eth0").unwrap(), "ingress", "default");
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (count, mut before) = (many(20_000, 5_000_000), 0);
    for n in 0..count {
        if n == count / 10 {
            before = resident();
        }
        // A full queue is no verdict.
        let _ = socket.send_to(b"x", "10.0.0.10:9");
    }
    let mut sent = 0;
    eventually("all are judged", || std::mem::replace(&mut sent, judged()) == judged() && sent > count / 10 * 9);
    let after = resident();
    assert!(after < before + 4096, "the daemon grew from {before} to {after} KiB");
    let end = some.end();
    let number = |name: &str| end[name].as_u64().unwrap();
    eprintln!("{count} packets sent, {sent} judged, {end}; the daemon has {before} KiB, then {after}");
    assert_eq!(number("shown") + number("left_out"), sent, "{end}");
    assert!(number("shown") >= 1 && number("left_out") > 0, "{end}");
    // One of ten, however fast they come.
    let tenth = Watcher::begin(&daemon, &["--port", "9", "--rate", "100000", "--every", "10"]);
    for _ in 0..500 {
        socket.send_to(b"x", "10.0.0.10:9").unwrap();
    }
    eventually("all are judged", || judged() >= sent + 500);
    let end = tenth.end();
    let number = |name: &str| end[name].as_u64().unwrap();
    assert_eq!(number("shown") + number("passed_over"), 500, "{end}");
    // Each CPU counts for itself.
    assert!((number("shown") as i64 - 50).abs() <= 8 && number("left_out") == 0, "{end}");
}

#[test]
fn what_is_not_there_cannot_be_watched() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let refused = |arguments: &[&str]| {
        let (done, text) = daemon.sgctl(&[&["watch"], arguments].concat()).unwrap();
        assert!(!done, "{arguments:?}: {text}");
        text
    };
    assert!(refused(&["--device", "eth9"]).contains("no protected device is meant by eth9"));
    assert!(refused(&["--group", "nobody"]).contains("no protected device is meant by nobody"));
    assert!(refused(&["--rule", "g[7]"]).contains("no rule in force is called \"g[7]\""));
    assert!(refused(&["--reason", "established"]).contains("`sgctl flows`"));
    assert!(refused(&["--port", "ssh"]).contains("not a port such as 22"));
}

#[test]
fn what_somebody_else_writes_into_our_tables_is_found_and_written_anew() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let mut daemon = Daemon::new(&world.instance, bin()).unwrap();
    daemon.configure(&format!("metrics.listen = {METRICS:?}")).unwrap();
    daemon.start().unwrap();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    assert!(reaches(7000) && !reaches(7001));
    // What an observer with the same rights can do: bits of the verdicts, in the live value.
    let pins = daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION));
    let flipped = || {
        let outer = sys::open_pin(&pins.join(maps::POLICIES[0]))?;
        let outer = RawMap::<u32, u32>::new(outer, 4, 4)?;
        for index in 0..limits::MAX_POLICIES {
            let Some(id) = outer.get(&index)? else { continue };
            let inner = sys::map_by_id(id)?;
            let size = CLASS_SIZES[0] + CLASS_SLACK;
            let value = Mapping::new(inner.as_fd(), size as usize)?;
            // Where the rules of inbound packets are; row 0 is the default.
            let at = offset_of!(PolicyHeader, direction) + offset_of!(DirectionHeader, rules);
            let row = (value.words(at & !7, 1).next().unwrap() >> ((at & 7) * 8)) as u32 as usize;
            let word = value.words(row, 1).next().unwrap();
            value.or(row, (Verdict::Accept as u64) << 32);
            assert_ne!(word, value.words(row, 1).next().unwrap());
        }
        Ok(())
    };
    // Until it is found, the program goes by it; it looks once a second.
    let open = (0..5).any(|_| {
        daemon.enter(flipped).unwrap();
        reaches(7001)
    });
    assert!(open, "the bits mean nothing");
    eventually("a sample tells", || daemon.log().contains("a verdict is not what the policy says"));
    eventually("it is written anew", || {
        daemon.log().contains("in the kernel was not what sgd had written") && !reaches(7001)
    });
    assert!(reaches(7000));
    eventually("both are counted", || {
        ["sg_samples_total{result=\"mismatch\"}", "sg_table_differences_total"]
            .iter()
            .all(|series| metric(&daemon, series) >= 1)
    });

    // A device's entry, and its record.
    alter(&daemon, |device, there| {
        device.update(0);
        Generation { flags: there.flags | flags::OBSERVE, observe_until: there.epoch | 1, ..there }
    });
    eventually("it is put right", || {
        let log = daemon.log();
        log.contains("what eth0 enforces in the kernel was not") && log.contains("the generation of eth0 in the kernel")
    });
    assert!(reaches(7000) && !reaches(7001));
    // One bit, by which the program would go by what was before.
    let said = daemon.log().matches("the generation of eth0").count();
    alter(&daemon, |_, there| Generation { deadline: OVER, ..there });
    eventually("it is put right", || daemon.log().matches("the generation of eth0").count() > said);
    assert!(reaches(7000) && !reaches(7001));
    // An address that nobody gave a guest.
    let stranger = || {
        let own = sys::open_pin(&pins.join(maps::OWN))?;
        let own = RawMap::<OwnKey, u32>::new(own, size_of::<OwnKey>() as u32, 4)?;
        let ip: std::net::IpAddr = [192, 0, 2, 99].into();
        own.update(&OwnKey { zone: 1, addr: ip.into() }, &1)?;
        Ok(())
    };
    daemon.enter(stranger).unwrap();
    // One bit of what all devices share: packets tell nobody then, and a remote has no quota.
    let bits = || {
        let config =
            RawMap::<u32, Config>::new(sys::open_pin(&pins.join(maps::CONFIG))?, 4, size_of::<Config>() as u32)?;
        let there = config.get(&0)?.unwrap();
        // The clock is not compared: tests move it.
        config.update(&0, &Config { events: there.events ^ 1, time_offset: 1, ..there })?;
        let quotas =
            RawMap::<u32, Quotas>::new(sys::open_pin(&pins.join(maps::QUOTAS))?, 4, size_of::<Quotas>() as u32)?;
        let there = quotas.get(&0)?.unwrap();
        quotas.update(&0, &Quotas { remote: 0, ..there })?;
        Ok((there, quotas.get(&0)?.unwrap()))
    };
    let (written, altered) = daemon.enter(bits).unwrap();
    assert_ne!(written, altered);
    eventually("both are put right", || {
        let log = daemon.log();
        let said = |what: &str| log.contains(&format!("the {what} in the kernel was not what sgd had written"));
        said("program's configuration") && said("table of flows' quotas")
    });
    let shared = || {
        let config =
            RawMap::<u32, Config>::new(sys::open_pin(&pins.join(maps::CONFIG))?, 4, size_of::<Config>() as u32)?;
        let quotas =
            RawMap::<u32, Quotas>::new(sys::open_pin(&pins.join(maps::QUOTAS))?, 4, size_of::<Quotas>() as u32)?;
        Ok((config.get(&0)?.unwrap(), quotas.get(&0)?.unwrap()))
    };
    let (config, quotas) = daemon.enter(shared).unwrap();
    assert_eq!((config.events, config.time_offset, quotas), (events::DECISIONS, 1, written));
    eventually("it is taken out", || daemon.log().contains("own addresses in the kernel was not what sgd had written"));
    daemon.stop(libc::SIGTERM).unwrap();
}

/// Addresses that are in the hash of hosts and in the trie: more than a list holds, all over the place.
fn scattered(world: &World) -> String {
    let hosts: Vec<String> = (1..=200).map(|i| format!("'2001:db8:{:x}::{i:x}'", i * 37)).collect();
    let prefixes: Vec<String> = (1..=100).map(|i| format!("{{cidr: '2001:db9:{:x}::/64'}}", i * 53)).collect();
    let text = lets_in(world, &[7000]);
    let rules = "permissions: [\
                 {direction: ingress, ip_protocol: tcp, port_range: 7002/7002, source_group_id: web},\
                 {direction: ingress, ip_protocol: tcp, port_range: 7003/7003, source_prefix_list_id: pl-far},";
    assert!(text.contains("permissions: [") && text.contains("network_interfaces:\n"), "{text}");
    text.replacen("permissions: [", rules, 1).replacen(
        "network_interfaces:\n",
        &format!(
            "- {{security_group_name: web, security_group_id: web}}\n\
             prefix_lists:\n- {{prefix_list_name: far, prefix_list_id: pl-far, address_family: IPv6, max_entries: 100,\n\
             \x20  entries: [{}]}}\n\
             network_interfaces:\n- {{network_interface_id: eni-web, private_ip_addresses: [{}], security_group_ids: [web]}}\n",
            prefixes.join(", "),
            hosts.join(", ")
        ),
        1,
    )
}

#[test]
fn an_entry_that_somebody_else_writes_into_an_address_table_is_found() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(7000).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&scattered(&world), &[]).unwrap();
    let pins = daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION));
    /// Gives the first entry of each inner table another class.
    fn alter_first<K: sys::Raw + Copy>(outer: std::os::fd::OwnedFd) -> anyhow::Result<usize> {
        let outer = RawMap::<u32, u32>::new(outer, 4, 4)?;
        let mut altered = 0;
        for index in 0..limits::MAX_POLICIES {
            let Some(id) = outer.get(&index)? else { continue };
            let inner = RawMap::<K, u32>::new(sys::map_by_id(id)?, size_of::<K>() as u32, 4)?;
            let Some(key) = inner.next_key(None)? else { continue };
            let there = inner.get(&key)?.unwrap();
            inner.update(&key, &(there ^ 1))?;
            altered += 1;
        }
        Ok(altered)
    }
    let told = |what: &str| daemon.log().matches(&format!("the {what} of the policy of")).count();
    let epoch = || daemon.interface("eth0").unwrap().status.epoch;
    for (name, what) in [(maps::HOSTS, "host table"), (maps::PREFIXES, "prefix table")] {
        let alter = || {
            let outer = sys::open_pin(&pins.join(name))?;
            if name == maps::HOSTS { alter_first::<Addr>(outer) } else { alter_first::<LpmKey>(outer) }
        };
        let before = epoch();
        assert!(daemon.enter(alter).unwrap() > 0, "there is no {what}");
        eventually("it is found, and made anew", || told(what) == 1 && epoch() != before);
    }
    // And a place that leads to no table at all.
    let taken = || {
        let outer = RawMap::<u32, u32>::new(sys::open_pin(&pins.join(maps::HOSTS))?, 4, 4)?;
        let held = (0..limits::MAX_POLICIES).find(|index| outer.get(index).is_ok_and(|id| id.is_some()));
        Ok(outer.delete(&held.expect("a host table"))?)
    };
    let before = epoch();
    daemon.enter(taken).unwrap();
    let what = "place of the address tables";
    eventually("it is found, and made anew", || told(what) == 1 && epoch() != before);
    assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    assert_eq!((told("host table"), told("prefix table")), (1, 1), "{}", daemon.log());
    daemon.stop(libc::SIGTERM).unwrap();
}
