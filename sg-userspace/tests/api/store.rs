//! The stores of earlier daemons: each is taken over, holds what it held, and is
//! kept as it was.
//!
//! `fixtures/store/N` has one of schema N, and what it holds as JSON (that of
//! schema 1 is JSON itself). A daemon of that schema wrote it:
//!
//! ```text
//! SG_BLESS=1 cargo test -p sg-userspace --test api store
//! ```
//!
//! writes the one of today's schema anew, with `SG_BIN` the one of the daemon in
//! that directory: schema 1 is that of revision 17fede9 (with today's kernel
//! program). What is released stays as it is: a new schema gets a store of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sg_userspace::{
    daemon::store::{
        State, Store,
        embedded::{Embedded, SCHEMA},
    },
    testbed::{Daemon, TempDir},
};

use super::{
    client::{call, daemon, key},
    console::done,
};
use crate::world::{Way, World, bin, can_run};

/// Schema, store, what it holds.
const STORES: [(u64, &str, &str); 2] = [(1, "state.json", "state.json"), (2, "state.redb", "holds.json")];

fn fixtures(schema: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store/{schema}"))
}

fn holds(schema: u64, file: &str) -> Value {
    serde_json::from_slice(&fs::read(fixtures(schema).join(file)).unwrap()).unwrap()
}

/// A store of a schema in a directory that a daemon can start with.
fn put(schema: u64, file: &str, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::copy(fixtures(schema).join(file), dir.join(file)).unwrap();
}

/// How the store of a schema is kept once it was taken over.
fn kept(schema: u64) -> Option<String> {
    match schema {
        1 => Some("state.json.imported".into()),
        SCHEMA => None,
        older => Some(format!("state.redb.schema-{older}")),
    }
}

/// What is different from run to run must be what was written down.
fn look(state: &State) {
    let names: Vec<&str> = state.documents.iter().map(|d| d.name()).collect();
    assert_eq!(names, ["demo", "(api)"]);
    assert_eq!(state.documents[0].security_groups.len(), 2);
    assert_eq!(state.documents[0].network_interfaces.len(), 2);
    assert_eq!(state.generation, 4);
    assert!(!state.counters.is_empty());
    let group = state.documents[1].security_groups[0].security_group_id.as_deref().unwrap();
    assert!(state.facts.objects[group].created > 1_700_000_000);
    assert!(state.facts.rules[group].values().all(|r| r.id.starts_with("sgr-")));
    let answered: Vec<&Value> = state.replay.tokens.values().map(|t| &t.body["SecurityGroupId"]).collect();
    assert_eq!(answered, [group]);
    assert_eq!(state.replay.nonces.values().next().unwrap().len(), 3);
}

#[test]
fn a_store_of_each_schema_is_taken_over_whole_and_kept() {
    assert_eq!(STORES.last().unwrap().0, SCHEMA, "a new schema needs a store: see the head of this file");
    for (schema, file, what) in STORES {
        let dir = TempDir::new().unwrap();
        put(schema, file, dir.path());
        // Once it is taken over, the second time it is simply opened.
        for _ in 0..2 {
            let state = Embedded::open(dir.path()).unwrap().load().unwrap();
            look(&state);
            assert_eq!(serde_json::to_value(&state).unwrap(), holds(schema, what), "schema {schema}");
        }
        let mut left: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut there: Vec<String> = kept(schema).into_iter().chain(["state.redb".to_owned()]).collect();
        there.sort();
        assert_eq!(left, there, "schema {schema}");
        if let Some(old) = kept(schema) {
            let same = fs::read(dir.path().join(&old)).unwrap() == fs::read(fixtures(schema).join(file)).unwrap();
            assert!(same, "{old} is not what it was");
        }
    }
}

#[test]
fn a_daemon_goes_on_with_the_store_of_each_schema() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    for (schema, file, what) in STORES {
        let mut daemon = Daemon::new(&world.router, bin()).unwrap();
        daemon.configure("api.listen = \"127.0.0.1:8080\"").unwrap();
        put(schema, file, &daemon.dir().join("state"));
        daemon.start().unwrap();
        let holds = holds(schema, what);
        for document in holds["documents"].as_array().unwrap() {
            let (done, text) = daemon.sgctl(&["export", document["document"].as_str().unwrap()]).unwrap();
            assert!(done, "{text}");
            assert_eq!(serde_yaml_ng::from_str::<Value>(&text).unwrap(), *document, "schema {schema}");
        }
        // Rules keep the ids that clients know.
        let key = key(&daemon, &[]);
        let (group, rules) = holds["facts"]["rules"].as_object().unwrap().iter().next().unwrap();
        let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", group.as_str())];
        let (_, body) = call(&daemon, &key, &ask);
        let shown = &body["Permissions"]["Permission"][0]["SecurityGroupRuleId"];
        assert_eq!(rules.as_object().unwrap().values().map(|r| &r["id"]).collect::<Vec<_>>(), [shown], "{body}");
        // The next change is made on top of it.
        assert_eq!(call(&daemon, &key, &[("Action", "CreateSecurityGroup")]).0, 200);
        let (_, status) = daemon.sgctl(&["status", "-o", "json"]).unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["generation"], holds["generation"].as_u64().unwrap() + 1, "schema {schema}");
    }
}

