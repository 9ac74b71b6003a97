//! Live TCP connections and connected UDP sockets of this machine, by
//! sock_diag(7), and the ports that listen.

use std::{collections::HashMap, io, net::IpAddr};

use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    constants::{
        AF_INET, AF_INET6, IPPROTO_TCP, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1,
        TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT,
    },
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use sg_common::flow::seen;

use super::{ESTABLISHED, Seen, netlink::Netlink};

/// One end of a connection: address and port.
pub type End = (IpAddr, u16);

/// Protocol number of TCP.
pub const TCP: u8 = IPPROTO_TCP;

/// States of TCP in which the kernel resets what it closes, or has only begun.
const OPEN: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE_WAIT);

/// A connected socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// 6 or 17.
    pub protocol: u8,
    /// Its own end.
    pub local: (IpAddr, u16),
    /// The other end.
    pub remote: (IpAddr, u16),
    /// Index of the device it is bound to; 0 for none.
    pub device: u32,
    /// What its directions have shown.
    pub seen: Seen,
    /// Whether the connection is established; else its handshake is under way.
    pub established: bool,
    /// Its inode, by which processes name it; 0 for none.
    pub inode: u32,
}

/// Ports that take connections.
#[derive(Clone, Debug, Default)]
pub struct Listeners(HashMap<(u8, u16), Vec<Listener>>);

#[derive(Clone, Copy, Debug)]
struct Listener {
    addr: IpAddr,
    v6_only: bool,
}

impl Listeners {
    /// Adds one.
    pub fn add(&mut self, protocol: u8, (addr, port): (IpAddr, u16), v6_only: bool) {
        self.0.entry((protocol, port)).or_default().push(Listener { addr, v6_only });
    }

    /// Whether a socket takes connections at this end.
    pub fn has(&self, protocol: u8, (addr, port): (IpAddr, u16)) -> bool {
        self.0.get(&(protocol, port)).is_some_and(|all| {
            all.iter().any(|l| {
                let wildcard =
                    l.addr.is_unspecified() && (l.addr.is_ipv4() == addr.is_ipv4() || (l.addr.is_ipv6() && !l.v6_only));
                l.addr == addr || wildcard
            })
        })
    }
}

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Connected ones.
    pub connected: Vec<Socket>,
    /// Those that take connections.
    pub listeners: Listeners,
    /// Whether all could be read.
    pub complete: bool,
}

/// What a TCP state says that was sent: inbound, outbound. `None` where nothing lives.
const fn seen_of(state: u8) -> Option<Seen> {
    const SYN: u8 = seen::ANY | seen::SYN;
    const BOTH: u8 = SYN | seen::ANSWERED;
    const FIN: u8 = BOTH | seen::FIN;
    Some(match state {
        TCP_ESTABLISHED => ESTABLISHED,
        TCP_SYN_SENT => [0, SYN],
        TCP_SYN_RECV => [SYN, SYN],
        TCP_FIN_WAIT1 | TCP_FIN_WAIT2 => [BOTH, FIN],
        TCP_CLOSE_WAIT => [FIN, BOTH],
        TCP_LAST_ACK | TCP_CLOSING => [FIN, FIN],
        _ => return None,
    })
}

/// An IPv4 address that an IPv6 socket uses is one.
fn plain(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}

fn question(family: u8, protocol: u8, states: StateFlags, socket_id: SocketId) -> SockDiagMessage {
    let extensions = ExtensionFlags::empty();
    SockDiagMessage::InetRequest(InetRequest { family, protocol, extensions, states, socket_id })
}

