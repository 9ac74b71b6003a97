//! Processes and their sockets, from /proc: whose connection is whose.

use std::{collections::HashSet, fs};

/// Name and parent of a process.
pub fn process(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold some itself.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    Some((name, tail.split_whitespace().nth(1)?.parse().ok()?))
}

/// Inodes of a process's sockets; none where they may not be looked at.
pub fn sockets(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |e: fs::DirEntry| {
        let target = fs::read_link(e.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(|e| inode(e.ok()?)).collect()
}

/// Whether a process of this name is an SSH server: `sshd` and what it becomes.
pub fn is_ssh(name: &str) -> bool {
    name.starts_with("sshd") || name == "dropbear"
}

/// Inodes of the sockets of all SSH servers, as far as they may be looked at.
pub fn ssh_sockets() -> HashSet<u64> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashSet::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(name, _)| is_ssh(&name))).flat_map(sockets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_a_parent_and_its_sockets() {
        let own = std::process::id();
        assert!(process(own).is_some_and(|(_, parent)| parent > 0));
        let before = sockets(own).len();
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(sockets(own).len() > before || before > 0);
        assert!(is_ssh("sshd") && is_ssh("sshd-session") && !is_ssh("ssh"));
    }
}
