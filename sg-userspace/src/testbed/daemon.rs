//! The real daemon, in a namespace.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{Net, check};

/// A directory of its own, removed at the end.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one.
    ///
    /// # Errors
    /// No room.
    pub fn new() -> Result<Self> {
        // mkdtemp(3) replaces six of these.
        let template = std::env::temp_dir().join(format!("sg-{}", "X".repeat(6)));
        let mut name = std::ffi::CString::new(template.as_os_str().as_encoded_bytes())?.into_bytes_with_nul();
        // SAFETY: a terminated, writable template.
        let made = unsafe { libc::mkdtemp(name.as_mut_ptr().cast()) };
        if made.is_null() {
            return Err(io::Error::last_os_error()).context("cannot make a temporary directory");
        }
        name.pop();
        Ok(Self(PathBuf::from(String::from_utf8(name)?)))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is empty and in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Gives this thread a mount namespace of its own, with a BPF file system there.
fn mount_bpf(at: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes())?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: only this thread moves; all strings are terminated.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
        check(libc::mount(c"bpf".as_ptr(), path.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()))
    }
}

/// Runs something in a namespace, with a BPF file system that only it sees.
///
/// # Errors
/// It cannot be mounted, or what `f` says.
pub fn with_bpf<T: Send>(net: &Net, f: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
    let dir = TempDir::new()?;
    let path = dir.path();
    net.run(move || {
        mount_bpf(path).context("cannot mount a BPF file system of our own (root is needed)")?;
        f(path)
    })
}

/// How long a daemon may take until it is ready: minutes where many namespaces come
/// and go, as all of them share the kernel's one lock of network devices.
const READY: Duration = Duration::from_secs(240);

/// The daemon in a namespace, with a BPF file system that only it sees.
#[derive(Debug)]
pub struct Daemon<'a> {
    net: &'a Net,
    dir: TempDir,
    mounts: OwnedFd,
    sgd: PathBuf,
    sgctl: PathBuf,
    under: Vec<String>,
    child: Option<Child>,
}

impl<'a> Daemon<'a> {
    /// Prepares one; `bin` holds `sgd` and `sgctl`.
    ///
    /// # Errors
    /// Not root, no BPF file system.
    pub fn new(net: &'a Net, bin: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let bpf = dir.path().join("bpf");
        std::fs::create_dir(&bpf)?;
        let mounts = thread::scope(|scope| {
            let bpf = &bpf;
            let made = scope.spawn(move || -> io::Result<OwnedFd> {
                mount_bpf(bpf)?;
                Ok(File::open("/proc/thread-self/ns/mnt")?.into())
            });
            made.join().map_err(|_| io::Error::other("a thread died"))?
        })
        .context("cannot mount a BPF file system of our own (root is needed)")?;
        let text = format!(
            "socket = {:?}\npin_root = {:?}\nstate_dir = {:?}\nguest_observe = 0\n",
            dir.path().join("sgd.sock"),
            bpf.join("sg"),
            dir.path().join("state")
        );
        std::fs::write(dir.path().join("sgd.toml"), text)?;
        Ok(Self { net, dir, mounts, sgd: bin.join("sgd"), sgctl: bin.join("sgctl"), under: Vec::new(), child: None })
    }

    /// Puts a line at the head of its configuration, in place of what it said of the same key.
    ///
    /// # Errors
    /// The file is gone.
    pub fn configure(&self, line: &str) -> Result<()> {
        let file = self.dir.path().join("sgd.toml");
        let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
        let text = std::fs::read_to_string(&file)?;
        let kept = text.lines().filter(|l| key(l) != key(line));
        let lines: Vec<&str> = std::iter::once(line).chain(kept).collect();
        Ok(std::fs::write(&file, lines.join("\n") + "\n")?)
    }

    /// The daemon's directory: `sgd.toml`, `sgd.log`, `state`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets it be started by another command, which becomes it: `prlimit`, `env`.
    pub fn under(&mut self, command: &[&str]) {
        self.under = command.iter().map(ToString::to_string).collect();
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sgd.log")).unwrap_or_default()
    }

