//! A watcher's connection.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, Take},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Asked, WAITING};
use crate::daemon::protocol::{Reply, Watch, line};

/// Hands a watcher its lines until it has seen enough: it closes its side, or goes away.
///
/// # Errors
/// It cannot be written to any more.
pub async fn serve(
    mut read: BufReader<Take<OwnedReadHalf>>,
    mut write: OwnedWriteHalf,
    watch: Box<Watch>,
    source: String,
    watches: mpsc::Sender<Asked>,
) -> Result<()> {
    let (sender, mut lines) = mpsc::channel(WAITING);
    let (reply, begun) = oneshot::channel();
    watches.send(Asked::Begin { watch, source, lines: sender, reply }).await?;
    let begun = begun.await?;
    let said = begun.as_ref().map_or_else(Clone::clone, |_| Reply::Watching);
    write.write_all(&line(&said)?).await?;
    let Ok(number) = begun else { return Ok(()) };
    let mut closed = false;
    let mut rest = [0; 1];
    loop {
        tokio::select! {
            next = lines.recv() => match next {
                None => return Ok(()),
                Some(next) => {
                    let mut bytes = line(&next)?;
                    // What has come meanwhile goes with it.
                    while bytes.len() < AT_ONCE && let Ok(next) = lines.try_recv() {
                        bytes.extend(line(&next)?);
                    }
                    // One that does not read keeps its place no longer.
                    timeout(PATIENCE, write.write_all(&bytes)).await??;
                }
            },
            n = read.read(&mut rest), if !closed => {
                n?;
                closed = true;
                watches.send(Asked::End(number)).await?;
            }
        }
    }
}

/// How long a watcher may take to read what was written to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of lines that are written at once, about.
const AT_ONCE: usize = 64 << 10;
