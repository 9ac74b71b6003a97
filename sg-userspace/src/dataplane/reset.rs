//! Connections that are reset before they are cut, so that both ends know at once. Those of
//! this host are closed by its own stack: the kernel sends the other end a reset, and the socket's
//! owner gets an error. For those of guests see `guests`. The reset has to leave as a packet of
//! the flow, so this is done while the verdict of before is still in force.

mod guests;
mod segment;

use std::{collections::HashMap, io, net::IpAddr};

use sg_common::flow::FlowKey;

use self::guests::Guests;
use super::{
    adopt::sockets::{End, TCP, close},
    flows::{self, Live},
    object::Maps,
    report::Resets,
};

/// Connections that are to be reset.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Those of this host.
    own: HashMap<(End, End), Asked>,
    guests: Guests,
}

/// What is known of one of them.
#[derive(Debug, Default)]
struct Asked {
    /// Flows that it is: one on each device that its packets cross, as of a bond and its slave.
    flows: usize,
    /// Devices that its socket may be bound to.
    devices: Vec<u32>,
    /// It has a live flow elsewhere, too, that stays: its packets have moved there.
    lives_on: bool,
}

/// Both ends of a flow, this machine's first.
fn ends(key: &FlowKey) -> (End, End) {
    ((IpAddr::from(key.local), key.local_port), (IpAddr::from(key.remote), key.remote_port))
}

impl Wanted {
    /// Adds a flow of the guest behind a device.
    pub fn add_guest(&mut self, key: &FlowKey, device: u32) {
        self.guests.add(key, device);
    }

    /// Adds a flow of this host, unless it is none of TCP. A socket of it that is bound to a device is bound
    /// to one of these.
    pub fn add(&mut self, key: &FlowKey, devices: &[u32]) {
        if key.protocol() == TCP {
            let asked = self.own.entry(ends(key)).or_default();
            asked.flows += 1;
            asked.devices.extend(devices);
        }
    }

    /// Takes note of a flow of one of them, if it stays. A socket with its ends that is bound to no device
    /// goes by the other one now, and is not what is cut.
    fn spare(&mut self, key: &FlowKey, stays: impl FnOnce() -> bool) {
        if let Some(asked) = self.own.get_mut(&ends(key)) {
            asked.lives_on |= stays();
        }
    }

    /// Whether a socket is one of them; `device` is the one it is bound to, or 0.
    fn has(&self, local: End, remote: End, device: u32) -> bool {
        let meant = |asked: &Asked| if device == 0 { !asked.lives_on } else { asked.devices.contains(&device) };
        self.own.get(&(local, remote)).is_some_and(meant)
    }

    /// Resets what it can of the `denied` flows, but for those of this host that have
    /// moved to another device of this host by now: `stays` is asked of live flows. What cannot
    /// be reset is only cut.
    pub fn close(mut self, maps: &Maps, denied: usize, mut stays: impl FnMut(&Live) -> bool) -> Resets {
        if self.own.is_empty() {
            return self.close_all(denied);
        }
        match flows::each(maps, |flow| self.spare(&flow.key, || stays(&flow))) {
            Ok(()) => self.close_all(denied),
            Err(e) => unread(denied, &e),
        }
    }

    fn close_all(&self, denied: usize) -> Resets {
        let (mut connections, mut flows, mut problem) = (0, 0, None);
        if !self.own.is_empty() {
            let (closed, result) = close(|local, remote, device| self.has(local, remote, device));
            connections += closed.len();
            flows += closed.iter().filter_map(|ends| self.own.get(ends)).map(|asked| asked.flows).sum::<usize>();
            problem = result.err().map(|e| why(&e));
        }
        if !self.guests.is_empty() {
            let (reset, of_them, result) = self.guests.reset();
            connections += reset;
            flows += of_them;
            problem = problem.or(result.err().map(|e| why_guests(&e)));
        }
        Resets { connections, only_cut: denied.saturating_sub(flows), problem }
    }
}

/// Nothing is reset where it is not known what stays: that cannot be taken back.
pub fn unread(denied: usize, e: &io::Error) -> Resets {
    Resets { only_cut: denied, problem: Some(format!("live flows cannot be read ({e})")), ..Resets::default() }
}

/// Why connections of guests could not be reset, and what to do.
fn why_guests(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT) => {
            "sgd may not speak in the name of guests' connections (it lacks CAP_NET_RAW, or its unit AF_PACKET)".into()
        }
        _ => format!("guests cannot be asked: {e}"),
    }
}

