//! Devices that carry live connections when they are first protected: nothing
//! is cut that the policy admits, whoever speaks first afterwards.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use sg_userspace::{daemon::protocol::InterfaceView, testbed::Daemon};

use super::world::*;
use crate::support::scale;

/// Both ends of a connection: the client's and the instance's.
type Pair = (TcpStream, TcpStream);

const CLIENT: [&str; 2] = ["192.0.2.10", "[2001:db8:99::10]"];
const INSTANCE: [&str; 2] = ["10.0.0.10", "[2001:db8:1::10]"];
/// Ports that the policy admits: at the instance, at the client.
const SERVED: u16 = 5432;
const ASKED: u16 = 443;
/// Ports that it does not.
const CLOSED: u16 = 5433;
const FORBIDDEN: u16 = 444;

/// An enterprise group: nothing goes out unless a rule or a flow admits it.
fn policy(world: &World) -> String {
    let rule = |direction: &str, protocol: &str, port: u16, v4: &str, v6: &str| {
        let head = format!("direction: {direction}, ip_protocol: {protocol}, port_range: {port}/{port}");
        format!("  - {{{head}, {v4}: 0.0.0.0/0}}\n  - {{{head}, {v6}: '::/0'}}\n")
    };
    let mut text =
        String::from("security_groups:\n- security_group_name: g\n  security_group_type: enterprise\n  permissions:\n");
    for protocol in ["tcp", "udp"] {
        text += &rule("ingress", protocol, SERVED, "source_cidr_ip", "ipv6_source_cidr_ip");
        text += &rule("egress", protocol, ASKED, "dest_cidr_ip", "ipv6_dest_cidr_ip");
    }
    text + &world.interface("g")
}

/// What lives before anything is protected.
struct Before {
    /// Begun by the client.
    passive: Vec<Pair>,
    /// Begun by the instance.
    active: Vec<Pair>,
    /// Of both kinds, that the policy denies.
    denied: Vec<Pair>,
    /// Connected on both ends, begun by the instance.
    datagrams: Vec<(UdpSocket, UdpSocket)>,
    listeners: Vec<TcpListener>,
}

/// How long an echo may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lost ones after which it is no use to go on.
const ENOUGH: usize = 5;

/// As many pairs as are wanted, if the process may have so many descriptors.
fn pairs(wanted: u64) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a writable struct; then a readable one.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    // Two of the tests have many at once.
    wanted.min(limit.rlim_cur / 10) as usize
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Port and whether the client begins: twice what is admitted, twice what is not.
const KINDS: [(u16, bool); 4] = [(SERVED, true), (ASKED, false), (CLOSED, true), (FORBIDDEN, false)];

/// Opens connections of a kind.
fn open(world: &World, listeners: &[TcpListener], kind: usize, family: usize, count: usize) -> Vec<Pair> {
    let (port, inbound) = KINDS[kind];
    let (from, address) = if inbound { (&world.client, INSTANCE[family]) } else { (&world.instance, CLIENT[family]) };
    let to = to(&format!("{address}:{port}"));
    let one = |_| -> anyhow::Result<Pair> {
        let opened = TcpStream::connect(to)?;
        let (accepted, _) = listeners[kind].accept()?;
        let (opened, accepted) = (patient(opened), patient(accepted));
        Ok(if inbound { (opened, accepted) } else { (accepted, opened) })
    };
    from.run(|| (0..count).map(one).collect()).unwrap()
}

/// 24 connections that the policy denies.
fn denied(world: &World, listeners: &[TcpListener]) -> Vec<Pair> {
    let kinds = [(2, 0), (2, 1), (3, 0), (3, 1)];
    kinds.into_iter().flat_map(|(kind, family)| open(world, listeners, kind, family, 6)).collect()
}

