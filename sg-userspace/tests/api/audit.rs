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
