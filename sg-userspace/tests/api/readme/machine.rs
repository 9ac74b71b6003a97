//! A machine as it is before the first line of the README is typed, and a shell of root's on
//! it: namespaces of its own, in which nothing of this machine can be changed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use sg_userspace::testbed::{Net, TempDir};

use crate::world::bin;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a command's end is known by.
const MARK: &str = "--- and that was its end, with";

/// Before the first line: directories that are written to are other ones, what may be installed
/// here is not, and nothing else can be written. `pkill` finds only what is started in it.
const BEFORE: &str = r#"
exec 2>&1
set -eu
[ "$(readlink /proc/self/ns/pid)" != "$OUTSIDE" ]
mount --bind "$DIR" "$DIR"
mkdir "$DIR/box"
mount -t tmpfs tmpfs "$DIR/box"
for at in /etc /usr/bin /usr/sbin; do
    mkdir -p "$DIR/box/new$at" "$DIR/box/work$at"
    mount -t overlay overlay -o "lowerdir=$at,upperdir=$DIR/box/new$at,workdir=$DIR/box/work$at" "$at"
done
rm -rf /etc/sg /etc/systemd/system/sgd.service /usr/bin/sgctl /usr/sbin/sgctl /usr/bin/sgd /usr/sbin/sgd
for at in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$at"; done
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -o remount,bind,ro /
export HOME="$DIR" TMPDIR="$DIR" PATH="$DIR/bin:/usr/sbin:/usr/bin:/sbin:/bin"
unset SG_SOCKET SSH_CONNECTION
cd "$DIR/clone"
set +eu
"#;

/// Root needs none.
const SUDO: &str = "#!/bin/sh\n[ \"$1\" = -v ] || exec \"$@\"\n";

/// As far as the README asks for it: what the unit says is started, and waited for.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
"enable --now sgd") ;;
"restart sgd") pkill -x sgd && while pgrep -x sgd > /dev/null; do sleep 0.02; done ;;
*) echo "systemctl $*: not on this machine" && exit 1 ;;
esac
log=/run/journal
: > $log
$(sed -n 's/^ExecStart=//p' /etc/systemd/system/sgd.service) < /dev/null >> $log 2>&1 &
while ! grep -q 'ready on' $log; do
    kill -0 $! 2> /dev/null || { cat $log && exit 1; }
    sleep 0.02
done
"#;

/// The machine, 10.0.0.5 on its eth0, and somebody else, 203.0.113.7.
pub struct Machine {
    pub net: Net,
    pub peer: Net,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    dir: TempDir,
}

fn script(at: &Path, text: &str) {
    fs::write(at, text).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

impl Machine {
    pub fn new() -> Self {
        let (net, peer) = (Net::new("machine").unwrap(), Net::new("peer").unwrap());
        net.veth("eth0", &peer, "eth0").unwrap();
        net.address("eth0", &["10.0.0.5/24", "2001:db8::5/64"]).unwrap();
        peer.address("eth0", &["203.0.113.7/32", "2001:db8::7/64"]).unwrap();
        net.ip("route add default via 203.0.113.7 dev eth0 onlink").unwrap();
        peer.ip("route add 10.0.0.0/24 dev eth0 src 203.0.113.7").unwrap();

        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at("clone/target/release")).unwrap();
        script(&at("bin/sudo"), SUDO);
        script(&at("bin/systemctl"), SYSTEMCTL);
        for name in ["sgd", "sgctl"] {
            symlink(bin().join(name), at("clone/target/release").join(name)).unwrap();
        }
        symlink(repository().join("packaging"), at("clone/packaging")).unwrap();

        let outside = fs::read_link("/proc/self/ns/pid").unwrap();
        let path = dir.path();
        // Where it is not within the programs, it is beside them, and they are moved.
        let beside = Some(bin().join("sg-ebpf.o")).filter(|at| at.is_file());
        let object = std::env::var_os("SG_EBPF_OBJECT").or(beside.map(Into::into));
        let mut child = net
            .run(|| {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]);
                command
                    .env("OUTSIDE", outside)
                    .env("DIR", path)
                    .envs(object.map(|o| ("SG_EBPF_OBJECT", o)))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped());
                Ok(command.spawn()?)
            })
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.split(b'\n').map_while(Result::ok).all(|l| sender.send(String::from_utf8_lossy(&l).into()).is_ok())
        });
        let mut machine = Self { net, peer, child, input, lines, dir };
        assert_eq!(machine.run(BEFORE), (0, String::new()), "a machine for it");
        machine
    }

    /// Where the repository is cloned on it.
    pub fn clone_at(&self) -> PathBuf {
        self.dir.path().join("clone")
    }

    /// Types lines without an input; exit status and output of the last.
    pub fn run(&mut self, text: &str) -> (i32, String) {
        // In braces, so that what it sets stays; the input of the shell is not the command's.
        let typed = format!("{{\n{text}\n}} < /dev/null\nprintf '\\n{MARK} %s\\n' $?\n");
        self.input.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        let mut output: Vec<String> = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("{text}: {e}, after:\n{}", output.join("\n")));
            if let Some(status) = line.strip_prefix(MARK) {
                let output = output.join("\n");
                return (status.trim().parse().unwrap(), output.trim_end_matches('\n').to_owned());
            }
            output.push(line);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With the shell, which is the first process there, all others end.
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