impl Before {
    fn new(world: &World, pairs: usize) -> Self {
        let mut before = Self { passive: vec![], active: vec![], denied: vec![], datagrams: vec![], listeners: vec![] };
        for (port, inbound) in KINDS {
            let net = if inbound { &world.instance } else { &world.client };
            // IPv4 connections of such a listener have IPv6 sockets.
            before.listeners.push(net.run(|| Ok(TcpListener::bind(("::", port))?)).unwrap());
        }
        before.denied = denied(world, &before.listeners);
        for family in 0..2 {
            before.passive.extend(open(world, &before.listeners, 0, family, pairs / 4));
            before.active.extend(open(world, &before.listeners, 1, family, pairs / 4));
            let bind = |net: &sg_userspace::testbed::Net, at: &str| {
                net.run(|| {
                    let socket = UdpSocket::bind(to(at))?;
                    socket.set_read_timeout(Some(PATIENCE))?;
                    Ok(socket)
                })
                .unwrap()
            };
            let there = bind(&world.client, &format!("{}:{ASKED}", CLIENT[family]));
            let here = bind(&world.instance, &format!("{}:0", INSTANCE[family]));
            here.connect(there.local_addr().unwrap()).unwrap();
            there.connect(here.local_addr().unwrap()).unwrap();
            before.datagrams.push((there, here));
        }
        before
    }

    fn count(&self) -> usize {
        self.passive.len() + self.active.len() + self.datagrams.len()
    }

    /// One echo each way on every one, begun by the client's end or the instance's.
    fn all_live(&mut self, instance_first: bool) -> usize {
        let mut lost = 0;
        for pair in self.passive.iter_mut().chain(&mut self.active) {
            lost += usize::from(!exchange(pair, instance_first));
            if lost == ENOUGH {
                return lost;
            }
        }
        for (there, here) in &self.datagrams {
            let (from, to) = if instance_first { (here, there) } else { (there, here) };
            let lives = from.send(b"ping").is_ok() && to.recv(&mut [0; 8]).is_ok();
            lost += usize::from(!lives);
        }
        lost
    }
}

/// One side speaks, the other answers.
fn exchange((client, instance): &mut Pair, instance_first: bool) -> bool {
    use std::io::{Read, Write};
    let (first, second) = if instance_first { (instance, client) } else { (client, instance) };
    let mut buffer = [0; 4];
    first.write_all(b"ping").is_ok()
        && second.read_exact(&mut buffer).is_ok()
        && second.write_all(b"pong").is_ok()
        && first.read_exact(&mut buffer).is_ok()
}

/// Whether anything gets through in either direction.
fn is_cut((client, instance): &mut Pair) -> bool {
    use std::io::{Read, Write};
    let short = Some(Duration::from_millis(50));
    [
        (client.try_clone().unwrap(), instance.try_clone().unwrap()),
        (instance.try_clone().unwrap(), client.try_clone().unwrap()),
    ]
    .into_iter()
    .all(|(mut from, mut to)| {
        to.set_read_timeout(short).unwrap();
        let _ = from.write_all(b"x");
        to.read(&mut [0; 1]).is_err()
    })
}

/// Runs echoes on some of the connections all the while `f` runs; none may be lost.
fn under_traffic(before: &mut Before, f: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let (mut busy, mut busy_too) =
        (before.passive.split_off(before.passive.len() - 8), before.active.split_off(before.active.len() - 8));
    std::thread::scope(|scope| {
        let (stop, rounds) = (&stop, &rounds);
        let echo = move |pairs: &mut Vec<Pair>, instance_first: bool| {
            while !stop.load(Ordering::Relaxed) {
                if !pairs.iter_mut().all(|pair| exchange(pair, instance_first)) {
                    return false;
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            true
        };
        let (a, b) = (&mut busy, &mut busy_too);
        let one = scope.spawn(move || echo(a, true));
        let two = scope.spawn(move || echo(b, false));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            f();
            let seen = rounds.load(Ordering::Relaxed);
            eventually("echoes go on", || {
                one.is_finished() || two.is_finished() || rounds.load(Ordering::Relaxed) > seen + 4
            });
        }));
        stop.store(true, Ordering::Relaxed);
        let alive = [one.join().unwrap(), two.join().unwrap()];
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert_eq!(alive, [true, true], "a connection that never paused lost an echo");
    });
    before.passive.append(&mut busy);
    before.active.append(&mut busy_too);
    rounds.into_inner()
}

