//! `docs/metrics.md`, written from the table that the daemon itself uses.

use std::fmt::Write;

use super::names::{ALL, Kind};

const HEAD: &str = "# Metrics

`sgd` has metrics for Prometheus at `/metrics`, on an address of the loopback device, if `metrics.listen` in `sgd.toml`
says so. This file is written from the daemon's own table (`SG_BLESS=1 cargo test -p sg-userspace --lib docs`).

- Values of labels are names of interfaces and groups, and what stands in tables of the daemon: reasons (`sgctl explain
  --reasons`), codes of errors (`docs/api.md`). None comes from a packet or from a client.
- Counters of packets, bytes and rules are the kernel's: they go on when the daemon is started anew, and begin at 0
  when an interface is protected anew. All others begin at 0 with the daemon.
- A reason has a series once it had a packet; those that never should (`no_policy`, `table_missing`, `disagreement`)
  have one from the start.
- The text is at most a second old. A scrape does not wait for changes, nor they for it.

| metric | kind | labels | what it says |
|---|---|---|---|
";

/// The whole text.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for def in ALL {
        let kind = match def.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = def.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", def.name, labels.join(", "), def.help);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn docs_metrics_md_says_what_there_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let text = super::text();
        if std::env::var_os("SG_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let stands = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stands == text, "docs/metrics.md is old: SG_BLESS=1 cargo test -p sg-userspace --lib docs");
    }
}
