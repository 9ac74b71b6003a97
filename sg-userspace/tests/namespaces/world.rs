//! A client and a protected instance, and the daemon where it belongs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use sg_userspace::{
    daemon::protocol::InterfaceView,
    testbed::{Daemon, Net},
};

pub const BIN: &str = env!("CARGO_BIN_EXE_sgd");

/// Directory of `sgd` and `sgctl`: where cargo built them, or where `SG_BIN`
/// says, in a machine of its own.
pub fn bin() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os("SG_BIN") {
        Some(dir) => dir.into(),
        None => Path::new(BIN).parent().unwrap().into(),
    })
}

/// Whether these tests can run: as root, with the kernel program. If not they
/// are skipped, unless `SG_TEST_REQUIRE` says that this is a failure.
pub fn can_run() -> bool {
    // SAFETY: no memory is passed.
    let root = unsafe { libc::geteuid() } == 0;
    let object = sg_userspace::dataplane::object::bytes().is_ok();
    if root && object {
        return true;
    }
    let why = if root { "no kernel program is built in" } else { "not root" };
    assert!(std::env::var_os("SG_TEST_REQUIRE").is_none(), "{why}");
    eprintln!("skipped: {why}");
    false
}

/// Whether a program is here that a test works with. If not that test is skipped, unless
/// `SG_TEST_REQUIRE` says that this is a failure. The machines of `cargo xtask vm` have few programs,
/// and get none.
pub fn has(program: &str, package: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    let why = format!("{program} is not here: install {package}");
    let required = std::env::var_os("SG_TEST_REQUIRE").is_some() && std::env::var_os("SG_VM").is_none();
    assert!(!required, "{why}");
    eprintln!("skipped: {why}");
    false
}

/// Where the daemon's programs sit at TC on this kernel: TCX is there from 6.6 on.
pub fn tc_place() -> &'static str {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) >= (Some(6), Some(6)) { "tcx" } else { "clsact" }
}

/// Waits until something is so, up to ten seconds.
#[track_caller]
pub fn eventually(what: &str, so: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, so);
}

/// Waits until something is so, for as long as is said.
#[track_caller]
pub fn within(patience: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never so: {what}");
}

pub fn to(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How the instance is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The daemon in the instance, TC.
    HostTc,
    /// The daemon in the instance, at a clsact qdisc.
    HostClsact,
    /// The daemon in the instance, XDP inbound.
    HostXdp,
    /// The daemon on the machine that hosts it.
    Guest,
}

pub const WAYS: [Way; 4] = [Way::HostTc, Way::HostClsact, Way::HostXdp, Way::Guest];

/// `client` — `router` — `instance`; the router is the host of a guest.
pub struct World {
    pub client: Net,
    pub router: Net,
    pub instance: Net,
    pub way: Way,
}

impl World {
    pub fn new(way: Way) -> Self {
        let (client, router, instance) =
            (Net::new("client").unwrap(), Net::new("router").unwrap(), Net::new("instance").unwrap());
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.sysctl(key, "1").unwrap();
        }
        for (device, net, four, six) in
            [("wan", &client, "192.0.2", "2001:db8:99:"), ("tap0", &instance, "10.0.0", "2001:db8:1:")]
        {
            router.veth(device, net, "eth0").unwrap();
            router.address(device, &[&format!("{four}.1/24"), &format!("{six}:1/64")]).unwrap();
            net.address("eth0", &[&format!("{four}.10/24"), &format!("{six}:10/64")]).unwrap();
            net.ip(&format!("route add default via {four}.1")).unwrap();
            net.ip(&format!("-6 route add default via {six}:1")).unwrap();
        }
        // Other sources, for rules that tell them apart.
        client.address("eth0", &["192.0.2.77/24", "2001:db8:99::77/64"]).unwrap();
        Self { client, router, instance, way }
    }

    /// The device that carries the protection.
    pub fn device(&self) -> &'static str {
        if self.way == Way::Guest { "tap0" } else { "eth0" }
    }

    /// The daemon, running.
    pub fn daemon(&self) -> Daemon<'_> {
        let net = if self.way == Way::Guest { &self.router } else { &self.instance };
        let mut daemon = Daemon::new(net, bin()).unwrap();
        if self.way == Way::HostClsact {
            daemon.configure("tcx = false").unwrap();
        }
        daemon.start().unwrap();
        daemon
    }

    /// The interface's lines in a document.
    pub fn interface(&self, groups: &str) -> String {
        let hook = match self.way {
            Way::HostTc | Way::HostClsact => "side: host, hook: tc",
            Way::HostXdp => "side: host, hook: xdp",
            Way::Guest => "side: guest, private_ip_addresses: [10.0.0.10, '2001:db8:1::10']",
        };
        format!("network_interfaces:\n- {{device: {}, {hook}, security_group_ids: [{groups}]}}\n", self.device())
    }
}

