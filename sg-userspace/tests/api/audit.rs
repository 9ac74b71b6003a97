//! The audit log: who was not let, and what becomes of changes when it cannot be written.

use std::collections::BTreeMap;

use serde_json::Value;
use sg_userspace::api::sign;

use super::{
    client::{call, daemon, key, parsed, post, raw, signed},
    full,
};
use crate::world::{Way, World, can_run, eventually};

/// Lines that have one of these kinds.
fn lines(daemon: &sg_userspace::testbed::Daemon<'_>, kinds: &[&str]) -> Vec<Value> {
    let text = std::fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{e}: {l}")));
    all.filter(|l| l["kind"].as_str().is_some_and(|k| kinds.contains(&k))).collect()
}

#[test]
fn refused_requests_are_written_down_and_a_flood_of_them_is_counted() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.configure("api.rate = 20").unwrap();
    daemon.start().unwrap();
    let (good, looks) = (key(&daemon, &[]), key(&daemon, &["--read-only"]));
    let create = [("Action", "CreateSecurityGroup")];
    let mut expected = Vec::new();
    let mut refuse = |all: &BTreeMap<String, String>, key: &str, action: &str, code: &str| {
        let (_, body) = parsed(&raw(&daemon, &post(all)));
        assert_eq!(body["Code"], code, "{body}");
        expected.push((key.to_owned(), action.to_owned(), code.to_owned()));
    };
    // One of each kind: nobody's key, another's signature, yesterday, twice, and what the key may not do.
    let nobody = ("SG\u{1b}[31mNONE".to_owned(), "x".to_owned());
    refuse(&signed(&nobody, &create), "SG\\u{1b}[31mNONE", "CreateSecurityGroup", "InvalidAccessKeyId.NotFound");
    let forged = signed(&(good.0.clone(), "x".into()), &create);
    refuse(&forged, &good.0, "CreateSecurityGroup", "SignatureDoesNotMatch");
    let mut old = signed(&good, &create);
    old.insert("Timestamp".into(), "2020-01-01T00:00:00Z".into());
    old.insert("Signature".into(), sign::v1_sign(&good.1, &sign::v1_text("POST", &old)));
    refuse(&old, &good.0, "CreateSecurityGroup", "InvalidTimeStamp.Expired");
    let twice = signed(&good, &[("Action", "DescribeRegions")]);
    assert_eq!(parsed(&raw(&daemon, &post(&twice))).0, 200);
    refuse(&twice, &good.0, "DescribeRegions", "SignatureNonceUsed");
    refuse(&signed(&looks, &create), &looks.0, "CreateSecurityGroup", "Forbidden.RAM");
    eventually("all are in the log", || lines(&daemon, &["refused"]).len() >= expected.len());
    let text = |l: &Value, name: &str| l[name].as_str().unwrap().to_owned();
    let found: Vec<(String, String, String)> = lines(&daemon, &["refused"])
        .iter()
        .map(|l| (text(l, "claimed_key"), text(l, "claimed_action"), text(l, "result")))
        .collect();
    assert_eq!(found, expected);
    for line in lines(&daemon, &["refused"]) {
        assert_eq!(line["source"], "127.0.0.1", "{line}");
        assert!(humantime::parse_rfc3339(&text(&line, "time")).is_ok(), "{line}");
    }

    // A flood, and calls too fast for one key, too.
    let forged = post(&forged);
    for _ in 0..500 {
        assert_eq!(parsed(&raw(&daemon, &forged)).1["Code"], "SignatureDoesNotMatch");
    }
    let throttled = (0..200).filter(|_| call(&daemon, &looks, &[("Action", "DescribeRegions")]).0 == 400).count();
    assert!(throttled > 0, "nothing was slowed down");
    assert_eq!(call(&daemon, &good, &create).0, 200);
    // What waits is written at the end.
    daemon.stop(libc::SIGTERM).unwrap();
    let (own, others) = (lines(&daemon, &["refused"]), lines(&daemon, &["refused_others"]));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    own.iter().for_each(|l| *counts.entry(text(l, "result")).or_default() += 1);
    for (code, count) in others.iter().flat_map(|l| l["results"].as_object().unwrap()) {
        *counts.entry(code.clone()).or_default() += count.as_u64().unwrap();
    }
    assert_eq!((counts["SignatureDoesNotMatch"], counts["Throttling.User"]), (501, throttled as u64), "{counts:?}");
    assert!((50..100).contains(&own.len()) && (1..40).contains(&others.len()), "{} {}", own.len(), others.len());
    assert_eq!(lines(&daemon, &["intent"]).iter().filter(|l| l["action"] == "CreateSecurityGroup").count(), 1);
}

