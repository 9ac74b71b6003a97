//! Floods of packets that would open flows, as fast as a link brings them,
//! while peers take a tenth of a second to answer: what is established lives,
//! and what is legitimate still gets in.

use std::collections::VecDeque;

use sg_userspace::dataplane::probe::{Entry, Probe};

use crate::support::{self, Random, frames::*, kernel::probe, many};

/// Packets of the flood in the tenth of a second that a peer takes: a million a second.
const AWAY: u64 = 100_000;
/// Packets of the flood, in all.
fn flood() -> u64 {
    many(250_000, 2_500_000)
}
/// Connections that were there before.
const ESTABLISHED: u32 = 10_000;

const BASIC: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}
";
const ENTERPRISE: &str = "
security_groups:
- security_group_name: g
  security_group_type: enterprise
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 0.0.0.0/0}
  - {direction: egress, ip_protocol: tcp, port_range: 443/443, dest_cidr_ip: 0.0.0.0/0}
  - {direction: egress, ip_protocol: udp, port_range: 53/53, dest_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}
";

/// One end of the wire: whoever is asked, and the instance.
#[derive(Clone, Copy)]
struct Peer {
    address: [u8; 4],
    port: u16,
    /// The instance's port.
    local: u16,
}

impl Peer {
    fn tcp(&self, inbound: bool, flags: u8) -> Vec<u8> {
        if inbound {
            v4(self.address, L4, 6).frame(&tcp(self.port, self.local, flags))
        } else {
            v4(L4, self.address, 6).frame(&tcp(self.local, self.port, flags))
        }
    }
    fn udp(&self, inbound: bool) -> Vec<u8> {
        if inbound {
            v4(self.address, L4, 17).frame(&udp(self.port, self.local, b"?"))
        } else {
            v4(L4, self.address, 17).frame(&udp(self.local, self.port, b"!"))
        }
    }
}

/// A connection that somebody means: what happens when, in packets of the flood.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A client that asks.
    Asks,
    /// A client that waits for a greeting, which takes the server a twentieth of a second.
    Waits,
    /// The instance asks.
    Outbound,
    /// The instance asks for a name.
    Name,
    /// Datagrams of a session, in which the instance speaks unasked, too.
    Session,
}

impl Kind {
    fn is_udp(self) -> bool {
        matches!(self, Self::Name | Self::Session)
    }
    fn is_inbound(self) -> bool {
        matches!(self, Self::Asks | Self::Waits | Self::Session)
    }
}

/// Direction and flags of each packet, and how long after the one before it.
fn script(kind: Kind) -> &'static [(u64, bool, u8)] {
    match kind {
        Kind::Asks => &[
            (0, true, SYN),
            (10, false, SYN | ACK),
            (AWAY, true, ACK),
            (1, true, ACK | 8),
            (100, false, ACK | 8),
            (AWAY, true, ACK),
            (50_000, false, ACK | 8),
        ],
        Kind::Waits => &[
            (0, true, SYN),
            (10, false, SYN | ACK),
            (AWAY, true, ACK),
            (AWAY / 2, false, ACK | 8),
            (AWAY, true, ACK | 8),
            (AWAY / 2, false, ACK | 8),
        ],
        Kind::Outbound => {
            &[(0, false, SYN), (AWAY, true, SYN | ACK), (5, false, ACK), (1, false, ACK | 8), (AWAY, true, ACK | 8)]
        }
        Kind::Name => &[(0, false, 0), (AWAY, true, 0)],
        Kind::Session => {
            &[(0, true, 0), (10, false, 0), (AWAY / 2, false, 0), (AWAY, true, 0), (10, false, 0), (AWAY, false, 0)]
        }
    }
}

/// The peer of a connection that was there before.
fn steady(i: u32) -> Peer {
    Peer { address: [203, 0, (i >> 8) as u8, i as u8], port: 5000, local: 80 }
}

struct World {
    probe: Probe,
    random: Random,
}

