//! Another version of the maps, another size of the conntrack tables, pins that
//! are damaged or gone: no flow is lost, and no packet judged by nobody.

mod one;

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use sg_common::{
    ABI_VERSION,
    flow::{FlowKey4, place},
    generation::Generation,
    maps,
};
use sg_userspace::{
    dataplane::{
        carry::{
            flows::{Count, Time, merge},
            old::Table,
        },
        filter::Halves,
        object::FlowWords,
        sys,
        sys::RawMap,
    },
    testbed::{Daemon, echoes},
};

use super::{survival::alone, world::*};
use crate::support::{Random, scale};

/// Directory of a set of pins.
fn set(daemon: &Daemon<'_>, name: &str) -> PathBuf {
    daemon.dir().join("bpf/sg").join(name)
}

fn own(daemon: &Daemon<'_>) -> PathBuf {
    set(daemon, &format!("v{ABI_VERSION}"))
}

/// A pinned map of a set.
fn map<K: sys::Raw, V: sys::Raw>(set: &Path, name: &str) -> anyhow::Result<RawMap<K, V>> {
    let fd = sys::open_pin(&set.join(name))?;
    Ok(RawMap::new(fd, size_of::<K>() as u32, size_of::<V>() as u32)?)
}

/// Sets below the pin root.
fn sets(daemon: &Daemon<'_>) -> Vec<String> {
    let root = daemon.dir().join("bpf/sg");
    let list = move || Ok(std::fs::read_dir(root)?.map(|e| e.unwrap().file_name().into_string().unwrap()).collect());
    let mut sets: Vec<String> = daemon.enter(list).unwrap();
    sets.sort();
    sets
}

fn log(daemon: &Daemon<'_>) -> String {
    std::fs::read_to_string(daemon.dir().join("sgd.log")).unwrap()
}

/// Only an enterprise group drops what the instance sends unasked: 80 and 81 are
/// open, and what comes back belongs to a flow or is dropped.
fn policy(world: &World) -> String {
    let rule =
        |port, cidr| format!("  - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, {cidr}}}\n");
    let mut text =
        "security_groups:\n- security_group_name: g\n  security_group_type: enterprise\n  permissions:\n".to_owned();
    for port in [80, 81] {
        text += &rule(port, "source_cidr_ip: 0.0.0.0/0");
        text += &rule(port, "ipv6_source_cidr_ip: '::/0'");
    }
    text + &world.interface("g")
}

/// A server on 81 that sends unasked, a little every millisecond.
fn pusher(world: &World) {
    let listener = world.instance.run(|| Ok(TcpListener::bind("[::]:81")?)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                while stream.write_all(&[7; 64]).is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
}

/// Connections that never pause while `work` is done: echoes, and data that only
/// the instance sends.
struct Transfers {
    echo: Vec<TcpStream>,
    pushed: Vec<TcpStream>,
}

impl Transfers {
    fn open(world: &World) -> Self {
        let open = |port: u16| {
            ["10.0.0.10", "2001:db8:1::10"].map(|ip| {
                let at = SocketAddr::new(ip.parse().unwrap(), port);
                world.client.connect(at).unwrap()
            })
        };
        Self { echo: open(80).into(), pushed: open(81).into() }
    }

    /// Both ends of all of them, local first.
    fn ends(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let ends = |s: &TcpStream| (s.peer_addr().unwrap(), s.local_addr().unwrap());
        self.echo.iter().chain(&self.pushed).map(ends).collect()
    }

    fn during(&mut self, work: impl FnOnce(&dyn Fn())) {
        let (stop, paused) = (AtomicBool::new(false), AtomicU64::new(0));
        let rounds: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let transfer = |count: &AtomicU64, step: &mut dyn FnMut() -> bool| {
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if !step() {
                    return false;
                }
                count.fetch_add(1, Ordering::Relaxed);
                paused.fetch_max(last.elapsed().as_millis() as u64, Ordering::Relaxed);
                last = Instant::now();
            }
            true
        };
        std::thread::scope(|scope| {
            let (transfer, rounds) = (&transfer, &rounds);
            let echo = self
                .echo
                .iter_mut()
                .enumerate()
                .map(|(i, stream)| scope.spawn(move || transfer(&rounds[i], &mut || echoes(stream, &[7; 2000]))));
            let echo: Vec<_> = echo.collect();
            let pushed = self.pushed.iter_mut().enumerate().map(|(i, stream)| {
                let mut buffer = [0; 64];
                scope.spawn(move || transfer(&rounds[2 + i], &mut || stream.read_exact(&mut buffer).is_ok()))
            });
            let all: Vec<_> = echo.into_iter().chain(pushed).collect();
            let go_on = || {
                let seen: Vec<u64> = rounds.iter().map(|r| r.load(Ordering::Relaxed)).collect();
                let more = |(r, seen): (&AtomicU64, &u64)| r.load(Ordering::Relaxed) > seen + 3;
                eventually("all connections go on", || rounds.iter().zip(&seen).all(more));
            };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                go_on();
                work(&go_on);
                go_on();
            }));
            stop.store(true, Ordering::Relaxed);
            let whole: Vec<bool> = all.into_iter().map(|t| t.join().unwrap()).collect();
            done.unwrap();
            assert_eq!(whole, [true; 4], "echo over IPv4 and IPv6, pushed over both");
        });
        eprintln!("longest pause of any connection: {} ms", paused.into_inner());
    }
}

