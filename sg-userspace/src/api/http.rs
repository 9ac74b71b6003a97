//! The HTTP endpoint: HTTP/1.1, bounded in every direction.
//!
//! The usual servers refuse request lines above 64 KiB, and a call of a hundred
//! permissions with descriptions is longer: `httparse` reads the head, the rest
//! is here.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use super::{auth::Request, envelope::Format, error};

/// Bytes of a request's line and headers.
const MAX_HEAD: usize = (1 << 20) + (64 << 10);
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// Bytes of a body.
const MAX_BODY: usize = 4 << 20;
/// Parameters of a request: a hundred permissions with every field, and some.
const MAX_PARAMETERS: usize = 5000;
/// Connections at once.
pub const MAX_CONNECTIONS: usize = 512;
/// How long a client may take for a request.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may be silent between two.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of a request that every connection has room for.
const OWN: usize = 16 << 10;
/// Bytes beyond that of the requests of all connections.
const BUDGET: usize = 64 << 20;
/// How long a request waits for room.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are read at once; TLS clears as many before each time.
const CHUNK: u64 = 16 << 10;
/// Bytes that a parameter or header takes beside its text.
const PAIR: usize = 128;

/// What goes back.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// How it is written.
    pub format: Format,
    /// What it says.
    pub body: String,
}

/// A request that is none.
fn refused(status: u16, message: &str) -> Response {
    let e = error::ApiError { status, code: "InvalidRequest".into(), message: message.into() };
    let body = super::envelope::refusal(&super::envelope::request_id(), "", &e);
    Response { status, format: Format::Json, body: body.to_string() }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), response: &Response, close: bool) -> io::Result<()> {
    let Response { status, format, body } = response;
    let connection = if close { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        reason(*status),
        format.content_type(),
        body.len()
    );
    let bytes = [head.as_bytes(), body.as_bytes()].concat();
    timeout(PATIENCE, async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    })
    .await
    .map_err(|_| io::ErrorKind::TimedOut)?
}

/// The room that all connections of a listener share for what is larger than `OWN`.
pub fn budget() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BUDGET))
}

/// What a connection has of it.
struct Share {
    budget: Arc<Semaphore>,
    held: usize,
}

impl Share {
    /// Has room for this many bytes from now on, or the request is refused.
    async fn hold(&mut self, bytes: usize) -> Result<(), Response> {
        let wanted = bytes.saturating_sub(OWN);
        if wanted > self.held {
            let more = u32::try_from(wanted - self.held).unwrap_or(u32::MAX);
            let Ok(Ok(permits)) = timeout(ROOM_PATIENCE, self.budget.acquire_many(more)).await else {
                let e = error::UNAVAILABLE.because("Too many large requests are on their way.");
                let body = super::envelope::refusal(&super::envelope::request_id(), "", &e);
                return Err(Response { status: e.status, format: Format::Json, body: body.to_string() });
            };
            permits.forget();
        } else {
            self.budget.add_permits(self.held - wanted);
        }
        self.held = wanted;
        Ok(())
    }

    /// Makes room in a buffer that is full; `most` is what it will ever need, `beside` what else there is.
    async fn room(&mut self, buffer: &mut Vec<u8>, most: usize, beside: usize) -> Result<(), Response> {
        if buffer.len() == buffer.capacity() {
            let capacity = (2 * buffer.len()).max(4 << 10).min(most).max(buffer.len() + 1);
            self.hold(beside + capacity).await?;
            buffer.reserve_exact(capacity - buffer.len());
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.add_permits(self.held);
    }
}

/// Bytes that names and values take.
fn weight(pairs: &BTreeMap<String, String>) -> usize {
    pairs.iter().map(|(name, value)| name.len() + value.len() + PAIR).sum()
}

/// A read request, whether it is the last one, and bytes that came behind it.
struct Read {
    request: Request,
    close: bool,
    rest: Vec<u8>,
}

/// Takes parameters out of a query or a form. False when there are too many.
pub(crate) fn decode(text: &[u8], into: &mut BTreeMap<String, String>) -> bool {
    for (name, value) in form_urlencoded::parse(text) {
        if into.len() >= MAX_PARAMETERS {
            return false;
        }
        into.insert(name.into_owned(), value.into_owned());
    }
    true
}

/// A head: what it says, how long it is, and whether the connection ends with it.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(Request, usize, bool)>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(refused(431, "too many headers")),
        Err(_) => return Err(refused(400, "this is no HTTP request")),
    };
    let method = parsed.method.unwrap_or_default();
    if !matches!(method, "GET" | "POST") {
        return Err(refused(405, "GET and POST are possible"));
    }
    let mut request = Request { method: method.to_owned(), ..Request::default() };
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).into_owned();
        if request.headers.insert(header.name.to_ascii_lowercase(), value).is_some() {
            return Err(refused(400, "a header stands there twice"));
        }
    }
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != "/" {
        return Err(refused(404, "the one path is /"));
    }
    if !decode(query.as_bytes(), &mut request.query) {
        return Err(refused(400, "too many parameters"));
    }
    let connection = request.header("connection").unwrap_or_default().to_ascii_lowercase();
    let close = connection.contains("close") || (parsed.version == Some(0) && !connection.contains("keep-alive"));
    Ok(Some((request, length, close)))
}

