//! A change on trial: the program itself takes it back when nobody confirms it.

use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};

use sg_userspace::testbed::Daemon;

use super::world::*;

fn served(way: Way) -> World {
    let world = World::new(way);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    world
}

fn session(world: &World, port: u16) -> TcpStream {
    let mut session = world.client.connect(to(&format!("10.0.0.10:{port}"))).unwrap();
    assert!(answers(&mut session));
    session
}

fn reaches(world: &World, port: u16) -> bool {
    world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap()
}

fn generation(daemon: &Daemon<'_>) -> u64 {
    let (_, text) = daemon.sgctl(&["status", "-o", "json"]).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["generation"].as_u64().unwrap()
}

/// What was on trial when the daemon was killed is told as taken back, and is over.
#[track_caller]
fn is_taken_back(daemon: &Daemon<'_>, base: u64) {
    assert_eq!(generation(daemon), base);
    assert!(!done(daemon, &["status"]).contains("ON TRIAL"));
    assert!(refused(daemon, &["confirm"]).contains("nothing is on trial"));
    let audit = fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    assert!(audit.contains("\"take back\"") && audit.contains("sgd ended before it was confirmed"), "{audit}");
}

fn goes_back_without_a_daemon(way: Way) {
    if !can_run() {
        return;
    }
    let world = served(way);
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let base = generation(&daemon);
    let mut operator = session(&world, 7000);

    let begun = Instant::now();
    let said = daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "9s"]).unwrap();
    assert!(said.contains("ON TRIAL") && said.contains("sgctl confirm"), "{said}");
    // Let in on trial.
    let mut newcomer = session(&world, 7001);
    assert!(!answers(&mut operator), "{way:?}: the change does not cut");
    assert!(begun.elapsed() < Duration::from_secs(9), "this machine is too slow for the test");
    daemon.stop(libc::SIGKILL).unwrap();

    // The kernel sends again what was lost after twice the time each time.
    within(Duration::from_secs(40), "the session works again", || answers(&mut operator));
    assert!(begun.elapsed() >= Duration::from_secs(8), "{way:?}: {:?}", begun.elapsed());
    assert!(!answers(&mut newcomer), "{way:?}: what was let in on trial goes on");
    assert!(reaches(&world, 7000) && !reaches(&world, 7001), "{way:?}");

    // The next daemon goes by what was before, and says what became of the other.
    daemon.start().unwrap();
    assert!(daemon.log().contains("was on trial when sgd ended, and is taken back"), "{}", daemon.log());
    assert!(answers(&mut operator) && reaches(&world, 7000) && !reaches(&world, 7001), "{way:?}");
    is_taken_back(&daemon, base);
}

#[test]
fn an_unconfirmed_change_goes_back_without_a_daemon_on_the_host_side() {
    goes_back_without_a_daemon(Way::HostTc);
}

#[test]
fn an_unconfirmed_change_goes_back_without_a_daemon_at_clsact() {
    goes_back_without_a_daemon(Way::HostClsact);
}

#[test]
fn an_unconfirmed_change_goes_back_without_a_daemon_at_xdp() {
    goes_back_without_a_daemon(Way::HostXdp);
}

#[test]
fn an_unconfirmed_change_goes_back_without_a_daemon_on_the_guest_side() {
    goes_back_without_a_daemon(Way::Guest);
}

#[test]
fn a_confirmed_change_stays() {
    if !can_run() {
        return;
    }
    let world = served(Way::HostTc);
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let base = generation(&daemon);
    let begun = Instant::now();
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "9s"]).unwrap();
    assert_eq!(generation(&daemon), base, "what is on trial is not the state");
    assert!(done(&daemon, &["status"]).contains("ON TRIAL"));
    assert!(done(&daemon, &["confirm"]).contains(&format!("generation {} is confirmed", base + 1)));
    daemon.stop(libc::SIGKILL).unwrap();
    // What is waited for is the time itself, past which nothing may happen.
    std::thread::sleep(Duration::from_secs(10).saturating_sub(begun.elapsed()));
    assert!(!reaches(&world, 7000) && reaches(&world, 7001));
    daemon.start().unwrap();
    assert_eq!(generation(&daemon), base + 1);
    assert!(!reaches(&world, 7000) && reaches(&world, 7001));
    // What was before it is kept.
    done(&daemon, &["rollback", "--yes"]);
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
}

#[test]
fn the_daemon_goes_back_in_time_and_others_wait_meanwhile() {
    if !can_run() {
        return;
    }
    let world = served(Way::HostTc);
    let daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "1h"]).unwrap();
    let other = lets_in(&world, &[7000, 7001]);
    assert!(daemon.apply(&other, &["--yes"]).unwrap_err().to_string().contains("a change is on trial"));
    assert!(daemon.apply(&other, &["--yes", "--confirm", "9s"]).unwrap_err().to_string().contains("on trial"));
    let call = refused(&daemon, &["api", "CreateSecurityGroup", "SecurityGroupName=new"]);
    assert!(call.contains("OperationConflict"), "{call}");
    // An address of this machine that comes meanwhile changes nothing of that.
    world.instance.address("eth0", &["10.0.0.77/24"]).unwrap();
    eventually("the address is known", || done(&daemon, &["status"]).contains("10.0.0.77"));
    assert!(!reaches(&world, 7000) && reaches(&world, 7001));
    // Back by hand.
    let plan = done(&daemon, &["rollback", "--plan"]);
    assert!(plan.contains("change") && !reaches(&world, 7000), "{plan}");
    done(&daemon, &["rollback", "--yes"]);
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
    assert!(!done(&daemon, &["status"]).contains("ON TRIAL"));
    // And by itself.
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "3s"]).unwrap();
    eventually("it is over", || !done(&daemon, &["status"]).contains("ON TRIAL"));
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
    // Whoever meant that one does not go further back unseen.
    assert!(refused(&daemon, &["rollback", "--yes"]).contains("taken back already"));
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
    let log = daemon.log();
    assert!(
        log.contains("was taken back: asked for") && log.contains("was taken back: not confirmed in time"),
        "{log}"
    );
    daemon.apply(&other, &["--yes"]).unwrap();
    assert!(reaches(&world, 7000) && reaches(&world, 7001));
    for wrong in ["2s", "2h", "never"] {
        assert!(daemon.apply(&other, &["--confirm", wrong]).unwrap_err().to_string().contains("3s to 1h"), "{wrong}");
    }
}

