//! A SYN flood on an open port, while peers take their time to answer: who loses
//! connections that were there, and who still lets new ones in.
//!
//! Time is counted in packets of the flood. Ours is asked by test runs, nf_conntrack
//! by frames that cross a namespace of its own.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use sg_userspace::{
    dataplane::probe::{Entry, Probe},
    model::Direction,
    packet::first_packet,
    reference::FlowQuery,
    testbed::Net,
};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Samples, progress},
    nft,
    peers::Peers,
    policy::{model, with_flags},
    wire::Wire,
};

const PART: &str = "flood";
/// Packets of the flood that a peer takes to answer: a tenth of a second at a million a second.
const AWAY: u64 = 100_000;
/// Connections that were there before.
const ESTABLISHED: u32 = 10_000;
/// Packets of the flood between two connections that somebody means.
const EVERY: u64 = 500;

const SYN: u8 = 2;
const ACK: u8 = 16;
const DATA: u8 = ACK | 8;

/// Groups, and what nftables calls the same.
const GROUPS: [(&str, &str); 2] = [("basic", "accept"), ("enterprise", "tcp dport 443 ct state new accept")];

/// Direction and flags of each packet, and how long after the one before it.
type Script = &'static [(u64, bool, u8)];
/// A client that asks; one that waits for a greeting; the instance asks.
const SCRIPTS: [Script; 3] = [
    &[(0, true, SYN), (10, false, SYN | ACK), (AWAY, true, ACK), (1, true, DATA), (100, false, DATA)],
    &[(0, true, SYN), (10, false, SYN | ACK), (AWAY, true, ACK), (AWAY / 2, false, DATA), (AWAY, true, DATA)],
    &[(0, false, SYN), (AWAY, true, SYN | ACK), (5, false, ACK), (1, false, DATA), (AWAY, true, DATA)],
];

/// Where frames go in, and perhaps come out.
trait Path {
    /// A packet that nobody waits for.
    fn throw(&mut self, inbound: bool, frame: &[u8]) -> Result<()>;
    /// Whether a packet gets through.
    fn passes(&mut self, inbound: bool, frame: &[u8]) -> Result<bool>;
}

impl Path for Probe {
    fn throw(&mut self, inbound: bool, frame: &[u8]) -> Result<()> {
        Path::passes(self, inbound, frame).map(drop)
    }
    fn passes(&mut self, inbound: bool, frame: &[u8]) -> Result<bool> {
        Ok(Probe::passes(self, if inbound { Entry::TcIn } else { Entry::TcOut }, frame)?)
    }
}

fn ours(kind: &str) -> Result<Probe> {
    let (group, out) = if kind == "basic" {
        ("normal", "")
    } else {
        ("enterprise", "  - {direction: egress, ip_protocol: tcp, port_range: 443/443, dest_cidr_ip: 0.0.0.0/0}\n")
    };
    let model = model(&format!(
        "security_groups:\n- security_group_name: g\n  security_group_type: {group}\n  permissions:\n  \
         - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n{out}\
         network_interfaces:\n- {{device: eth0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}}\n"
    ))?;
    let mut probe = Probe::load()?;
    probe.prepare(&model, &model.declared_instances(), 0)?;
    probe.quiet()?;
    Ok(probe)
}

/// A router with nf_conntrack between peers and an instance.
struct Theirs {
    outside: Wire,
    inside: Wire,
    /// How many flows it may hold.
    most: u64,
    _nets: [Net; 3],
}

impl Theirs {
    fn new(outbound: &str) -> Result<Self> {
        let (router, peers, instance) = (Net::new("router")?, Net::new("peers")?, Net::new("instance")?);
        router.veth("out0", &peers, "far0")?;
        router.veth("in0", &instance, "far0")?;
        for device in ["out0", "in0"] {
            router.ip(&format!("link set {device} address {} up", nft::HARDWARE))?;
        }
        peers.ip("link set far0 up")?;
        instance.ip("link set far0 up")?;
        router.address("out0", &["192.168.1.1/24"])?;
        router.address("in0", &["10.0.0.1/24"])?;
        router.ip("neigh add 192.168.1.2 lladdr 02:00:00:00:00:07 dev out0")?;
        router.ip("neigh add 10.0.0.5 lladdr 02:00:00:00:00:08 dev in0")?;
        router.ip("route add default via 192.168.1.2")?;
        router.sysctl("ipv4/ip_forward", "1")?;
        nft::load(
            &router,
            &format!(
                "flush ruleset\ntable inet filter {{\n  chain forward {{\n    type filter hook forward priority filter; policy drop;\n    \
                 ct state established,related accept\n    iif out0 tcp dport 80 ct state new accept\n    iif in0 {outbound}\n  }}\n}}\n"
            ),
        )?;
        // Sequence numbers are not what this is about, nor are checksums.
        router.sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1")?;
        router.sysctl("netfilter/nf_conntrack_checksum", "0")?;
        let most = router.run(|| {
            let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
            text.trim().parse().context("nf_conntrack_max is no number")
        })?;
        let (outside, inside) = (Wire::new(&peers, "far0")?, Wire::new(&instance, "far0")?);
        Ok(Self { outside, inside, most, _nets: [router, peers, instance] })
    }
}