#[test]
fn without_an_audit_log_nothing_is_changed_and_everything_can_be_read() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    daemon.stop(libc::SIGTERM).unwrap();
    full::place(&daemon);
    daemon.start().unwrap();
    let (pid, key) = (daemon.pid(), key(&daemon, &[]));
    let made = call(&daemon, &key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "web")]).1;
    let web = made["SecurityGroupId"].as_str().unwrap();
    let describe = |text: &str| {
        let change = [("Action", "ModifySecurityGroupAttribute"), ("SecurityGroupId", web), ("Description", text)];
        call(&daemon, &key, &change)
    };
    let state = || {
        let listed = call(&daemon, &key, &[("Action", "DescribeSecurityGroups")]);
        assert_eq!(listed.0, 200, "{}", listed.1);
        let (done, status) = daemon.sgctl(&["status", "-o", "json"]).unwrap();
        let status: Value = serde_json::from_str(&status).unwrap_or_else(|e| panic!("{e}: {done} {status}"));
        let shown = daemon.interface("tap0").unwrap();
        (listed.1["SecurityGroups"].clone(), status["generation"].clone(), shown.status.groups)
    };

    full::fill(&daemon);
    let mut n = 0;
    let (status, body) = full::until_refused(|| {
        n += 1;
        describe(&format!("{n} {}", "x".repeat(200)))
    });
    assert_eq!((status, &body["Code"]), (500, &"InternalError".into()), "{body}");
    let message = body["Message"].as_str().unwrap();
    for part in ["the audit log cannot be written", "No space left", "nothing was changed", "make room"] {
        assert!(message.contains(part), "{message}");
    }
    // None of the ways to change anything does; all that was asked can still be read.
    let before = state();
    for arguments in [&["group", "create", "more"][..], &["key", "create"]] {
        let (done, said) = daemon.sgctl(arguments).unwrap();
        assert!(!done && said.contains("the audit log cannot be written"), "{arguments:?}: {said}");
    }
    let join = [("Action", "JoinSecurityGroup"), ("SecurityGroupId", web), ("InstanceId", "i-guest")];
    assert_eq!(call(&daemon, &key, &join).0, 500);
    let e = daemon.apply("security_groups: []\n", &["--yes"]).unwrap_err().to_string();
    assert!(e.contains("the audit log cannot be written"), "{e}");
    assert_eq!(state(), before);
    let log = daemon.log();
    assert_eq!(log.matches("changes are refused until it can").count(), 1, "once, not for each: {log}");

    // With room again it goes on, in the same process; no line is half a line.
    full::clear(&daemon);
    assert_eq!(describe("there is room").0, 200);
    assert_eq!(call(&daemon, &key, &join).0, 200);
    assert_ne!(state(), before);
    assert_eq!(daemon.pid(), pid);
    assert!(daemon.log().contains("can be written again"), "{}", daemon.log());
    let lines = full::lines(&daemon);
    let of = |kind: &str, action: &str| lines.iter().filter(|l| l["kind"] == kind && l["action"] == action).count();
    assert_eq!((of("intent", "JoinSecurityGroup"), of("call", "JoinSecurityGroup")), (1, 1), "not those refused");
    assert_eq!(of("intent", "key create"), 1);
}

