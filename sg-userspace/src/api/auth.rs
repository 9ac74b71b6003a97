//! Who calls: the key, its signature, and that the call is fresh. No call is
//! answered without one.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    envelope::Format,
    error::{self, ApiError},
    facts::Replay,
    keys::{Key, Keys},
    params::Params,
    sign::{self, Authorization},
};

/// Seconds that a call's time may differ from ours.
pub const WINDOW: u64 = 15 * 60;
/// Nonces remembered of one key: at more calls than this in the window it is slowed down.
pub const MAX_NONCES: usize = 500_000;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Decoded, where the body is a form.
    pub form: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As it came.
    pub body: Vec<u8>,
}

impl Request {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Query and form as one.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.query.clone();
        all.extend(self.form.iter().map(|(k, v)| (k.clone(), v.clone())));
        all
    }

    /// One parameter, as [`Request::all`] has it: what is signed is what counts.
    fn get(&self, name: &str) -> Option<&str> {
        self.form.get(name).or_else(|| self.query.get(name)).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// A common parameter: of a header, or of the query or form.
    pub fn common(&self, header: &str, name: &str) -> Option<&str> {
        self.header(header).filter(|v| !v.is_empty()).or_else(|| self.get(name))
    }

    /// The key that it claims to be of; empty when it names none.
    pub fn claimed_key(&self) -> &str {
        let named = match self.header("authorization") {
            Some(header) => Authorization::read(header).map(|a| a.key),
            None => self.get("AccessKeyId"),
        };
        named.unwrap_or_default()
    }

    /// How the answer is to be written.
    pub fn format(&self) -> Format {
        let v3 = self.headers.contains_key("authorization") || self.headers.contains_key("x-acs-signature-nonce");
        match self.get("Format") {
            Some(format) if format.eq_ignore_ascii_case("xml") => Format::Xml,
            Some(_) => Format::Json,
            None if v3 || self.get("Signature").is_none() => Format::Json,
            None => Format::Xml,
        }
    }

    /// The parameters of the action itself.
    pub fn parameters(&self) -> Params {
        const COMMON: &[&str] = &[
            "Action",
            "Version",
            "AccessKeyId",
            "Signature",
            "SignatureMethod",
            "SignatureVersion",
            "SignatureNonce",
            "SignatureType",
            "Timestamp",
            "Format",
            "SecurityToken",
        ];
        self.all().into_iter().filter(|(name, _)| !COMMON.contains(&name.as_str())).collect()
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's id.
    pub key: String,
    /// The account it belongs to.
    pub account: String,
    /// Whether it may change anything.
    pub writes: bool,
    /// What makes this call different from all others.
    pub nonce: String,
}

/// Nonces and rates, by key.
#[derive(Debug, Default)]
pub struct Fresh {
    keys: HashMap<String, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    nonces: HashMap<String, u64>,
    swept: u64,
    /// Calls that may come at once.
    tokens: f64,
    at: Option<std::time::Instant>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

impl Fresh {
    /// As it was when the last daemon ended.
    pub fn restored(replay: &Replay) -> Self {
        let recent = |nonces: &imbl::OrdMap<String, u64>| Recent {
            nonces: nonces.iter().map(|(n, at)| (n.clone(), *at)).collect(),
            ..Recent::default()
        };
        Self { keys: replay.nonces.iter().map(|(key, nonces)| (key.clone(), recent(nonces))).collect() }
    }

    /// Notes a call of a key.
    fn take(&mut self, key: &str, nonce: &str, now: u64, rate: f64) -> Result<(), ApiError> {
        let recent = self.keys.entry(key.to_owned()).or_default();
        let instant = std::time::Instant::now();
        let passed = recent.at.map_or(1.0, |at| instant.duration_since(at).as_secs_f64());
        recent.tokens = (recent.tokens + passed * rate).min(rate);
        recent.at = Some(instant);
        if recent.tokens < 1.0 {
            return Err(error::THROTTLED.into());
        }
        recent.tokens -= 1.0;
        if now > recent.swept + 60 {
            recent.nonces.retain(|_, at| *at + 2 * WINDOW > now);
            recent.swept = now;
        }
        if recent.nonces.contains_key(nonce) {
            return Err(error::NONCE_USED.into());
        }
        if recent.nonces.len() >= MAX_NONCES {
            return Err(error::THROTTLED.into());
        }
        recent.nonces.insert(nonce.to_owned(), now);
        Ok(())
    }
}

fn fresh(text: Option<&str>, name: &str, now: u64) -> Result<(), ApiError> {
    let text = text.ok_or_else(|| error::NOT_SIGNED.of(name))?;
    let time = humantime::parse_rfc3339(text).map_err(|_| error::TIMESTAMP)?;
    let seconds = time.duration_since(UNIX_EPOCH).map_err(|_| error::EXPIRED)?.as_secs();
    if seconds.abs_diff(now) > WINDOW { Err(error::EXPIRED.into()) } else { Ok(()) }
}

fn key<'a>(keys: &'a Keys, id: &str) -> Result<&'a Key, ApiError> {
    let key = keys.find(id).ok_or(error::NO_KEY)?;
    if key.disabled { Err(error::KEY_INACTIVE.into()) } else { Ok(key) }
}

