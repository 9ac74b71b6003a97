//! Where scrapers ask: `GET /metrics` on a loopback address, and nothing else.
//! One scrape is read at a time, at most once a second; who is slow is cut.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    Metrics,
    picture::Picture,
    render::{self, Kernel},
};
use crate::daemon::log;

/// Bytes of a request.
const MAX_HEAD: usize = 8 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Connections at once.
const MAX_CONNECTIONS: usize = 8;
/// How long a scraper may take to ask, and again to take the answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a text is good.
const FRESH: Duration = Duration::from_secs(1);

/// Whoever wants to know how things stand.
pub type Asked = oneshot::Sender<Picture>;

/// What the connections share.
pub struct Scrapes {
    /// What is counted where it happens.
    pub metrics: Arc<Metrics>,
    /// The kernel's counters.
    pub kernel: Arc<Kernel>,
    /// The most rules that have series.
    pub rules: usize,
    /// The writer.
    pub writer: mpsc::Sender<Asked>,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

/// An answer: its status, and what it says.
type Answer = (&'static str, Arc<str>);

impl Scrapes {
    /// Nothing was asked yet.
    pub fn new(metrics: Arc<Metrics>, kernel: Kernel, rules: usize, writer: mpsc::Sender<Asked>) -> Self {
        Self { metrics, kernel: Arc::new(kernel), rules, writer, last: Mutex::new(None) }
    }

    /// The text of now, or of less than a second ago; `None` when the daemon ends.
    async fn text(&self) -> Option<Arc<str>> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return Some(text.clone());
        }
        let (sender, receiver) = oneshot::channel();
        self.writer.send(sender).await.ok()?;
        let picture = receiver.await.ok()?;
        let (metrics, kernel, rules) = (self.metrics.clone(), self.kernel.clone(), self.rules);
        let made = tokio::task::spawn_blocking(move || render::text(&metrics, &kernel, &picture, rules)).await.ok()?;
        match made {
            Ok(text) => {
                let text: Arc<str> = text.into();
                *last = Some((Instant::now(), text.clone()));
                Some(text)
            }
            Err(e) => {
                log::error!("metrics cannot be written: {e}");
                None
            }
        }
    }

    async fn answer(&self, head: &[u8]) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return ("400 Bad Request", "this is no HTTP request\n".into()),
        }
        let path = request.path.unwrap_or_default();
        match (request.method, path.split('?').next()) {
            (Some("GET"), Some("/metrics")) => match self.text().await {
                Some(text) => ("200 OK", text),
                None => ("503 Service Unavailable", "the daemon cannot answer now\n".into()),
            },
            (Some("GET"), _) => ("404 Not Found", "the one path is /metrics\n".into()),
            _ => ("405 Method Not Allowed", "GET is possible\n".into()),
        }
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let head = timeout(PATIENCE, head(&mut stream)).await??;
        let (status, body) = self.answer(&head).await;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            prometheus::TEXT_FORMAT,
            body.len()
        );
        timeout(PATIENCE, async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await
        })
        .await?
    }

    /// Takes connections for ever.
    pub async fn serve(self, listener: TcpListener) {
        let (scrapes, room) = (Arc::new(self), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let scrapes = scrapes.clone();
                    tokio::spawn(async move {
                        let done = scrapes.converse(stream).await;
                        if done.is_err_and(|e| e.kind() == io::ErrorKind::TimedOut) {
                            scrapes.metrics.scrape_cut();
                        }
                        drop(permit);
                    });
                }
                Err(e) => {
                    log::warning!("cannot accept a scraper: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// The bytes of a request up to its empty line, or as many as are looked at.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while bytes.len() < MAX_HEAD && !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(bytes)
}
