//! How many flows may be confirmed, and how many are: see [`sg_common::quota`].

pub mod ledger;

use std::{
    collections::HashMap,
    hash::BuildHasher,
    io,
    net::IpAddr,
    os::fd::AsFd,
    sync::atomic::{Ordering, fence},
};

use ipnet::IpNet;
use sg_common::{
    addr::Addr,
    flow::FlowKey,
    quota::{CELLS, INTERFACES, MANAGEMENT, Part, Prefix, Quotas, REMOTES, RESERVE, TABLES, Usage, cells},
};

use self::ledger::Sums;
use super::{object::Maps, sys::Mapping};

/// What the administrator sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Confirmed flows of one interface and family; 0: whatever is in the table while there
    /// is one interface, half of it while there are more.
    pub interface: u32,
    /// Those that one remote may hold of one interface; 0: an eighth of the table.
    pub remote: u32,
    /// Remotes that no quota binds, at most [`MANAGEMENT`].
    pub management: Vec<IpNet>,
}

fn prefix(net: &IpNet) -> Prefix {
    let net = net.trunc();
    let v4 = matches!(net, IpNet::V4(_));
    let bits = u32::from(net.prefix_len()) + if v4 { 96 } else { 0 };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Prefix { first: net.addr().into(), mask: Addr(mask.to_be_bytes()), v4: u32::from(v4) }
}

impl Settings {
    /// The bounds for tables of so many flows, by family.
    pub fn quotas(&self, capacity: [u32; 2], interfaces: usize, seed: u32) -> Quotas {
        let least = capacity[0].min(capacity[1]);
        let or = |set: u32, default: u32| if set == 0 { default } else { set };
        let mut quotas = Quotas {
            table: capacity.map(|n| n - n / RESERVE),
            interface: or(self.interface, if interfaces > 1 { least / 2 } else { least }),
            remote: or(self.remote, least / 8),
            seed,
            ..Quotas::NONE
        };
        for (to, net) in quotas.management.iter_mut().zip(&self.management) {
            *to = prefix(net);
        }
        quotas
    }
}

/// What the settings say for so many interfaces. The seed stays what it was written as, or
/// is in the table that an earlier daemon left, since counts go by it.
///
/// # Errors
/// What the kernel says.
pub fn wanted(maps: &Maps, settings: &Settings, interfaces: usize, seed: Option<u32>) -> io::Result<Quotas> {
    let seed = match seed {
        Some(seed) => Some(seed),
        None => maps.quotas.get(&0)?.map(|q| q.seed).filter(|s| *s != 0),
    };
    // The keys of a hasher are the system's random numbers.
    let seed = seed.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0) as u32 | 1);
    Ok(settings.quotas([maps.flows4.capacity()?, maps.flows6.capacity()?], interfaces, seed))
}

/// Words of the counts.
const WORDS: usize = size_of::<Usage>() / 8;

/// The counts, shared with the program.
#[derive(Debug)]
pub struct Counts(Mapping);

impl Counts {
    /// Maps them.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn open(maps: &Maps) -> io::Result<Self> {
        Ok(Self(Mapping::new(maps.usage.as_fd(), size_of::<Usage>())?))
    }

    fn get(&self, part: Part, word: usize) -> u64 {
        self.0.words((part.first + word % part.words) * 8, 1).sum()
    }

    /// Confirmed flows of both families: IPv4, IPv6.
    pub fn tables(&self) -> [u64; 2] {
        [0, 1].map(|family| self.get(TABLES, family))
    }

    /// Those of an interface.
    pub fn interface(&self, slot: u32) -> [u64; 2] {
        [0, 1].map(|family| self.get(INTERFACES, slot as usize * 2 + family))
    }

    /// A slot begins anew; returns what that added.
    pub fn reset_interface(&self, slot: u32) -> Sums {
        let mut added = Sums::default();
        for (family, count) in self.interface(slot).into_iter().enumerate() {
            let at = INTERFACES.first + slot as usize * 2 + family;
            self.0.add(at * 8, count.wrapping_neg());
            added.add(at, count.wrapping_neg());
        }
        added
    }

    /// All counts added up, twice in a row.
    pub fn sums(&self) -> [Sums; 2] {
        let read = || Sums::of(self.0.words(0, WORDS));
        let first = read();
        // Nothing of the second is read before the first has been.
        fence(Ordering::SeqCst);
        [first, read()]
    }

    /// What a remote counts for, at least what it holds.
    pub fn remote(&self, zone: u32, remote: IpAddr, seed: u32) -> u64 {
        let [a, b] = cells(zone, &remote.into(), remote.is_ipv4(), seed);
        self.get(REMOTES, a as usize).min(self.get(REMOTES, CELLS + b as usize))
    }
}