fn planned(daemon: &Daemon<'_>, text: &str) -> String {
    let file = daemon.dir().join("planned.yaml");
    std::fs::write(&file, text).unwrap();
    let (done, said) = daemon.sgctl(&["plan", "-f", file.to_str().unwrap()]).unwrap();
    assert!(done, "{said}");
    said
}

/// Packets that may be dropped beside all that is looked at: the last word of a
/// connection that was made and ended while the world was set up.
const STRAY: u64 = 2;

fn drops(view: &InterfaceView) -> u64 {
    view.status.dropped
}

/// A datagram server is not connected to anybody, so no socket tells of its flows;
/// and what it says while nobody enforces looks as if it had begun them.
#[test]
fn a_server_that_speaks_while_it_is_observed_is_heard_afterwards() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let server = world.instance.run(|| Ok(UdpSocket::bind(to(&format!("{}:{SERVED}", INSTANCE[0])))?)).unwrap();
    let client = world.client.run(|| Ok(UdpSocket::bind(to(&format!("{}:0", CLIENT[0])))?)).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let there = client.local_addr().unwrap();
    let (stop, spoken) = (AtomicBool::new(false), AtomicU64::new(0));
    let daemon = world.daemon();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Once the device is protected, this is denied until the client has asked.
            while !stop.load(Ordering::Relaxed) {
                spoken.fetch_add(u64::from(server.send_to(b"news", there).is_ok()), Ordering::Relaxed);
            }
        });
        eventually("it speaks", || spoken.load(Ordering::Relaxed) > 0);
        let said = daemon.apply(&policy(&world), &[]);
        stop.store(true, Ordering::Relaxed);
        said.unwrap();
    });
    let observed = daemon.interface("eth0").unwrap();
    assert!(reason(&observed, "egress", "observed") > 0, "the moment was missed: {:?}", observed.reasons);
    client.send_to(b"ask", to(&format!("{}:{SERVED}", INSTANCE[0]))).unwrap();
    let heard = server.recv_from(&mut [0; 8]);
    assert!(heard.is_ok(), "{heard:?}: {:?}", daemon.interface("eth0").unwrap().reasons);
}

fn a_host_adopts(way: Way, pairs: usize) {
    let world = World::new(way);
    let mut before = Before::new(&world, pairs);
    let daemon = world.daemon();
    let text = policy(&world);
    let said = planned(&daemon, &text);
    assert!(said.starts_with("24 live flows that the new rules deny:"), "{way:?}: {said}");
    assert!(said.contains("eth0 tcp 192.0.2.10:") && said.contains(&format!("-> 10.0.0.10:{CLOSED}")), "{said}");
    assert!(said.contains("… and 4 more") && said.contains(&format!("{} live flows go on", before.count())), "{said}");
    let mut rounds = 0;
    let begun = std::time::Instant::now();
    let mut said = String::new();
    rounds += under_traffic(&mut before, || said = daemon.apply(&text, &[]).unwrap());
    let took = begun.elapsed();
    assert!(said.contains(&format!("{} adopted, 24 denied", before.count())), "{said}");
    let view = daemon.interface("eth0").unwrap();
    assert_eq!(view.status.observing, None);
    assert!(drops(&view) <= STRAY, "{way:?}: nothing has been dropped yet: {:?}", view.reasons);
    assert_eq!(before.all_live(true), 0, "{way:?}: connections lost whose instance spoke first");
    assert_eq!(before.all_live(false), 0, "{way:?}: connections lost whose client spoke first");
    let view = daemon.interface("eth0").unwrap();
    assert!(drops(&view) <= STRAY, "{way:?}: {:?}", view.reasons);
    assert!(before.denied.iter_mut().all(is_cut), "{way:?}: what the policy denies is cut");
    let view = daemon.interface("eth0").unwrap();
    assert!(reason(&view, "ingress", "cut") >= 24 && reason(&view, "egress", "cut") >= 24, "{:?}", view.reasons);
    eprintln!(
        "{way:?}: {} adopted, 24 denied, 0 lost, {rounds} rounds of echoes under {took:?} of applying",
        before.count()
    );
}

