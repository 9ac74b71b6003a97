//! Tables that all devices share and that packets or watchers change all the time: what somebody
//! else writes there is found, said, counted, and made what it should be.

use std::{mem::offset_of, os::fd::AsFd, path::PathBuf};

use sg_common::{
    filter::{Filter, WORDS},
    generation::Config,
    maps,
    quota::{INTERFACES, TABLES, Usage},
    watch::Tell,
};
use sg_userspace::{
    dataplane::{
        filter::Halves,
        sys::{self, Mapping, RawMap},
    },
    testbed::Daemon,
};

use super::world::*;

const DIFFERENCES: &str = "sg_table_differences_total";

fn pin(daemon: &Daemon<'_>, name: &str) -> PathBuf {
    daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION)).join(name)
}

/// How often it was said that a table is not what it should be.
fn said(daemon: &Daemon<'_>, what: &str) -> usize {
    daemon.log().matches(&format!("the {what} in the kernel was not what sgd had written")).count()
}

/// A daemon whose device has one flow, confirmed.
fn with_a_flow(world: &World) -> (Daemon<'_>, std::net::TcpStream) {
    world.instance.tcp_server(7000).unwrap();
    let mut daemon = Daemon::new(&world.instance, bin()).unwrap();
    daemon.configure(&format!("metrics.listen = {METRICS:?}")).unwrap();
    daemon.start().unwrap();
    daemon.apply(&lets_in(world, &[7000]), &[]).unwrap();
    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    assert!(answers(&mut session));
    // A sample of the second one is judged when the first one's look at the tables is over: they
    // are known with the flow then.
    let samples = || metric(&daemon, "sg_samples_total{result=\"same\"}");
    for port in [7001, 7002] {
        let before = samples();
        assert!(!world.client.tcp(([10, 0, 0, 10], port).into()).unwrap());
        eventually("a second has passed", || samples() > before);
    }
    (daemon, session)
}

/// A map that the daemon holds and does not pin.
fn held<V: sys::Raw>(daemon: &Daemon<'_>, name: &str) -> RawMap<u32, V> {
    let files = std::fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid().unwrap())).unwrap();
    let ids = files.filter_map(|file| {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        text.lines().find_map(|l| l.strip_prefix("map_id:")?.trim().parse().ok())
    });
    let mut maps = ids.filter_map(|id| aya::maps::MapInfo::from_id(id).ok());
    let map = maps.find(|map| map.name_as_str() == Some(name)).unwrap();
    let fd = map.fd().unwrap().as_fd().try_clone_to_owned().unwrap();
    RawMap::new(fd, 4, size_of::<V>() as u32).unwrap()
}

#[test]
fn what_is_told_to_watchers_is_compared() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let (daemon, _session) = with_a_flow(&world);
    let tell = held::<Tell>(&daemon, maps::TELL);
    let there = || tell.get(&0).unwrap().unwrap();
    let written = there();
    let what = "table of what is told";
    for (n, altered) in [
        Tell { tokens: [0; 3], ..written },
        Tell { reasons: [[!0; 2]; 3], tokens: [1000; 3], version: written.version.wrapping_add(9), ..written },
    ]
    .into_iter()
    .enumerate()
    {
        tell.update(&0, &altered).unwrap();
        eventually("it is found", || said(&daemon, what) == n + 1);
        let now = there();
        assert_eq!(Tell { version: 0, ..now }, Tell { version: 0, ..written });
        assert!(now.version != altered.version, "windows that began under it are over");
    }
    eventually("it is counted", || metric(&daemon, DIFFERENCES) == 2);
}

#[test]
fn a_bit_that_somebody_takes_from_the_filter_is_set_again() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let (daemon, mut session) = with_a_flow(&world);
    let half = || {
        let map = sys::open_pin(&pin(&daemon, maps::CONFIG))?;
        let config = RawMap::<u32, Config>::new(map, 4, size_of::<Config>() as u32)?;
        Ok(config.get(&0)?.unwrap().filter)
    };
    let half = daemon.enter(half).unwrap();
    let filter = || sys::open_pin(&pin(&daemon, maps::FILTER));
    let bits = || daemon.enter(|| Ok(Halves::of(filter()?.as_fd())?.count(half))).unwrap();
    assert!(bits() > 0);
    let empty = || {
        Mapping::new(filter()?.as_fd(), size_of::<Filter>())?.zero(0, 2 * WORDS);
        Ok(())
    };
    for n in 1..=2 {
        daemon.enter(empty).unwrap();
        eventually("it is found", || said(&daemon, "filter of flows") == n);
        assert!(bits() > 0);
        assert!(answers(&mut session), "its packets would be of no flow");
    }
    eventually("it is counted", || metric(&daemon, DIFFERENCES) == 2);
    // What flows begin now set bits, and that is none.
    for _ in 0..20 {
        assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    }
    assert_eq!(metric(&daemon, DIFFERENCES), 2, "{}", daemon.log());
}

#[test]
fn counts_that_the_program_did_not_write_are_counted_anew() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let (daemon, mut session) = with_a_flow(&world);
    let usage = || -> anyhow::Result<Mapping> {
        Ok(Mapping::new(sys::open_pin(&pin(&daemon, maps::USAGE))?.as_fd(), size_of::<Usage>())?)
    };
    let word = |at: usize| daemon.enter(|| Ok(usage()?.words(at * 8, 1).next().unwrap())).unwrap();
    let slot = 1;
    let (table, interface) = (TABLES.first, INTERFACES.first + 2 * slot);
    assert_eq!(offset_of!(Usage, tables), table * 8);
    assert_eq!((word(table), word(interface)), (1, 1));
    let alter = |f: &(dyn Fn(&Mapping) + Sync)| {
        let altered = || {
            f(&usage()?);
            Ok(())
        };
        daemon.enter(altered).unwrap();
    };
    let whole = |map: &Mapping| map.zero(0, size_of::<Usage>() / 8);
    // Too much, so that nobody is admitted; too little; and none of anything.
    let altered: [&(dyn Fn(&Mapping) + Sync); 4] = [
        &|map| map.add(table * 8, 100_000),
        &|map| map.add(interface * 8, 1000),
        &|map| map.add(interface * 8, 1u64.wrapping_neg()),
        &whole,
    ];
    for (n, f) in altered.into_iter().enumerate() {
        alter(f);
        eventually("it is found", || said(&daemon, "table of flows' counts") == n + 1);
        assert_eq!((word(table), word(interface)), (1, 1), "{n}");
        assert!(answers(&mut session));
    }
    for _ in 0..50 {
        assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    }
    eventually("the program counts", || word(table) > 1 && word(interface) > 1);
    eventually("it is counted", || metric(&daemon, DIFFERENCES) == 4);
}
