//! Calls of the control API as V1 has them, for the tests and the benchmark.

use std::{collections::BTreeMap, time::SystemTime};

use crate::api::sign;

/// Parameters of a call, signed for a POST by a key's id and secret. A parameter of the
/// value `<absent>` is left out, also one of those that every call has.
pub fn signed(key: (&str, &str), parameters: &[(&str, &str)]) -> BTreeMap<String, String> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let nonce = uuid::Uuid::new_v4().to_string();
    let common = [
        ("AccessKeyId", key.0),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", &nonce),
        ("Timestamp", &now),
        ("Version", "2014-05-26"),
        ("Format", "JSON"),
        ("RegionId", "local"),
    ];
    let pairs = common.iter().chain(parameters).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let mut all: BTreeMap<String, String> = pairs.collect();
    all.retain(|_, v| v != "<absent>");
    let signature = sign::v1_sign(key.1, &sign::v1_text("POST", &all));
    all.insert("Signature".into(), signature);
    all
}

/// The bytes of a POST with a form; with `close`, the connection ends with its answer.
pub fn post(parameters: &BTreeMap<String, String>, close: bool) -> Vec<u8> {
    let pairs: Vec<String> =
        parameters.iter().map(|(k, v)| format!("{}={}", sign::encode(k), sign::encode(v))).collect();
    let body = pairs.join("&");
    let close = if close { "Connection: close\r\n" } else { "" };
    format!(
        "POST / HTTP/1.1\r\nHost: h\r\n{close}Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
