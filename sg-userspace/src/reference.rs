//! The evaluator of record: a list and a loop. The compiled tables and the
//! kernel program must agree with it on every packet.

use std::{borrow::Cow, collections::HashSet, net::IpAddr};

use sg_common::{addr::Addr, reason::Reason};

use crate::model::{
    Direction, GroupType, Instance, Interface, Model, Object, Ports, Rule, Side, Verdict, device_matches,
};

/// The first packet of a new flow, as the instance sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowQuery {
    /// To or from the instance.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// The instance's address.
    pub local: IpAddr,
    /// The other side's address, of the same family.
    pub remote: IpAddr,
    /// Local port; 0 where there is none.
    pub local_port: u16,
    /// Remote port; 0 where there is none.
    pub remote_port: u16,
    /// ICMP, ICMPv6 and IGMP type; ignored for other protocols.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
}

impl FlowQuery {
    /// Source and destination port.
    pub fn ports(&self) -> (u16, u16) {
        match self.direction {
            Direction::Inbound => (self.remote_port, self.local_port),
            Direction::Outbound => (self.local_port, self.remote_port),
        }
    }
}

/// What happens to it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Accept or drop.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Index of the deciding group.
    pub group: Option<usize>,
    /// Index of the deciding rule within it.
    pub rule: Option<usize>,
}

impl Outcome {
    fn of(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, group: None, rule: None }
    }
}

/// The evaluator of one policy with its instances.
#[derive(Debug)]
pub struct Reference<'a> {
    model: &'a Model,
    instances: &'a [Instance],
    members: Cow<'a, [HashSet<IpAddr>]>,
}

impl<'a> Reference<'a> {
    /// Collects the members of each group.
    pub fn new(model: &'a Model, instances: &'a [Instance]) -> Self {
        Self { model, instances, members: Self::members(model, instances).into() }
    }

    /// The same for one who has collected them before.
    pub fn with(model: &'a Model, instances: &'a [Instance], members: &'a [HashSet<IpAddr>]) -> Self {
        Self { model, instances, members: members.into() }
    }

    /// Addresses of the members of each group.
    pub fn members(model: &Model, instances: &[Instance]) -> Vec<HashSet<IpAddr>> {
        let mut members = vec![HashSet::new(); model.groups.len()];
        for instance in instances {
            for &group in &model.interfaces[instance.interface].groups {
                members[group].extend(instance.addresses.iter().copied());
            }
        }
        members
    }

    /// Judges the first packet of a flow of an instance.
    pub fn judge(&self, instance: usize, q: &FlowQuery) -> Outcome {
        let instance = &self.instances[instance];
        let interface = &self.model.interfaces[instance.interface];
        if let Some(outcome) = before_rules(interface, instance, q) {
            return outcome;
        }
        if self.is_failsafe(interface, instance, q) {
            return Outcome::of(Verdict::Accept, Reason::Failsafe);
        }
        self.rules(&interface.groups, interface.smtp_open, q)
    }

    /// Whether the administrator's failsafe lets it in, before any rule is asked.
    fn is_failsafe(&self, interface: &Interface, instance: &Instance, q: &FlowQuery) -> bool {
        let (Some(failsafe), Some(device)) = (&self.model.failsafe, &instance.device) else { return false };
        let mut here = failsafe.devices.is_empty() && interface.side == Side::Host;
        for pattern in &failsafe.devices {
            here = here || device_matches(pattern, device);
        }
        if !here || q.direction != Direction::Inbound || q.protocol != 6 {
            return false;
        }
        for &(first, last) in &failsafe.ports {
            for source in &failsafe.sources {
                if first <= q.local_port && q.local_port <= last && source.contains(&q.remote) {
                    return true;
                }
            }
        }
        false
    }

    fn rules(&self, groups: &[usize], smtp_open: bool, q: &FlowQuery) -> Outcome {
        if q.direction == Direction::Outbound {
            let public = !Addr::from(q.remote).is_private(q.remote.is_ipv4());
            if !smtp_open && q.protocol == 6 && q.ports().1 == 25 && public {
                return Outcome::of(Verdict::Drop, Reason::Smtp);
            }
            if q.remote == IpAddr::from([100, 100, 100, 200]) {
                return Outcome::of(Verdict::Accept, Reason::Provider);
            }
        }
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        if q.direction == Direction::Inbound {
            for &g in &groups {
                if self.model.groups[g].inner_accept && self.members[g].contains(&q.remote) {
                    return Outcome { group: Some(g), ..Outcome::of(Verdict::Accept, Reason::IntraGroup) };
                }
            }
        }
        for priority in 1..=100 {
            for verdict in [Verdict::Drop, Verdict::Accept] {
                for &g in &groups {
                    for (r, rule) in self.model.groups[g].rules.iter().enumerate() {
                        if rule.priority == priority && rule.verdict == verdict && self.matches(rule, q) {
                            return Outcome { verdict, reason: Reason::Rule, group: Some(g), rule: Some(r) };
                        }
                    }
                }
            }
        }
        let normal = groups.iter().any(|&g| self.model.groups[g].kind == GroupType::Normal);
        let open = normal && q.direction == Direction::Outbound;
        Outcome::of(if open { Verdict::Accept } else { Verdict::Drop }, Reason::Default)
    }

