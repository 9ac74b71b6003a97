//! What no client should send: refused, bounded, and others are answered.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use sg_userspace::testbed::Daemon;

use super::{
    client::{call, daemon, key, parsed, post, raw, signed},
    tls,
};
use crate::world::{Way, World, bin, can_run, eventually};

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
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("api.connections_per_address = 512").unwrap();
    daemon.start().unwrap();
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

/// All that a connection still says, to its end; that it ends is what is asked for.
fn to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            panic!("it is still open")
        }
        _ => said,
    }
}

#[test]
fn one_address_has_no_more_than_its_share_of_connections() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("api.connections_per_address = 8").unwrap();
    daemon.start().unwrap();
    let key = key(&daemon, &[]);
    let ask = post(&signed(&key, &[("Action", "DescribeRegions")]));
    let connect = || daemon.enter(|| Ok(TcpStream::connect("127.0.0.1:8080")?)).unwrap();
    let mut held: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    // One more hears why, whatever it says and however much; and the next one, too.
    for said in [&ask[..], b"x", &vec![b'x'; 1 << 20]] {
        let (status, body) = parsed(&raw(&daemon, said));
        assert_eq!((status, &body["Code"]), (503, &"ServiceUnavailable".into()), "{body}");
        let message = body["Message"].as_str().unwrap();
        assert!(message.contains("8 connections from this address") && message.contains("sgd.toml"), "{message}");
    }
    // Those that are open are served; and when one is gone, there is room for one.
    held[7].write_all(&ask).unwrap();
    assert!(String::from_utf8_lossy(&to_the_end(&mut held[7])).starts_with("HTTP/1.1 200"));
    held.truncate(7);
    eventually("there is room for one", || {
        parsed(&raw(&daemon, &post(&signed(&key, &[("Action", "DescribeRegions")])))).0 == 200
    });
}

#[test]
fn a_client_of_tls_that_stops_midway_is_cut_and_others_are_served() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    let ca = tls::protect(&daemon);
    daemon.configure("api.listen = \"0.0.0.0:8080\"").unwrap();
    daemon.configure("api.connections_per_address = 16").unwrap();
    daemon.start().unwrap();
    let key = key(&daemon, &[]);
    let good = |daemon: &Daemon<'_>| {
        let mut stream = tls::connect(daemon, &ca);
        stream.write_all(&post(&signed(&key, &[("Action", "DescribeRegions")]))).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        assert_eq!(parsed(&said).0, 200, "{said}");
    };
    let connect = || daemon.enter(|| Ok(TcpStream::connect("127.0.0.1:8080")?)).unwrap();
    let hello = || {
        let mut client = tls::client(&ca, "127.0.0.1");
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        (client, bytes)
    };
    // Bytes of a request as a client that is through with its handshake sends them.
    let record = |stream: &mut tls::Stream| {
        let request = post(&signed(&key, &[("Action", "DescribeRegions")]));
        stream.conn.writer().write_all(&request).unwrap();
        let mut bytes = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut bytes).unwrap();
        }
        bytes
    };

    // In the middle of the first message: it ends, or says nothing more.
    let mut stopped = Vec::new();
    for part in [1, 4, 5, 40, 9999] {
        for ends in [true, false] {
            let mut stream = connect();
            let (_, bytes) = hello();
            // 9999 is the whole message: what the daemon says then is not answered.
            stream.write_all(&bytes[..part.min(bytes.len())]).unwrap();
            if ends {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            stopped.push(stream);
        }
    }
    // In the middle of a record behind the handshake; and one that was changed on the way.
    for ends in [true, false] {
        let mut stream = tls::connect(&daemon, &ca);
        let bytes = record(&mut stream);
        stream.sock.write_all(&bytes[..bytes.len() / 2]).unwrap();
        if ends {
            stream.sock.shutdown(Shutdown::Write).unwrap();
        }
        stopped.push(stream.sock);
    }
    let mut stream = tls::connect(&daemon, &ca);
    let mut bytes = record(&mut stream);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    stream.sock.write_all(&bytes).unwrap();
    stopped.push(stream.sock);

    // All the while others are served. Each of those is cut, and hears nothing in plain.
    good(&daemon);
    for mut stream in stopped {
        let said = to_the_end(&mut stream);
        assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "{said:?}");
    }

    // None of them holds a place any more: one address has all of its share again, and is
    // cut beyond it, while another is served.
    let mut held = Vec::new();
    eventually("its share is whole again", || {
        held.extend(tls::try_connect(&daemon, &ca));
        held.len() == 16
    });
    let mut one_more = connect();
    let (_, bytes) = hello();
    let _ = one_more.write_all(&bytes);
    assert!(to_the_end(&mut one_more).is_empty(), "it was answered");
    let said = world
        .client
        .run(|| {
            let mut stream = TcpStream::connect("192.0.2.1:8080")?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut client = tls::client(&ca, "192.0.2.1");
            client.complete_io(&mut stream)?;
            client.writer().write_all(&post(&signed(&key, &[("Action", "DescribeRegions")])))?;
            let mut said = String::new();
            let _ = tokio_rustls::rustls::Stream::new(&mut client, &mut stream).read_to_string(&mut said);
            Ok(said)
        })
        .unwrap();
    assert_eq!(parsed(&said).0, 200, "{said}");
    drop(held);
    eventually("there is room again", || {
        let mut stream = connect();
        stream.write_all(&hello().1).is_ok() && stream.read(&mut [0; 5]).is_ok_and(|n| n > 0)
    });
    good(&daemon);
    assert!(daemon.runs().unwrap());
}
