//! The caller's own SSH connection: found by walking up to sshd and its
//! socket, so that it works under sudo, tmux and shells that hide variables.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    daemon::protocol::Session,
    processes::{is_ssh, process, sockets},
};

/// Parents that are walked.
const MAX_PARENTS: usize = 64;

/// An end as /proc/net/tcp writes it: words in host order, in hexadecimal.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .map(|i| u32::from_str_radix(&address[i * 8..i * 8 + 8], 16).map(u32::to_ne_bytes))
        .collect::<Result<_, _>>()
        .ok()?;
    let ip = match words[..] {
        [v4] => IpAddr::from(v4),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            let v6 = Ipv6Addr::from(bytes);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4))
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Established connections by inode, from the text of /proc/net/tcp or tcp6.
fn connections(text: &str) -> HashMap<u64, Session> {
    let line = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        if *words.get(3)? != "01" {
            return None;
        }
        let ((local, local_port), (remote, remote_port)) = (end(words[1])?, end(words[2])?);
        Some((words.get(9)?.parse().ok()?, Session { local, remote, local_port, remote_port }))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// The connection this command came over, if it came over SSH.
pub fn own() -> Option<Session> {
    let mut tables = HashMap::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        tables.extend(connections(&fs::read_to_string(path).unwrap_or_default()));
    }
    let mut pid = std::process::id();
    for _ in 0..MAX_PARENTS {
        let (name, parent) = process(pid)?;
        if is_ssh(&name)
            && let Some(session) = sockets(pid).iter().find_map(|inode| tables.get(inode))
        {
            return Some(*session);
        }
        if parent <= 1 {
            return None;
        }
        pid = parent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_from_the_table() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0500000A:0016 070200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        let found = connections(text);
        assert_eq!(found.len(), 1);
        let s = found[&4711];
        assert_eq!((s.local_port, s.remote_port), (22, 40000));
        if cfg!(target_endian = "little") {
            assert_eq!((s.local, s.remote), (IpAddr::from([10, 0, 0, 5]), IpAddr::from([192, 0, 2, 7])));
            let mapped = end("0000000000000000FFFF00000500000A:0016").unwrap();
            assert_eq!(mapped, (IpAddr::from([10, 0, 0, 5]), 22));
        }
    }
}
