//! Sets of addresses as people write them: prefixes, some of them with exceptions.
//!
//! Of all ways to write a set as prefixes, each less at most `MOST` prefixes that lie
//! inside it, this finds one that names the fewest: everything but one address is
//! `0.0.0.0/0 except 100.100.100.200/32`, not thirty-two prefixes. Where plain prefixes
//! are no longer, they are taken.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::lint::lines::{Range, address, last};

/// Exceptions that one prefix may have.
const MOST: usize = 8;

/// A prefix without some others that lie inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peers {
    /// The prefix.
    pub prefix: IpNet,
    /// What is left out of it; ascending, none inside another.
    pub except: Vec<IpNet>,
}

impl Peers {
    /// Whether it has an address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.prefix.contains(&ip) && !self.except.iter().any(|net| net.contains(&ip))
    }

    /// Which part of all addresses of the family it is.
    pub fn share(&self) -> f64 {
        let of = |net: &IpNet| (-f64::from(net.prefix_len())).exp2();
        of(&self.prefix) - self.except.iter().map(of).sum::<f64>()
    }

    /// Its ranges in order.
    pub fn ranges(&self) -> Vec<Range> {
        let (mut left, mut next) = (Vec::new(), Some(ends(&self.prefix).0));
        let end = ends(&self.prefix).1;
        for (from, to) in self.except.iter().map(ends) {
            left.extend(next.filter(|start| *start < from).map(|start| (start, from - 1)));
            next = to.checked_add(1);
        }
        left.extend(next.filter(|start| *start <= end).map(|start| (start, end)));
        left
    }

    /// As listings show it.
    pub fn text(&self) -> String {
        let except: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        if except.is_empty() {
            self.prefix.to_string()
        } else {
            format!("{} except {}", self.prefix, except.join(", "))
        }
    }
}

/// The first and the last address of a prefix.
pub fn ends(net: &IpNet) -> Range {
    crate::lint::lines::range(*net).1
}

/// A prefix by its first address and its length; the width of the family is known.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    bits: u128,
    length: u8,
}

/// How a set looks in a part of the addresses.
struct Shape {
    /// The smallest prefix that has all of it.
    root: Prefix,
    /// The set.
    items: Vec<(Prefix, Vec<Prefix>)>,
    /// How many prefixes that names.
    cost: usize,
    /// What the root has beside it, unless that is too much.
    rest: Option<Vec<Prefix>>,
}

/// The prefixes of one family.
struct Family {
    v4: bool,
    width: u8,
}

impl Family {
    /// Addresses of a prefix but the first.
    fn span(&self, length: u8) -> u128 {
        let host = u32::from(self.width - length);
        if host == 128 { u128::MAX } else { (1 << host) - 1 }
    }

    /// The fewest prefixes that make up a range.
    fn cut(&self, (mut from, to): Range, prefixes: &mut Vec<Prefix>) {
        loop {
            let mut length = self.width;
            while length > 0 {
                let span = self.span(length - 1);
                if from & span != 0 || span > to - from {
                    break;
                }
                length -= 1;
            }
            prefixes.push(Prefix { bits: from, length });
            match from.checked_add(self.span(length)).filter(|end| *end < to) {
                Some(end) => from = end + 1,
                None => return,
            }
        }
    }

    /// The other half of the prefix around this one.
    fn sibling(&self, p: Prefix) -> Prefix {
        Prefix { bits: p.bits ^ (self.span(p.length) + 1), ..p }
    }

