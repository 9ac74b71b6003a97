//! The daemon's socket: one line there, one line back.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use thiserror::Error;

use crate::daemon::protocol::{Action, NOT_KNOWN, Reply, Source};

/// Why the daemon did not do what was asked; each with what to do.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon listens on {}: start sgd, or name its socket with --socket", socket.display())]
    Absent {
        /// Where.
        socket: PathBuf,
    },
    /// The socket is there, and not for this user.
    #[error("not allowed to use {}: run as root, or as a member of the daemon's socket_group", socket.display())]
    NoRights {
        /// Which.
        socket: PathBuf,
    },
    /// It cannot be reached for another reason.
    #[error("cannot reach {}: {why}", socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// What the system says. Not a source: a pipe that is broken here is no reader of ours.
        why: std::io::Error,
    },
    /// It took the request, and says nothing for too long.
    #[error("the daemon on {} does not answer", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
    },
    /// It ended the connection first.
    #[error(
        "the daemon on {} hung up before it answered; its log says why{}",
        socket.display(),
        why.as_ref().map_or_else(String::new, |why| format!(": {why}"))
    )]
    HungUp {
        /// Where.
        socket: PathBuf,
        /// What the system says, if anything.
        why: Option<std::io::Error>,
    },
    /// It does not know the request, or its answer is not understood.
    #[error(
        "the daemon on {} is of another version than this sgctl ({}): restart sgd after an update \
         (`systemctl restart sgd`), or use the sgctl that came with it; {what}",
        socket.display(),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Where.
        socket: PathBuf,
        /// What is not understood.
        what: String,
    },
    /// It found problems in a document.
    #[error("{}\n{} found; nothing was changed", problems.join("\n"), super::count(problems.len(), "problem"))]
    Problems {
        /// As it says them.
        problems: Vec<String>,
    },
    /// It refused, and said why.
    #[error("{message}")]
    Refused {
        /// As it says it.
        message: String,
    },
    /// It answered something else: a defect.
    #[error("the daemon gave an answer to something else: {answer}")]
    Unexpected {
        /// The answer.
        answer: String,
    },
    /// A request that cannot be written: a defect.
    #[error("the request cannot be written: {0}")]
    Request(serde_json::Error),
}

/// What a line of the daemon says.
///
/// # Errors
/// It is of another version.
pub fn read(socket: &Path, line: &str) -> Result<Reply, ClientError> {
    let other = |what| ClientError::OtherVersion { socket: socket.into(), what };
    match serde_json::from_str(line) {
        Ok(Reply::Refused { message }) if message.starts_with(NOT_KNOWN) => {
            Err(other(format!("nothing was changed; it says: {message}")))
        }
        Ok(reply) => Ok(reply),
        Err(e) => Err(other(format!("its answer is not understood: {e}"))),
    }
}

/// A connection to the daemon.
///
/// # Errors
/// No daemon, no rights.
pub fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).map_err(|why| {
        let socket = socket.to_owned();
        match why.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::Absent { socket },
            ErrorKind::PermissionDenied => ClientError::NoRights { socket },
            _ => ClientError::Unreachable { socket, why },
        }
    })
}

/// Asks the daemon.
///
/// # Errors
/// No daemon, no rights, a daemon of another version, or one that hangs up.
pub fn ask(socket: &Path, action: &Action) -> Result<Reply, ClientError> {
    ask_within(socket, action, None)
}

/// Asks for a backup, which is written to `into`.
///
/// # Errors
/// As [`ask`]; what it is written to is full; it ends too soon.
pub fn download(socket: &Path, into: &mut dyn Write) -> Result<u64> {
    let (mut stream, reply) = converse(socket, &Action::Backup, None)?;
    let Reply::Backup(backup) = reply else { return unexpected(reply) };
    let mut left = backup.bytes;
    while left > 0 {
        let part = match stream.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            part => part.with_context(|| format!("cannot read the backup from {}", socket.display()))?,
        };
        if part.is_empty() {
            bail!("the daemon on {} hung up in its backup; its log says why", socket.display());
        }
        let some = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        into.write_all(&part[..some]).context("cannot write the backup")?;
        stream.consume(some);
        left -= some as u64;
    }
    Ok(backup.bytes)
}

