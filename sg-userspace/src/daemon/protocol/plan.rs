//! What a change would do, and did.

use serde::{Deserialize, Serialize};

use crate::{
    daemon::{documents::Step, drift::PlannedDrift},
    dataplane::engine::{Preview, Report},
    explain::Line,
    lint::Finding,
};

/// What a document changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Planned {
    /// Generation of the state before it.
    pub generation: u64,
    /// Objects.
    pub steps: Vec<Step>,
    /// What became of the document's objects since it was applied; absent when it never was.
    #[serde(default)]
    pub drift: Option<PlannedDrift>,
    /// Live flows that the new rules deny, the first few.
    pub cut: Vec<String>,
    /// How many there are.
    pub cut_count: usize,
    /// Whether their bytes and ages are counted (`[flow_log]`), and told with them.
    #[serde(default)]
    pub cut_counted: bool,
    /// The caller's own connection would be dropped: by what.
    pub session: Option<String>,
    /// Live flows of devices to be newly protected that would go on.
    #[serde(default)]
    pub adopted: usize,
    /// Guest devices that would only observe first.
    #[serde(default)]
    pub observing: Vec<String>,
    /// What could not be looked up.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What is unwise or needless after it, and was not before.
    #[serde(default)]
    pub lints: Vec<Finding>,
    /// Devices whose rules before and after it were compared.
    #[serde(default)]
    pub compared: usize,
    /// Packets that it decides otherwise, by devices with the same rules.
    #[serde(default)]
    pub differences: Vec<Differences>,
    /// What it would write to the kernel.
    pub writes: Preview,
    /// What applying it did.
    pub report: Option<Report>,
    /// That it is on trial.
    #[serde(default)]
    pub trial: Option<TrialView>,
}

/// A change that is in force, and is taken back unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialView {
    /// Generation that it becomes.
    pub generation: u64,
    /// Whole seconds that are left.
    pub seconds: u64,
    /// When it is over, UTC.
    pub until: String,
}

/// Packets that a change decides otherwise, on devices with the same rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Those devices.
    pub devices: Vec<String>,
    /// How many differences there are, as `witness` counts them.
    pub count: u64,
    /// Whether that was too much to look at whole: there may be more.
    pub cut: bool,
    /// The largest ones.
    pub largest: Vec<DifferenceLine>,
}

/// Packets whose verdict changes, all in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceLine {
    /// `ingress` or `egress`.
    pub direction: String,
    /// The verdict before: `accept` or `drop`.
    pub from: String,
    /// The verdict after.
    pub to: String,
    /// A name, `all`, or `all but` names.
    pub protocol: String,
    /// Remote addresses.
    pub peer: String,
    /// Those of them that are not meant.
    pub except: Vec<String>,
    /// Local addresses, if not all.
    pub local: Option<String>,
    /// First and last source port, if not all.
    pub source_ports: Option<(u16, u16)>,
    /// First and last destination port, if not all.
    pub ports: Option<(u16, u16)>,
    /// Rules that decided them; the last one is `…` when there are others.
    pub before: Vec<String>,
    /// Rules that decide them.
    pub after: Vec<String>,
    /// One such packet of the first device, as `explain --flows` reads it.
    pub witness: Option<Line>,
}
