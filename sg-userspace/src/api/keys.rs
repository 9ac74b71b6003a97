//! Access keys, in one file that only the daemon reads. Their secrets are needed
//! in plain for HMAC; they are nowhere else, and shown once.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::draft::time;

/// A key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What clients call themselves.
    pub id: String,
    /// What they sign with.
    pub secret: String,
    /// The account it belongs to.
    pub account: String,
    /// Whether it may change anything.
    pub writes: bool,
    /// Whether it is refused.
    #[serde(default)]
    pub disabled: bool,
    /// Seconds since 1970.
    pub created: u64,
    /// For people.
    #[serde(default)]
    pub comment: String,
}

/// Never with its secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("account", &self.account).finish_non_exhaustive()
    }
}

/// What may be shown of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Its account.
    pub account: String,
    /// `read-write` or `read-only`.
    pub access: String,
    /// `active` or `disabled`.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// For people.
    pub comment: String,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys {
    path: PathBuf,
    keys: Vec<Key>,
    /// From a credential of the service manager: they are what they are.
    given: Vec<Key>,
}

/// Name of the credential with keys that the service manager may give, in the format of
/// the file.
pub const CREDENTIAL: &str = "sg-keys";

/// What a key may do, in words.
pub const fn access(writes: bool) -> &'static str {
    if writes { "read-write" } else { "read-only" }
}

/// Why keys could not be changed.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file.
    #[error("cannot keep the keys: {0}")]
    File(#[from] io::Error),
    /// From a credential.
    #[error("key {0} comes from the credential {CREDENTIAL} of the service manager: change it there, and restart sgd")]
    Given(String),
}

impl Keys {
    /// Reads the file; none is no keys.
    ///
    /// # Errors
    /// A file that others can read, or that is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named = |e: String| io::Error::other(format!("{}: {e}", path.display()));
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { path: path.into(), ..Self::default() }),
            Err(e) => return Err(named(e.to_string())),
        };
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(named(format!("others can read the secrets in it (mode {:o}); `chmod 600` it", mode & 0o777)));
        }
        let keys = serde_json::from_slice(&bytes).map_err(|e| named(format!("it is damaged: {e}")))?;
        Ok(Self { path: path.into(), keys, given: Vec::new() })
    }

    /// Adds the keys of a directory of credentials, if it has any.
    ///
    /// # Errors
    /// What cannot be read, or names a key that there is already.
    pub fn with_credential(mut self, dir: &Path) -> io::Result<Self> {
        let path = dir.join(CREDENTIAL);
        let named = |e: String| io::Error::other(format!("the credential {}: {e}", path.display()));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(e) => return Err(named(e.to_string())),
        };
        let given: Vec<Key> = serde_json::from_slice(&bytes).map_err(|e| named(format!("it is damaged: {e}")))?;
        for (i, key) in given.iter().enumerate() {
            if self.find(&key.id).is_some() || given[..i].iter().any(|k| k.id == key.id) {
                return Err(named(format!("there are two keys {}", key.id)));
            }
        }
        self.given = given;
        Ok(self)
    }

    /// Refuses what came from a credential.
    fn own(&self, id: &str) -> Result<(), KeyError> {
        if self.given.iter().any(|k| k.id == id) { Err(KeyError::Given(id.into())) } else { Ok(()) }
    }

    /// A key by its id.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().chain(&self.given).find(|k| k.id == id)
    }

    /// What may be shown.
    pub fn list(&self) -> Vec<KeyView> {
        let view = |k: &Key| KeyView {
            id: k.id.clone(),
            account: k.account.clone(),
            access: access(k.writes).into(),
            state: if k.disabled { "disabled" } else { "active" }.into(),
            created: time(k.created),
            comment: k.comment.clone(),
        };
        self.keys.iter().chain(&self.given).map(view).collect()
    }

    fn save(&self, keys: &[Key]) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(keys)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        fs::File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Makes a key; this is the one time that its secret is shown.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(&mut self, account: &str, writes: bool, comment: &str, now: u64) -> io::Result<Key> {
        let random = |length: usize| -> String {
            let text = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            text.chars().take(length).collect()
        };
        let key = Key {
            id: format!("SG{}", random(22).to_uppercase()),
            secret: random(40),
            account: account.into(),
            writes,
            disabled: false,
            created: now,
            comment: comment.into(),
        };
        let mut keys = self.keys.clone();
        keys.push(key.clone());
        self.save(&keys)?;
        self.keys = keys;
        Ok(key)
    }

    /// Disables a key, or enables it again. False when there is none of that id.
    ///
    /// # Errors
    /// The file cannot be written, or it is not in it.
    pub fn disable(&mut self, id: &str, disabled: bool) -> Result<bool, KeyError> {
        self.own(id)?;
        let mut keys = self.keys.clone();
        let Some(key) = keys.iter_mut().find(|k| k.id == id) else { return Ok(false) };
        key.disabled = disabled;
        self.save(&keys)?;
        self.keys = keys;
        Ok(true)
    }

    /// Deletes a key. False when there is none of that id.
    ///
    /// # Errors
    /// The file cannot be written, or it is not in it.
    pub fn delete(&mut self, id: &str) -> Result<bool, KeyError> {
        self.own(id)?;
        let keys: Vec<Key> = self.keys.iter().filter(|k| k.id != id).cloned().collect();
        if keys.len() == self.keys.len() {
            return Ok(false);
        }
        self.save(&keys)?;
        self.keys = keys;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_never_shown_again() {
        let dir = std::env::temp_dir().join(format!("sg-keys-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("keys.json");
        let mut keys = Keys::open(&path).unwrap();
        let key = keys.create("1", false, "for tests", 0).unwrap();
        assert!(!format!("{key:?} {:?} {:?}", keys, keys.list()).contains(&key.secret));
        assert!(keys.disable(&key.id, true).unwrap() && !keys.disable("x", true).unwrap());
        let again = Keys::open(&path).unwrap();
        assert_eq!(again.find(&key.id).map(|k| (k.secret.as_str(), k.disabled)), Some((key.secret.as_str(), true)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Keys::open(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // What the service manager gives is used beside them, and left alone.
        let given = Key { id: "GIVEN".into(), ..key.clone() };
        fs::write(dir.join(CREDENTIAL), serde_json::to_vec(&[&given]).unwrap()).unwrap();
        let mut both = Keys::open(&path).unwrap().with_credential(&dir).unwrap();
        assert_eq!(both.find("GIVEN").map(|k| &k.secret), Some(&key.secret));
        assert_eq!(both.list().len(), 2);
        assert!(both.delete("GIVEN").unwrap_err().to_string().contains("change it there"));
        assert!(both.disable("GIVEN", true).is_err() && both.disable(&key.id, false).unwrap());
        assert_eq!(Keys::open(&path).unwrap().list().len(), 1, "it is not written down");
        fs::write(dir.join(CREDENTIAL), serde_json::to_vec(&[&key]).unwrap()).unwrap();
        let twice = Keys::open(&path).unwrap().with_credential(&dir);
        assert!(twice.unwrap_err().to_string().contains("there are two keys"));
        assert!(keys.delete(&key.id).unwrap() && Keys::open(&path).unwrap().list().is_empty());
        fs::remove_dir_all(dir).unwrap();
    }
}
