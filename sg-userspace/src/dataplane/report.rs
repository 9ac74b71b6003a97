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
    /// Guest devices that only observe yet.
    #[serde(default)]
    pub observing: Vec<String>,
    /// Live flows of devices newly protected that go on.
    #[serde(default)]
    pub adopted: usize,
    /// Those that the rules deny.
    #[serde(default)]
    pub denied: Denied,
    /// What could not be looked up.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Policies of which only addresses changed, written to where they are.
    #[serde(default)]
    pub deltas: usize,
    /// What became of connections that were to be reset before they are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Resets>,
}

/// What became of connections that were to be reset before they are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resets {
    /// Connections that both ends know to be over.
    pub connections: usize,
    /// Flows that are cut, and whose ends find out by their own timers: those that are forwarded,
    /// those of guests that did not answer, and all that is not TCP.
    pub only_cut: usize,
    /// Why connections could not be reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Report {
    /// Whether anything was written.
    pub fn is_nothing(&self) -> bool {
        self.bound.is_empty() && self.unbound.is_empty() && self.changed.is_empty() && self.policies + self.deltas == 0
    }
}

/// Live flows that are named in an answer; those beyond are counted.
pub const NAMED: usize = 1000;

/// Of them, those that are shown in lines to read.
pub const SHOWN: usize = 20;

/// Live flows that rules deny.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// How many there are.
    pub count: usize,
    /// The first few.
    pub shown: Vec<String>,
}

impl Denied {
    /// Counts one, and names it if it is among the first.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.shown.len() < NAMED {
            self.shown.push(text());
        }
    }

    /// Adds those of a device.
    pub fn extend(&mut self, device: &str, more: &Self) {
        self.count += more.count;
        let room = NAMED.saturating_sub(self.shown.len());
        self.shown.extend(more.shown.iter().take(room).map(|flow| format!("{device} {flow}")));
    }

    /// The first few and how many more, one a line.
    pub fn lines(&self) -> Vec<String> {
        let more = self.count.saturating_sub(SHOWN);
        self.shown.iter().take(SHOWN).cloned().chain((more > 0).then(|| format!("… and {more} more"))).collect()
    }
}

/// What a device carried when it began to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Live flows that the rules admit: they go on.
    pub adopted: usize,
    /// Those that they deny: they are cut.
    pub denied: Denied,
}

/// What protecting devices that are up would do to what lives there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Live flows that would go on.
    pub adopted: usize,
    /// Those that would be cut.
    pub denied: Denied,
    /// Guest devices that would observe first.
    pub observing: Vec<String>,
    /// What could not be looked up.
    pub warnings: Vec<String>,
}

/// How live flows take a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// What the new rules deny is cut.
    #[default]
    Cut,
    /// The same, and TCP connections among it are reset before, so that both ends
    /// know at once. That cannot be taken back, so nothing is tried out like this.
    Reset,
    /// What lives may live on.
    Keep,
    /// What lives may live on for some seconds.
    Drain(u32),
    /// Nobody asked for the change: the machine is another. On a device that drains, what is
    /// denied drains with the rest until its time is over; elsewhere it is cut.
    #[serde(skip)]
    Unasked,
}

impl OnChange {
    /// Whether what the new rules deny is cut.
    pub const fn cuts(self) -> bool {
        matches!(self, Self::Cut | Self::Reset | Self::Unasked)
    }
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
