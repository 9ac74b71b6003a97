//! The failsafe that a first start suggests: from where, and to which port, this host is
//! managed right now, by the SSH sessions there are.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::log;
use crate::{
    dataplane::adopt::sockets::{Socket, Sockets},
    failsafe::{MAX_PORTS, MAX_SOURCES},
    processes,
};

const TCP: u8 = 6;
/// Where SSH usually is, whoever serves it.
const SSH: u16 = 22;

/// What keeps the sessions there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Suggestion {
    ports: BTreeSet<u16>,
    sources: BTreeSet<IpAddr>,
}

/// From sessions that came in to a port that listens: of an SSH server's socket, or of the
/// port that is SSH's.
fn suggestion(sockets: &Sockets, ssh: &HashSet<u64>) -> Option<Suggestion> {
    let is_session = |s: &&Socket| {
        let served = s.local.1 == SSH || ssh.contains(&s.inode.into());
        s.protocol == TCP && s.established && served && sockets.listeners.has(TCP, s.local) && !s.remote.0.is_loopback()
    };
    let mut found = Suggestion::default();
    for s in sockets.connected.iter().filter(is_session) {
        if found.ports.len() < MAX_PORTS || found.ports.contains(&s.local.1) {
            found.ports.insert(s.local.1);
        }
        if found.sources.len() < MAX_SOURCES {
            found.sources.insert(s.remote.0);
        }
    }
    (!found.sources.is_empty()).then_some(found)
}

impl Suggestion {
    /// Exactly what is to be put into `sgd.toml`.
    fn lines(&self) -> [String; 3] {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let sources: Vec<String> = self.sources.iter().map(|ip| format!("\"{}\"", IpNet::from(*ip))).collect();
        ["[failsafe]".into(), format!("ports = [{}]", ports.join(", ")), format!("sources = [{}]", sources.join(", "))]
    }
}

/// Says which failsafe would keep the SSH sessions of this moment, if there are any.
pub fn suggest() {
    let mut sockets = Sockets::default();
    // Where sockets cannot be listed there is nothing to suggest.
    if sockets.read(TCP).is_err() {
        return;
    }
    let Some(found) = suggestion(&sockets, &processes::ssh_sockets()) else { return };
    log::info!(
        "this host is managed by SSH, and no failsafe is configured: a rule can close that. To keep it open whatever \
         rules say, put these lines into sgd.toml, without the sources that are not yours (whoever is connected is among \
         them, logged in or not), and restart sgd:"
    );
    found.lines().iter().for_each(|line| log::info!("  {line}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::Config;

    fn socket(local: &str, remote: &str, inode: u32) -> Socket {
        let end = |text: &str| text.parse::<std::net::SocketAddr>().map(|a| (a.ip(), a.port())).unwrap();
        Socket {
            protocol: TCP,
            local: end(local),
            remote: end(remote),
            device: 0,
            seen: [0, 0],
            established: true,
            inode,
        }
    }

    #[test]
    fn sessions_that_came_in_are_suggested() {
        let mut sockets = Sockets::default();
        sockets.listeners.add(TCP, ("::".parse().unwrap(), 22), false);
        sockets.listeners.add(TCP, ("0.0.0.0".parse().unwrap(), 2222), false);
        sockets.connected = vec![
            socket("10.0.0.5:22", "203.0.113.7:4000", 1),
            socket("10.0.0.5:22", "203.0.113.7:4001", 2),
            socket("[2001:db8::5]:22", "[2001:db8:1::7]:4000", 3),
            // Of sshd, by its owner alone.
            socket("10.0.0.5:2222", "198.51.100.9:4000", 4),
            // A port that somebody else serves; what sshd itself forwards; a handshake; this host.
            socket("10.0.0.5:2222", "198.51.100.10:4000", 5),
            socket("10.0.0.5:40000", "192.0.2.1:443", 6),
            Socket { established: false, ..socket("10.0.0.5:22", "192.0.2.2:4000", 7) },
            socket("127.0.0.1:22", "127.0.0.1:4000", 8),
        ];
        let found = suggestion(&sockets, &HashSet::from([4, 6])).unwrap();
        let lines = found.lines();
        assert_eq!(lines[1], "ports = [22, 2222]");
        assert_eq!(lines[2], "sources = [\"198.51.100.9/32\", \"203.0.113.7/32\", \"2001:db8:1::7/128\"]");
        // They are what the file takes.
        let config = Config::parse(&lines.join("\n")).unwrap();
        assert_eq!(config.failsafe.settings().unwrap().unwrap().ports, [(22, 22), (2222, 2222)]);
        sockets.connected.truncate(0);
        assert_eq!(suggestion(&sockets, &HashSet::new()), None);
    }
}