impl Path for Theirs {
    fn throw(&mut self, inbound: bool, frame: &[u8]) -> Result<()> {
        if inbound { self.outside.send(frame) } else { self.inside.send(frame) }
    }
    fn passes(&mut self, inbound: bool, frame: &[u8]) -> Result<bool> {
        let (from, to) = if inbound { (&self.outside, &self.inside) } else { (&self.inside, &self.outside) };
        to.drain()?;
        from.send(frame)?;
        // Addresses and ports: the rest changes on the way.
        to.hears(|heard| heard.get(26..38) == frame.get(26..38))
    }
}

/// Who speaks with the instance.
#[derive(Clone, Copy)]
struct Peer {
    address: [u8; 4],
    port: u16,
    local: u16,
}

impl Peer {
    fn frame(&self, inbound: bool, flags: u8) -> Vec<u8> {
        let query = FlowQuery {
            direction: if inbound { Direction::Inbound } else { Direction::Outbound },
            protocol: 6,
            local: [10, 0, 0, 5].into(),
            remote: self.address.into(),
            local_port: self.local,
            remote_port: self.port,
            icmp_type: 0,
            icmp_code: 0,
        };
        let mut frame = with_flags(first_packet(&query, [2, 0, 0, 0, 0, 1]), true, flags);
        // A router looks at the header's sum.
        let words = frame[14..34].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// What became of it.
struct Outcome {
    /// Of those that were there before.
    lost: u64,
    /// Percent of the connections begun meanwhile that went through.
    through: f64,
}

fn flood(path: &mut impl Path, packets: u64) -> Result<Outcome> {
    let steady: Vec<Peer> =
        (0..ESTABLISHED).map(|i| Peer { address: [203, 0, (i >> 8) as u8, i as u8], port: 5000, local: 80 }).collect();
    for peer in &steady {
        for (inbound, flags) in [(true, SYN), (false, SYN | ACK), (true, ACK), (false, DATA), (true, DATA)] {
            ensure!(path.passes(inbound, &peer.frame(inbound, flags))?, "a connection could not be made in peace");
        }
    }
    let mut waiting: VecDeque<(u64, usize, usize, Peer)> = VecDeque::new();
    let (mut begun, mut done, mut strangers) = (0u64, 0u64, 0x9e37_79b9_u32);
    for now in 0..packets + 4 * AWAY {
        strangers = strangers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, d] = strangers.to_be_bytes();
        let stranger = Peer { address: [198, 18 + (a & 1), b, c], port: u16::from_be_bytes([a, d]) | 1, local: 80 };
        path.throw(true, &stranger.frame(true, SYN))?;
        // The server answers while it can.
        path.throw(false, &stranger.frame(false, SYN | ACK))?;
        if now % EVERY == 0 && now < packets {
            let number = (now / EVERY) as u32;
            let own = 20_000 + (number % 40_000) as u16;
            for script in 0..SCRIPTS.len() {
                let [.., high, low] = number.to_be_bytes();
                let (port, local) = if script == 2 { (443, own) } else { (own, 80) };
                waiting.push_back((now, 0, script, Peer { address: [100 + script as u8, 70, high, low], port, local }));
                begun += 1;
            }
        }
        for _ in 0..waiting.len() {
            let Some((at, step, script, peer)) = waiting.pop_front() else { break };
            if at > now {
                waiting.push_back((at, step, script, peer));
                continue;
            }
            let (_, inbound, flags) = SCRIPTS[script][step];
            if !path.passes(inbound, &peer.frame(inbound, flags))? {
                continue;
            }
            match SCRIPTS[script].get(step + 1) {
                Some((after, ..)) => waiting.push_back((now + after, step + 1, script, peer)),
                None => done += 1,
            }
        }
    }
    let mut lost = 0;
    for peer in &steady {
        // From the instance, too: in an enterprise group nothing but the flow admits it.
        let both = path.passes(false, &peer.frame(false, DATA))? && path.passes(true, &peer.frame(true, DATA))?;
        lost += u64::from(!both);
    }
    Ok(Outcome { lost, through: done as f64 * 100.0 / begun as f64 })
}

/// SYN floods, ours and nf_conntrack.
pub fn floods(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let packets = if scale.quick { 50_000 } else { 1_000_000 };
    let one = |value: f64| Samples::new(vec![value]);
    for (group, outbound) in GROUPS {
        progress(&format!("SYN flood, {group} group"));
        let own = flood(&mut ours(group)?, packets)?;
        progress(&format!("SYN flood, {group} group, nf_conntrack"));
        let mut theirs = Theirs::new(outbound)?;
        let peer = flood(&mut theirs, packets)?;
        let entries = sg_common::limits::MAX_FLOWS;
        let what = format!("{group} group, {packets} SYNs to an open port");
        let lost = Figure::new(PART, format!("{what}: lost of {ESTABLISHED} connections"), "", &one(own.lost as f64));
        figures.push(lost.goal(Bound::Most(0.0), None));
        let through = Figure::new(PART, format!("{what}: new connections that go through"), "%", &one(own.through));
        figures.push(through.goal(Bound::Least(99.0), Some(Bound::Least(100.0))));
        let other = format!("nf_conntrack of {} entries (ours: {entries})", theirs.most);
        figures.push(Figure::new(PART, format!("the same, {other}: lost"), "", &one(peer.lost as f64)));
        figures.push(Figure::new(PART, format!("the same, {other}: new connections"), "%", &one(peer.through)));
    }
    progress("");
    Ok(())
}
