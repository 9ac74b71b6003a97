//! Live flows as they are asked for: which are meant, which are shown, who has the most.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use sg_common::reason::Verdict;
use sg_ebpf::conntrack::Clock;

use super::protocol::{FlowFilter, FlowVerdict, TopLine, TopView};
use crate::{
    dataplane::{flows::Live, quotas::remote_of},
    model::protocol_name,
};

/// Lines of one answer at most, whatever was asked.
pub const MOST: usize = 10_000;

/// A filter in the words of the command line.
pub fn words(filter: &FlowFilter) -> Vec<(&'static str, String)> {
    let FlowFilter { device, group, address, port, protocol, verdict } = filter;
    let words = [
        ("device", device.clone()),
        ("group", group.clone()),
        ("address", address.map(|a| a.to_string())),
        ("port", port.map(|p| p.to_string())),
        ("protocol", protocol.map(|p| protocol_name(Some(p)))),
        ("verdict", verdict.map(|v| v.name().to_owned())),
    ];
    words.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Whether the ports of a protocol's key are ports.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17)
}

/// The flows that are meant: a filter, and the zones of the devices that it names.
pub struct Meant<'a> {
    /// Names of devices by the zones of their flows.
    pub zones: HashMap<u32, &'a str>,
    /// What else is asked.
    pub filter: &'a FlowFilter,
    /// When.
    pub clock: Clock,
}

impl Meant<'_> {
    /// Whether a flow is among them: it lives, and all that is asked holds.
    pub fn has(&self, flow: &Live) -> bool {
        let FlowFilter { address, port, protocol, verdict, .. } = self.filter;
        let own = flow.key.protocol();
        self.zones.contains_key(&flow.key.zone)
            && protocol.is_none_or(|p| p == own)
            && verdict.is_none_or(|v| v == verdict_of(flow))
            && port.is_none_or(|p| has_ports(own) && (flow.key.local_port == p || flow.key.remote_port == p))
            && address.is_none_or(|net| {
                let within = |end: IpAddr| net.contains(&end);
                within(flow.key.local.into()) || within(flow.key.remote.into())
            })
            && !flow.is_expired(self.clock)
    }
}

/// What happens to a flow's packets.
pub fn verdict_of(flow: &Live) -> FlowVerdict {
    match flow.verdict {
        Verdict::Accept => FlowVerdict::Accept,
        Verdict::Drop => FlowVerdict::Drop,
    }
}

/// Counts flows, and keeps those that had a packet last.
pub struct Newest {
    limit: usize,
    clock: Clock,
    total: usize,
    kept: Vec<Live>,
}

impl Newest {
    /// For so many.
    pub fn new(limit: usize, clock: Clock) -> Self {
        Self { limit: limit.min(MOST), clock, total: 0, kept: Vec::new() }
    }

    /// Newest first, and by their ends where that is the same second.
    fn order(&mut self) {
        let clock = self.clock;
        let ends =
            |f: &Live| (IpAddr::from(f.key.remote), f.key.remote_port, IpAddr::from(f.key.local), f.key.local_port);
        self.kept.sort_unstable_by_key(|f| (f.idle_seconds(clock), ends(f)));
        self.kept.truncate(self.limit);
    }

    /// Takes one more.
    pub fn add(&mut self, flow: Live) {
        self.total += 1;
        self.kept.push(flow);
        // Of a million only twice as many as are shown are ever held.
        if self.kept.len() > 2 * self.limit.max(MOST / 2) {
            self.order();
        }
    }

    /// How many there were, and those that are kept.
    pub fn done(mut self) -> (usize, Vec<Live>) {
        self.order();
        (self.total, self.kept)
    }
}

/// Counts flows by device and remote.
#[derive(Default)]
pub struct Top {
    flows: usize,
    remotes: HashMap<(u32, IpNet), [usize; 3]>,
}

impl Top {
    /// Takes one more.
    pub fn add(&mut self, flow: &Live) {
        self.flows += 1;
        let counts = self.remotes.entry((flow.key.zone, remote_of(flow.key.remote.into()))).or_default();
        let cut = flow.verdict == Verdict::Drop;
        for (count, is) in counts.iter_mut().zip([true, flow.confirmed, cut]) {
            *count += usize::from(is);
        }
    }