/// A connection from a chosen source.
pub fn from(net: &Net, source: &str, target: &str) -> bool {
    let (source, target) = (to(source), to(target));
    net.run(|| Ok(bound(source, target).is_some_and(|mut s| sg_userspace::testbed::echoes(&mut s, b"x")))).unwrap()
}

fn bound(source: SocketAddr, target: SocketAddr) -> Option<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(target), socket2::Type::STREAM, None).ok()?;
    socket.set_reuse_address(true).ok()?;
    socket.bind(&source.into()).ok()?;
    socket.connect_timeout(&target.into(), sg_userspace::testbed::PATIENCE).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(sg_userspace::testbed::PATIENCE)).ok()?;
    Some(stream)
}

/// Packets under a reason.
pub fn reason(view: &InterfaceView, direction: &str, reason: &str) -> u64 {
    view.reasons.iter().filter(|r| r.direction == direction && r.reason == reason).map(|r| r.packets).sum()
}

/// Packets that a line of the merged view decided.
pub fn rule(view: &InterfaceView, direction: &str, name: &str) -> u64 {
    view.rules.iter().filter(|r| r.direction == direction && r.rule == name).map(|r| r.packets).sum()
}

/// A policy whose only group `g` lets TCP ports in, in this order.
pub fn lets_in(world: &World, ports: &[u16]) -> String {
    let rule =
        |p: &u16| format!("{{direction: ingress, ip_protocol: tcp, port_range: {p}/{p}, source_cidr_ip: 0.0.0.0/0}}");
    let rules: Vec<String> = ports.iter().map(rule).collect();
    format!(
        "security_groups:\n- {{security_group_name: g, permissions: [{}]}}\n{}",
        rules.join(", "),
        world.interface("g")
    )
}

/// Where a daemon shows its metrics, in the instance.
pub const METRICS: &str = "127.0.0.1:19100";

/// A metric's value, of a daemon that listens at [`METRICS`].
#[track_caller]
pub fn metric(daemon: &Daemon<'_>, name: &str) -> u64 {
    let text = daemon
        .enter(|| {
            let mut answer = String::new();
            let mut stream = TcpStream::connect(METRICS)?;
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| panic!("{name}"));
    line.parse::<f64>().unwrap() as u64
}

/// What `sgctl` says that does as it is told.
#[track_caller]
pub fn done(daemon: &Daemon<'_>, arguments: &[&str]) -> String {
    let (done, text) = daemon.sgctl(arguments).unwrap();
    assert!(done, "{arguments:?}: {text}");
    text
}

/// What it says that refuses.
#[track_caller]
pub fn refused(daemon: &Daemon<'_>, arguments: &[&str]) -> String {
    let (done, text) = daemon.sgctl(arguments).unwrap();
    assert!(!done, "{arguments:?}: {text}");
    text
}

/// Whether anything comes back of what is sent, or was.
pub fn answers(session: &mut TcpStream) -> bool {
    session.write_all(b"x").is_ok() && session.read(&mut [0; 64]).is_ok_and(|n| n > 0)
}