async fn read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut bytes: Vec<u8>,
    share: &mut Share,
) -> Result<Option<Read>, Response> {
    let mut checked = 0;
    let (mut request, length, close) = loop {
        // Only a new end of a line can make it whole.
        let from = checked.max(3) - 3;
        let ends = bytes[from.min(bytes.len())..].windows(4).any(|w| w == b"\r\n\r\n");
        if (ends || bytes.len() > MAX_HEAD || checked == 0)
            && let Some(whole) = head(&bytes)?
        {
            break whole;
        }
        checked = bytes.len();
        if bytes.len() > MAX_HEAD {
            return Err(refused(431, "the request line and headers are too long"));
        }
        share.room(&mut bytes, MAX_HEAD + 1, 0).await?;
        match (&mut *stream).take(CHUNK).read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(refused(400, "the request is cut short")),
            Ok(_) => {}
        }
    };
    if request.headers.contains_key("transfer-encoding") {
        return Err(refused(411, "a body needs a Content-Length"));
    }
    let wanted = match request.header("content-length") {
        None => 0,
        Some(text) => match text.parse::<usize>() {
            Ok(n) if n <= MAX_BODY => n,
            Ok(_) => return Err(refused(413, "the body is too long")),
            Err(_) => return Err(refused(400, "Content-Length is no number")),
        },
    };
    let mut body = bytes.split_off(length);
    // What it said is in the request now.
    drop(bytes);
    let said = weight(&request.query) + weight(&request.headers);
    share.hold(said + body.capacity()).await?;
    if body.len() < wanted && request.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    while body.len() < wanted {
        share.room(&mut body, wanted, said).await?;
        match (&mut *stream).take(CHUNK).read_buf(&mut body).await {
            Ok(0) | Err(_) => return Err(refused(400, "the body is cut short")),
            Ok(_) => {}
        }
    }
    let rest = body.split_off(wanted);
    let form = request.header("content-type").is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
    if form {
        // Before it is read a second time, as parameters.
        let kept = said + body.capacity() + rest.capacity();
        share.hold(kept + body.len()).await?;
        if !decode(&body, &mut request.form) {
            return Err(refused(400, "too many parameters"));
        }
        share.hold(kept + weight(&request.form)).await?;
    }
    request.body = body;
    Ok(Some(Read { request, close, rest }))
}

/// Serves one connection to its end. What `begin` returns is held from the first
/// byte of a request to the last of its answer; `budget` is what its requests share
/// with those of other connections.
///
/// # Errors
/// It cannot be written to.
pub async fn serve<S, B, G, F, A>(mut stream: S, budget: Arc<Semaphore>, begin: B, handle: F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Fn() -> G,
    F: Fn(Request) -> A,
    A: Future<Output = Response>,
{
    let mut rest = Vec::new();
    let mut share = Share { budget, held: 0 };
    // Between two calls a client may be silent for longer than before its first.
    let mut silence = PATIENCE;
    loop {
        if rest.is_empty() {
            let mut first = [0; 4096];
            match timeout(silence, stream.read(&mut first)).await {
                Ok(Ok(n @ 1..)) => rest.extend_from_slice(&first[..n]),
                _ => return Ok(()),
            }
        }
        let _begun = begin();
        let read = timeout(PATIENCE, read(&mut stream, std::mem::take(&mut rest), &mut share)).await;
        match read.unwrap_or_else(|_| Err(refused(408, "the request took too long"))) {
            Ok(None) => return Ok(()),
            Err(response) => {
                drop(share);
                send(&mut stream, &response, true).await?;
                return stream.shutdown().await;
            }
            Ok(Some(Read { request, close, rest: behind })) => {
                let response = handle(request).await;
                silence = if response.status == 200 { IDLE } else { PATIENCE };
                send(&mut stream, &response, close).await?;
                if close {
                    return stream.shutdown().await;
                }
                rest = behind;
                if share.hold(rest.capacity()).await.is_err() {
                    return stream.shutdown().await;
                }
            }
        }
    }
}

/// Refused connections that are told why, at once; others are cut.
const TOLD: usize = 32;
/// How long one of them may take to hear it.
const TOLD_PATIENCE: Duration = Duration::from_secs(1);

/// Tells a client why its connection is not served, hears the end of what it says, and ends
/// it: one that is cut while it speaks may not hear a word.
///
/// # Errors
/// It hears nothing.
pub async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, why: &str) -> io::Result<()> {
    let e = error::UNAVAILABLE.because(why);
    let body = super::envelope::refusal(&super::envelope::request_id(), "", &e).to_string();
    let response = Response { status: e.status, format: Format::Json, body };
    let farewell = async {
        send(&mut stream, &response, true).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    };
    timeout(TOLD_PATIENCE, farewell).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Room for those that are told.
pub fn told() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(TOLD))
}

