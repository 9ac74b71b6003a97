//! A small client of our own, for requests that no SDK would make.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use sg_userspace::testbed::{Daemon, call};

use crate::world::{World, bin, eventually};

/// The daemon of a world, with its API.
pub fn daemon(world: &World) -> Daemon<'_> {
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("api.listen = \"127.0.0.1:8080\"").unwrap();
    daemon.start().unwrap();
    daemon
}

/// A new key: its id and its secret.
pub fn key(daemon: &Daemon<'_>, more: &[&str]) -> (String, String) {
    let (done, said) = daemon.sgctl(&[&["key", "create", "-o", "json"], more].concat()).unwrap();
    assert!(done, "{said}");
    let key: Value = serde_json::from_str(&said).unwrap();
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("AccessKeyId"), text("AccessKeySecret"))
}

/// Sends bytes to the API as they are, and says what came back.
pub fn raw(daemon: &Daemon<'_>, bytes: &[u8]) -> String {
    raw_to(daemon, "127.0.0.1:8080", bytes)
}

/// Sends bytes to a listener of the daemon's, and says what came back.
pub fn raw_to(daemon: &Daemon<'_>, address: &str, bytes: &[u8]) -> String {
    daemon
        .enter(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            // It may answer and hang up before all is written.
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
        .unwrap()
}

/// Parameters of a V1 request, signed.
pub fn signed(key: &(String, String), parameters: &[(&str, &str)]) -> BTreeMap<String, String> {
    call::signed((&key.0, &key.1), parameters)
}

/// The bytes of a POST with a form.
pub fn post(parameters: &BTreeMap<String, String>) -> Vec<u8> {
    call::post(parameters, true)
}

/// Status and body of an answer.
pub fn parsed(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

/// A signed call.
pub fn call(daemon: &Daemon<'_>, key: &(String, String), parameters: &[(&str, &str)]) -> (u16, Value) {
    parsed(&raw(daemon, &post(&signed(key, parameters))))
}

/// A request that the daemon is told to end in the middle of; what it answers.
pub fn cut(daemon: &Daemon<'_>, key: &(String, String), parameters: &[(&str, &str)]) -> String {
    let request = String::from_utf8(post(&signed(key, parameters))).unwrap();
    let request = request.replacen("Connection: close\r\n", "Connection: close\r\nExpect: 100-continue\r\n", 1);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let pid = daemon.pid().unwrap();
    // SAFETY: a process of ours that nobody has waited for.
    let signal = |signal| assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    daemon
        .enter(|| {
            let mut stream = TcpStream::connect("127.0.0.1:8080")?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(stream, "{head}\r\n\r\n")?;
            // It has heard the head.
            let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
            stream.read_exact(&mut go_on)?;
            // Stopped, it is given the rest and the signal; it finds both when it goes on.
            signal(libc::SIGSTOP);
            eventually("it is stopped", || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T "));
            stream.write_all(body.as_bytes())?;
            signal(libc::SIGTERM);
            signal(libc::SIGCONT);
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .unwrap()
}
