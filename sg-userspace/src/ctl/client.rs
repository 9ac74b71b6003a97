//! The daemon's socket: one line there, one line back.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::daemon::protocol::{Action, NOT_KNOWN, Reply, Source};

/// What to do about a daemon that speaks otherwise.
fn other_version(socket: &Path, what: &str) -> anyhow::Error {
    anyhow!(
        "the daemon on {} is of another version than this sgctl ({}): restart sgd after an update \
         (`systemctl restart sgd`), or use the sgctl that came with it; {what}",
        socket.display(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// What a line of the daemon says.
///
/// # Errors
/// It is of another version.
pub fn read(socket: &Path, line: &str) -> Result<Reply> {
    match serde_json::from_str(line) {
        Ok(Reply::Refused { message }) if message.starts_with(NOT_KNOWN) => {
            Err(other_version(socket, &format!("nothing was changed; it says: {message}")))
        }
        Ok(reply) => Ok(reply),
        Err(e) => Err(other_version(socket, &format!("its answer is not understood: {e}"))),
    }
}

/// A connection to the daemon.
///
/// # Errors
/// No daemon, no rights; each with what to do.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let shown = socket.display();
    UnixStream::connect(socket).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow!("no daemon listens on {shown}: start sgd, or name its socket with --socket")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("not allowed to use {shown}: run as root, or as a member of the daemon's socket_group")
        }
        _ => anyhow!("cannot reach {shown}: {e}"),
    })
}

/// Asks the daemon.
///
/// # Errors
/// No daemon, no rights, a daemon of another version; each with what to do.
pub fn ask(socket: &Path, action: &Action) -> Result<Reply> {
    ask_within(socket, action, None)
}

/// Asks for a backup, which is written to `into`.
///
/// # Errors
/// As [`ask`]; what it is written to is full; it ends too soon.
pub fn download(socket: &Path, into: &mut dyn Write) -> Result<u64> {
    let (mut stream, reply) = converse(socket, &Action::Backup, None)?;
    let Reply::Backup(backup) = reply else { return unexpected(reply) };
    let read = std::io::copy(&mut stream.by_ref().take(backup.bytes), into).context("cannot write the backup")?;
    if read < backup.bytes {
        bail!("the daemon on {} hung up in its backup; its log says why", socket.display());
    }
    Ok(read)
}

/// The same of one who does not wait for ever.
///
/// # Errors
/// As [`ask`], and that there is no answer.
pub fn ask_within(socket: &Path, action: &Action, patience: Option<Duration>) -> Result<Reply> {
    converse(socket, action, patience).map(|(_, reply)| reply)
}

/// The daemon's reply, and what follows it.
fn converse(socket: &Path, action: &Action, patience: Option<Duration>) -> Result<(BufReader<UnixStream>, Reply)> {
    let shown = socket.display();
    let mut stream = connect(socket)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let mut bytes = serde_json::to_vec(action)?;
    bytes.push(b'\n');
    let hung_up = || format!("the daemon on {shown} hung up before it answered; its log says why");
    // One that refuses what it was sent may answer before it has read all of it.
    let behind = match action {
        Action::Restore { source: Source::Backup(upload), .. } => upload.text.clone(),
        _ => None,
    };
    let sent = stream.write_all(&bytes).and_then(|()| behind.map_or(Ok(()), |text| stream.write_all(&text)));
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    stream.read_line(&mut line).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => anyhow!("the daemon on {shown} does not answer"),
        _ => anyhow::Error::new(e).context(hung_up()),
    })?;
    if line.is_empty() {
        sent.with_context(hung_up)?;
        bail!(hung_up());
    }
    let reply = read(socket, &line)?;
    Ok((stream, reply))
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