/// Room for connections.
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(text: &[u8]) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let handle = |r: Request| async move {
            let body = format!("{} {} {}", r.method, r.query.len(), r.form.len());
            Response { status: 200, format: Format::Json, body }
        };
        let text = text.to_owned();
        let write = async {
            let _ = client.write_all(&text).await;
            let _ = client.shutdown().await;
            let mut all = String::new();
            let _ = client.read_to_string(&mut all).await;
            all
        };
        let (served, said) = tokio::join!(serve(server, budget(), || (), handle), write);
        let _ = served;
        said
    }

    fn run(text: &[u8]) -> String {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(ask(text))
    }

    #[test]
    fn requests_are_read_and_several_follow_each_other() {
        let form = "POST /?a=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Content-Length: 7\r\n\r\nb=2&c=3GET /?x=1&y=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let said = run(form.as_bytes());
        assert!(said.contains("POST 1 2") && said.ends_with("GET 2 0"), "{said}");
        let long = format!("GET /?a={} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(900 << 10));
        assert!(run(long.as_bytes()).contains("GET 1 0"));
    }

    #[tokio::test]
    async fn large_requests_share_their_room_and_small_ones_have_their_own() {
        let budget = Arc::new(Semaphore::new(1 << 20));
        let handle = |_: Request| async { Response { status: 200, format: Format::Json, body: "{}".into() } };
        let begin = |bytes: Vec<u8>| {
            let (mut client, server) = tokio::io::duplex(64 << 10);
            tokio::spawn(serve(server, budget.clone(), || (), handle));
            async move {
                let _ = client.write_all(&bytes).await;
                client
            }
        };
        let post = |length: usize, sent: usize| {
            let head = format!("POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            [head.into_bytes(), vec![b'x'; sent]].concat()
        };
        let answer = |mut client: tokio::io::DuplexStream| async move {
            let mut said = String::new();
            let _ = client.read_to_string(&mut said).await;
            said
        };
        // One that has most of the room, and does not end.
        let slow = begin(post(900 << 10, 800 << 10)).await;
        let said = answer(begin(post(800 << 10, 800 << 10)).await).await;
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("\"ServiceUnavailable\""), "{said}");
        // Nor for a head, nor for many small parameters.
        let long = format!("GET /?a={} HTTP/1.1\r\n\r\n", "x".repeat(900 << 10));
        assert!(answer(begin(long.into_bytes()).await).await.starts_with("HTTP/1.1 503 "));
        let many = format!("GET /?{} HTTP/1.1\r\n\r\n", (0..4000).map(|i| format!("{i}&")).collect::<String>());
        assert!(answer(begin(many.into_bytes()).await).await.starts_with("HTTP/1.1 503 "));
        // Small ones are answered all the while.
        for _ in 0..20 {
            assert!(answer(begin(post(8 << 10, 8 << 10)).await).await.starts_with("HTTP/1.1 200 "));
        }
        // When it is gone, so is what it held; and each gives back what it had.
        drop(slow);
        for _ in 0..3 {
            assert!(answer(begin(post(800 << 10, 800 << 10)).await).await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(budget.available_permits(), 1 << 20);
    }

    #[test]
    fn what_is_none_is_refused() {
        let many = format!("GET /?{} HTTP/1.1\r\n\r\n", (0..10_000).map(|i| format!("p{i}=1&")).collect::<String>());
        let headers = format!("GET / HTTP/1.1\r\n{}\r\n", (0..200).map(|i| format!("h{i}: 1\r\n")).collect::<String>());
        let endless = "GET /".to_owned() + &"x".repeat(2 << 20);
        for (text, status) in [
            ("\0\u{1}\u{2}random\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\n\r\n", 405),
            ("GET /other HTTP/1.1\r\n\r\n", 404),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", 400),
            (&many, 400),
            (&headers, 431),
            (&endless, 431),
        ] {
            let said = run(text.as_bytes());
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{:.40}: {said:.200}", text);
        }
    }
}
