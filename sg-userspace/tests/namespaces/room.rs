//! How full everything is, and when packets were last seen, as `status` tells it.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::world::*;

fn status(daemon: &Daemon<'_>) -> Value {
    serde_json::from_str(&done(daemon, &["status", "-o", "json"])).unwrap()
}

/// Used, of how much, and whose.
fn room(status: &Value, what: &str) -> (u64, u64, String) {
    let all = status["room"].as_array().unwrap();
    let one = all.iter().find(|r| r["what"] == what).unwrap_or_else(|| panic!("no {what}: {all:#?}"));
    let whose = one["whose"].as_str().unwrap_or_default().to_owned();
    (one["used"].as_u64().unwrap(), one["of"].as_u64().unwrap(), whose)
}

#[test]
fn every_bound_is_told_and_the_fullest_first() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("quotas.rules_per_interface = 10").unwrap();
    daemon.start().unwrap();
    let ports: Vec<u16> = (7000..7009).collect();
    daemon.apply(&lets_in(&world, &ports), &[]).unwrap();
    world.instance.tcp_server(7000).unwrap();
    let before = status(&daemon);
    let mut session = world.client.connect(to("10.0.0.10:7000")).unwrap();
    assert!(answers(&mut session));
    let now = status(&daemon);
    assert_eq!(room(&now, "rules of an interface"), (9, 10, "tap0".into()));
    assert_eq!(room(&now, "protected interfaces"), (1, 1023, String::new()));
    assert_eq!(room(&now, "policies").0, 1);
    assert_eq!(room(&now, "own addresses of guests").0, 2);
    let (counters, of, _) = room(&now, "rule counters");
    assert!((9..20).contains(&counters) && of == 65_535, "{counters} of {of}");
    let (bytes, of, whose) = room(&now, "bytes of a policy");
    assert!(bytes > 1000 && of == 1 << 24 && whose == "tap0", "{bytes} of {of}, {whose}");
    for what in ["confirmed flows, IPv4", "confirmed flows of a remote"] {
        let used = |status: &Value| {
            let all = status["room"].as_array().unwrap();
            all.iter().find(|r| r["what"] == what).map_or(0, |r| r["used"].as_u64().unwrap())
        };
        assert_eq!((used(&before), used(&now)), (0, 1), "{what}");
    }
    // By the same counts as metrics: the table of an interface that has it all is no other.
    assert_eq!(room(&now, "confirmed flows, IPv4").1, now["conntrack"]["tables"][0]["of"].as_u64().unwrap());
    let all = now["room"].as_array().unwrap();
    let parts: Vec<f64> =
        all.iter().map(|r| r["used"].as_f64().unwrap() / r["of"].as_f64().unwrap().max(1.0)).collect();
    assert!(parts.is_sorted_by(|a, b| a >= b), "{all:#?}");
    assert_eq!(all[0]["what"], "rules of an interface");
    for kernel in ["fragmented packets", "bytes of events that wait", "flows that are counted", "interface index"] {
        assert!(all.iter().any(|r| r["what"] == kernel), "{kernel}");
    }
    let short = done(&daemon, &["status"]);
    assert!(short.contains("rules of an interface") && !short.contains("snapshots"), "{short}");
    assert!(short.contains(&format!("5 of {} bounds", all.len())), "{short}");
    let long = done(&daemon, &["status", "--all"]);
    assert!(long.contains("snapshots") && !long.contains(" bounds;"), "{long}");
}

#[test]
fn the_last_packet_of_each_direction_is_told() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = world.daemon();
    daemon.apply(&lets_in(&world, &[7000]), &[]).unwrap();
    let seen = || {
        let status = status(&daemon);
        let seen = status["devices"][0]["seen"].clone();
        let one = |i: usize| seen[i].clone();
        assert_eq!((&one(0)["direction"], &one(1)["direction"]), (&"ingress".into(), &"egress".into()), "{status}");
        [one(0), one(1)]
    };
    let time = |value: &Value| humantime::parse_rfc3339(value["at"].as_str().unwrap()).unwrap();
    // A first look tells nothing of what was before.
    seen();
    let begun = SystemTime::now() - Duration::from_secs(1);
    // Nobody lets it in: it was seen all the same.
    assert!(!world.client.tcp(to("10.0.0.10:7001")).unwrap());
    let [inbound, _] = seen();
    assert!(time(&inbound) >= begun, "{inbound}");
    assert!(inbound["within"].as_u64().unwrap() <= 60, "{inbound}");
    world.instance.tcp_server(7000).unwrap();
    assert!(world.client.tcp(to("10.0.0.10:7000")).unwrap());
    let both = seen();
    assert!(both.iter().all(|seen| time(seen) >= begun), "{both:?}");
    let said = done(&daemon, &["status"]);
    assert!(said.contains("tap0: last packet ingress 20") && said.contains("(within "), "{said}");
    let said = done(&daemon, &["interface", "show", "tap0"]);
    assert!(said.contains("tap0: last packet ingress 20"), "{said}");
}
