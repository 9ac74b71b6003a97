//! The demo: five namespaces, the real daemon, real traffic, and a table of
//! what became of it, read from the kernel's counters.

use std::{net::SocketAddr, path::Path, process::ExitCode, thread, time::Duration};

use anyhow::{Context, Result};
use sg_userspace::{
    ctl::output::table,
    daemon::protocol::InterfaceView,
    testbed::{Daemon, Net, echoes},
};

/// The document, as it stands in the repository.
const DOCUMENT: &str = include_str!("../../../examples/demo.yaml");

/// Five places: the host with its two guests, and the two outside.
struct World {
    host: Net,
    internet: Net,
    office: Net,
    web: Net,
    database: Net,
}

impl World {
    fn new() -> Result<Self> {
        let world = Self {
            host: Net::new("host")?,
            internet: Net::new("internet")?,
            office: Net::new("office")?,
            web: Net::new("web")?,
            database: Net::new("database")?,
        };
        let host = &world.host;
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            host.sysctl(key, "1")?;
        }
        for (device, net, four, six) in [
            ("inet", &world.internet, "192.0.2", "2001:db8:99:"),
            ("office", &world.office, "203.0.113", "2001:db8:113:"),
            ("sg-web", &world.web, "10.0.1", "2001:db8:1:"),
            ("sg-db", &world.database, "10.0.2", "2001:db8:2:"),
        ] {
            host.veth(device, net, "eth0")?;
            host.address(device, &[&format!("{four}.1/24"), &format!("{six}:1/64")])?;
            net.address("eth0", &[&format!("{four}.10/24"), &format!("{six}:10/64")])?;
            net.ip(&format!("route add default via {four}.1"))?;
            net.ip(&format!("-6 route add default via {six}:1"))?;
        }
        world.internet.address("eth0", &["198.51.100.66/32"])?;
        host.ip("route add 198.51.100.66 dev inet")?;
        for port in [22, 443, 8080, 8443] {
            world.web.tcp_server(port)?;
        }
        for port in [5432, 3306] {
            world.database.tcp_server(port)?;
        }
        world.database.udp_server(([10, 0, 2, 10], 5353).into())?;
        for port in [25, 80, 465] {
            world.internet.tcp_server(port)?;
        }
        Ok(world)
    }
}