    fn matches(&self, rule: &Rule, q: &FlowQuery) -> bool {
        let (source, destination) = q.ports();
        rule.direction == q.direction
            && rule.protocol.is_none_or(|p| p == q.protocol)
            && match &rule.ports {
                Ports::Any => true,
                Ports::Range(first, last) => (*first..=*last).contains(&destination),
                Ports::List(i) => {
                    self.model.port_lists[*i].entries.iter().any(|(a, b)| (*a..=*b).contains(&destination))
                }
            }
            && rule.source_ports.is_none_or(|(first, last)| (first..=last).contains(&source))
            && rule.local.is_none_or(|net| net.contains(&q.local))
            && match &rule.object {
                Object::Cidr(net) => net.contains(&q.remote),
                Object::Group(g) => self.members[*g].contains(&q.remote),
                Object::PrefixList(i) => self.model.prefix_lists[*i].entries.iter().any(|net| net.contains(&q.remote)),
            }
    }
}

/// What stands before all rules, and says nothing about most flows.
pub fn before_rules(interface: &Interface, instance: &Instance, q: &FlowQuery) -> Option<Outcome> {
    if q.local == q.remote {
        return Some(Outcome::of(Verdict::Drop, Reason::Land));
    }
    if interface.side == Side::Guest && q.direction == Direction::Outbound {
        if interface.source_check && spoofs(instance, q) {
            return Some(Outcome::of(Verdict::Drop, Reason::Spoofed));
        }
        if is_rogue(q) {
            return Some(Outcome::of(Verdict::Drop, Reason::Rogue));
        }
    }
    is_essential(q).then(|| Outcome::of(Verdict::Accept, Reason::Essential))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Neighbours, multicast membership and leases, with the hop limits that the
/// standards prescribe for them.
pub fn is_essential(q: &FlowQuery) -> bool {
    let out = q.direction == Direction::Outbound;
    let source = if out { q.local } else { q.remote };
    match (q.protocol, q.local.is_ipv4()) {
        (58, false) if q.icmp_code == 0 && matches!(q.icmp_type, 135 | 136) => true,
        (58, false) if q.icmp_code == 0 && q.icmp_type == 133 => out,
        (58, false) if q.icmp_code == 0 && matches!(q.icmp_type, 134 | 137) => !out,
        (58, false) if q.icmp_type == 130 => !out && is_link_local(source),
        (58, false) if matches!(q.icmp_type, 131 | 132 | 143) => out && is_link_local(source),
        (2, true) => match q.icmp_type {
            0x11 => !out,
            0x12 | 0x16 | 0x17 | 0x22 => out,
            _ => false,
        },
        (17, true) if out => {
            let private = Addr::from(q.remote).is_private(true) || q.remote == IpAddr::from([255, 255, 255, 255]);
            (q.local_port, q.remote_port) == (68, 67) && private
        }
        (17, true) => (q.local_port, q.remote_port) == (68, 67),
        (17, false) => (q.local_port, q.remote_port) == (546, 547) && is_link_local(q.local),
        _ => false,
    }
}

/// What only a router or a DHCP server sends.
fn is_rogue(q: &FlowQuery) -> bool {
    match (q.protocol, q.local.is_ipv4()) {
        (58, false) => matches!(q.icmp_type, 134 | 137),
        (1, true) => matches!(q.icmp_type, 5 | 9),
        (17, true) => (q.local_port, q.remote_port) == (67, 68),
        (17, false) => (q.local_port, q.remote_port) == (547, 546),
        _ => false,
    }
}

/// Whether what an instance sends has an address that is not its own.
pub fn spoofs(instance: &Instance, q: &FlowQuery) -> bool {
    if q.direction == Direction::Inbound {
        return false;
    }
    if instance.addresses.contains(&q.local) || is_link_local(q.local) {
        return false;
    }
    let exempt = if q.local.is_ipv4() {
        q.protocol == 17 && (q.local_port, q.remote_port) == (68, 67)
    } else {
        q.protocol == 58 && matches!(q.icmp_type, 131 | 133 | 135 | 143)
    };
    !(q.local.is_unspecified() && exempt)
}
