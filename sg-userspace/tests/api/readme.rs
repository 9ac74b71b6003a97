//! The README, walked as by somebody who has just found it: every command is run, in its
//! order, as it stands there, and prints what is shown. A command that is not run is among
//! those below, with the reason; a new one has to be decided.

mod machine;
mod markdown;
mod mentions;

use std::{collections::BTreeMap, fs, net::TcpStream, path::PathBuf};

use sg_userspace::testbed::echoes;

use self::{
    machine::{Machine, repository},
    markdown::{Block, Command, blocks, commands, compare},
};
use super::metrics::tool;
use crate::{
    support::{
        frames::{ACK, FIN, SYN, tcp, v4},
        pcap::{ETHERNET, Record, pcap, whole},
    },
    world::{can_run, eventually, to},
};

/// Commands that are not run here, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("cargo xtask demo", "`.ci/run` runs it"),
    ("cargo xtask test", "runs this"),
    ("cargo xtask build --release", "what cargo has built for this test is there in its place"),
];

/// What a command does that does not end by itself: somebody knocks at a closed port, and
/// what is then said of it.
const ENDLESS: &[(&str, &str)] = &[("sudo sgctl watch --address 203.0.113.7", "8443")];

/// A walk.
struct Walk {
    machine: Machine,
    /// What has been said of what runs behind an `&`, and of what does not end.
    log: PathBuf,
    /// Connections that are there before the first policy: one that it lets in, one that it does not.
    live: [TcpStream; 2],
    /// A key of the API.
    key: BTreeMap<&'static str, String>,
}

