//! What a stage may ask of the tables. The kernel maps implement it, and so
//! do tables in memory: the pipeline cannot tell which it runs on.

use sg_common::{
    addr::Addr,
    flow::{Direction, Flow, FlowKey, FlowKey4, FlowKeys, FragEntry, FragKey},
    generation::{Generation, OwnKey},
    policy::{AddrClass, RuleRow},
};

use crate::{classify::Query, verdict::Decision};

/// Which conntrack table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowTable {
    /// Confirmed flows; never evicts.
    Main,
    /// Unconfirmed flows by the initiating direction; least recently used goes first.
    Churn(Direction),
    /// Unconfirmed TCP flows that were picked up in their midst, where no flood of SYNs
    /// pushes them out: who had to wait for an answer lost its SYN's entry to the flood,
    /// and comes back with an ACK. Least recently used goes first.
    Probation,
}

/// What is known of a packet that has no confirmed flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// There is none, not even an unconfirmed one.
    AnyFlow,
    /// There may be an unconfirmed one.
    Confirmed,
}

/// Everything the pipeline asks and writes.
pub trait Tables {
    /// The row that decides a flow under the generation's policy, by [`crate::classify`]; `None` when the policy is missing.
    fn decide(&self, generation: &Generation, query: &Query) -> Option<RuleRow>;
    /// A confirmed IPv4 flow. A packet that is `likely` to have one is worth no
    /// question that only spares others the lookup.
    ///
    /// # Errors
    /// What is known without one.
    fn confirmed4(&self, key: &FlowKey4, likely: bool) -> Result<&Flow, Without>;
    /// A confirmed IPv6 flow. A packet that is `likely` to have one is worth no
    /// question that only spares others the lookup.
    ///
    /// # Errors
    /// What is known without one.
    fn confirmed6(&self, key: &FlowKey, likely: bool) -> Result<&Flow, Without>;
    /// A flow: confirmed, or not confirmed by either side.
    fn flow(&self, keys: &FlowKeys) -> Option<&Flow>;
    /// Adds a flow; false when that failed. The kernel's main table is reached by [`Self::confirm`] alone.
    fn insert(&self, table: FlowTable, keys: &FlowKeys, flow: &Flow) -> bool;
    /// Adds a flow to the main table, where an existing entry stays; false when the
    /// table is full, or a quota of its interface or remote admits no other one.
    fn confirm(&self, generation: &Generation, keys: &FlowKeys, flow: &Flow) -> bool {
        let _ = generation;
        self.insert(FlowTable::Main, keys, flow)
    }
    /// Takes a flow out.
    fn remove(&self, table: FlowTable, keys: &FlowKeys);
    /// A remembered first fragment.
    fn fragment(&self, key: &FragKey) -> Option<FragEntry>;
    /// Remembers a first fragment, replacing an older one.
    fn remember(&self, key: &FragKey, entry: &FragEntry);
    /// Whether an address belongs to the guest.
    fn owns(&self, key: &OwnKey) -> bool;
    /// A flow that begins has been decided: has the candidate decide it, too, where there is one.
    fn shadow(&self, generation: &Generation, query: &Query, decision: &Decision) {
        let _ = (generation, query, decision);
    }
    /// Whether somebody is to hear of a packet, and there is room to say so. What
    /// there is no room for is counted.
    fn tells(&self, generation: &Generation, query: &Query, decision: &Decision) -> bool {
        let _ = (generation, query, decision);
        false
    }
}

/// The address tables of one policy.
pub trait Addresses {
    /// Exact-host hash of remote addresses.
    fn host(&self, addr: &Addr) -> Option<AddrClass>;
    /// Longest-prefix match, among the local-side prefixes if `local`.
    fn prefix(&self, addr: &Addr, v4: bool, local: bool) -> Option<AddrClass>;
}

/// A flat policy value.
pub trait Flat {
    /// The half-word at a byte offset; an offset out of range reads as anything, never past the value.
    fn u16(&self, offset: u32) -> u16;
    /// The word at a byte offset.
    fn u32(&self, offset: u32) -> u32;
    /// The double word at a byte offset.
    fn u64(&self, offset: u32) -> u64;
}
