//! `sgctl shadow`: a candidate beside the policy in force, on real packets.

use sg_userspace::{daemon::protocol::ShadowView, testbed::Daemon};

use super::world::*;
use crate::support::pins::{alter, policy_id};

fn start(daemon: &Daemon<'_>, text: &str) -> ShadowView {
    let file = daemon.dir().join("candidate.yaml");
    std::fs::write(&file, text).unwrap();
    let said = done(daemon, &["shadow", "start", "-f", file.to_str().unwrap(), "-o", "json"]);
    serde_json::from_str(&said).unwrap()
}

fn report(daemon: &Daemon<'_>) -> ShadowView {
    serde_json::from_str(&done(daemon, &["shadow", "report", "-o", "json"])).unwrap()
}

/// What differs: verdict in force, by what, by what in the candidate, flows.
fn kinds(view: &ShadowView) -> Vec<(&str, &str, &str, u64)> {
    let mut all: Vec<_> =
        view.kinds.iter().map(|k| (k.verdict.as_str(), k.now.as_str(), k.then.as_str(), k.flows)).collect();
    all.sort_unstable();
    all
}

fn judges_beside(way: Way) {
    if !can_run() {
        return;
    }
    let world = World::new(way);
    for port in [7000, 7001, 7002] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let mut daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000, 7001]), &[]).unwrap();
    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    assert!(answers(&mut session));

    // 7001 and 7002 in place of 7000 and 7001.
    let view = start(&daemon, &lets_in(&world, &[7001, 7002]));
    assert_eq!((view.devices, view.judged, view.differ), (vec![world.device().to_owned()], 0, 0));
    assert!(answers(&mut session), "{way:?}: a live flow is none that begins");
    assert!(reaches(7000) && reaches(7000) && reaches(7001) && !reaches(7002), "{way:?}: enforcement is as it was");
    let view = report(&daemon);
    assert_eq!(kinds(&view), [("accept", "g[0]", "default", 2), ("drop", "default", "g[1]", 1)], "{way:?}");
    assert!(view.judged >= 4 && view.left_out == 0 && view.problem.is_none(), "{view:?}");

    // It lives on without its daemon, and is taken up by the next one.
    daemon.stop(libc::SIGKILL).unwrap();
    assert!(reaches(7000));
    daemon.start().unwrap();
    assert!(answers(&mut session));
    assert_eq!(kinds(&report(&daemon))[0].3, 3, "{way:?}");
    assert!(reaches(7000));
    assert_eq!(kinds(&report(&daemon))[0].3, 4, "{way:?}");

    // It follows what is in force: of other documents, too.
    let other = "document: other\nsecurity_groups: [{security_group_name: h}]\n";
    std::fs::write(daemon.dir().join("other.yaml"), other).unwrap();
    done(&daemon, &["apply", "-f", daemon.dir().join("other.yaml").to_str().unwrap()]);
    assert!(reaches(7000) && !reaches(7002));
    assert_eq!(kinds(&report(&daemon)), [("accept", "g[0]", "default", 5), ("drop", "default", "g[1]", 2)], "{way:?}");

    // In force it decides nothing otherwise, and the flow that it denies is cut.
    done(&daemon, &["shadow", "promote", "--yes"]);
    assert!(!answers(&mut session) && !reaches(7000) && reaches(7002), "{way:?}");
    let said = done(&daemon, &["shadow", "stop"]);
    assert!(said.contains("g[0]"), "{said}");
    let (refused, text) = daemon.sgctl(&["shadow", "report"]).map(|(done, text)| (!done, text)).unwrap();
    assert!(refused && text.contains("there is no candidate"), "{text}");
}

#[test]
fn judges_beside_on_the_host_side() {
    judges_beside(Way::HostTc);
}

#[test]
fn judges_beside_at_xdp() {
    judges_beside(Way::HostXdp);
}

#[test]
fn judges_beside_on_the_guest_side() {
    judges_beside(Way::Guest);
}

