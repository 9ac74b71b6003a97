//! IPv4 prefixes as a multi-bit trie of four levels, a byte each, inside the
//! flat value: four plain loads in place of a hash and a trie of the kernel.
//!
//! A node is 256 half-words. One with [`TABLE4_NODE`] set names the next node,
//! any other is the class. Node 0 is the root.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use sg_common::policy::TABLE4_NODE;

/// Entries of a node.
pub const FANOUT: usize = 256;
/// Nodes that are worth their memory: 512 KiB. Past this the kernel's trie and
/// hash are asked, which need less.
pub const MAX_NODES: usize = 1024;

/// Builds the nodes. Prefixes are in order of address, shorter first, so that
/// one comes before what lies inside it. `None` past a bound.
pub fn build(prefixes: impl IntoIterator<Item = (Ipv4Net, u16)>) -> Option<Vec<u16>> {
    let mut table = vec![0u16; FANOUT];
    for (net, class) in prefixes {
        if class & TABLE4_NODE != 0 {
            return None;
        }
        let length = usize::from(net.prefix_len());
        let bytes = net.network().octets();
        let mut node = 0;
        let mut level = 0;
        while length > (level + 1) * 8 {
            node = child(&mut table, node * FANOUT + usize::from(bytes[level]))?;
            level += 1;
        }
        let first = node * FANOUT + usize::from(bytes[level]);
        let count = 1usize << ((level + 1) * 8 - length);
        for entry in table.get_mut(first..first + count)? {
            debug_assert!(*entry & TABLE4_NODE == 0, "a prefix came after one inside it");
            *entry = class;
        }
    }
    Some(table)
}

/// The node below an entry; made of the entry's class when there is none.
fn child(table: &mut Vec<u16>, entry: usize) -> Option<usize> {
    let value = table[entry];
    if value & TABLE4_NODE != 0 {
        return Some(usize::from(value & !TABLE4_NODE));
    }
    let node = table.len() / FANOUT;
    if node >= MAX_NODES {
        return None;
    }
    table.resize(table.len() + FANOUT, value);
    table[entry] = TABLE4_NODE | node as u16;
    Some(node)
}

/// A table inside a flat value, which may grow into spare nodes behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Byte offset of the root.
    pub at: usize,
    /// Nodes in use.
    pub nodes: usize,
    /// Nodes that there is room for.
    pub room: usize,
}

/// Paints prefixes over a table in a copy of the flat value, and finds the
/// writes that make the live one the same: new nodes whole, which nothing names
/// yet, and then one half-word each, of which every one has its last value.
#[derive(Debug)]
pub struct Painter<'a> {
    flat: &'a mut [u8],
    place: &'a mut Place,
    /// Nodes that the live table has.
    live: usize,
    /// Entries of live nodes as they were.
    before: BTreeMap<usize, u16>,
}

impl<'a> Painter<'a> {
    /// Begins.
    pub fn new(flat: &'a mut [u8], place: &'a mut Place) -> Self {
        Self { live: place.nodes, flat, place, before: BTreeMap::new() }
    }

    fn offset(&self, entry: usize) -> usize {
        self.place.at + entry * 2
    }

    fn get(&self, entry: usize) -> u16 {
        let at = self.offset(entry);
        u16::from_ne_bytes([self.flat[at], self.flat[at + 1]])
    }