#[test]
fn thousands_of_live_connections_are_adopted_at_tc() {
    if can_run() {
        a_host_adopts(Way::HostTc, pairs(2000 * scale()));
    }
}
#[test]
fn live_connections_are_adopted_at_clsact() {
    if can_run() {
        a_host_adopts(Way::HostClsact, pairs(400));
    }
}
#[test]
fn thousands_of_live_connections_are_adopted_at_xdp() {
    if can_run() {
        a_host_adopts(Way::HostXdp, pairs(2000 * scale()));
    }
}

/// Waits until a guest's device enforces. That it observed before, under this very
/// daemon, is what `observed` says then.
fn enforces(daemon: &Daemon<'_>) -> InterfaceView {
    eventually("tap0 enforces", || daemon.interface("tap0").unwrap().status.observing.is_none());
    daemon.interface("tap0").unwrap()
}

#[test]
fn a_guest_is_observed_first() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut before = Before::new(&world, pairs(400));
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("guest_observe = 8").unwrap();
    daemon.start().unwrap();
    let said = planned(&daemon, &policy(&world));
    assert!(said.contains("guests that observe before they enforce: tap0"), "{said}");
    let mut view = None;
    under_traffic(&mut before, || {
        let said = daemon.apply(&policy(&world), &[]).unwrap();
        assert!(said.contains("only observing yet") && said.contains("tap0"), "{said}");
        let (_, said) = daemon.sgctl(&["status"]).unwrap();
        assert!(said.contains("observing, "), "{said}");
        view = Some(());
    });
    // Each shows itself in the midst; the instance speaks first.
    assert_eq!(before.all_live(true), 0, "nothing is dropped while it observes");
    assert!(before.denied.iter_mut().all(|pair| exchange(pair, true)), "not even what will be");
    let seen = daemon.interface("tap0").unwrap().status;
    assert!(seen.observing.is_some(), "the observation is shorter than the test");
    let observed = seen.observed.unwrap();
    assert_eq!((observed.adopted, observed.denied.count), (before.count(), 24), "{observed:?}");
    let view = enforces(&daemon);
    let observed = view.status.observed.as_ref().unwrap();
    assert_eq!((observed.adopted, observed.denied.count), (before.count(), 24), "{observed:?}");
    assert_eq!(drops(&view), 0, "{:?}", view.reasons);
    assert_eq!(before.all_live(true), 0, "connections lost whose instance spoke first");
    assert_eq!(before.all_live(false), 0, "connections lost whose client spoke first");
    assert_eq!(drops(&daemon.interface("tap0").unwrap()), 0);
    assert!(before.denied.iter_mut().all(is_cut));
    let log = std::fs::read_to_string(daemon.dir().join("sgd.log")).unwrap();
    assert!(log.contains("24 live flows of tap0 that the rules deny are cut"), "{log}");
}

