//! The policies that a capture is replayed under.

use super::Control;
use crate::{
    daemon::{
        documents,
        protocol::{Candidate, Policies, Reply},
    },
    document::{Source, parse},
};

impl Control {
    /// What is in force, and what would be with a candidate in its place; nothing is changed.
    pub(super) fn policies(&self, candidate: &Candidate) -> Result<Reply, Reply> {
        let files = candidate.files.iter();
        let sources: Vec<Source> =
            files.map(|f| Source { name: f.name.clone(), bytes: f.text.clone().into_bytes() }).collect();
        let failsafe = self.policy.model().failsafe.as_ref();
        let change = documents::plan(&self.policy, parse(&sources)?, candidate.adopt, &self.config.quotas())?;
        Ok(Reply::Policies(Box::new(Policies {
            generation: self.state.generation,
            now: self.policy.documents().to_vec(),
            candidate: change.policy.documents().to_vec(),
            machine: self.machine.clone(),
            failsafe: failsafe.map(|f| (**f).clone()),
        })))
    }
}
