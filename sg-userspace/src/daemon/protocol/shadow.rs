//! What is said of candidates that judge beside the policy in force.

use serde::{Deserialize, Serialize};

use super::File;

/// About the candidate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "shadow", rename_all = "snake_case")]
pub enum ShadowCommand {
    /// A document is one from now on.
    Start {
        /// Its files.
        files: Vec<File>,
        /// As if objects of other documents were taken over.
        adopt: bool,
    },
    /// What it decides otherwise.
    Report {
        /// Every kind of flow, not only the largest ones.
        all: bool,
    },
    /// Its files.
    Candidate,
    /// There is none any more.
    Stop,
}

/// A candidate, and what it decides otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowView {
    /// Since when, UTC.
    pub since: String,
    /// Names of its files.
    pub files: Vec<String>,
    /// Devices whose new flows it judges, too.
    pub devices: Vec<String>,
    /// Why it judges none now, though it should.
    #[serde(default)]
    pub problem: Option<String>,
    /// New flows that both have judged, and packets that belong to no flow.
    pub judged: u64,
    /// Flows that they decide otherwise.
    pub differ: u64,
    /// Such flows that there was no room for.
    pub left_out: u64,
    /// By kind: the largest ones.
    pub kinds: Vec<ShadowKind>,
    /// How many kinds there are.
    pub kind_count: usize,
}

/// Flows that are decided otherwise in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowKind {
    /// The device.
    pub device: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// The verdict in force: `accept` or `drop`. The candidate's is the other one.
    pub verdict: String,
    /// What decides: a rule, or a reason.
    pub now: String,
    /// What would decide.
    pub then: String,
    /// Flows.
    pub flows: u64,
    /// First packets of them.
    pub packets: u64,
    /// When the first was seen, UTC.
    pub first: String,
    /// When the last was seen, UTC.
    pub last: String,
    /// One of them, the latest: who speaks to whom.
    pub example: String,
}
