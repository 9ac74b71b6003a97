//! Metrics: each of them is made to move, by what it is about, and a scraper can
//! neither be misled nor be a burden.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sg_common::generation::Generation;
use sg_userspace::{
    daemon::metrics::names::{self, Kind},
    testbed::Daemon,
};

use super::{
    client::{call, key, parsed, post, raw, raw_to, signed},
    full,
};
use crate::{
    foreign::{Foreign, NEXT, standing, take_off},
    support::pins::alter,
    world::{Way, World, bin, can_run, eventually},
};

/// Samples by name and labels.
type Samples = BTreeMap<String, f64>;

pub const AT: &str = "127.0.0.1:19100";

/// What a connection is told after these bytes.
fn say(daemon: &Daemon<'_>, bytes: &[u8]) -> String {
    raw_to(daemon, AT, bytes)
}

/// The text of now: not one of less than a second ago.
fn text(daemon: &Daemon<'_>) -> String {
    std::thread::sleep(Duration::from_millis(1050));
    let answer = say(daemon, b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    body.to_owned()
}

fn samples(text: &str) -> Samples {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let split = |l: &str| l.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    lines.map(|l| split(l).unwrap_or_else(|| panic!("no sample: {l}"))).collect()
}

/// Everything scraped so far.
#[derive(Default)]
struct Watched(Vec<Samples>);

impl Watched {
    /// Scrapes until something is so.
    #[track_caller]
    fn until(&mut self, daemon: &Daemon<'_>, what: &str, so: impl Fn(&Samples) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            self.0.push(samples(&text(daemon)));
            let last = self.0.last().unwrap();
            if so(last) {
                return;
            }
            assert!(Instant::now() < end, "never so: {what}: {last:#?}");
        }
    }

    /// Whether any sample of a metric was different from what it was before, or came up and is not 0.
    fn moved(&self, name: &str) -> bool {
        let of = |key: &str| {
            let rest = key.strip_prefix(name);
            rest.is_some_and(|r| r.is_empty() || r.starts_with('{') || r.starts_with("_count"))
        };
        self.0.windows(2).any(|w| {
            let [before, after] = w else { return false };
            after.iter().any(|(key, value)| of(key) && before.get(key).map_or(*value != 0.0, |b| b != value))
        })
    }

    /// Series of counters that were there from the start, before anything was counted, and never rose.
    fn never_rose(&self) -> BTreeSet<&str> {
        let is_counter = |name: &str| names::ALL.iter().any(|d| d.name == name && d.kind == Kind::Counter);
        let made = |key: &&str| key.split_once('{').is_some_and(|(name, _)| is_counter(name));
        let keys = self.0[0].keys().map(String::as_str).filter(made);
        keys.filter(|key| self.0.iter().all(|s| at(s, key) == 0.0)).collect()
    }
}

/// Series that are there from the start and need not rise here, and why. That they can is a test
/// beside the counters.
const NOT_HERE: &[(&str, &str)] = &[
    ("sg_samples_total{result=\"mismatch\"}", "somebody else must write to the tables: namespaces/watch.rs"),
    ("sg_samples_total{result=\"skipped\"}", "the daemon must stand still until a sample is too old to be judged"),
    ("sg_changes_total{result=\"refused\",transport=\"network\"}", "the kernel must refuse to protect a device"),
    ("sg_api_requests_total{class=\"read\",code=\"InternalError\"}", "only a defect answers a read so"),
    ("sg_api_requests_total{class=\"read\",code=\"ServiceUnavailable\"}", "the daemon ends then, and is asked no more"),
    (
        "sg_api_requests_total{class=\"write\",code=\"ServiceUnavailable\"}",
        "the daemon ends then, and is asked no more",
    ),
];

fn at(samples: &Samples, key: &str) -> f64 {
    samples.get(key).copied().unwrap_or(0.0)
}

fn run(daemon: &Daemon<'_>, program: &str, arguments: &[&str]) -> String {
    let (done, text) = daemon.command(Path::new(program), arguments).unwrap();
    assert!(done, "{program}: {text}");
    text
}

