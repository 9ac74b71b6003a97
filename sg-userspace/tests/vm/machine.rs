//! The machine that a test runs in: its kernel and its network cards.

use std::process::Command;

use sg_userspace::{daemon::protocol::InterfaceView, testbed::Daemon, testbed::Net};

use crate::world::*;

/// The kernel under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Major and minor number.
    pub version: (u32, u32),
}

impl Kernel {
    /// Where the daemon's programs sit at TC.
    pub fn tc(self) -> &'static str {
        tc_place()
    }
}

/// The kernel, if this is one of the machines.
pub fn kernel() -> Option<Kernel> {
    let Ok(wanted) = std::env::var("SG_VM") else {
        eprintln!("not run: this needs a machine of its own, which `cargo xtask vm-test` starts");
        return None;
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(wanted == "uml" || release.starts_with(&format!("{wanted}.")), "asked for {wanted}, got {release}");
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    Some(Kernel { version: (numbers.next().unwrap(), numbers.next().unwrap()) })
}

/// The device with hooks and addresses; 80 is open, the rest closed.
pub fn policy(device: &str, keys: &str) -> String {
    format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}}\n\
         \x20 - {{direction: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_source_cidr_ip: '::/0'}}\n\
         network_interfaces:\n- {{device: {device}, side: host, {keys}, security_group_ids: [g]}}\n"
    )
}

/// Connects to the open and to the closed port at both addresses; the counters
/// must say that the rules decided.
#[track_caller]
pub fn judged(daemon: &Daemon<'_>, device: &str, client: &Net, addresses: [&str; 2]) -> InterfaceView {
    let before = daemon.interface(device).unwrap();
    for (address, line) in addresses.into_iter().zip(["g[0]", "g[1]"]) {
        let (open, closed) = (to(&format!("{address}:80")), to(&format!("{address}:81")));
        let (passed, passed_closed) = (client.tcp(open).unwrap(), client.tcp(closed).unwrap());
        let after = daemon.interface(device).unwrap();
        assert!(passed, "{open} is open: {:?}", after.reasons);
        assert!(!passed_closed, "{closed} is closed: {:?}", after.reasons);
        assert_eq!(rule(&after, "ingress", line), rule(&before, "ingress", line) + 1, "{:?}", after.rules);
    }
    let after = daemon.interface(device).unwrap();
    let more = |name| reason(&after, "ingress", name) - reason(&before, "ingress", name);
    // A SYN that is not answered is sent again.
    assert!(more("default") >= 2, "the closed port by default: {:?}", after.reasons);
    assert_eq!(more("rule"), 2, "the open port by rule: {:?}", after.reasons);
    after
}

/// Two servers, so that what is closed is closed by us.
pub fn servers(net: &Net) {
    net.tcp_server(80).unwrap();
    net.tcp_server(81).unwrap();
}

/// What a command prints.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}
