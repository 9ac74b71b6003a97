//! nftables with the same policy: as people write it, and as one set.

use std::{
    fmt::Write,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use sg_userspace::{dataplane::probe::Entry, model::Direction, testbed::Net};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, rounds},
    packets::probe,
    peers::{Hook, Peers, time_live},
    policy::{accepts, packet},
};

const DEVICE: &str = "nic0";
/// Where test frames are sent to.
pub const HARDWARE: &str = "02:00:00:00:00:02";
const SENDERS: u32 = 65_536;
const UDP: u8 = 17;

/// What stands before any rule, and what counts the rest.
const HEAD: &str = "flush ruleset
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
";
const TAIL: &str = "    counter drop\n  }\n}\n";

/// One line for each rule.
pub fn as_written(rules: usize) -> String {
    let mut text = HEAD.to_owned();
    for accept in accepts(rules) {
        let _ = writeln!(text, "    ip saddr {} tcp dport {} accept", accept.source, accept.port);
    }
    text + TAIL
}

/// One rule, and a set of protocol, prefix and port.
pub fn one_set(rules: usize) -> String {
    let elements: Vec<String> = accepts(rules).iter().map(|a| format!("tcp . {} . {}", a.source, a.port)).collect();
    let set = format!(
        "  set allowed {{ type inet_proto . ipv4_addr . inet_service; flags interval; elements = {{ {} }} }}\n  chain",
        elements.join(", ")
    );
    HEAD.replacen("  chain", &set, 1) + "    meta l4proto . ip saddr . th dport @allowed accept\n" + TAIL
}

/// The same, and a set of member addresses for one port more.
pub fn with_members(rules: usize, members: usize) -> String {
    let addresses: Vec<String> =
        (0..members).map(|i| std::net::Ipv4Addr::from((172u32 << 24 | 16 << 16) + 1 + i as u32).to_string()).collect();
    let set = format!("  set members {{ type ipv4_addr; elements = {{ {} }} }}\n  chain", addresses.join(", "));
    let rule = "    ip saddr @members tcp dport 5432 accept\n    counter drop";
    one_set(rules).replacen("  chain", &set, 1).replacen("    counter drop", rule, 1)
}

/// Loads a ruleset in a namespace.
///
/// # Errors
/// What `nft` says.
pub fn load(net: &Net, rules: &str) -> Result<()> {
    net.run(|| {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nft")?;
        nft.stdin.take().context("no pipe")?.write_all(rules.as_bytes())?;
        let output = nft.wait_with_output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    })
}

/// Packets that the last rule has dropped.
fn dropped(net: &Net) -> Result<u64> {
    net.run(|| {
        let output = Command::new("nft").args(["list", "chain", "inet", "filter", "input"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some(line) = text.lines().find(|l| l.contains("counter packets")) else { bail!("no counter in:\n{text}") };
        let number = line.split_whitespace().skip_while(|w| *w != "packets").nth(1).unwrap_or_default();
        number.parse().with_context(|| format!("no number in {line}"))
    })
}

/// A namespace whose device takes the benchmark's frames.
///
/// # Errors
/// Not root.
pub fn receiver(name: &str) -> Result<(Net, Net, u32)> {
    let (net, other) = (Net::new(name)?, Net::new("far")?);
    net.veth(DEVICE, &other, "far0")?;
    net.ip(&format!("link set {DEVICE} address {HARDWARE} up"))?;
    other.ip("link set far0 up")?;
    net.address(DEVICE, &["10.0.0.5/24"])?;
    net.ip(&format!("route add default dev {DEVICE}"))?;
    let index = net.run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        ensure!(text.contains(DEVICE), "{DEVICE} is not there");
        let name = std::ffi::CString::new(DEVICE)?;
        // SAFETY: a name that ends with a zero byte.
        match unsafe { libc::if_nametoindex(name.as_ptr()) } {
            0 => Err(std::io::Error::last_os_error().into()),
            index => Ok(index),
        }
    })?;
    Ok((net, other, index))
}

/// Denied packets: ours, and nftables with the policy as a set and as rules.
pub fn denied(peers: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let rules = 1000;
    let frame = packet(true, Direction::Inbound, UDP, 1500);
    let source = peers.program("bench_xdp_vary")?;
    let mut own = probe(rules, 0)?;
    let ours = own.program(Entry::Xdp)?;
    let (set, _set_far, set_index) = receiver("set")?;
    let (list, _list_far, list_index) = receiver("list")?;
    load(&set, &one_set(rules))?;
    load(&list, &as_written(rules))?;
    let into = |net: &Net, index: u32, repeat: u32| {
        let before = dropped(net)?;
        peers.vary(Hook::Xdp, &frame, true, SENDERS, None)?;
        let time = net.run(|| {
            crate::measure::pin(1).or_else(|_| crate::measure::pin(0))?;
            time_live(source, &frame, index, repeat)
        })?;
        let seen = dropped(net)? - before;
        ensure!(seen >= u64::from(repeat), "only {seen} of {repeat} packets reached the last rule");
        Ok(time)
    };
    let samples = rounds(
        scale.rounds,
        &mut [
            Contestant::new("denied", || {
                peers.vary(Hook::Xdp, &frame, true, SENDERS, Some(ours))?;
                time_live(source, &frame, 1, scale.repeat)
            }),
            Contestant::new("nftables, one set", || into(&set, set_index, scale.repeat / 10)),
            Contestant::new("nftables, a rule each", || into(&list, list_index, scale.repeat / 100)),
        ],
    )?;
    for (i, name, goal, aim) in [
        (1, "nftables with conntrack, one concatenated set", 6.0, 8.0),
        (2, "nftables with conntrack, a rule each", 250.0, 350.0),
    ] {
        figures.push(
            Figure::new("packet", "denied, 1000 rules, live XDP, IPv4, 65,536 senders", "ns", &samples[0])
                .faster_than(name, &samples[0], &samples[i])
                .goal(Bound::Least(goal), Some(Bound::Least(aim))),
        );
    }
    Ok(())
}
