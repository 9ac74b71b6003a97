//! Prefix lists and port lists, by `sgctl`: what rules that name them let in.

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{
    client::daemon,
    console::{done, refused},
};
use crate::world::{Way, World, can_run, to};

fn json(daemon: &Daemon<'_>, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(daemon, &[arguments, &["-o", "json"]].concat())).unwrap()
}

/// A list's entries.
fn entries(daemon: &Daemon<'_>, command: &str, list: &str) -> Vec<String> {
    let shown = json(daemon, &[command, "show", list]);
    let text = |e: &Value| e["Cidr"].as_str().or(e["PortRange"].as_str()).unwrap().to_owned();
    shown["Entries"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_rule_lets_in_what_its_lists_have() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();

    let said = done(&daemon, &["prefix-list", "create", "office", "--entry", "192.0.2.10=the client"]);
    assert!(said.starts_with("pl-") && said.contains("made with 1 entry of at most 20"), "{said}");
    let made = json(&daemon, &["port-list", "create", "ports", "--entry", "7000", "--entry", "7002-7003=more"]);
    assert!(made["PortRangeListId"].as_str().unwrap().starts_with("prl-"), "{made}");
    done(&daemon, &["group", "create", "web"]);
    done(&daemon, &["interface", "join", "tap0", "web"]);
    assert!(!reaches(7000));
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "ports", "office"]);
    assert!(reaches(7000) && !reaches(7001));

    // Each change of a list is in force when it is done.
    done(&daemon, &["port-list", "add", "ports", "7001"]);
    assert!(reaches(7001));
    done(&daemon, &["port-list", "remove", "ports", "7001-7001", "-y"]);
    assert!(!reaches(7001));
    // What goes is said, and nothing goes unasked.
    let said = refused(&daemon, &["prefix-list", "remove", "office", "192.0.2.10"]);
    for part in ["take 1 of 1 entry out of the prefix list office (pl-", "name it: web", "192.0.2.10/32 the client"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("add --yes to do it; nothing was changed") && reaches(7000), "{said}");
    done(&daemon, &["prefix-list", "remove", "office", "192.0.2.10", "--yes"]);
    assert!(!reaches(7000));
    done(&daemon, &["prefix-list", "add", "office", "192.0.2.0/28=near", "198.51.100.0/24"]);
    assert!(reaches(7000));
    assert_eq!(entries(&daemon, "prefix-list", "office"), ["192.0.2.0/28", "198.51.100.0/24"]);
    assert_eq!(entries(&daemon, "port-list", "ports"), ["7000/7000", "7002/7003"]);

    // Who names it, in a table and for programs.
    let said = done(&daemon, &["prefix-list", "show", "office"]);
    assert!(said.contains("IPv4, 2 of at most 20 entries") && said.contains("named by rules of web"), "{said}");
    let said = done(&daemon, &["group", "show", "web"]);
    assert!(said.contains("ports (prl-") && said.contains("office (pl-"), "{said}");
    let said = done(&daemon, &["port-list", "list"]);
    assert!(said.contains("ports") && !said.contains("family"), "{said}");
    let shown = json(&daemon, &["port-list", "show", "ports"]);
    assert_eq!(shown["Associations"].as_array().unwrap().len(), 1, "{shown}");
    let id = shown["PortRangeListId"].as_str().unwrap();
    assert_eq!(entries(&daemon, "port-list", id), ["7000/7000", "7002/7003"]);

    // It stays while a rule names it, and goes when it is told to.
    for (command, list) in [("prefix-list", "office"), ("port-list", "ports")] {
        let said = refused(&daemon, &[command, "delete", list]);
        assert!(said.contains("add --yes") && said.contains("name it: web"), "{said}");
        let said = refused(&daemon, &[command, "delete", list, "--yes"]);
        assert!(said.contains("AssociationExist") && said.contains("revoke them first"), "{said}");
    }
    assert!(reaches(7000));
    let rule = json(&daemon, &["group", "show", "web"])["Permissions"]["Permission"][0].clone();
    done(&daemon, &["rule", "remove", "web", rule["SecurityGroupRuleId"].as_str().unwrap(), "--yes"]);
    assert!(!reaches(7000));
    for (command, list) in [("prefix-list", "office"), ("port-list", "ports")] {
        done(&daemon, &[command, "delete", list, "--yes"]);
        assert_eq!(json(&daemon, &[command, "list"]), Value::Array(Vec::new()));
        let said = refused(&daemon, &[command, "show", list]);
        assert!(said.contains("there is no") && said.contains("list` shows"), "{said}");
    }
}

