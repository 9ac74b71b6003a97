//! Looks at this host. Nothing is changed: the program is loaded and let go of, and files
//! are not opened for writing.

use std::{
    ffi::CString,
    fs, io,
    mem::MaybeUninit,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    ethtool::Ethtool,
    facts::{Card, Clock, ConfigFile, Daemon, Disk, Facts, Guarded, Others, Pins, Program, Room},
};
use crate::{
    daemon::{
        capabilities,
        config::{Config, ConfigError, DEFAULT_CONFIG},
        protocol::Status,
    },
    dataplane::{pins::is_bpffs, probe::Probe},
};

/// Reads the configuration; what cannot be read is a fact, and defaults stand in for it.
pub fn config(path: Option<&Path>) -> (ConfigFile, Config) {
    let file = path.unwrap_or(Path::new(DEFAULT_CONFIG));
    let mut hidden = false;
    let (config, error) = match Config::read(path) {
        Ok(config) => (config, None),
        Err(ConfigError::Read { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
            hidden = true;
            (Config::default(), None)
        }
        Err(e) => (Config::default(), Some(e.to_string())),
    };
    let warnings = config.failsafe.warnings();
    let failsafe = config.failsafe.settings().ok().flatten().map(|f| f.services());
    (ConfigFile { path: file.into(), there: file.exists(), hidden, error, warnings, failsafe }, config)
}

/// Looks at everything that this configuration names.
pub fn gather(file: ConfigFile, config: &Config, daemon: Daemon) -> Facts {
    let lacking = capabilities::missing();
    let program = if lacking.is_empty() { load() } else { Program::Untried };
    let root = existing(&config.pin_root).0;
    let devices = if let Daemon::Runs(status) = &daemon { cards(status) } else { Vec::new() };
    Facts {
        release: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
        jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok().map(|text| text.trim() != "0"),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        pins: Pins { root: config.pin_root.clone(), on_bpffs: is_bpffs(&root) },
        lacking,
        program,
        clock: clock(),
        disks: disks(config),
        guarded: guarded(&file, config),
        config: file,
        daemon,
        devices,
        others: others(),
    }
}

fn load() -> Program {
    match Probe::load() {
        Ok(_) => Program::Loads,
        Err(e) => Program::Refused(e.to_string()),
    }
}

/// A path, or what is there above it; and whether it is the path itself.
fn existing(path: &Path) -> (PathBuf, bool) {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    (there.into(), there == path)
}

fn clock() -> Clock {
    // SAFETY: all-zero bytes are a request to change nothing.
    let mut timex: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a writable structure; without modes it is only read.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    let synchronised = (state >= 0).then_some(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0);
    Clock { now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()), synchronised }
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).ok()
}

fn room(path: &Path) -> Option<Room> {
    let path = c_path(path)?;
    // SAFETY: all-zero bytes are a valid statvfs, which the call fills.
    let mut stat: libc::statvfs = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a terminated path and a writable structure.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return None;
    }
    Some(Room {
        bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
        // Some file systems make them as they are needed, and count none.
        files: (stat.f_files > 0).then_some(stat.f_ffree),
        read_only: stat.f_flag & libc::ST_RDONLY != 0,
    })
}

fn disk(what: &'static str, path: &Path) -> Disk {
    let (at, there) = existing(path);
    // SAFETY: a terminated path.
    let writable = c_path(&at).is_some_and(|p| unsafe { libc::access(p.as_ptr(), libc::W_OK) } == 0);
    Disk { what, path: path.into(), there, room: room(&at), writable }
}

/// The state's directory; and that of the audit log, if a link has put it elsewhere.
fn disks(config: &Config) -> Vec<Disk> {
    let mut disks = vec![disk("state and audit log", &config.state_dir)];
    let log = fs::canonicalize(config.audit_file()).ok();
    let elsewhere = log.as_deref().and_then(Path::parent).filter(|dir| {
        let device = |path: &Path| fs::metadata(path).ok().map(|m| m.dev());
        device(dir) != device(&config.state_dir)
    });
    if let Some(dir) = elsewhere {
        disks[0].what = "state";
        disks.push(disk("audit log", dir));
    }
    disks
}

fn guard(what: &'static str, path: &Path, forbidden: u32) -> Option<Guarded> {
    let mode = match fs::metadata(path) {
        Ok(meta) => Some((meta.mode() & 0o7777, meta.uid())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => None,
    };
    Some(Guarded { what, path: path.into(), forbidden, mode })
}

/// Secrets nobody else may read; the configuration nobody else may change, as it has the failsafe.
fn guarded(file: &ConfigFile, config: &Config) -> Vec<Guarded> {
    let key = config.api.private_key.as_ref().and_then(|path| guard("TLS key", path, 0o007));
    let all = [guard("configuration", &file.path, 0o022), guard("access keys", &config.keys_file(), 0o077), key];
    all.into_iter().flatten().collect()
}

fn cards(status: &Status) -> Vec<Card> {
    let Ok(ethtool) = Ethtool::open() else { return Vec::new() };
    let card = |d: &crate::daemon::protocol::DeviceStatus| Card {
        name: d.device.clone(),
        hook: d.hooks.first().cloned().unwrap_or_default(),
        driver: ethtool.driver(&d.device),
        lro: ethtool.lro(&d.device),
    };
    status.devices.iter().map(card).collect()
}

fn others() -> Others {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let there = |module: &&&str| Path::new(&format!("/sys/module/{module}")).exists();
    let conntrack = "/proc/sys/net/netfilter/nf_conntrack";
    Others {
        filters: ["nf_tables", "ip_tables", "ip6_tables", "ebtables"].iter().filter(there).copied().collect(),
        conntrack: number(&format!("{conntrack}_count")).zip(number(&format!("{conntrack}_max"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::client::ClientError;

    #[test]
    fn this_host_can_be_looked_at() {
        let dir = std::env::temp_dir();
        let config = Config { state_dir: dir.join("not-there/state"), ..Config::default() };
        let file = ConfigFile { path: dir.join("not-there.toml"), ..ConfigFile::default() };
        let facts = gather(file, &config, Daemon::Silent(ClientError::Absent { socket: "/run/sg/sgd.sock".into() }));
        assert!(facts.release.starts_with(|c: char| c.is_ascii_digit()), "{}", facts.release);
        assert!(facts.clock.now > 1_000_000_000);
        let [disk] = &facts.disks[..] else { panic!("{:?}", facts.disks) };
        assert!(!disk.there && disk.room.is_some_and(|r| r.bytes > 0), "{disk:?}");
        assert!(facts.devices.is_empty());
        assert!(!super::super::judge(&facts).is_empty());
        let (file, _) = super::config(Some(Path::new("/proc/self/mem")));
        assert!(file.error.is_some());
    }
}
