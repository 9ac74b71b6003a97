//! Real connections over a veth pair: with nothing, with us, with nftables.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sg_userspace::testbed::{Daemon, Net};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, Samples, pin, rounds},
    nft,
    peers::Peers,
    policy::document,
};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
/// A port that the policies of all contestants admit.
const PORT: u16 = 443;
const RULES: usize = 100;

/// A client, a server, and a device of the server that somebody may protect.
struct Pair {
    server: Net,
    client: Net,
}

impl Pair {
    fn new() -> Result<Self> {
        let (server, client) = (Net::new("server")?, Net::new("client")?);
        server.veth("eth0", &client, "eth0")?;
        server.ip("link set eth0 up")?;
        client.ip("link set eth0 up")?;
        server.address("eth0", &["10.0.0.5/24"])?;
        client.address("eth0", &["192.0.0.7/24"])?;
        server.ip("route add default dev eth0")?;
        client.ip("route add default dev eth0")?;
        Ok(Self { server, client })
    }

    /// Packets as long as the MTU and no longer, or super-packets.
    fn segments(&self, many: bool) -> Result<()> {
        let segments = if many { 65_535 } else { 1 };
        self.server.ip(&format!("link set eth0 gso_max_segs {segments}"))?;
        self.client.ip(&format!("link set eth0 gso_max_segs {segments}"))
    }
}

/// `iperf3 -s`, ended with us.
struct Iperf(Child);

impl Iperf {
    fn serve(net: &Net) -> Result<Self> {
        net.run(|| {
            let mut child = Command::new("iperf3")
                .args(["-s", "-p", &PORT.to_string(), "--forceflush"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot start iperf3")?;
            let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
            let mut lines = lines.map_while(Result::ok);
            ensure!(lines.any(|line| line.contains("listening")), "iperf3 does not listen");
            // It must not end for want of a reader.
            std::thread::spawn(move || lines.for_each(drop));
            Ok(Self(child))
        })
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gigabits a second of one stream.
fn stream(pair: &Pair, warm: &str) -> Result<f64> {
    pair.client.run(|| {
        let output = Command::new("iperf3")
            .args(["-c", &SERVER.to_string(), "-p", &PORT.to_string(), "-J", "-A", "0,1"])
            .args(["-t", "1", "-O", warm])
            .output()?;
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3 says no JSON")?;
        let bits = json["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(bits.with_context(|| format!("iperf3: {}", json["error"]))? / 1e9)
    })
}

/// Thousands of connections a second, opened, used for a byte and reset.
fn connections(pair: &Pair, time: Duration) -> Result<f64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let (done, pair) = (&done, pair);
        let server = scope.spawn(move || {
            pair.server.run(|| {
                pin(1).or_else(|_| pin(0))?;
                let listener = TcpListener::bind((SERVER, PORT + 1))?;
                ready.send(())?;
                for stream in listener.incoming() {
                    // A client may have reset its connection before it was accepted.
                    if let Ok(mut stream) = stream {
                        let _ = std::io::Read::read(&mut stream, &mut [0]);
                    }
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Ok(())
            })
        });
        listening.recv()?;
        let count = pair.client.run(|| {
            pin(0)?;
            let to = SocketAddr::new(SERVER, PORT + 1);
            let (begin, mut count) = (Instant::now(), 0u32);
            while begin.elapsed() < time {
                open(to)?;
                count += 1;
            }
            let rate = f64::from(count) / begin.elapsed().as_secs_f64() / 1000.0;
            done.store(true, Ordering::Relaxed);
            // Wakes the server, if it has not seen it yet.
            let _ = open(to);
            Ok(rate)
        });
        server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        count
    })
}

fn open(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    // No port stays taken: there are only so many.
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an option of the size given.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    std::io::Write::write_all(&mut stream, b"x")?;
    Ok(())
}

/// Streams with and without segmentation offload, and connections a second.
pub fn streams(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let bin = std::env::current_exe()?.parent().context("no directory")?.to_path_buf();
    let pairs = [Pair::new()?, Pair::new()?, Pair::new()?];
    let mut daemon = Daemon::new(&pairs[1].server, &bin)?;
    daemon.start()?;
    let text = document(RULES, 0, "eth0").replace("443/443", "443/444");
    daemon.apply(&text, &[])?;
    let rules = nft::as_written(RULES)
        .replace("    counter drop", "    ip saddr 192.0.0.0/16 tcp dport 443-444 accept\n    counter drop");
    nft::load(&pairs[2].server, &rules)?;
    let _servers = [Iperf::serve(&pairs[0].server)?, Iperf::serve(&pairs[1].server)?, Iperf::serve(&pairs[2].server)?];
    let count = scale.few(21);
    // Seconds that do not count.
    let warm = if scale.quick { "0" } else { "1" };
    for (name, many, goal, aim) in [("super-packets", true, 0.97, 0.99), ("packets of the MTU", false, 0.93, 0.97)] {
        for pair in &pairs {
            pair.segments(many)?;
        }
        let samples = contest(count, &pairs, |pair| stream(pair, warm))?;
        record(figures, &format!("TCP stream, {name}"), "Gbit/s", &samples, goal, aim);
    }
    for pair in &pairs {
        pair.segments(true)?;
    }
    let time = Duration::from_millis(500);
    let samples = contest(count, &pairs, |pair| connections(pair, time))?;
    record(figures, "TCP connections", "k/s", &samples, 0.93, 0.97);
    Ok(())
}

fn contest(count: usize, pairs: &[Pair; 3], run: impl Fn(&Pair) -> Result<f64>) -> Result<Vec<Samples>> {
    let mut all: Vec<Contestant<'_>> = ["no firewall", "protected", "nftables"]
        .into_iter()
        .zip(pairs)
        .map(|(name, pair)| Contestant::new(name, || run(pair)))
        .collect();
    rounds(count, &mut all)
}

fn record(figures: &mut Vec<Figure>, name: &str, unit: &'static str, samples: &[Samples], goal: f64, aim: f64) {
    for (peer, goal, aim) in [(0, goal, Some(aim)), (2, 1.0, None)] {
        figures.push(
            Figure::new("traffic", name, unit, &samples[1])
                .beside(["no firewall", "", "nftables with conntrack"][peer], &samples[1], &samples[peer])
                .goal(Bound::Least(goal), aim.map(Bound::Least)),
        );
    }
}
