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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::TempDir;

    /// Names of the files in a directory, in order.
    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A line of ten bytes, as it is written.
    fn line(n: u32) -> String {
        format!("line {n:02}")
    }

    /// Numbers of the lines in a file.
    fn read(path: &Path) -> Vec<u32> {
        let number = |l: &str| serde_json::from_str::<String>(l).unwrap()["line ".len()..].parse::<u32>().unwrap();
        fs::read_to_string(path).unwrap().lines().map(number).collect()
    }

    #[test]
    fn a_file_is_put_aside_behind_its_size_and_so_many_are_kept() {
        // At its size it is not too large yet.
        for (max, each) in [(29, 3), (30, 4)] {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("log");
            let mut lines = Lines::open(&path, max, 2).unwrap();
            let mut kept = Vec::new();
            for n in 0..each * 5 {
                // The next daemon goes on where this one ended.
                if n == each * 2 + 1 {
                    lines = Lines::open(&path, max, 2).unwrap();
                }
                lines.append(&[line(n)], n % 2 == 0).unwrap();
                kept.push(names(dir.path()).len());
            }
            let file = |from: u32| (from..from + each).collect::<Vec<_>>();
            assert_eq!(read(&path), file(each * 4), "{max}");
            assert_eq!(read(&dir.path().join("log.1")), file(each * 3), "{max}");
            assert_eq!(read(&dir.path().join("log.2")), file(each * 2), "{max}");
            assert_eq!(names(dir.path()), ["log", "log.1", "log.2"], "{max}");
            // One more with each that was full, up to all that are kept.
            let full = |n: u32| (n / each + 1).min(3) as usize;
            assert_eq!(kept, (0..each * 5).map(full).collect::<Vec<_>>(), "{max}");
        }
    }

    #[test]
    fn lines_of_one_call_stay_together() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        let mut lines = Lines::open(&path, 5, 1).unwrap();
        lines.append(&[line(0), line(1), line(2)], false).unwrap();
        assert_eq!(names(dir.path()), ["log"]);
        lines.append(&[line(3), line(4)], false).unwrap();
        assert_eq!((read(&path), read(&dir.path().join("log.1"))), (vec![3, 4], vec![0, 1, 2]));
        lines.append(&[line(5)], false).unwrap();
        assert_eq!((read(&path), read(&dir.path().join("log.1"))), (vec![5], vec![3, 4]));
        assert_eq!(names(dir.path()), ["log", "log.1"]);
    }
}
