//! What a host lacks, told with a daemon and without one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{
    client::{daemon, key},
    full,
};
use crate::world::{Way, World, can_run};

/// What it says as JSON, and whether nothing fails.
fn checks(daemon: &Daemon<'_>) -> (bool, Vec<Value>) {
    let file = daemon.dir().join("sgd.toml");
    let (good, said) = daemon.sgctl(&["doctor", "--config", file.to_str().unwrap(), "-o", "json"]).unwrap();
    (good, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}")))
}

#[track_caller]
fn state<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str, &'a str) {
    let found = checks.iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("no {name}: {checks:#?}"));
    let text = |key: &str| found[key].as_str().unwrap();
    (text("state"), text("found"), text("advice"))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_host_is_looked_at_with_a_daemon_and_without() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    key(&daemon, &[]);
    let (good, all) = checks(&daemon);
    assert!(good, "{all:#?}");
    for name in ["kernel", "BPF compiler", "BTF", "BPF file system", "privileges", "kernel program", "clock"] {
        assert_eq!(state(&all, name).0, "ok", "{all:#?}");
    }
    assert_eq!(state(&all, "protection").0, "warn", "{all:#?}");
    let text = format!("security_groups: [{{security_group_name: g}}]\n{}", world.interface("g"));
    daemon.apply(&text, &[]).unwrap();
    let (good, all) = checks(&daemon);
    assert!(good, "{all:#?}");
    assert_eq!(state(&all, "protection"), ("ok", "in force on tap0", ""));
    assert_eq!(state(&all, "other programs").0, "ok");
    assert!(state(&all, "offloads: tap0").1.starts_with("veth, "), "{all:#?}");
    assert!(state(&all, "daemon").1.contains("runs, for "), "{all:#?}");

    // Each of these makes it fail, says what to do, and is well again.
    let keys = daemon.dir().join("state/keys.json");
    mode(&keys, 0o644);
    let (good, all) = checks(&daemon);
    let (is, found, advice) = state(&all, "file: access keys");
    assert!(!good && is == "fail" && found.contains("0644") && advice.contains("chmod 600"), "{all:#?}");
    let table = daemon.sgctl(&["doctor", "--config", daemon.dir().join("sgd.toml").to_str().unwrap()]).unwrap();
    assert!(!table.0 && table.1.contains(" FAIL ") && table.1.contains("1 FAIL, "), "{}", table.1);
    mode(&keys, 0o600);
    let config = daemon.dir().join("sgd.toml");
    mode(&config, 0o666);
    assert_eq!(state(&checks(&daemon).1, "file: configuration").0, "fail");
    mode(&config, 0o644);

    // Without a daemon it says so, and looks at the rest; where that ran out of room is seen.
    daemon.stop(libc::SIGTERM).unwrap();
    full::place(&daemon);
    daemon.start().unwrap();
    full::fill(&daemon);
    daemon.stop(libc::SIGTERM).unwrap();
    let (good, all) = checks(&daemon);
    let (is, found, _) = state(&all, "disk: audit log");
    assert!(!good && is == "fail" && found.contains("is refused"), "{all:#?}");
    assert!(all.iter().all(|c| c["check"] != "protection"), "{all:#?}");
    full::clear(&daemon);
    // A megabyte is little, whatever is left of it.
    let log = daemon.dir().join("state/audit.jsonl");
    fs::remove_file(&log).unwrap();
    let (good, all) = checks(&daemon);
    let (is, found, advice) = state(&all, "daemon");
    assert!(good && is == "warn" && found.contains("no daemon listens"), "{all:#?}");
    assert!(advice.contains("systemctl start sgd"), "{advice}");

    // A configuration that sgd would not start with.
    daemon.configure("failsafe.ports = [22]").unwrap();
    let (good, all) = checks(&daemon);
    let (is, found, _) = state(&all, "configuration");
    assert!(!good && is == "fail" && found.contains("failsafe.sources is empty"), "{all:#?}");
}
