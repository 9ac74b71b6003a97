//! What doctor looks at, as plain data.

use std::path::PathBuf;

use crate::{ctl::client::ClientError, daemon::protocol::Status};

/// Everything that is judged.
#[derive(Debug)]
pub struct Facts {
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// Whether programs are compiled; `None`: it cannot be seen.
    pub jit: Option<bool>,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// Where pins live on.
    pub pins: Pins,
    /// Capabilities that are needed and this process lacks.
    pub lacking: Vec<&'static str>,
    /// Whether the kernel takes the program.
    pub program: Program,
    /// The system's clock.
    pub clock: Clock,
    /// The configuration.
    pub config: ConfigFile,
    /// Where the daemon writes.
    pub disks: Vec<Disk>,
    /// Files that nobody else may read, or write.
    pub guarded: Vec<Guarded>,
    /// The daemon.
    pub daemon: Daemon,
    /// Protected devices.
    pub devices: Vec<Card>,
    /// Other packet filters of this network namespace.
    pub others: Others,
}

/// The pin root.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Its path.
    pub root: PathBuf,
    /// Whether it, or the directory that it is to be made in, is on a BPF file system.
    pub on_bpffs: bool,
}

/// What the kernel says of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Not tried without the capabilities.
    Untried,
    /// It was taken, and let go of.
    Loads,
    /// Why not.
    Refused(String),
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Seconds since 1970.
    pub now: u64,
    /// Whether something keeps it right; `None`: it cannot be seen.
    pub synchronised: Option<bool>,
}

/// The daemon's file.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is there.
    pub there: bool,
    /// Whether this process may not read it; then defaults stand in for it.
    pub hidden: bool,
    /// What is wrong with it.
    pub error: Option<String>,
    /// What it may say, and hardly anybody wants.
    pub warnings: Vec<String>,
    /// The failsafe that it has: `tcp 22`.
    pub failsafe: Option<String>,
}

/// A place that is written to.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What is there.
    pub what: &'static str,
    /// Its directory.
    pub path: PathBuf,
    /// Whether the directory is there; else what is said is of the one above it.
    pub there: bool,
    /// Its file system; `None`: it cannot be asked.
    pub room: Option<Room>,
    /// Whether this process may write there.
    pub writable: bool,
}

/// What is left on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that root may still write.
    pub bytes: u64,
    /// Files that may still be made; `None`: it counts none.
    pub files: Option<u64>,
    /// Whether nothing can be written at all.
    pub read_only: bool,
}

/// A file that not everybody may use.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// What it is.
    pub what: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Permission bits that others than its owner must not have.
    pub forbidden: u32,
    /// Its permission bits and owner; `None`: it may not be looked at.
    pub mode: Option<(u32, u32)>,
}

/// The daemon.
#[derive(Debug)]
pub enum Daemon {
    /// It answered.
    Runs(Box<Status>),
    /// It did not: why.
    Silent(ClientError),
}

/// A protected device, as its driver has it.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Where the program for what it receives sits.
    pub hook: String,
    /// Its driver; empty where it does not say.
    pub driver: String,
    /// Whether it merges received packets; `None`: it does not say.
    pub lro: Option<bool>,
}

/// Other packet filters.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Modules and parts of the kernel that are there.
    pub filters: Vec<&'static str>,
    /// Entries of nf_conntrack, and how many it takes.
    pub conntrack: Option<(u64, u64)>,
}

#[cfg(test)]
pub(super) fn good() -> Facts {
    Facts {
        release: "6.12.9-amd64".into(),
        jit: Some(true),
        btf: true,
        pins: Pins { root: "/sys/fs/bpf/sg".into(), on_bpffs: true },
        lacking: Vec::new(),
        program: Program::Loads,
        clock: Clock { now: 1_790_000_000, synchronised: Some(true) },
        config: ConfigFile {
            path: "/etc/sg/sgd.toml".into(),
            there: true,
            hidden: false,
            error: None,
            warnings: Vec::new(),
            failsafe: None,
        },
        disks: Vec::new(),
        guarded: Vec::new(),
        daemon: Daemon::Silent(ClientError::Absent { socket: "/run/sg/sgd.sock".into() }),
        devices: Vec::new(),
        others: Others::default(),
    }
}
