//! The validated policy: names resolved to indices, text parsed to values.
//!
//! A [`Model`] only ever comes out of validation, so everything in it is
//! consistent: indices are in range, groups of one interface agree, prefixes
//! parse. Nothing under this module does I/O.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
pub use sg_common::{flow::Direction, reason::Verdict};

use crate::failsafe::Failsafe;

/// A whole validated policy, in document order. A model that differs little from
/// another shares what is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Security groups.
    pub groups: Vec<Arc<Group>>,
    /// Prefix lists.
    pub prefix_lists: Vec<Arc<PrefixList>>,
    /// Port range lists.
    pub port_lists: Vec<Arc<PortList>>,
    /// Interfaces, bound or remote.
    pub interfaces: Vec<Arc<Interface>>,
    /// The administrator's failsafe; no document has it.
    pub failsafe: Option<Arc<Failsafe>>,
}

/// Basic or enterprise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// Basic: outbound default accept, inner access per policy.
    Normal,
    /// Enterprise: both defaults drop.
    Enterprise,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `sg-…`, given or derived from the name.
    pub id: String,
    /// The name as listings and `explain` show it; the id when it has none.
    pub name: String,
    /// Basic or enterprise.
    pub kind: GroupType,
    /// VPC it is in.
    pub vpc: String,
    /// Members accept each other's inbound traffic before any rule (basic only).
    pub inner_accept: bool,
    /// Rules of both directions; the index is the rule's index in the document.
    pub rules: Vec<Rule>,
}

/// A permission.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `sgr-…`, stable while direction, match, policy and priority stay.
    pub id: String,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Accept or drop.
    pub verdict: Verdict,
    /// 1 (first) to 100.
    pub priority: u8,
    /// `None` is every protocol.
    pub protocol: Option<u8>,
    /// Destination ports.
    pub ports: Ports,
    /// Inclusive source port range; `None` is any.
    pub source_ports: Option<(u16, u16)>,
    /// The remote side.
    pub object: Object,
    /// The local side, when narrower than the instance.
    pub local: Option<IpNet>,
}

impl Rule {
    /// Whether it looks at source ports or the local address.
    pub fn is_five_tuple(&self) -> bool {
        self.source_ports.is_some() || self.local.is_some()
    }
}

/// Destination ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// All, or the protocol has none.
    Any,
    /// Inclusive.
    Range(u16, u16),
    /// Index into [`Model::port_lists`].
    List(usize),
}

/// The remote side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A prefix, host bits cleared.
    Cidr(IpNet),
    /// Index into [`Model::groups`].
    Group(usize),
    /// Index into [`Model::prefix_lists`].
    PrefixList(usize),
}

/// A prefix list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixList {
    /// `pl-…`.
    pub id: String,
    /// Name, or the id.
    pub name: String,
    /// Whether the entries are IPv4.
    pub v4: bool,
    /// What it counts against the rule quota.
    pub max_entries: usize,
    /// Entries, all of one family.
    pub entries: Vec<IpNet>,
}

/// A port range list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList {
    /// `prl-…`.
    pub id: String,
    /// Name, or the id.
    pub name: String,
    /// What it counts against the rule quota.
    pub max_entries: usize,
    /// Inclusive ranges.
    pub entries: Vec<(u16, u16)>,
}

/// Which side of the device the instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This machine is the instance.
    Host,
    /// The other end of the tap or veth is the instance.
    Guest,
}

/// Where the program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Native XDP where the device is a physical NIC whose driver has it, else TC.
    Auto,
    /// XDP inbound (host side), TC outbound.
    Xdp,
    /// TC both ways.
    Tc,
}

/// An interface of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Device name or glob; `None` for a member that lives elsewhere.
    pub device: Option<String>,
    /// Host or guest.
    pub side: Side,
    /// `eni-…`.
    pub id: String,
    /// Name, device, or the id.
    pub name: String,
    /// Declared addresses; when given, they decide.
    pub addresses: Vec<IpAddr>,
    /// Indices into [`Model::groups`], in the order given.
    pub groups: Vec<usize>,
    /// Idle seconds of established TCP flows.
    pub tcp_established: u16,
    /// Idle seconds of closed TCP flows.
    pub tcp_closed: u8,
    /// Idle seconds of UDP flows.
    pub udp: u16,
    /// Hook asked for.
    pub hook: Hook,
    /// Outbound port 25 at public addresses is left to the rules.
    pub smtp_open: bool,
    /// Drop what the guest sends from foreign addresses.
    pub source_check: bool,
}

/// An interface as it stands on the machine: a glob stands for several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Index into [`Model::interfaces`].
    pub interface: usize,
    /// The device, if it is one of this machine's.
    pub device: Option<String>,
    /// Its addresses now: declared ones, or the device's own.
    pub addresses: Vec<IpAddr>,
}

impl Model {
    /// The failsafe, if an instance has it.
    pub fn failsafe_of(&self, instance: &Instance) -> Option<&Failsafe> {
        let covers = |f: &&Arc<Failsafe>| f.covers(&self.interfaces[instance.interface], instance);
        self.failsafe.as_ref().filter(covers).map(Arc::as_ref)
    }

    /// The instances as the document alone knows them: devices by the name or
    /// glob given, addresses as declared.
    pub fn declared_instances(&self) -> Vec<Instance> {
        self.interfaces
            .iter()
            .enumerate()
            .map(|(interface, i)| Instance { interface, device: i.device.clone(), addresses: i.addresses.clone() })
            .collect()
    }
}

/// `tcp`, `udp`, …, a number, or `all`.
pub fn protocol_name(protocol: Option<u8>) -> String {
    match protocol {
        None => "all".into(),
        Some(6) => "tcp".into(),
        Some(17) => "udp".into(),
        Some(1) => "icmp".into(),
        Some(58) => "icmpv6".into(),
        Some(47) => "gre".into(),
        Some(n) => n.to_string(),
    }
}

/// Whether a device name, or a pattern with `*` and `?`, means this device.
pub fn device_matches(pattern: &str, device: &str) -> bool {
    fn matches(p: &[u8], d: &[u8]) -> bool {
        match p.split_first() {
            None => d.is_empty(),
            Some((b'*', rest)) => (0..=d.len()).any(|i| matches(rest, &d[i..])),
            Some((b'?', rest)) => d.split_first().is_some_and(|(_, d)| matches(rest, d)),
            Some((c, rest)) => d.split_first().is_some_and(|(x, d)| x == c && matches(rest, d)),
        }
    }
    matches(pattern.as_bytes(), device.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::device_matches;

    #[test]
    fn patterns() {
        assert!(device_matches("tap*", "tap0") && device_matches("tap*", "tap"));
        assert!(device_matches("eth?", "eth1") && !device_matches("eth?", "eth10"));
        assert!(device_matches("*-e*t", "vm-ext") && !device_matches("eth0", "eth"));
    }
}
