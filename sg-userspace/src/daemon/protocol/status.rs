//! How things stand.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{FailsafeView, TrialView};
use crate::{
    daemon::{drift::DocumentDrift, headroom::Room, seen::LastPacket},
    dataplane::{engine::Attached, report::Observed},
};

/// A protected device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Name.
    pub device: String,
    /// Interface index.
    pub index: u32,
    /// `host` or `guest`.
    pub side: String,
    /// Where the programs sit: device ingress, device egress.
    pub hooks: Vec<String>,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Counts its changes.
    pub epoch: u32,
    /// Packets accepted.
    pub accepted: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Seconds for which it only observes yet; absent when it enforces.
    #[serde(default)]
    pub observing: Option<u64>,
    /// Which programs of ours are on it, and who runs before and after them.
    #[serde(default)]
    pub attached: Vec<Attached>,
    /// Last packet of a live flow, UTC; absent while there is none.
    #[serde(default)]
    pub last_packet: Option<String>,
    /// Its last packet of each direction, accepted or not.
    #[serde(default)]
    pub seen: Vec<LastPacket>,
    /// Live flows it carried when it began to enforce; while it observes, those so far.
    #[serde(default)]
    pub observed: Option<Observed>,
}

/// A device that is not protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name.
    pub device: String,
    /// Why.
    pub why: String,
}

/// How things stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Seconds since it was started; absent from a daemon that does not say.
    #[serde(default)]
    pub uptime: Option<u64>,
    /// Counts changes of the state.
    pub generation: u64,
    /// Documents and their numbers of objects.
    pub documents: Vec<(String, usize)>,
    /// How far each document is from how it was applied, but for what came by the API.
    #[serde(default)]
    pub drift: Vec<DocumentDrift>,
    /// Protected devices.
    pub devices: Vec<DeviceStatus>,
    /// Named, but not here.
    pub absent: Vec<String>,
    /// Named, but not to be protected, or no longer.
    pub refused: Vec<String>,
    /// What keeps the policy from being in force everywhere.
    pub trouble: Option<String>,
    /// What is in force and not confirmed yet.
    #[serde(default)]
    pub trial: Option<TrialView>,
    /// What no rule closes to the administrator; absent when none is configured.
    #[serde(default)]
    pub failsafe: Option<FailsafeView>,
    /// Programs of others that run before ours.
    pub before: Vec<String>,
    /// Live flows: confirmed, unconfirmed.
    pub flows: (usize, usize),
    /// Room for them.
    pub conntrack: Conntrack,
    /// How full everything is that has a bound, the fullest first.
    #[serde(default)]
    pub room: Vec<Room>,
}

/// A share of the conntrack tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowShare {
    /// The family, after the device's name if it is a device's share.
    pub name: String,
    /// Confirmed flows.
    pub used: usize,
    /// How many it may hold; 0: no bound.
    pub of: u32,
}

/// A remote, and what it has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talker {
    /// The device.
    pub device: String,
    /// An IPv4 address, or an IPv6 network.
    pub remote: String,
    /// Its flows, unconfirmed ones included.
    pub flows: usize,
}

/// Room for live flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// By family.
    pub tables: Vec<FlowShare>,
    /// By device and family.
    pub interfaces: Vec<FlowShare>,
    /// Confirmed flows that one remote may hold of one interface and family.
    pub flows_per_remote: u32,
    /// Remotes with the most flows, while a table or an interface is three quarters full.
    pub talkers: Vec<Talker>,
}

/// A line of the merged view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleLine {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Group and index, or the name of an invisible rule.
    pub rule: String,
    /// `accept` or `drop`.
    pub verdict: String,
    /// 1 to 100.
    pub priority: Option<u8>,
    /// Protocol, ports, remote and local side.
    pub matches: String,
    /// Packets it decided.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A counter of a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonLine {
    /// `ingress` or `egress`.
    pub direction: String,
    /// `accept` or `drop`.
    pub verdict: String,
    /// Its name.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// One device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceView {
    /// How it stands.
    pub status: DeviceStatus,
    /// Its merged rules in order.
    pub rules: Vec<RuleLine>,
    /// Its counters by reason.
    pub reasons: Vec<ReasonLine>,
}