/// How something is tried.
#[derive(Clone, Copy)]
enum Probe {
    Tcp(&'static str),
    Udp(&'static str),
    Ping(&'static str),
}

impl Probe {
    fn run(self, from: &Net) -> Result<bool> {
        let socket = |text: &str| text.parse::<SocketAddr>().context("an address of the demo");
        match self {
            Self::Tcp(to) => from.tcp(socket(to)?),
            Self::Udp(to) => from.udp(socket(to)?, 100),
            Self::Ping(to) => from.ping(to.parse()?),
        }
    }
    fn text(self) -> String {
        match self {
            Self::Tcp(to) => format!("tcp {to}"),
            Self::Udp(to) => format!("udp {to}"),
            Self::Ping(to) => format!("ping {to}"),
        }
    }
}

/// One line of the table: who, whom, how, on which device and in which
/// direction it is decided, whether it passes, and by what.
struct Row(fn(&World) -> &Net, &'static str, Probe, &'static str, &'static str, bool, &'static str);

const ROWS: &[Row] = &[
    Row(|w| &w.internet, "web", Probe::Tcp("10.0.1.10:443"), "sg-web", "ingress", true, "web[0]"),
    Row(|w| &w.internet, "web", Probe::Tcp("[2001:db8:1::10]:443"), "sg-web", "ingress", true, "web[1]"),
    Row(|w| &w.internet, "web", Probe::Tcp("10.0.1.10:22"), "sg-web", "ingress", false, "(default)"),
    Row(|w| &w.internet, "web", Probe::Tcp("10.0.1.10:8080"), "sg-web", "ingress", false, "(default)"),
    Row(|w| &w.internet, "web", Probe::Ping("10.0.1.10"), "sg-web", "ingress", false, "(default)"),
    Row(|w| &w.office, "web", Probe::Tcp("10.0.1.10:22"), "sg-web", "ingress", true, "web[2]"),
    Row(|w| &w.office, "web", Probe::Tcp("[2001:db8:1::10]:22"), "sg-web", "ingress", true, "web[3]"),
    Row(|w| &w.office, "web", Probe::Ping("10.0.1.10"), "sg-web", "ingress", true, "web[4]"),
    Row(|w| &w.internet, "database", Probe::Tcp("10.0.2.10:5432"), "sg-db", "ingress", false, "(default)"),
    Row(|w| &w.office, "database", Probe::Tcp("[2001:db8:2::10]:5432"), "sg-db", "ingress", false, "(default)"),
    Row(|w| &w.web, "database", Probe::Tcp("10.0.2.10:5432"), "sg-db", "ingress", true, "database[0]"),
    Row(|w| &w.web, "database", Probe::Tcp("[2001:db8:2::10]:5432"), "sg-db", "ingress", true, "database[0]"),
    Row(|w| &w.web, "database", Probe::Udp("10.0.2.10:5353"), "sg-db", "ingress", true, "database[1]"),
    Row(|w| &w.web, "database", Probe::Tcp("10.0.2.10:3306"), "sg-db", "ingress", false, "(default)"),
    Row(|w| &w.web, "internet", Probe::Tcp("192.0.2.10:80"), "sg-web", "egress", true, "(default)"),
    Row(|w| &w.web, "internet", Probe::Ping("2001:db8:99::10"), "sg-web", "egress", true, "(default)"),
    Row(|w| &w.web, "bad address", Probe::Tcp("198.51.100.66:80"), "sg-web", "egress", false, "web[5]"),
    Row(|w| &w.web, "internet", Probe::Tcp("192.0.2.10:25"), "sg-web", "egress", false, "(smtp)"),
    Row(|w| &w.web, "internet", Probe::Tcp("192.0.2.10:465"), "sg-web", "egress", true, "(default)"),
];

/// What the kernel counted between two looks, essentials aside.
fn decided(before: &InterfaceView, after: &InterfaceView, direction: &str) -> Vec<String> {
    let more = before.rules.iter().zip(&after.rules).filter(|(b, a)| a.packets > b.packets && a.direction == direction);
    more.map(|(_, a)| a.rule.clone()).filter(|rule| rule != "(essential)").collect()
}

fn demo() -> Result<bool> {
    let bin = std::env::current_exe()?;
    let bin = bin.parent().unwrap_or(Path::new("."));
    println!(
        "Namespaces: an internet client, an office client, a web instance, a database instance, and the host between them."
    );
    let world = World::new()?;
    let mut daemon = Daemon::new(&world.host, bin)?;
    daemon.start()?;
    println!("sgd runs. `sgctl apply -f examples/demo.yaml` says:\n");
    println!("{}", daemon.apply(DOCUMENT, &[])?);
    let mut good = true;
    let mut rows = table(&["who", "whom", "what", "expected", "observed", "decided by (kernel counter)", ""]);
    for Row(from, whom, probe, device, direction, passes, by) in ROWS {
        let from = from(&world);
        let before = daemon.interface(device)?;
        let observed = probe.run(from)?;
        let deciders = decided(&before, &daemon.interface(device)?, direction);
        let as_expected = observed == *passes && deciders == [*by];
        good &= as_expected;
        let word = |passes: bool| if passes { "passes" } else { "dropped" };
        rows.add_row([
            from.name.clone(),
            (*whom).to_owned(),
            probe.text(),
            format!("{}, {by}", word(*passes)),
            word(observed).to_owned(),
            format!("{device} {direction}: {}", deciders.join(", ")),
            if as_expected { "ok" } else { "WRONG" }.to_owned(),
        ]);
    }
    println!("{rows}\n");
    good &= live_change(&world, &daemon)?;
    window(&world, &daemon)?;
    Ok(good)
}

/// Takes a rule away under a live flow, and adds another.
fn live_change(world: &World, daemon: &Daemon<'_>) -> Result<bool> {
    println!("A rule changes while a connection is open: 443 closes, 8443 opens.");
    let mut good = true;
    let mut say = |what: &str, ok: bool| {
        println!("  {:<62} {}", what, if ok { "ok" } else { "WRONG" });
        good &= ok;
    };
    let mut live = world.internet.connect("10.0.1.10:443".parse()?)?;
    say("a connection to 443 is open and echoes", echoes(&mut live, b"before"));
    say("8443 is closed", !world.internet.tcp("10.0.1.10:8443".parse()?)?);
    let other = DOCUMENT.replace("443/443", "8443/8443");
    daemon.apply(&other, &["--yes"])?;
    say("after the change the live connection is cut", !echoes(&mut live, b"after"));
    let view = daemon.interface("sg-web")?;
    let cut: u64 = view.reasons.iter().filter(|r| r.reason == "cut").map(|r| r.packets).sum();
    say(&format!("the kernel counted {cut} packets of it as cut"), cut > 0);
    thread::sleep(Duration::from_millis(100));
    say("it stays cut though its sender tries again", !echoes(&mut live, b"again"));
    say("a new connection to 8443 is admitted", world.internet.tcp("10.0.1.10:8443".parse()?)?);
    say("a new connection to 443 is not", !world.internet.tcp("10.0.1.10:443".parse()?)?);
    Ok(good)
}

/// Devices that appear one after the other, and how long each was open: from
/// the kernel's word of it until the daemon had bound it.
fn window(world: &World, daemon: &Daemon<'_>) -> Result<()> {
    const ROUNDS: usize = 10;
    let late = "document: late\nsecurity_groups: [{security_group_name: late}]\n\
                network_interfaces: [{device: 'late*', side: guest, security_group_ids: [late]}]\n";
    daemon.apply(late, &[])?;
    for i in 0..ROUNDS {
        world.host.ip(&format!("link add late{i} type veth peer name other{i}"))?;
        while daemon.interface(&format!("late{i}")).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let log = std::fs::read_to_string(daemon.dir().join("sgd.log"))?;
    let times = log.lines().filter_map(|l| l.strip_suffix(" us")?.rsplit(' ').next()?.parse::<f64>().ok());
    let mut times: Vec<f64> = times.map(|us| us / 1000.0).collect();
    times.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!(
            "\nA device that appears is open until the daemon has bound it: {ROUNDS} devices, median {median:.0} ms, worst {worst:.0} ms."
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    match demo() {
        Ok(true) => {
            println!(
                "\nEverything was as expected, and nothing is left behind. Next:\n  \
                 cargo xtask build --release          sgd and sgctl, in target/release\n  \
                 sgctl explain -f examples/demo.yaml sg-web ingress tcp 10.0.1.10:22 203.0.113.9:40000\n  \
                 README.md, \"On a real interface\"     the same on this machine, and the way back"
            );
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("\nsomething was not as expected: see the rows marked WRONG");
            ExitCode::from(1)
        }
        Err(e) => {
            eprintln!("the demo could not run: {e:#}");
            ExitCode::from(1)
        }
    }
}
