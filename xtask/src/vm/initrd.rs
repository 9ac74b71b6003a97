//! The file system of a small machine: a cpio archive ("newc"), written here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::modules::Module;
use crate::run::{find, output_of};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// Programs of this machine that the tests call.
const TOOLS: [&str; 4] = ["ip", "tc", "ethtool", "bash"];
/// Commands of busybox that the tests call by name.
const APPLETS: [&str; 2] = ["sh", "mkdir"];
const MOUNT_POINTS: [&str; 5] = ["proc", "sys", "dev", "tmp", "run"];

/// An archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    known: BTreeSet<PathBuf>,
}

impl Archive {
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn record(&mut self, name: &str, mode: u32, data: &[u8]) {
        let inode = self.known.len();
        let links = 1 + u32::from(mode == DIRECTORY);
        let head = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            0, // user
            0, // group
            0, // time
            data.len(),
            0, // device, major
            0, // device, minor
            0, // special file, major
            0, // special file, minor
            name.len() + 1,
            0, // checksum
        );
        self.bytes.extend(head.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    /// Adds a node with the directories above it, once.
    fn add(&mut self, path: &Path, mode: u32, data: &[u8]) {
        let path = path.strip_prefix("/").unwrap_or(path);
        if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty() && !self.known.contains(*p)) {
            self.add(above, DIRECTORY, &[]);
        }
        if self.known.insert(path.into()) {
            self.record(&path.to_string_lossy(), mode, data);
        }
    }

    /// Adds a program of this machine, with its libraries where they lie here.
    fn program(&mut self, at: &str, file: &Path) -> Result<()> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        self.add(Path::new(at), PROGRAM, &read(file)?);
        // Nothing is said of a program without libraries.
        let libraries = output_of(Command::new("ldd").arg(file)).unwrap_or_default();
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.add(Path::new(library), PROGRAM, &read(Path::new(library))?);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.record("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// What goes into a machine.
pub struct Contents<'a> {
    /// The shell and its commands.
    pub busybox: &'a Path,
    /// Loaded in this order.
    pub modules: &'a [Module],
    /// Put into `/bin` under their own names.
    pub programs: &'a [(&'static str, PathBuf)],
    /// What the first process does when all is mounted and loaded.
    pub script: &'a str,
}

/// Writes the archive.
///
/// # Errors
/// A file that cannot be read.
pub fn build(contents: &Contents<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in MOUNT_POINTS {
        archive.add(Path::new(dir), DIRECTORY, &[]);
    }
    archive.program("bin/busybox", contents.busybox)?;
    for applet in APPLETS {
        archive.add(&Path::new("bin").join(applet), LINK, b"busybox");
    }
    for tool in TOOLS {
        let path = find(tool).with_context(|| format!("`{tool}` is missing on this machine"))?;
        archive.program(&format!("sbin/{tool}"), &path)?;
    }
    archive.add(Path::new("bin/bash"), LINK, b"/sbin/bash");
    for (name, path) in contents.programs {
        archive.program(&format!("bin/{name}"), path)?;
    }
    let mut load = String::new();
    for module in contents.modules {
        archive.add(Path::new(&format!("modules/{}.ko", module.name)), PROGRAM, &module.bytes);
        load += &format!("busybox insmod /modules/{0}.ko || echo 'cannot load {0}'\n", module.name);
    }
    let init = format!(
        "#!/bin/busybox sh\nexport PATH=/sbin:/bin HOME=/ TMPDIR=/tmp\n\
         busybox mount -t proc proc /proc\nbusybox mount -t sysfs sysfs /sys\nbusybox mount -t devtmpfs dev /dev\n\
         busybox mount -t tmpfs tmp /tmp\nbusybox mount -t bpf bpf /sys/fs/bpf\n{load}{}\nbusybox poweroff -f\n",
        contents.script
    );
    archive.add(Path::new("init"), PROGRAM, init.as_bytes());
    Ok(archive.finish())
}
