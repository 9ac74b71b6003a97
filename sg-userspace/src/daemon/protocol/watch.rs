//! What is said to those who watch: first a reply, then a line for each event.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Devices by name or pattern; all when empty.
    pub devices: Vec<String>,
    /// Devices that are in one of these groups, by id or name; all when empty.
    pub groups: Vec<String>,
    /// Network of one of the ends.
    pub address: Option<IpNet>,
    /// First and last port of one of the ends.
    pub ports: Option<(u16, u16)>,
    /// Protocol number.
    pub protocol: Option<u8>,
    /// `accept` or `drop`; both when absent.
    pub verdict: Option<String>,
    /// Reasons by name; drops of every kind and new flows when empty.
    pub reasons: Vec<String>,
    /// What decided, as listings call it.
    pub rule: Option<String>,
    /// One of so many packets.
    pub every: u32,
    /// Events a second that each CPU tells at most.
    pub rate: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            groups: Vec::new(),
            address: None,
            ports: None,
            protocol: None,
            verdict: None,
            reasons: Vec::new(),
            rule: None,
            every: 1,
            rate: 1000,
        }
    }
}

/// A packet that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When, UTC, to a kernel tick.
    pub time: String,
    /// `drop`, `cut` (of a flow that a change ended), `new` (a flow begins), `observed` (would be dropped) or `pass`.
    pub what: String,
    /// The device; its number when it is gone.
    pub device: String,
    /// `ingress` or `egress`, as the instance sees it.
    pub direction: String,
    /// A name, or a number.
    pub protocol: String,
    /// The instance's end.
    pub local: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// Absent where there are no ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// VLAN ids, the outer one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Bytes of the packet.
    pub bytes: u32,
    /// `accept` or `drop`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What decided, if a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Its priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// What was not shown since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Beyond the rate, or beyond what the watcher took in time.
    pub left_out: u64,
    /// Because one of so many was asked for.
    pub passed_over: u64,
}

/// A line for a watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchLine {
    /// An event.
    Seen(Box<Seen>),
    /// More than before was not shown.
    Missed(Missed),
    /// The last line, when the watcher has said that it is done.
    End(Missed),
}