/// The same of one who does not wait for ever.
///
/// # Errors
/// As [`ask`], and that there is no answer.
pub fn ask_within(socket: &Path, action: &Action, patience: Option<Duration>) -> Result<Reply, ClientError> {
    converse(socket, action, patience).map(|(_, reply)| reply)
}

/// The daemon's reply, and what follows it.
fn converse(
    socket: &Path,
    action: &Action,
    patience: Option<Duration>,
) -> Result<(BufReader<UnixStream>, Reply), ClientError> {
    let mut stream = connect(socket)?;
    let unreachable = |why| ClientError::Unreachable { socket: socket.into(), why };
    stream.set_read_timeout(patience).map_err(unreachable)?;
    stream.set_write_timeout(patience).map_err(unreachable)?;
    let mut bytes = serde_json::to_vec(action).map_err(ClientError::Request)?;
    bytes.push(b'\n');
    let hung_up = |why| ClientError::HungUp { socket: socket.into(), why };
    // One that refuses what it was sent may answer before it has read all of it.
    let behind = match action {
        Action::Restore { source: Source::Backup(upload), .. } => upload.text.clone(),
        _ => None,
    };
    let sent = stream.write_all(&bytes).and_then(|()| behind.map_or(Ok(()), |text| stream.write_all(&text)));
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    stream.read_line(&mut line).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => ClientError::Silent { socket: socket.into() },
        _ => hung_up(Some(e)),
    })?;
    if line.is_empty() {
        return Err(hung_up(sent.err()));
    }
    let reply = read(socket, &line)?;
    Ok((stream, reply))
}

/// What a reply says that is not the one hoped for.
pub fn otherwise(reply: Reply) -> ClientError {
    match reply {
        Reply::Problems { problems } => ClientError::Problems { problems },
        Reply::Refused { message } => ClientError::Refused { message },
        other => ClientError::Unexpected { answer: format!("{other:?}") },
    }
}

/// The same, as the end of a command.
///
/// # Errors
/// Always.
pub fn unexpected<T>(reply: Reply) -> Result<T> {
    Err(otherwise(reply).into())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixListener,
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    /// Asks one that answers so, and then hangs up.
    fn asked(answer: Option<&'static str>) -> Result<Reply, ClientError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sg-client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            if let Some(answer) = answer {
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        let reply = ask(&socket, &Action::Status);
        server.join().unwrap();
        std::fs::remove_file(&socket).unwrap();
        reply
    }

    #[test]
    fn each_silence_is_its_own() {
        let nowhere = ask(Path::new("/nonexistent/sgd.sock"), &Action::Status);
        assert!(matches!(nowhere, Err(ClientError::Absent { .. })), "{nowhere:?}");
        assert!(matches!(asked(None), Err(ClientError::HungUp { .. })));
        assert!(matches!(asked(Some("hello\n")), Err(ClientError::OtherVersion { .. })));
        let old = asked(Some("{\"answer\":\"refused\",\"message\":\"not a request of this version: x\"}\n"));
        assert!(matches!(&old, Err(ClientError::OtherVersion { what, .. }) if what.contains("nothing was changed")));
        let reply = asked(Some("{\"answer\":\"refused\",\"message\":\"no\"}\n")).unwrap();
        assert!(matches!(otherwise(reply), ClientError::Refused { message } if message == "no"));
    }

    #[test]
    fn a_daemon_that_hangs_up_is_no_reader_that_went_away() {
        let e = anyhow::Error::new(ClientError::HungUp {
            socket: "/s".into(),
            why: Some(std::io::Error::from(ErrorKind::BrokenPipe)),
        });
        assert!(e.chain().all(|c| c.downcast_ref::<std::io::Error>().is_none()));
        assert!(e.to_string().contains("hung up"), "{e}");
    }
}
