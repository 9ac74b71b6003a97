//! What was in force comes back: kept generations, and backups.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use super::{
    client::{call, daemon, key},
    console::{done, refused},
};
use crate::world::{Way, World, can_run, to};

/// A guest in a group that lets these ports in.
fn policy(ports: &[u16]) -> String {
    let rule =
        |p: &u16| format!("{{direction: ingress, ip_protocol: tcp, port_range: {p}/{p}, source_cidr_ip: 0.0.0.0/0}}");
    let rules: Vec<String> = ports.iter().map(rule).collect();
    let web = format!("security_groups:\n- {{security_group_name: web, permissions: [{}]}}\n", rules.join(", "));
    super::story::document().replace("security_groups:\n", &web)
}

fn json(daemon: &Daemon<'_>, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(daemon, &[arguments, &["-o", "json"]].concat())).unwrap()
}

/// What the API shows of a group, ids and times included.
fn shown(daemon: &Daemon<'_>, group: &str) -> (Value, Value) {
    let mut rules = json(daemon, &["group", "show", group]);
    let listed = json(daemon, &["api", "DescribeSecurityGroups", &format!("SecurityGroupName={group}")]);
    rules.as_object_mut().unwrap().remove("RequestId");
    (rules, listed["SecurityGroups"]["SecurityGroup"][0].clone())
}

fn generation(daemon: &Daemon<'_>) -> u64 {
    json(daemon, &["status"])["generation"].as_u64().unwrap()
}

#[test]
fn a_kept_generation_comes_back_with_its_packets() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    for port in [7000, 7001] {
        world.instance.tcp_server(port).unwrap();
    }
    let reaches = |port: u16| world.client.tcp(to(&format!("10.0.0.10:{port}"))).unwrap();
    assert!(refused(&daemon, &["rollback"]).contains("no generation is kept yet"));
    daemon.apply(&policy(&[7000]), &[]).unwrap();
    done(&daemon, &["api", "JoinSecurityGroup", "SecurityGroupId=web", "NetworkInterfaceId=eni-guest"]);
    let rule = ["rule", "add", "web", "ingress", "tcp", "9000/9000", "192.0.2.0/24"];
    done(&daemon, &rule);
    let (before, number) = (shown(&daemon, "web"), generation(&daemon));
    assert!(reaches(7000) && !reaches(7001));

    // An apply keeps what was before it, and going back brings that back to the letter.
    let joined = |text: String| text.replace("security_group_ids: [", "security_group_ids: [web, ");
    daemon.apply(&joined(policy(&[7001])), &["--yes"]).unwrap();
    assert!(!reaches(7000) && reaches(7001));
    let said = done(&daemon, &["diff", &number.to_string()]);
    assert!(said.contains("change") && said.contains("web") && said.contains("-2 rules"), "{said}");
    let plan = done(&daemon, &["rollback", "--plan"]);
    assert!(plan.contains("+2 rules") && !reaches(7000), "{plan}");
    let said = refused(&daemon, &["rollback"]);
    for part in [
        "replace what is in force",
        "change 2 objects",
        "group web +2 rules, -1 rules",
        "is kept, and can",
        "add --yes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!reaches(7000) && reaches(7001));
    done(&daemon, &["rollback", "-y"]);
    assert!(reaches(7000) && !reaches(7001));
    assert_eq!(shown(&daemon, "web"), before);
    assert!(done(&daemon, &["diff", &number.to_string()]).contains("nothing is different"));
    // The way back is kept, too.
    let kept = json(&daemon, &["snapshot", "list"]);
    let whys: Vec<&str> = kept.as_array().unwrap().iter().filter_map(|k| k["comment"].as_str()).collect();
    assert_eq!(whys, ["before an apply", "before a restore"]);

    // One group's rules: as an addition, then as they were.
    done(&daemon, &["snapshot", "create", "good"]);
    let good = generation(&daemon).to_string();
    // What it is called is not lost to somebody who keeps it once more.
    let said = done(&daemon, &["snapshot", "create", "better"]);
    assert!(said.contains(&format!("generation {good} is kept already, as \"good\"")), "{said}");
    let again = json(&daemon, &["snapshot", "create", "better"]);
    assert_eq!((&again["created"], &again["comment"]), (&false.into(), &"good".into()), "{again}");
    let kept = json(&daemon, &["snapshot", "list"]);
    let called: Vec<&Value> =
        kept.as_array().unwrap().iter().filter(|k| k["named"] == true).map(|k| &k["comment"]).collect();
    assert_eq!(called, ["good"]);
    daemon.apply(&joined(policy(&[7001])), &["--yes"]).unwrap();
    // An addition takes nothing away, and is not asked about.
    done(&daemon, &["snapshot", "restore", &good, "--group", "web", "--additive"]);
    assert!(reaches(7000) && reaches(7001));
    done(&daemon, &["snapshot", "restore", &good, "--group", "web", "--yes"]);
    assert!(reaches(7000) && !reaches(7001));
    assert_eq!(shown(&daemon, "web").0, before.0);
    assert!(refused(&daemon, &["snapshot", "restore", &good, "--group", "none"]).contains("no security group"));

    // What has a name stays until it is let go, also over a restart.
    assert!(done(&daemon, &["snapshot", "show", &good]).contains("security_group_name: web"));
    let mut daemon = daemon;
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert!(done(&daemon, &["snapshot", "list"]).contains("snapshot: good"));
    let said = refused(&daemon, &["snapshot", "delete", &good]);
    let parts = ["let the kept generation", "snapshot: good", "groups", "add --yes to do it; nothing was changed"];
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    done(&daemon, &["snapshot", "delete", &good, "--yes"]);
    assert!(refused(&daemon, &["snapshot", "show", &good]).contains("is not kept; these are"));
    assert!(reaches(7000) && !reaches(7001));
}

