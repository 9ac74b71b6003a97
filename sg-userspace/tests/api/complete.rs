//! What a shell offers at TAB: bash runs the script, and asks the daemon by it.

use std::{os::unix::net::UnixListener, path::Path, time::Instant};

use sg_userspace::testbed::Daemon;

use super::{client::daemon, console::done};
use crate::world::{Way, World, bin, can_run};

/// What bash offers for the last of some words; `before` runs first.
fn offered(daemon: &Daemon<'_>, before: &str, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    let script = format!(
        "PATH={bin}:$PATH; {before} eval \"$(sgctl completions bash)\"; COMP_WORDS=(sgctl {words}); \
         COMP_CWORD={at}; COMP_TYPE=9; _clap_complete_sgctl sgctl {last} ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        bin = bin().display(),
        words = quoted.join(" "),
        at = words.len(),
        last = quoted.last().unwrap(),
    );
    let (good, said) = daemon.command(Path::new("bash"), &["-c", &script]).unwrap();
    assert!(good, "{words:?}: {said}");
    said.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

#[test]
fn names_in_force_are_offered() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    // A name that a shell would run.
    let hostile = "security_groups:\n- {security_group_name: $(true), security_group_id: sg-hostile}\n";
    let document = super::story::document().replace("security_groups:\n", hostile);
    daemon.apply(&document, &[]).unwrap();
    for name in ["web", "worker"] {
        done(&daemon, &["group", "create", name]);
    }
    done(&daemon, &["prefix-list", "create", "office"]);
    done(&daemon, &["port-list", "create", "ports"]);
    let offers = |words: &[&str]| {
        let mut words = offered(&daemon, "", words);
        words.retain(|w| !w.starts_with('-'));
        words.sort();
        words
    };

    assert_eq!(offers(&["group", "show", ""]), ["base", "sg-hostile", "web", "worker"]);
    assert_eq!(offers(&["group", "show", "w"]), ["web", "worker"]);
    let ids = offers(&["group", "delete", "sg-"]);
    assert!(ids.contains(&"sg-hostile".to_owned()), "{ids:?}");
    assert_eq!(offers(&["group", "delete", "web", "--force", "--move-to", "wo"]), ["worker"]);
    assert_eq!(offers(&["prefix-list", "show", ""]), ["office"]);
    assert_eq!(offers(&["port-list", "add", ""]), ["ports"]);
    assert_eq!(offers(&["rule", "add", "web", "ingress", "tcp", ""]), ["ports"]);
    assert_eq!(offers(&["rule", "add", "web", "ingress", "tcp", "22", "o"]), ["office"]);
    assert_eq!(offers(&["interface", "join", "t"]), ["tap0"]);
    assert_eq!(offers(&["interface", "join", "tap0", "wo"]), ["worker"]);
    assert_eq!(offers(&["instance", "set-groups", "i-"]), ["i-guest"]);
    assert_eq!(offers(&["instance", "set-groups", "i-guest", "web", "wo"]), ["worker"]);
    for words in [&["group", "rename", "we"][..], &["group", "tag", "we"], &["group", "references", "we"]] {
        assert_eq!(offers(words), ["web"], "{words:?}");
    }
    assert_eq!(offers(&["interface", "attach", "tap0", "i-"]), ["i-guest"]);
    assert_eq!(offers(&["interface", "create", "wo"]), ["worker"]);
    let key = super::client::key(&daemon, &[]);
    assert_eq!(offers(&["key", "delete", ""]), [key.0]);
    done(&daemon, &["snapshot", "create", "now"]);
    let generation = offers(&["snapshot", "show", ""]);
    assert_eq!(offers(&["diff", ""]), generation);
    assert!(generation.len() == 1 && generation[0].parse::<u64>().is_ok(), "{generation:?}");
    assert_eq!(offers(&["export", ""]), ["main"]);
    // What is fixed.
    assert_eq!(offers(&["completions", ""]), ["bash", "fish", "zsh"]);
    assert_eq!(offers(&["api", "AuthorizeSecurityGroup"]), ["AuthorizeSecurityGroup", "AuthorizeSecurityGroupEgress"]);

    // Without a daemon, or with one that says nothing, nobody waits for names.
    let silent = daemon.dir().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    for socket in ["/nowhere/sgd.sock", silent.to_str().unwrap()] {
        let began = Instant::now();
        let names = offered(&daemon, "", &["--socket", socket, "group", "show", "w"]);
        assert!(names.is_empty(), "{socket}: {names:?}");
        assert!(began.elapsed().as_secs() < 20, "{socket}");
    }
    assert_eq!(offered(&daemon, "SG_SOCKET=/nowhere;", &["group", "show", "w"]), Vec::<String>::new());
}

#[test]
fn each_shell_gets_its_script() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    for (shell, word) in [("bash", "complete -o"), ("zsh", "#compdef sgctl"), ("fish", "complete --keep-order")] {
        let said = done(&daemon, &["completions", shell]);
        assert!(said.contains(word) && said.contains("SG_COMPLETE"), "{shell}: {said}");
    }
}
