//! The state in an embedded database, one object a record: a change writes what it
//! changes, in one transaction that survives a power cut.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::{
    FileStore, State, Store, StoreError,
    records::{difference, documents, place, place_document},
};
use crate::daemon::{
    control::TrialRecord,
    history::{Head, Kept},
    log,
    stats::{Account, Accounts},
};

/// What lists say of the generations that are kept, as JSON, by their numbers.
const HEADS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("heads");
/// The generations themselves.
const KEPT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kept");

/// The change that is on trial, as JSON; under 0. Daemons that know no trials do not look
/// here, and go by what is stored, which is what they should.
const TRIAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("trial");

/// What rules have counted, as JSON, by their identities. Daemons that know no accounts do
/// not look here.
const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");

/// Documents as they were last applied, as those in [`OBJECTS`]. Daemons that know nothing
/// of it do not look here; what they write makes it old, see [`APPLIED_AT`].
const APPLIED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("applied");
/// In [`META`]: the generation that was written together with [`APPLIED`].
const APPLIED_AT: &str = "applied";

/// Makes the tables of one schema those of the next.
type Step = fn(&redb::WriteTransaction) -> Result<(), redb::Error>;

/// The first schema that was a database. 1 was a file, see [`FileStore`].
const FIRST: u64 = 2;
/// The steps from [`FIRST`] to the tables below.
const STEPS: &[Step] = &[];
/// Version of the tables below.
pub const SCHEMA: u64 = FIRST + STEPS.len() as u64;
/// Bytes of the database that are kept in memory.
const CACHE: usize = 8 << 20;

/// `schema` and `generation`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Everything else, as JSON, by its path: `document/0000`, `document/0000/group/000000`,
/// `counter/…`, `fact/…`, `rule/GROUP/…`, `token/…`, `nonce/KEY/…`.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");

/// See the module.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    /// `None` after a failure: it is opened anew then.
    db: Option<Database>,
    /// As it is stored.
    last: State,
}