impl Walk {
    fn new() -> Self {
        let machine = Machine::new();
        for port in [22, 8443] {
            machine.net.tcp_server(port).unwrap();
        }
        let live = [22, 8443].map(|port| machine.peer.connect(to(&format!("10.0.0.5:{port}"))).unwrap());
        let at = |name: &str| machine.clone_at().join(name);
        for (name, text) in [("old.yaml", OLD), ("new.yaml", NEW), ("candidate.yaml", CANDIDATE)] {
            fs::write(at(name), text).unwrap();
        }
        fs::write(at("capture.pcap"), pcap(ETHERNET, &capture())).unwrap();
        let log = at("walk.log");
        Self { machine, log, live, key: BTreeMap::new() }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where the next one writes: nothing of the last is there.
    fn new_log(&self) -> String {
        let _ = fs::remove_file(&self.log);
        self.log.display().to_string()
    }

    /// Whether somebody else reaches a port.
    fn open(&self, port: u16) -> bool {
        self.machine.peer.tcp(to(&format!("10.0.0.5:{port}"))).unwrap()
    }

    /// Whether the connection that was let in from the start goes on.
    fn lives(&mut self) -> bool {
        echoes(&mut self.live[0], b"still here")
    }

    fn runs(&mut self) -> bool {
        self.machine.run("pgrep -x sgd > /dev/null").0 == 0
    }

    /// Starts what goes on behind an `&`, until it says that it is ready.
    fn begin(&mut self, command: &str) -> (i32, String) {
        let log = self.new_log();
        let begun = self.machine.run(&format!("{command} > {log} 2>&1 &"));
        eventually("sgd is ready", || self.log().contains("ready on "));
        (begun.0, self.log())
    }

    /// Lets it do its work, and ends it as a person does.
    fn watched(&mut self, command: &str, until: &str) -> (i32, String) {
        let log = self.new_log();
        self.machine.run(&format!("{command} > {log} 2>&1 &\nwalked=$!"));
        eventually("it watches", || self.log().contains("watching"));
        assert!(!self.open(8443));
        eventually("it says so", || self.log().contains(until));
        let ended = self.machine.run("kill -INT $walked; wait $walked");
        (ended.0, self.log())
    }

    fn step(&mut self, command: &Command) {
        let name = command.name();
        // Who took the way back has nothing more to stop; who goes on reading did not.
        if name == "sudo pkill -x sgd" && !self.runs() {
            self.begin("target/release/sgd");
        }
        let (status, output) = if let Some(command) = name.strip_suffix('&') {
            self.begin(command)
        } else if let Some((_, until)) = ENDLESS.iter().find(|(n, _)| *n == name) {
            self.watched(name, until)
        } else {
            self.machine.run(&command.text)
        };
        let line = command.line;
        eprintln!("README.md:{line}: $ {name}\n{output}");
        assert_eq!(status, 0, "README.md:{line}: {name}: {output}");
        if !command.shows.is_empty() {
            compare(&command.shows, &output)
                .unwrap_or_else(|e| panic!("README.md:{line}: {name}: {e}; it prints:\n{output}"));
        }
        self.found(name, &output);
    }

    /// What a command did, beside what it printed.
    fn found(&mut self, name: &str, output: &str) {
        match name {
            "sudo target/release/sgctl apply -f policy.yaml" => {
                assert!(self.open(22) && !self.open(8443));
                assert!(self.lives() && !echoes(&mut self.live[1], b"denied"));
            }
            "sudo pkill -x sgd" => {
                eventually("it has ended", || !self.runs());
                assert!(self.open(22) && !self.open(8443), "the protection stays");
            }
            "sudo target/release/sgd --detach" => eventually("it is off", || self.open(8443)),
            "sudo systemctl enable --now sgd" => assert!(self.open(22) && !self.open(8443), "it is on again"),
            "sudo sgctl shadow start -f candidate.yaml" => assert!(self.open(22), "nothing else is changed"),
            "sudo sgctl key create" => {
                for (name, label) in [("ID", "AccessKeyId"), ("SECRET", "AccessKeySecret")] {
                    let said = output.lines().find_map(|l| l.split_once(label)).unwrap_or_else(|| panic!("{output}"));
                    self.key.insert(name, said.1.trim_matches([':', ' ']).to_owned());
                }
            }
            _ => {}
        }
    }

    /// A part of `sgd.toml`.
    fn configuration(&mut self, block: &Block) {
        fs::write(self.machine.clone_at().join("part.toml"), &block.text).unwrap();
        let said = self.machine.run("target/release/sgd check --config part.toml");
        assert_eq!(said, (0, "the configuration is good".into()), "README.md:{}", block.line);
    }

    /// A document, or what Prometheus reads.
    fn yaml(&mut self, block: &Block) {
        let at = self.machine.clone_at();
        if block.text.contains("scrape_configs") {
            fs::write(at.join("prometheus.yml"), &block.text).unwrap();
            fs::copy(repository().join("packaging/prometheus/sg-alerts.yml"), at.join("sg-alerts.yml")).unwrap();
            let said = self.machine.run(&format!("{} check config prometheus.yml", tool("promtool").display()));
            assert_eq!(said.0, 0, "README.md:{}: {}", block.line, said.1);
            return;
        }
        fs::write(at.join("part.yaml"), &block.text).unwrap();
        for line in [
            "plan -f part.yaml",
            "lint -f part.yaml",
            "explain -f part.yaml eth0 ingress tcp 10.0.0.5:443 192.0.2.9:4000",
        ] {
            let said = self.machine.run(&format!("sudo sgctl {line}"));
            eprintln!("README.md:{}: $ sgctl {line}\n{}", block.line, said.1);
            assert_eq!(said.0, 0, "README.md:{}: sgctl {line}: {}", block.line, said.1);
        }
    }

    /// A call by an SDK, with the key that was made.
    fn python(&mut self, block: &Block) {
        let Some(sdks) = std::env::var_os("SG_SDKS").map(PathBuf::from).filter(|d| d.is_dir()) else {
            assert!(std::env::var_os("SG_TEST_REQUIRE").is_none(), "SG_SDKS names no directory of official SDKs");
            return;
        };
        let key: String = self.key.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let text = format!("{key}{}print(web.body.security_group_id)\n", block.text);
        fs::write(self.machine.clone_at().join("part.py"), text).unwrap();
        let (status, said) = self.machine.run(&format!("{} part.py", sdks.join("python/bin/python").display()));
        assert!(status == 0 && said.starts_with("sg-"), "README.md:{}: {said}", block.line);
        let (_, groups) = self.machine.run("sgctl group list");
        assert!(groups.contains(&said), "{groups}");
    }
}

#[test]
fn every_line_of_it_does_what_it_says() {
    if !can_run() {
        return;
    }
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut walk = Walk::new();
    let mut left: Vec<&str> = NOT_HERE.iter().chain(ENDLESS).map(|(name, _)| *name).collect();
    for block in blocks(&text) {
        match block.kind.as_str() {
            "sh" | "console" => {
                for command in commands(&block) {
                    left.retain(|name| *name != command.name());
                    if !NOT_HERE.iter().any(|(name, _)| *name == command.name()) {
                        walk.step(&command);
                    }
                }
            }
            "toml" => walk.configuration(&block),
            "yaml" => walk.yaml(&block),
            "python" => walk.python(&block),
            // A picture.
            "text" => {}
            other => {
                panic!("README.md:{}: a block of {other:?}: commands are sh or console, pictures text", block.line)
            }
        }
    }
    assert!(walk.lives(), "nothing of all this has cut what the rules let in");
    assert!(left.is_empty(), "no line of README.md any more: {left:?}");
}

/// What the packaged unit is, to the service manager.
#[test]
fn the_unit_is_one() {
    if !can_run() {
        return;
    }
    let mut machine = Machine::new();
    machine.run(
        "install -m 755 target/release/sgd /usr/sbin/ && install -m 644 packaging/sgd.service /etc/systemd/system/",
    );
    // It comes with a service manager, which is not installed for a test.
    if machine.run("command -v systemd-analyze").0 != 0 {
        eprintln!("skipped: no systemd-analyze, which says whether the unit is one");
        return;
    }
    // It works in /tmp, wherever TMPDIR is.
    let (status, said) = machine.run(
        "(cd / && unshare --mount sh -c 'mount -t tmpfs tmpfs /tmp && \
         systemd-analyze verify --man=no /etc/systemd/system/sgd.service')",
    );
    let ours: Vec<&str> = said.lines().filter(|l| l.contains("sgd")).collect();
    assert!(status == 0 && ours.is_empty(), "{said}");
}

/// Two policies of eth7, and what went by before and is to be judged by both.
const OLD: &str = "security_groups:
- security_group_name: web
  security_group_type: enterprise
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 198.51.100.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 5432/5432, source_cidr_ip: 10.0.0.0/8}
network_interfaces:
- {device: eth7, side: host, private_ip_addresses: [10.0.0.5], security_group_ids: [web]}
";
const NEW: &str = "security_groups:
- security_group_name: web
  security_group_type: enterprise
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: eth7, side: host, private_ip_addresses: [10.0.0.5], security_group_ids: [web]}
";
/// What might come after `policy.yaml`: SSH from one network only, and a web server.
const CANDIDATE: &str = "security_groups:
- security_group_name: server
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 198.51.100.0/24}
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: eth0, side: host, security_group_ids: [server]}
";

