//! Every command of `sgctl`, in an order in which each is done. A new command that is not
//! among them fails here, by its name.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::Value;
use sg_userspace::{ctl::args::Arguments, testbed::Daemon};

use crate::support::{
    frames::{SYN, tcp, v4},
    pcap::{ETHERNET, pcap, whole},
};

/// Each command, in an order in which each is done. `{file}` and the like stand for what is
/// known only then.
pub const COMMANDS: &[&str] = &[
    "apply -f {document}",
    "plan -f {document}",
    "explain tap0 ingress tcp 10.0.0.10:22 192.0.2.10:4000",
    "replay {capture} -f {document}",
    "diagnose tap0",
    "lint",
    "status",
    "flows",
    "flows --top",
    "flows --device tap0 --cut --yes",
    "flows --device tap0 --cut --reset --yes",
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
pub fn command_of(line: &str, all: &BTreeSet<String>) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let one = (1..=2).map(|n| words[..n.min(words.len())].join(" ")).find(|name| all.contains(name));
    one.unwrap_or_else(|| panic!("{line:?} is no command"))
}

/// All commands there are.
pub fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    leaves(&Arguments::command(), "", &mut all);
    all
}

/// Calls `run` with each line, as arguments, and the command that it is.
pub fn walk(daemon: &Daemon<'_>, mut run: impl FnMut(&str, &[&str])) {
    let (all, dir) = (all(), daemon.dir().to_str().unwrap());
    std::fs::write(daemon.dir().join("story.yaml"), super::story::document()).unwrap();
    let request = v4([192, 0, 2, 10], [10, 0, 0, 10], 6).frame(&tcp(4000, 22, SYN));
    std::fs::write(daemon.dir().join("story.pcap"), pcap(ETHERNET, &[whole(0, request)])).unwrap();
    let mut known = vec![
        ("{document}", format!("{dir}/story.yaml")),
        ("{capture}", format!("{dir}/story.pcap")),
        ("{backup}", format!("{dir}/state.backup")),
        ("{config}", format!("{dir}/sgd.toml")),
        ("{dir}", dir.to_owned()),
    ];
    let ask = |arguments: &str| -> Value {
        let (good, said) =
            daemon.sgctl(&[&arguments.split(' ').collect::<Vec<_>>()[..], &["-o", "json"]].concat()).unwrap();
        assert!(good, "{arguments}: {said}");
        serde_json::from_str(&said).unwrap()
    };
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned();
    for line in COMMANDS {
        let line = known.iter().fold((*line).to_owned(), |line, (name, value)| line.replace(name, value));
        let command = command_of(&line, &all);
        run(&command, &line.split(' ').collect::<Vec<_>>());
        // What only they know that were just made.
        match command.as_str() {
            "rule add" => {
                let rules = &ask("group show web")["Permissions"]["Permission"];
                let ssh = rules.as_array().unwrap().iter().find(|r| r["PortRange"] == "22/22").unwrap();
                known.push(("{rule}", text(&ssh["SecurityGroupRuleId"])));
            }
            "key create" => known.push(("{key}", text(&ask("key list")[0]["id"]))),
            "snapshot create" => {
                let kept = ask("snapshot list");
                let named = kept.as_array().unwrap().iter().find(|k| k["comment"] == "good").unwrap();
                known.push(("{generation}", named["generation"].to_string()));
            }
            "group export" => {
                let file = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
                let mut file = file.filter(|p| p.file_name().unwrap().to_str().unwrap().contains("_sg-"));
                known.extend(file.next().map(|f| ("{rules}", f.to_str().unwrap().to_owned())));
            }
            _ => {}
        }
    }
}

#[test]
fn each_command_is_among_them() {
    let all = all();
    let said: BTreeSet<String> = COMMANDS.iter().map(|line| command_of(line, &all)).collect();
    let missing: Vec<&String> = all.difference(&said).collect();
    assert!(missing.is_empty(), "tests/api/walk.rs has no line for {missing:?}: what do these print?");
}
