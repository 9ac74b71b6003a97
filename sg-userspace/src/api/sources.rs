//! Where connections come from: one address has no more than its share of them, so
//! that nobody is kept out by who opens many.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Whom an address stands for: who has one of these has all of them.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        own if own.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Connections by who has them.
#[derive(Clone, Debug)]
pub struct Sources {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub struct Held {
    of: IpAddr,
    sources: Sources,
}

impl Sources {
    /// None yet, and this many of one address at most.
    pub fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    /// The most that one address has.
    pub fn most(&self) -> usize {
        self.most
    }

    /// One more, unless its address has all that it may have.
    pub fn take(&self, from: IpAddr) -> Option<Held> {
        let of = whole(from);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(of).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Held { of, sources: self.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.sources.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_gives_it_back() {
        let sources = Sources::new(2);
        let take = |text: &str| sources.take(text.parse().unwrap());
        let (first, second) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_none() && take("192.0.2.2").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        // Whoever has one loopback address, or one of a /64, has all.
        let own = [take("127.0.0.1").unwrap(), take("127.9.9.9").unwrap()];
        assert!(take("::1").is_none() && take("127.0.0.1").is_none());
        let far = [take("2001:db8::1").unwrap(), take("2001:db8::ffff:1").unwrap()];
        assert!(take("2001:db8::2").is_none() && take("2001:db8:0:1::1").is_some());
        drop((second, own, far));
        assert!(sources.held.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
