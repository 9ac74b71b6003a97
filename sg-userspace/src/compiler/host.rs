//! The compiled tables, asked on the host by the same code that runs in the
//! kernel.

use std::collections::{BTreeSet, HashMap, HashSet};

use sg_common::{
    addr::Addr,
    flow::{Flow, FlowKey, FlowKey4, FlowKeys, FragEntry, FragKey},
    generation::{Generation, OwnKey},
    policy::{AddrClass, LpmData, RuleRow},
};
use sg_ebpf::{
    classify::{Query, classify},
    tables::{Addresses, Flat, FlowTable, Without},
};

use super::{Tables, addresses::Prefix, live::Step};

/// One policy in memory.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    flat: Vec<u8>,
    hosts: HashMap<Addr, AddrClass>,
    prefixes: HashMap<Prefix, AddrClass>,
    lengths: BTreeSet<u8>,
}

impl HostPolicy {
    /// The tables of a policy.
    pub fn new(tables: &Tables) -> Self {
        Self {
            flat: tables.flat.clone(),
            hosts: tables.hosts.iter().copied().collect(),
            prefixes: tables.prefixes.iter().copied().collect(),
            lengths: tables.prefixes.iter().map(|(p, _)| p.length).collect(),
        }
    }

    /// Takes one write of a change.
    pub fn step(&mut self, step: &Step) {
        let mut put = |at: u32, bytes: &[u8]| self.flat[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        match step {
            Step::Bytes { at, bytes } => put(*at, bytes),
            Step::Half { at, value } => put(*at, &value.to_ne_bytes()),
            Step::Word { at, value } => put(*at, &value.to_ne_bytes()),
            Step::Prefix { prefix, class } => {
                self.prefixes.insert(*prefix, *class);
                self.lengths.insert(prefix.length);
            }
            Step::NoHost(addr) => drop(self.hosts.remove(addr)),
        }
    }

    /// The row that decides.
    pub fn decide(&self, query: &Query) -> Option<RuleRow> {
        classify(self, self, query)
    }

    fn read<const N: usize>(&self, offset: u32) -> [u8; N] {
        // Aligned as the kernel's masks do it.
        let at = offset as usize & !(N - 1);
        self.flat.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }
}

impl Flat for HostPolicy {
    fn u16(&self, offset: u32) -> u16 {
        u16::from_ne_bytes(self.read(offset))
    }
    fn u32(&self, offset: u32) -> u32 {
        u32::from_ne_bytes(self.read(offset))
    }
    fn u64(&self, offset: u32) -> u64 {
        u64::from_ne_bytes(self.read(offset))
    }
}

impl Addresses for HostPolicy {
    fn host(&self, addr: &Addr) -> Option<AddrClass> {
        self.hosts.get(addr).copied()
    }
    fn prefix(&self, addr: &Addr, v4: bool, local: bool) -> Option<AddrClass> {
        let whole = LpmData::new(addr, v4, local);
        let max = if v4 { 32 } else { 128 };
        let lengths = self.lengths.iter().rev().filter(|l| **l <= max);
        let mut found = lengths.filter_map(|&length| {
            let bits = u128::from_be_bytes(whole.addr);
            let kept = if length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(length))) };
            self.prefixes.get(&Prefix { data: LpmData { addr: kept.to_be_bytes(), ..whole }, length })
        });
        found.next().copied()
    }
}

/// Tables of one interface without any flow: what the pipeline says of a packet alone.
#[derive(Clone, Debug)]
pub struct HostTables {
    /// The policy.
    pub policy: HostPolicy,
    /// Own addresses of a guest.
    pub own: HashSet<Addr>,
}

impl sg_ebpf::tables::Tables for HostTables {
    fn decide(&self, _: &Generation, query: &Query) -> Option<RuleRow> {
        self.policy.decide(query)
    }
    fn confirmed4(&self, _: &FlowKey4, _: bool) -> Result<&Flow, Without> {
        Err(Without::AnyFlow)
    }
    fn confirmed6(&self, _: &FlowKey, _: bool) -> Result<&Flow, Without> {
        Err(Without::AnyFlow)
    }
    fn flow(&self, _: &FlowKeys) -> Option<&Flow> {
        None
    }
    fn insert(&self, _: FlowTable, _: &FlowKeys, _: &Flow) -> bool {
        true
    }
    fn remove(&self, _: FlowTable, _: &FlowKeys) {}
    fn fragment(&self, _: &FragKey) -> Option<FragEntry> {
        None
    }
    fn remember(&self, _: &FragKey, _: &FragEntry) {}
    fn owns(&self, key: &OwnKey) -> bool {
        self.own.contains(&key.addr)
    }
}