    fn set(&mut self, entry: usize, value: u16) {
        let old = self.get(entry);
        if old == value {
            return;
        }
        if entry < self.live * FANOUT {
            self.before.entry(entry).or_insert(old);
        }
        let at = self.offset(entry);
        self.flat[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }

    /// Paints over a prefix, whatever lies inside it. `None` when no node is spare.
    pub fn paint(&mut self, net: Ipv4Net, class: u16) -> Option<()> {
        let length = usize::from(net.prefix_len());
        let bytes = net.network().octets();
        let (mut node, mut level) = (0, 0);
        while length > (level + 1) * 8 {
            let entry = node * FANOUT + usize::from(bytes[level]);
            let value = self.get(entry);
            if value == class {
                return Some(());
            }
            node = if value & TABLE4_NODE != 0 { usize::from(value & !TABLE4_NODE) } else { self.split(entry, value)? };
            level += 1;
        }
        let first = node * FANOUT + usize::from(bytes[level]);
        self.fill(first, 1 << ((level + 1) * 8 - length), class);
        Some(())
    }

    /// Makes a node below an entry, all of the entry's class.
    fn split(&mut self, entry: usize, class: u16) -> Option<usize> {
        let node = self.place.nodes;
        if node >= self.place.room {
            return None;
        }
        self.place.nodes += 1;
        for i in 0..FANOUT {
            self.set(node * FANOUT + i, class);
        }
        self.set(entry, TABLE4_NODE | node as u16);
        Some(node)
    }

    fn fill(&mut self, first: usize, count: usize, class: u16) {
        for entry in first..first + count {
            let value = self.get(entry);
            if value & TABLE4_NODE == 0 {
                self.set(entry, class);
            } else {
                self.fill(usize::from(value & !TABLE4_NODE) * FANOUT, FANOUT, class);
            }
        }
    }

    /// The writes: offset and bytes of the new nodes, offset and value of entries.
    #[expect(clippy::type_complexity, reason = "two lists of pairs")]
    pub fn finish(self) -> (Option<(usize, Vec<u8>)>, Vec<(usize, u16)>) {
        let (from, to) = (self.offset(self.live * FANOUT), self.offset(self.place.nodes * FANOUT));
        let nodes = (from < to).then(|| (from, self.flat[from..to].to_vec()));
        let changed = self.before.iter().map(|(entry, old)| (*entry, *old, self.get(*entry)));
        let entries = changed.filter(|(_, old, new)| old != new).map(|(e, _, new)| (self.offset(e), new)).collect();
        (nodes, entries)
    }
}

/// What the program's loads find.
pub fn lookup(table: &[u16], address: Ipv4Addr) -> u16 {
    let mut node = 0;
    for byte in address.octets() {
        let entry = table[node * FANOUT + usize::from(byte)];
        if entry & TABLE4_NODE == 0 {
            return entry;
        }
        node = usize::from(entry & !TABLE4_NODE);
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn what_lies_inside_overrides() {
        let nets = [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.2.0/23", 3), ("10.1.3.7/32", 4), ("10.1.3.8/29", 0)];
        let table = build(nets.map(|(n, c)| (net(n), c))).unwrap();
        for (address, class) in
            [("9.9.9.9", 1), ("10.9.9.9", 2), ("10.1.2.255", 3), ("10.1.3.6", 3), ("10.1.3.7", 4), ("10.1.3.9", 0)]
        {
            assert_eq!(lookup(&table, address.parse().unwrap()), class, "{address}");
        }
        assert_eq!(build([]).unwrap(), vec![0; FANOUT]);
    }

    #[test]
    fn too_many_nodes_and_too_high_a_class_are_declined() {
        let hosts = |n: u32| (0..n).map(|i| (Ipv4Net::new_assert(Ipv4Addr::from(i << 8), 32), 1));
        assert!(build(hosts(1000)).is_some());
        assert!(build(hosts(1100)).is_none());
        assert!(build([(net("10.0.0.0/8"), TABLE4_NODE)]).is_none());
    }

    proptest! {
        #[test]
        fn as_the_longest_prefix(raw in prop::collection::btree_map((any::<u32>(), 0u8..=32), 1u16..100, 0..60), seed in any::<[u32; 8]>()) {
            let nets: std::collections::BTreeMap<(Ipv4Addr, u8), u16> = raw
                .into_iter()
                .map(|((a, l), c)| ((Ipv4Net::new_assert(Ipv4Addr::from(a), l).network(), l), c))
                .collect();
            let table = build(nets.iter().map(|(&(a, l), &c)| (Ipv4Net::new_assert(a, l), c))).unwrap();
            let near = nets.keys().flat_map(|&(a, _)| [a.to_bits(), a.to_bits().wrapping_sub(1), a.to_bits() ^ 1]);
            for address in near.chain(seed).map(Ipv4Addr::from) {
                let longest = nets.iter().filter(|((a, l), _)| Ipv4Net::new_assert(*a, *l).contains(&address)).max_by_key(|((_, l), _)| *l);
                prop_assert_eq!(lookup(&table, address), longest.map_or(0, |(_, &c)| c), "{}", address);
            }
        }
    }
}