impl World {
    fn new(policy: &str) -> Option<Self> {
        let mut probe = probe()?;
        let model = support::model(policy);
        probe.prepare(&model, &model.declared_instances(), 0).unwrap();
        probe.quiet().unwrap();
        Some(Self { probe, random: Random::new(42) })
    }
    fn send(&mut self, inbound: bool, frame: &[u8]) -> bool {
        self.probe.passes(if inbound { Entry::TcIn } else { Entry::TcOut }, frame).unwrap()
    }
    fn establish(&mut self, peer: Peer) {
        for (inbound, flags) in [(true, SYN), (false, SYN | ACK), (true, ACK)] {
            assert!(self.send(inbound, &peer.tcp(inbound, flags)));
        }
    }
    /// A source that nobody else has.
    fn stranger(&mut self) -> [u8; 4] {
        let [a, b, c, ..] = self.random.next().to_be_bytes();
        [198, 18 + a % 2, b, c]
    }

    /// Floods, with a new connection every so often; returns how many were begun and how many went through.
    fn run(&mut self, kinds: &[Kind], mut flood: impl FnMut(&mut Self, u64)) -> [(u64, u64); 5] {
        let steady: Vec<Peer> = (0..ESTABLISHED).map(steady).collect();
        steady.iter().for_each(|peer| self.establish(*peer));
        let mut waiting: VecDeque<(u64, usize, Kind, Peer)> = VecDeque::new();
        let mut through = [(0, 0); 5];
        let total = AWAY * 4 + self::flood();
        for now in 0..total {
            flood(self, now);
            if now % 500 == 0 && now < self::flood() {
                for &kind in kinds {
                    let number = (now / 500) as u32;
                    let service = match (kind.is_inbound(), kind.is_udp()) {
                        (_, true) => 53,
                        (true, false) => 80,
                        (false, false) => 443,
                    };
                    let own = 20_000 + (number % 40_000) as u16;
                    let peer = Peer {
                        address: [100 + kind as u8, 70, (number >> 8) as u8, number as u8],
                        port: if kind.is_inbound() { own } else { service },
                        local: if kind.is_inbound() { service } else { own },
                    };
                    waiting.push_back((now, 0, kind, peer));
                    through[kind as usize].0 += 1;
                }
            }
            let mut i = 0;
            while i < waiting.len() {
                if waiting[i].0 > now {
                    i += 1;
                    continue;
                }
                let (_, step, kind, peer) = waiting.remove(i).unwrap();
                let (_, inbound, flags) = script(kind)[step];
                let frame = if kind.is_udp() { peer.udp(inbound) } else { peer.tcp(inbound, flags) };
                if !self.send(inbound, &frame) {
                    continue;
                }
                match script(kind).get(step + 1) {
                    Some((after, ..)) => waiting.push_back((now + after, step + 1, kind, peer)),
                    None => through[kind as usize].1 += 1,
                }
            }
            if now % 100 == 0 {
                let peer = steady[self.random.below(steady.len())];
                let inbound = self.random.chance(50);
                assert!(self.send(inbound, &peer.tcp(inbound, ACK | 8)), "an established flow was lost at {now}");
            }
        }
        for peer in steady {
            // From the instance, too: nothing but the flow admits it in an enterprise group.
            assert!(self.send(false, &peer.tcp(false, ACK | 8)), "an established flow was lost");
        }
        through
    }
}

#[track_caller]
fn nearly_all(what: &str, kinds: &[Kind], through: &[(u64, u64); 5]) {
    for &kind in kinds {
        let (begun, done) = through[kind as usize];
        eprintln!("{what}, {kind:?}: {done} of {begun} connections went through");
        assert!(begun >= 100 && done * 100 >= begun * 99, "{what}, {kind:?}: {done} of {begun}");
    }
}

fn syn_flood(name: &str, policy: &str) {
    let Some(mut world) = World::new(policy) else { return };
    let kinds = [Kind::Asks, Kind::Waits, Kind::Outbound];
    let through = world.run(&kinds, |world, now| {
        let peer = Peer { address: world.stranger(), port: now as u16, local: 80 };
        assert!(world.send(true, &peer.tcp(true, SYN)), "an open port stays open");
        // The server answers while it can.
        world.send(false, &peer.tcp(false, SYN | ACK));
    });
    nearly_all(&format!("SYN flood, {name}"), &kinds, &through);
}

#[test]
fn a_syn_flood_on_an_open_port_of_a_basic_group() {
    syn_flood("basic group", BASIC);
}

#[test]
fn a_syn_flood_on_an_open_port_of_an_enterprise_group() {
    syn_flood("enterprise group", ENTERPRISE);
}

