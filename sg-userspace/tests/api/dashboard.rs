//! Dashboard and alerts ask for what there is, by Debian's Prometheus.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use sg_userspace::{api::sign, daemon::metrics::names, testbed::Daemon};

use super::{
    client::{call, key, parsed, post, raw, signed},
    metrics::{AT, daemon, policy, tool},
};
use crate::world::{Way, World, can_run, eventually};

/// Asks a server of the daemon's namespace by HTTP/1.0.
fn get(daemon: &Daemon<'_>, at: &str, path: &str) -> String {
    daemon
        .enter(|| {
            let mut answer = String::new();
            if let Ok(mut stream) = TcpStream::connect(at) {
                write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
                stream.read_to_string(&mut answer)?;
            }
            Ok(answer)
        })
        .unwrap()
}

/// Ends with the test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn packaged(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file).canonicalize().unwrap()
}

/// All that the dashboard asks for.
fn dashboard() -> Vec<String> {
    let board: Value = serde_json::from_str(&std::fs::read_to_string(packaged("grafana/sg.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|p| p["targets"].as_array().into_iter().flatten());
    let mut queries: Vec<String> = targets.map(|t| t["expr"].as_str().unwrap().to_owned()).collect();
    for variable in board["templating"]["list"].as_array().unwrap() {
        let text = variable["query"]["query"].as_str().unwrap_or_default();
        let inner = text.strip_prefix("label_values(").and_then(|t| t.rsplit_once(','));
        queries.extend(inner.map(|(of, _)| of.to_owned()));
    }
    queries
}

/// What the alerts ask for.
fn alerts() -> Vec<String> {
    let text = std::fs::read_to_string(packaged("prometheus/sg-alerts.yml")).unwrap();
    let rules: Value = serde_yaml_ng::from_str(&text).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|g| g["rules"].as_array().unwrap());
    rules.map(|r| r["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_what_there_is() {
    if !can_run() {
        return;
    }
    let rules = packaged("prometheus/sg-alerts.yml");
    let promtool = |arguments: &[&str]| {
        let output = Command::new(tool("promtool")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    };
    promtool(&["check", "rules", rules.to_str().unwrap()]);
    promtool(&["test", "rules", packaged("prometheus/sg-alerts-test.yml").to_str().unwrap()]);
    let tested = std::fs::read_to_string(packaged("prometheus/sg-alerts-test.yml")).unwrap();
    let text = std::fs::read_to_string(&rules).unwrap();
    for alert in text.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(&format!("alertname: {alert}\n")), "{alert} is not tested");
    }

    let world = World::new(Way::HostTc);
    world.instance.tcp_server(80).unwrap();
    let mut daemon = daemon(&world);
    daemon.start().unwrap();
    daemon.apply(&policy(&world, ""), &[]).unwrap();
    let key = key(&daemon, &[]);
    assert_eq!(call(&daemon, &key, &[("Action", "DescribeRegions")]).0, 200);
    let forged = signed(&(key.0.clone(), "x".into()), &[("Action", "DescribeRegions")]);
    assert_eq!(parsed(&raw(&daemon, &post(&forged))).0, 400);
    assert!(!world.client.tcp("10.0.0.10:99".parse().unwrap()).unwrap());
    let config = daemon.dir().join("prometheus.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\n\
         scrape_configs: [{{job_name: sg, static_configs: [{{targets: [{AT:?}]}}]}}]\n",
        rules
    );
    std::fs::write(&config, scrape).unwrap();
    let (server, data) = ("127.0.0.1:19090", daemon.dir().join("prometheus"));
    let log = std::fs::File::create(daemon.dir().join("prometheus.log")).unwrap();
    let _server = daemon
        .enter(|| {
            let mut command = Command::new(tool("prometheus"));
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", data.display()));
            command.arg(format!("--web.listen-address={server}"));
            Ok(Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?))
        })
        .unwrap();
    let ask = |query: &str| {
        let query = query.replace("$__rate_interval", "30s").replace("$instance", ".*").replace("$interface", ".*");
        let answer = get(&daemon, server, &format!("/api/v1/query?query={}", sign::encode(&query)));
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str::<Value>(body).unwrap_or_default()
    };
    let results = |answer: &Value| answer["data"]["result"].as_array().map_or(0, Vec::len);
    eventually("it was scraped three times", || {
        let answer = ask("min(count_over_time(sg_build_info[1m]))");
        answer["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 3)
    });
    let known = |query: &str| {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("sg_"));
        let unknown = |w: &&str| !names::ALL.iter().any(|d| d.name == *w || Some(d.name) == w.strip_suffix("_bucket"));
        words.filter(unknown).map(str::to_owned).collect::<Vec<_>>()
    };
    let (board, alerts) = (dashboard(), alerts());
    assert!(board.len() > 30 && alerts.len() > 10, "{} {}", board.len(), alerts.len());
    for query in board.iter().chain(&alerts) {
        assert_eq!(known(query), [""; 0], "{query}");
        assert_eq!(ask(query)["status"], "success", "{query}: {}", ask(query));
    }
    for query in &board {
        assert!(results(&ask(query)) > 0, "nothing to show: {query}");
    }
    // All is well, but for nothing.
    eventually("the alerts were evaluated", || {
        !get(&daemon, server, "/api/v1/rules").contains("\"health\":\"unknown\"")
    });
    let judged = get(&daemon, server, "/api/v1/rules");
    assert_eq!(judged.matches("\"health\":\"ok\"").count(), alerts.len(), "{judged}");
    assert_eq!(judged.matches("\"state\":\"inactive\"").count(), alerts.len(), "{judged}");
}
