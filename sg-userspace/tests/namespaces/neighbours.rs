//! Programs of others at our hooks: before ours, after ours, in place of ours.

use std::{net::UdpSocket, process::Command, time::Duration};

use sg_userspace::testbed::{Daemon, echoes};

use super::{
    foreign::{Foreign, NEXT, OK, SHOT, XDP_DROP, XDP_PASS, link_of, standing, take_off},
    world::*,
};

/// Port 80 is open, nothing else.
fn policy(world: &World) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n{}",
        world.interface("g")
    )
}

fn protected(world: &World) -> Daemon<'_> {
    [80, 81].iter().for_each(|port| world.instance.tcp_server(*port).unwrap());
    let daemon = world.daemon();
    daemon.apply(&policy(world), &[]).unwrap();
    daemon
}

fn open(world: &World, port: u16) -> bool {
    world.client.tcp(([10, 0, 0, 10], port).into()).unwrap()
}

/// Whether a datagram to a port that no rule admits arrives: nothing comes back,
/// so only what is inbound decides.
fn hears(world: &World) -> bool {
    let socket = world.instance.run(|| Ok(UdpSocket::bind("0.0.0.0:5001")?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    world.client.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(b"one", "10.0.0.10:5001")?)).unwrap();
    socket.recv(&mut [0; 8]).is_ok()
}

fn status(daemon: &Daemon<'_>) -> String {
    daemon.sgctl(&["status"]).unwrap().1
}

fn has_tcx() -> bool {
    can_run() && tc_place() == "tcx"
}

/// One that ends the chain before ours silences us, until ours are before it.
#[test]
fn ours_are_put_before_one_at_tcx() {
    if !has_tcx() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = protected(&world);
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    for (ingress, says) in [(true, OK), (true, NEXT), (false, OK)] {
        let ours = standing(&world.instance, "eth0", ingress)[0];
        let foreign = Foreign::tcx(&world.instance, "eth0", ingress, says, true);
        let first = standing(&world.instance, "eth0", ingress);
        assert_eq!(first.len(), 2);
        eventually("ours are the first again", || {
            let now = standing(&world.instance, "eth0", ingress);
            now.len() == 2 && now[0].program == ours.program
        });
        let now = standing(&world.instance, "eth0", ingress);
        assert!(now.iter().any(|s| first.contains(s) && s.program != ours.program), "the other one is still there");
        assert!(open(&world, 80) && !open(&world, 81) && !hears(&world), "{ingress} {says}");
        assert!(echoes(&mut live, b"on and on"), "{ingress} {says}: a live connection goes on");
        assert!(!status(&daemon).contains("NOT FIRST"));
        drop(foreign);
    }
    assert_eq!(daemon.log().matches("ours were put before it").count(), 3, "{}", daemon.log());
    assert!(daemon.log().contains("foreign, id "), "{}", daemon.log());
    assert_eq!(reason(&daemon.interface("eth0").unwrap(), "ingress", "cut"), 0);
}

/// Who insists is told of, not fought with; and what comes after the next
/// restart is a link like any other.
#[test]
fn with_one_that_insists_there_is_no_contest() {
    if !has_tcx() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = protected(&world);
    let mut foreign = Foreign::tcx(&world.instance, "eth0", true, OK, true);
    eventually("ours are the first again", || daemon.log().contains("ours were put before it"));
    assert!(!hears(&world));
    foreign.again(&world.instance, "eth0", true);
    eventually("it is told of", || status(&daemon).contains("NOT FIRST"));
    assert!(hears(&world), "silenced, as the listing says");
    assert_eq!(daemon.log().matches("ours were put before it").count(), 1, "{}", daemon.log());
    assert_eq!(daemon.log().matches("is not judged").count(), 2, "each once: {}", daemon.log());
    drop(foreign);
    eventually("it is gone", || !status(&daemon).contains("NOT FIRST"));
    daemon.stop(libc::SIGKILL).unwrap();
    assert!(open(&world, 80) && !open(&world, 81), "the link that was moved is pinned");
    daemon.start().unwrap();
    assert_eq!(standing(&world.instance, "eth0", true).len(), 1);
    assert!(open(&world, 80) && !open(&world, 81));
}