/// Datagrams to a port that is open and answers none of them.
#[test]
fn a_udp_flood() {
    for policy in [BASIC, ENTERPRISE] {
        let Some(mut world) = World::new(policy) else { return };
        let kinds = [Kind::Session, Kind::Asks, Kind::Outbound, Kind::Name];
        let through = world.run(&kinds, |world, now| {
            let peer = Peer { address: world.stranger(), port: now as u16, local: 53 };
            assert!(world.send(true, &peer.udp(true)));
        });
        nearly_all("UDP flood", &kinds, &through);
    }
}

/// Pings from anywhere, and datagrams in pieces, most of which never come whole.
#[test]
fn floods_of_pings_and_of_fragments() {
    let Some(mut world) = World::new(ENTERPRISE) else { return };
    let kinds = [Kind::Asks, Kind::Session, Kind::Outbound];
    let through = world.run(&kinds, |world, now| {
        let from = world.stranger();
        let frame = match now % 3 {
            0 => v4(from, L4, 1).frame(&icmp(8, 0, b"ping")),
            // A first piece, and a later one of a datagram that nobody has seen begin.
            1 => V4 { id: now as u16, fragment: 0x2000, ..v4(from, L4, 17) }.frame(&udp(7, 53, &[0; 16])),
            _ => V4 { id: now as u16, fragment: 0x0003, ..v4(from, L4, 17) }.frame(&[0; 16]),
        };
        assert_eq!(world.send(true, &frame), now % 3 != 2);
    });
    nearly_all("pings and fragments", &kinds, &through);
}

/// Errors that quote live flows, which pass, and flows which never were, which do not, and
/// resets of established ones' addresses with other ports: nothing of it ends a flow.
#[test]
fn a_flood_of_forged_errors() {
    let no_ping = ENTERPRISE.replace("  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 0.0.0.0/0}\n", "");
    assert_ne!(no_ping, ENTERPRISE, "what admits them is the flow alone");
    let Some(mut world) = World::new(&no_ping) else { return };
    let kinds = [Kind::Asks, Kind::Outbound];
    let through = world.run(&kinds, |world, now| {
        let live = now % 2 == 0;
        let peer = steady(now as u32 % ESTABLISHED);
        let port = if live { peer.port } else { peer.port + 1 };
        let quoted = v4(L4, peer.address, 6).bytes(&tcp(peer.local, port, ACK));
        let kind = [3, 11, 12][now as usize % 3];
        let mut error = icmp(kind, 1, &quoted);
        error[4..8].fill(0);
        let passes = world.send(true, &v4(world_router(now), L4, 1).frame(&error));
        assert_eq!(passes, live, "an error of kind {kind} at {now}");
        world.send(true, &Peer { port: peer.port + 2, ..peer }.tcp(true, RST));
    });
    nearly_all("forged errors", &kinds, &through);
}

fn world_router(now: u64) -> [u8; 4] {
    [198, 51, 100, now as u8]
}

/// A process that opens connections without end, at a tenth of the rate: what
/// came in before, and whoever comes in, is not touched; nor is who asks beside it.
#[test]
fn a_runaway_process() {
    let Some(mut world) = World::new(ENTERPRISE) else { return };
    let kinds = [Kind::Asks, Kind::Waits, Kind::Outbound, Kind::Name];
    let through = world.run(&kinds, |world, now| {
        if now % 10 == 0 {
            let peer = Peer { address: world.stranger(), port: 443, local: now as u16 };
            assert!(world.send(false, &peer.tcp(false, SYN)), "no table refuses service");
        }
    });
    nearly_all("runaway process", &kinds, &through);
}

/// More confirmed flows than the main table holds: those past it are served, too.
#[test]
fn a_full_table_refuses_nobody() {
    let Some(mut world) = World::new(ENTERPRISE) else { return };
    let all = sg_common::limits::MAX_FLOWS + 5000;
    let peer = |i: u32| Peer { address: [203, (i >> 16) as u8, (i >> 8) as u8, i as u8], port: 5000, local: 80 };
    for i in 0..all {
        world.establish(peer(i));
        assert!(world.send(false, &peer(i).tcp(false, ACK | 8)), "flow {i} is not served");
    }
    for i in (0..sg_common::limits::MAX_FLOWS - 1000).step_by(97) {
        assert!(world.send(false, &peer(i).tcp(false, ACK | 8)), "flow {i} was lost");
    }
}
