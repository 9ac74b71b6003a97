//! What others did to a document's objects is told, and undone by the next apply.

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::{
    client::daemon,
    console::{done, refused},
};
use crate::world::{Way, World, can_run, to};

/// A guest in one of two groups, and a list.
fn policy(ports: &[u16]) -> String {
    let rule = |p: &u16| {
        format!("{{direction: ingress, ip_protocol: tcp, port_range: {p}/{p}, source_cidr_ip: 192.0.2.0/24}}")
    };
    let rules: Vec<String> = ports.iter().map(rule).collect();
    format!(
        "security_groups:\n- {{security_group_name: web, permissions: [{}]}}\n- {{security_group_name: mon}}\n\
         prefix_lists: [{{prefix_list_name: office, max_entries: 5, entries: [{{cidr: 203.0.113.0/24}}]}}]\n\
         network_interfaces:\n- {{device: tap0, side: guest, network_interface_id: eni-guest, \
         private_ip_addresses: [10.0.0.10], security_group_ids: [web]}}\n",
        rules.join(", ")
    )
}

fn status(daemon: &Daemon<'_>) -> Value {
    serde_json::from_str(&done(daemon, &["status", "-o", "json"])).unwrap()
}

/// Drift of the only document: whether it is known, objects, changes.
fn counts(daemon: &Daemon<'_>) -> (bool, u64, u64) {
    let drift = status(daemon)["drift"].clone();
    assert_eq!(drift.as_array().map(Vec::len), Some(1), "{drift}");
    let number = |name: &str| drift[0][name].as_u64().unwrap();
    (drift[0]["known"] == true, number("objects"), number("changes"))
}

/// What a plan says of drift, a line each.
fn planned(daemon: &Daemon<'_>, text: &str) -> (Vec<String>, Vec<String>) {
    let file = daemon.dir().join("plan.yaml");
    std::fs::write(&file, text).unwrap();
    let plan: Value =
        serde_json::from_str(&done(daemon, &["plan", "-f", file.to_str().unwrap(), "-o", "json"])).unwrap();
    let lines = |which: &str| {
        let all = plan["drift"][which].as_array().unwrap_or_else(|| panic!("{plan}"));
        let line = |d: &Value| {
            let text = |name: &str| d[name].as_str().unwrap().to_owned();
            format!("{} {}: {}", text("name"), text("what"), text("detail")).trim_end_matches([' ', ':']).to_owned()
        };
        all.iter().map(line).collect()
    };
    assert_eq!(plan["drift"]["known"], true, "{plan}");
    (lines("undone"), lines("kept"))
}

fn id_of_rule(daemon: &Daemon<'_>, ports: &str) -> String {
    let shown: Value = serde_json::from_str(&done(daemon, &["group", "show", "web", "-o", "json"])).unwrap();
    let rules = shown["Permissions"]["Permission"].as_array().unwrap();
    let rule = rules.iter().find(|r| r["PortRange"] == ports).unwrap();
    rule["SecurityGroupRuleId"].as_str().unwrap().to_owned()
}