/// Every packet that was dropped, by reason.
fn drops(daemon: &Daemon<'_>, device: &str) -> Vec<(String, u64)> {
    let view = daemon.interface(device).unwrap();
    view.reasons
        .into_iter()
        .filter(|r| r.verdict == "drop")
        // What kernels say of their multicast groups when an address has come: no rule
        // lets it in, and the oldest version here has no policy at all. A connection
        // that loses a packet to either reason stops, which is looked at, too.
        .filter(|r| r.packets > 2 || !["default", "table_missing"].contains(&r.reason.as_str()))
        .map(|r| (r.direction + " " + &r.reason, r.packets))
        .collect()
}

/// A world whose policy is stored, and nothing in force.
fn stored<'a>(world: &'a World) -> Daemon<'a> {
    world.instance.tcp_server(80).unwrap();
    world.instance.tcp_server(83).unwrap();
    pusher(world);
    let mut daemon = world.daemon();
    daemon.apply(&policy(world), &[]).unwrap();
    daemon.stop(libc::SIGTERM).unwrap();
    let (done, text) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{text}");
    daemon
}

fn judged_by_the_policy(world: &World) {
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap());
    assert!(world.client.tcp(to("[2001:db8:1::10]:80")).unwrap());
    assert!(!world.client.tcp(to("10.0.0.10:83")).unwrap());
}

fn upgrade(way: Way) {
    let world = World::new(way);
    let mut daemon = stored(&world);
    eventually("the device is open", || world.client.tcp(to("10.0.0.10:83")).unwrap());
    let mut transfers = Transfers::open(&world);
    let _old = one::Version::put_in_force(&world, &daemon, &transfers.ends());
    assert_eq!(sets(&daemon), ["v1"]);
    transfers.during(|_| {
        assert!(one::established(&daemon) > 10, "the old program judges");
        let before = Instant::now();
        daemon.start().unwrap();
        eprintln!("{way:?}: ready after {} ms", before.elapsed().as_millis());
        assert_eq!(sets(&daemon), [format!("v{ABI_VERSION}")]);
    });
    assert_eq!(drops(&daemon, world.device()), [], "{way:?}");
    judged_by_the_policy(&world);
    let log = log(&daemon);
    let line = log.lines().find(|l| l.contains("carried ")).unwrap();
    assert!(line.contains("carried 1 devices and 4 flows"), "{line}");
    let view = daemon.interface(world.device()).unwrap();
    assert!(reason(&view, "ingress", "established") > 10, "counters go on");
    assert_eq!(view.status.epoch, one::EPOCH + 1);
    let generation: Generation = daemon
        .enter(|| {
            let ifaces = map::<u32, u64>(&own(&daemon), maps::IFACES)?;
            let record = ifaces.get(&view.status.index)?.unwrap_or_default();
            Ok(map::<u32, Generation>(&own(&daemon), maps::GENERATIONS)?.get(&(record as u32))?.unwrap())
        })
        .unwrap();
    assert_eq!((generation.zone, generation.slot), (one::ZONE, one::SLOT));
    daemon.stop(libc::SIGTERM).unwrap();
    let (done, text) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{text}");
}