/// Ours pass by NEXT: one after ours has its say about what we accept.
#[test]
fn one_after_ours_is_asked() {
    if !has_tcx() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = protected(&world);
    let order = |says| {
        let foreign = Foreign::tcx(&world.instance, "eth0", true, says, false);
        let now = standing(&world.instance, "eth0", true);
        (foreign, now)
    };
    let (foreign, before) = order(NEXT);
    assert!(open(&world, 80) && !open(&world, 81));
    drop(foreign);
    let (foreign, _) = order(SHOT);
    let accepted = rule(&daemon.interface("eth0").unwrap(), "ingress", "g[0]");
    assert!(!open(&world, 80), "the other one drops it");
    assert!(rule(&daemon.interface("eth0").unwrap(), "ingress", "g[0]") > accepted, "ours had accepted it");
    drop(foreign);
    assert!(open(&world, 80));
    assert_eq!(standing(&world.instance, "eth0", true), before[..1], "ours stayed where they were");
    assert!(!daemon.log().contains("before"), "{}", daemon.log());
}

/// What was taken off behind our back is put back.
fn put_back(way: Way, take: impl Fn(&World)) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    let daemon = protected(&world);
    let mut live = world.client.connect(to("10.0.0.10:80")).unwrap();
    assert!(echoes(&mut live, b"before"));
    assert!(!open(&world, 81));
    take(&world);
    eventually("told of", || daemon.log().contains("the programs of eth0 had been taken off; they are there again"));
    assert!(open(&world, 80) && !open(&world, 81), "{way:?}");
    assert!(echoes(&mut live, b"after"), "{way:?}");
    let view = daemon.interface("eth0").unwrap();
    assert_eq!((view.status.hooks.len(), reason(&view, "ingress", "cut")), (2, 0));
    assert!(!status(&daemon).contains("NOT"), "{}", status(&daemon));
}

#[test]
fn taken_off_at_tcx() {
    if has_tcx() {
        for ingress in [true, false] {
            put_back(Way::HostTc, |world| take_off(standing(&world.instance, "eth0", ingress)[0].link));
        }
    }
}

#[test]
fn taken_off_at_xdp() {
    put_back(Way::HostXdp, |world| take_off(xdp_link(world)));
}

/// The link of the XDP program on the instance's device.
fn xdp_link(world: &World) -> u32 {
    let text = run(world, "ip", "-d link show dev eth0").unwrap();
    let id = text.split("prog/xdp id ").nth(1).and_then(|t| t.split_whitespace().next()).unwrap();
    link_of(id.parse().unwrap())
}

#[test]
fn taken_off_at_clsact() {
    if !has_tc() {
        return;
    }
    for what in ["filter del dev eth0 ingress", "filter del dev eth0 egress", "qdisc del dev eth0 clsact"] {
        put_back(Way::HostClsact, |world| drop(run(world, "tc", what).unwrap()));
    }
}

fn run(world: &World, program: &str, arguments: &str) -> anyhow::Result<String> {
    world.instance.run(|| {
        let output = Command::new(program).args(words(arguments)).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if output.status.success() { Ok(text) } else { anyhow::bail!("{program} {arguments}: {text}") }
    })
}

