//! Connections that were there before a device was protected: which cross it,
//! who began them, and what the policy says of them.
//!
//! A policy judges a flow where it began, and the first packet that a program
//! sees of an old one may come from either end. So they are looked up: sockets
//! of this machine by sock_diag, forwarded and translated flows in
//! nf_conntrack. A port that listens was connected to from outside.

mod netlink;
pub mod routes;
pub mod sockets;
pub mod tracked;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    ops::RangeInclusive,
};

use sg_common::{
    flow::{FlowKey, FlowKeys, seen},
    reason::Verdict,
};
use sg_ebpf::classify::query;

use self::{routes::Routes, sockets::Sockets, tracked::Tracked};
use super::machine::{Device, Machine};
use crate::{compiler::host::HostPolicy, model::Direction};

/// [`seen`] bits: inbound, outbound.
pub type Seen = [u8; 2];
/// What an established connection has shown.
pub const ESTABLISHED: Seen = [seen::ANY | seen::SYN | seen::ANSWERED; 2];

const TCP: u8 = 6;
const UDP: u8 = 17;
/// What Linux begins with, for outbound connections.
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// Everything that lives on this machine, read once for all its devices.
pub struct Living {
    sockets: Sockets,
    tracked: Vec<Tracked>,
    routes: Option<Routes>,
    ephemeral: RangeInclusive<u16>,
    /// What could not be read, for a human: such flows are judged as new ones.
    pub problems: Vec<String>,
}

/// A flow that crosses a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// IP protocol.
    pub protocol: u8,
    /// This side's address and port.
    pub local: (IpAddr, u16),
    /// The other side's.
    pub remote: (IpAddr, u16),
    /// Who began it.
    pub origin: Direction,
    /// The ports look as if it were the other way round.
    doubtful: bool,
    /// What its directions have shown.
    pub seen: Seen,
    /// Whether its initiator has had an answer.
    pub established: bool,
}

/// A crossing flow under a policy.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The flow; its origin is settled.
    pub flow: Crossing,
    /// What the policy says.
    pub verdict: Verdict,
    /// Counter of the rule that says so.
    pub rule: u32,
}

impl Crossing {
    /// Its key in a zone. Sockets do not know of VLAN tags.
    pub fn key(&self, zone: u32) -> FlowKey {
        FlowKey {
            zone,
            vlan_proto: u32::from(self.protocol),
            local: self.local.0.into(),
            remote: self.remote.0.into(),
            local_port: self.local.1,
            remote_port: self.remote.1,
        }
    }

    /// Judges it as its first packet would have been.
    pub fn judge(mut self, policy: &HostPolicy) -> Judged {
        let keys = FlowKeys::new(self.key(0), self.local.0.is_ipv4());
        let ask = |origin| policy.decide(&query(&keys, origin)).map(|r| (Verdict::from_u8(r.verdict), r.counter));
        let missing = (Verdict::Drop, 0);
        let (mut verdict, mut rule) = ask(self.origin).unwrap_or(missing);
        if verdict == Verdict::Drop
            && self.doubtful
            && let Some((Verdict::Accept, other)) = ask(self.origin.reverse())
        {
            self.origin = self.origin.reverse();
            (verdict, rule) = (Verdict::Accept, other);
        }
        Judged { flow: self, verdict, rule }
    }

    /// Leases are accepted before any rule, and never tracked.
    fn is_lease(&self) -> bool {
        self.protocol == UDP && matches!((self.local.1, self.remote.1), (68, 67) | (546, 547))
    }
}

fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => EPHEMERAL,
    }
}

impl Living {
    /// Reads it.
    pub fn read() -> Self {
        let mut problems = Vec::new();
        let mut sockets = Sockets { complete: true, ..Sockets::default() };
        for (protocol, name) in [(TCP, "TCP"), (UDP, "UDP")] {
            if let Err(e) = sockets.read(protocol) {
                sockets.complete = false;
                problems.push(format!("live {name} sockets cannot be listed (sock_diag: {e})"));
            }
        }
        let tracked = tracked::read().unwrap_or_else(|e| {
            problems.push(format!("flows that nf_conntrack knows cannot be listed ({e})"));
            Vec::new()
        });
        let routes = Routes::open().map_err(|e| problems.push(format!("routes cannot be asked for ({e})"))).ok();
        Self { sockets, tracked, routes, ephemeral: ephemeral(), problems }
    }

