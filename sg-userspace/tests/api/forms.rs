//! `-o json` of every command: what it prints is JSON, also where it only says that it is done.

use serde_json::{Deserializer, Value};

use super::{client::daemon, walk::walk};
use crate::world::{Way, World, can_run};

/// Answers that are several values, a line each: one for each flow.
const LINES: &[&str] = &["explain"];

/// Commands that print what was done, of the state that has it.
const CHANGES: &[&str] = &[
    "group create",
    "group default",
    "group rename",
    "group modify",
    "group tag",
    "group untag",
    "group protect",
    "group manage",
    "group clone",
    "group delete",
    "rule add",
    "rule remove",
    "prefix-list create",
    "prefix-list add",
    "prefix-list remove",
    "prefix-list modify",
    "prefix-list delete",
    "port-list create",
    "port-list add",
    "port-list remove",
    "port-list modify",
    "port-list delete",
    "instance set-groups",
    "interface join",
    "interface leave",
    "interface set-groups",
    "interface create",
    "interface delete",
    "interface attach",
    "interface detach",
];

#[test]
fn each_command_prints_json() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let mut generation = 0;
    walk(&daemon, |command, line| {
        let (good, said) = daemon.sgctl(&[line, &["-o", "json"]].concat()).unwrap();
        let line = line.join(" ");
        assert!(good, "{line}: {said}");
        let values: Result<Vec<Value>, _> = Deserializer::from_str(&said).into_iter().collect();
        let values = values.unwrap_or_else(|e| panic!("{line}: {e}: {said}"));
        assert!(values.len() == 1 || LINES.contains(&command), "{line}: {said}");
        if CHANGES.contains(&command) {
            let now = values[0]["Generation"].as_u64().unwrap_or_else(|| panic!("{line}: no generation: {said}"));
            assert!(now >= generation, "{line}: {said}");
            generation = now;
            let ids = ["SecurityGroupId", "PrefixListId", "PortRangeListId", "InstanceId", "NetworkInterfaceId"];
            assert!(ids.iter().any(|id| values[0][id].is_string()), "{line}: of what? {said}");
        }
    });
}