#[test]
fn a_newer_version_takes_over_live_flows() {
    if !can_run() || !one::loads() {
        return;
    }
    let _alone = alone();
    for way in [Way::HostTc, Way::HostClsact, Way::HostXdp, Way::Guest] {
        upgrade(way);
    }
}

/// When a daemon dies.
enum Moment<'a> {
    /// After its start.
    Start,
    /// After the new set came into force: this directory is there then.
    Renamed(&'a Path),
}

/// Starts the daemon and kills it at a moment that is drawn.
fn start_and_kill(daemon: &mut Daemon<'_>, random: &mut Random, moment: Moment<'_>) {
    let there = |file: &Path| daemon.enter(|| Ok(file.exists())).unwrap();
    let (within, file) = match moment {
        Moment::Renamed(file) if !there(file) => (15_000, Some(file)),
        _ => (900_000, None),
    };
    let moment = Duration::from_micros(random.below(within) as u64);
    std::thread::scope(|scope| {
        let (sender, pid) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let pid: u32 = pid.recv().unwrap();
            if let Some(file) = file {
                // As the daemon sees it; a zombie sees nothing.
                let seen = PathBuf::from(format!("/proc/{pid}/root{}", file.display()));
                let until = Instant::now() + Duration::from_secs(5);
                while !seen.exists() && Instant::now() < until {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            // Not a wait for anything: the moment of death is what is drawn.
            std::thread::sleep(moment);
            // SAFETY: a process of ours that has not been waited for.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        });
        // It may have become ready, or not.
        let _ = daemon.start_as(|pid| sender.send(pid).unwrap());
    });
    daemon.stop(libc::SIGKILL).unwrap();
}

#[test]
fn killed_at_any_moment_of_an_upgrade() {
    if !can_run() || !one::loads() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new(11);
    let mut kills = std::collections::BTreeMap::<String, u64>::new();
    let world = World::new(Way::HostTc);
    let mut daemon = stored(&world);
    eventually("the device is open", || world.client.tcp(to("10.0.0.10:83")).unwrap());
    let mut transfers = Transfers::open(&world);
    for round in 0..5 * scale() {
        let _old = one::Version::put_in_force(&world, &daemon, &transfers.ends());
        transfers.during(|go_on| {
            let new = own(&daemon);
            for _ in 0..2 {
                let moment = if round % 2 == 0 { Moment::Start } else { Moment::Renamed(&new) };
                start_and_kill(&mut daemon, &mut random, moment);
                *kills.entry(sets(&daemon).join(" ")).or_default() += 1;
                go_on();
            }
            daemon.start().unwrap();
        });
        assert_eq!(sets(&daemon), [format!("v{ABI_VERSION}")]);
        assert_eq!(drops(&daemon, world.device()), [], "round {round}");
        judged_by_the_policy(&world);
        daemon.stop(libc::SIGTERM).unwrap();
        let (done, text) = daemon.sgd(&["--detach"]).unwrap();
        assert!(done, "{text}");
    }
    eprintln!("what was found after each kill: {kills:?}");
}

/// Entries from table to table: what is missing comes over, what is newer stays,
/// and what does not fit goes where there is room, the busiest first.
#[test]
fn what_is_newer_stays_and_the_busiest_comes_first() {
    if !can_run() {
        return;
    }
    let make = |entries| RawMap::<FlowKey4, FlowWords>::create("flows", sys::map_type::HASH, entries, 0).unwrap();
    let filter = sys::create("filter", sys::map_type::ARRAY, 4, 262_144, 1, sys::map_flags::MMAPABLE).unwrap();
    let filter = Halves::of(std::os::fd::AsFd::as_fd(&filter)).unwrap();
    let entry = |last: u32, rule: u32| {
        let mut words = FlowWords::default();
        (words[0], words[1], words[5]) = (last, last, rule);
        words[6] = u32::from_ne_bytes([910_u16.to_ne_bytes(), [19, 19]].concat().try_into().unwrap());
        words[7] = u32::from_ne_bytes([0, 1, 3, place::MAIN]);
        words
    };
    let keys = keys(1, 8);
    let old = make(64);
    for (i, key) in keys.iter().enumerate() {
        old.update(key, &entry(1000 + i as u32, 1)).unwrap();
    }
    // Of another zone, and expired.
    old.update(&FlowKey4 { zone: 2, ..keys[0] }, &entry(1000, 1)).unwrap();
    old.update(&FlowKey4 { local_port: 1, ..keys[0] }, &entry(1000_u32.wrapping_sub(2_000_000), 1)).unwrap();
    let from = [Table::Today(old), Table::Absent, Table::Absent, Table::Absent];
    let to: [RawMap<_, _>; 4] = [make(4), make(2), make(64), make(64)];
    to[0].update(&keys[1], &entry(2000, 2)).unwrap();
    to[0].update(&keys[2], &entry(500, 2)).unwrap();
    let zones = [1].into();
    let carry = |live| merge(&from, to.each_ref(), &zones, &filter, Time { now: 2100, hz: 1000, live }).unwrap();
    // Two are there; two more fit, then two of those begun inbound.
    assert_eq!(carry(false), Count { carried: 4, left: 2 });
    let rule = |table: usize, i: usize| to[table].get(&keys[i]).unwrap().map(|words| words[5]);
    assert_eq!([rule(0, 1), rule(0, 2)], [Some(2), Some(1)], "the newer stays, the older is replaced");
    assert_eq!([rule(0, 7), rule(0, 6), rule(1, 5), rule(1, 4)], [Some(1); 4], "the busiest came first");
    assert_eq!([rule(0, 3), rule(1, 3), rule(0, 0), rule(1, 0)], [None; 4]);
    assert_eq!(to[1].get(&keys[5]).unwrap().unwrap()[7].to_ne_bytes()[3], place::CHURN);
    assert_eq!(filter.count(0), 5, "what was replaced or added is known to exist");
    // Where programs have made room, the rest follows; a second time nothing does.
    to[0].delete(&keys[7]).unwrap();
    to[1].delete(&keys[5]).unwrap();
    let Table::Today(old) = &from[0] else { unreachable!() };
    old.delete(&keys[7]).unwrap();
    old.delete(&keys[5]).unwrap();
    assert_eq!(carry(true), Count { carried: 2, left: 0 });
    assert_eq!([rule(0, 3), rule(1, 0)], [Some(1); 2]);
    assert_eq!(carry(true), Count::default());
}

fn resize(daemon: &Daemon<'_>, original: &str, max_flows: u64) {
    std::fs::write(daemon.dir().join("sgd.toml"), format!("max_flows = {max_flows}\n{original}")).unwrap();
}

/// Entries of live connections that nobody has, all of one zone.
fn keys(zone: u32, count: u32) -> Vec<FlowKey4> {
    let key = |i: u32| FlowKey4 {
        zone,
        vlan_proto: 6,
        local: [10, 0, 0, 10],
        remote: [198, 18, (i >> 8) as u8, i as u8],
        local_port: 80,
        remote_port: 1024 + (i >> 16) as u16,
    };
    (0..count).map(key).collect()
}

#[test]
fn tables_of_another_size_keep_their_flows() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let world = World::new(Way::HostTc);
    let count = 5000 * scale() as u32;
    let mut daemon = stored(&world);
    let original = std::fs::read_to_string(daemon.dir().join("sgd.toml")).unwrap();
    daemon.start().unwrap();
    let mut transfers = Transfers::open(&world);
    let ends = transfers.ends();
    transfers.during(|_| {
        let index = daemon.interface("eth0").unwrap().status.index;
        let flows = || map::<FlowKey4, FlowWords>(&own(&daemon), maps::FLOWS[0]);
        daemon
            .enter(|| {
                let record = map::<u32, u64>(&own(&daemon), maps::IFACES)?.get(&index)?.unwrap();
                let generation =
                    map::<u32, Generation>(&own(&daemon), maps::GENERATIONS)?.get(&(record as u32))?.unwrap();
                // As a live one, a moment before.
                let key = |(local, remote): &(SocketAddr, SocketAddr)| one::key4(generation.zone, *local, *remote);
                let live = ends.iter().find_map(key).unwrap();
                let mut words = flows()?.get(&live)?.unwrap();
                assert_eq!(words[7].to_ne_bytes()[3], place::MAIN);
                words[0] = words[0].wrapping_sub(200);
                words[1] = words[1].wrapping_sub(200);
                let keys = keys(generation.zone, count);
                flows()?.update_batch(&keys, &vec![words; keys.len()])?;
                Ok(())
            })
            .unwrap();
        let there = |daemon: &Daemon<'_>| {
            let own = own(daemon);
            daemon
                .enter(move || {
                    let flows = map::<FlowKey4, FlowWords>(&own, maps::FLOWS[0])?;
                    let (mut made, mut others) = (0, 0);
                    flows.each(|key, _| if key.remote[0] == 198 { made += 1 } else { others += 1 })?;
                    Ok((made, others, sys::map_info(flows.as_fd())?[4]))
                })
                .unwrap()
        };
        assert_eq!(there(&daemon), (count, 2, 65_536));
        let epoch = daemon.interface("eth0").unwrap().status.epoch;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Others begin while it happens.
            let begun = scope.spawn(|| {
                let mut begun = 0;
                while !stop.load(Ordering::Relaxed) && world.client.tcp(to("10.0.0.10:80")).unwrap() {
                    begun += 1;
                }
                (begun, stop.load(Ordering::Relaxed))
            });
            let found: Vec<_> = [200_000, 100_000]
                .into_iter()
                .map(|size| {
                    daemon.stop(libc::SIGTERM).unwrap();
                    resize(&daemon, &original, size);
                    let before = Instant::now();
                    let started = daemon.start();
                    eprintln!("resized to {size}: ready after {} ms", before.elapsed().as_millis());
                    started.map(|()| (there(&daemon), size as u32, sets(&daemon)))
                })
                .collect();
            stop.store(true, Ordering::Relaxed);
            let (begun, all) = begun.join().unwrap();
            assert!(all, "a connection that began meanwhile failed, after {begun}");
            eprintln!("{begun} connections began and ended meanwhile; dropped: {:?}", drops(&daemon, "eth0"));
            for found in found {
                let ((made, _, entries), size, sets) = found.unwrap();
                assert_eq!((made, entries, sets), (count, size, vec![format!("v{ABI_VERSION}")]));
            }
        });
        // The busiest ones stay; the rest is as if it had never been seen.
        daemon.stop(libc::SIGTERM).unwrap();
        resize(&daemon, &original, 1024);
        daemon.start().unwrap();
        let (made, others, size) = there(&daemon);
        assert!(
            made + others == 1024 && others >= 2 && size == 1024,
            "those in use are carried first: {made} {others}"
        );
        let text = log(&daemon);
        let line = text.lines().rfind(|l| l.contains("were not carried")).unwrap();
        let left: u32 = line.split_whitespace().find_map(|w| w.parse().ok()).unwrap();
        // What began inbound has a table of 256 beside. Of those that began meanwhile some may be left, too.
        assert!(left >= count - 1024 - 256, "{line}");
        assert!(daemon.interface("eth0").unwrap().status.epoch >= epoch);
    });
    judged_by_the_policy(&world);
    daemon.stop(libc::SIGTERM).unwrap();
}

