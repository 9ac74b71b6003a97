//! Prefixes of either family, and those that every policy knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sg_common::{addr::Addr, policy::LpmData};

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

/// A prefix as the trie holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Kind and address, host bits zero.
    pub data: LpmData,
    /// Length within the family.
    pub length: u8,
}

/// A prefix of either family, host bits zero. Ordered by family and address,
/// shorter first: one comes before all that lie inside it, and these follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Net {
    /// IPv6.
    v6: bool,
    /// The address from the highest bit on, in both families.
    bits: u128,
    /// Length within the family.
    length: u8,
}

impl Net {
    /// Bits of the family's addresses.
    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn mask(length: u8) -> u128 {
        if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) }
    }

    /// Whether it is IPv4.
    pub fn is_v4(&self) -> bool {
        !self.v6
    }

    /// Whether it is one address.
    pub fn is_host(&self) -> bool {
        self.length == self.width()
    }

    /// Length within the family.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether another one lies inside it, or is the same.
    pub fn contains(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.length <= other.length && other.bits & Self::mask(self.length) == self.bits
    }

    /// The one around it that is so long.
    #[must_use]
    pub fn around(&self, length: u8) -> Self {
        Self { bits: self.bits & Self::mask(length), length, ..*self }
    }

    /// The last of those inside it, in order.
    #[must_use]
    pub fn last(&self) -> Self {
        let rest = if self.v6 { !0 } else { !(u128::MAX >> 32) };
        Self { bits: self.bits | (rest & !Self::mask(self.length)), length: self.width(), ..*self }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        if self.v6 {
            Ipv6Addr::from_bits(self.bits).into()
        } else {
            Ipv4Addr::from_bits((self.bits >> 96) as u32).into()
        }
    }

    /// Its first address as the data plane holds it.
    pub fn addr(&self) -> Addr {
        self.address().into()
    }

    /// As the trie holds it.
    pub fn prefix(&self, local: bool) -> Prefix {
        Prefix { data: LpmData::new(&self.addr(), !self.v6, local), length: self.length }
    }

    /// As an IPv4 prefix.
    pub fn v4(&self) -> Option<Ipv4Net> {
        (!self.v6).then(|| Ipv4Net::new_assert(Ipv4Addr::from_bits((self.bits >> 96) as u32), self.length))
    }

    /// As an IPv6 prefix.
    pub fn v6(&self) -> Option<Ipv6Net> {
        self.v6.then(|| Ipv6Net::new_assert(Ipv6Addr::from_bits(self.bits), self.length))
    }
}

impl From<IpNet> for Net {
    fn from(net: IpNet) -> Self {
        let bits = match net.addr() {
            IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
            IpAddr::V6(a) => a.to_bits(),
        };
        let length = net.prefix_len();
        Self { v6: matches!(net, IpNet::V6(_)), bits: bits & Self::mask(length), length }
    }
}

impl From<IpAddr> for Net {
    fn from(address: IpAddr) -> Self {
        IpNet::from(address).into()
    }
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

    #[test]
    fn what_lies_inside_follows() {
        let net = |text: &str| Net::from(text.parse::<IpNet>().unwrap());
        for (outer, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0/8", "10.0.0.0/32", "10.255.255.255/32"], ["9.255.255.255/32", "11.0.0.0/8"]),
            ("::/0", ["::/0", "::/128", "ffff::/16"], ["0.0.0.0/0", "255.255.255.255/32"]),
            (
                "2001:db8::/32",
                ["2001:db8::/33", "2001:db8::1/128", "2001:db8:ffff::/48"],
                ["2001:db9::/32", "2001::/16"],
            ),
        ] {
            let outer = net(outer);
            for n in inside.map(net) {
                assert!(outer.contains(&n) && (outer..=outer.last()).contains(&n), "{n:?}");
                assert_eq!(n.around(outer.length()), outer);
            }
            for n in outside.map(net) {
                assert!(!outer.contains(&n) && !(outer..=outer.last()).contains(&n), "{n:?}");
            }
        }
        assert_eq!(net("10.1.2.3/8").address(), IpAddr::from([10, 0, 0, 0]));
        assert_eq!(net("10.1.2.0/23").v4(), "10.1.2.0/23".parse().ok());
        assert_eq!(net("2001:db8::/33").v6(), "2001:db8::/33".parse().ok());
    }
}
