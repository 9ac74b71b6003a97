//! Backups over the socket. They are as large as what is stored: read in pieces as they
//! come, and written down and read on a thread of their own, so that the daemon goes on
//! meanwhile.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    task::spawn_blocking,
    time::timeout,
};

use super::{
    history::{self, Kept},
    protocol::{Action, Reply, Source, line},
};

/// Bytes of the largest backup that is taken.
pub const MOST: u64 = 1 << 30;
/// Bytes that are read at once.
const CHUNK: u64 = 64 << 10;
/// How long a caller may be silent in the middle of one.
const PATIENCE: Duration = Duration::from_secs(30);
/// One at a time: each takes as much memory as it is long.
static ROOM: Semaphore = Semaphore::const_new(1);

async fn read(from: &mut (impl AsyncRead + Unpin), bytes: u64) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while (text.len() as u64) < bytes {
        let most = (bytes - text.len() as u64).min(CHUNK);
        let mut piece = (&mut *from).take(most);
        let read = timeout(PATIENCE, piece.read_buf(&mut text)).await.context("it is silent in its backup")??;
        anyhow::ensure!(read > 0, "it ended in its backup");
    }
    Ok(text)
}

/// Reads the backup behind an action that is to put one back; `Err` is the refusal of it.
///
/// # Errors
/// The caller ends, or is silent, before its backup is over.
pub async fn receive(from: &mut (impl AsyncRead + Unpin), action: &mut Action) -> Result<Result<(), Reply>> {
    let Action::Restore { source: Source::Backup(upload), .. } = action else { return Ok(Ok(())) };
    if upload.bytes > MOST {
        let message = format!("a backup of {} bytes is too large: at most {MOST} are read", upload.bytes);
        return Ok(Err(Reply::Refused { message }));
    }
    let _room = ROOM.acquire().await?;
    let text = read(from, upload.bytes).await?;
    upload.kept = Some(Arc::new(spawn_blocking(move || history::read_backup(&text)).await?));
    Ok(Ok(()))
}

/// Sends a reply, and the backup behind one that has it.
///
/// # Errors
/// The caller went away.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), mut reply: Reply) -> Result<()> {
    let Reply::Backup(download) = &mut reply else { return Ok(to.write_all(&line(&reply)?).await?) };
    let kept: Arc<Kept> = download.kept.take().context("there is no backup to send")?;
    let text = spawn_blocking(move || history::backup(&kept)).await??;
    download.bytes = text.len() as u64;
    to.write_all(&line(&reply)?).await?;
    to.write_all(&text).await?;
    Ok(())
}
