//! What no client should send: refused, bounded, and others are answered.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use sg_userspace::testbed::Daemon;

use super::client::{call, daemon, key, parsed, post, raw, signed};
use crate::world::{Way, World, can_run};

#[test]
fn hostile_requests_are_refused_and_others_answered() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    let key = key(&daemon, &[]);
    let ask = [("Action", "DescribeRegions")];

    // Those that never end what they say: a line now and then, and nothing more.
    let mut slow: Vec<TcpStream> = daemon
        .enter(|| {
            (0..200)
                .map(|i| {
                    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
                    if i % 2 == 0 {
                        stream.write_all(b"POST / HTTP/1.1\r\nX: ")?;
                    }
                    Ok(stream)
                })
                .collect()
        })
        .unwrap();

    // Random bytes, bytes of TLS, half requests.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [0, 1, 10, 1000, 100_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .chain(*b"\r\n\r\n")
            .collect();
        let said = raw(&daemon, &bytes);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    assert!(raw(&daemon, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").starts_with("HTTP/1.1 400"));

    // More parameters than any call has; indexes that would take all memory; long texts.
    let many: Vec<(String, String)> = (0..10_000).map(|i| (format!("P{i}"), "x".to_owned())).collect();
    let pairs: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain(ask).collect();
    assert_eq!(call(&daemon, &key, &pairs).0, 400);
    let made =
        call(&daemon, &key, &[("Action", "CreateSecurityGroup")]).1["SecurityGroupId"].as_str().unwrap().to_owned();
    for index in ["4294967296", "1001", "0", "-1", "1.2.3.4.5.6.7.8", "99999999999999999999999999"] {
        let name = format!("Permissions.{index}.IpProtocol");
        let (status, body) =
            call(&daemon, &key, &[("Action", "AuthorizeSecurityGroup"), ("SecurityGroupId", &made), (&name, "tcp")]);
        assert_eq!(status, 400, "{index}: {body}");
    }
    let long = "x".repeat(3 << 20);
    let (status, _) = call(&daemon, &key, &[("Action", "CreateSecurityGroup"), ("Description", &long)]);
    assert_eq!(status, 400);

    // Half of a good request, and one whose body was changed on the way.
    let good = post(&signed(&key, &ask));
    let said = daemon
        .enter(|| {
            let mut stream = TcpStream::connect("127.0.0.1:8080")?;
            stream.write_all(&good[..good.len() - 5])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        })
        .unwrap();
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let changed = String::from_utf8(good.clone()).unwrap().replace("Action=DescribeRegions", "Action=DeleteEverything");
    let length = |s: &str| s.split_once("\r\n\r\n").unwrap().1.len();
    let (a, b) = (length(&String::from_utf8(good).unwrap()), length(&changed));
    let changed = changed.replace(&format!("Content-Length: {a}"), &format!("Content-Length: {b}"));
    assert_eq!(parsed(&raw(&daemon, changed.as_bytes())).1["Code"], "SignatureDoesNotMatch");

    // All the while others are answered; and those that are slow are cut.
    assert_eq!(call(&daemon, &key, &ask).0, 200);
    for stream in slow.iter_mut().step_by(2) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 408"), "{said:?}");
    }
    assert!(daemon.runs().unwrap());
    let kib = memory(&daemon, "VmRSS:");
    assert!(kib < 200 << 10, "{kib} KiB resident");
}

/// KiB that the daemon has.
fn memory(daemon: &Daemon<'_>, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    status.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().next()?.parse().ok()).unwrap()
}

#[test]
fn many_large_requests_take_little_memory_and_others_are_answered() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    let key = key(&daemon, &[]);
    let ask = [("Action", "DescribeRegions")];
    assert_eq!(call(&daemon, &key, &ask).0, 200);
    let before = memory(&daemon, "VmRSS:");

    // A MiB of a head and four of a body from each, but for the last byte; nobody has signed anything.
    let large = format!("POST /?a={} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", "x".repeat(1 << 20), 4 << 20);
    let large = [large.into_bytes(), vec![b'y'; (4 << 20) - 1]].concat();
    let connect = |_| Ok(TcpStream::connect("127.0.0.1:8080")?);
    let streams: Vec<TcpStream> = daemon.enter(|| (0..300).map(connect).collect()).unwrap();
    let (mut most, mut busy) = (0, 0);
    std::thread::scope(|scope| {
        let send = |mut stream: TcpStream| {
            let large = &large;
            scope.spawn(move || {
                stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                // It may be refused in the middle, and what was said be lost with the rest.
                let _ = stream.write_all(large);
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said);
                String::from_utf8_lossy(&said).into_owned()
            })
        };
        let senders: Vec<_> = streams.into_iter().map(send).collect();
        let mut rounds = 0;
        while rounds < 20 || senders.iter().any(|s| !s.is_finished()) {
            let asked = std::time::Instant::now();
            assert_eq!(call(&daemon, &key, &ask).0, 200);
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            most = most.max(memory(&daemon, "VmRSS:"));
            rounds += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        for sender in senders {
            let said = sender.join().unwrap();
            let statuses = ["HTTP/1.1 503 ", "HTTP/1.1 408 "];
            assert!(said.is_empty() || statuses.iter().any(|s| said.starts_with(s)), "{said}");
            busy += usize::from(said.starts_with(statuses[0]));
        }
    });
    assert!(daemon.runs().unwrap());
    let most = most.max(memory(&daemon, "VmHWM:"));
    println!("{before} KiB before, {most} KiB at most, {busy} told that it is busy");
    assert!(most - before < 150 << 10, "{before} KiB before, {most} KiB at most");
    // And when they are gone, there is room again.
    let long = "x".repeat(3 << 20);
    assert_eq!(call(&daemon, &key, &[("Action", "DescribeRegions"), ("Ignored", &long)]).0, 200);
}