#[test]
fn killed_at_any_moment_of_a_resize() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let world = World::new(Way::HostXdp);
    let mut daemon = stored(&world);
    let original = std::fs::read_to_string(daemon.dir().join("sgd.toml")).unwrap();
    daemon.start().unwrap();
    let mut transfers = Transfers::open(&world);
    let mut random = Random::new(12);
    let mut kills = std::collections::BTreeMap::<String, u64>::new();
    transfers.during(|go_on| {
        daemon.stop(libc::SIGKILL).unwrap();
        let old = set(&daemon, &format!("v{ABI_VERSION}-old"));
        for kill in 0..10 * scale() {
            resize(&daemon, &original, 2000 + kill % 4);
            let moment = if kill % 4 == 0 { Moment::Start } else { Moment::Renamed(&old) };
            start_and_kill(&mut daemon, &mut random, moment);
            *kills.entry(sets(&daemon).join(" ")).or_default() += 1;
            go_on();
        }
        resize(&daemon, &original, 3000);
        daemon.start().unwrap();
    });
    eprintln!("what was found after each kill: {kills:?}");
    assert_eq!(sets(&daemon), [format!("v{ABI_VERSION}")]);
    assert_eq!(drops(&daemon, "eth0"), []);
    judged_by_the_policy(&world);
    daemon.stop(libc::SIGTERM).unwrap();
}