    /// Whether it runs; one that ended is not there any more.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn runs(&mut self) -> Result<bool> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_some()
        {
            self.child = None;
        }
        Ok(self.child.is_some())
    }

    /// The process; `None` while it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Runs something in the daemon's namespaces, on a thread of its own.
    ///
    /// # Errors
    /// They cannot be entered, or what `f` says.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let mounts = self.mounts.as_raw_fd();
        self.net.run(move || {
            // SAFETY: only this thread moves; the descriptor outlives it.
            unsafe {
                check(libc::unshare(libc::CLONE_FS))?;
                check(libc::setns(mounts, libc::CLONE_NEWNS)).context("cannot enter a mount namespace")?;
            }
            f()
        })
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// It ended; its log is in the message.
    pub fn start(&mut self) -> Result<()> {
        self.start_as(|_| ())
    }

    /// [`Daemon::start`], and says its process id as soon as it has one.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(&mut self, begun: impl FnOnce(u32)) -> Result<()> {
        let log = self.dir.path().join("sgd.log");
        let (sgd, config, under) = (&self.sgd, self.dir.path().join("sgd.toml"), self.under.as_slice());
        let mut child = self.enter(|| {
            let mut command = match under {
                [] => Command::new(sgd),
                [first, rest @ ..] => {
                    let mut command = Command::new(first);
                    command.args(rest).arg(sgd);
                    command
                }
            };
            command.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
            command.spawn().with_context(|| format!("cannot start {}", sgd.display()))
        })?;
        begun(child.id());
        let mut stderr = child.stderr.take().context("no log")?;
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log).ok();
            let (mut buffer, mut text) = ([0; 4096], String::new());
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                if let Some(file) = &mut file {
                    let _ = file.write_all(&buffer[..n]);
                }
                text += &String::from_utf8_lossy(&buffer[..n]);
                if text.contains("ready on ") {
                    let _ = sender.send(Ok(()));
                }
            }
            let _ = sender.send(Err(text));
        });
        self.child = Some(child);
        match ready.recv_timeout(READY) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => bail!("sgd ended: {}", text.trim()),
            Err(_) => bail!("sgd did not become ready within {} s", READY.as_secs()),
        }
    }

    /// Ends it by a signal, and waits for it.
    ///
    /// # Errors
    /// It is not running.
    pub fn stop(&mut self, signal: i32) -> Result<()> {
        let mut child = self.child.take().context("sgd is not running")?;
        // SAFETY: a process of ours that has not been waited for.
        check(unsafe { libc::kill(child.id() as i32, signal) })?;
        child.wait()?;
        Ok(())
    }

    /// Runs `sgd` to its end with other arguments.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn sgd(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let (sgd, config) = (&self.sgd, self.dir.path().join("sgd.toml"));
        self.enter(|| said(Command::new(sgd).arg("--config").arg(config).args(arguments)))
    }

    /// Runs `sgctl`; whether it succeeded, and all it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn sgctl(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let (sgctl, socket) = (&self.sgctl, self.dir.path().join("sgd.sock"));
        self.enter(|| said(Command::new(sgctl).arg("--socket").arg(socket).args(arguments)))
    }

    /// Starts `sgctl`, whose outputs are read by the caller.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn sgctl_begin(&self, arguments: &[&str]) -> Result<Child> {
        let (sgctl, socket) = (&self.sgctl, self.dir.path().join("sgd.sock"));
        self.enter(|| {
            let mut command = Command::new(sgctl);
            command.arg("--socket").arg(socket).args(arguments);
            Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
        })
    }

    /// Runs any command beside the daemon, with `SG_SOCKET` set.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Result<(bool, String)> {
        let socket = self.dir.path().join("sgd.sock");
        self.enter(|| said(Command::new(program).args(arguments).env("SG_SOCKET", socket)))
    }

    /// Puts a document in force.
    ///
    /// # Errors
    /// It was refused.
    pub fn apply(&self, text: &str, more: &[&str]) -> Result<String> {
        let file = self.dir.path().join("policy.yaml");
        std::fs::write(&file, text)?;
        let file = file.to_string_lossy().into_owned();
        let arguments = [&["apply", "-f", &file], more].concat();
        match self.sgctl(&arguments)? {
            (true, text) => Ok(text),
            (false, text) => bail!("{}", text.trim()),
        }
    }

    /// A device with its rules and counters.
    ///
    /// # Errors
    /// It is not protected.
    pub fn interface(&self, device: &str) -> Result<crate::daemon::protocol::InterfaceView> {
        let (done, text) = self.sgctl(&["interface", "show", device, "-o", "json"])?;
        if !done {
            bail!("{}", text.trim());
        }
        Ok(serde_json::from_str(&text)?)
    }
}

fn said(command: &mut Command) -> Result<(bool, String)> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.stop(libc::SIGTERM);
        }
        // Pins live on the file system that goes with the mount namespace.
    }
}
