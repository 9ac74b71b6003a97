//! One line of JSON for each call, and one before each change: who, what, and how
//! it ended. A change that cannot be written down, so that it survives a power cut,
//! is not made.

use std::{borrow::Cow, io, path::Path};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::params::Params;
use crate::daemon::{lines::Lines, log};

/// Bytes at which a file is put aside.
const MAX: u64 = 16 << 20;
/// Files that are kept beside the one in use.
const KEPT: u32 = 5;
/// Bytes of a parameter's name, and of its value.
const TEXT: usize = 1 << 10;
/// Bytes of all parameters of a line, as they are written: a hundred permissions fit, unless
/// all are described at length.
const TEXTS: usize = 64 << 10;

/// A line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Line<'a> {
    /// When, UTC.
    pub time: String,
    /// `intent` before a change, `call` after any call.
    pub kind: &'static str,
    /// Of one call, its intent included: an id that no other call ever has. Callers of the
    /// control API know it as `RequestId`.
    pub call: &'a str,
    /// Who: a key, or `administrator`.
    pub caller: &'a str,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// Where from: an address, or process, user and command.
    pub source: &'a str,
    /// What.
    pub action: &'a str,
    /// Its parameters, as much of them as a line has room for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "parameters")]
    pub parameters: Option<&'a Params>,
    /// How it ended: `ok`, or the error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a str>,
    /// What it made, of which its parameters cannot tell: the id of a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<&'a str>,
    /// The state after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// A text that is not too long for a line, or its beginning.
fn cut(text: &str) -> Cow<'_, str> {
    match text.floor_char_boundary(TEXT) {
        at if at == text.len() => text.into(),
        at => format!("{}… ({} bytes)", &text[..at], text.len()).into(),
    }
}

/// Writes parameters. What a caller says must not push the lines of others out of
/// the files that are kept: long values are cut, and of too many the number is written.
fn parameters<S: Serializer>(all: &Option<&Params>, to: S) -> Result<S::Ok, S::Error> {
    let all = all.map(|p| &p.0).into_iter().flatten();
    let (mut map, mut room, mut left_out) = (to.serialize_map(None)?, TEXTS, 0);
    for pair in all.map(|(name, value)| (cut(name), cut(value))) {
        let bytes = serde_json::to_vec(&pair).map_or(usize::MAX, |bytes| bytes.len());
        match room.checked_sub(bytes) {
            Some(rest) => {
                room = rest;
                map.serialize_entry(&pair.0, &pair.1)?;
            }
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        map.serialize_entry("…", &format!("{left_out} parameters left out"))?;
    }
    map.end()
}

/// The file.
#[derive(Debug)]
pub struct Audit {
    lines: Lines,
    /// Whether the last attempt failed: that is said once, not for each line.
    failing: bool,
}

impl Audit {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { lines: Lines::open(path, MAX, KEPT)?, failing: false })
    }

    /// Whether the last attempt to write it failed.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// Writes lines: all of them, or none.
    ///
    /// # Errors
    /// None is written.
    pub fn write<L: Serialize>(&mut self, lines: &[L]) -> io::Result<()> {
        self.put(lines, false)
    }

    /// The same; when this returns, they survive a power cut.
    ///
    /// # Errors
    /// None is written.
    pub fn write_durably<L: Serialize>(&mut self, lines: &[L]) -> io::Result<()> {
        self.put(lines, true)
    }

    fn put<L: Serialize>(&mut self, lines: &[L], durably: bool) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let result = self.lines.append(lines, durably);
        self.tell(result)
    }

    /// Logs when it begins to fail, and when that is over.
    fn tell(&mut self, result: io::Result<()>) -> io::Result<()> {
        let path = self.lines.path().display();
        match (&result, self.failing) {
            (Err(e), false) => {
                log::error!("the audit log {path} cannot be written: {e}; changes are refused until it can: make room");
            }
            (Ok(()), true) => log::warning!("the audit log {path} can be written again"),
            _ => {}
        }
        self.failing = result.is_err();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn line(caller: &str) -> Line<'_> {
        Line {
            time: "t".into(),
            kind: "call",
            call: "c",
            caller,
            account: None,
            source: "s",
            action: "A",
            parameters: None,
            result: Some("ok"),
            made: None,
            generation: Some(1),
        }
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sg-audit-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The parameters of a line, and its bytes.
    fn written(pairs: &[(&str, &str)]) -> (serde_json::Value, usize) {
        let all: Params = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let text = serde_json::to_string(&Line { parameters: Some(&all), ..line("k") }).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        (line["parameters"].clone(), text.len())
    }

    #[test]
    fn large_parameters_make_no_large_lines() {
        let exact = "x".repeat(TEXT);
        assert_eq!(written(&[("A", &exact), ("B", "")]).0, serde_json::json!({"A": exact, "B": ""}));
        // Two bytes a character, the first begins at an odd one.
        let long = format!("x{}", "ü".repeat(2 << 20));
        let (said, bytes) = written(&[("A", &long), ("B", "b")]);
        assert_eq!(said, serde_json::json!({"A": format!("x{}… (4194305 bytes)", "ü".repeat(511)), "B": "b"}));
        assert!(bytes < 2 << 10, "{bytes}");
        assert!(written(&[(&long, "b")]).1 < 2 << 10);
        // Many, and those that are longer as they are written than as they are said.
        for text in ["y".repeat(900), "\u{1}".repeat(900)] {
            let names: Vec<String> = (0..5000).map(|i| format!("P{i:04}")).collect();
            let pairs: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), text.as_str())).collect();
            let (said, bytes) = written(&pairs);
            let kept = said.as_object().unwrap().len() - 1;
            assert!((2..=TEXTS / 900).contains(&kept) && bytes < TEXTS + (1 << 10), "{kept} in {bytes}");
            assert_eq!(said["…"], format!("{} parameters left out", 5000 - kept));
            assert_eq!(said["P0000"], text);
        }
    }

    #[test]
    fn lines_are_kept_and_files_put_aside() {
        let dir = dir("rotated");
        let path = dir.join("audit.jsonl");
        let mut audit = Audit::open(&path).unwrap();
        audit.write(&[line("k")]).unwrap();
        audit.lines.file().set_len(MAX + 1).unwrap();
        audit.write_durably(&[line("k"), line("l")]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(fs::metadata(dir.join("audit.jsonl.1")).unwrap().len(), MAX + 1);
        // Put aside, but with no room for the next one then: nothing else is moved later.
        audit.lines.file().set_len(MAX + 1).unwrap();
        fs::rename(&path, dir.join("audit.jsonl.1")).unwrap();
        audit.write(&[line("m")]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(!dir.join("audit.jsonl.2").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_written_or_synced_is_an_error() {
        // Takes nothing.
        assert!(Audit::open(Path::new("/dev/full")).unwrap().write(&[line("k")]).is_err());
        // Takes everything, and keeps nothing.
        let mut null = Audit::open(Path::new("/dev/null")).unwrap();
        null.write(&[line("k")]).unwrap();
        assert!(null.write_durably(&[line("k")]).is_err());
    }
}
