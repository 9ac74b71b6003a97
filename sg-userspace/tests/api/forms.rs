//! `-o json` of every command: what it prints is JSON, also where it only says that it is done.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::{Deserializer, Value};
use sg_userspace::ctl::args::Arguments;

use super::client::daemon;
use crate::world::{Way, World, can_run};

/// Each command, in an order in which each is done. `{file}` and the like stand for what is
/// known only then.
const COMMANDS: &[&str] = &[
    "apply -f {document}",
    "plan -f {document}",
    "explain tap0 ingress tcp 10.0.0.10:22 192.0.2.10:4000",
    "diagnose tap0",
    "lint",
    "status",
    "flows",
    "flows --top",
    "flows --device tap0 --cut --yes",
    "stats",
    "stats --unused",
    "doctor --config {config}",
    "wait tap0",
    "watch --count 0",
    "shadow start -f {document}",
    "shadow report",
    "shadow promote",
    "shadow stop",
    "export",
    "completions bash",
    "group create web --open https@0.0.0.0/0",
    "group create app",
    "group default",
    "group list",
    "group show web",
    "group rename app worker",
    "group modify worker --description workers",
    "group tag web a=b",
    "group untag web a",
    "group references web",
    "group protect web",
    "group manage web --off",
    "group protect web --off",
    "group export web --dir {dir}",
    "group export web",
    "group export web --format csv",
    "group clone web twin",
    "group import worker {rules}",
    "rule add web ingress tcp 22 192.0.2.0/24",
    "rule remove web {rule} --yes",
    "prefix-list create office --entry 192.0.2.0/24",
    "prefix-list list",
    "prefix-list show office",
    "prefix-list add office 198.51.100.0/24",
    "prefix-list remove office 198.51.100.0/24 --yes",
    "prefix-list modify office --name place",
    "prefix-list delete place --yes",
    "port-list create ports --entry 80",
    "port-list list",
    "port-list show ports",
    "port-list add ports 443",
    "port-list remove ports 443 --yes",
    "port-list modify ports --name doors",
    "port-list delete doors --yes",
    "instance list",
    "instance show i-guest",
    "instance set-groups i-guest base web",
    "interface list",
    "interface show tap0",
    "interface leave tap0 web",
    "interface join tap0 web",
    "interface set-groups tap0 base",
    "interface create --name spare --address 10.0.0.98 web",
    "interface attach spare i-guest",
    "interface detach spare",
    "interface delete spare --yes",
    "key create",
    "key list",
    "key disable {key}",
    "key enable {key}",
    "key delete {key} --yes",
    "api DescribeRegions",
    "snapshot create good",
    "snapshot create better",
    "snapshot list",
    "snapshot show {generation}",
    "diff {generation}",
    "group delete twin --yes",
    "snapshot restore {generation} --yes --confirm 60s",
    "confirm",
    "rollback {generation} --yes",
    "snapshot delete {generation} --yes",
    "backup {backup}",
    "backup -",
    "restore {backup} --yes",
];

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

/// Commands without subcommands, as they are called.
fn leaves(command: &clap::Command, path: &str, all: &mut BTreeSet<String>) {
    let path = |name: &str| format!("{path} {name}").trim().to_owned();
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        if sub.has_subcommands() {
            leaves(sub, &path(sub.get_name()), all);
        } else {
            all.insert(path(sub.get_name()));
        }
    }
}

/// The command of a line: as many of its words as one has.
fn command_of(line: &str, all: &BTreeSet<String>) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let one = (1..=2).map(|n| words[..n.min(words.len())].join(" ")).find(|name| all.contains(name));
    one.unwrap_or_else(|| panic!("{line:?} is no command"))
}

fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    leaves(&Arguments::command(), "", &mut all);
    all
}

#[test]
fn each_command_is_among_them() {
    let all = all();
    let said: BTreeSet<String> = COMMANDS.iter().map(|line| command_of(line, &all)).collect();
    let missing: Vec<&String> = all.difference(&said).collect();
    assert!(missing.is_empty(), "what do these print with -o json? {missing:?}");
}

#[test]
fn each_command_prints_json() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let (all, dir) = (all(), daemon.dir().to_str().unwrap());
    std::fs::write(daemon.dir().join("story.yaml"), super::story::document()).unwrap();
    let mut known = vec![
        ("{document}", format!("{dir}/story.yaml")),
        ("{backup}", format!("{dir}/state.backup")),
        ("{dir}", dir.to_owned()),
        ("{config}", format!("{dir}/sgd.toml")),
    ];
    let mut generation = 0;
    for line in COMMANDS {
        let command = command_of(line, &all);
        let line = known.iter().fold((*line).to_owned(), |line, (name, value)| line.replace(name, value));
        let arguments: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
        let (good, said) = daemon.sgctl(&arguments).unwrap();
        assert!(good, "{line}: {said}");
        let values: Result<Vec<Value>, _> = Deserializer::from_str(&said).into_iter().collect();
        let values = values.unwrap_or_else(|e| panic!("{line}: {e}: {said}"));
        assert!(values.len() == 1 || LINES.contains(&command.as_str()), "{line}: {said}");
        let text = |name: &str| values[0][name].as_str().unwrap_or_else(|| panic!("{line}: {name}: {said}")).to_owned();
        if CHANGES.contains(&command.as_str()) {
            let now = values[0]["Generation"].as_u64().unwrap_or_else(|| panic!("{line}: no generation: {said}"));
            assert!(now >= generation, "{line}: {said}");
            generation = now;
            let ids = ["SecurityGroupId", "PrefixListId", "PortRangeListId", "InstanceId", "NetworkInterfaceId"];
            assert!(ids.iter().any(|id| values[0][id].is_string()), "{line}: of what? {said}");
        }
        match command.as_str() {
            "rule add" => known.push(("{rule}", text("SecurityGroupRuleId"))),
            "key create" => known.push(("{key}", text("AccessKeyId"))),
            "snapshot create" => known.push(("{generation}", values[0]["generation"].to_string())),
            "group export" if line.contains("--dir") => known.push(("{rules}", text("File"))),
            _ => {}
        }
    }
}
