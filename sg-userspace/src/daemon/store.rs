//! The last good state, durable before it is applied.

pub mod embedded;
mod records;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{
    control::TrialRecord,
    history::{Head, Kept},
    stats::{Account, Accounts},
};
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
    /// Documents as they were last applied: what is different now, something else changed.
    /// One that an older daemon applied is not here.
    #[serde(default, skip_serializing_if = "is_none")]
    pub applied: Arc<Vec<Document>>,
    /// Rule counters by identity.
    pub counters: Arc<HashMap<String, u32>>,
    /// What is known of objects beside the documents.
    #[serde(default)]
    pub facts: Facts,
    /// Calls that were answered, so that a repeated one changes nothing.
    #[serde(default)]
    pub replay: Replay,
}

fn is_none(documents: &[Document]) -> bool {
    documents.is_empty()
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            documents: Vec::new(),
            applied: Arc::default(),
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
    /// What lists say of the generations that are kept, by their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn kept(&self) -> Result<Vec<Head>, StoreError>;
    /// A generation that is kept, if it is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_kept(&self, generation: u64) -> Result<Option<Kept>, StoreError>;
    /// Keeps a generation beside the state, and lets others go. What was kept under its
    /// number is replaced.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    fn keep(&mut self, new: Option<&Kept>, gone: &[u64]) -> Result<(), StoreError>;
    /// The change that is on trial, if one is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn trial(&self) -> Result<Option<TrialRecord>, StoreError>;
    /// Keeps the change that is on trial beside the state, or forgets it.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    fn keep_trial(&mut self, trial: Option<&TrialRecord>) -> Result<(), StoreError>;
    /// What rules have counted. What a newer daemon wrote in another way is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    fn accounts(&self) -> Result<Accounts, StoreError>;
    /// Keeps accounts beside the state, or forgets them; all others stay as they are.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    fn keep_accounts(&mut self, changed: &[(String, Option<Account>)]) -> Result<(), StoreError>;
}

/// One file, replaced atomically.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    fn kept_file(&self, generation: u64) -> PathBuf {
        self.path.with_file_name(format!("kept-{generation}.json"))
    }

    fn trial_file(&self) -> PathBuf {
        self.path.with_file_name("trial.json")
    }

    fn accounts_file(&self) -> PathBuf {
        self.path.with_file_name("stats.json")
    }

    /// Writes a file whole, or not at all.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = path.with_extension("json.new");
        let io = |what| move |error| StoreError::Io { what, path: path.into(), error };
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).map_err(io("write"))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write"))?;
        fs::rename(&temporary, path).map_err(io("replace"))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(io("sync"))
    }

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
        self.replace(&self.path, &json(state, &self.path)?)
    }

    fn kept(&self) -> Result<Vec<Head>, StoreError> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let io = |error| StoreError::Io { what: "list", path: dir.into(), error };
        let mut heads = Vec::new();
        for entry in fs::read_dir(dir).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix("kept-").and_then(|n| n.strip_suffix(".json"));
            if let Some(generation) = number.and_then(|n| n.parse().ok()) {
                heads.extend(self.read_kept(generation)?.map(|k| k.head));
            }
        }
        heads.sort_unstable_by_key(|h| h.generation);
        Ok(heads)
    }

    fn read_kept(&self, generation: u64) -> Result<Option<Kept>, StoreError> {
        read(self.kept_file(generation))
    }

    fn trial(&self) -> Result<Option<TrialRecord>, StoreError> {
        read(self.trial_file())
    }

    fn keep_trial(&mut self, trial: Option<&TrialRecord>) -> Result<(), StoreError> {
        let path = self.trial_file();
        match trial {
            Some(trial) => self.replace(&path, &json(trial, &path)?),
            None => remove(path),
        }
    }

    fn accounts(&self) -> Result<Accounts, StoreError> {
        let all: Option<BTreeMap<String, serde_json::Value>> = read(self.accounts_file())?;
        let known = |(identity, value)| Some((identity, serde_json::from_value(value).ok()?));
        Ok(all.unwrap_or_default().into_iter().filter_map(known).collect())
    }

    fn keep_accounts(&mut self, changed: &[(String, Option<Account>)]) -> Result<(), StoreError> {
        let (mut all, path) = (self.accounts()?, self.accounts_file());
        for (identity, account) in changed {
            match account {
                Some(account) => drop(all.insert(identity.clone(), account.clone())),
                None => drop(all.remove(identity)),
            }
        }
        self.replace(&path, &json(&all, &path)?)
    }

    fn keep(&mut self, new: Option<&Kept>, gone: &[u64]) -> Result<(), StoreError> {
        if let Some(new) = new {
            let path = self.kept_file(new.head.generation);
            self.replace(&path, &json(new, &path)?)?;
        }
        gone.iter().try_for_each(|generation| remove(self.kept_file(*generation)))
    }
}

