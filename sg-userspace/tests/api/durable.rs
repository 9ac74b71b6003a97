//! What was acknowledged is there, whenever the daemon is killed.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::client::{call, daemon, key};
use crate::{
    support::many,
    world::{Way, World, can_run, to},
};

/// Writers at the same time.
const WRITERS: u16 = 4;

#[test]
fn killed_at_any_moment_no_acknowledged_call_is_lost() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    let key = key(&daemon, &[]);
    let made = call(&daemon, &key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "web")]).1;
    let web = made["SecurityGroupId"].as_str().unwrap().to_owned();
    let join = [("Action", "JoinSecurityGroup"), ("SecurityGroupId", &web), ("NetworkInterfaceId", "eni-guest")];
    assert_eq!(call(&daemon, &key, &join).0, 200);
    // Ports whose rule was acknowledged, and those whose rule may be there.
    let (acknowledged, asked) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let answers = AtomicU64::new(0);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let kills = many(25, 500);
    for round in 0..kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let end = Instant::now() + Duration::from_millis(seed % 200);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (daemon, key, web, answers) = (&daemon, &key, &web, &answers);
                let (acknowledged, asked) = (&acknowledged, &asked);
                scope.spawn(move || {
                    // A port for each, one rule less for each more: within the quota.
                    for n in 0.. {
                        let port = 1024 + writer * 8 + n % 8;
                        let range = format!("{port}/{port}");
                        let action = if n / 8 % 2 == round as u16 % 2 {
                            "AuthorizeSecurityGroup"
                        } else {
                            "RevokeSecurityGroup"
                        };
                        let parameters = [
                            ("Action", action),
                            ("SecurityGroupId", web.as_str()),
                            ("Permissions.1.IpProtocol", "tcp"),
                            ("Permissions.1.PortRange", range.as_str()),
                            ("Permissions.1.SourceCidrIp", "0.0.0.0/0"),
                        ];
                        // Until it is known how it ended, both is possible.
                        acknowledged.lock().unwrap().remove(&port);
                        asked.lock().unwrap().insert(port);
                        let answer = std::panic::catch_unwind(|| call(daemon, key, &parameters));
                        let Ok((200, _)) = answer else { return };
                        asked.lock().unwrap().remove(&port);
                        answers.fetch_add(1, Ordering::Relaxed);
                        if action == "AuthorizeSecurityGroup" {
                            acknowledged.lock().unwrap().insert(port);
                        }
                        if Instant::now() > end + Duration::from_secs(5) {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            // SAFETY: a process of ours, which is waited for below.
            assert_eq!(unsafe { libc::kill(daemon.pid().unwrap() as i32, libc::SIGKILL) }, 0);
        });
        daemon.stop(libc::SIGKILL).unwrap();
        daemon.start().unwrap();
        let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", web.as_str())];
        let (status, body) = call(&daemon, &key, &ask);
        assert_eq!(status, 200, "{body}");
        let port =
            |r: &serde_json::Value| r["PortRange"].as_str().and_then(|p| p.split('/').next()?.parse::<u16>().ok());
        let stored: BTreeSet<u16> =
            body["Permissions"]["Permission"].as_array().unwrap().iter().filter_map(port).collect();
        let (acknowledged, asked) = (acknowledged.lock().unwrap(), asked.lock().unwrap());
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        let extra: Vec<_> = stored.iter().filter(|p| !acknowledged.contains(p) && !asked.contains(p)).collect();
        assert!(lost.is_empty() && extra.is_empty(), "round {round}: lost {lost:?}, not taken out {extra:?}");
    }
    // What is stored is what the kernel enforces.
    let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", web.as_str())];
    let body = call(&daemon, &key, &ask).1.to_string();
    for port in 1024..1024 + WRITERS * 8 {
        world.instance.tcp_server(port).unwrap();
        let wanted = body.contains(&format!("\"{port}/{port}\""));
        assert_eq!(world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap(), wanted, "port {port}");
    }
    let answers = answers.into_inner();
    assert!(answers > kills, "{answers} answers: too few to say anything");
    eprintln!("{kills} kills, {answers} calls acknowledged, none lost");
}
