//! `sgctl` and a daemon that is not as it should be: none, one that may not be used, one of
//! another version. What it says, what to do, and how it ends. No kernel is needed.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use sg_userspace::testbed::TempDir;

fn sgctl(program: &mut Command, socket: &Path, arguments: &[&str]) -> (i32, String, String) {
    let command = program.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn own() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sgctl"))
}

/// Listens as a daemon would, and answers one request with some bytes.
fn answers(dir: &Path, bytes: &'static str) -> PathBuf {
    let socket = dir.join("sgd.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
    });
    socket
}

/// It ends with 1, says these things, and prints nothing that a program would read.
#[track_caller]
fn fails(ended: (i32, String, String), parts: &[&str]) {
    let (status, stdout, stderr) = ended;
    assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?}: {stderr}");
    }
}

#[test]
fn without_a_daemon_it_says_how_to_get_one() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("sgd.sock");
    let parts = ["no daemon listens on", socket.to_str().unwrap(), "start sgd, or name its socket with --socket"];
    fails(sgctl(&mut own(), &socket, &["status"]), &parts);
    fails(sgctl(&mut own(), &socket, &["group", "list", "-o", "json"]), &parts);
    // Its socket outlives a daemon that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    fails(sgctl(&mut own(), &socket, &["status"]), &parts);
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    fails(sgctl(&mut own(), &socket, &["status"]), &["no daemon listens on"]);
}

#[test]
fn who_may_not_use_the_socket_is_told_who_may() {
    // SAFETY: no memory is passed.
    if unsafe { libc::geteuid() } != 0 {
        assert!(std::env::var_os("SG_TEST_REQUIRE").is_none(), "not root: nobody else can be tried");
        return;
    }
    let dir = TempDir::new().unwrap();
    // Nobody must get to the program and to the socket, only not into the latter.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("sgctl");
    std::fs::copy(env!("CARGO_BIN_EXE_sgctl"), &program).unwrap();
    let socket = dir.path().join("sgd.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    let parts = ["not allowed to use", "run as root, or as a member of the daemon's socket_group"];
    fails(sgctl(&mut nobody, &socket, &["status"]), &parts);
}

#[test]
fn a_daemon_of_another_version_is_known_as_one() {
    let dir = TempDir::new().unwrap();
    let told = ["is of another version than this sgctl (", "`systemctl restart sgd`", "the sgctl that came with it"];
    // As an older one answers a request that it does not know.
    let unknown = "{\"answer\":\"refused\",\"message\":\"not a request of this version: unknown variant `lint`\"}\n";
    let ended = sgctl(&mut own(), &answers(dir.path(), unknown), &["lint"]);
    fails(ended, &[&told[..], &["nothing was changed; it says: not a request of this version"]].concat());
    // As a newer one may answer; and what is no answer at all.
    for bytes in ["{\"answer\":\"poem\"}\n", "{\"answer\":\"status\",\"version\":1}\n", "HTTP/1.1 400 Bad Request\r\n"]
    {
        fails(sgctl(&mut own(), &answers(dir.path(), bytes), &["status"]), &told);
    }
    // A refusal is only that.
    let refused = "{\"answer\":\"refused\",\"message\":\"eth7 is not protected\"}\n";
    let (status, _, said) = sgctl(&mut own(), &answers(dir.path(), refused), &["interface", "show", "eth7", "--rules"]);
    assert_eq!((status, said.as_str()), (1, "sgctl: eth7 is not protected\n"));
}

#[test]
fn a_daemon_that_hangs_up_is_told_from_one_that_refuses() {
    let dir = TempDir::new().unwrap();
    let parts = ["hung up before it answered", "its log says why"];
    fails(sgctl(&mut own(), &answers(dir.path(), ""), &["status"]), &parts);
}

#[test]
fn usage_is_another_ending() {
    for line in ["", "nonsense", "group", "rule remove web", "status --yes", "-o xml status"] {
        let arguments: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
        let (status, stdout, stderr) = sgctl(&mut own(), Path::new("/nowhere"), &arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
    }
}
