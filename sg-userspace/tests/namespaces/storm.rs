//! Members that come and go by the thousand, from several sides at once, under
//! traffic whose verdict none of it may change.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use sg_userspace::daemon::protocol::Reply;

use super::{
    survival::{alone, put},
    world::*,
};
use crate::support::{Random, many};

/// Who changes members at the same time.
const WRITERS: usize = 8;

/// Two rules that decide all traffic of the test, whatever group its sender is in,
/// and others that would decide otherwise by members and by a prefix list; and a
/// port that members alone reach.
fn policy(world: &World) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  inner_access_policy: drop\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 5000/5000, source_cidr_ip: 192.0.2.0/26, priority: 1}}\n\
         \x20 - {{direction: ingress, policy: drop, ip_protocol: udp, port_range: 5001/5001, source_cidr_ip: 192.0.2.64/26, priority: 1}}\n\
         \x20 - {{direction: ingress, policy: drop, ip_protocol: udp, port_range: 5000/5000, source_group_id: members, priority: 50}}\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 5001/5001, source_group_id: members, priority: 50}}\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 5001/5001, source_prefix_list_id: wide, priority: 40}}\n\
         \x20 - {{direction: ingress, ip_protocol: udp, port_range: 5002/5002, source_group_id: members, priority: 50}}\n\
         - security_group_name: members\n\
         prefix_lists:\n- {{prefix_list_name: wide, max_entries: 9, entries: [{{cidr: 192.0.2.64/27}}, {{cidr: 198.51.100.0/24}}]}}\n{}",
        world.interface("g")
    )
}

/// Addresses that come and go: of the client, and others that no packet has.
fn pool() -> Vec<Ipv4Addr> {
    let client = [10, 77].into_iter().chain(100..120).map(|i| Ipv4Addr::new(192, 0, 2, i));
    client.chain((0..200).map(|i| Ipv4Addr::new(172, 16, i, 9))).collect()
}

/// One writer's members.
fn members(writer: usize, members: &BTreeSet<Ipv4Addr>) -> String {
    // A member has at least one address.
    let all: Vec<String> =
        members.iter().chain([&Ipv4Addr::new(172, 17, writer as u8, 9)]).map(ToString::to_string).collect();
    format!(
        "document: w{writer}\nnetwork_interfaces:\n- {{network_interface_name: w{writer}, private_ip_addresses: [{}], security_group_ids: [members]}}\n",
        all.join(", ")
    )
}

