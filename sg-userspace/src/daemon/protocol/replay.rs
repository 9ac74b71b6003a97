//! What `replay` asks: the policies of before and after, to judge a capture by.

use serde::{Deserialize, Serialize};

use super::File;
use crate::{dataplane::machine::Machine, document::Document, failsafe::Failsafe};

/// A candidate, as a plan has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Files of its document.
    pub files: Vec<File>,
    /// Take over objects of other documents.
    pub adopt: bool,
}

/// What is in force, and what would be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policies {
    /// The generation in force.
    pub generation: u64,
    /// Its documents.
    pub now: Vec<Document>,
    /// Those with the candidate in its place.
    pub candidate: Vec<Document>,
    /// Devices and their addresses.
    pub machine: Machine,
    /// What the administrator reaches under both.
    pub failsafe: Option<Failsafe>,
}
