//! What is refused is said clearly, and changes nothing.

use super::world::*;

#[test]
fn a_bad_document_leaves_the_old_one_in_force() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(80).unwrap();
    let daemon = world.daemon();
    let good = format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    );
    daemon.apply(&good, &[]).unwrap();
    let epoch = daemon.interface("eth0").unwrap().status.epoch;
    let bomb = format!("a: &a [{}]\nb: [*a, *a]\n", "x,".repeat(1_100_000));
    for (text, want) in [
        (good.replace("direction:", "dirction:"), "unknown key \"dirction\""),
        (good.replace("0.0.0.0/0", "0.0.0.0/33"), "is not from 0 to 32"),
        (good.replace("80/80", "80/79"), "is reversed"),
        (good.replace("80/80", "-1/-1"), "does not go with TCP or UDP"),
        (good.replace("[g]", "[h]"), "there is no security group \"h\""),
        (good.replace("device: eth0", "device: lo"), "loopback"),
        ("security_groups: [".into(), "not YAML"),
        (String::new(), "empty"),
        (bomb, "expands to more than"),
        (format!("# {}\n{good}", "x".repeat(9 << 20)), "the limit is 8388608"),
    ] {
        let e = daemon.apply(&text, &["--yes"]).unwrap_err().to_string();
        assert!(e.contains(want), "said: {e}\nwant: {want}");
        assert!(e.contains("nothing was changed"), "{e}");
    }
    std::fs::write(daemon.dir().join("bytes.yaml"), b"a: \xff").unwrap();
    let (done, e) = daemon.sgctl(&["apply", "-f", &daemon.dir().join("bytes.yaml").to_string_lossy()]).unwrap();
    assert!(!done && e.contains("not UTF-8"), "{e}");
    assert_eq!(daemon.interface("eth0").unwrap().status.epoch, epoch);
    assert!(world.client.tcp(to("10.0.0.10:80")).unwrap(), "the old policy is in force");
}

#[test]
fn deletions_and_other_owners_need_a_word() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = world.daemon();
    daemon.apply("security_groups: [{security_group_name: a}, {security_group_name: b}]\n", &[]).unwrap();
    let less = "security_groups: [{security_group_name: a}]\n";
    let e = daemon.apply(less, &[]).unwrap_err().to_string();
    assert!(e.contains("1 object would be deleted; say --yes"), "{e}");
    daemon.apply(less, &["--yes"]).unwrap();
    let other = format!("document: other\n{less}");
    let e = daemon.apply(&other, &[]).unwrap_err().to_string();
    assert!(e.contains("belongs to document \"main\"; --adopt"), "{e}");
    daemon.apply(&other, &["--adopt"]).unwrap();
    let (_, status) = daemon.sgctl(&["status"]).unwrap();
    assert!(status.contains("other (1 object)"), "{status}");
    let e = daemon.apply(&other, &["--if-generation", "999"]).unwrap_err().to_string();
    assert!(e.contains("plan again"), "{e}");
}

#[test]
fn a_port_of_a_bridge_is_refused_on_the_host_side() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.ip("link add br0 type bridge").unwrap();
    world.instance.ip("link set eth0 master br0").unwrap();
    let daemon = world.daemon();
    let said =
        daemon.apply(&format!("security_groups: [{{security_group_name: g}}]\n{}", world.interface("g")), &[]).unwrap();
    assert!(said.contains("NOT PROTECTED: eth0: it is a port of the bridge br0: name br0 instead"), "{said}");
}

/// `pkill sgd; sgd --detach`, as the README has it: the daemon has heard, and still listens.
#[test]
fn a_daemon_that_ends_is_waited_for() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[80]), &[]).unwrap();
    let pid = daemon.pid().unwrap() as i32;
    // SAFETY: a process of ours that has not been waited for.
    let signal = |signal| assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    let sockets =
        || daemon.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/unix")?)).unwrap().lines().count();
    signal(libc::SIGSTOP);
    signal(libc::SIGTERM);
    let before = sockets();
    let (done, said) = std::thread::scope(|scope| {
        let detach = scope.spawn(|| daemon.sgd(&["--detach"]).unwrap());
        eventually("it has found the daemon", || sockets() > before);
        signal(libc::SIGCONT);
        detach.join().unwrap()
    });
    assert!(done && said.contains("no device is protected any more"), "{said}");
    daemon.stop(libc::SIGTERM).unwrap();
}

