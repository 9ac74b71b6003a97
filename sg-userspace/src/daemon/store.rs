//! The last good state, durable before it is applied.

pub mod embedded;

use std::{
    collections::HashMap,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    api::facts::{Facts, Replay},
    document::Document,
};

/// Version of the file's layout.
const VERSION: u32 = 1;

/// Everything the daemon must not forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Layout.
    pub version: u32,
    /// Counts changes.
    pub generation: u64,
    /// Documents in the order in which they first came.
    pub documents: Vec<Document>,
    /// Rule counters by identity.
    pub counters: Arc<HashMap<String, u32>>,
    /// What is known of objects beside the documents.
    #[serde(default)]
    pub facts: Facts,
    /// Calls that were answered, so that a repeated one changes nothing.
    #[serde(default)]
    pub replay: Replay,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            documents: Vec::new(),
            counters: Arc::default(),
            facts: Facts::default(),
            replay: Replay::default(),
        }
    }
}

/// Why the state cannot be read or kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// I/O.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Not a state.
    #[error(
        "{path} is damaged: {error}; move it away to start without a policy (bound devices keep what they enforce)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// Written by a newer daemon.
    #[error("{path} is of schema {schema}, this daemon reads up to {ours}: start the newer daemon, or move it away")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        schema: u64,
        /// What we know.
        ours: u64,
    },
}

/// Where the state is kept.
pub trait Store {
    /// The last state saved; the empty one at first.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged state is never taken for an empty one.
    fn load(&self) -> Result<State, StoreError>;
    /// Keeps a state; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; the state before is still there.
    fn save(&mut self, state: &State) -> Result<(), StoreError>;
}

/// One file, replaced atomically.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// A store in a directory, which is made if need be.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::Io { what: "make", path: dir.into(), error })?;
        Ok(Self { path: dir.join("state.json") })
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<State, StoreError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(StoreError::Io { what: "read", path: self.path.clone(), error }),
        };
        let damaged = |error: String| StoreError::Damaged { path: self.path.clone(), error };
        let state: State = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if state.version != VERSION {
            return Err(damaged(format!("layout version {}, this daemon reads {VERSION}", state.version)));
        }
        Ok(state)
    }

    fn save(&mut self, state: &State) -> Result<(), StoreError> {
        let temporary = self.path.with_extension("json.new");
        let io = |what| {
            let path = self.path.clone();
            move |error| StoreError::Io { what, path, error }
        };
        let bytes = serde_json::to_vec(state).map_err(|e| io("write")(io::Error::other(e)))?;
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).map_err(io("write"))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io("write"))?;
        fs::rename(&temporary, &self.path).map_err(io("replace"))?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(io("sync"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::facts::{Fact, RuleFact},
        document::Group,
    };

    /// What every store must do, also when it is opened again after each change.
    pub(super) fn contract(open: &mut dyn FnMut() -> Box<dyn Store>) {
        assert_eq!(open().load().unwrap(), State::default());
        let mut state = State { generation: 7, ..State::default() };
        Arc::make_mut(&mut state.counters).insert("a".into(), 3);
        state.documents.push(Document { document: Some("x".into()), ..Document::default() });
        state.documents.push(Document::default());
        for i in 0..20 {
            let group = Group { security_group_name: Some(format!("g{i}").as_str().into()), ..Group::default() };
            state.documents[1].security_groups.push(group);
        }
        state.facts.objects.insert("sg-1".into(), Fact { created: 5, ..Fact::default() });
        let fact = RuleFact { id: "sgr-1".into(), created: 6 };
        state.facts.rules.entry("sg-1".into()).or_default().insert("ingress a/b".into(), fact);
        state.replay.nonces.entry("k".into()).or_default().insert("n/1".into(), 9);
        let same = |open: &mut dyn FnMut() -> Box<dyn Store>, state: &State| {
            open().save(state).unwrap();
            assert_eq!(open().load().unwrap(), *state);
        };
        same(open, &state);
        // Changed, taken out of the middle, put in front, emptied.
        state.generation = 8;
        state.documents[1].security_groups.edit(3).description = Some("changed".into());
        same(open, &state);
        state.documents[1].security_groups.remove(5);
        same(open, &state);
        state.documents.remove(0);
        state.counters = Arc::default();
        state.replay.nonces.clear();
        same(open, &state);
        state.facts.rules.clear();
        state.documents.clear();
        same(open, &state);
    }

    fn dir(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("sg-store-{}-{name}", std::process::id()))
    }

    #[test]
    fn the_file_store_keeps_the_contract() {
        let dir = dir("contract");
        contract(&mut || Box::new(FileStore::open(&dir).unwrap()));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_damaged_file_is_no_empty_state() {
        let dir = dir("damaged");
        let store = FileStore::open(&dir).unwrap();
        for text in ["", "{", "{\"version\":99,\"generation\":1,\"documents\":[],\"counters\":{}}"] {
            fs::write(dir.join("state.json"), text).unwrap();
            assert!(matches!(store.load(), Err(StoreError::Damaged { .. })), "{text}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
