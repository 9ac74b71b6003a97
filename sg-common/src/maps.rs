//! Names of maps and programs, as they stand in the object and on bpffs.
//! A test compares this list with the built object.

/// `Array<u64>` by ifindex: generation index, 0 when the device is not ours.
pub const IFACES: &str = "SG_IFACES";
/// `Array<Generation>`; record 0 is never used.
pub const GENERATIONS: &str = "SG_GENERATIONS";
/// `Array<Config>` of one element.
pub const CONFIG: &str = "SG_CONFIG";
/// Arrays of maps with the flat policy values, by size class.
pub const POLICIES: [&str; 3] = ["SG_POLICY_S", "SG_POLICY_M", "SG_POLICY_L"];
/// Array of maps with the LPM tries, by policy.
pub const PREFIXES: &str = "SG_PREFIXES";
/// Array of maps with the exact-host hashes, by policy.
pub const HOSTS: &str = "SG_HOSTS";
/// Own addresses of guest interfaces.
pub const OWN: &str = "SG_OWN";
/// Confirmed flows.
pub const FLOWS: [&str; 2] = ["SG_FLOWS4", "SG_FLOWS6"];
/// Unconfirmed flows: by initiating direction, then on probation; by family.
pub const CHURN: [[&str; 2]; 3] =
    [["SG_CHURN_IN4", "SG_CHURN_IN6"], ["SG_CHURN_OUT4", "SG_CHURN_OUT6"], ["SG_PROBATION4", "SG_PROBATION6"]];
/// `Array<Filter>` of one element: flows that may exist.
pub const FILTER: &str = "SG_FILTER";
/// `Array<Quotas>` of one element.
pub const QUOTAS: &str = "SG_QUOTAS";
/// `Array<Usage>` of one element.
pub const USAGE: &str = "SG_USAGE";
/// First fragments.
pub const FRAGMENTS: &str = "SG_FRAGMENTS";
/// Per-CPU counters by slot, direction, reason and verdict.
pub const REASONS: &str = "SG_REASONS";
/// Per-CPU counters by rule.
pub const RULES: &str = "SG_RULES";
/// Ring buffer of events.
pub const EVENTS: &str = "SG_EVENTS";
/// `Array<Tell>` of one element.
pub const TELL: &str = "SG_TELL";
/// Per-CPU array of [`crate::watch::Told`], of one element.
pub const TOLD: &str = "SG_TOLD";
/// What flows have carried; in sets of older daemons it is missing.
pub const ACCOUNTS: &str = "SG_ACCOUNTS";

/// Program at XDP.
pub const PROG_XDP: &str = "sg_xdp";
/// Program at TC ingress.
pub const PROG_TC_IN: &str = "sg_tc_in";
/// Program at TC egress.
pub const PROG_TC_OUT: &str = "sg_tc_out";
/// One line that returns the clock, for calibration.
pub const PROG_CLOCK: &str = "sg_clock";
/// Flows that a candidate decides otherwise; in sets of older daemons it is missing.
pub const SHADOW: &str = "SG_SHADOW";
/// Per-CPU array of [`crate::shadow::Compared`], of one element; missing as the one above.
pub const SHADOWED: &str = "SG_SHADOWED";
/// Global, `u32`: not 0 for kernels that take map keys only from the stack.
pub const STACK_KEYS: &str = "SG_STACK_KEYS";
/// Global, `u32`: not 0 in a program that only answers what it would do: no flow is looked
/// for or made, nothing is counted, nothing told.
pub const DRY: &str = "SG_DRY";

/// Index of a reason counter.
#[inline(always)]
pub const fn reason_index(slot: u32, direction: u8, reason: u8, verdict: u8) -> u32 {
    ((slot * 2 + (direction as u32 & 1)) * crate::reason::REASON_SLOTS + (reason as u32 & 63)) * 2
        + (verdict as u32 & 1)
}
