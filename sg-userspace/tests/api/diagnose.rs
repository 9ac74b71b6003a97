//! Who reaches what, told and tried; and what lets them in.

use serde_json::Value;

use super::{
    client::daemon,
    console::{done, refused},
};
use crate::world::{Way, World, can_run, to};

fn ask<'a>(port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["diagnose", "tap0", "tcp", port], more].concat()
}

#[test]
fn what_is_closed_is_opened_for_who_was_named() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let drop = |port: u16, priority: u8| {
        format!(
            "{{direction: ingress, policy: drop, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 192.0.2.0/24, \
             priority: {priority}}}"
        )
    };
    let groups = format!(
        "security_groups:\n- {{security_group_name: g, permissions: [{}, {}]}}\n",
        drop(7001, 4),
        drop(7002, 1)
    );
    daemon.apply(&(groups + &world.interface("g")), &[]).unwrap();
    for port in [7000, 7001, 7002] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let all = done(&daemon, &["diagnose", "tap0"]);
    assert!(all.contains("ssh") && all.contains(" ingress tcp 22/22 SOURCE"), "{all}");
    assert!(all.lines().filter(|l| l.contains(" closed ")).count() == 12, "{all}");

    let from = ["--from", "192.0.2.10"];
    assert!(done(&daemon, &ask("7000", &from)).contains("closed") && !reaches(7000));
    // Nobody is let in who was not named.
    assert!(refused(&daemon, &ask("7000", &["--open"])).contains("--from"));
    let open = |port| [&ask(port, &from)[..], &["--open", "--yes"]].concat();
    assert!(refused(&daemon, &[&ask("7000", &from)[..], &["--open"]].concat()).contains("--yes"));
    assert!(!reaches(7000));
    let said = done(&daemon, &open("7000"));
    assert!(said.contains(" ingress tcp 7000/7000 192.0.2.10/32") && said.contains(" open "), "{said}");
    assert!(reaches(7000));
    let others = done(&daemon, &ask("7000", &["--from", "192.0.2.77"]));
    assert!(others.contains(" closed "), "{others}");
    // A rule that stands against it is gone before; one that nothing wins against is named.
    let stopped = done(&daemon, &ask("7001", &from));
    assert!(stopped.contains("g[0]") && stopped.contains("--priority 3") && !reaches(7001), "{stopped}");
    done(&daemon, &open("7001"));
    assert!(reaches(7001));
    let forbidden = refused(&daemon, &open("7002"));
    assert!(forbidden.contains("g[1]") && forbidden.contains("nothing was changed") && !reaches(7002), "{forbidden}");
    // For programs all of it: what was closed, what was added for it, and what is so now.
    done(&daemon, &["interface", "create", "--name", "spare", "--address", "10.0.0.98", "g"]);
    let json = |port| [open(port), vec!["-o", "json"]].concat();
    let answer: Value = serde_json::from_str(&done(&daemon, &json("7003"))).unwrap();
    assert_eq!(answer["source"], "192.0.2.10/32", "{answer}");
    assert_eq!((&answer["closed"][0]["state"], &answer["now"][0]["state"]), (&"closed".into(), &"open".into()));
    let opened = &answer["opened"][0];
    assert_eq!((&opened["name"], &opened["other_members"]), (&"g".into(), &1.into()), "{answer}");
    let rule = &opened["rule"];
    assert_eq!((&rule["PortRange"], &rule["SourceCidrIp"]), (&"7003/7003".into(), &"192.0.2.10/32".into()), "{answer}");
    assert!(opened["command"].as_str().unwrap().contains(" ingress tcp 7003/7003 192.0.2.10/32"), "{answer}");
    let status: Value = serde_json::from_str(&done(&daemon, &["status", "-o", "json"])).unwrap();
    assert_eq!(opened["generation"], status["generation"]);
    let again: Value = serde_json::from_str(&done(&daemon, &json("7003"))).unwrap();
    assert_eq!(
        (&again["closed"], &again["opened"]),
        (&Value::from(Vec::<Value>::new()), &Value::from(Vec::<Value>::new()))
    );
    // What is open already needs no second rule.
    let rules = |()| done(&daemon, &["group", "show", "g"]).lines().count();
    let before = rules(());
    done(&daemon, &open("7000"));
    assert_eq!(rules(()), before);
    assert!(refused(&daemon, &["diagnose", "eth7"]).contains("not protected"));
    assert!(refused(&daemon, &["diagnose", "tap0", "warp"]).contains("warp"));
    assert!(refused(&daemon, &["diagnose", "tap0", "tcp"]).contains("tcp 443"));
}
