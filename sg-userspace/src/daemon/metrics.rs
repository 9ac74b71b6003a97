//! Metrics for Prometheus.
//!
//! # Layout
//! - [`names`]: every metric there is
//! - here: what is counted where it happens
//! - [`picture`]: how things stand at one moment, as the writer says
//! - [`render`]: both, and the kernel's counters, as text
//! - [`listen`]: where scrapers ask
//! - [`docs`] writes `docs/metrics.md`
//! - [`timed`]: a store that is measured

pub mod docs;
pub mod listen;
pub mod names;
pub mod picture;
pub mod render;
pub mod timed;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use names::Def;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector, proto::MetricFamily,
};

use super::{flow_log::Written, sampler::Judged};
use crate::api::error;

/// Seconds: a call takes a millisecond or some, a document of a thousand rules tens of them.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Which way a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// From `sgctl`.
    Socket,
    /// A signed call.
    Api,
    /// A device or an address came or went.
    Network,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Socket, Self::Api, Self::Network];

    fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Api => "api",
            Self::Network => "network",
        }
    }
}

/// What is counted where it happens, since the daemon began.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    changes: IntCounterVec,
    apply_seconds: Histogram,
    apply_failures: IntCounter,
    last_apply: Gauge,
    commit_seconds: Histogram,
    commit_failures: IntCounter,
    samples: IntCounterVec,
    flow_log: IntCounterVec,
    differences: IntCounter,
    requests: IntCounterVec,
    refused: IntCounterVec,
    audit_failures: IntCounter,
    reattached: IntCounter,
    passed: IntCounter,
    pins_repaired: IntCounter,
    read_errors: IntCounter,
    scrapes_cut: IntCounter,
}

