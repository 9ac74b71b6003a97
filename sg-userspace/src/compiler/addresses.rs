//! Prefixes to address classes: two addresses are in one class when the same
//! rules can match them, in both directions.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sg_common::{
    addr::Addr,
    policy::{AddrClass, LpmData, kind},
};

use super::{
    CompileError,
    bits::{Bits, Classes},
    list6, multibit,
};
use crate::effective::Entry;

/// All addresses of each family.
pub const FAMILIES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

const fn v4(a: u8, b: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length))
}
const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last), length))
}

/// Addresses that are not public: the set of [`Addr::is_private`].
pub const PRIVATE: [IpNet; 9] = [
    v4(10, 0, 8),
    v4(172, 16, 12),
    v4(192, 168, 16),
    v4(100, 64, 10),
    v4(127, 0, 8),
    v4(169, 254, 16),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
    v6(0, 1, 128),
];

/// A prefix that an entry matches, or does not match although one around it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The prefix.
    pub net: IpNet,
    /// Whether the entry matches it.
    pub set: bool,
}

/// A prefix as the trie holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Kind and address, host bits zero.
    pub data: LpmData,
    /// Length within the family.
    pub length: u8,
}

/// Classes of one address field.
#[derive(Debug, Default)]
pub struct AddressTables {
    nodes: Vec<(IpNet, AddrClass)>,
    /// Rules by class number, by direction; class 0 is an address no prefix covers.
    pub classes: [Vec<Bits>; 2],
}

type Changes = [Vec<(usize, bool)>; 2];

impl AddressTables {
    /// Finds the classes of a field, given the prefixes each entry names.
    pub fn build(entries: [&Vec<Entry>; 2], patterns: impl Fn(&Entry) -> Vec<Pattern>) -> Result<Self, CompileError> {
        // Ordered by address, shorter first: a prefix comes before what lies inside it.
        let mut changes: BTreeMap<(bool, IpAddr, u8), Changes> = BTreeMap::new();
        for (side, entries) in entries.into_iter().enumerate() {
            for (i, entry) in entries.iter().enumerate() {
                for Pattern { net, set } in patterns(entry) {
                    let key = (net.addr().is_ipv6(), net.network(), net.prefix_len());
                    changes.entry(key).or_default()[side].push((i, set));
                }
            }
        }
        let mut numbers = [Classes::default(), Classes::default()];
        for classes in &mut numbers {
            classes.number(Bits::default());
        }
        let mut nodes = Vec::new();
        let mut around: Vec<(IpNet, [Bits; 2], AddrClass)> = Vec::new();
        for ((_, address, length), change) in changes {
            let net = IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address));
            while around.last().is_some_and(|(outer, ..)| !outer.contains(&net)) {
                around.pop();
            }
            let (mut sets, outer) = around.last().map_or_else(Default::default, |(_, sets, class)| (*sets, *class));
            for (set, change) in sets.iter_mut().zip(&change) {
                for &(i, on) in change {
                    if on { set.set(i) } else { set.clear(i) }
                }
            }
            let numbered = [numbers[0].number(sets[0]), numbers[1].number(sets[1])];
            for number in numbered {
                if number > u32::from(u16::MAX) {
                    return Err(CompileError::Classes { classes: number as usize + 1, what: "addresses" });
                }
            }
            let class = AddrClass { class: numbered.map(|n| n as u16) };
            if class != outer {
                nodes.push((net, class));
            }
            around.push((net, sets, class));
        }
        let [inbound, outbound] = numbers;
        Ok(Self { nodes, classes: [inbound.sets, outbound.sets] })
    }

    /// The IPv4 addresses of one direction, if the table is worth its memory.
    pub fn table4(&self, side: usize) -> Option<Vec<u16>> {
        multibit::build(self.nodes.iter().filter_map(|(net, class)| match net {
            IpNet::V4(net) => Some((*net, class.class[side])),
            IpNet::V6(_) => None,
        }))
    }

    /// The IPv6 prefixes of one direction, if they are few.
    pub fn list6(&self, side: usize) -> Option<Vec<list6::Entry>> {
        list6::build(self.nodes.iter().filter_map(|(net, class)| match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some((*net, class.class[side])),
        }))
    }

    /// Hosts for the hash, and the rest for the trie.
    #[expect(clippy::type_complexity, reason = "two lists of pairs")]
    pub fn split(self, local: bool) -> (Vec<(Addr, AddrClass)>, Vec<(Prefix, AddrClass)>) {
        let is_host = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let hosts = self.nodes.iter().filter(|(net, _)| is_host(net)).map(|(net, c)| (net.addr().into(), *c)).collect();
        let prefixes =
            self.nodes.iter().filter(|(net, _)| !is_host(net)).map(|(net, c)| (prefix(net, local), *c)).collect();
        (hosts, prefixes)
    }

    /// All of them for the trie.
    pub fn into_prefixes(self, local: bool) -> Vec<(Prefix, AddrClass)> {
        self.nodes.iter().map(|(net, c)| (prefix(net, local), *c)).collect()
    }
}

fn prefix(net: &IpNet, local: bool) -> Prefix {
    let v4 = matches!(net, IpNet::V4(_));
    let data = LpmData::new(&net.network().into(), v4, local);
    debug_assert!(data.kind[0] <= kind::LOCAL_V6);
    Prefix { data, length: net.prefix_len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_set_is_the_one_of_the_data_plane() {
        for net in PRIVATE {
            for ip in [net.network(), net.broadcast()] {
                assert!(Addr::from(ip).is_private(ip.is_ipv4()), "{ip}");
            }
        }
        for ip in ["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "::2"]
        {
            let ip: IpAddr = ip.parse().unwrap();
            assert!(!Addr::from(ip).is_private(ip.is_ipv4()), "{ip}");
        }
    }
}