#[test]
fn bpffs_mounted_anew_under_a_living_daemon() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    for way in [Way::HostTc, Way::HostXdp] {
        let world = World::new(way);
        let mut daemon = stored(&world);
        daemon.start().unwrap();
        let mut transfers = Transfers::open(&world);
        transfers.during(|go_on| {
            let bpf = daemon.dir().join("bpf");
            let bpf = bpf.to_str().unwrap();
            let run = |program: &str, arguments: &[&str]| {
                let (done, text) = daemon.command(program.as_ref(), arguments).unwrap();
                assert!(done, "{program}: {text}");
            };
            run("umount", &[bpf]);
            go_on();
            judged_by_the_policy(&world);
            run("mount", &["-t", "bpf", "bpf", bpf]);
            // Half a minute, or the next change.
            let more = policy(&world).replace("81/81", "81/82");
            daemon.apply(&more, &[]).unwrap();
            let own = own(&daemon);
            let links = daemon.enter(|| Ok(std::fs::read_dir(own.join("links"))?.count())).unwrap();
            assert_eq!(links, 2, "{way:?}: pinned again");
            daemon.stop(libc::SIGKILL).unwrap();
            go_on();
            judged_by_the_policy(&world);
            daemon.start().unwrap();
        });
        daemon.stop(libc::SIGTERM).unwrap();
        let (done, text) = daemon.sgd(&["--detach"]).unwrap();
        assert!(done, "{text}");
        eventually("nothing holds on to it", || world.client.tcp(to("10.0.0.10:83")).unwrap());
    }
}