/// Words, of which one in quotes may hold blanks.
fn words(text: &str) -> Vec<&str> {
    text.split('\'')
        .enumerate()
        .flat_map(|(n, part)| if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .collect()
}

/// Whether `tc` is there; it is not on the small machines with other kernels.
fn has_tc() -> bool {
    can_run() && Command::new("tc").arg("-V").output().is_ok()
}

/// A filter of somebody else at clsact that says one thing.
fn filter(world: &World, priority: u16, says: i32) {
    let says = says as u32;
    run(world, "tc", &format!("filter add dev eth0 ingress prio {priority} bpf da bytecode '1,6 0 0 {says}'")).unwrap();
}

fn filters(world: &World) -> usize {
    run(world, "tc", "filter show dev eth0 ingress").unwrap().matches("bytecode").count()
}

#[test]
fn filters_of_others_at_clsact() {
    if !has_tc() {
        return;
    }
    let world = World::new(Way::HostClsact);
    // It is there first, with the priority and handle that anybody would get.
    run(&world, "tc", "qdisc add dev eth0 clsact").unwrap();
    filter(&world, 1, OK);
    let daemon = protected(&world);
    assert_eq!(filters(&world), 1, "it was not replaced");
    assert!(open(&world, 80) && !open(&world, 81), "ours stand before it");
    assert!(!status(&daemon).contains("NOT FIRST"));
    // After ours: ours pass by NEXT.
    run(&world, "tc", "filter del dev eth0 ingress prio 1 handle 1 bpf").unwrap();
    filter(&world, 2, SHOT);
    let accepted = rule(&daemon.interface("eth0").unwrap(), "ingress", "g[0]");
    assert!(!open(&world, 80));
    assert!(rule(&daemon.interface("eth0").unwrap(), "ingress", "g[0]") > accepted);
    run(&world, "tc", "filter del dev eth0 ingress prio 2").unwrap();
    // Before ours: the newest of a priority is asked first. It is told of, and left alone.
    filter(&world, 1, OK);
    eventually("told of", || status(&daemon).contains("NOT FIRST: eth0: a clsact filter of somebody else"));
    assert!(hears(&world), "silenced, as the listing says");
    assert_eq!(filters(&world), 1);
    if tc_place() == "tcx" {
        let foreign = Foreign::tcx(&world.instance, "eth0", false, NEXT, true);
        eventually("told of", || {
            status(&daemon).contains("NOT FIRST: eth0: a TCX program of somebody else (foreign, id ")
        });
        drop(foreign);
    }
}

#[test]
fn xdp_programs_of_others() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = protected(&world);
    let foreign = Foreign::xdp(&world.instance, "eth0", XDP_PASS).unwrap();
    // The kernel says nothing of it; any word of the device makes the daemon look.
    world.instance.ip("link set eth0 alias looked-at").unwrap();
    eventually("told of", || {
        status(&daemon).contains("NOT FIRST: eth0: an XDP program of somebody else (foreign, id ")
    });
    assert!(open(&world, 80) && !open(&world, 81), "what it passes is judged");
    let refused = daemon.apply(&policy(&world).replace("hook: tc", "hook: xdp"), &[]).unwrap_err().to_string();
    assert!(refused.contains("carries an XDP program that is not ours"), "{refused}");
    assert!(open(&world, 80) && !open(&world, 81), "what was in force stays");
    drop(foreign);
    let foreign = Foreign::xdp(&world.instance, "eth0", XDP_DROP).unwrap();
    let seen = daemon.interface("eth0").unwrap().status.dropped;
    assert!(!open(&world, 80));
    assert_eq!(daemon.interface("eth0").unwrap().status.dropped, seen, "what it drops never comes");
    drop(foreign);
    // And none can take the place of ours.
    daemon.apply(&policy(&world).replace("hook: tc", "hook: xdp"), &[]).unwrap();
    let refused = Foreign::xdp(&world.instance, "eth0", XDP_PASS).err().unwrap();
    assert!(matches!(refused.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)), "{refused}");
    assert!(open(&world, 80) && !open(&world, 81));
    // But one that takes ours off and stands there: not open for all that.
    let _foreign = loop {
        take_off(xdp_link(&world));
        match Foreign::xdp(&world.instance, "eth0", XDP_PASS) {
            // Put back before it could stand there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {}
            done => break done.unwrap(),
        }
    };
    eventually("ours are at TC", || daemon.interface("eth0").unwrap().status.hooks == [tc_place(); 2]);
    assert!(open(&world, 80) && !open(&world, 81));
    assert!(daemon.log().contains("cannot be put back: eth0 carries an XDP program"), "{}", daemon.log());
}
