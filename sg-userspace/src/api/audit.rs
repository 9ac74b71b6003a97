//! One line of JSON for each call, and one before each change: who, what, and how
//! it ended. A change that cannot be written down is not made.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Bytes at which a file is put aside.
const MAX: u64 = 16 << 20;
/// Files that are kept beside the one in use.
const KEPT: u32 = 5;

/// A line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Line<'a> {
    /// When, UTC.
    pub time: String,
    /// `intent` before a change, `call` after any call.
    pub kind: &'static str,
    /// Who: a key, or `administrator`.
    pub caller: &'a str,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// Where from: an address, or process, user and command.
    pub source: &'a str,
    /// What.
    pub action: &'a str,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<&'a super::params::Params>,
    /// How it ended: `ok`, or the error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a str>,
    /// The state after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// The file.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: File,
    size: u64,
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Audit {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self { path: path.into(), file, size })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..KEPT).rev() {
            match fs::rename(old(n), old(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(&self.path, old(1))?;
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    /// Writes a line.
    ///
    /// # Errors
    /// It is not written whole.
    pub fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        if self.size > MAX {
            self.rotate()?;
        }
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_and_files_put_aside() {
        let dir = std::env::temp_dir().join(format!("sg-audit-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("audit.jsonl");
        let mut audit = Audit::open(&path).unwrap();
        let line = Line {
            time: "t".into(),
            kind: "call",
            caller: "k",
            account: None,
            source: "s",
            action: "A",
            parameters: None,
            result: Some("ok"),
            generation: Some(1),
        };
        audit.write(&line).unwrap();
        audit.size = MAX + 1;
        audit.write(&line).unwrap();
        for file in [path.clone(), dir.join("audit.jsonl.1")] {
            assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 1);
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
