//! `docs/api.md`, written from the tables that the daemon itself uses.

use std::fmt::Write;

use super::{actions::ACTIONS, error::ALL, published::NEVER};

const HEAD: &str = "# The control API

`sgd` speaks the RPC protocol of Alibaba Cloud ECS (version 2014-05-26), so that the official SDKs call it with nothing
changed but the endpoint. This file is written from the daemon's own tables (`SG_BLESS=1 cargo test -p sg-userspace
--lib docs`); parameters and answers are those of the ECS documentation.

- One path, `/`; `GET` and `POST`; query and form are one set of parameters. Action and version come from the headers
  `x-acs-action` and `x-acs-version` or from `Action` and `Version`.
- Signatures: V1 (HMAC-SHA1) and V3 (ACS3-HMAC-SHA256). No call is answered without one. A call's time may differ by
  15 minutes from the daemon's; a nonce counts once.
- A call is checked in this order: signature, time, nonce and rate; version and action; region; syntax,
  as far as it does not depend on what is referred to; what it refers to and whose that is; state; quota. The first thing that is wrong is the answer, and
  nothing is changed. A call of a hundred permissions is made whole or not at all.
- An answer to a change comes when the change is stored and in force in the kernel.
- A policy that passes a quota which became stricter stays in force; a call may make it less there or leave it, and is
  refused, with numbers, where it would make it more.
- One address has at most `connections_per_address` connections (256); one more is answered 503 `ServiceUnavailable`, and
  cut where it speaks TLS.
- Addresses are named by whoever makes a network interface: none are given out.
- `ClientToken` (64 characters) is remembered for 24 hours: the same call with it is answered the same, and changes
  nothing.
- JSON, or XML when a V1 call does not say `Format=JSON`.
- A refusal has `RequestId`, `HostId` (the host that the request names), `Code` and `Message`. `Recommend`, which the
  original sends beside them, is not sent: it is a link to the original's own web page about the code.
- `sgctl api ACTION NAME=VALUE…` calls over the daemon's socket as the administrator: unsigned, every account's objects,
  names as good as ids.

";

/// The whole text.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    text += "## Actions\n\n| action | changes something | needs `RegionId` |\n|---|---|---|\n";
    let yes = |b: bool| if b { "yes" } else { "" };
    for a in ACTIONS {
        let _ = writeln!(text, "| {} | {} | {} |", a.name, yes(a.writes), yes(a.region));
    }
    text += "\nAny other action is `InvalidAction.NotFound`.\n\n## Errors\n\n`%s` is what the error is about.\n\n\
             | status | code | message |\n|---|---|---|\n";
    let mut kinds: Vec<_> = ALL.iter().map(|(_, k)| (k.code, k.status, k.message)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (code, status, message) in kinds {
        let _ = writeln!(text, "| {status} | {code} | {} |", message.replace('|', "\\|"));
    }
    text += "\nCodes that the ECS documentation has, and that do not occur on a host:\n\n| code | why |\n|---|---|\n";
    for (code, why) in NEVER {
        let _ = writeln!(text, "| {code} | {why} |");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn docs_api_md_says_what_there_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
        let text = super::text();
        if std::env::var_os("SG_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let stands = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stands == text, "docs/api.md is old: SG_BLESS=1 cargo test -p sg-userspace --lib docs");
    }
}