#[test]
fn a_call_is_tied_to_what_was_intended_and_says_what_it_was() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    let done = |daemon: &sg_userspace::testbed::Daemon<'_>, arguments: &[&str]| {
        let (done, said) = daemon.sgctl(arguments).unwrap();
        assert!(done, "{arguments:?}: {said}");
        said
    };
    let looks = key(&daemon, &["--read-only", "--account", "1234567890123456", "--comment", "looks"]);
    let changes = key(&daemon, &[]);
    let (status, made) = call(&daemon, &changes, &[("Action", "CreateSecurityGroup")]);
    assert_eq!(status, 200, "{made}");
    assert_eq!(call(&daemon, &changes, &[("Action", "DeleteSecurityGroup"), ("SecurityGroupId", "sg-none")]).0, 404);
    done(&daemon, &["snapshot", "create", "kept"]);
    let kept =
        serde_json::from_str::<Value>(&done(&daemon, &["status", "-o", "json"])).unwrap()["generation"].to_string();
    done(&daemon, &["group", "create", "web"]);
    done(&daemon, &["snapshot", "restore", &kept, "--group", "base", "--additive"]);
    done(&daemon, &["wait", "tap0"]);
    assert!(!daemon.sgctl(&["wait", "nothing", "--for", "0"]).unwrap().0);
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    done(&daemon, &["group", "create", "later"]);

    // Each change has two lines of one id, everything else one; no id comes twice, also not after a restart.
    let all = lines(&daemon, &["intent", "call"]);
    let mut by_id: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    all.iter().for_each(|l| by_id.entry(l["call"].as_str().unwrap()).or_default().push(l));
    let changes_anything = |action: &str| {
        ["Create", "Delete"].iter().any(|a| action.starts_with(a))
            || ["apply", "key create", "snapshot create", "restore"].contains(&action)
    };
    for (id, lines) in &by_id {
        let kinds: Vec<&str> = lines.iter().map(|l| l["kind"].as_str().unwrap()).collect();
        let action = lines[0]["action"].as_str().unwrap();
        let expected: &[&str] = if changes_anything(action) { &["intent", "call"] } else { &["call"] };
        assert_eq!(kinds, expected, "{id} {action}");
        assert!(lines.iter().all(|l| l["action"] == action && l["caller"] == lines[0]["caller"]), "{lines:?}");
    }
    // It is what the caller was told.
    let line = by_id[made["RequestId"].as_str().unwrap()][1];
    assert_eq!((&line["action"], &line["result"]), (&"CreateSecurityGroup".into(), &"ok".into()), "{line}");

    let of = |kind: &str, action: &str| -> Vec<&Value> {
        all.iter().filter(|l| l["kind"] == kind && l["action"] == action).collect()
    };
    let made = of("intent", "key create");
    let wanted = serde_json::json!({"account": "1234567890123456", "access": "read-only", "comment": "looks"});
    assert_eq!(made[0]["parameters"], wanted);
    let wanted = serde_json::json!({"account": "1000000000000001", "access": "read-write", "comment": ""});
    assert_eq!(made[1]["parameters"], wanted);
    assert_eq!(of("call", "key create")[0]["made"], looks.0.as_str(), "which key it was; its secret nowhere");
    assert!(!std::fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap().contains(&looks.1));
    let wanted = serde_json::json!({"from": format!("generation {kept}"), "group": "base", "additive": "true"});
    assert_eq!(of("intent", "restore")[0]["parameters"], wanted);
    let waits: Vec<(&Value, &Value)> =
        of("call", "wait").iter().map(|l| (&l["parameters"]["devices"], &l["result"])).collect();
    assert_eq!(waits, [(&"tap0".into(), &"ok".into()), (&"nothing".into(), &"not protected".into())]);
}

#[test]
fn an_audit_log_that_does_not_keep_what_it_takes_refuses_changes() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    let key = key(&daemon, &[]);
    daemon.stop(libc::SIGTERM).unwrap();
    let log = daemon.dir().join("state/audit.jsonl");
    std::fs::remove_file(&log).unwrap();
    // Every line can be written to it, and none be synced.
    std::os::unix::fs::symlink("/dev/null", log).unwrap();
    daemon.start().unwrap();
    let (status, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
    assert_eq!((status, &body["Code"]), (500, &"InternalError".into()), "{body}");
    let (status, body) = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("PageNumber", "1")]);
    assert_eq!((status, &body["TotalCount"]), (200, &0.into()), "{body}");
}
