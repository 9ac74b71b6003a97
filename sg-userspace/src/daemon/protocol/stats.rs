//! What is said of counters.

use serde::{Deserialize, Serialize};

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsView {
    /// Protected devices.
    pub interfaces: Vec<InterfaceStats>,
    /// Groups whose rules are in force on a device here.
    pub groups: Vec<GroupStats>,
    /// Rules that are in force on a device here, or were.
    pub rules: Vec<RuleStats>,
    /// Rules that never were: nothing counts them.
    pub uncounted: usize,
    /// Seconds that a last hit may be told too late.
    pub resolution: u32,
}

/// A protected device. Its counters are the kernel's: they begin when it is protected,
/// and anew when the machine starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Its name.
    pub device: String,
    /// Packets that passed.
    pub accepted: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Its live flows, those that are cut included.
    pub flows: usize,
}

/// The rules of a group together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStats {
    /// Its name.
    pub group: String,
    /// Its id.
    pub id: String,
    /// Its rules that are counted.
    pub rules: usize,
    /// Those of them that no packet has matched.
    pub unused: usize,
    /// Packets that they decided.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Live flows that they admit.
    pub flows: usize,
    /// When one was last hit, UTC; absent when none was.
    pub last_hit: Option<String>,
    /// Since when the oldest one is counted, UTC.
    pub since: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStats {
    /// Its group and index, or the name of an invisible one.
    pub rule: String,
    /// Id of its group, and its own; `null` for an invisible one of no group.
    pub id: Option<(String, String)>,
    /// `ingress` or `egress`; absent for an invisible one.
    pub direction: Option<String>,
    /// `accept` or `drop`.
    pub verdict: String,
    /// Packets that it decided: those that began a flow, or were dropped.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Live flows that it admits.
    pub flows: usize,
    /// When it was last hit, UTC; absent when it never was.
    pub last_hit: Option<String>,
    /// Whether a device here has it in force now; nothing counts it otherwise.
    pub in_force: bool,
    /// Since when it is counted, UTC.
    pub since: String,
    /// Seconds since then.
    pub watched: u64,
}
