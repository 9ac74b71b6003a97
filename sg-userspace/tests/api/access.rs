//! Who calls, and what that lets them do: repeated calls, keys, accounts, headers.

use sg_userspace::testbed::Daemon;

use super::client::{call, key, parsed, post, raw, signed};
use crate::world::{Way, World, can_run};

type Key = (String, String);

/// A daemon whose API and keys are ready.
fn ready(world: &World) -> (Daemon<'_>, Key) {
    let daemon = super::client::daemon(world);
    let key = key(&daemon, &[]);
    (daemon, key)
}

#[test]
fn a_repeated_call_changes_nothing_also_after_a_kill() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (mut daemon, key) = ready(&world);
    let make = [("Action", "CreateSecurityGroup"), ("SecurityGroupName", "once"), ("ClientToken", "t-1")];
    let replayed = post(&signed(&key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "replayed")]));
    let (_, first) = call(&daemon, &key, &make);
    assert_eq!(parsed(&raw(&daemon, &replayed)).0, 200);
    for killed in [false, true] {
        if killed {
            daemon.stop(libc::SIGKILL).unwrap();
            daemon.start().unwrap();
        }
        assert_eq!(call(&daemon, &key, &make).1["SecurityGroupId"], first["SecurityGroupId"], "the same answer");
        let mut other = make.to_vec();
        other[1].1 = "twice";
        let (status, body) = call(&daemon, &key, &other);
        assert_eq!((status, &body["Code"]), (400, &"IdempotentParameterMismatch".into()), "{body}");
        let (status, body) = parsed(&raw(&daemon, &replayed));
        assert_eq!((status, &body["Code"]), (400, &"SignatureNonceUsed".into()), "{body}");
        let (_, all) = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("PageNumber", "1")]);
        assert_eq!(all["TotalCount"], 2, "{all}");
    }
}

#[test]
fn keys_are_disabled_and_slowed_down() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (mut daemon, key) = ready(&world);
    let ask = [("Action", "DescribeRegions")];
    assert_eq!(call(&daemon, &key, &ask).0, 200);
    assert!(daemon.sgctl(&["key", "disable", &key.0]).unwrap().0);
    let (status, body) = call(&daemon, &key, &ask);
    assert_eq!((status, &body["Code"]), (400, &"InvalidAccessKeyId.Inactive".into()));
    assert!(daemon.sgctl(&["key", "enable", &key.0]).unwrap().0);
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("api.rate = 3").unwrap();
    daemon.start().unwrap();
    let answers: Vec<(u16, serde_json::Value)> = (0..50).map(|_| call(&daemon, &key, &ask)).collect();
    assert!(answers.iter().any(|(s, b)| *s == 400 && b["Code"] == "Throttling.User"), "{answers:?}");
    // Others are not slowed down by it.
    let other = super::client::key(&daemon, &[]);
    assert_eq!(call(&daemon, &other, &ask).0, 200);
    assert!(daemon.sgctl(&["key", "delete", &key.0, "--yes"]).unwrap().0);
    assert_eq!(call(&daemon, &key, &ask).0, 404);
    // What was called is written down, without a secret.
    let audit = std::fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    assert!(audit.contains("\"action\":\"DescribeRegions\"") && audit.contains("\"key disable\""), "{audit}");
    assert!(!audit.contains(&key.1) && !audit.contains(&other.1));
}