#[test]
fn a_pin_that_is_not_ours_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = stored(&world);
    daemon.start().unwrap();
    daemon.stop(libc::SIGTERM).unwrap();
    let (pin, aside) = (own(&daemon).join(maps::OWN), own(&daemon).join("aside"));
    let refused = |want: &[&str]| {
        let (done, e) = daemon.sgd(&[]).unwrap();
        assert!(!done && want.iter().all(|w| e.contains(w)), "{e}");
        assert!(e.contains("nothing was changed"), "{e}");
        judged_by_the_policy(&world);
    };
    daemon.enter(|| Ok(std::fs::rename(&pin, &aside)?)).unwrap();
    refused(&["SG_OWN is missing"]);
    daemon
        .enter(|| {
            let other = sys::create("other", sys::map_type::HASH, 20, 8, 7, 0)?;
            Ok(sys::pin(std::os::fd::AsFd::as_fd(&other), &pin)?)
        })
        .unwrap();
    refused(&["SG_OWN", "7 elements, keys of 20 and values of 8 bytes", "65536 elements, keys of 20 and values of 4"]);
    let link = own(&daemon).join("links");
    daemon
        .enter(|| {
            std::fs::remove_file(&pin)?;
            let link = std::fs::read_dir(link)?.next().unwrap()?.path();
            Ok(sys::pin(std::os::fd::AsFd::as_fd(&sys::open_pin(&link)?), &pin)?)
        })
        .unwrap();
    refused(&["SG_OWN", "no map"]);
    daemon
        .enter(|| {
            std::fs::remove_file(&pin)?;
            Ok(std::fs::rename(&aside, &pin)?)
        })
        .unwrap();
    // Of a version that is not known yet.
    let newer = set(&daemon, &format!("v{}", ABI_VERSION + 1));
    daemon.enter(|| Ok(std::fs::create_dir(&newer)?)).unwrap();
    refused(&[&format!("ABI {}", ABI_VERSION + 1), &format!("ABI {ABI_VERSION}")]);
    daemon.enter(|| Ok(std::fs::remove_dir(&newer)?)).unwrap();
    daemon.start().unwrap();
    judged_by_the_policy(&world);
    daemon.stop(libc::SIGTERM).unwrap();
}