/// A program of Debian's `prometheus`, unpacked by `cargo xtask test` or installed.
pub fn tool(name: &str) -> PathBuf {
    let unpacked = std::env::var_os("SG_PROMETHEUS").map(|dir| Path::new(&dir).join("usr/bin").join(name));
    let installed = || Path::new("/usr/bin").join(name);
    let found = unpacked.into_iter().chain([installed()]).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: `cargo xtask test` unpacks it; SG_PROMETHEUS says where"))
}

/// What a tool says of its standard input.
fn check(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(tool("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A daemon of an instance, with its API and its metrics.
pub fn daemon(world: &World) -> Daemon<'_> {
    let daemon = Daemon::new(&world.instance, bin()).unwrap();
    for line in ["api.listen = \"127.0.0.1:8080\"", "metrics.listen = \"127.0.0.1:19100\"", "metrics.rules = 2"] {
        daemon.configure(line).unwrap();
    }
    daemon
}

pub fn policy(world: &World, more: &str) -> String {
    let mut text = String::from("security_groups:\n- security_group_name: g\n  permissions:\n");
    for port in [80, 81, 82] {
        text += &format!(
            "  - {{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}\n"
        );
    }
    format!("{text}{}{more}", world.interface("g"))
}

/// Bounds a resource of the daemon; `None` lifts the bound.
fn limit(daemon: &Daemon<'_>, resource: libc::__rlimit_resource_t, most: Option<u64>) {
    let pid = daemon.pid().unwrap() as i32;
    let mut was = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a limit of our own to write, none to read.
    assert_eq!(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut was) }, 0);
    let new = libc::rlimit { rlim_cur: most.unwrap_or(was.rlim_max), ..was };
    // SAFETY: a limit of our own to read, none to write.
    assert_eq!(unsafe { libc::prlimit(pid, resource, &raw const new, std::ptr::null_mut()) }, 0);
}

/// Bytes of the daemon's address space.
fn size(daemon: &Daemon<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let size = status.lines().find_map(|l| l.strip_prefix("VmSize:")).unwrap().trim().trim_end_matches(" kB");
    size.parse::<u64>().unwrap() * 1024
}

