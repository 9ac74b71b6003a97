//! Requests to calls, answers to responses.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::sync::{RwLock, mpsc, oneshot};

use super::{
    actions,
    auth::{self, Fresh, Request},
    call::Call,
    envelope,
    error::{self, ApiError},
    http::{self, Response},
    keys::Keys,
    refusals::Refusals,
    sources::Sources,
    tls::Tls,
};
use crate::daemon::{
    metrics::Metrics,
    protocol::{Action, Reply},
};

/// The version of the API.
const VERSION: &str = "2014-05-26";

/// Bytes of an answer that repeat what a stranger said: a message, such as the text to sign.
const REPEATED: usize = 16 << 10;
/// Bytes of the host that is said again.
const HOST: usize = 300;

/// A text up to a number of bytes.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// What the connections share.
#[derive(Clone)]
pub struct Endpoint {
    /// Who may call.
    pub keys: Arc<Mutex<Keys>>,
    /// What was called.
    pub fresh: Arc<Mutex<Fresh>>,
    /// Calls a second of one key.
    pub rate: u32,
    /// Whose the connections are.
    pub sources: Sources,
    /// What was refused before it was a call.
    pub refusals: Arc<Mutex<Refusals>>,
    /// Held by requests from their first byte to the last of their answer.
    pub open: Arc<RwLock<()>>,
    /// How calls end is counted there.
    pub metrics: Arc<Metrics>,
    /// The writer.
    pub jobs: mpsc::Sender<(String, (Action, oneshot::Sender<Reply>))>,
}

impl Endpoint {
    /// What a request asks for, once it is known who asks.
    fn call(&self, request: &Request) -> Result<Call, ApiError> {
        let caller = {
            let keys = self.keys.lock().map_err(|_| error::INTERNAL)?;
            let mut fresh = self.fresh.lock().map_err(|_| error::INTERNAL)?;
            auth::authenticate(request, &keys, &mut fresh, auth::now(), f64::from(self.rate))?
        };
        if request.common("x-acs-version", "Version") != Some(VERSION) {
            return Err(error::VERSION.into());
        }
        let action = request.common("x-acs-action", "Action").and_then(actions::find).ok_or(error::NO_ACTION)?;
        if action.writes && !caller.writes {
            return Err(error::READ_ONLY.into());
        }
        Ok(Call {
            action: action.name.to_owned(),
            parameters: request.parameters(),
            owner: None,
            account: Some(caller.account),
            signed: Some((caller.key, caller.nonce)),
            dry: false,
        })
    }

    async fn answer(&self, request: &Request, from: SocketAddr) -> Result<(u16, serde_json::Value), ApiError> {
        let call = self.call(request).map_err(|mut e| {
            // The answer waits for whoever reads it, and is to be no larger than others.
            cut(&mut e.message, REPEATED);
            self.metrics.refused(&e.code);
            if let Ok(mut refusals) = self.refusals.lock() {
                let action = request.common("x-acs-action", "Action").unwrap_or_default();
                refusals.add(request.claimed_key(), &from.ip().to_string(), action, &e, Instant::now());
            }
            e
        })?;
        let (sender, receiver) = oneshot::channel();
        let source = from.ip().to_string();
        let job = (source, (Action::Call(Box::new(call)), sender));
        self.jobs.send(job).await.map_err(|_| error::UNAVAILABLE)?;
        match receiver.await.map_err(|_| error::UNAVAILABLE)? {
            Reply::Called { status, body, .. } => Ok((status, body)),
            _ => Err(error::INTERNAL.into()),
        }
    }

    /// Answers a request.
    pub async fn respond(&self, request: Request, from: SocketAddr) -> Response {
        let format = request.format();
        let mut host = request.header("host").unwrap_or_default().to_owned();
        cut(&mut host, HOST);
        let (status, mut body) = self
            .answer(&request, from)
            .await
            .unwrap_or_else(|e| (e.status, envelope::refusal(&envelope::request_id(), &host, &e)));
        let action = request.common("x-acs-action", "Action").and_then(actions::find);
        let code = if status == 200 { "ok" } else { body["Code"].as_str().unwrap_or_default() };
        self.metrics.request(action.map(|a| a.writes), code);
        let root = if status == 200 {
            format!("{}Response", request.common("x-acs-action", "Action").unwrap_or_default())
        } else {
            body["HostId"] = host.into();
            "Error".to_owned()
        };
        Response { status, format, body: format.write(&root, &body) }
    }

    /// Takes connections for ever.
    pub async fn serve(self, listener: tokio::net::TcpListener, tls: Option<Arc<Tls>>) {
        let (room, told, budget) = (http::room(), http::told(), http::budget());
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    crate::daemon::log::warning!("cannot accept a call: {e}");
                    // Out of files, most likely: others must end first.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(held) = self.sources.take(from.ip()) else {
                self.metrics.refused(error::UNAVAILABLE.code);
                // Without TLS: who speaks it is told nothing in plain, and cut.
                if let (None, Ok(telling)) = (&tls, told.clone().try_acquire_owned()) {
                    let why = format!(
                        "{} connections from this address are open already (connections_per_address in [api] of \
                         sgd.toml): close one first.",
                        self.sources.most()
                    );
                    tokio::spawn(async move {
                        let _ = http::turn_away(stream, &why).await;
                        drop(telling);
                    });
                }
                continue;
            };
            let (endpoint, acceptor) = (self.clone(), tls.as_ref().map(|tls| tls.acceptor()));
            let budget = budget.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                // Whoever begins when the end has begun is not waited for.
                let begin = || endpoint.open.clone().try_read_owned().ok();
                let handle = |request| endpoint.respond(request, from);
                // A client that went away, or speaks no TLS, is no trouble of ours.
                let _ = match acceptor {
                    None => http::serve(stream, budget, begin, handle).await,
                    Some(acceptor) => match tokio::time::timeout(http::PATIENCE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => http::serve(stream, budget, begin, handle).await,
                        _ => Ok(()),
                    },
                };
                drop((held, permit));
            });
        }
    }
}
