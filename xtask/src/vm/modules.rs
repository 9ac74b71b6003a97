//! Kernel modules and what they depend on, read from the modules themselves.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// A module, ready to be loaded.
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The uncompressed object.
    pub bytes: Vec<u8>,
}

fn index(dir: &Path, found: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, found)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some((stem, "ko" | "ko.xz")) = name.split_once('.') {
            found.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|e| e == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz (package xz-utils)")?;
        if !output.status.success() {
            bail!("cannot unpack {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `depends=` in a module's own description: names, separated by commas.
fn depends(bytes: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = bytes.windows(key.len()).position(|w| w == key) else { return Vec::new() };
    let list = bytes[at + key.len()..].split(|b| *b == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list).into_owned();
    list.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

/// The modules of that name below a directory, each behind what it needs; one
/// that is not there is built into the kernel.
///
/// # Errors
/// A file that cannot be read.
pub fn closure(dir: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut found = HashMap::new();
    index(dir, &mut found)?;
    let mut modules: Vec<Module> = Vec::new();
    for name in wanted {
        add(name, &found, &mut modules)?;
    }
    Ok(modules)
}

fn add(name: &str, found: &HashMap<String, PathBuf>, modules: &mut Vec<Module>) -> Result<()> {
    if modules.iter().any(|m| m.name == name) {
        return Ok(());
    }
    let Some(path) = found.get(name) else { return Ok(()) };
    let bytes = read(path)?;
    for needed in depends(&bytes) {
        add(&needed, found, modules)?;
    }
    modules.push(Module { name: name.into(), bytes });
    Ok(())
}