#[test]
fn a_store_of_this_daemon_is_written_down() {
    if std::env::var_os("SG_BLESS").is_none() || !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    world.router.veth("sg-web", &world.instance, "eth1").unwrap();
    let mut daemon = daemon(&world);
    daemon.apply(include_str!("../../../examples/demo.yaml"), &[]).unwrap();
    let key = key(&daemon, &[]);
    let made = [("Action", "CreateSecurityGroup"), ("SecurityGroupName", "made"), ("ClientToken", "t-1")];
    let (_, made) = call(&daemon, &key, &made);
    let group = made["SecurityGroupId"].as_str().unwrap();
    let rule = [
        ("Action", "AuthorizeSecurityGroup"),
        ("SecurityGroupId", group),
        ("Permissions.1.IpProtocol", "tcp"),
        ("Permissions.1.PortRange", "443/443"),
        ("Permissions.1.SourceCidrIp", "192.0.2.0/24"),
    ];
    assert_eq!(call(&daemon, &key, &rule).0, 200);
    let tag = [
        ("Action", "TagResources"),
        ("ResourceType", "securitygroup"),
        ("ResourceId.1", group),
        ("Tag.1.Key", "made"),
        ("Tag.1.Value", "by hand"),
    ];
    assert_eq!(call(&daemon, &key, &tag).0, 200);
    daemon.stop(libc::SIGTERM).unwrap();
    let state = daemon.dir().join("state");
    let (schema, file, what) =
        STORES.into_iter().rfind(|(_, file, _)| state.join(file).exists()).expect("it has a store");
    fs::create_dir_all(fixtures(schema)).unwrap();
    fs::copy(state.join(file), fixtures(schema).join(file)).unwrap();
    if what != file {
        let holds = serde_json::to_string_pretty(&Embedded::open(&state).unwrap().load().unwrap()).unwrap();
        fs::write(fixtures(schema).join(what), holds + "\n").unwrap();
    }
}

/// Ids of rules that are remembered, by their groups.
fn remembered(daemon: &Daemon<'_>) -> Vec<Vec<String>> {
    let text = done(daemon, &["backup", "-"]);
    let kept: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let ids = |rules: &Value| {
        rules.as_object().unwrap().values().map(|r| r["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    kept["facts"]["rules"].as_object().unwrap().values().map(ids).collect()
}

#[test]
fn rules_that_are_gone_are_forgotten() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = daemon(&world);
    let document = super::story::document().replace(
        "security_groups:\n",
        "security_groups:\n- {security_group_name: web, security_group_id: sg-web}\n- {security_group_name: app, \
         security_group_id: sg-app}\n",
    );
    daemon.apply(&document, &[]).unwrap();
    let key = key(&daemon, &[]);
    let add = |group: &str, first: usize, count: usize, object: (&str, &str)| {
        let names: Vec<[String; 3]> = (1..=count)
            .map(|n| ["IpProtocol", "PortRange", object.0].map(|field| format!("Permissions.{n}.{field}")))
            .collect();
        let ports: Vec<String> = (first..first + count).map(|p| format!("{p}/{p}")).collect();
        let mut all = vec![("Action", "AuthorizeSecurityGroup"), ("SecurityGroupId", group)];
        for ([protocol, port, from], ports) in names.iter().zip(&ports) {
            all.extend([(protocol.as_str(), "tcp"), (port, ports), (from, object.1)]);
        }
        let (status, body) = call(&daemon, &key, &all);
        assert_eq!(status, 200, "{body}");
    };
    // One that stays, whatever goes; it keeps its id.
    let stays = "CreateSecurityGroup";
    let (_, made) = call(&daemon, &key, &[("Action", stays)]);
    let own = made["SecurityGroupId"].as_str().unwrap().to_owned();
    add(&own, 1, 1, ("SourceCidrIp", "192.0.2.0/24"));
    let first = remembered(&daemon);
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [1]);
    for round in 0..5 {
        // By a document, which knows nothing of them; by the call; and with the group that they name.
        add("sg-web", 100 * round + 1, 50, ("SourceCidrIp", "198.51.100.7"));
        assert_eq!(remembered(&daemon).iter().map(Vec::len).sum::<usize>(), 51);
        daemon.apply(&document, &["--yes"]).unwrap();
        assert_eq!(remembered(&daemon), first, "round {round}");
        let (_, named) = call(&daemon, &key, &[("Action", stays), ("SecurityGroupName", "named")]);
        add("sg-web", 100 * round + 1, 20, ("SourceGroupId", named["SecurityGroupId"].as_str().unwrap()));
        assert_eq!(remembered(&daemon).iter().map(Vec::len).sum::<usize>(), 21);
        done(&daemon, &["group", "delete", "named", "--force", "--yes"]);
        assert_eq!(remembered(&daemon), first, "round {round}");
    }
    // A generation that is kept has its own: they come back with the ids that they had.
    add("sg-web", 1, 1, ("SourceCidrIp", "192.0.2.0/24"));
    let both = remembered(&daemon);
    done(&daemon, &["snapshot", "create", "both"]);
    daemon.apply(&document, &["--yes"]).unwrap();
    assert_eq!(remembered(&daemon), first);
    done(&daemon, &["rollback", "--yes"]);
    assert_eq!(remembered(&daemon), both);
    // What an older daemon has left in a store goes, too.
    daemon.stop(libc::SIGTERM).unwrap();
    let dir = daemon.dir().join("state");
    let mut store = Embedded::open(&dir).unwrap();
    let mut state = store.load().unwrap();
    let rules = state.facts.rules.get_mut(&own).unwrap();
    let fact = rules.values().next().unwrap().clone();
    rules.insert("ingress accept 1 TCP ports=9/9 source=1.2.3.4/32".into(), fact);
    store.save(&state).unwrap();
    drop(store);
    daemon.start().unwrap();
    assert_eq!(remembered(&daemon), both);
    assert_eq!(call(&daemon, &key, &[("Action", stays)]).0, 200);
    daemon.stop(libc::SIGTERM).unwrap();
    let stored = Embedded::open(&dir).unwrap().load().unwrap();
    assert_eq!(stored.facts.rules.values().map(|rules| rules.len()).sum::<usize>(), 2);
}