#[test]
fn what_does_not_fit_a_list_is_refused_and_changes_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();

    done(&daemon, &["prefix-list", "create", "office", "--entry", "10.0.0.0/8", "--max-entries", "1"]);
    let said = refused(&daemon, &["prefix-list", "add", "office", "192.0.2.0/24"]);
    assert!(said.contains("office has room for 1") && said.contains("make a larger list"), "{said}");
    let said = refused(&daemon, &["prefix-list", "add", "office", "2001:db8::/32"]);
    assert!(said.contains("2001:db8::/32 is IPv6, and the prefix list has IPv4 only"), "{said}");
    let said = refused(&daemon, &["prefix-list", "remove", "office", "10.0.0.0/8", "192.0.2.0/24"]);
    assert!(said.contains("office has no entry 192.0.2.0/24, nothing was taken out"), "{said}");
    assert_eq!(entries(&daemon, "prefix-list", "office"), ["10.0.0.0/8"]);
    let said = refused(&daemon, &["prefix-list", "create", "mixed", "--entry", "10.0.0.0/8", "--entry", "::/0"]);
    assert!(said.contains("::/0 is IPv6"), "{said}");

    // More than one call takes are one list all the same, or none.
    let ranges: Vec<String> = (0..300).map(|i| (1000 + i).to_string()).collect();
    let with = |name: &'static str, more: &[&'static str]| -> Vec<String> {
        let mut arguments: Vec<String> = ["port-list", "create", name].map(str::to_owned).into();
        arguments.extend(more.iter().map(|m| (*m).to_owned()));
        arguments.extend(ranges.iter().flat_map(|r| ["--entry".to_owned(), r.clone()]));
        arguments
    };
    let run = |arguments: &[String]| daemon.sgctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let (good, said) = run(&with("many", &[]));
    assert!(good && said.contains("300 entries of at most 300"), "{said}");
    assert_eq!(entries(&daemon, "port-list", "many").len(), 300);
    let (good, said) = run(&with("fewer", &["--max-entries", "250"]));
    assert!(!good && said.contains("no list was made"), "{said}");
    assert_eq!(json(&daemon, &["port-list", "list"]).as_array().unwrap().len(), 1);

    // Another name; and names that two things have.
    done(&daemon, &["prefix-list", "modify", "office", "--name", "headquarters", "--description", "where we are"]);
    let said = refused(&daemon, &["prefix-list", "show", "office"]);
    assert!(said.contains("there is no prefix list \"office\""), "{said}");
    assert_eq!(entries(&daemon, "prefix-list", "headquarters"), ["10.0.0.0/8"]);
    assert_eq!(json(&daemon, &["prefix-list", "show", "headquarters"])["Description"], "where we are");
    done(&daemon, &["group", "create", "web"]);
    done(&daemon, &["group", "create", "headquarters"]);
    let said = refused(&daemon, &["rule", "add", "web", "ingress", "tcp", "22", "headquarters"]);
    assert!(said.contains("is the name of a prefix list, pl-") && said.contains("say which by its id"), "{said}");
    let id = json(&daemon, &["prefix-list", "show", "headquarters"])["PrefixListId"].as_str().unwrap().to_owned();
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "22-23", &id]);
    let rule = json(&daemon, &["group", "show", "web"])["Permissions"]["Permission"][0].clone();
    assert_eq!((&rule["SourcePrefixListId"], &rule["PortRange"]), (&id.into(), &"22/23".into()));
    done(&daemon, &["prefix-list", "create", "headquarters"]);
    let said = refused(&daemon, &["prefix-list", "delete", "headquarters", "--yes"]);
    assert!(said.contains("is borne by pl-") && said.contains("by its id"), "{said}");
    let said = refused(&daemon, &["rule", "add", "web", "ingress", "tcp", "no-such-ports", "10.0.0.0/8"]);
    assert!(said.contains("there is no port list \"no-such-ports\""), "{said}");
}
