//! Room in the main table, shared out: whoever opens connections without end takes
//! none of what others are due, and everybody is served.

use std::collections::HashMap;

use sg_common::{generation::Generation, limits::MAX_FLOWS, quota::Quotas};
use sg_userspace::dataplane::{
    flows,
    probe::{Entry, Probe, generation_of},
    quotas::{self, Counts, Settings},
};

use crate::support::{self, frames::*, kernel::probe};

/// Nothing outbound, so that what the instance sends passes by its flow alone.
const POLICY: &str = "
security_groups:
- security_group_name: g
  security_group_type: enterprise
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_source_cidr_ip: '::/0'}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [g]}
";

struct World {
    probe: Probe,
    generation: Generation,
}

impl World {
    fn new(quotas: Quotas) -> Option<Self> {
        let mut probe = probe()?;
        let model = support::model(POLICY);
        let instances = model.declared_instances();
        probe.prepare(&model, &instances, 0).unwrap();
        probe.quiet().unwrap();
        probe.maps().quotas.update(&0, &quotas).unwrap();
        let mut generation = generation_of(&model, &instances[0], 1);
        generation.policy_class = support_class(&model);
        Some(Self { probe, generation })
    }

    /// The device of a slot is the one whose packets come from now on.
    fn device(&mut self, slot: u32) {
        self.generation.slot = slot;
        self.generation.zone = slot;
        self.probe.enforce(&self.generation).unwrap();
    }

    fn send(&mut self, inbound: bool, frame: &[u8]) {
        let entry = if inbound { Entry::TcIn } else { Entry::TcOut };
        assert!(self.probe.passes(entry, frame).unwrap(), "somebody is not served");
    }

    fn segment(&mut self, inbound: bool, remote: [u8; 4], port: u16, flags: u8) {
        let frame = if inbound {
            v4(remote, L4, 6).frame(&tcp(port, 80, flags))
        } else {
            v4(L4, remote, 6).frame(&tcp(80, port, flags))
        };
        self.send(inbound, &frame);
    }

    /// A whole handshake.
    fn handshake(&mut self, remote: [u8; 4], port: u16) {
        for (inbound, flags) in [(true, SYN), (false, SYN | ACK), (true, ACK)] {
            self.segment(inbound, remote, port, flags);
        }
    }

    /// And data both ways.
    fn connect(&mut self, remote: [u8; 4], port: u16) {
        self.handshake(remote, port);
        self.segment(false, remote, port, ACK | 8);
        self.segment(true, remote, port, ACK | 8);
    }

    fn connect6(&mut self, remote: [u8; 16], port: u16) {
        for (inbound, flags) in [(true, SYN), (false, SYN | ACK), (true, ACK), (false, ACK | 8)] {
            let frame = if inbound {
                v6(remote, L6, 6, &tcp(port, 80, flags))
            } else {
                v6(L6, remote, 6, &tcp(80, port, flags))
            };
            self.send(inbound, &frame);
        }
    }

    /// Confirmed flows of the current device whose remote begins so.
    fn confirmed(&self, remote: &[u8]) -> usize {
        let (zone, len) = (self.generation.zone, remote.len());
        let of = |a: std::net::IpAddr| match a {
            std::net::IpAddr::V4(a) => a.octets().to_vec(),
            std::net::IpAddr::V6(a) => a.octets().to_vec(),
        };
        let all = flows::all(self.probe.maps()).unwrap();
        all.iter().filter(|f| f.confirmed && f.key.zone == zone && of(f.key.remote.into())[..len] == *remote).count()
    }

    fn recount(&self) {
        quotas::recount(self.probe.maps(), &HashMap::from([(1, 1), (2, 2)])).unwrap();
    }
}

fn support_class(model: &sg_userspace::model::Model) -> u32 {
    let key = sg_userspace::effective::PolicyKey::of(model, &model.declared_instances()[0]);
    let tables = sg_userspace::compiler::compile(model, &model.declared_instances(), &key, |_| 1).unwrap();
    tables.size_class() as u32
}

fn settings(interface: u32, remote: u32) -> Settings {
    Settings { interface, remote, management: vec!["198.51.100.0/28".parse().unwrap()] }
}

const ALL: [u32; 2] = [MAX_FLOWS; 2];
const GREEDY: [u8; 4] = [203, 0, 113, 9];
const MANAGER: [u8; 4] = [198, 51, 100, 7];