/// Says who calls. `rate` is how many calls a second a key may make.
///
/// # Errors
/// No key, a wrong signature, a time or nonce that is not fresh, too many calls.
pub fn authenticate(r: &Request, keys: &Keys, recent: &mut Fresh, now: u64, rate: f64) -> Result<Caller, ApiError> {
    let (key, nonce) = match r.header("authorization") {
        Some(header) => v3(r, header, keys, now)?,
        None => v1(r, keys, now)?,
    };
    if nonce.is_empty() || nonce.len() > 128 {
        return Err(error::NOT_SIGNED.of("SignatureNonce"));
    }
    recent.take(&key.id, nonce, now, rate)?;
    Ok(Caller { key: key.id.clone(), account: key.account.clone(), writes: key.writes, nonce: nonce.to_owned() })
}

fn v3<'a>(r: &'a Request, header: &str, keys: &'a Keys, now: u64) -> Result<(&'a Key, &'a str), ApiError> {
    let authorization = Authorization::read(header)
        .ok_or_else(|| error::SIGNATURE_METHOD.of(header.split_whitespace().next().unwrap_or_default()))?;
    let key = key(keys, authorization.key)?;
    let hash = sign::sha256(&r.body);
    let said = r.header("x-acs-content-sha256").unwrap_or_default();
    let text = sign::v3_text(&r.method, &r.query, authorization.headers, |name| r.header(name), &hash);
    // What decides the call must be signed, or it could be exchanged.
    let signed: Vec<&str> = authorization.headers.split(';').collect();
    let covered = r.headers.keys().filter(|name| name.starts_with("x-acs-") || *name == "host");
    let whole = covered.clone().all(|name| signed.contains(&name.as_str())) && covered.count() > 0;
    if !whole || said != hash || !sign::v3_verify(&key.secret, &text, authorization.signature) {
        return Err(error::SIGNATURE.of(&text));
    }
    fresh(r.header("x-acs-date"), "x-acs-date", now)?;
    Ok((key, r.header("x-acs-signature-nonce").unwrap_or_default()))
}

fn v1<'a>(r: &'a Request, keys: &'a Keys, now: u64) -> Result<(&'a Key, &'a str), ApiError> {
    let need = |name: &str| r.get(name).ok_or_else(|| error::NOT_SIGNED.of(name));
    let id = need("AccessKeyId")?;
    let signature = need("Signature")?;
    let method = r.get("SignatureMethod").unwrap_or("HMAC-SHA1");
    if method != "HMAC-SHA1" {
        return Err(error::SIGNATURE_METHOD.of(method));
    }
    let key = key(keys, id)?;
    let text = sign::v1_text(&r.method, &r.all());
    if !sign::v1_verify(&key.secret, &text, signature) {
        return Err(error::SIGNATURE.of(&text));
    }
    // Older clients name the action in a header, too, which V1 does not sign: what
    // counts is the parameter, and the header may say nothing else.
    let same = |header: &str, name: &str| r.header(header).is_none_or(|h| r.get(name) == Some(h));
    if !same("x-acs-action", "Action") || !same("x-acs-version", "Version") {
        return Err(error::SIGNATURE.of(&text));
    }
    fresh(r.get("Timestamp"), "Timestamp", now)?;
    Ok((key, r.get("SignatureNonce").unwrap_or_default()))
}
