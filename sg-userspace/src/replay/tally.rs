//! What came of a capture: counts, and the packets that are decided otherwise, by flow.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;
use sg_common::addr::Addr;
use sg_ebpf::parse::{Kind, Parsed};

use super::{capture::Packet, judge::Judged, place::Skip};
use crate::{
    explain::Answer,
    model::{Direction, Verdict, protocol_name},
};

/// Flows that are told apart; packets of further ones are only counted. So many take less
/// than 100 MB.
const FLOWS: usize = 100_000;

/// A flow, whichever way its packets go. Of those that change both ways there are two.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    local: Addr,
    remote: Addr,
    local_port: u16,
    remote_port: u16,
    protocol: u8,
    kind: bool,
    to: Verdict,
}

impl Key {
    fn of(parsed: &Parsed, direction: Direction, to: Verdict) -> Self {
        let (source, destination) = ((parsed.src, parsed.src_port), (parsed.dst, parsed.dst_port));
        let (local, remote) =
            if direction == Direction::Inbound { (destination, source) } else { (source, destination) };
        Self {
            local: local.0,
            remote: remote.0,
            local_port: local.1,
            remote_port: remote.1,
            protocol: parsed.protocol,
            kind: matches!(parsed.kind, Kind::Arp),
            to,
        }
    }
}

/// A flow of which packets are decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// `newly accepted` or `newly dropped`.
    pub change: &'static str,
    /// A name or a number; `arp`.
    pub protocol: String,
    /// The device's address.
    pub local: IpAddr,
    /// The other side's.
    pub remote: IpAddr,
    /// Where there are ports.
    pub local_port: Option<u16>,
    /// Where there are ports.
    pub remote_port: Option<u16>,
    /// `ingress` or `egress`: of its first packet that is decided otherwise.
    pub direction: &'static str,
    /// Number of that packet, from 1.
    pub first: u64,
    /// When it was captured, UTC.
    pub at: String,
    /// Such packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What becomes of the first one now.
    pub now: Answer,
    /// What would become of it.
    pub candidate: Answer,
    /// What decides now, for people.
    #[serde(skip)]
    pub rules: [String; 2],
}

/// What came of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Packets read.
    pub packets: u64,
    /// Those not judged, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Those judged with zeros for what the capture did not keep of them.
    pub padded: u64,
    /// Whether the capture ends in the middle of a packet.
    pub ends_early: bool,
    /// When the first packet was captured, UTC.
    pub from: Option<String>,
    /// When the last one was.
    pub until: Option<String>,
    /// Packets decided as now.
    pub same: u64,
    /// Those accepted that are dropped now.
    pub newly_accepted: u64,
    /// Those dropped that are accepted now.
    pub newly_dropped: u64,
    /// Flows that are decided otherwise.
    pub flow_count: usize,
    /// Packets decided otherwise whose flows are too many to be told.
    pub untold: u64,
    /// The flows, those with the most packets first.
    pub flows: Vec<Flow>,
}

/// A capture's time.
fn time(at: u64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(at)).to_string()
}

/// Counts what came so far.
#[derive(Default)]
pub struct Tally {
    packets: u64,
    times: Option<(u64, u64)>,
    skipped: BTreeMap<Skip, u64>,
    padded: u64,
    same: u64,
    newly: [u64; 2],
    untold: u64,
    flows: HashMap<Key, Flow>,
}

impl Tally {
    /// A packet was read.
    pub fn packet(&mut self, at: u64) {
        self.packets += 1;
        let (from, until) = self.times.unwrap_or((at, at));
        self.times = Some((from.min(at), until.max(at)));
    }

    /// It is not judged.
    pub fn skip(&mut self, why: Skip) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// It was longer than what was kept.
    pub fn padded(&mut self) {
        self.padded += 1;
    }

    /// It was judged.
    pub fn judged(&mut self, packet: &Packet<'_>, direction: Direction, parsed: &Parsed, now: Judged, then: Judged) {
        if now.verdict == then.verdict {
            self.same += 1;
            return;
        }
        let accepted = then.verdict == Verdict::Accept;
        self.newly[usize::from(accepted)] += 1;
        let key = Key::of(parsed, direction, then.verdict);
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&key) {
            self.untold += 1;
            return;
        }
        let flow = self.flows.entry(key).or_insert_with(|| {
            let ports = matches!(key.protocol, 6 | 17) && !key.kind;
            Flow {
                change: if accepted { "newly accepted" } else { "newly dropped" },
                protocol: if key.kind { "arp".into() } else { protocol_name(Some(key.protocol)) },
                local: address(key.local),
                remote: address(key.remote),
                local_port: ports.then_some(key.local_port),
                remote_port: ports.then_some(key.remote_port),
                direction: direction.name(),
                first: packet.number,
                at: time(packet.at),
                packets: 0,
                bytes: 0,
                now: now.answer,
                candidate: then.answer,
                rules: [now.rule, then.rule],
            }
        });
        flow.packets += 1;
        flow.bytes += u64::from(packet.length);
    }

    /// All of it; `ends_early` is what [`super::capture::read`] says.
    pub fn report(self, ends_early: bool) -> Report {
        let mut flows: Vec<Flow> = self.flows.into_values().collect();
        flows.sort_unstable_by(|a, b| (b.packets, b.bytes, a.first).cmp(&(a.packets, a.bytes, b.first)));
        Report {
            packets: self.packets,
            skipped: self.skipped.into_iter().map(|(why, n)| (why.text(), n)).collect(),
            padded: self.padded,
            ends_early,
            from: self.times.map(|(from, _)| time(from)),
            until: self.times.map(|(_, until)| time(until)),
            same: self.same,
            newly_accepted: self.newly[1],
            newly_dropped: self.newly[0],
            flow_count: flows.len(),
            untold: self.untold,
            flows,
        }
    }
}

fn address(addr: Addr) -> IpAddr {
    if addr.is_v4() { IpAddr::from(addr.v4_bytes()) } else { IpAddr::from(addr.0) }
}
