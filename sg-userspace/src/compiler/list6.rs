//! A few IPv6 prefixes as a list inside the flat value, longest first: most
//! policies name no more, and to compare a few is cheaper than to ask a trie.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use sg_common::policy::MAX_LIST6;

/// One prefix: address, mask, class, as the program loads them.
pub type Entry = [u64; 5];

fn words(address: u128) -> [u64; 2] {
    let bytes = address.to_be_bytes();
    [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i])))
}

/// The list; `None` when it would be long.
pub fn build(prefixes: impl IntoIterator<Item = (Ipv6Net, u16)>) -> Option<Vec<Entry>> {
    let mut all: Vec<(Ipv6Net, u16)> = prefixes.into_iter().collect();
    if all.len() > MAX_LIST6 {
        return None;
    }
    all.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
    Some(
        all.into_iter()
            .map(|(net, class)| {
                let [a0, a1] = words(Ipv6Addr::to_bits(net.network()));
                let [m0, m1] = words(Ipv6Addr::to_bits(net.netmask()));
                [a0, a1, m0, m1, u64::from(class)]
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_first_and_masks_in_network_order() {
        let nets = [("::/0", 1), ("2001:db8::/32", 2), ("2001:db8::7/128", 3)];
        let list = build(nets.map(|(n, c)| (n.parse().unwrap(), c))).unwrap();
        assert_eq!(list.iter().map(|e| e[4]).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(list[1][2].to_ne_bytes(), [255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(list[2], [0, 0, 0, 0, 1]);
        let many = (0..=MAX_LIST6 as u128).map(|i| (Ipv6Net::new_assert(Ipv6Addr::from_bits(i), 128), 1));
        assert!(build(many).is_none());
    }
}