#[test]
fn a_storm_of_members_converges_and_judges_no_packet_by_a_mix() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let world = World::new(Way::HostTc);
    let pool = pool();
    for address in pool.iter().filter(|a| a.octets()[3] >= 100 && a.octets()[0] == 192) {
        world.client.address("eth0", &[&format!("{address}/24")]).unwrap();
    }
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &[]).unwrap();
    let receivers: Vec<UdpSocket> = [5000, 5001, 5002]
        .map(|port| {
            world
                .instance
                .run(|| {
                    let socket = UdpSocket::bind(("0.0.0.0", port))?;
                    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
                    Ok(socket)
                })
                .unwrap()
        })
        .into();
    let changes = many(1000, 10_000);
    let epoch = daemon.interface("eth0").unwrap().status.epoch;
    let (stop, sent, got) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (patched, rebuilt) = (AtomicU64::new(0), AtomicU64::new(0));
    let finals: Vec<BTreeSet<Ipv4Addr>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            world.client.run(|| {
                let bind =
                    |address: &str| (0..16).map(|_| UdpSocket::bind((address, 0))).collect::<Result<Vec<_>, _>>();
                let (open, closed) = (bind("192.0.2.10")?, bind("192.0.2.77")?);
                while !stop.load(Ordering::Relaxed) {
                    for (open, closed) in open.iter().zip(&closed) {
                        // A full queue is no verdict.
                        let _ = open.send_to(b"open", "10.0.0.10:5000");
                        let _ = closed.send_to(b"closed", "10.0.0.10:5001");
                        sent.fetch_add(2, Ordering::Relaxed);
                    }
                    std::thread::yield_now();
                }
                Ok(())
            })
        });
        scope.spawn(|| {
            let mut buffer = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                got.fetch_add(u64::from(receivers[0].recv(&mut buffer).is_ok()), Ordering::Relaxed);
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (daemon, pool, patched, rebuilt) = (&daemon, &pool, &patched, &rebuilt);
                scope.spawn(move || {
                    let mut r = Random::new(writer as u64 + 1);
                    // An address belongs to one member; the first ones are the client's.
                    let own: Vec<Ipv4Addr> = pool.iter().copied().skip(writer).step_by(WRITERS).collect();
                    let mut set = BTreeSet::new();
                    for _ in 0..changes / WRITERS as u64 {
                        for _ in 0..=r.below(3) {
                            let share = if r.chance(50) { 2 } else { own.len() };
                            let address = own[r.below(share)];
                            if !set.remove(&address) {
                                set.insert(address);
                            }
                        }
                        match put(daemon, &members(writer, &set)) {
                            Ok(Reply::Planned(planned)) => {
                                let report = planned.report.unwrap_or_default();
                                patched.fetch_add(u64::from(report.deltas > 0), Ordering::Relaxed);
                                rebuilt.fetch_add(u64::from(report.policies > 0), Ordering::Relaxed);
                            }
                            other => return Err(format!("{other:?}")),
                        }
                    }
                    Ok(set)
                })
            })
            .collect();
        let finals: Vec<_> = writers.into_iter().map(|w| w.join().unwrap()).collect();
        let before = got.load(Ordering::Relaxed);
        eventually("packets arrive", || got.load(Ordering::Relaxed) > before);
        stop.store(true, Ordering::Relaxed);
        finals.into_iter().collect::<Result<_, _>>().unwrap()
    });
    let view = daemon.interface("eth0").unwrap();
    let flips = view.status.epoch - epoch;
    let (sent, got) = (sent.into_inner(), got.into_inner());
    let (patched, rebuilt) = (patched.into_inner(), rebuilt.into_inner());
    eprintln!(
        "{changes} changes in {flips} flips ({patched} answered by a patch, {rebuilt} by a rebuild), {sent} packets sent, {got} arrived, none judged by a mix"
    );
    receivers[1].set_nonblocking(true).unwrap();
    assert!(receivers[1].recv(&mut [0; 16]).is_err(), "a packet passed that no policy admits");
    // What the neighbour's kernel says of its multicast groups is no packet of ours.
    assert!(reason(&view, "ingress", "default") <= 2, "{:?}", view.reasons);
    for wrong in ["table_missing", "disagreement", "no_policy", "cut"] {
        assert_eq!(reason(&view, "ingress", wrong), 0, "{:?}", view.reasons);
    }
    for line in view.rules.iter().filter(|r| r.direction == "ingress" && r.packets > 0) {
        let stray = line.rule == "(default)" && line.packets <= 2;
        assert!(stray || ["g[0]", "g[1]", "(essential)"].contains(&line.rule.as_str()), "{line:?} decided");
    }
    assert!(rule(&view, "ingress", "g[0]") > 0 && rule(&view, "ingress", "g[1]") > 0);
    assert!(u64::from(flips) < changes, "changes that wait are made together");
    assert!(rebuilt * 10 < patched, "{patched} patched, {rebuilt} rebuilt");

    // What is in force now is what was asked for last, to the address.
    let wanted: BTreeSet<Ipv4Addr> = finals.into_iter().flatten().collect();
    for address in pool.iter().filter(|a| a.octets()[0] == 192) {
        let counted = |name| reason(&daemon.interface("eth0").unwrap(), "ingress", name);
        let (dropped, is_member) = (counted("default"), wanted.contains(address));
        let sender = world.client.run(|| Ok(UdpSocket::bind((*address, 0))?)).unwrap();
        sender.send_to(b"x", "10.0.0.10:5002").unwrap();
        if is_member {
            let (_, from) = receivers[2].recv_from(&mut [0; 16]).unwrap_or_else(|e| panic!("{address}: {e}"));
            assert_eq!(from.ip(), std::net::IpAddr::V4(*address));
        } else {
            eventually("it is dropped by default", || counted("default") > dropped);
        }
    }
    assert!(receivers[2].recv(&mut [0; 16]).is_err(), "no one else's packet passed");
}
