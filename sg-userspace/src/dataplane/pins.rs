//! Where links and maps live on when the daemon does not: one directory below
//! the pin root for each *set* of maps.
//!
//! `v2` is the set in force. A set that is to follow it is made in `v2-new`,
//! and comes into force by two renames; `v2-old`, or `v1` of an older version,
//! is then emptied. (bpffs allows no dots in names.) Whatever moment a daemon dies
//! at, the names say how far it came:
//!
//! | there is | means | the next start |
//! |---|---|---|
//! | `v2` | in force | takes it over |
//! | `v2` or `v1`, and `v2-new` | the new set was being made | discards `v2-new` |
//! | `v2-old` and `v2-new`, no `v2` | it was whole | renames `v2-new` to `v2` |
//! | `v2`, and `v2-old` or `v1` | links are moving to `v2` | moves the rest |

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sg_common::ABI_VERSION;
use thiserror::Error;

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// The oldest version whose sets can be carried over.
pub const OLDEST: u32 = 1;

/// Why pins cannot be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// Not bpffs.
    #[error("{0} is not on a BPF file system: `mount -t bpf bpf {1}`, or set pin_root to a directory on one")]
    NotBpffs(PathBuf, PathBuf),
    /// Cannot be made or read.
    #[error("cannot use the pin directory {path}: {error}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Made by a version that this one knows nothing of.
    #[error(
        "{path} holds the pins of ABI {found}, this daemon speaks ABI {ABI_VERSION} and carries over from {OLDEST} on; \
         nothing was changed, and what is in force stays in force: start the version that made them, or take its \
         protection off by `sgd --detach` of that version, or set another pin_root"
    )]
    Abi {
        /// Its directory.
        path: PathBuf,
        /// Its version.
        found: String,
    },
}

/// The directory of one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// Maps.
    pub dir: PathBuf,
    /// Links.
    pub links: PathBuf,
}

impl Pins {
    fn at(dir: PathBuf) -> Self {
        Self { links: dir.join("links"), dir }
    }

    /// Makes the directories, where they are missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.links)?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
    }

    /// Removes every pin of the set: links first, then maps, then the
    /// directories. Returns how many there were.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self) -> io::Result<usize> {
        let mut count = 0;
        for dir in [&self.links, &self.dir] {
            let entries = match fs::read_dir(dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for entry in entries {
                let path = entry?.path();
                if !path.is_dir() {
                    fs::remove_file(path)?;
                    count += 1;
                }
            }
            fs::remove_dir(dir)?;
        }
        Ok(count)
    }
}

/// A set that was in force before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Old {
    /// Version of its layouts.
    pub abi: u32,
    /// Where it is.
    pub pins: Pins,
}

/// All sets below a pin root.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    /// Sets whose links are to move to [`Root::own`].
    pub old: Vec<Old>,
}

/// Whether a path is on a BPF file system.
pub fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: all-zero bytes are a valid statfs, which the call fills.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated path and a writable struct.
    unsafe { libc::statfs(path.as_ptr(), &raw mut stat) == 0 && stat.f_type as i64 == BPF_FS_MAGIC }
}

/// What the name of a directory says: the version, and what follows it.
fn parse(name: &str) -> Option<(Option<u32>, &str)> {
    let rest = name.strip_prefix('v')?;
    let (version, kind) = match rest.split_once('-') {
        Some((version, kind)) => (version, kind),
        None => (rest, ""),
    };
    Some((version.parse().ok().filter(|v| (OLDEST..=ABI_VERSION).contains(v)), kind))
}

impl Root {
    /// Looks at what is below a root, which is made if need be, and brings the
    /// names in order; see the table above.
    ///
    /// # Errors
    /// [`PinError`]; pins of a version that is not known are left as they are.
    pub fn open(path: &Path) -> Result<Self, PinError> {
        let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
        if !is_bpffs(existing) {
            return Err(PinError::NotBpffs(path.into(), existing.into()));
        }
        let mut root = Self { path: path.into(), old: Vec::new() };
        let unknown = root.survey().map_err(|error| PinError::Io { path: path.into(), error })?;
        match unknown {
            Some((path, found)) => Err(PinError::Abi { path, found }),
            None => Ok(root),
        }
    }

