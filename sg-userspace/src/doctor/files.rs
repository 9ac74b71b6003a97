//! The configuration, room and rights where the daemon writes, and files that are nobody
//! else's.

use super::{
    Check,
    facts::{ConfigFile, Disk, Facts, Guarded},
};

/// Below this no file of the audit log fits any more.
const LEAST: u64 = 16 << 20;
/// All files of the audit log, and the store, may take this.
const FEW: u64 = 256 << 20;
/// Files that may still be made.
const FILES: (u64, u64) = (16, 1000);

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![config(&facts.config)];
    let root = facts.lacking.is_empty();
    checks.extend(facts.disks.iter().map(|d| disk(d, root)));
    checks.extend(facts.guarded.iter().map(guarded));
    checks
}

fn config(file: &ConfigFile) -> Check {
    let (check, path) = ("configuration", file.path.display());
    if file.hidden {
        return Check::unseen(check, &format!("{path}"));
    }
    if let Some(error) = &file.error {
        return Check::fail(check, error, "`sgd check` says the same; sgd does not start with it");
    }
    if !file.warnings.is_empty() {
        return Check::warn(check, file.warnings.join("; "), format!("change it in {path}, and restart sgd"));
    }
    match file.there {
        true => Check::ok(check, format!("{path} is good")),
        false => Check::ok(check, format!("{path} is not there: defaults")),
    }
}

/// `1.5 GiB`.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

fn disk(disk: &Disk, root: bool) -> Check {
    let (check, path) = (format!("disk: {}", disk.what), disk.path.display());
    let Some(room) = disk.room else { return Check::unseen(&check, &format!("{path}")) };
    let left = match room.files {
        Some(files) => format!("{} and {files} files are left in {path}", size(room.bytes)),
        None => format!("{} are left in {path}", size(room.bytes)),
    };
    let refused = "a change that cannot be stored or written to the audit log is refused";
    if room.read_only || (root && !disk.writable) {
        return Check::fail(&check, format!("{path} cannot be written: {refused}"), "mount it writable");
    }
    let (few, none) = (FILES.1, FILES.0);
    // An empty directory is a first start, which lets go of every device.
    let advice = "make room; or stop sgd, move the directory whole, set state_dir, and ReadWritePaths= in its unit";
    if room.bytes < LEAST || room.files.is_some_and(|n| n < none) {
        return Check::fail(&check, format!("{left}: {refused}"), advice);
    }
    if room.bytes < FEW || room.files.is_some_and(|n| n < few) {
        return Check::warn(&check, left, advice);
    }
    let made = if disk.there { "" } else { "; it is made by the first start" };
    Check::ok(&check, format!("{left}{made}"))
}

fn guarded(file: &Guarded) -> Check {
    let (check, path) = (format!("file: {}", file.what), file.path.display());
    let Some((mode, owner)) = file.mode else { return Check::unseen(&check, &format!("{path}")) };
    let found = format!("{path} has mode {mode:04o} and owner {owner}");
    if mode & file.forbidden == 0 && owner == 0 {
        return Check::ok(&check, found);
    }
    let others = if file.forbidden & 0o044 != 0 { "others may read it" } else { "others may change it" };
    let why = if mode & file.forbidden == 0 { "it is not root's" } else { others };
    let advice = format!("`chown root {path}; chmod {:03o} {path}`", mode & !file.forbidden & 0o777);
    Check::fail(&check, format!("{found}: {why}"), advice)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{State, facts::Room},
        *,
    };

    fn at(bytes: u64, files: Option<u64>) -> Disk {
        let room = Some(Room { bytes, files, read_only: false });
        Disk { what: "state", path: "/var/lib/sg".into(), there: true, room, writable: true }
    }

    #[test]
    fn room_is_enough_little_or_none() {
        for (bytes, files, state) in [
            (1 << 30, Some(100_000), State::Ok),
            (1 << 30, None, State::Ok),
            (255 << 20, None, State::Warn),
            (15 << 20, None, State::Fail),
            (1 << 30, Some(999), State::Warn),
            (1 << 30, Some(15), State::Fail),
        ] {
            let check = disk(&at(bytes, files), true);
            assert_eq!(check.state, state, "{check:?}");
        }
        assert!(disk(&at(3 << 29, None), true).found.contains("1.5 GiB"));
        let read_only = Disk { room: Some(Room { bytes: 1 << 40, files: None, read_only: true }), ..at(0, None) };
        assert_eq!(disk(&read_only, false).state, State::Fail);
        let closed = Disk { writable: false, ..at(1 << 30, None) };
        // That somebody else may not write there says nothing of the daemon.
        assert_eq!([true, false].map(|root| disk(&closed, root).state), [State::Fail, State::Ok]);
        assert_eq!(disk(&Disk { room: None, ..closed }, true).state, State::Warn);
        assert!(disk(&Disk { there: false, ..at(1 << 30, None) }, true).found.contains("first start"));
    }

    #[test]
    fn secrets_are_root_s_alone() {
        let file = |forbidden, mode| Guarded { what: "access keys", path: "/k".into(), forbidden, mode };
        assert_eq!(guarded(&file(0o077, Some((0o600, 0)))).state, State::Ok);
        assert_eq!(guarded(&file(0o077, None)).state, State::Warn);
        let read = guarded(&file(0o077, Some((0o644, 0))));
        assert_eq!((read.state, read.advice.as_str()), (State::Fail, "`chown root /k; chmod 600 /k`"));
        assert!(read.found.contains("others may read it"), "{read:?}");
        let foreign = guarded(&file(0o077, Some((0o600, 1000))));
        assert!(foreign.state == State::Fail && foreign.found.contains("not root's"), "{foreign:?}");
        // What only must not be changed may be read.
        assert_eq!(guarded(&file(0o022, Some((0o644, 0)))).state, State::Ok);
        let changed = guarded(&file(0o022, Some((0o666, 0))));
        assert!(changed.state == State::Fail && changed.found.contains("may change it"), "{changed:?}");
    }

    #[test]
    fn a_configuration_is_good_bad_or_unwise() {
        let file = |there, error: Option<&str>, warnings: &[&str]| ConfigFile {
            hidden: false,
            failsafe: None,
            path: "/etc/sg/sgd.toml".into(),
            there,
            error: error.map(Into::into),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        assert!(config(&file(true, None, &[])).found.contains("is good"));
        assert!(config(&file(false, None, &[])).found.contains("defaults"));
        assert_eq!(config(&file(true, Some("line 1"), &[])).state, State::Fail);
        assert_eq!(config(&file(true, None, &["failsafe.sources has ::/0"])).state, State::Warn);
    }
}