/// Why connections could not be reset, and what to do.
fn why(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "this kernel closes no connections of others (it is built without CONFIG_INET_DIAG_DESTROY)".into()
        }
        Some(libc::ENOENT) => "this kernel lists no connections (it is built without CONFIG_INET_TCP_DIAG)".into(),
        Some(libc::EPERM | libc::EACCES) => "sgd may not close connections of others (it lacks CAP_NET_ADMIN)".into(),
        _ => format!("the kernel does not close them: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: u32, local: &str, remote: &str) -> FlowKey {
        let (local, remote): (std::net::SocketAddr, std::net::SocketAddr) =
            (local.parse().unwrap(), remote.parse().unwrap());
        FlowKey {
            zone: 1,
            vlan_proto: protocol,
            local: local.ip().into(),
            remote: remote.ip().into(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    fn end(text: &str) -> End {
        let end: std::net::SocketAddr = text.parse().unwrap();
        (end.ip(), end.port())
    }

    #[test]
    fn a_socket_is_meant_by_both_its_ends_and_its_device() {
        let mut wanted = Wanted::default();
        wanted.add(&key(6, "10.0.0.1:22", "192.0.2.7:4000"), &[2, 9]);
        wanted.add(&key(17, "10.0.0.1:53", "192.0.2.7:4000"), &[2]);
        let has = |local, remote, device| wanted.has(end(local), end(remote), device);
        assert!(has("10.0.0.1:22", "192.0.2.7:4000", 0) && has("10.0.0.1:22", "192.0.2.7:4000", 9));
        assert!(!has("10.0.0.1:22", "192.0.2.7:4000", 3), "of another device");
        assert!(!has("10.0.0.1:22", "192.0.2.7:4001", 0) && !has("10.0.0.2:22", "192.0.2.7:4000", 0));
        assert!(!has("10.0.0.1:53", "192.0.2.7:4000", 0), "not TCP");
    }

    #[test]
    fn a_connection_that_moved_to_another_device_is_spared_unless_it_is_bound() {
        let mut wanted = Wanted::default();
        wanted.add(&key(6, "10.0.0.1:22", "192.0.2.7:4000"), &[2]);
        wanted.add(&key(6, "10.0.0.1:22", "192.0.2.7:4001"), &[2]);
        for (remote, stays) in [("192.0.2.7:4000", true), ("192.0.2.7:4001", false), ("192.0.2.7:4002", true)] {
            let key = key(6, "10.0.0.1:22", remote);
            wanted.spare(&key, || stays);
            // One that goes on in one place goes on, whatever is said of others.
            wanted.spare(&key, || false);
        }
        let has = |remote, device| wanted.has(end("10.0.0.1:22"), end(remote), device);
        assert!(!has("192.0.2.7:4000", 0) && has("192.0.2.7:4000", 2));
        assert!(has("192.0.2.7:4001", 0) && !has("192.0.2.7:4002", 0));
    }

    #[test]
    fn a_connection_over_a_bond_and_its_slave_is_one_and_both_its_flows_are_told() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap().to_string(), server.local_addr().unwrap().to_string());
        let mut wanted = Wanted::default();
        for device in [2, 3] {
            wanted.add(&key(6, &local, &remote), &[device]);
        }
        let resets = wanted.close_all(3);
        match resets.problem {
            None => assert_eq!((resets.connections, resets.only_cut), (1, 1)),
            Some(why) => assert!(why.contains("CAP_NET_ADMIN") && resets.only_cut == 3, "{why}"),
        }
    }

    #[test]
    fn what_has_no_socket_here_is_only_cut() {
        let mut wanted = Wanted::default();
        wanted.add(&key(6, "192.0.2.1:1", "192.0.2.2:2"), &[2]);
        assert_eq!(wanted.close_all(3), Resets { connections: 0, only_cut: 3, problem: None });
    }

    #[test]
    fn what_the_kernel_lacks_is_said() {
        let said = |code| why(&io::Error::from_raw_os_error(code));
        assert!(said(libc::EOPNOTSUPP).contains("CONFIG_INET_DIAG_DESTROY"));
        assert!(said(libc::ENOENT).contains("CONFIG_INET_TCP_DIAG"));
        assert!(said(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(said(libc::EINVAL).contains("the kernel does not close them"));
        let said = |code| why_guests(&io::Error::from_raw_os_error(code));
        assert!(said(libc::EPERM).contains("CAP_NET_RAW") && said(libc::EAFNOSUPPORT).contains("AF_PACKET"));
        assert!(said(libc::ENODEV).contains("guests cannot be asked"));
    }
}