#[test]
fn a_bad_candidate_is_refused_and_trials_come_first() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(7000).unwrap();
    let daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let file = daemon.dir().join("candidate.yaml").to_str().unwrap().to_owned();
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let (done, said) = daemon.sgctl(&["shadow", "start", "-f", &file]).unwrap();
        assert!(!done, "{said}");
        said
    };
    assert!(refused(&lets_in(&world, &[7000]).replace("[g]", "[h]")).contains("there is no security group \"h\""));
    daemon.apply(&lets_in(&world, &[7000, 7001]), &["--confirm", "60s"]).unwrap();
    assert!(refused(&lets_in(&world, &[7000])).contains("is on trial"));
    done(&daemon, &["confirm"]);
    // While one judges, a change on trial goes back to what was in force, without it.
    start(&daemon, &lets_in(&world, &[7000]));
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "60s"]).unwrap();
    done(&daemon, &["rollback", "--yes"]);
    let view = report(&daemon);
    assert_eq!((view.problem, view.devices), (None, vec!["eth0".to_owned()]));
    assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    assert_eq!(report(&daemon).differ, 0);
    // Let go of during a trial, it is gone from the kernel when that is over.
    daemon.apply(&lets_in(&world, &[7001]), &["--yes", "--confirm", "60s"]).unwrap();
    done(&daemon, &["shadow", "stop"]);
    done(&daemon, &["rollback", "--yes"]);
    let shadowed = std::sync::atomic::AtomicU32::new(1);
    alter(&daemon, |_, there| {
        shadowed.store(there.shadow, std::sync::atomic::Ordering::Relaxed);
        there
    });
    assert_eq!(shadowed.into_inner(), 0);
}

/// A policy whose group `g` lets a port in from members of `others`, and what is said of these.
fn from_members(world: &World, port: u16, others: &str) -> String {
    let rule = format!("direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_group_id: others");
    format!(
        "security_groups:\n- {{security_group_name: g, permissions: [{{{rule}}}]}}\n{others}{}",
        world.interface("g")
    )
}

/// The map in which the kernel has a candidate's policy.
fn shadow_map(daemon: &Daemon<'_>) -> u32 {
    let packed = std::sync::atomic::AtomicU32::new(0);
    alter(daemon, |_, there| {
        packed.store(there.shadow, std::sync::atomic::Ordering::Relaxed);
        there
    });
    policy_id(daemon, packed.into_inner())
}

#[test]
fn members_that_come_and_go_reach_the_candidate_by_a_delta() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let daemon = world.daemon();
    // The members are another document's, as they may be the API's.
    let file = daemon.dir().join("members.yaml");
    let members = |addresses: &str| {
        let text = format!(
            "document: members\nsecurity_groups: [{{security_group_name: others}}]\nnetwork_interfaces: \
             [{{network_interface_name: one, private_ip_addresses: [{addresses}], security_group_ids: [others]}}]\n"
        );
        std::fs::write(&file, text).unwrap();
        done(&daemon, &["apply", "-f", file.to_str().unwrap()]);
    };
    members("198.51.100.1");
    daemon.apply(&from_members(&world, 7000, ""), &[]).unwrap();
    start(&daemon, &from_members(&world, 7001, ""));
    let map = shadow_map(&daemon);
    assert!(!reaches(7000) && !reaches(7001));
    assert_eq!(report(&daemon).differ, 0);

    members("198.51.100.1, 192.0.2.10");
    assert!(reaches(7000) && !reaches(7001));
    let both = [("accept", "g[0]", "default", 1), ("drop", "default", "g[0]", 1)];
    assert_eq!(kinds(&report(&daemon)), both, "the member is one of the candidate's, too");
    assert_eq!(shadow_map(&daemon), map, "its policy was made anew");
    members("198.51.100.1");
    assert!(!reaches(7000) && !reaches(7001));
    assert_eq!(kinds(&report(&daemon)), both, "and is none any more");
    assert_eq!(shadow_map(&daemon), map, "its policy was made anew");
    // What is in force is the same by now: both have one policy.
    daemon.apply(&from_members(&world, 7001, ""), &["--yes"]).unwrap();
    members("192.0.2.10");
    assert!(reaches(7001) && !reaches(7000));
    assert_eq!(kinds(&report(&daemon)), both);
}

#[test]
fn members_that_only_what_is_in_force_loses_stay_the_candidates() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.instance.tcp_server(7000).unwrap();
    let reaches = || world.client.tcp(to("10.0.0.10:7000")).unwrap();
    let daemon = world.daemon();
    let policy = |members: &str| {
        let others = "- {security_group_name: others}\n";
        from_members(&world, 7000, others)
            + &format!("- {{private_ip_addresses: [{members}], security_group_ids: [others]}}\n")
    };
    daemon.apply(&policy("198.51.100.1, 192.0.2.10"), &[]).unwrap();
    // It says what is in force: both have one policy, which is patched now.
    start(&daemon, &policy("198.51.100.1, 192.0.2.10"));
    assert!(reaches());
    daemon.apply(&policy("198.51.100.1"), &[]).unwrap();
    assert!(!reaches());
    assert_eq!(kinds(&report(&daemon)), [("drop", "default", "g[0]", 1)]);
    // And one again.
    daemon.apply(&policy("198.51.100.1, 192.0.2.10"), &[]).unwrap();
    assert!(reaches());
    assert_eq!(report(&daemon).differ, 1);
}
