//! A daemon that gets too little of the machine: memory, CPU.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use sg_userspace::{
    daemon::protocol::Reply,
    testbed::{Daemon, echoes},
};

use super::{
    survival::{either, put},
    world::*,
};

/// What a process has taken of its address space.
fn size(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Leaves a process only so much more.
fn leave(pid: u32, more: u64) {
    let limit = libc::rlimit { rlim_cur: size(pid) + more, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit of our own to read, none to write.
    let done = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_AS, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The other policy, among so many rules and members that it takes memory.
fn huge(world: &World) -> String {
    use std::fmt::Write;
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    for (port, policy) in [(80, "accept"), (82, "accept"), (81, "drop")] {
        let _ = writeln!(
            text,
            "  - {{direction: ingress, policy: {policy}, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}"
        );
    }
    for i in 0..900 {
        let port = 1000 + i * 20;
        let _ = writeln!(
            text,
            "  - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{}, source_cidr_ip: 10.{}.{}.0/24}}",
            port + i % 50,
            i % 250,
            i / 4
        );
    }
    text += &world.interface("g");
    for i in 0..2900 {
        let (a, b) = (i / 200, i % 200);
        let _ = writeln!(
            text,
            "- {{private_ip_addresses: [172.{}.{a}.{b}, '2001:db8:{a:x}::{b:x}'], security_group_ids: [g]}}",
            16 + i % 16
        );
    }
    text
}

/// Which of both policies is in force: never a part of each.
fn second(world: &World) -> bool {
    let open = |port: u16| world.client.tcp(([10, 0, 0, 10], port).into()).unwrap();
    assert!(open(80));
    let (first, second) = (open(81), open(82));
    assert!(first != second, "one of both policies, wholly: {first} {second}");
    second
}

#[test]
fn out_of_memory_the_last_good_policy_stays() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    [80, 81, 82].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let mut daemon = world.daemon();
    daemon.apply(&either(&world, false), &[]).unwrap();
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    let (mut died, mut refused) = (0, 0);
    for kilobytes in [128, 1024, 4096, 12288] {
        leave(daemon.pid().unwrap(), kilobytes << 10);
        let answer = put(&daemon, &huge(&world));
        let done = matches!(&answer, Ok(Reply::Planned(_)));
        if answer.is_err() {
            eventually("it is dead", || !daemon.runs().unwrap());
            died += 1;
        } else if !done {
            refused += 1;
        }
        assert_eq!(second(&world), done, "{kilobytes} KiB: what was not confirmed is not in force: {answer:?}");
        assert!(echoes(&mut live, b"on"), "{kilobytes} KiB");
        // With room again it converges, and takes the same change.
        if daemon.runs().unwrap() {
            daemon.stop(libc::SIGKILL).unwrap();
        }
        daemon.start().unwrap();
        assert!(matches!(put(&daemon, &huge(&world)).unwrap(), Reply::Planned(_)));
        assert!(second(&world), "{kilobytes} KiB");
        assert!(matches!(put(&daemon, &either(&world, false)).unwrap(), Reply::Planned(_)));
        // What it has taken and given back would be room for the next.
        daemon.stop(libc::SIGKILL).unwrap();
        daemon.start().unwrap();
    }
    eprintln!("four limits: {died} times it died, {refused} times it refused");
    assert!(died + refused >= 2, "the limits were none");
    assert!(echoes(&mut live, b"still"));
}

fn protected(daemon: &Daemon<'_>) -> usize {
    match sg_userspace::ctl::client::ask(
        &daemon.dir().join("sgd.sock"),
        &sg_userspace::daemon::protocol::Action::Status,
    )
    .unwrap()
    {
        Reply::Status(status) => status.devices.iter().filter(|d| d.hooks.len() == 2).count(),
        other => panic!("{other:?}"),
    }
}

/// The least of all processes, beside one for each CPU that takes all there is.
#[test]
fn out_of_cpu_it_converges() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    [80, 81, 82].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let daemon = world.daemon();
    let more = "- {device: 'm*', side: guest, security_group_ids: [g]}\n";
    daemon.apply(&(either(&world, false) + more), &[]).unwrap();
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, daemon.pid().unwrap(), 19) }, 0);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..3 {
                for i in 0..4 {
                    world.router.ip(&format!("link add m{i} type veth peer name n{i}")).unwrap();
                }
                let answer = put(&daemon, &(either(&world, round % 2 == 0) + more)).unwrap();
                assert!(matches!(answer, Reply::Planned(_)), "{answer:?}");
                assert_eq!(second(&world), round % 2 == 0, "what is confirmed is in force");
                for i in 0..4 {
                    world.router.ip(&format!("link del m{i}")).unwrap();
                }
            }
            world.router.ip("link add m9 type veth peer name n9").unwrap();
            let (done, said) = daemon.sgctl(&["wait", "m9", "--for", "1m"]).unwrap();
            assert!(done, "{said}");
        }));
        stop.store(true, Ordering::Relaxed);
        work.unwrap();
    });
    eventually("those that are there", || protected(&daemon) == 2);
    assert!(second(&world));
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}
