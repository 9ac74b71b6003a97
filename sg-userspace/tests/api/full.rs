//! A daemon whose audit log is on a small file system of its own: root is stopped
//! by no permission, but by a disk that is full.

use std::{fs, io, io::Write, os::unix::fs::symlink, path::PathBuf};

use serde_json::Value;
use sg_userspace::testbed::Daemon;

fn mounted(daemon: &Daemon<'_>) -> PathBuf {
    daemon.dir().join("audit")
}

/// Puts the audit log there; the daemon must not run.
pub fn place(daemon: &Daemon<'_>) {
    let (at, log) = (mounted(daemon), daemon.dir().join("state/audit.jsonl"));
    fs::create_dir(&at).unwrap();
    let _ = fs::remove_file(&log);
    symlink(at.join("audit.jsonl"), log).unwrap();
    let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).unwrap();
    daemon
        .enter(|| {
            // SAFETY: all strings are terminated.
            let done = unsafe {
                libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=1m".as_ptr().cast())
            };
            if done == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
        })
        .unwrap();
}

/// Leaves no room there; what is left of the log's last page may still take a few lines.
pub fn fill(daemon: &Daemon<'_>) {
    let filler = mounted(daemon).join("filler");
    daemon
        .enter(|| {
            let mut file = fs::File::create(filler)?;
            while file.write(&[0; 4096]).is_ok() {}
            Ok(())
        })
        .unwrap();
}

/// Makes room again.
pub fn clear(daemon: &Daemon<'_>) {
    let filler = mounted(daemon).join("filler");
    daemon.enter(|| Ok(fs::remove_file(filler)?)).unwrap();
}

/// The lines of the log, each of them whole.
pub fn lines(daemon: &Daemon<'_>) -> Vec<Value> {
    let log = mounted(daemon).join("audit.jsonl");
    let text = daemon.enter(|| Ok(fs::read_to_string(log)?)).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Changes something until that is refused because the log is full.
#[track_caller]
pub fn until_refused(mut change: impl FnMut() -> (u16, Value)) -> (u16, Value) {
    (0..40).map(|_| change()).find(|(status, _)| *status >= 500).expect("no change was refused")
}