#[test]
fn what_others_changed_is_told_apart_and_undone() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    for port in [7000, 7001, 7002] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    let text = policy(&[7000, 7001]);
    daemon.apply(&text, &[]).unwrap();
    assert_eq!(counts(&daemon), (true, 0, 0));
    assert!(!done(&daemon, &["status"]).contains("drift"));

    // What is undone again by who did it is no drift.
    done(&daemon, &["interface", "join", "tap0", "mon"]);
    done(&daemon, &["interface", "leave", "tap0", "mon"]);
    done(&daemon, &["group", "create", "own"]);
    assert_eq!(counts(&daemon), (true, 0, 0), "what came by the API is no document's");

    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "7002/7002", "192.0.2.0/24"]);
    done(&daemon, &["rule", "remove", "web", &id_of_rule(&daemon, "7001/7001"), "--yes"]);
    done(&daemon, &["group", "modify", "web", "--description", "by hand"]);
    done(&daemon, &["interface", "join", "tap0", "mon"]);
    done(&daemon, &["prefix-list", "delete", "office", "--yes"]);
    assert!(reaches(7000) && !reaches(7001) && reaches(7002));
    let all = [
        "tap0 joined: mon",
        "office removed",
        "web rule_added: ingress accept tcp 7002/7002 from 192.0.2.0/24",
        "web rule_removed: ingress accept tcp 7001/7001 from 192.0.2.0/24",
        "web changed: description: none → by hand",
    ];
    assert_eq!(planned(&daemon, &text), (all.map(String::from).to_vec(), Vec::new()));
    assert_eq!(counts(&daemon), (true, 3, 5));
    let said = done(&daemon, &["status"]);
    assert!(said.contains("drift of main: 5 changes of 3 objects since it was applied"), "{said}");
    assert!(
        said.contains("network interface tap0, joined: mon") && said.contains("prefix list office, removed"),
        "{said}"
    );
    // Also a daemon that did not see it.
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert_eq!(counts(&daemon), (true, 3, 5));

    // A file that has taken over some of it.
    let some = policy(&[7000, 7002]);
    let (undone, kept) = planned(&daemon, &some);
    assert_eq!((undone.len(), kept.len()), (3, 2), "{undone:?} {kept:?}");
    assert!(kept.iter().all(|line| line.starts_with("web rule_")), "{kept:?}");
    let file = daemon.dir().join("plan.yaml");
    let said = done(&daemon, &["plan", "-f", file.to_str().unwrap()]);
    assert!(said.contains("changed since the document was applied, and undone by this apply:"), "{said}");
    assert!(said.contains("changed since the document was applied, and now in the file, too:"), "{said}");

    // On trial, and taken back: it is as it was. Confirmed: there is none.
    daemon.apply(&some, &["--confirm", "60s"]).unwrap();
    done(&daemon, &["rollback", "--yes"]);
    assert_eq!(counts(&daemon), (true, 3, 5));
    daemon.apply(&some, &["--confirm", "60s"]).unwrap();
    done(&daemon, &["confirm"]);
    assert_eq!(counts(&daemon), (true, 0, 0));
    assert!(reaches(7000) && !reaches(7001) && reaches(7002));
    daemon.apply(&text, &["--yes"]).unwrap();
    assert_eq!(counts(&daemon), (true, 0, 0));
    assert!(reaches(7000) && reaches(7001) && !reaches(7002));

    // Going back is another way than an apply.
    done(&daemon, &["rollback", "--yes"]);
    let (undone, kept) = planned(&daemon, &text);
    assert!(undone.len() == 2 && kept.is_empty(), "{undone:?} {kept:?}");
    daemon.apply(&text, &["--yes"]).unwrap();
    assert_eq!(counts(&daemon), (true, 0, 0));

    // What another document takes over is not missed by the first.
    let other = "document: other\nsecurity_groups: [{security_group_name: mon}]\n";
    assert!(daemon.apply(other, &[]).unwrap_err().to_string().contains("--adopt"));
    daemon.apply(other, &["--adopt"]).unwrap();
    let drift = status(&daemon)["drift"].clone();
    let none = |name: &str| json!({"document": name, "known": true, "objects": 0, "changes": 0, "first": []});
    assert_eq!(drift, json!([none("main"), none("other")]));
    assert!(refused(&daemon, &["plan", "-f", file.to_str().unwrap()]).contains("belongs to document \"other\""));
}

#[test]
fn drift_of_what_an_older_daemon_applied_is_not_known_until_the_next_apply() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let text = policy(&[7000]);
    let mut daemon = Daemon::new(&world.router, crate::world::bin()).unwrap();
    // Its store is a file that says nothing of how documents were applied.
    let document: Value = serde_yaml_ng::from_str(&text).unwrap();
    let state = json!({"version": 1, "generation": 4, "documents": [document], "counters": {}});
    std::fs::create_dir(daemon.dir().join("state")).unwrap();
    std::fs::write(daemon.dir().join("state/state.json"), state.to_string()).unwrap();
    daemon.start().unwrap();
    assert_eq!(counts(&daemon), (false, 0, 0));
    let said = done(&daemon, &["status"]);
    assert!(said.contains("drift of main: not known until its next apply"), "{said}");
    let file = daemon.dir().join("plan.yaml");
    std::fs::write(&file, &text).unwrap();
    let plan = ["plan", "-f", file.to_str().unwrap()];
    let said = done(&daemon, &plan);
    assert!(said.contains("drift is not known") && said.contains("nothing to change"), "{said}");
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "7002/7002", "192.0.2.0/24"]);
    assert_eq!(counts(&daemon), (false, 0, 0));
    // The apply that makes it known may change nothing else; the one after it writes nothing.
    daemon.apply(&text, &[]).unwrap();
    let generation = status(&daemon)["generation"].clone();
    assert_eq!(counts(&daemon), (true, 0, 0));
    daemon.apply(&text, &[]).unwrap();
    assert_eq!(status(&daemon)["generation"], generation);
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "7002/7002", "192.0.2.0/24"]);
    assert_eq!(counts(&daemon), (true, 1, 1));
}