/// A connection to port 80, one to port 5432, another one's packets that nobody lets in,
/// and one to port 443.
fn capture() -> Vec<Record> {
    let own = [10, 0, 0, 5];
    let mut all = Vec::new();
    let mut connection = |start: u64, far: [u8; 4], port: u16, service: u16, sizes: &[(bool, u8, usize)]| {
        for (i, (inbound, flags, size)) in sizes.iter().enumerate() {
            let (from, to, a, b) = if *inbound { (far, own, port, service) } else { (own, far, service, port) };
            let packet = v4(from, to, 6).frame(&[tcp(a, b, *flags), vec![7; *size]].concat());
            all.push(whole(1_700_000_000_000_000 + start + 1000 * i as u64, packet));
        }
    };
    let open = [(true, SYN, 0), (false, SYN | ACK, 0), (true, ACK, 0)];
    let web = [&open[..], &[(true, ACK, 100), (false, ACK, 300), (true, ACK, 0), (false, ACK, 0)]].concat();
    connection(0, [198, 51, 100, 7], 40001, 80, &web);
    let asked = [(true, ACK, 50), (false, ACK, 250)];
    let database = [&open[..], &asked, &asked, &asked, &[(true, FIN | ACK, 0), (false, FIN | ACK, 0), (true, ACK, 0)]];
    connection(1_007_000, [10, 9, 0, 3], 50002, 5432, &database.concat());
    connection(4_000_000, [192, 0, 2, 66], 6000, 3306, &[(true, SYN, 0); 6]);
    connection(6_025_000, [192, 0, 2, 9], 1234, 443, &[(true, SYN, 0)]);
    let stranger = v4([192, 0, 2, 9], [10, 9, 9, 9], 6).frame(&tcp(1, 2, SYN));
    all.push(whole(1_700_000_007_000_000, stranger));
    all
}