#[test]
fn a_backup_is_made_while_others_write_and_comes_back_on_another_host() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let first = daemon(&world);
    world.instance.tcp_server(7000).unwrap();
    let reaches = || world.client.tcp(to("10.0.0.10:7000")).unwrap();
    first.apply(&policy(&[7000]), &[]).unwrap();
    done(&first, &["api", "JoinSecurityGroup", "SecurityGroupId=web", "NetworkInterfaceId=eni-guest"]);
    let key = key(&first, &[]);
    let file = first.dir().join("backup");
    let file = file.to_str().unwrap();
    let (over, writes) = (AtomicBool::new(false), std::sync::atomic::AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let (status, _) = call(&first, &key, &[("Action", "CreateSecurityGroup")]);
                assert_eq!(status, 200);
                writes.fetch_add(1, Ordering::Relaxed);
            }
        });
        while writes.load(Ordering::Relaxed) < 5 {
            std::thread::yield_now();
        }
        done(&first, &["backup", file]);
        over.store(true, Ordering::Relaxed);
    });
    // The last one is of a state that stands still.
    done(&first, &["backup", file]);
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains(&key.1), "the secret is in the backup");
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    let groups = |daemon: &Daemon<'_>| {
        let listed = json(daemon, &["api", "DescribeSecurityGroups", "PageSize=50"]);
        listed["SecurityGroups"].clone()
    };
    let before = groups(&first);
    assert!(reaches());
    drop(first);

    let second = daemon(&world);
    let file = second.dir().join("backup");
    let file = file.to_str().unwrap();
    assert!(refused(&second, &["restore", "/dev/null"]).contains("this is no backup"));
    fs::write(file, &text[..text.len() / 2]).unwrap();
    assert!(refused(&second, &["restore", file, "--yes"]).contains("the backup is damaged"));
    assert_eq!(generation(&second), 0);
    fs::write(file, &text).unwrap();
    let plan = done(&second, &["restore", file, "--plan"]);
    assert!(plan.contains("create") && plan.contains("web") && generation(&second) == 0, "{plan}");
    done(&second, &["restore", file, "--yes"]);
    assert_eq!(groups(&second), before);
    assert!(reaches());
}

#[test]
fn a_store_larger_than_a_request_is_backed_up_and_comes_back() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(&policy(&[7000]), &[]).unwrap();
    let file = daemon.dir().join("backup");
    let name = file.to_str().unwrap();
    done(&daemon, &["backup", name]);
    // As many documents as it takes, each of which could have been applied.
    let text = fs::read_to_string(&file).unwrap();
    let (first, body) = text.split_once('\n').unwrap();
    let mut kept: Value = serde_json::from_str(body).unwrap();
    let note = "what this rule is for, at some length; ".repeat(13);
    for d in 0..6 {
        let group = |g: usize| {
            let rule = |i: usize| {
                serde_json::json!({"direction": "ingress", "ip_protocol": "tcp", "description": note,
                    "port_range": format!("{0}/{0}", 1 + i), "source_cidr_ip": "192.0.2.0/24"})
            };
            let rules: Vec<Value> = (0..1000).map(rule).collect();
            serde_json::json!({"security_group_name": format!("large-{d}-{g}"), "permissions": rules})
        };
        let groups: Vec<Value> = (0..10).map(group).collect();
        let document = serde_json::json!({"document": format!("large-{d}"), "security_groups": groups});
        kept["documents"].as_array_mut().unwrap().push(document);
    }
    let large = format!("{first}\n{kept}\n");
    assert!(large.len() > 33 << 20, "{} bytes", large.len());
    fs::write(&file, &large).unwrap();
    done(&daemon, &["restore", name, "--yes"]);
    assert_eq!(generation(&daemon), 2);
    let shown = json(&daemon, &["group", "show", "large-5-9"]);
    assert_eq!(shown["Permissions"]["Permission"].as_array().unwrap().len(), 1000);

    // Back, and there again: nothing is different. One that is cut short is no backup.
    let again = daemon.dir().join("again");
    let name = again.to_str().unwrap();
    let said = json(&daemon, &["backup", name]);
    let length = fs::metadata(&again).unwrap().len();
    assert!(said["bytes"] == length && length > 33 << 20, "{said}");
    done(&daemon, &["restore", name, "--yes"]);
    assert_eq!(generation(&daemon), 2);
    let half = fs::read(&again).unwrap();
    fs::write(&again, &half[..half.len() - 100]).unwrap();
    assert!(refused(&daemon, &["restore", name, "--yes"]).contains("the backup is damaged"));
    // A caller that goes away in the middle of one, or sends too much, is none of the others' business.
    let socket = daemon.dir().join("sgd.sock");
    let restore = |bytes: u64| {
        format!(
            "{{\"action\":\"restore\",\"source\":{{\"backup\":{{\"bytes\":{bytes}}}}},\"group\":null,\"additive\":false,\
             \"apply\":true,\"if_generation\":null,\"on_change\":\"cut\",\"session\":null}}\n"
        )
    };
    let say = |text: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let _ = std::io::Write::write_all(&mut stream, text);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        let _ = std::io::Read::read_to_string(&mut stream, &mut said);
        said
    };
    assert_eq!(say(&[restore(1 << 20).as_bytes(), &half[..1000]].concat()), "");
    assert!(say(restore(1 << 40).as_bytes()).contains("is too large"));
    assert_eq!(generation(&daemon), 2);
}
