//! Every metric there is: name, kind, labels, help. One that is not here cannot be
//! made, and one that is here must move in a test (`tests/api/metrics.rs`).
//!
//! Values of labels come from the configuration or from tables of this program: names
//! of interfaces, reasons, codes of errors. None comes from a packet or a client.

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows; begins at 0 with each start of what counts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$attribute:meta])* $id:ident = $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            $(#[$attribute])*
            pub const $id: Def = Def { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them.
        pub const ALL: &[Def] = &[$($id),*];
    };
}

metrics! {
    // What runs, and what it is told.
    BUILD = Gauge "sg_build_info" ["version" "abi"] "Always 1; the daemon's version and that of its maps are in the labels.";
    GENERATION = Gauge "sg_generation" [] "Number of the policy that is stored; each change adds 1.";
    INTERFACES = Gauge "sg_interfaces" ["state"] "Interfaces that the policy names: protected, observing (pass everything yet), missing (not here), refused (here, and not protected as it says).";
    // What becomes of packets, from the kernel's counters: they outlive the daemon.
    PACKETS = Counter "sg_packets_total" ["interface" "direction" "verdict" "reason"] "Packets judged.";
    BYTES = Counter "sg_bytes_total" ["interface" "direction" "verdict"] "Bytes of the packets judged.";
    RULE_PACKETS = Counter "sg_rule_packets_total" ["group" "rule"] "Packets that a rule decided, over all interfaces; as many rules as metrics.rules allows.";
    RULE_BYTES = Counter "sg_rule_bytes_total" ["group" "rule"] "Bytes of the packets that a rule decided.";
    RULES_LEFT_OUT = Gauge "sg_rules_left_out" [] "Rules that have no series because of metrics.rules.";
    // Whether what the program says is what the policy says.
    SAMPLES = Counter "sg_samples_total" ["result"] "Verdicts judged once more by the reference evaluator: same, mismatch (a defect, or tables that somebody else wrote to), skipped (not judged).";
    DIFFERENCES = Counter "sg_table_differences_total" [] "Tables of the kernel that held something else than what was written; they were written anew.";
    FLOW_LOG = Counter "sg_flow_log_lines_total" ["result"] "Lines of the log of flows: written, or lost because the file could not be written, or not fast enough.";
    // Live flows.
    FLOWS = Gauge "sg_flows" ["family"] "Confirmed live flows in the conntrack table of a family.";
    FLOWS_CAPACITY = Gauge "sg_flows_capacity" ["family"] "Confirmed live flows that the table of a family has room for.";
    INTERFACE_FLOWS = Gauge "sg_interface_flows" ["interface" "family"] "Confirmed live flows of an interface.";
    INTERFACE_FLOWS_LIMIT = Gauge "sg_interface_flows_limit" [] "Confirmed live flows of one family that one interface may hold.";
    FLOWS_SHORT = Gauge "sg_flows_short" [] "Tables and interface shares that began to be short of room (three quarters full) and have not recovered.";
    // Changes.
    CHANGES = Counter "sg_changes_total" ["transport" "result"] "Changes asked for over the socket or the API, and those that followed the network; made or refused.";
    APPLY_SECONDS = Histogram "sg_apply_duration_seconds" [] "Time to store a policy and put it in force, or to follow a change of the network.";
    APPLY_FAILURES = Counter "sg_apply_failures_total" [] "Times that a policy could not be stored or put in force.";
    LAST_APPLY = Gauge "sg_last_apply_timestamp_seconds" [] "When the policy was last put in force, or found to be, in seconds since 1970.";
    COMMIT_SECONDS = Histogram "sg_store_commit_duration_seconds" [] "Time to store a state so that it survives a power cut.";
    COMMIT_FAILURES = Counter "sg_store_commit_failures_total" [] "States that could not be stored.";
    // The control API.
    API_REQUESTS = Counter "sg_api_requests_total" ["class" "code"] "Requests to the control API by what their action does (read, write, unknown) and the code of the answer (ok, or an error of docs/api.md).";
    REFUSED = Counter "sg_api_refused_requests_total" ["reason"] "Requests refused before they were calls: unknown key, wrong signature, old time, too many.";
    AUDIT_FAILURES = Counter "sg_audit_write_failures_total" [] "Times that the audit log could not be written.";
    AUDIT_FAILING = Gauge "sg_audit_failing" [] "1 while the audit log cannot be written and changes are refused.";
    // Whether the programs are where they belong.
    DETACHED = Gauge "sg_interfaces_detached" [] "Interfaces whose programs are not as they should be or cannot be seen, and could not be mended.";
    REATTACHED = Counter "sg_links_reattached_total" [] "Times that the programs of an interface had been taken off and were put back.";
    FOREIGN = Gauge "sg_foreign_programs_before" [] "Programs of others that run before ours: what they accept is not judged.";
    PASSED = Counter "sg_foreign_programs_passed_total" [] "Programs of others that ran before ours and were passed.";
    PINS_REPAIRED = Counter "sg_pins_repaired_total" [] "Pins that were gone and are there again.";
    PINS_GONE = Gauge "sg_pins_gone" [] "1 while there is no file system to pin on: what is in force ends with the daemon.";
    READ_ERRORS = Counter "sg_read_errors_total" [] "Times that a table of the kernel or the list of devices could not be read.";
    SCRAPES_CUT = Counter "sg_scrapes_cut_total" [] "Connections to this listener that were too slow and were cut.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names = Vec::new();
        for def in ALL {
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
            assert!(def.name.starts_with("sg_") && plain(def.name), "{}", def.name);
            assert_eq!(def.name.ends_with("_total"), def.kind == Kind::Counter, "{}", def.name);
            assert!(def.kind != Kind::Histogram || def.name.ends_with("_seconds"), "{}", def.name);
            assert!(def.labels.iter().all(|l| plain(l)) && def.help.ends_with('.'), "{}", def.name);
            names.push(def.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "one name twice");
    }
}