/// What is scraped while the daemon can open nothing.
fn without_files(daemon: &Daemon<'_>) -> Samples {
    let answer = daemon
        .enter(|| {
            let mut stream = TcpStream::connect(AT)?;
            // Until it is accepted; and then until the hooks have been looked at.
            std::thread::sleep(Duration::from_millis(500));
            limit(daemon, libc::RLIMIT_NOFILE, Some(3));
            std::thread::sleep(Duration::from_secs(2));
            write!(stream, "GET /metrics HTTP/1.1\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .unwrap();
    limit(daemon, libc::RLIMIT_NOFILE, None);
    samples(answer.split_once("\r\n\r\n").unwrap().1)
}

#[test]
fn every_metric_moves_by_what_it_is_about() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostXdp);
    world.instance.tcp_server(80).unwrap();
    let net = &world.instance;
    let mut daemon = daemon(&world);
    daemon.configure("guest_observe = 120").unwrap();
    let log = daemon.dir().join("state/flows.jsonl");
    daemon.configure(&format!("flow_log.file = {log:?}")).unwrap();
    let mut seen = Watched::default();
    // Disks of their own, which can be full one without the other.
    let state = daemon.dir().join("state").display().to_string();
    run(&daemon, "mkdir", &[&state]);
    run(&daemon, "mount", &["-t", "tmpfs", "-o", "size=8m", "none", &state]);
    full::place(&daemon);
    // Where only the daemon sees it, too.
    let audit = daemon.dir().join("audit/audit.jsonl").display().to_string();
    run(&daemon, "ln", &["-s", &audit, &format!("{state}/audit.jsonl")]);
    // One that was up before: it observes at first.
    net.ip("link add m0 type veth peer name n0").unwrap();
    net.ip("link set m0 up").unwrap();
    daemon.start().unwrap();
    seen.until(&daemon, "nothing is protected", |s| at(s, "sg_interfaces{state=\"protected\"}") == 0.0);
    let build =
        format!("sg_build_info{{abi=\"{}\",version=\"{}\"}}", sg_common::ABI_VERSION, env!("CARGO_PKG_VERSION"));
    assert_eq!(at(&seen.0[0], &build), 1.0, "{:?}", seen.0[0]);

    // Interfaces in every state, packets, rules, flows, changes by the socket.
    net.ip("link add br0 type bridge").unwrap();
    net.ip("link add p0 type veth peer name q0").unwrap();
    net.ip("link set p0 master br0").unwrap();
    let more = "- {device: m0, side: guest, security_group_ids: [g]}\n- {device: p0, side: host, security_group_ids: [g]}\n\
                - {device: late0, side: host, security_group_ids: [g]}\n";
    let whole = policy(&world, more);
    daemon.apply(&whole, &[]).unwrap();
    let _open = world.client.connect("10.0.0.10:80".parse().unwrap()).unwrap();
    assert!(!world.client.tcp("10.0.0.10:99".parse().unwrap()).unwrap());
    seen.until(&daemon, "interfaces in every state, a flow, packets, rules", |s| {
        ["protected", "observing", "missing", "refused"]
            .iter()
            .all(|st| at(s, &format!("sg_interfaces{{state=\"{st}\"}}")) == 1.0)
            && at(s, "sg_flows{family=\"ipv4\"}") == 1.0
            && at(s, "sg_interface_flows{family=\"ipv4\",interface=\"eth0\"}") == 1.0
            && at(s, "sg_packets_total{direction=\"ingress\",interface=\"eth0\",reason=\"default\",verdict=\"drop\"}")
                > 0.0
            && at(s, "sg_rules_left_out") > 0.0
            && at(s, "sg_changes_total{result=\"made\",transport=\"socket\"}") > 0.0
    });
    let shown = daemon.interface("eth0").unwrap();
    let dropped = |s: &Samples| {
        let of = |k: &str| k.starts_with("sg_packets_total{") && k.contains("\"eth0\"") && k.contains("\"drop\"");
        s.iter().filter(|(k, _)| of(k)).map(|(_, v)| *v).sum::<f64>() as u64
    };
    assert_eq!(dropped(&seen.0[seen.0.len() - 1]), shown.status.dropped, "as `sgctl interface show` says");
    let rules = |s: &Samples| s.keys().filter(|k| k.starts_with("sg_rule_packets_total{")).count();
    assert_eq!(rules(&seen.0[seen.0.len() - 1]), 2, "as many as metrics.rules says");

    // Samples, denied packets in the log, and tables that somebody else has written to.
    seen.until(&daemon, "samples and lines", |s| {
        at(s, "sg_samples_total{result=\"same\"}") > 0.0 && at(s, "sg_flow_log_lines_total{result=\"written\"}") > 0.0
    });
    alter(&daemon, |_, there| Generation { udp: 7, ..there });
    seen.until(&daemon, "it was put right", |s| at(s, "sg_table_differences_total") > 0.0);
    assert_eq!(at(&seen.0[seen.0.len() - 1], "sg_samples_total{result=\"mismatch\"}"), 0.0);

    // Changes by the network, and by the API; requests that are none.
    net.ip("link add late0 type veth peer name late1").unwrap();
    seen.until(&daemon, "it followed", |s| at(s, "sg_changes_total{result=\"made\",transport=\"network\"}") > 0.0);
    let key = key(&daemon, &[]);
    let create = |name: &str| call(&daemon, &key, &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", name)]);
    assert_eq!(create("web").0, 200);
    assert_eq!(create("http://x").0, 400);
    let forged = signed(&(key.0.clone(), "x".into()), &[("Action", "DescribeRegions")]);
    assert_eq!(parsed(&raw(&daemon, &post(&forged))).0, 400);
    assert_eq!(call(&daemon, &key, &[("Action", "DescribeRegions")]).0, 200);
    seen.until(&daemon, "calls are counted", |s| {
        at(s, "sg_api_requests_total{class=\"write\",code=\"ok\"}") == 1.0
            && at(s, "sg_api_requests_total{class=\"read\",code=\"ok\"}") == 1.0
            && at(s, "sg_api_requests_total{class=\"write\",code=\"InvalidSecurityGroupName.Malformed\"}") == 1.0
            && at(s, "sg_api_refused_requests_total{reason=\"SignatureDoesNotMatch\"}") == 1.0
            && at(s, "sg_changes_total{result=\"refused\",transport=\"api\"}") == 1.0
    });

    // Disks that are full: of the store and the log of flows, and of the audit log.
    run(&daemon, "sh", &["-c", &format!("head -c 16M /dev/zero > {state}/filler; true")]);
    let grown = whole.replace("82/82", "83/83");
    let refused = daemon.apply(&grown, &["--yes"]).unwrap_err().to_string();
    assert!(refused.contains("No space left"), "{refused}");
    seen.until(&daemon, "it could not be stored", |s| {
        at(s, "sg_store_commit_failures_total") > 0.0 && at(s, "sg_apply_failures_total") > 0.0
    });
    let socket = world.client.run(|| Ok(UdpSocket::bind("192.0.2.10:0")?)).unwrap();
    seen.until(&daemon, "denied packets could not be written down", |s| {
        // More than the log's last page has room for.
        for _ in 0..100 {
            // A full queue is no verdict.
            let _ = socket.send_to(b"x", "10.0.0.10:99");
        }
        at(s, "sg_flow_log_lines_total{result=\"lost\"}") > 0.0
    });
    run(&daemon, "rm", &[&format!("{state}/filler")]);
    full::fill(&daemon);
    full::until_refused(|| create("more"));
    seen.until(&daemon, "the audit log is full", |s| {
        at(s, "sg_audit_failing") == 1.0 && at(s, "sg_audit_write_failures_total") > 0.0
    });
    full::clear(&daemon);
    assert_eq!(create("again").0, 200);
    seen.until(&daemon, "the audit log can be written", |s| at(s, "sg_audit_failing") == 0.0);

    // Programs of others: passed, and insisting.
    let mut other = Foreign::tcx(net, "eth0", false, NEXT, true);
    seen.until(&daemon, "it was passed", |s| at(s, "sg_foreign_programs_passed_total") == 1.0);
    other.again(net, "eth0", false);
    seen.until(&daemon, "it insists", |s| at(s, "sg_foreign_programs_before") == 1.0);
    drop(other);
    // Ours taken off: put back; and not to be seen, which may be the same.
    take_off(standing(net, "eth0", false)[0].link);
    seen.until(&daemon, "put back", |s| at(s, "sg_links_reattached_total") == 1.0);
    seen.0.push(without_files(&daemon));
    assert!(at(&seen.0[seen.0.len() - 1], "sg_interfaces_detached") > 0.0, "{:?}", seen.0.last());
    seen.until(&daemon, "they are seen again", |s| at(s, "sg_interfaces_detached") == 0.0);

    // A file system for pins that goes away, and comes again.
    let bpf = daemon.dir().join("bpf").display().to_string();
    run(&daemon, "umount", &[&bpf]);
    seen.until(&daemon, "nowhere to pin", |s| at(s, "sg_pins_gone") == 1.0);
    run(&daemon, "mount", &["-t", "bpf", "none", &bpf]);
    seen.until(&daemon, "pinned again", |s| at(s, "sg_pins_gone") == 0.0 && at(s, "sg_pins_repaired_total") > 0.0);

    // Too little memory to map what is to be read.
    limit(&daemon, libc::RLIMIT_AS, Some(size(&daemon) + (64 << 10)));
    eventually("it cannot read", || daemon.log().contains("cannot count flows"));
    limit(&daemon, libc::RLIMIT_AS, None);
    seen.until(&daemon, "that is counted", |s| at(s, "sg_read_errors_total") > 0.0);

    // Who says nothing is cut.
    let begun = Instant::now();
    assert_eq!(say(&daemon, b"GET /metrics HTTP/1.1\r\n"), "");
    assert!((4..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    seen.until(&daemon, "it is counted", |s| at(s, "sg_scrapes_cut_total") == 1.0);

    // Another size of the tables, and shares that are used up.
    daemon.stop(libc::SIGTERM).unwrap();
    for line in ["max_flows = 2048", "conntrack.flows_per_interface = 20", "conntrack.flows_per_remote = 18"] {
        daemon.configure(line).unwrap();
    }
    daemon.start().unwrap();
    let _more: Vec<_> = (0..25).map(|_| world.client.connect("10.0.0.10:80".parse().unwrap()).unwrap()).collect();
    seen.until(&daemon, "short of room", |s| {
        at(s, "sg_flows_short") == 1.0
            && at(s, "sg_flows_capacity{family=\"ipv4\"}") == 2048.0
            && at(s, "sg_interface_flows_limit") == 20.0
    });

    // None is left that never moved, and none is there that the table does not have.
    let constant = [names::BUILD.name];
    let still: Vec<&str> =
        names::ALL.iter().map(|d| d.name).filter(|n| !constant.contains(n) && !seen.moved(n)).collect();
    assert!(still.is_empty(), "never moved: {still:?}");
    // Nor a series that is there from the start.
    let mut never = seen.never_rose();
    for (series, why) in NOT_HERE {
        assert!(seen.0[0].contains_key(*series), "{series} ({why}) is not there from the start");
        never.remove(series);
    }
    assert!(never.is_empty(), "never rose: {never:?}");
    let text = text(&daemon);
    let kinds: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let kind = |kind: Kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    // No request was refused since the restart.
    let known: BTreeSet<(&str, &str)> =
        names::ALL.iter().map(|d| (d.name, kind(d.kind))).filter(|(name, _)| *name != names::REFUSED.name).collect();
    assert_eq!(kinds, known);
    let (good, said) = check(&["check", "metrics"], &text);
    assert!(good && said.is_empty(), "{said}");
}

#[test]
fn only_scrapers_of_this_machine_are_answered_and_none_is_a_burden() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut daemon = daemon(&world);
    for (address, want) in [("0.0.0.0:19100", "not on the loopback device"), ("here", "no address")] {
        daemon.configure(&format!("metrics.listen = \"{address}\"")).unwrap();
        let (done, said) = daemon.sgd(&["check"]).unwrap();
        assert!(!done && said.contains(want), "{said}");
    }
    daemon.configure(&format!("metrics.listen = \"{AT}\"")).unwrap();
    daemon.start().unwrap();
    assert!(world.client.connect("10.0.0.10:19100".parse().unwrap()).is_err(), "nobody listens there");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n".into(), "405"),
        ("\0\u{1}\r\n\r\n".into(), "400"),
        (format!("GET /metrics HTTP/1.1\r\nA: {}", "x".repeat(100_000)), "400"),
        (format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000)), "400"),
    ] {
        let said = say(&daemon, request.as_bytes());
        // What was not read to its end may be answered by a reset.
        assert!(said.is_empty() || said.starts_with(&format!("HTTP/1.1 {status} ")), "{:.40}: {said}", request);
    }
    // Twenty that say nothing: the writer does not know of them, and after a while nobody has to.
    let begun = Instant::now();
    let silent: Vec<TcpStream> =
        daemon.enter(|| Ok((0..20).map(|_| TcpStream::connect(AT).unwrap()).collect())).unwrap();
    daemon.apply(&policy(&world, ""), &[]).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let cut = samples(&text(&daemon))["sg_scrapes_cut_total"];
    assert!(cut >= 8.0 && begun.elapsed() < Duration::from_secs(19), "{cut} {:?}", begun.elapsed());
    drop(silent);
    // Many at once get one text.
    let texts: BTreeSet<String> = std::thread::scope(|scope| {
        let ask = || say(&daemon, b"GET /metrics HTTP/1.1\r\n\r\n");
        let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(texts.len() <= 2, "{} texts within a second", texts.len());
}