/// Closes TCP connections of this machine: its stack sends the other end a reset, and who
/// has the socket gets `ECONNABORTED`. `wanted` is asked with both ends and the device that a
/// socket is bound to, 0 for none. Returns the ends of those closed, and what went wrong first.
pub fn close(wanted: impl Fn(End, End, u32) -> bool) -> (Vec<(End, End)>, io::Result<()>) {
    let mut found = Vec::new();
    let listed = Netlink::open(NETLINK_SOCK_DIAG).and_then(|netlink| {
        for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            netlink.list(question(family, IPPROTO_TCP, OPEN, any), |message| {
                if let SockDiagMessage::InetResponse(socket) = message {
                    let id = &socket.header.socket_id;
                    let local = (plain(id.source_address), id.source_port);
                    let remote = (plain(id.destination_address), id.destination_port);
                    if wanted(local, remote, id.interface_id) {
                        found.push(((local, remote), family, id.clone()));
                    }
                }
            })?;
        }
        Ok(netlink)
    });
    let (mut closed, mut failed) = (Vec::new(), None);
    let netlink = match listed {
        Ok(netlink) => netlink,
        Err(e) => return (closed, Err(e)),
    };
    for (ends, family, id) in found {
        // By its cookie, too: whatever has its ends by now, such as who listens there, is not meant.
        match netlink.order(SockDiagDestroy::new(question(family, IPPROTO_TCP, OPEN, id))) {
            Ok(()) => closed.push(ends),
            // It has ended meanwhile.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {}
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    (closed, failed.map_or(Ok(()), Err))
}

impl Sockets {
    /// Asks the kernel for the sockets of one protocol, of both families. What is
    /// there all the while is among them.
    ///
    /// # Errors
    /// `ENOENT` from a kernel without `CONFIG_INET_TCP_DIAG` or `CONFIG_INET_UDP_DIAG`, or what it says.
    pub fn read(&mut self, protocol: u8) -> io::Result<()> {
        let netlink = Netlink::open(NETLINK_SOCK_DIAG)?;
        for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let states = StateFlags::all().difference(StateFlags::TIME_WAIT);
            netlink.list(question(family, protocol, states, socket_id), |message| {
                if let SockDiagMessage::InetResponse(socket) = message {
                    self.add(protocol, &socket);
                }
            })?;
        }
        Ok(())
    }

    fn add(&mut self, protocol: u8, socket: &InetResponse) {
        let (state, id) = (socket.header.state, &socket.header.socket_id);
        let local = (plain(id.source_address), id.source_port);
        let remote = (plain(id.destination_address), id.destination_port);
        let tcp = protocol == IPPROTO_TCP;
        if state == TCP_LISTEN || (!tcp && state == TCP_CLOSE) {
            let v6_only = socket.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
            // An end as it was bound: `::` also stands for IPv4.
            self.listeners.add(protocol, local, v6_only);
            return;
        }
        let seen =
            if tcp { seen_of(state) } else { (state == TCP_ESTABLISHED).then_some([seen::ANY | seen::ANSWERED; 2]) };
        if let Some(seen) = seen {
            let established = !matches!(state, TCP_SYN_SENT | TCP_SYN_RECV);
            let (device, inode) = (id.interface_id, socket.header.inode);
            self.connected.push(Socket { protocol, local, remote, device, seen, established, inode });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_sock_diag::constants::IPPROTO_UDP;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_port_listens_on_its_address_or_on_all() {
        let mut l = Listeners::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        l.add(6, (ip("10.0.0.1"), 80), false);
        l.add(6, (ip("::"), 443), false);
        l.add(6, (ip("::"), 444), true);
        l.add(17, (ip("0.0.0.0"), 53), false);
        assert!(l.has(6, (ip("10.0.0.1"), 80)) && !l.has(6, (ip("10.0.0.2"), 80)) && !l.has(17, (ip("10.0.0.1"), 80)));
        assert!(l.has(6, (ip("10.0.0.9"), 443)) && l.has(6, (ip("2001:db8::1"), 443)));
        assert!(!l.has(6, (ip("10.0.0.9"), 444)) && l.has(6, (ip("2001:db8::1"), 444)));
        assert!(l.has(17, (ip("10.0.0.9"), 53)) && !l.has(17, (ip("2001:db8::1"), 53)));
    }

    #[test]
    fn our_own_sockets_are_among_them() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let end = server.local_addr().unwrap();
        let client = TcpStream::connect(end).unwrap();
        let datagrams = UdpSocket::bind("[::1]:0").unwrap();
        datagrams.connect("[::1]:9").unwrap();
        // Mapped addresses are what they stand for.
        let narrow = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
        let mapped = TcpStream::connect(format!("[::ffff:127.0.0.1]:{}", end.port())).unwrap();
        let mut sockets = Sockets::default();
        sockets.read(IPPROTO_TCP).unwrap();
        sockets.read(IPPROTO_UDP).unwrap();
        let has = |protocol, local: std::net::SocketAddr| {
            let local = (plain(local.ip()), local.port());
            sockets.connected.iter().any(|s| s.protocol == protocol && s.local == local && s.established)
        };
        assert!(sockets.listeners.has(6, (end.ip(), end.port())));
        assert!(sockets.listeners.has(6, (end.ip(), narrow.local_addr().unwrap().port())));
        assert!(has(6, client.local_addr().unwrap()) && has(17, datagrams.local_addr().unwrap()));
        assert!(has(6, mapped.local_addr().unwrap()));
    }

    #[test]
    fn a_connection_is_closed_at_both_ends_and_who_listens_stays() {
        use std::io::{ErrorKind, Read};
        // Root alone may; where the tests are not, that is what is said.
        // SAFETY: no memory is passed.
        let root = unsafe { libc::geteuid() } == 0;
        for (listen, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let server = TcpListener::bind(listen).unwrap();
            let to = std::net::SocketAddr::new(to.parse().unwrap(), server.local_addr().unwrap().port());
            let pair = || (TcpStream::connect(to).unwrap(), server.accept().unwrap().0);
            let ((mut client, mut served), (mut other, _kept)) = (pair(), pair());
            let (ours, own) = (client.local_addr().unwrap(), plain(to.ip()));
            let (closed, result) =
                close(|local, remote, _| local == (own, to.port()) && remote == (plain(ours.ip()), ours.port()));
            if !root {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
                continue;
            }
            result.unwrap();
            assert_eq!(closed.len(), 1, "{listen}");
            let error = |end: &mut TcpStream| end.read(&mut [0; 1]).unwrap_err().kind();
            assert_eq!(error(&mut client), ErrorKind::ConnectionReset, "{listen}");
            assert_eq!(error(&mut served), ErrorKind::ConnectionAborted, "{listen}");
            other.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
            assert_eq!(error(&mut other), ErrorKind::WouldBlock, "{listen}: another connection");
            drop(pair());
        }
    }
}