    fn shape(&self, prefixes: &[Prefix]) -> Shape {
        if let [one] = prefixes {
            return Shape { root: *one, items: vec![(*one, Vec::new())], cost: 1, rest: Some(Vec::new()) };
        }
        let (first, end) = (prefixes[0].bits, prefixes[prefixes.len() - 1].bits);
        let length = (u128::BITS - self.width as u32).abs_diff((first ^ end).leading_zeros()) as u8;
        let root = Prefix { bits: first & !self.span(length), length };
        let middle = root.bits + self.span(length + 1) + 1;
        let halves = prefixes.split_at(prefixes.partition_point(|p| p.bits < middle));
        let halves = [self.shape(halves.0), self.shape(halves.1)];
        // What each half of the root has beside the set.
        let lifted = halves.iter().map(|half| {
            let mut rest = half.rest.clone()?;
            let mut p = half.root;
            while p.length > length + 1 {
                rest.push(self.sibling(p));
                p = Prefix { bits: p.bits & !self.span(p.length - 1), length: p.length - 1 };
                if rest.len() > MOST {
                    return None;
                }
            }
            Some(rest)
        });
        let rest = lifted.collect::<Option<Vec<_>>>().map(|halves| halves.concat()).filter(|rest| rest.len() <= MOST);
        let cost = halves[0].cost + halves[1].cost;
        match rest {
            Some(rest) if 1 + rest.len() < cost => {
                Shape { root, cost: 1 + rest.len(), items: vec![(root, rest.clone())], rest: Some(rest) }
            }
            rest => {
                let [mut items, more] = halves.map(|half| half.items);
                items.extend(more);
                Shape { root, items, cost, rest }
            }
        }
    }

    fn net(&self, p: &Prefix) -> IpNet {
        // Lengths come from the family's width.
        IpNet::new(address(self.v4, p.bits), p.length).unwrap_or_else(|_| address(self.v4, p.bits).into())
    }
}

/// A set of addresses of one family, given by ranges in order that do not touch.
pub fn peers(v4: bool, ranges: &[Range]) -> Vec<Peers> {
    let family = Family { v4, width: if v4 { 32 } else { 128 } };
    let mut prefixes = Vec::new();
    for range in ranges {
        debug_assert!(range.1 <= last(v4));
        family.cut(*range, &mut prefixes);
    }
    if prefixes.is_empty() {
        return Vec::new();
    }
    let items = family.shape(&prefixes).items.into_iter().map(|(prefix, mut except)| {
        except.sort_unstable_by_key(|p| p.bits);
        Peers { prefix: family.net(&prefix), except: except.iter().map(|p| family.net(p)).collect() }
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<String> {
        let nets: Vec<IpNet> = texts.iter().map(|t| t.parse().unwrap()).collect();
        let ranges = super::super::lines::merged(nets.iter().map(ends).collect());
        peers(nets[0].addr().is_ipv4(), &ranges).iter().map(Peers::text).collect()
    }

    #[test]
    fn the_fewest_prefixes() {
        assert_eq!(of(&["10.0.0.0/9", "10.128.0.0/9"]), ["10.0.0.0/8"]);
        assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1"]), ["0.0.0.0/0"]);
        assert_eq!(of(&["::/1", "8000::/1"]), ["::/0"]);
        assert_eq!(of(&["10.0.0.0/8", "192.168.0.0/16"]), ["10.0.0.0/8", "192.168.0.0/16"]);
        assert_eq!(of(&["10.0.0.0/9", "10.192.0.0/10"]), ["10.0.0.0/9", "10.192.0.0/10"]);
    }

    #[test]
    fn exceptions_where_they_are_shorter() {
        let but = |v4: bool, at: u128| peers(v4, &[(0, at - 1), (at + 1, last(v4))]);
        let one = but(true, 0x6464_64c8);
        assert_eq!(one.iter().map(Peers::text).collect::<Vec<_>>(), ["0.0.0.0/0 except 100.100.100.200/32"]);
        assert_eq!(one[0].ranges(), [(0, 0x6464_64c7), (0x6464_64c9, last(true))]);
        assert_eq!(but(false, 1)[0].text(), "::/0 except ::1/128");
        assert!(one[0].share() < 1.0 && !one[0].contains("100.100.100.200".parse().unwrap()));
    }
}