/// A file's JSON, if it is there.
fn read<T: DeserializeOwned>(path: PathBuf) -> Result<Option<T>, StoreError> {
    match fs::read(&path) {
        Ok(bytes) => {
            let parsed = serde_json::from_slice(&bytes);
            parsed.map(Some).map_err(|e| StoreError::Damaged { path, error: e.to_string() })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::Io { what: "read", path, error }),
    }
}

/// Removes a file, if it is there.
fn remove(path: PathBuf) -> Result<(), StoreError> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { what: "remove", path, error }),
        _ => Ok(()),
    }
}

fn json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, StoreError> {
    let error =
        |e| StoreError::Io { what: "write", path: path.into(), error: io::Error::other::<serde_json::Error>(e) };
    serde_json::to_vec(value).map_err(error)
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
        state.applied = Arc::new(vec![state.documents[1].clone()]);
        state.facts.objects.insert("sg-1".into(), Fact { created: 5, ..Fact::default() });
        let fact = RuleFact { id: "sgr-1".into(), created: 6 };
        state.facts.rules.entry("sg-1".into()).or_default().insert("ingress a/b".into(), fact.clone());
        state.facts.rules.entry("a/b%2Fc".into()).or_default().insert("ingress a/b".into(), fact);
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
        Arc::make_mut(&mut state.applied)[0].security_groups.remove(7);
        same(open, &state);
        let name = Some("y".into());
        Arc::make_mut(&mut state.applied).insert(0, Document { document: name, ..Document::default() });
        same(open, &state);
        state.applied = Arc::default();
        same(open, &state);
        state.documents.remove(0);
        state.counters = Arc::default();
        state.replay.nonces.clear();
        same(open, &state);
        assert_eq!(open().trial().unwrap(), None);
        open().keep_trial(None).unwrap();
        let trial = TrialRecord { base: 8, generation: 9, deadline: 77, documents: state.documents.clone() };
        open().keep_trial(Some(&trial)).unwrap();
        open().save(&state).unwrap();
        assert_eq!(open().trial().unwrap(), Some(trial));
        assert_eq!(open().load().unwrap(), state);
        open().keep_trial(None).unwrap();
        assert_eq!(open().trial().unwrap(), None);
        assert_eq!(open().accounts().unwrap(), Accounts::new());
        let account = Account::new;
        let some = |identity: &str, since| (identity.to_owned(), Some(account(since)));
        open().keep_accounts(&[some("sg-1/sgr-1", 5), some("smtp", 6), some("sg-1/sgr-2", 7)]).unwrap();
        open().keep_accounts(&[some("smtp", 8), ("sg-1/sgr-2".into(), None), ("unknown".into(), None)]).unwrap();
        open().save(&state).unwrap();
        let both = Accounts::from([("sg-1/sgr-1".into(), account(5)), ("smtp".into(), account(8))]);
        assert_eq!(open().accounts().unwrap(), both);
        assert_eq!(open().load().unwrap(), state, "they are no part of it");
        assert_eq!(open().kept().unwrap(), []);
        let kept = |generation, comment| Kept::new(generation, 5, comment, false, &state.documents, &state.facts);
        open().keep(Some(&kept(3, "a")), &[]).unwrap();
        open().keep(Some(&kept(12, "b")), &[]).unwrap();
        assert_eq!(open().kept().unwrap(), [kept(3, "a").head, kept(12, "b").head]);
        open().keep(Some(&kept(12, "c")), &[3, 99]).unwrap();
        assert_eq!(open().kept().unwrap(), [kept(12, "c").head]);
        assert_eq!(open().read_kept(12).unwrap(), Some(kept(12, "c")));
        assert_eq!(open().read_kept(3).unwrap(), None);
        open().keep(None, &[12]).unwrap();
        assert_eq!(open().kept().unwrap(), []);
        assert_eq!(open().load().unwrap(), state);
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
