//! Connections of this host that are closed by its own stack before they are cut, so that
//! both ends know at once: the kernel sends the other end a reset, and the socket's owner
//! gets an error. The reset has to leave as a packet of the flow, so this is done while the
//! verdict of before is still in force.

use std::{collections::HashMap, io, net::IpAddr};

use sg_common::flow::FlowKey;

use super::{
    adopt::sockets::{End, TCP, close},
    report::Resets,
};

/// Connections that are to be reset.
#[derive(Debug, Default)]
pub struct Wanted(HashMap<(End, End), Vec<u32>>);

impl Wanted {
    /// Adds a flow, unless it is none of TCP. A socket of it that is bound to a device is bound
    /// to one of these.
    pub fn add(&mut self, key: &FlowKey, devices: &[u32]) {
        if key.protocol() == TCP {
            let ends = ((IpAddr::from(key.local), key.local_port), (IpAddr::from(key.remote), key.remote_port));
            self.0.entry(ends).or_default().extend(devices);
        }
    }

    /// Whether a socket is one of them; `device` is the one it is bound to, or 0.
    fn has(&self, local: End, remote: End, device: u32) -> bool {
        self.0.get(&(local, remote)).is_some_and(|devices| device == 0 || devices.contains(&device))
    }

    /// Has the kernel close those that have a socket here. What cannot be closed is only cut.
    pub fn close(&self, denied: usize) -> Resets {
        let (mut closed, mut problem) = (0, None);
        if !self.0.is_empty() {
            let result;
            (closed, result) = close(|local, remote, device| self.has(local, remote, device));
            problem = result.err().map(|e| why(&e));
        }
        Resets { connections: closed, only_cut: denied.saturating_sub(closed), problem }
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
    fn what_has_no_socket_here_is_only_cut() {
        let mut wanted = Wanted::default();
        wanted.add(&key(6, "192.0.2.1:1", "192.0.2.2:2"), &[2]);
        assert_eq!(wanted.close(3), Resets { connections: 0, only_cut: 3, problem: None });
    }

    #[test]
    fn what_the_kernel_lacks_is_said() {
        let said = |code| why(&io::Error::from_raw_os_error(code));
        assert!(said(libc::EOPNOTSUPP).contains("CONFIG_INET_DIAG_DESTROY"));
        assert!(said(libc::ENOENT).contains("CONFIG_INET_TCP_DIAG"));
        assert!(said(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(said(libc::EINVAL).contains("the kernel does not close them"));
    }
}