    fn survey(&mut self) -> io::Result<Option<(PathBuf, String)>> {
        fs::create_dir_all(&self.path)?;
        let names = fs::read_dir(&self.path)?
            .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        let sets: Vec<_> = names.iter().filter_map(|name| parse(name).map(|p| (name, p))).collect();
        if let Some((name, _)) = sets.iter().find(|(_, (version, kind))| version.is_none() || !known(kind)) {
            return Ok(Some((self.path.join(name), name[1..].to_owned())));
        }
        for (name, (version, kind)) in sets {
            let Some(abi) = version else { continue };
            let (dir, at) = (self.path.join(name), self.path.join(format!("v{abi}")));
            match kind {
                "new" if !at.exists() && self.path.join(format!("v{abi}-old")).exists() => {
                    fs::rename(&dir, &at)?;
                    if abi != ABI_VERSION {
                        self.old.push(Old { abi, pins: Pins::at(at) });
                    }
                }
                "new" => drop(Pins::at(dir).remove()?),
                "" if abi == ABI_VERSION => {}
                _ => self.old.push(Old { abi, pins: Pins::at(dir) }),
            }
        }
        Ok(None)
    }

    /// The set of this version.
    pub fn own(&self) -> Pins {
        Pins::at(self.path.join(format!("v{ABI_VERSION}")))
    }

    /// The set that is to follow.
    pub fn next(&self) -> Pins {
        Pins::at(self.path.join(format!("v{ABI_VERSION}-new")))
    }

    /// Puts the set that was made in [`Root::next`] in the place of the one of
    /// this version, if there is one, which becomes an old one.
    ///
    /// # Errors
    /// What the file system says; the next start then finishes what was begun.
    pub fn advance(&mut self) -> io::Result<Pins> {
        let own = self.own();
        if own.dir.exists() {
            let aside = self.path.join(format!("v{ABI_VERSION}-old"));
            fs::rename(&own.dir, &aside)?;
            self.old.push(Old { abi: ABI_VERSION, pins: Pins::at(aside) });
        }
        fs::rename(self.next().dir, &own.dir)?;
        Ok(own)
    }

    /// All sets that may have links.
    pub fn all(&self) -> Vec<Pins> {
        self.old.iter().map(|o| o.pins.clone()).chain([self.own()]).collect()
    }

    /// Removes every pin, and the root. Returns how many pins there were.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self) -> io::Result<usize> {
        let count = self.all().iter().map(Pins::remove).sum::<io::Result<usize>>()?;
        match fs::remove_dir(&self.path) {
            // Somebody else's directory may stand beside ours.
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(e),
            _ => Ok(count),
        }
    }
}

fn known(kind: &str) -> bool {
    matches!(kind, "" | "new" | "old")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::TempDir;

    /// Directories as they may be found, and what they become.
    #[test]
    fn names_say_how_far_a_daemon_came() {
        let own = format!("v{ABI_VERSION}");
        let (new, old) = (format!("{own}-new"), format!("{own}-old"));
        let cases: [(&[&str], &[&str], usize); 7] = [
            (&[], &[], 0),
            (&[&own], &[&own], 0),
            (&["v1"], &["v1"], 1),
            (&["v1", &new], &["v1"], 1),
            (&[&own, &new], &[&own], 0),
            (&[&old, &new], &[&own, &old], 1),
            (&["v1", &own], &["v1", &own], 1),
        ];
        for (before, after, count) in cases {
            let dir = TempDir::new().unwrap();
            before.iter().for_each(|name| Pins::at(dir.path().join(name)).make().unwrap());
            let mut root = Root { path: dir.path().into(), old: Vec::new() };
            assert_eq!(root.survey().unwrap(), None);
            let mut found: Vec<String> =
                fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            found.sort();
            let mut after = after.to_vec();
            after.sort_unstable();
            assert_eq!((found, root.old.len()), (after.iter().map(|n| (*n).to_owned()).collect(), count), "{before:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        for name in [format!("v{}", ABI_VERSION + 1), "v0".into(), "vx".into(), format!("v{ABI_VERSION}-other")] {
            let dir = TempDir::new().unwrap();
            [&name, &format!("v{ABI_VERSION}-new")].iter().for_each(|n| Pins::at(dir.path().join(n)).make().unwrap());
            let mut root = Root { path: dir.path().into(), old: Vec::new() };
            assert_eq!(root.survey().unwrap(), Some((dir.path().join(&name), name[1..].to_owned())));
            assert!(root.next().dir.exists(), "nothing was changed");
        }
    }
}