/// Counts the tables, and sets right what the program has counted since the last
/// time; `slots` are those of the protected devices, by zone.
///
/// The program goes on counting meanwhile: what it adds is not undone. A flow that is
/// confirmed during the walk may be counted twice until the next time. Returns what it added.
///
/// # Errors
/// What the kernel says.
pub fn recount(maps: &Maps, slots: &HashMap<u32, u32>) -> io::Result<Sums> {
    let counts = Counts::open(maps)?;
    let seed = maps.quotas.get(&0)?.map_or(0, |q| q.seed);
    let before: Vec<u64> = counts.0.words(0, WORDS).collect();
    let mut truth = vec![0u64; WORDS];
    let mut count = |key: &FlowKey, family: usize| {
        truth[TABLES.first + family] += 1;
        if let Some(slot) = slots.get(&key.zone) {
            truth[INTERFACES.first + (*slot as usize * 2 + family) % INTERFACES.words] += 1;
        }
        let [a, b] = cells(key.zone, &key.remote, family == 0, seed);
        truth[REMOTES.first + a as usize] += 1;
        truth[REMOTES.first + CELLS + b as usize] += 1;
    };
    maps.flows4.each(|key, _| count(&(*key).into(), 0))?;
    maps.flows6.each(|key, _| count(key, 1))?;
    let mut added = Sums::default();
    for (i, (old, new)) in before.iter().zip(&truth).enumerate().filter(|(_, (old, new))| old != new) {
        counts.0.add(i * 8, new.wrapping_sub(*old));
        added.add(i, new.wrapping_sub(*old));
    }
    Ok(added)
}

/// Whom the quotas hold to be one remote: an IPv4 address, or the IPv6 network of 64
/// bits that an address is in.
pub fn remote_of(address: IpAddr) -> IpNet {
    let net = match address {
        IpAddr::V4(_) => IpNet::from(address),
        IpAddr::V6(_) => IpNet::new(address, 64).unwrap_or_else(|_| IpNet::from(address)),
    };
    net.trunc()
}

const _: () = assert!(MANAGEMENT == 16, "sgd.toml says so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_their_own_family() {
        let covers = |net: &str, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            prefix(&net.parse().unwrap()).covers(&address.into(), address.is_ipv4())
        };
        assert!(covers("192.0.2.0/24", "192.0.2.255") && !covers("192.0.2.0/24", "192.0.3.0"));
        assert!(covers("192.0.2.7/32", "192.0.2.7") && !covers("192.0.2.7/32", "192.0.2.6"));
        assert!(covers("0.0.0.0/0", "8.8.8.8") && !covers("0.0.0.0/0", "2001:db8::1"));
        assert!(covers("::/0", "2001:db8::1") && !covers("::/0", "8.8.8.8"));
        assert!(covers("2001:db8::/63", "2001:db8:0:1::5") && !covers("2001:db8::/63", "2001:db8:0:2::5"));
        assert!(covers("192.0.2.77/24", "192.0.2.1"), "bits behind the prefix do not count");
        for address in ["8.8.8.8", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            let address: IpAddr = address.parse().unwrap();
            assert!(!Quotas::NONE.is_management(&address.into(), address.is_ipv4()), "{address}");
        }
    }

    #[test]
    fn defaults_are_parts_of_the_table() {
        let quotas = |interfaces| Settings::default().quotas([65_536, 32_768], interfaces, 1);
        assert_eq!(quotas(1).table, [61_440, 30_720]);
        assert_eq!((quotas(1).interface, quotas(2).interface, quotas(2).remote), (32_768, 16_384, 4096));
        let set = Settings { interface: 7, remote: 5, management: Vec::new() };
        assert_eq!((set.quotas([64; 2], 9, 1).interface, set.quotas([64; 2], 9, 1).remote), (7, 5));
    }

    #[test]
    fn a_network_of_64_bits_is_one_remote() {
        let of = |zone, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            cells(zone, &address.into(), address.is_ipv4(), 99)
        };
        assert_eq!(of(1, "2001:db8::1"), of(1, "2001:db8::ffff:1"));
        assert_ne!(of(1, "2001:db8::1"), of(1, "2001:db8:0:1::1"));
        assert_ne!(of(1, "192.0.2.1"), of(1, "192.0.2.2"));
        assert_ne!(of(1, "192.0.2.1"), of(2, "192.0.2.1"));
        assert_eq!(remote_of("2001:db8::1".parse().unwrap()).to_string(), "2001:db8::/64");
    }

    /// Cells are spread evenly, or strangers would pay for each other.
    #[test]
    fn few_remotes_share_a_cell() {
        for (row, seed) in [(0, 1), (1, 1), (0, 0x5eed), (1, 0x5eed)] {
            let mut load = vec![0u32; CELLS];
            for i in 0..CELLS as u32 {
                let remote = IpAddr::from((0xc000_0200 + i).to_be_bytes());
                load[cells(1, &remote.into(), true, seed)[row] as usize] += 1;
            }
            let empty = load.iter().filter(|n| **n == 0).count();
            assert!(load.iter().all(|n| *n <= 12) && empty < CELLS * 2 / 5, "{empty} of {CELLS} are empty");
        }
    }
}
