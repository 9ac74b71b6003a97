//! How things stand at one moment, as the writer knows it without asking the kernel
//! anything: taking it costs the writer next to nothing, whatever is read with it.

use std::{collections::HashMap, sync::Arc};

/// Interfaces by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Enforce.
    pub protected: usize,
    /// Pass everything yet.
    pub observing: usize,
    /// Named, but not here.
    pub missing: usize,
    /// Here, and not protected as the policy says.
    pub refused: usize,
}

/// The moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Of the state.
    pub generation: u64,
    /// Interfaces.
    pub states: States,
    /// Names of protected interfaces, and where their counters are.
    pub interfaces: Vec<(String, u32)>,
    /// Rule counters by identity.
    pub rules: Arc<HashMap<String, u32>>,
    /// Tables and shares that are short of room.
    pub short: usize,
    /// Interfaces whose programs could not be mended.
    pub detached: usize,
    /// Programs of others before ours.
    pub foreign: usize,
    /// There is nowhere to pin.
    pub pins_gone: bool,
    /// The audit log cannot be written.
    pub audit_failing: bool,
}