#[test]
fn a_remote_has_its_share_of_an_interface() {
    let Some(mut w) = World::new(settings(0, 100).quotas(ALL, 2, 7)) else { return };
    w.device(1);
    w.connect([192, 0, 2, 1], 5000);
    for port in 1..=3000 {
        w.connect(GREEDY, port);
    }
    assert_eq!(w.confirmed(&GREEDY), 100);
    // Those past the share go on, too, and so does everybody else.
    for port in 2900..=3000 {
        w.segment(false, GREEDY, port, ACK | 8);
    }
    w.connect([192, 0, 2, 2], 5000);
    w.segment(false, [192, 0, 2, 1], 5000, ACK | 8);
    assert_eq!(w.confirmed(&[192, 0, 2]), 2);
    // On another interface it has another.
    w.device(2);
    for port in 1..=200 {
        w.connect(GREEDY, port);
    }
    assert_eq!(w.confirmed(&GREEDY), 100);
}

#[test]
fn an_ipv6_network_is_one_remote() {
    let Some(mut w) = World::new(settings(0, 100).quotas(ALL, 2, 7)) else { return };
    w.device(1);
    let mut greedy = R6;
    for i in 0..1000u16 {
        greedy[14..].copy_from_slice(&i.to_be_bytes());
        w.connect6(greedy, 5000);
    }
    assert_eq!(w.confirmed(&R6[..8]), 100);
    let mut other = R6;
    other[7] ^= 1;
    w.connect6(other, 5000);
    assert_eq!(w.confirmed(&other), 1);
}

#[test]
fn an_interface_has_its_share_of_the_table() {
    let Some(mut w) = World::new(settings(500, 0).quotas(ALL, 2, 7)) else { return };
    w.device(1);
    for i in 0..2000u16 {
        let [a, b] = i.to_be_bytes();
        w.connect([203, 0, a, b], 5000);
    }
    assert_eq!(w.confirmed(&[203, 0]), 500);
    w.connect(MANAGER, 22);
    assert_eq!(w.confirmed(&MANAGER), 1, "no quota binds a management remote");
    w.device(2);
    for i in 0..400u16 {
        let [a, b] = i.to_be_bytes();
        w.connect([203, 0, a, b], 5000);
    }
    assert_eq!(w.confirmed(&[203, 0]), 400, "the other interface's room is its own");
}

/// As it is by default: one remote takes an eighth, the table fills up, and management
/// still gets in.
#[test]
fn the_last_part_of_the_table_is_for_management() {
    let Some(mut w) = World::new(settings(0, 0).quotas(ALL, 1, 7)) else { return };
    w.device(1);
    for port in 1..=9000 {
        w.handshake(GREEDY, port);
    }
    assert_eq!(w.confirmed(&GREEDY), MAX_FLOWS as usize / 8);
    for i in 0..MAX_FLOWS - MAX_FLOWS / 8 {
        let [_, a, b, c] = i.to_be_bytes();
        w.handshake([100, a, b, c], 5000);
    }
    let full = (MAX_FLOWS - MAX_FLOWS / 16) as usize;
    assert_eq!(w.confirmed(&[100]), full - MAX_FLOWS as usize / 8);
    for port in 1..=1000 {
        w.connect(MANAGER, port);
    }
    assert_eq!(w.confirmed(&MANAGER), 1000);
    // What was there first is there still.
    for i in (0..40_000u32).step_by(97) {
        let [_, a, b, c] = i.to_be_bytes();
        w.segment(false, [100, a, b, c], 5000, ACK | 8);
    }
    assert_eq!(w.confirmed(&[]), full + 1000);
}

/// The program only adds; what has ended is taken off when the daemon counts.
#[test]
fn room_that_is_free_again_is_given_again() {
    let quotas = settings(1000, 100).quotas(ALL, 2, 7);
    let Some(mut w) = World::new(quotas) else { return };
    let counts = Counts::open(w.probe.maps()).unwrap();
    w.device(1);
    for port in 1..=150 {
        w.connect(GREEDY, port);
    }
    let used = || (counts.tables(), counts.interface(1), counts.remote(1, GREEDY.into(), 7));
    assert_eq!(used(), ([100, 0], [100, 0], 100));
    w.recount();
    assert_eq!(used(), ([100, 0], [100, 0], 100), "it was right");
    flows::forget_zone(w.probe.maps(), 1).unwrap();
    w.connect(GREEDY, 7);
    assert_eq!(used(), ([100, 0], [100, 0], 100), "nobody has counted yet");
    w.recount();
    assert_eq!(used(), ([0, 0], [0, 0], 0));
    // A flow that had to wait is confirmed by its next packet.
    w.segment(true, GREEDY, 7, ACK | 8);
    assert_eq!(used(), ([1, 0], [1, 0], 1));
    assert_eq!(w.confirmed(&GREEDY), 1);
    counts.reset_interface(1);
    assert_eq!(used(), ([1, 0], [0, 0], 1));
}