#[test]
fn a_guest_that_was_none_on_trial_sends_again() {
    if !can_run() {
        return;
    }
    let world = served(Way::Guest);
    let daemon = world.daemon();
    let base = lets_in(&world, &[7000]);
    daemon.apply(&base, &[]).unwrap();
    let mut operator = session(&world, 7000);
    let host = base.replace("side: guest, private_ip_addresses: [10.0.0.10, '2001:db8:1::10']", "side: host");
    assert_ne!(host, base);
    daemon.apply(&host, &["--yes", "--confirm", "1h"]).unwrap();
    done(&daemon, &["rollback", "--yes"]);
    // Its addresses are its own again before its source is checked.
    within(Duration::from_secs(40), "the guest sends", || answers(&mut operator));
}

#[test]
fn a_first_protection_on_trial_goes_back_to_none() {
    if !can_run() {
        return;
    }
    for way in [Way::HostTc, Way::HostXdp] {
        let world = served(way);
        let mut daemon = world.daemon();
        let begun = Instant::now();
        daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "9s"]).unwrap();
        assert!(!reaches(&world, 7000) && reaches(&world, 7001), "{way:?}");
        daemon.stop(libc::SIGKILL).unwrap();
        within(Duration::from_secs(20), "it is open again", || reaches(&world, 7000));
        assert!(begun.elapsed() >= Duration::from_secs(8), "{way:?}");
        daemon.start().unwrap();
        assert!(reaches(&world, 7000));
        assert!(done(&daemon, &["status"]).contains("no device is protected"), "{way:?}");
    }
}

#[test]
fn a_device_let_go_of_on_trial_is_protected_again() {
    if !can_run() {
        return;
    }
    let world = served(Way::HostTc);
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let without = "security_groups: [{security_group_name: g}]\n";
    daemon.apply(without, &["--yes", "--confirm", "9s"]).unwrap();
    assert!(reaches(&world, 7000) && reaches(&world, 7001), "it is let go of");
    assert!(refused(&daemon, &["wait", "eth0", "--for", "0s"]).contains("eth0"), "it is open, for now");
    daemon.stop(libc::SIGKILL).unwrap();
    within(Duration::from_secs(20), "it is protected again", || !reaches(&world, 7001));
    daemon.start().unwrap();
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
    // Confirmed, it is let go of for good.
    daemon.apply(without, &["--yes", "--confirm", "9s"]).unwrap();
    done(&daemon, &["confirm"]);
    assert!(reaches(&world, 7000) && reaches(&world, 7001));
    assert!(done(&daemon, &["status"]).contains("no device is protected"));
}

#[test]
fn a_change_that_cuts_its_own_session_is_on_trial_unasked() {
    if !can_run() {
        return;
    }
    let world = served(Way::HostTc);
    world.client.tcp_server(7002).unwrap();
    let daemon = world.daemon();
    let open = format!(
        "security_groups: [{{security_group_name: g, permissions: [{{direction: ingress, ip_protocol: all, \
         source_cidr_ip: 0.0.0.0/0}}]}}]\n{}",
        world.interface("g")
    );
    daemon.apply(&open, &[]).unwrap();
    // Whoever has a connection and is called like this is taken for the way in.
    let sshd = daemon.dir().join("sshd");
    fs::copy("/bin/bash", &sshd).unwrap();
    let file = daemon.dir().join("closed.yaml");
    fs::write(&file, lets_in(&world, &[7000])).unwrap();
    let apply = |more: &str| {
        let script = format!(
            "exec 3<>/dev/tcp/192.0.2.10/7002; {} apply -f {} {more}; exit $?",
            bin().join("sgctl").display(),
            file.display()
        );
        daemon.command(&sshd, &["-c", &script]).unwrap()
    };
    let (done_so, said) = apply("--confirm off");
    assert!(!done_so && said.contains("YOUR OWN SSH CONNECTION") && said.contains("--confirm 60s"), "{said}");
    assert!(reaches(&world, 7001));
    let (done_so, said) = apply("");
    assert!(done_so && said.contains("ON TRIAL"), "{said}");
    assert!(!reaches(&world, 7001));
    done(&daemon, &["rollback", "--yes"]);
    assert!(reaches(&world, 7001));
}

/// After a restart of the machine there is nothing in the kernel that could go back: the store does.
#[test]
fn a_trial_that_a_restart_of_the_machine_ends_is_taken_back() {
    if !can_run() {
        return;
    }
    let world = served(Way::HostTc);
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let base = generation(&daemon);
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "1h"]).unwrap();
    assert!(!reaches(&world, 7000) && reaches(&world, 7001));
    daemon.stop(libc::SIGKILL).unwrap();
    let pins = daemon.dir().join("bpf/sg");
    daemon.enter(|| Ok(fs::remove_dir_all(&pins)?)).unwrap();
    within(Duration::from_secs(20), "nothing is attached", || reaches(&world, 7000) && reaches(&world, 7001));
    daemon.start().unwrap();
    assert!(reaches(&world, 7000) && !reaches(&world, 7001));
    is_taken_back(&daemon, base);
}
