//! What is asked of a change, and what it did.

use serde::{Deserialize, Serialize};

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Devices newly protected.
    pub bound: Vec<String>,
    /// Devices no longer protected.
    pub unbound: Vec<String>,
    /// Devices that enforce something new.
    pub changed: Vec<String>,
    /// Devices named in the document that are not here (yet).
    pub absent: Vec<String>,
    /// Devices that can not be protected, and why.
    pub refused: Vec<String>,
    /// Policies written anew.
    pub policies: usize,
    /// Policies of which only addresses changed, written to where they are.
    #[serde(default)]
    pub deltas: usize,
}

impl Report {
    /// Whether anything was written.
    pub fn is_nothing(&self) -> bool {
        self.bound.is_empty() && self.unbound.is_empty() && self.changed.is_empty() && self.policies + self.deltas == 0
    }
}

/// How live flows take a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// What the new rules deny is cut.
    #[default]
    Cut,
    /// What lives may live on.
    Keep,
    /// What lives may live on for some seconds.
    Drain(u32),
}

/// What a change would write to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Policies written anew.
    pub policies: usize,
    /// Entries of their address tables.
    pub entries: usize,
    /// Bytes of their flat values.
    pub bytes: usize,
    /// Policies of which only addresses change.
    #[serde(default)]
    pub deltas: usize,
    /// Addresses and prefixes that these gain and lose.
    #[serde(default)]
    pub addresses: usize,
}