#[test]
fn a_killed_daemon_goes_on_observing() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut before = Before::new(&world, 40);
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("guest_observe = 2").unwrap();
    daemon.start().unwrap();
    daemon.apply(&policy(&world), &[]).unwrap();
    daemon.stop(libc::SIGKILL).unwrap();
    assert_eq!(before.all_live(true), 0);
    assert!(before.denied.iter_mut().all(|pair| exchange(pair, true)), "no daemon, no end of the observation");
    daemon.start().unwrap();
    let view = enforces(&daemon);
    let observed = view.status.observed.unwrap();
    assert_eq!((observed.adopted, observed.denied.count), (before.count(), 24), "{observed:?}");
    assert_eq!(before.all_live(true) + before.all_live(false), 0);
    assert!(before.denied.iter_mut().all(is_cut));
    // Another restart observes nothing.
    daemon.stop(libc::SIGKILL).unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.interface("tap0").unwrap().status.observing, None);
    assert_eq!(before.all_live(true), 0);
}

/// The moment of death is drawn: before, while, after the host is adopted.
#[test]
fn a_daemon_killed_while_it_adopts_leaves_nothing_open_or_cut() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut before = Before::new(&world, 40);
    let text = policy(&world);
    let mut random = crate::support::Random::new(11);
    let mut daemon = world.daemon();
    let mut caught = 0;
    for kill in 0..4 * scale() {
        let pid = daemon.pid().unwrap() as i32;
        let moment = Duration::from_micros(random.below(150_000) as u64);
        std::thread::scope(|scope| {
            let change = scope.spawn(|| daemon.apply(&text, &[]).is_ok());
            // Not a wait for anything: the moment of death is what is drawn.
            std::thread::sleep(moment);
            // SAFETY: a process of ours that has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            caught += u64::from(!change.join().unwrap());
        });
        daemon.stop(libc::SIGKILL).unwrap();
        daemon.start().unwrap();
        daemon.apply(&text, &[]).unwrap();
        let view = daemon.interface("eth0").unwrap();
        assert_eq!(view.status.observing, None, "kill {kill}");
        assert_eq!(before.all_live(kill % 2 == 0), 0, "kill {kill}: {:?}", view.reasons);
        assert!(is_cut(&mut before.denied[0]) && is_cut(&mut before.denied[12]), "kill {kill}");
        daemon.stop(libc::SIGTERM).unwrap();
        let (done, said) = daemon.sgd(&["--detach"]).unwrap();
        assert!(done, "{said}");
        std::fs::remove_dir_all(daemon.dir().join("state")).unwrap();
        // Those that were cut have bytes on their way that nobody asks for.
        before.denied = denied(&world, &before.listeners);
        daemon.start().unwrap();
    }
    eprintln!("{caught} of {} killed before they were done", 4 * scale());
}

#[test]
fn what_is_new_or_down_enforces_at_once() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    world.router.ip("link add down0 type veth peer name x0").unwrap();
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("guest_observe = 60").unwrap();
    daemon.start().unwrap();
    let named = |names: &[&str]| {
        let mut text = String::from("security_groups:\n- security_group_name: g\nnetwork_interfaces:\n");
        for name in names {
            text += &format!("- {{device: '{name}', side: guest, security_group_ids: [g]}}\n");
        }
        text
    };
    let observing = |device: &str| daemon.interface(device).unwrap().status.observing;
    let said = daemon.apply(&named(&["tap0", "down0", "late*"]), &[]).unwrap();
    assert!(said.contains("observing yet (`sgctl status` says for how long): tap0\n"), "{said}");
    assert!(observing("tap0").is_some_and(|left| left <= 60), "it is up, and was there before");
    assert_eq!(observing("down0"), None, "it is down");
    for line in ["link add late0 type veth peer name x1", "link set late0 up"] {
        world.router.ip(line).unwrap();
    }
    eventually("late0 is protected", || daemon.interface("late0").is_ok());
    assert_eq!(observing("late0"), None, "it has only just appeared");
    for line in ["link add soon0 type veth peer name x2", "link set soon0 up"] {
        world.router.ip(line).unwrap();
    }
    let names = ["tap0", "down0", "late*", "soon0"];
    eventually("soon0 is here", || !daemon.apply(&named(&names), &[]).unwrap().contains("here (protected as soon"));
    assert_eq!(observing("soon0"), None, "it has only just appeared, too");
    assert!(observing("tap0").is_some(), "a change does not end an observation");
}

