//! The daemon's socket: one line there, one line back.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::daemon::protocol::{Action, Reply};

/// Asks the daemon.
///
/// # Errors
/// No daemon, no rights; each with what to do.
pub fn ask(socket: &Path, action: &Action) -> Result<Reply> {
    let mut stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            anyhow!("no daemon listens on {}: start sgd, or name its socket with --socket", socket.display())
        }
        std::io::ErrorKind::PermissionDenied => {
            anyhow!("not allowed to use {}: run as root, or as a member of the daemon's socket_group", socket.display())
        }
        _ => anyhow!("cannot reach {}: {e}", socket.display()),
    })?;
    let mut bytes = serde_json::to_vec(action)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).context("the daemon hung up")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the daemon hung up")?;
    if line.is_empty() {
        bail!("the daemon ended before it answered; its log says why");
    }
    serde_json::from_str(&line).context("the daemon is of another version")
}

/// What a reply says that is not the one hoped for.
///
/// # Errors
/// Always.
pub fn unexpected<T>(reply: Reply) -> Result<T> {
    match reply {
        Reply::Problems { problems } => {
            bail!("{}\n{} found; nothing was changed", problems.join("\n"), super::count(problems.len(), "problem"))
        }
        Reply::Refused { message } => bail!("{message}"),
        other => bail!("the daemon gave an answer to something else: {other:?}"),
    }
}
