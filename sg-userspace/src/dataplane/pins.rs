//! Where links and maps live on when the daemon does not: one directory for
//! each version of their layout.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sg_common::ABI_VERSION;
use thiserror::Error;

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

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
    /// Made by another version.
    #[error(
        "{path} holds the pins of ABI {found}, this daemon speaks ABI {ABI_VERSION}: run `sgd --detach` of the version \
         that made them, or set another pin_root"
    )]
    Abi {
        /// Its directory.
        path: PathBuf,
        /// Its version.
        found: String,
    },
}

/// The pin directory of this version.
#[derive(Clone, Debug)]
pub struct Pins {
    /// `<root>/v<ABI>`.
    pub dir: PathBuf,
    /// Links.
    pub links: PathBuf,
}

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: all-zero bytes are a valid statfs, which the call fills.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated path and a writable struct.
    unsafe { libc::statfs(path.as_ptr(), &raw mut stat) == 0 && stat.f_type as i64 == BPF_FS_MAGIC }
}

impl Pins {
    /// Opens the pin directory below a root, making it if need be.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn open(root: &Path) -> Result<Self, PinError> {
        let existing = root.ancestors().find(|p| p.exists()).unwrap_or(root);
        if !is_bpffs(existing) {
            return Err(PinError::NotBpffs(root.into(), existing.into()));
        }
        let io = |error| PinError::Io { path: root.into(), error };
        fs::create_dir_all(root).map_err(io)?;
        let own = format!("v{ABI_VERSION}");
        for entry in fs::read_dir(root).map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if name != own && name.starts_with('v') {
                return Err(PinError::Abi { path: root.join(&name), found: name[1..].to_owned() });
            }
        }
        let dir = root.join(own);
        let links = dir.join("links");
        fs::create_dir_all(&links).map_err(io)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(io)?;
        Ok(Self { dir, links })
    }

    /// Removes every pin: links first, then maps, then the directories.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(root: &Path) -> io::Result<usize> {
        let dir = root.join(format!("v{ABI_VERSION}"));
        let mut count = 0;
        for dir in [dir.join("links"), dir.clone()] {
            let entries = match fs::read_dir(&dir) {
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
            fs::remove_dir(&dir)?;
        }
        match fs::remove_dir(root) {
            // Another version's directory may stand beside ours.
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(e),
            _ => Ok(count),
        }
    }
}
