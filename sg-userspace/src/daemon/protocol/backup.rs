//! Backups on their way: too large for a line, so they go as bytes behind one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::daemon::history::Kept;

/// A backup that follows the line which says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// How long it is.
    pub bytes: u64,
    /// What `sgctl` sends behind its line.
    #[serde(skip)]
    pub text: Option<Arc<Vec<u8>>>,
    /// What the daemon has read there, or why it cannot be.
    #[serde(skip)]
    pub kept: Option<Arc<Result<Kept, String>>>,
}

impl Upload {
    /// Of a file.
    pub fn of(text: Vec<u8>) -> Self {
        Self { bytes: text.len() as u64, text: Some(Arc::new(text)), kept: None }
    }
}

/// A backup that follows the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// How long it is; known when it is written down.
    pub bytes: u64,
    /// What the daemon sends behind its line.
    #[serde(skip)]
    pub kept: Option<Arc<Kept>>,
}
