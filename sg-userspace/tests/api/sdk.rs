//! A whole story, told by each of the official SDKs.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::{
    client::key,
    story::{Api, Refused, tell},
};
use crate::world::{World, can_run};

/// Where the SDKs are installed; the tests' set-up says.
fn sdks() -> Option<PathBuf> {
    let dir = std::env::var_os("SG_SDKS").map(PathBuf::from).filter(|d| d.is_dir());
    if dir.is_none() {
        assert!(std::env::var_os("SG_TEST_REQUIRE").is_none(), "SG_SDKS names no directory of official SDKs");
        eprintln!("skipped: SG_SDKS names no directory of official SDKs");
    }
    dir
}

/// A process that calls by an SDK.
struct Sdk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sdk {
    fn start(daemon: &Daemon<'_>, dir: &std::path::Path, kind: &str, node: bool, ca: Option<&std::path::Path>) -> Self {
        let key = key(daemon, &[]);
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let file = daemon.dir().join("key.json");
        std::fs::write(&file, json!({"AccessKeyId": key.0, "AccessKeySecret": key.1}).to_string()).unwrap();
        let mut child = daemon
            .enter(|| {
                let mut command = if node {
                    let mut command = Command::new("node");
                    command.arg(scripts.join("client.js")).env("NODE_PATH", dir.join("node/node_modules"));
                    command
                } else {
                    let mut command = Command::new(dir.join("python/bin/python"));
                    command.arg(scripts.join("client.py"));
                    command
                };
                command.args([kind, "127.0.0.1:8080"]).arg(&file).args(ca);
                Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
            })
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut sdk = Self { child, input, output };
        assert_eq!(sdk.line()["ready"], kind);
        sdk
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }
}

impl Api for Sdk {
    fn call(&mut self, action: &str, params: Value) -> Result<Value, Refused> {
        writeln!(self.input, "{}", json!({"action": action, "params": params})).unwrap();
        let answer = self.line();
        match answer.get("body") {
            Some(body) => Ok(body.clone()),
            None => Err(Refused {
                code: answer["code"].as_str().unwrap_or_default().to_owned(),
                status: answer["status"].as_u64().map(|s| s as u16),
                message: answer["message"].to_string(),
            }),
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python SDK that calls a daemon with these lines in its configuration.
pub fn with(kind: &str, lines: &[&str], tell: impl FnOnce(&World, &Daemon<'_>, &mut dyn Api)) {
    if !can_run() {
        return;
    }
    let Some(dir) = sdks() else { return };
    let world = World::new(crate::world::Way::Guest);
    let mut daemon = Daemon::new(&world.router, crate::world::bin()).unwrap();
    daemon.configure("api.listen = \"127.0.0.1:8080\"").unwrap();
    lines.iter().for_each(|line| daemon.configure(line).unwrap());
    daemon.start().unwrap();
    let mut sdk = Sdk::start(&daemon, &dir, kind, false, None);
    tell(&world, &daemon, &mut sdk);
}

fn by(kind: &str, node: bool) {
    if !can_run() {
        return;
    }
    let Some(dir) = sdks() else { return };
    let world = World::new(crate::world::Way::Guest);
    let daemon = super::client::daemon(&world);
    let mut sdk = Sdk::start(&daemon, &dir, kind, node, None);
    tell(&world, &daemon, &mut sdk);
}

#[test]
fn python_tea_over_tls() {
    if !can_run() {
        return;
    }
    let Some(dir) = sdks() else { return };
    let world = World::new(crate::world::Way::Guest);
    let mut daemon = sg_userspace::testbed::Daemon::new(&world.router, crate::world::bin()).unwrap();
    let ca = super::tls::protect(&daemon);
    daemon.start().unwrap();
    let mut sdk = Sdk::start(&daemon, &dir, "tea", false, Some(&ca));
    tell(&world, &daemon, &mut sdk);
}

#[test]
fn python_tea() {
    by("tea", false);
}

#[test]
fn python_tea_v1() {
    by("tea-v1", false);
}

#[test]
fn python_legacy() {
    by("legacy", false);
}

#[test]
fn node_tea() {
    by("tea", true);
}

#[test]
fn node_pop_core() {
    by("pop", true);
}
