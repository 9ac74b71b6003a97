//! Connections of guests: this host has no socket of them, and says to both ends, in the name of
//! the other one, that it is over. What sequence numbers they believe is asked of the guest.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Read},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use sg_common::flow::FlowKey;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{ends, segment::Segment};
use crate::dataplane::adopt::sockets::{End, TCP};

/// How long it takes in all, at most: nothing else is done meanwhile.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the guest of some flows has to answer.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long who has been told is heard: what was under way meanwhile makes another reset necessary.
const AFTER: Duration = Duration::from_millis(10);
/// Connections that are reset in one go; those past it are only cut.
const MOST: usize = 4096;
/// Connections that are asked for at once, so that what comes back finds room.
const AT_ONCE: usize = 64;
/// Bytes for what comes back.
const ROOM: usize = 1 << 20;
/// Of a frame, what has all headers.
const HEAD: usize = 256;

/// Flows of guests that are to be reset, by the index of their device.
#[derive(Debug, Default)]
pub struct Guests(BTreeMap<u32, Vec<FlowKey>>);

/// A connection, from whichever end it is looked at.
fn pair((here, there): (End, End)) -> (End, End) {
    (here.min(there), here.max(there))
}

/// Whether this host can speak to both ends by its routes: not over a tag, nor by an address that
/// is of one link only.
fn is_routed(key: &FlowKey) -> bool {
    let of_a_link = |address: sg_common::addr::Addr| match IpAddr::from(address) {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    key.vlan_proto >> 8 == 0 && !of_a_link(key.local) && !of_a_link(key.remote)
}

impl Guests {
    /// Adds a flow of the guest behind a device, unless it is none of TCP or cannot be spoken to.
    pub fn add(&mut self, key: &FlowKey, device: u32) {
        if key.protocol() == TCP && is_routed(key) {
            self.0.entry(device).or_default().push(*key);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Resets them, as far as their guests answer: how many connections and how many flows of
    /// them that is, and what went wrong first.
    pub fn reset(&self) -> (usize, usize, io::Result<()>) {
        let mut done = HashSet::new();
        let result = self.try_reset(&mut done);
        let flows = self.0.values().flatten().filter(|key| done.contains(&pair(ends(key)))).count();
        (done.len(), flows, result)
    }

    fn try_reset(&self, done: &mut HashSet<(End, End)>) -> io::Result<()> {
        let (until, mouth) = (Instant::now() + LIMIT, Mouth::open()?);
        let (mut left, mut failed) = (MOST, None);
        for (device, flows) in &self.0 {
            let some = &flows[..flows.len().min(left)];
            left -= some.len();
            // What is wrong with one device is no reason to leave the others alone.
            if let Err(e) = one_device(*device, &mouth, some, until, done) {
                failed = failed.or(Some(e));
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn one_device(
    device: u32,
    mouth: &Mouth,
    flows: &[FlowKey],
    until: Instant,
    done: &mut HashSet<(End, End)>,
) -> io::Result<()> {
    let ear = ear(device)?;
    for some in flows.chunks(AT_ONCE) {
        let now = Instant::now();
        if now >= until {
            break;
        }
        one_go(&ear, mouth, some, until.min(now + PATIENCE), done)?;
    }
    Ok(())
}

/// Asks for, and resets, some connections of one guest.
fn one_go(
    mut ear: &Socket,
    mouth: &Mouth,
    flows: &[FlowKey],
    until: Instant,
    done: &mut HashSet<(End, End)>,
) -> io::Result<()> {
    let mut asked = HashSet::new();
    for key in flows.iter().filter(|key| !done.contains(&pair(ends(key)))) {
        let (local, remote) = ends(key);
        // Anything but what it waits for; nobody can tell it beforehand.
        let seq = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), key) as u32;
        // An end that there is no way to is only cut.
        if mouth.say(&Segment::probe(local, remote, seq)).is_ok() {
            asked.insert((local, remote));
        }
    }
    let (mut frame, mut told, mut until, mut all_said) = ([0; HEAD], HashSet::new(), until, false);
    loop {
        if asked.is_empty() && !all_said {
            if told.is_empty() {
                return Ok(());
            }
            (all_said, until) = (true, until.min(Instant::now() + AFTER));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Less would be no time, which is for ever.
        ear.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let length = match ear.read(&mut frame) {
            Ok(length) => length,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(e) => return Err(e),
        };
        let Some(answer) = Segment::read(&frame[..length]) else { continue };
        let ends = (answer.source, answer.destination);
        if answer.is_reset() {
            // It knows of no such connection.
            asked.remove(&ends);
        } else if answer.says_where()
            && (asked.remove(&ends) || told.contains(&ends))
            && answer.resets().iter().all(|reset| mouth.say(reset).is_ok())
        {
            told.insert(ends);
            done.insert(pair(ends));
        }
    }
}

/// Sends packets whose headers are written here.
struct Mouth {
    four: Socket,
    six: Socket,
}

impl Mouth {
    fn open() -> io::Result<Self> {
        let raw = |domain| {
            let socket = Socket::new(domain, Type::from(libc::SOCK_RAW), Some(Protocol::from(libc::IPPROTO_RAW)))?;
            // Who cannot be spoken to now, as nobody answers for its address, is not waited for.
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        Ok(Self { four: raw(Domain::IPV4)?, six: raw(Domain::IPV6)? })
    }

    fn say(&self, segment: &Segment) -> io::Result<()> {
        let (socket, to) = match segment.destination.0 {
            IpAddr::V4(to) => (&self.four, SocketAddr::from((to, 0))),
            IpAddr::V6(to) => (&self.six, SocketAddr::V6(SocketAddrV6::new(to, 0, 0, 0))),
        };
        socket.send_to(&segment.packet(), &to.into()).map(drop)
    }
}

/// Has a packet socket not hear what this host sends.
fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: an option of the size given, of a descriptor that is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of_val(&on) as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Hears what comes from the guest behind a device.
fn ear(device: u32) -> io::Result<Socket> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // Of no protocol until it is bound: it hears no other device.
    let socket = Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), None)?;
    socket.set_recv_buffer_size(ROOM)?;
    ignore_outgoing(&socket)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: all,
        sll_ifindex: device as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the storage is larger than the address, any bits of it are one, and the length is its own.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size_of::<libc::sockaddr_ll>() as u32;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vlan_proto: u32, local: &str, remote: &str) -> FlowKey {
        let of = |text: &str| text.parse::<IpAddr>().unwrap().into();
        FlowKey { zone: 1, vlan_proto, local: of(local), remote: of(remote), local_port: 1, remote_port: 2 }
    }

    #[test]
    fn who_cannot_be_spoken_to_is_left_alone() {
        let mut guests = Guests::default();
        for (vlan_proto, local, remote) in [
            (17, "10.0.0.1", "192.0.2.7"),
            (5 << 8 | 6, "10.0.0.1", "192.0.2.7"),
            (6, "169.254.0.1", "192.0.2.7"),
            (6, "2001:db8::1", "fe80::7"),
        ] {
            guests.add(&key(vlan_proto, local, remote), 3);
        }
        assert!(guests.is_empty());
        guests.add(&key(6, "10.0.0.1", "192.0.2.7"), 3);
        assert!(!guests.is_empty());
    }

    #[test]
    fn a_connection_is_one_from_both_ends() {
        let (here, there) = (key(6, "10.0.0.1", "10.0.0.2"), key(6, "10.0.0.2", "10.0.0.1"));
        let there = FlowKey { local_port: 2, remote_port: 1, ..there };
        assert_eq!(pair(ends(&here)), pair(ends(&there)));
    }
}