#[test]
fn accounts_neither_see_nor_use_what_is_not_theirs() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = ready(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    let other = super::client::key(&daemon, &["--account", "2000000000000002"]);
    let made = |key: &Key, ask: &[(&str, &str)], field: &str| {
        let (status, body) = call(&daemon, key, ask);
        assert_eq!(status, 200, "{ask:?}: {body}");
        body[field].as_str().unwrap().to_owned()
    };
    let group =
        |key: &Key| made(key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "same")], "SecurityGroupId");
    let (ours, theirs) = (group(&key), group(&other));
    let list =
        [("Action", "CreatePrefixList"), ("PrefixListName", "list"), ("AddressFamily", "IPv4"), ("MaxEntries", "1")];
    let pl = made(&key, &list, "PrefixListId");
    let seen = |key: &Key, id: &str| {
        let body = call(&daemon, key, &[("Action", "DescribeSecurityGroups"), ("SecurityGroupId", id)]).1;
        body["SecurityGroups"]["SecurityGroup"].as_array().unwrap().len()
    };
    assert_eq!((seen(&key, &ours), seen(&key, &theirs), seen(&other, &ours), seen(&other, &theirs)), (1, 0, 0, 1));
    let refused = |ask: &[(&str, &str)], code: &str| {
        let (_, body) = call(&daemon, &other, ask);
        assert_eq!(body["Code"], code, "{ask:?}: {body}");
    };
    let id = ("SecurityGroupId", ours.as_str());
    refused(&[("Action", "DescribeSecurityGroupAttribute"), id], "InvalidSecurityGroupId.NotFound");
    refused(&[("Action", "DeleteSecurityGroup"), id], "InvalidSecurityGroup.NotFound");
    refused(
        &[("Action", "ModifySecurityGroupAttribute"), id, ("SecurityGroupName", "taken")],
        "InvalidSecurityGroupId.NotFound",
    );
    refused(&[("Action", "DescribePrefixListAttributes"), ("PrefixListId", &pl)], "InvalidPrefixListId.NotFound");
    refused(
        &[("Action", "JoinSecurityGroup"), ("SecurityGroupId", &theirs), ("InstanceId", "i-guest")],
        "InvalidInstanceId.NotFound",
    );
    // Instances, also one that has no interface yet.
    daemon.apply(&format!("{}instances: [{{instance_id: i-empty}}]\n", super::story::document()), &[]).unwrap();
    for instance in ["i-guest", "i-empty"] {
        let id = [("ResourceType", "instance"), ("ResourceId.1", instance)];
        refused(&[&[("Action", "TagResources"), ("Tag.1.Key", "k")], &id[..]].concat(), "InvalidResourceId.NotFound");
        let body = call(&daemon, &other, &[("Action", "DescribeInstances")]).1;
        assert!(body["Instances"]["Instance"].as_array().unwrap().is_empty(), "{body}");
    }
    let eni = ("NetworkInterfaceId", "eni-guest");
    refused(&[("Action", "JoinSecurityGroup"), ("SecurityGroupId", &theirs), eni], "InvalidEniId.NotFound");
    let rule = |object: (&'static str, &str)| {
        vec![
            ("Action".to_owned(), "AuthorizeSecurityGroup".to_owned()),
            ("SecurityGroupId".to_owned(), theirs.clone()),
            ("Permissions.1.IpProtocol".to_owned(), "tcp".to_owned()),
            ("Permissions.1.PortRange".to_owned(), "80/80".to_owned()),
            (object.0.to_owned(), object.1.to_owned()),
        ]
    };
    let said = |pairs: &[(String, String)]| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        call(&daemon, &other, &pairs)
    };
    assert_eq!(said(&rule(("Permissions.1.SourcePrefixListId", &pl))).1["Code"], "InvalidPrefixListId.NotFound");
    assert_eq!(said(&rule(("Permissions.1.SourceGroupId", &ours))).1["Code"], "InvalidSourceGroupId.NotFound");
    // By its owner and id a rule may name it.
    let mut named = rule(("Permissions.1.SourceGroupId", &ours));
    named.push(("Permissions.1.SourceGroupOwnerAccount".into(), "1000000000000001".into()));
    let (status, body) = said(&named);
    assert_eq!(status, 200, "{body}");
    let shown = call(&daemon, &other, &[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &theirs)]).1;
    assert_eq!(shown["Permissions"]["Permission"][0]["SourceGroupOwnerAccount"], "1000000000000001", "{shown}");
}

#[test]
fn the_administrator_makes_things_for_an_account() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = ready(&world);
    let theirs = ["--account", "2000000000000002"];
    let other = super::client::key(&daemon, &theirs);
    let sgctl =
        |line: &str, more: &[&str]| daemon.sgctl(&[&line.split(' ').collect::<Vec<_>>()[..], more].concat()).unwrap();
    for line in [
        "group create web --open ssh@192.0.2.0/24",
        "prefix-list create office --entry 192.0.2.0/24",
        "port-list create ports --entry 80",
        "interface create web --name far --address 10.0.0.98",
    ] {
        let (done, said) = sgctl(line, &theirs);
        assert!(done, "{line}: {said}");
    }
    assert!(sgctl("group create ours", &[]).0);
    let named = |key: &Key, action: &str, list: &str, name: &str| -> Vec<String> {
        let body = call(&daemon, key, &[("Action", action)]).1;
        let items = if body[list].is_array() { &body[list] } else { &body[list][list.trim_end_matches('s')] };
        items.as_array().unwrap().iter().map(|i| i[name].as_str().unwrap().to_owned()).collect()
    };
    for (action, list, name, made) in [
        ("DescribeSecurityGroups", "SecurityGroups", "SecurityGroupName", "web"),
        ("DescribePrefixLists", "PrefixLists", "PrefixListName", "office"),
        ("DescribePortRangeLists", "PortRangeLists", "PortRangeListName", "ports"),
        ("DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceName", "far"),
    ] {
        assert_eq!(named(&other, action, list, name), [made], "{action}");
        assert!(!named(&key, action, list, name).contains(&made.to_owned()), "{action}");
    }
    // What is another account's it cannot use, and what is no account is refused.
    let (done, said) = sgctl("interface create ours --name near --address 10.0.0.97", &theirs);
    assert!(!done && said.contains("InvalidSecurityGroupId.NotFound"), "{said}");
    let (done, said) = sgctl("group create none --account 2", &[]);
    assert!(!done && said.contains("an account is 16 digits"), "{said}");
    let audit = std::fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    let line = |l: &&str| l.contains("CreatePrefixList") && l.contains("\"kind\":\"intent\"");
    let line: serde_json::Value = serde_json::from_str(audit.lines().find(line).unwrap()).unwrap();
    assert_eq!((&line["caller"], &line["account"]), (&"administrator".into(), &"2000000000000002".into()));
}