#[test]
fn the_daemon_says_what_it_lacks() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = world.daemon();
    let (_, e) = daemon.sgd(&[]).unwrap();
    assert!(e.contains("another daemon is running"), "{e}");
    let (_, e) = daemon.sgd(&["--detach"]).unwrap();
    assert!(e.contains("stop it first"), "{e}");
    daemon.stop(libc::SIGTERM).unwrap();
    let (done, e) = daemon.sgctl(&["status"]).unwrap();
    assert!(!done && e.contains("no daemon listens on"), "{e}");
    let state = daemon.dir().join("state/state.redb");
    std::fs::rename(&state, daemon.dir().join("kept")).unwrap();
    std::fs::write(&state, "{").unwrap();
    let (done, e) = daemon.sgd(&[]).unwrap();
    assert!(!done && e.contains("is damaged"), "{e}");
    std::fs::rename(daemon.dir().join("kept"), &state).unwrap();
    let config = std::fs::read_to_string(daemon.dir().join("sgd.toml")).unwrap();
    let other = daemon.dir().join("bpf/sg/v99");
    daemon.command("mkdir".as_ref(), &["-p", &other.to_string_lossy()]).unwrap();
    let (done, e) = daemon.sgd(&[]).unwrap();
    let want = format!("holds the pins of ABI 99, this daemon speaks ABI {}", sg_common::ABI_VERSION);
    assert!(!done && e.contains(&want) && e.contains("nothing was changed"), "{e}");
    std::fs::write(daemon.dir().join("sgd.toml"), config.replace("bpf/sg", "state")).unwrap();
    let (done, e) = daemon.sgd(&[]).unwrap();
    assert!(!done && e.contains("is not on a BPF file system"), "{e}");
    std::fs::write(daemon.dir().join("sgd.toml"), "colour = 'red'\n").unwrap();
    let (done, e) = daemon.sgd(&["check"]).unwrap();
    assert!(!done && e.contains("unknown field `colour`"), "{e}");
}

/// A shell called `sshd` holds a connection, and runs `sgctl` as its child.
#[test]
fn the_callers_own_connection_is_not_cut_unasked() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.client.tcp_server(7000).unwrap();
    let daemon = world.daemon();
    let file = |name: &str, rule: &str| {
        let path = daemon.dir().join(name);
        let group = "security_groups:\n- security_group_name: g\n  permissions:";
        std::fs::write(&path, format!("{group} [{rule}]\n{}", world.interface("g"))).unwrap();
        path.to_string_lossy().into_owned()
    };
    let closed = file("closed.yaml", "");
    let open =
        file("open.yaml", "{direction: ingress, ip_protocol: tcp, port_range: 1/65535, source_cidr_ip: 192.0.2.10}");
    let sshd = daemon.dir().join("sshd");
    std::fs::copy("/bin/bash", &sshd).unwrap();
    let sgctl = bin().join("sgctl");
    let under_sshd = |arguments: &str| {
        let script = format!("exec 3<>/dev/tcp/192.0.2.10/7000; {} {arguments}; exit $?", sgctl.display());
        daemon.command(&sshd, &["-c", &script]).unwrap()
    };
    let (done, text) = under_sshd(&format!("plan -f {closed}"));
    assert!(done && text.contains("YOUR OWN SSH CONNECTION would be dropped (reason: default)"), "{text}");
    let (done, text) = under_sshd(&format!("apply -f {closed} --confirm off"));
    assert!(!done && text.contains("drop your own SSH connection") && text.contains("nothing was changed"), "{text}");
    assert!(daemon.interface("eth0").is_err(), "nothing was changed");
    let (done, text) = under_sshd(&format!("apply -f {open}"));
    assert!(done, "{text}");
    let (done, text) = under_sshd(&format!("apply -f {closed} --yes --confirm off"));
    assert!(done, "{text}");
}