#[test]
fn a_change_that_keeps_cuts_nothing_that_lives() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let mut before = Before::new(&world, 40);
    let daemon = world.daemon();
    daemon.apply(&policy(&world), &["--on-change", "keep"]).unwrap();
    assert_eq!(before.all_live(true), 0);
    assert!(before.denied.iter_mut().all(|pair| exchange(pair, true)), "kept, though denied");
    assert!(!world.client.tcp(to(&format!("10.0.0.10:{CLOSED}"))).unwrap(), "but no new one");
}

/// A host with a container: published, masqueraded and plainly forwarded
/// connections are no sockets of the host's; nf_conntrack knows them.
#[test]
fn translated_and_forwarded_connections_are_adopted() {
    if !can_run() || !has("nft", "nftables") {
        return;
    }
    let world = World::new(Way::HostTc);
    let container = sg_userspace::testbed::Net::new("container").unwrap();
    let host = &world.instance;
    host.veth("c0", &container, "eth0").unwrap();
    host.address("c0", &["172.17.0.1/24"]).unwrap();
    container.address("eth0", &["172.17.0.2/24"]).unwrap();
    container.ip("route add default via 172.17.0.1").unwrap();
    host.sysctl("ipv4/ip_forward", "1").unwrap();
    world.router.ip("route add 172.17.0.0/24 via 10.0.0.10").unwrap();
    let rules = "table ip t {\n chain pre { type nat hook prerouting priority dstnat;\n\
        iif eth0 ip daddr 10.0.0.10 tcp dport { 8080, 8081 } dnat to 172.17.0.2:80\n}\n\
        chain post { type nat hook postrouting priority srcnat;\n\
        oif eth0 tcp dport 443 masquerade\n}\n}\n";
    let file = sg_userspace::testbed::TempDir::new().unwrap();
    let file = file.path().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    host.run(|| {
        let output = std::process::Command::new("nft").arg("-f").arg(&file).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
    .unwrap();
    let pair = |from: &sg_userspace::testbed::Net, listener: &TcpListener, at: &str| -> Pair {
        let opened = from.run(|| Ok(TcpStream::connect(to(at))?)).unwrap();
        (patient(opened), patient(listener.accept().unwrap().0))
    };
    let web = container.run(|| Ok(TcpListener::bind("172.17.0.2:80")?)).unwrap();
    let far = world.client.run(|| Ok(TcpListener::bind("192.0.2.10:443")?)).unwrap();
    let mut published = pair(&world.client, &web, "10.0.0.10:8080");
    let mut forwarded = pair(&world.client, &web, "172.17.0.2:80");
    let mut masqueraded = pair(&container, &far, "192.0.2.10:443");
    let mut denied = pair(&world.client, &web, "10.0.0.10:8081");
    let daemon = world.daemon();
    let text = "security_groups:\n- security_group_name: g\n  security_group_type: enterprise\n  permissions:\n\
        \x20 - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}\n\
        \x20 - {direction: ingress, ip_protocol: tcp, port_range: 8080/8080, source_cidr_ip: 0.0.0.0/0}\n\
        \x20 - {direction: egress, ip_protocol: tcp, port_range: 443/443, dest_cidr_ip: 0.0.0.0/0}\n";
    let said = daemon.apply(&format!("{text}{}", world.interface("g")), &[]).unwrap();
    assert!(said.contains("live flows: 3 adopted, 1 denied"), "{said}");
    assert!(said.contains("-> 10.0.0.10:8081\n"), "{said}");
    // The end that did not begin speaks first.
    for (name, pair) in
        [("published", &mut published), ("forwarded", &mut forwarded), ("masqueraded", &mut masqueraded)]
    {
        assert!(exchange(pair, true), "{name}");
    }
    assert_eq!(drops(&daemon.interface("eth0").unwrap()), 0);
    assert!(is_cut(&mut denied));
}