/// V1 signs no header, so what a header says of the action must not count.
#[test]
fn a_header_that_is_not_signed_decides_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = ready(&world);
    for (named, header) in [(true, "CreateSecurityGroup"), (false, "CreateSecurityGroup")] {
        let ask = [("Action", if named { "DescribeRegions" } else { "<absent>" })];
        let text = String::from_utf8(post(&signed(&key, &ask))).unwrap();
        let text = text.replacen("Host: h\r\n", &format!("Host: h\r\nx-acs-action: {header}\r\n"), 1);
        let (status, body) = parsed(&raw(&daemon, text.as_bytes()));
        assert_eq!((status, &body["Code"]), (400, &"SignatureDoesNotMatch".into()), "{body}");
    }
}

#[test]
fn what_stands_in_the_query_does_not_exchange_what_was_signed_in_the_form() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = ready(&world);
    let made = call(&daemon, &key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "kept")]).1;
    let id = made["SecurityGroupId"].as_str().unwrap();
    let read = signed(&key, &[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", id)]);
    let with = |query: &str| {
        let bytes = String::from_utf8(post(&read)).unwrap();
        parsed(&raw(&daemon, bytes.replacen("POST / ", &format!("POST /?{query} "), 1).as_bytes()))
    };
    // Whatever it does, it is what was signed, and once.
    let delete = "Action=DeleteSecurityGroup&SignatureNonce=another";
    let (status, body) = with(delete);
    assert!(status == 200 && body["SecurityGroupName"] == "kept", "{body}");
    let (status, body) = with(delete);
    assert_eq!((status, &body["Code"]), (400, &"SignatureNonceUsed".into()), "{body}");
    let (status, body) = with("SignatureNonce=third&Timestamp=2026-01-01T00:00:00Z");
    assert_eq!((status, &body["Code"]), (400, &"SignatureNonceUsed".into()), "{body}");
    assert_eq!(with("More=1").1["Code"], "SignatureDoesNotMatch");
}

#[test]
fn a_refused_change_is_no_change_later_either() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (mut daemon, key) = ready(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    let made = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]).1;
    let id = made["SecurityGroupId"].as_str().unwrap();
    let join = [("Action", "JoinSecurityGroup"), ("SecurityGroupId", id), ("NetworkInterfaceId", "eni-guest")];
    assert_eq!(call(&daemon, &key, &join).0, 200);
    // It is a member already.
    let refused = post(&signed(&key, &join));
    assert_eq!(parsed(&raw(&daemon, &refused)).0, 403);
    let leave = [("Action", "LeaveSecurityGroup"), join[1], join[2]];
    assert_eq!(call(&daemon, &key, &leave).0, 200);
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    let (status, body) = parsed(&raw(&daemon, &refused));
    assert_eq!((status, &body["Code"]), (400, &"SignatureNonceUsed".into()), "{body}");
    assert_eq!(daemon.interface("tap0").unwrap().status.groups, ["base"]);
}

#[test]
fn no_number_of_good_calls_keeps_the_daemon_from_starting() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (mut daemon, key) = ready(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    // More than a document may have that somebody writes.
    let description = format!("d{}", "\u{e4}".repeat(511));
    let names: Vec<[String; 4]> = (1..=100)
        .map(|n| ["IpProtocol", "PortRange", "SourceCidrIp", "Description"].map(|f| format!("Permissions.{n}.{f}")))
        .collect();
    let ports: Vec<String> = (1..=100).map(|n| format!("{n}/{n}")).collect();
    let mut written = 0;
    while written < sg_userspace::document::MAX_DOCUMENT {
        let made = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]).1;
        let mut rules =
            vec![("Action", "AuthorizeSecurityGroup"), ("SecurityGroupId", made["SecurityGroupId"].as_str().unwrap())];
        for ([protocol, port, source, text], number) in names.iter().zip(&ports) {
            rules.extend([(protocol.as_str(), "tcp"), (port, number), (source, "10.0.0.0/8"), (text, &description)]);
        }
        let (status, body) = call(&daemon, &key, &rules);
        assert_eq!(status, 200, "{body}");
        written += 100 * description.len();
    }
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    let said = daemon.apply(super::story::document(), &[]).unwrap();
    assert!(said.contains("in force as it is"), "{said}");
}