    /// The remotes with the most.
    pub fn done(self, limit: usize, zones: &HashMap<u32, &str>) -> TopView {
        let named: BTreeMap<(&str, IpNet), [usize; 3]> = self
            .remotes
            .into_iter()
            .filter_map(|((zone, remote), counts)| Some(((*zones.get(&zone)?, remote), counts)))
            .collect();
        let remotes = named.len();
        let mut all: Vec<_> = named.into_iter().collect();
        all.sort_by_key(|(_, [flows, ..])| Reverse(*flows));
        let line = |((device, remote), [flows, confirmed, cut]): ((&str, IpNet), [usize; 3])| TopLine {
            device: device.to_owned(),
            remote,
            flows,
            confirmed,
            cut,
        };
        let top = all.into_iter().take(limit.min(MOST)).map(line).collect();
        TopView { flows: self.flows, remotes, top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Direction;
    use sg_common::flow::FlowKey;

    const CLOCK: Clock = Clock { now: 5, hz: 100 };

    /// A flow of a zone with a remote, whose last packet was so many jiffies ago.
    fn flow(zone: u32, remote: &str, protocol: u8, ago: u32) -> Live {
        let (local, remote) = ("10.0.0.10".parse::<IpAddr>().unwrap(), remote.parse::<IpAddr>().unwrap());
        let key = FlowKey {
            zone,
            vlan_proto: protocol.into(),
            local: local.into(),
            remote: remote.into(),
            local_port: 22,
            remote_port: 4000,
        };
        Live {
            key,
            origin: Direction::Inbound,
            verdict: Verdict::Accept,
            last: [CLOCK.now.wrapping_sub(ago); 2],
            rule: 0,
            seen: [1; 2],
            timeout: 60,
            confirmed: true,
        }
    }

    #[test]
    fn all_that_is_asked_must_hold() {
        let cut = Live { verdict: Verdict::Drop, ..flow(1, "192.0.2.7", 6, 100) };
        let has = |flow: &Live, filter: FlowFilter| {
            Meant { zones: HashMap::from([(1, "eth0")]), filter: &filter, clock: CLOCK }.has(flow)
        };
        let none = FlowFilter::default;
        let net = |text: &str| Some(text.parse().unwrap());
        for (yes, filter) in [
            (true, none()),
            (true, FlowFilter { address: net("192.0.2.0/24"), ..none() }),
            (true, FlowFilter { address: net("10.0.0.10/32"), port: Some(4000), ..none() }),
            (false, FlowFilter { address: net("10.0.0.10/32"), port: Some(4001), ..none() }),
            (false, FlowFilter { address: net("::/0"), ..none() }),
            (true, FlowFilter { port: Some(22), protocol: Some(6), ..none() }),
            (false, FlowFilter { port: Some(22), protocol: Some(17), ..none() }),
            (true, FlowFilter { verdict: Some(FlowVerdict::Drop), ..none() }),
            (false, FlowFilter { verdict: Some(FlowVerdict::Accept), ..none() }),
        ] {
            assert_eq!(has(&cut, filter.clone()), yes, "{filter:?}");
        }
        assert!(!has(&flow(2, "192.0.2.7", 6, 100), none()), "of another device");
        assert!(!has(&flow(1, "192.0.2.7", 6, 6001), none()), "expired");
        assert!(!has(&flow(1, "192.0.2.7", 1, 0), FlowFilter { port: Some(22), ..none() }), "no port");
    }

    #[test]
    fn the_newest_are_shown_and_all_are_counted() {
        let mut newest = Newest::new(2, CLOCK);
        // The clock has wrapped since the older ones.
        for ago in [900, 100, 500, 0] {
            newest.add(flow(1, "192.0.2.7", 6, ago));
        }
        let (total, shown) = newest.done();
        assert_eq!((total, shown.iter().map(|f| f.idle_seconds(CLOCK)).collect::<Vec<_>>()), (4, vec![0, 1]));
        let mut many = Newest::new(usize::MAX, CLOCK);
        (0..3 * MOST as u32).for_each(|ago| many.add(flow(1, "192.0.2.7", 6, ago % 5000)));
        let (total, shown) = many.done();
        assert_eq!((total, shown.len()), (3 * MOST, MOST));
        assert!(shown.iter().all(|f| f.idle_seconds(CLOCK) < 17));
    }

    #[test]
    fn remotes_are_counted_by_device() {
        let mut top = Top::default();
        for (zone, remote) in [(1, "192.0.2.7"), (1, "192.0.2.8"), (2, "192.0.2.8"), (1, "192.0.2.8"), (9, "192.0.2.8")]
        {
            top.add(&flow(zone, remote, 6, 0));
        }
        top.add(&Live { verdict: Verdict::Drop, confirmed: false, ..flow(1, "192.0.2.8", 6, 0) });
        let view = top.done(2, &HashMap::from([(1, "eth0"), (2, "eth1")]));
        let shown: Vec<_> = view.top.iter().map(|t| (t.device.as_str(), t.flows, t.confirmed, t.cut)).collect();
        assert_eq!((view.remotes, shown), (3, vec![("eth0", 3, 2, 1), ("eth0", 1, 1, 0)]));
    }
}