/// The instance asks, and is answered 400 ms later: nothing but the flow admits that,
/// wherever the flow was noted in the meantime.
#[test]
fn questions_asked_while_tables_are_resized_are_answered() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let world = World::new(Way::HostTc);
    let mut daemon = world.daemon();
    let ask = "  - {direction: egress, ip_protocol: udp, port_range: 7/7, dest_cidr_ip: 0.0.0.0/0}\n";
    daemon.apply(&policy(&world).replace("  permissions:\n", &format!("  permissions:\n{ask}")), &[]).unwrap();
    let original = std::fs::read_to_string(daemon.dir().join("sgd.toml")).unwrap();
    let stop = AtomicBool::new(false);
    let (listens, listening) = std::sync::mpsc::channel();
    let (asked, heard) = std::thread::scope(|scope| {
        let (world, stop) = (&world, &stop);
        let answers = scope.spawn(move || {
            world.client.run(|| {
                let socket = UdpSocket::bind("192.0.2.10:7")?;
                listens.send(())?;
                socket.set_read_timeout(Some(Duration::from_millis(5)))?;
                let mut due = VecDeque::new();
                let mut buffer = [0; 16];
                while !stop.load(Ordering::Relaxed) || !due.is_empty() {
                    if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                        due.push_back((Instant::now() + Duration::from_millis(400), from));
                    }
                    while let Some(&(at, from)) = due.front()
                        && at <= Instant::now()
                    {
                        socket.send_to(b"!", from)?;
                        due.pop_front();
                    }
                }
                Ok(())
            })
        });
        listening.recv().unwrap();
        let questions = scope.spawn(|| {
            world.instance.run(|| {
                let mut sockets = Vec::new();
                while !stop.load(Ordering::Relaxed) && sockets.len() < 800 {
                    let socket = UdpSocket::bind("10.0.0.10:0")?;
                    socket.send_to(b"?", "192.0.2.10:7")?;
                    sockets.push(socket);
                    // So many in a second.
                    std::thread::sleep(Duration::from_millis(3));
                }
                let mut heard = 0;
                for socket in &sockets {
                    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
                    heard += usize::from(socket.recv(&mut [0; 16]).is_ok());
                }
                Ok((sockets.len(), heard))
            })
        });
        let done = [200_000, 100_000].map(|size| {
            daemon.stop(libc::SIGTERM).unwrap();
            resize(&daemon, &original, size);
            daemon.start()
        });
        stop.store(true, Ordering::Relaxed);
        answers.join().unwrap().unwrap();
        let told = questions.join().unwrap().unwrap();
        done.into_iter().for_each(|done| done.unwrap());
        told
    });
    assert!(asked > 50, "only {asked} were asked");
    assert_eq!(heard, asked, "answers that found no flow: {:?}", drops(&daemon, "eth0"));
}
