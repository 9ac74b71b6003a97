//! Requests that were refused before they were calls, on their way to the audit log.
//!
//! Anybody can send them, so a flood of them must neither fill the disk, nor push
//! the lines of calls out of the files that are kept, nor hold the writer: a few are
//! written down one by one, of the others how many there were.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{auth, draft::time, error::ApiError};

/// Requests that may be written down at once.
const BURST: u32 = 50;
/// After that one in this time, and one line of how many others there were.
const EVERY: Duration = Duration::from_secs(5);
/// Characters that are kept of what a request claims.
const CLAIM: usize = 64;

/// A line.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// Of one request.
    Refused {
        /// When, UTC.
        time: String,
        /// The key that it claims to be of; nothing has shown that it is.
        claimed_key: String,
        /// Where from: an address.
        source: String,
        /// What it asks for.
        claimed_action: String,
        /// The error's code.
        result: Cow<'static, str>,
    },
    /// Of requests that have no line of their own.
    RefusedOthers {
        /// When that was written, UTC.
        time: String,
        /// How many, by the error's code.
        results: BTreeMap<Cow<'static, str>, u64>,
    },
}

/// Those that wait to be written.
#[derive(Debug)]
pub struct Refusals {
    waiting: Vec<Refusal>,
    /// Requests that may still have a line, as of `refilled`.
    room: u32,
    refilled: Instant,
    /// Requests without a line, by the error's code.
    others: BTreeMap<Cow<'static, str>, u64>,
    /// When the others are told next.
    tell: Instant,
}

/// What a stranger says: short, and nothing in it that a terminal would obey.
fn claim(text: &str) -> String {
    let mut claim = String::new();
    for c in text.chars().take(CLAIM) {
        if c.is_ascii_graphic() || c == ' ' { claim.push(c) } else { claim.extend(c.escape_unicode()) }
    }
    claim
}

impl Refusals {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self { waiting: Vec::new(), room: BURST, refilled: now, others: BTreeMap::new(), tell: now }
    }

    /// Takes note of one.
    pub fn add(&mut self, key: &str, source: &str, action: &str, error: &ApiError, now: Instant) {
        while self.room < BURST && self.refilled + EVERY <= now {
            self.room += 1;
            self.refilled += EVERY;
        }
        if self.room == BURST {
            self.refilled = now;
        }
        if self.room == 0 {
            *self.others.entry(error.code.clone()).or_default() += 1;
            return;
        }
        self.room -= 1;
        self.waiting.push(Refusal::Refused {
            time: time(auth::now()),
            claimed_key: claim(key),
            source: source.to_owned(),
            claimed_action: claim(action),
            result: error.code.clone(),
        });
    }

    /// What is to be written now; with `all`, nothing waits any longer.
    pub fn take(&mut self, all: bool, now: Instant) -> Vec<Refusal> {
        let mut lines = std::mem::take(&mut self.waiting);
        if !self.others.is_empty() && (all || self.tell <= now) {
            self.tell = now + EVERY;
            let results = std::mem::take(&mut self.others);
            lines.push(Refusal::RefusedOthers { time: time(auth::now()), results });
        }
        lines
    }

    /// Takes back what could not be written: it is counted, and told later.
    pub fn unwritten(&mut self, lines: Vec<Refusal>) {
        for line in lines {
            let results = match line {
                Refusal::Refused { result, .. } => BTreeMap::from([(result, 1)]),
                Refusal::RefusedOthers { results, .. } => results,
            };
            for (code, count) in results {
                *self.others.entry(code).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error;

    fn add(refusals: &mut Refusals, count: u32, now: Instant) {
        for _ in 0..count {
            refusals.add("k", "192.0.2.1", "DescribeRegions", &error::SIGNATURE.into(), now);
        }
    }

    /// Lines of their own, and how many others were told.
    fn told(refusals: &mut Refusals, now: Instant) -> (usize, u64) {
        let lines = refusals.take(false, now);
        let others = lines.iter().filter_map(|l| match l {
            Refusal::RefusedOthers { results, .. } => Some(results.values().sum::<u64>()),
            Refusal::Refused { .. } => None,
        });
        let others: Vec<u64> = others.collect();
        assert!(others.len() <= 1, "{lines:?}");
        (lines.len() - others.len(), others.into_iter().sum())
    }

    #[test]
    fn a_flood_is_counted_and_little_of_it_written() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        add(&mut refusals, BURST, start);
        assert_eq!(told(&mut refusals, start), (BURST as usize, 0));
        let (mut lines, mut others, mut writes) = (0, 0, 0);
        for second in 1..=3600 {
            let now = start + Duration::from_secs(second);
            add(&mut refusals, 1000, now);
            let (own, more) = told(&mut refusals, now);
            (lines, others, writes) = (lines + own, others + more, writes + u32::from(more > 0));
        }
        assert_eq!(lines, 720, "one in five seconds");
        assert!(writes <= 720, "{writes}");
        others += told(&mut refusals, start + Duration::from_secs(4000)).1;
        assert_eq!(lines as u64 + others, 3_600_000, "none is forgotten");
        // Once it is over, there is room for a new one.
        add(&mut refusals, BURST + 1, start + Duration::from_secs(10_000));
        assert_eq!(told(&mut refusals, start + Duration::from_secs(10_000)), (BURST as usize, 1));
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        add(&mut refusals, BURST + 3, start);
        let lines = refusals.take(false, start);
        refusals.unwritten(lines);
        assert_eq!(told(&mut refusals, start), (0, 0), "not again at once");
        assert_eq!(told(&mut refusals, start + EVERY), (0, u64::from(BURST) + 3));
    }

    #[test]
    fn claims_are_short_and_harmless() {
        let mut refusals = Refusals::new(Instant::now());
        let (key, action) = ("\u{1b}[2J\u{202e}\"\n".to_owned(), "x".repeat(1 << 20));
        refusals.add(&key, "::1", &action, &error::NO_KEY.into(), Instant::now());
        let line = serde_json::to_string(&refusals.take(false, Instant::now())[0]).unwrap();
        assert!(line.is_ascii() && !line.contains(char::is_control) && line.len() < 400, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["claimed_key"], "\\u{1b}[2J\\u{202e}\"\\u{a}");
        assert_eq!(value["claimed_action"], "x".repeat(64));
        assert_eq!((&value["kind"], &value["result"]), (&"refused".into(), &"InvalidAccessKeyId.NotFound".into()));
    }
}