fn opts(def: &Def) -> Opts {
    Opts::new(def.name, def.help)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> prometheus::Result<C> {
    let metric = made?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// A code of the tables; what stands in none has no series of its own.
fn known(code: &str) -> &'static str {
    if code == "ok" {
        return "ok";
    }
    error::ALL.iter().find(|(_, kind)| kind.code == code).map_or("other", |(_, kind)| kind.code)
}

impl Metrics {
    /// All at 0.
    ///
    /// # Errors
    /// Two of one name, or a name that is none: a defect.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let counter = |def: &Def| register(r, IntCounter::with_opts(opts(def)));
        let counters = |def: &Def| register(r, IntCounterVec::new(opts(def), def.labels));
        let seconds = |def: &Def| {
            let opts = HistogramOpts::new(def.name, def.help).buckets(BUCKETS.to_vec());
            register(r, Histogram::with_opts(opts))
        };
        let changes = counters(&names::CHANGES)?;
        for transport in Transport::ALL {
            // What was never seen has no rate.
            changes.with_label_values(&[transport.name(), "made"]);
            changes.with_label_values(&[transport.name(), "refused"]);
        }
        let requests = counters(&names::API_REQUESTS)?;
        for class in ["read", "write"] {
            for code in ["ok", error::INTERNAL.code, error::UNAVAILABLE.code] {
                requests.with_label_values(&[class, code]);
            }
        }
        let samples = counters(&names::SAMPLES)?;
        for result in ["same", "mismatch", "skipped"] {
            samples.with_label_values(&[result]);
        }
        let flow_log = counters(&names::FLOW_LOG)?;
        for result in ["written", "lost"] {
            flow_log.with_label_values(&[result]);
        }
        Ok(Self {
            changes,
            flow_log,
            samples,
            differences: counter(&names::DIFFERENCES)?,
            requests,
            apply_seconds: seconds(&names::APPLY_SECONDS)?,
            apply_failures: counter(&names::APPLY_FAILURES)?,
            last_apply: register(r, Gauge::with_opts(opts(&names::LAST_APPLY)))?,
            commit_seconds: seconds(&names::COMMIT_SECONDS)?,
            commit_failures: counter(&names::COMMIT_FAILURES)?,
            refused: counters(&names::REFUSED)?,
            audit_failures: counter(&names::AUDIT_FAILURES)?,
            reattached: counter(&names::REATTACHED)?,
            passed: counter(&names::PASSED)?,
            pins_repaired: counter(&names::PINS_REPAIRED)?,
            read_errors: counter(&names::READ_ERRORS)?,
            scrapes_cut: counter(&names::SCRAPES_CUT)?,
            registry,
        })
    }

    /// Verdicts were judged once more.
    pub fn sampled(&self, judged: &Judged) {
        let Judged { same, mismatches, skipped } = judged;
        for (result, count) in [("same", same), ("mismatch", mismatches), ("skipped", skipped)] {
            self.samples.with_label_values(&[result]).inc_by(*count);
        }
    }

    /// Lines of the log of flows were written, or lost.
    pub fn flows_logged(&self, written: &Written) {
        self.flow_log.with_label_values(&["written"]).inc_by(written.written);
        self.flow_log.with_label_values(&["lost"]).inc_by(written.lost);
    }

    /// So many tables were not what had been written.
    pub fn differed(&self, tables: usize) {
        self.differences.inc_by(tables as u64);
    }

    /// A change ended.
    pub fn change(&self, transport: Transport, made: bool) {
        self.changes.with_label_values(&[transport.name(), if made { "made" } else { "refused" }]).inc();
    }

    /// A policy was put in force, or could not be.
    pub fn applied(&self, took: Duration, done: bool) {
        self.apply_seconds.observe(took.as_secs_f64());
        if done { self.in_force() } else { self.apply_failures.inc() }
    }

    /// The policy is in force now.
    pub fn in_force(&self) {
        self.last_apply.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    /// The store took a state, or could not.
    pub fn committed(&self, took: Duration, done: bool) {
        self.commit_seconds.observe(took.as_secs_f64());
        if !done {
            self.commit_failures.inc();
        }
    }

    /// A request to the API was answered. `writes` is what its action does; `None` when there is no such action.
    pub fn request(&self, writes: Option<bool>, code: &str) {
        let class = match writes {
            Some(true) => "write",
            Some(false) => "read",
            None => "unknown",
        };
        self.requests.with_label_values(&[class, known(code)]).inc();
    }

    /// A request was refused before it was a call.
    pub fn refused(&self, code: &str) {
        self.refused.with_label_values(&[known(code)]).inc();
    }

    /// The audit log could not be written.
    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// Programs that had been taken off were put back on so many interfaces; so many of others were passed.
    pub fn mended(&self, back: usize, passed: usize) {
        self.reattached.inc_by(back as u64);
        self.passed.inc_by(passed as u64);
    }

    /// So many pins are there again.
    pub fn repinned(&self, pins: usize) {
        self.pins_repaired.inc_by(pins as u64);
    }

    /// Something of the kernel's could not be read.
    pub fn read_failed(&self) {
        self.read_errors.inc();
    }

    /// A scraper was too slow.
    pub fn scrape_cut(&self) {
        self.scrapes_cut.inc();
    }

    fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_no_label() {
        let metrics = Metrics::new().unwrap();
        for i in 0..1000 {
            metrics.request(None, &format!("Code{i}"));
            metrics.refused(&format!("Code{i}"));
        }
        metrics.request(Some(true), "InvalidVersion");
        let text = prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
        assert!(text.contains("sg_api_requests_total{class=\"unknown\",code=\"other\"} 1000"), "{text}");
        assert!(text.contains("sg_api_requests_total{class=\"write\",code=\"InvalidVersion\"} 1"), "{text}");
        assert!(text.contains("sg_api_refused_requests_total{reason=\"other\"} 1000") && text.len() < 10_000, "{text}");
    }

    #[test]
    fn whatever_is_there_from_the_start_can_rise() {
        let metrics = Metrics::new().unwrap();
        for transport in Transport::ALL {
            metrics.change(transport, true);
            metrics.change(transport, false);
        }
        for writes in [true, false] {
            for code in ["ok", error::INTERNAL.code, error::UNAVAILABLE.code] {
                metrics.request(Some(writes), code);
            }
        }
        metrics.sampled(&Judged { same: 5, mismatches: 2, skipped: 3 });
        metrics.sampled(&Judged { mismatches: 1, ..Judged::default() });
        metrics.flows_logged(&Written { written: 7, lost: 4 });
        let text = prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
        for line in [
            "sg_samples_total{result=\"same\"} 5",
            "sg_samples_total{result=\"mismatch\"} 3",
            "sg_samples_total{result=\"skipped\"} 3",
            "sg_flow_log_lines_total{result=\"written\"} 7",
            "sg_flow_log_lines_total{result=\"lost\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        // A value of a label that nobody counts by would stay as it was made.
        let still = text.lines().filter(|l| l.contains('{') && !l.contains("_bucket{") && l.ends_with(" 0"));
        assert_eq!(still.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
