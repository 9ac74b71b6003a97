//! Signatures: V1 (HMAC-SHA1 over all parameters) and V3 (ACS3-HMAC-SHA256 over
//! a canonical request), verified in constant time.
//!
//! Clients encode the same value in different ways, so nothing is ever checked
//! over the raw query: it is decoded as a form, and encoded anew.

use std::{collections::BTreeMap, fmt::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What RFC 3986 reserves: all but letters, digits and `-_.~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The name of V3.
pub const V3: &str = "ACS3-HMAC-SHA256";

/// Encodes a text for a string to sign.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn query(parameters: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    pairs.join("&")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hex of the SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What V1 signs: the method, and all parameters but the signature itself.
pub fn v1_text(method: &str, parameters: &BTreeMap<String, String>) -> String {
    let mut signed = parameters.clone();
    signed.remove("Signature");
    format!("{method}&%2F&{}", encode(&query(&signed)))
}

/// Whether a V1 signature (base64) is that of a text.
pub fn v1_verify(secret: &str, text: &str, signature: &str) -> bool {
    let key = format!("{secret}&");
    let (Ok(mut mac), Ok(given)) =
        (Hmac::<Sha1>::new_from_slice(key.as_bytes()), BASE64_STANDARD.decode(signature.as_bytes()))
    else {
        return false;
    };
    mac.update(text.as_bytes());
    mac.verify_slice(&given).is_ok()
}

/// The V1 signature of a text, base64.
pub fn v1_sign(secret: &str, text: &str) -> String {
    let key = format!("{secret}&");
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(text.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// What a V3 `Authorization` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// The access key's id.
    pub key: &'a str,
    /// Names of the signed headers, `;` between them.
    pub headers: &'a str,
    /// Hex.
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header's value; `None` when it is no V3 one.
    pub fn read(value: &'a str) -> Option<Self> {
        let rest = value.strip_prefix(V3)?.strip_prefix(' ')?;
        let (mut key, mut headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=')? {
                ("Credential", value) => key = Some(value),
                ("SignedHeaders", value) => headers = Some(value),
                ("Signature", value) => signature = Some(value),
                _ => return None,
            }
        }
        Some(Self { key: key?, headers: headers?, signature: signature? })
    }
}

/// What V3 signs. `header` finds a header's value; the signed names are those of
/// the request, in its order.
pub fn v3_text<'a>(
    method: &str,
    parameters: &BTreeMap<String, String>,
    signed: &str,
    header: impl Fn(&str) -> Option<&'a str>,
    body_hash: &str,
) -> String {
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", header(name).unwrap_or_default().trim())).collect();
    let canonical = format!("{method}\n/\n{}\n{headers}\n{signed}\n{body_hash}", query(parameters));
    format!("{V3}\n{}", sha256(canonical.as_bytes()))
}

/// Whether a V3 signature (hex) is that of a text.
pub fn v3_verify(secret: &str, text: &str, signature: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(text.as_bytes());
    let given: Option<Vec<u8>> = (signature.len() == 64 && signature.is_ascii())
        .then(|| (0..64).step_by(2).map(|i| u8::from_str_radix(&signature[i..i + 2], 16).ok()).collect())
        .flatten();
    given.is_some_and(|given| mac.verify_slice(&given).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// Vectors A and B of the published protocol.
    #[test]
    fn v1_agrees_with_the_published_vectors() {
        let regions = map(&[
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("Format", "XML"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", "2014-05-26"),
            ("Signature", "anything"),
        ]);
        let text = v1_text("GET", &regions);
        assert!(v1_verify("testsecret", &text, "OLeaidS1JvxuMvnyHOwuJ+uX5qY="));
        assert!(!v1_verify("testsecreT", &text, "OLeaidS1JvxuMvnyHOwuJ+uX5qY="));
        let hosts = map(&[
            ("AccessKeyId", "testid"),
            ("Action", "DescribeDedicatedHosts"),
            ("Format", "JSON"),
            ("RegionId", "cn-beijing"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "edb2b34af0af9a6d14deaf7c1a5315eb"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2023-03-13T08:34:30Z"),
            ("Version", "2014-05-26"),
        ]);
        assert!(v1_verify("testsecret", &v1_text("GET", &hosts), "9NaGiOspFP5UPcwX8Iwt2YJXXuk="));
    }

    /// Vector C.
    #[test]
    fn v3_agrees_with_the_published_vector() {
        let parameters =
            map(&[("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"), ("RegionId", "cn-shanghai")]);
        let empty = sha256(b"");
        let headers = map(&[
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
        ]);
        let signed = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";
        let text = v3_text("POST", &parameters, signed, |name| headers.get(name).map(String::as_str), &empty);
        let expected = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";
        assert!(v3_verify("YourAccessKeySecret", &text, expected));
        assert!(!v3_verify("YourAccessKeySecret", &text, &expected.replace('0', "1")));
        assert!(!v3_verify("YourAccessKeySecret", &text, "06563a9e"));
    }

    #[test]
    fn a_header_that_is_none_is_none() {
        let read = Authorization::read("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host;x,Signature=00").unwrap();
        assert_eq!((read.key, read.headers, read.signature), ("a", "host;x", "00"));
        for bad in ["", "Basic x", "ACS3-HMAC-SHA256 Credential=a", "ACS3-HMAC-SHA256", "ACS3-RSA-SHA256 Credential=a"]
        {
            assert!(Authorization::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn texts_are_encoded_as_rfc_3986_says() {
        assert_eq!(encode("a b*~(1)/组"), "a%20b%2A~%281%29%2F%E7%BB%84");
    }
}
