//! A file of JSON lines that is put aside when it is large.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// The file, and those put aside: `NAME.1` is the newest.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    /// Bytes at which it is put aside.
    max: u64,
    /// Files that are kept beside the one in use.
    kept: u32,
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    // A line is found after a power cut only where its file is.
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(file)
}

impl Lines {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path, max: u64, kept: u32) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: open(path)?, max, kept })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file in use.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        // An attempt that found no room for the new file has put the old one aside already.
        if self.path.exists() {
            for n in (1..self.kept).rev() {
                match fs::rename(old(n), old(n + 1)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            fs::rename(&self.path, old(1))?;
        }
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Writes lines: all of them, or none. When this returns, they survive a power cut if
    /// that was asked for.
    ///
    /// # Errors
    /// None is written.
    pub fn append<L: Serialize>(&mut self, lines: &[L], durably: bool) -> io::Result<()> {
        if self.file.metadata()?.len() > self.max {
            self.rotate()?;
        }
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(&bytes);
        // Once for all of them: it is what costs.
        let kept = written.and_then(|()| if durably { self.file.sync_data() } else { Ok(()) });
        if kept.is_err() {
            // Half a line would spoil the one behind it, and none may tell of what is not done.
            let _ = self.file.set_len(before);
        }
        kept
    }
}