impl Embedded {
    /// A store in a directory, which is made if need be. The state that an older
    /// version kept in a file is taken over.
    ///
    /// # Errors
    /// A directory that cannot be made, a store that is damaged, or of a newer daemon.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::Io { what: "make", path: dir.into(), error })?;
        let path = dir.join("state.redb");
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io { what, path, error }
        };
        if !path.exists() {
            let old = dir.join("state.json");
            let state = FileStore::open(dir)?.load()?;
            // Whole under another name first: half a store is none.
            let new = dir.join("state.redb.new");
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("replace", &new)(e)),
                _ => {}
            }
            let mut store = Self { path: new.clone(), db: None, last: State::default() };
            store.write(&state, true)?;
            drop(store);
            fs::rename(&new, &path).map_err(io("replace", &path))?;
            let synced = fs::File::open(dir).and_then(|d| d.sync_all());
            synced.map_err(io("sync", dir))?;
            if old.exists() {
                fs::rename(&old, dir.join("state.json.imported")).map_err(io("put aside", &old))?;
            }
        }
        let mut store = Self { path, db: None, last: State::default() };
        store.migrate(STEPS)?;
        store.last = store.read()?;
        store.forget_what_is_old()?;
        Ok(store)
    }

    /// Takes an older database through the steps that it lacks, in one transaction.
    /// As it was it is kept beside, for a way back to the older daemon.
    fn migrate(&mut self, steps: &[Step]) -> Result<(), StoreError> {
        let db = self.open_db(false)?;
        let (schema, ours) = (self.schema_of(&db)?, FIRST + steps.len() as u64);
        if schema >= ours {
            self.db = Some(db);
            return Ok(());
        }
        let missing = schema.checked_sub(FIRST).and_then(|done| steps.get(done as usize..));
        let missing = missing.ok_or_else(|| {
            let error = format!("it is of schema {schema}, which no database ever was");
            StoreError::Damaged { path: self.path.clone(), error }
        })?;
        // Closed, so that the copy is whole.
        drop(db);
        let copy = self.path.with_extension(format!("redb.schema-{schema}"));
        keep(&self.path, &copy).map_err(|error| StoreError::Io {
            what: "keep a copy in",
            path: copy.clone(),
            error,
        })?;
        let db = self.open_db(false)?;
        let fail = |e: redb::Error| self.failed("migrate", e);
        let transaction = db.begin_write().map_err(|e| fail(e.into()))?;
        for step in missing {
            step(&transaction).map_err(fail)?;
        }
        {
            let mut meta = transaction.open_table(META).map_err(|e| fail(e.into()))?;
            meta.insert("schema", ours).map_err(|e| fail(e.into()))?;
        }
        transaction.commit().map_err(|e| fail(e.into()))?;
        log::info!("{} is of schema {ours} now; as it was: {}", self.path.display(), copy.display());
        self.db = Some(db);
        Ok(())
    }

    /// Lets go of what was applied before an older daemon, which does not keep that, changed
    /// something: it may have applied something else.
    fn forget_what_is_old(&mut self) -> Result<(), StoreError> {
        let db = self.take_db()?;
        let forget = || -> Result<bool, redb::Error> {
            let transaction = db.begin_write()?;
            let known = {
                let meta = transaction.open_table(META)?;
                let number = |key: &str| meta.get(key).map(|v| v.map(|v| v.value()));
                number(APPLIED_AT)? == number("generation")?
            };
            if known {
                transaction.abort()?;
            } else {
                transaction.delete_table(APPLIED)?;
                transaction.commit()?;
            }
            Ok(known)
        };
        let known = forget().map_err(|e| self.failed("write", e))?;
        self.db = Some(db);
        if !known {
            self.last.applied = Arc::default();
        }
        Ok(())
    }

    fn schema_of(&self, db: &Database) -> Result<u64, StoreError> {
        let fail = |e: redb::Error| self.failed("read", e);
        let transaction = db.begin_read().map_err(|e| fail(e.into()))?;
        let meta = transaction.open_table(META).map_err(|e| fail(e.into()))?;
        Ok(meta.get("schema").map_err(|e| fail(e.into()))?.map_or(0, |v| v.value()))
    }

    fn failed(&self, what: &'static str, error: impl Into<redb::Error>) -> StoreError {
        let path = self.path.clone();
        match error.into() {
            redb::Error::Io(error) => StoreError::Io { what, path, error },
            redb::Error::Corrupted(error) => StoreError::Damaged { path, error },
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Io { what, path, error: io::Error::other("another daemon has it open") }
            }
            other => StoreError::Io { what, path, error: io::Error::other(other.to_string()) },
        }
    }

    fn open_db(&self, create: bool) -> Result<Database, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(create).truncate(false).mode(0o600).open(&self.path);
        let file = file.map_err(|error| StoreError::Io { what: "open", path: self.path.clone(), error })?;
        let empty = file.metadata().is_ok_and(|m| m.len() == 0);
        let backend = redb::backends::FileBackend::new(file).map_err(|e| self.failed("open", e))?;
        let made = redb::Builder::new().set_cache_size(CACHE).create_with_backend(backend);
        made.map_err(|e| match redb::Error::from(e) {
            // What is no database at all says so in other words.
            redb::Error::Io(error) if !empty && error.kind() == io::ErrorKind::InvalidData => {
                StoreError::Damaged { path: self.path.clone(), error: error.to_string() }
            }
            other => self.failed("open", other),
        })
    }

    fn read(&mut self) -> Result<State, StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => self.open_db(false)?,
        };
        let state = self.read_from(&db)?;
        self.db = Some(db);
        Ok(state)
    }

    fn read_from(&self, db: &Database) -> Result<State, StoreError> {
        let fail = |e: redb::Error| self.failed("read", e);
        let transaction = db.begin_read().map_err(|e| fail(e.into()))?;
        let meta = transaction.open_table(META).map_err(|e| fail(e.into()))?;
        let number = |key: &str| meta.get(key).map(|v| v.map(|v| v.value())).map_err(|e| fail(e.into()));
        let schema = number("schema")?.unwrap_or(0);
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: self.path.clone(), schema, ours: SCHEMA });
        }
        let mut state = State { generation: number("generation")?.unwrap_or(0), ..State::default() };
        let objects = transaction.open_table(OBJECTS).map_err(|e| fail(e.into()))?;
        for record in objects.iter().map_err(|e| fail(e.into()))? {
            let (key, value) = record.map_err(|e| fail(e.into()))?;
            place(&mut state, key.value(), value.value())
                .map_err(|error| StoreError::Damaged { path: self.path.clone(), error })?;
        }
        match transaction.open_table(APPLIED) {
            Ok(table) => {
                let mut applied = Vec::new();
                for record in table.iter().map_err(|e| fail(e.into()))? {
                    let (key, value) = record.map_err(|e| fail(e.into()))?;
                    place_document(&mut applied, key.value(), value.value())
                        .map_err(|error| StoreError::Damaged { path: self.path.clone(), error })?;
                }
                state.applied = Arc::new(applied);
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(e) => return Err(fail(e.into())),
        }
        Ok(state)
    }

    /// The database, opened anew after a failure.
    fn take_db(&mut self) -> Result<Database, StoreError> {
        match self.db.take() {
            Some(db) => Ok(db),
            None => {
                let db = self.open_db(false)?;
                // A write that failed may be stored all the same.
                self.last = self.read_from(&db)?;
                Ok(db)
            }
        }
    }

    /// Writes what is different from what is stored; with `first`, everything.
    fn write(&mut self, state: &State, first: bool) -> Result<(), StoreError> {
        let db = if first { self.open_db(true)? } else { self.take_db()? };
        let fail = |e: redb::Error| self.failed("write", e);
        let transaction = db.begin_write().map_err(|e| fail(e.into()))?;
        {
            let mut meta = transaction.open_table(META).map_err(|e| fail(e.into()))?;
            if first {
                meta.insert("schema", SCHEMA).map_err(|e| fail(e.into()))?;
            }
            if first || state.generation != self.last.generation {
                meta.insert("generation", state.generation).map_err(|e| fail(e.into()))?;
            }
            if first || state.generation != self.last.generation || state.applied != self.last.applied {
                meta.insert(APPLIED_AT, state.generation).map_err(|e| fail(e.into()))?;
            }
            if state.applied != self.last.applied {
                let mut applied = transaction.open_table(APPLIED).map_err(|e| fail(e.into()))?;
                documents(&mut applied, &self.last.applied, &state.applied).map_err(fail)?;
            }
            let mut objects = transaction.open_table(OBJECTS).map_err(|e| fail(e.into()))?;
            difference(&mut objects, &self.last, state).map_err(fail)?;
        }
        transaction.commit().map_err(|e| fail(e.into()))?;
        self.db = Some(db);
        Ok(())
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<State, StoreError> {
        Ok(self.last.clone())
    }

    fn save(&mut self, state: &State) -> Result<(), StoreError> {
        self.write(state, false)?;
        self.last = state.clone();
        Ok(())
    }

    fn kept(&self) -> Result<Vec<Head>, StoreError> {
        let records = |table: &Numbered| table.iter()?.map(|record| Ok(record?.1.value().to_vec())).collect();
        let all: Option<Vec<Vec<u8>>> = self.look(HEADS, records)?;
        all.unwrap_or_default().iter().map(|bytes| self.parsed(bytes)).collect()
    }

    fn read_kept(&self, generation: u64) -> Result<Option<Kept>, StoreError> {
        let found = self.look(KEPT, |table| Ok(table.get(generation)?.map(|bytes| bytes.value().to_vec())))?;
        found.flatten().map(|bytes| self.parsed(&bytes)).transpose()
    }

    fn trial(&self) -> Result<Option<TrialRecord>, StoreError> {
        let found = self.look(TRIAL, |table| Ok(table.get(0)?.map(|bytes| bytes.value().to_vec())))?;
        found.flatten().map(|bytes| self.parsed(&bytes)).transpose()
    }

    fn keep_trial(&mut self, trial: Option<&TrialRecord>) -> Result<(), StoreError> {
        let json = |e: serde_json::Error| self.failed("write", redb::Error::Io(io::Error::other(e)));
        let bytes = trial.map(serde_json::to_vec).transpose().map_err(json)?;
        let db = self.take_db()?;
        let write = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            {
                let mut table = transaction.open_table(TRIAL)?;
                match &bytes {
                    Some(bytes) => drop(table.insert(0, bytes.as_slice())?),
                    None => drop(table.remove(0)?),
                }
            }
            Ok(transaction.commit()?)
        };
        let written = write();
        written.map_err(|e| self.failed("write", e))?;
        self.db = Some(db);
        Ok(())
    }

    fn accounts(&self) -> Result<Accounts, StoreError> {
        let read = |table: &Read<&'static str>| {
            let mut accounts = Accounts::new();
            for record in table.iter()? {
                let (identity, bytes) = record?;
                // One that a newer daemon wrote otherwise begins anew.
                if let Ok(account) = serde_json::from_slice(bytes.value()) {
                    accounts.insert(identity.value().to_owned(), account);
                }
            }
            Ok(accounts)
        };
        Ok(self.look(ACCOUNTS, read)?.unwrap_or_default())
    }

    fn keep_accounts(&mut self, changed: &[(String, Option<Account>)]) -> Result<(), StoreError> {
        let db = self.take_db()?;
        let write = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            {
                let mut table = transaction.open_table(ACCOUNTS)?;
                for (identity, account) in changed {
                    match account {
                        Some(account) => {
                            let bytes =
                                serde_json::to_vec(account).map_err(|e| redb::Error::Io(io::Error::other(e)))?;
                            table.insert(identity.as_str(), bytes.as_slice())?;
                        }
                        None => drop(table.remove(identity.as_str())?),
                    }
                }
            }
            Ok(transaction.commit()?)
        };
        let written = write();
        written.map_err(|e| self.failed("write", e))?;
        self.db = Some(db);
        Ok(())
    }

    fn keep(&mut self, new: Option<&Kept>, gone: &[u64]) -> Result<(), StoreError> {
        let json = |e: serde_json::Error| self.failed("write", redb::Error::Io(io::Error::other(e)));
        let bytes = new.map(|new| {
            let head = serde_json::to_vec(&new.head).map_err(json)?;
            Ok((new.head.generation, head, serde_json::to_vec(new).map_err(json)?))
        });
        let bytes = bytes.transpose()?;
        let db = self.take_db()?;
        let write = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            {
                let (mut heads, mut kept) = (transaction.open_table(HEADS)?, transaction.open_table(KEPT)?);
                for generation in gone {
                    heads.remove(generation)?;
                    kept.remove(generation)?;
                }
                if let Some((generation, head, whole)) = &bytes {
                    heads.insert(generation, head.as_slice())?;
                    kept.insert(generation, whole.as_slice())?;
                }
            }
            Ok(transaction.commit()?)
        };
        let written = write();
        written.map_err(|e| self.failed("write", e))?;
        self.db = Some(db);
        Ok(())
    }
}