    /// The flows that cross a device of which this machine is the instance.
    pub fn crossing(&mut self, machine: &Machine, device: &Device) -> Vec<Crossing> {
        let mut flows: HashMap<_, Crossing> = HashMap::new();
        let all: HashSet<IpAddr> = machine.devices.iter().flat_map(|d| d.addresses.iter().copied()).collect();
        let own = |addr: IpAddr| all.contains(&addr);
        let mut leaves = |from: Option<IpAddr>, to: IpAddr| {
            self.routes.as_mut().and_then(|r| r.device(from, to)) == Some(device.index)
        };
        for s in &self.sockets.connected {
            // This machine talks to itself over its loopback.
            if s.local.0.is_loopback() || s.remote.0.is_loopback() || own(s.remote.0) {
                continue;
            }
            let bound = machine.devices.iter().find(|d| d.index == s.device && d.kind.as_deref() != Some("vrf"));
            let here = match bound {
                Some(bound) => bound.index == device.index,
                None => device.addresses.contains(&s.local.0) || leaves(Some(s.local.0), s.remote.0),
            };
            if !here {
                continue;
            }
            let (sent, came) = (s.seen[1], s.seen[0]);
            let listens = self.sockets.listeners.has(s.protocol, s.local);
            let inbound = if s.established { listens } else { came & seen::SYN != 0 && sent & seen::SYN != 0 };
            let passive = !self.ephemeral.contains(&s.local.1) && self.ephemeral.contains(&s.remote.1);
            let flow = Crossing {
                protocol: s.protocol,
                local: s.local,
                remote: s.remote,
                origin: if inbound { Direction::Inbound } else { Direction::Outbound },
                // Some servers listen for one connection only.
                doubtful: s.established && !inbound && passive,
                seen: s.seen,
                established: s.established,
            };
            flows.insert((s.protocol, s.local, s.remote), flow);
        }
        for t in &self.tracked {
            // The originator's packets come in by this device, or go out by it.
            let ends = [
                (Direction::Inbound, t.original.destination, t.original.source),
                (Direction::Outbound, t.reply.destination, t.reply.source),
            ];
            for (origin, local, remote) in ends {
                if local.0.is_loopback() || remote.0.is_loopback() || own(remote.0) {
                    continue;
                }
                let ours = own(local.0);
                let here = device.addresses.contains(&local.0) || (!ours && leaves(None, remote.0));
                if !here {
                    continue;
                }
                match flows.entry((t.protocol, local, remote)) {
                    Entry::Occupied(mut known) => {
                        let flow = known.get_mut();
                        // A port that listens knows better than who began to look later.
                        if flow.established && flow.origin == Direction::Outbound {
                            (flow.origin, flow.doubtful) = (origin, false);
                        }
                    }
                    // A connection of this machine's own without a socket is over,
                    // if its sockets are known.
                    Entry::Vacant(_) if t.protocol == TCP && self.sockets.complete && ours && !t.is_translated() => {}
                    Entry::Vacant(free) => {
                        let seen = match (t.protocol, t.answered) {
                            (TCP, _) => ESTABLISHED,
                            (_, true) => [seen::ANY | seen::ANSWERED; 2],
                            (_, false) if origin == Direction::Inbound => [seen::ANY, 0],
                            (_, false) => [0, seen::ANY],
                        };
                        let established = t.protocol == TCP || t.answered;
                        let protocol = t.protocol;
                        free.insert(Crossing { protocol, local, remote, origin, doubtful: false, seen, established });
                    }
                }
            }
        }
        let mut flows: Vec<Crossing> = flows.into_values().filter(|f| !f.is_lease()).collect();
        flows.sort_unstable_by_key(|f| (f.protocol, f.local, f.remote));
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::{
        sockets::{Listeners, Socket},
        tracked::Tuple,
        *,
    };

    fn end(text: &str) -> (IpAddr, u16) {
        let end: std::net::SocketAddr = text.parse().unwrap();
        (end.ip(), end.port())
    }

    fn device(index: u32, name: &str, address: &str) -> Device {
        Device {
            index,
            name: name.into(),
            ethernet: true,
            loopback: false,
            up: true,
            master: None,
            vrf: false,
            kind: None,
            generic_xdp: false,
            xdp: None,
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn socket(local: &str, remote: &str) -> Socket {
        Socket {
            protocol: TCP,
            local: end(local),
            remote: end(remote),
            device: 0,
            seen: ESTABLISHED,
            established: true,
            inode: 0,
        }
    }

    /// Origins by remote port, of what crosses `eth0` at 10.0.0.1; beside it is `eth1` at 10.1.0.1.
    fn crossing(sockets: Vec<Socket>, tracked: Vec<Tracked>) -> Vec<(u16, Direction, bool)> {
        let mut listeners = Listeners::default();
        listeners.add(TCP, end("0.0.0.0:22"), false);
        let sockets = Sockets { connected: sockets, listeners, complete: true };
        let mut living = Living { sockets, tracked, routes: None, ephemeral: EPHEMERAL, problems: Vec::new() };
        let machine = Machine { devices: vec![device(2, "eth0", "10.0.0.1"), device(3, "eth1", "10.1.0.1")] };
        let flows = living.crossing(&machine, &machine.devices[0]);
        flows.iter().map(|f| (f.remote.1, f.origin, f.doubtful)).collect()
    }

    #[test]
    fn a_port_that_listens_was_connected_to() {
        let bound = Socket { device: 3, ..socket("10.0.0.1:40006", "192.0.2.1:6") };
        let syn = seen::ANY | seen::SYN;
        let asked = Socket { seen: [syn, syn], established: false, ..socket("10.0.0.1:5000", "192.0.2.1:7") };
        let asking = Socket { seen: [0, syn], established: false, ..socket("10.0.0.1:22", "192.0.2.1:8") };
        let sockets = vec![
            socket("10.0.0.1:22", "192.0.2.1:1"),
            socket("10.0.0.1:40000", "192.0.2.1:2"),
            socket("10.1.0.1:22", "192.0.2.1:3"),
            socket("127.0.0.1:22", "127.0.0.1:4"),
            socket("10.0.0.1:40001", "10.1.0.1:5"),
            bound,
            asked,
            asking,
            socket("10.0.0.1:5000", "192.0.2.1:50000"),
        ];
        use Direction::{Inbound, Outbound};
        let expected = [
            (1, Inbound, false),
            (2, Outbound, false),
            (7, Inbound, false),
            (8, Outbound, false),
            (50000, Outbound, true),
        ];
        let mut found = crossing(sockets, Vec::new());
        found.sort_by_key(|f| f.0);
        assert_eq!(found, expected, "eth1's, the loopback's and its own are not among them");
    }

    #[test]
    fn what_is_translated_crosses_as_it_is_on_the_wire() {
        let tuple = |source, destination| Tuple { source: end(source), destination: end(destination) };
        let flow = |original, reply| Tracked { protocol: TCP, original, reply, answered: true };
        let published = flow(tuple("192.0.2.1:1", "10.0.0.1:8080"), tuple("172.17.0.2:80", "192.0.2.1:1"));
        let masqueraded = flow(tuple("172.17.0.2:40000", "192.0.2.1:2"), tuple("192.0.2.1:2", "10.0.0.1:40000"));
        // A connection of our own without a socket is over.
        let over = flow(tuple("192.0.2.1:3", "10.0.0.1:22"), tuple("10.0.0.1:22", "192.0.2.1:3"));
        // Nobody listens any more, but it is on record who began.
        let known = flow(tuple("192.0.2.1:4", "10.0.0.1:5000"), tuple("10.0.0.1:5000", "192.0.2.1:4"));
        let sockets = vec![socket("10.0.0.1:5000", "192.0.2.1:4")];
        let found = crossing(sockets, vec![published, masqueraded, over, known]);
        use Direction::{Inbound, Outbound};
        let mut found: Vec<_> = found.into_iter().map(|(port, origin, _)| (port, origin)).collect();
        found.sort_by_key(|f| f.0);
        assert_eq!(found, [(1, Inbound), (2, Outbound), (4, Inbound)]);
    }
}