type Read<K> = redb::ReadOnlyTable<K, &'static [u8]>;
type Numbered = Read<u64>;

impl Embedded {
    /// Reads in a table; `None` when nothing was ever written to it.
    fn look<K: redb::Key + 'static, T>(
        &self,
        table: TableDefinition<'_, K, &'static [u8]>,
        read: impl FnOnce(&Read<K>) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let closed;
        let db = match &self.db {
            Some(db) => db,
            None => {
                closed = self.open_db(false)?;
                &closed
            }
        };
        let all = || -> Result<Option<T>, redb::Error> {
            match db.begin_read()?.open_table(table) {
                Ok(table) => read(&table).map(Some),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(e) => Err(e.into()),
            }
        };
        all().map_err(|e| self.failed("read", e))
    }

    fn parsed<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, StoreError> {
        let damaged = |e: serde_json::Error| StoreError::Damaged { path: self.path.clone(), error: e.to_string() };
        serde_json::from_slice(bytes).map_err(damaged)
    }
}

/// Copies a file; when this returns, the copy is whole and survives a power cut.
fn keep(file: &Path, copy: &Path) -> io::Result<()> {
    let mut new = copy.as_os_str().to_owned();
    new.push(".new");
    fs::copy(file, &new)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, copy)?;
    fs::File::open(copy.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests;
