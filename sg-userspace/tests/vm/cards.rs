//! Network cards: the program in a real driver, and where a driver refuses it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::machine::*;
use crate::world::*;
use sg_userspace::testbed::{Daemon, Net};

const HERE: [&str; 2] = ["10.7.0.10", "[2001:db8:7::10]"];

/// Joined directly; in the driver there is one queue.
const PLAIN: usize = 0;
const PLAIN_TOO: usize = 3;
/// The driver cannot take its offloads back, and refuses XDP.
const REFUSES: usize = 1;
/// A queue for each CPU, both ways.
const QUEUES: usize = 2;

/// Two cards joined outside the machine, each in a namespace of its own.
struct Cards {
    here: Net,
    there: Net,
    names: [String; 2],
    _alone: MutexGuard<'static, ()>,
}

/// Cards are told apart by the last byte of their address.
fn card(last: usize) -> Option<String> {
    let wanted = format!("52:54:00:00:00:{last:02x}");
    let mut names = std::fs::read_dir("/sys/class/net").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.find(|n| std::fs::read_to_string(format!("/sys/class/net/{n}/address")).is_ok_and(|a| a.trim() == wanted))
}

impl Cards {
    fn new(pair: usize) -> Self {
        static ALONE: [Mutex<()>; 4] = [const { Mutex::new(()) }; 4];
        // Another pair is as plain as the first.
        let pair = if pair == PLAIN && ALONE[PLAIN].try_lock().is_err() { PLAIN_TOO } else { pair };
        let alone = ALONE[pair].lock().unwrap_or_else(PoisonError::into_inner);
        let names = [2 * pair + 1, 2 * pair + 2].map(|last| {
            eventually("the card is back", || card(last).is_some());
            card(last).unwrap()
        });
        let (here, there) = (Net::new("here").unwrap(), Net::new("there").unwrap());
        for (net, name, device, number) in [(&here, &names[0], "nic0", 10), (&there, &names[1], "peer0", 1)] {
            output("ip", &["link", "set", name, "netns", &net.path()]);
            net.ip(&format!("link set {name} name {device} mtu 1500")).unwrap();
            net.ip(&format!("link set {device} up")).unwrap();
            net.address(device, &[&format!("10.7.0.{number}/24"), &format!("2001:db8:7::{number}/64")]).unwrap();
        }
        servers(&here);
        Self { here, there, names, _alone: alone }
    }

    fn daemon(&self) -> Daemon<'_> {
        let mut daemon = Daemon::new(&self.here, bin()).unwrap();
        daemon.start().unwrap();
        daemon
    }
}

impl Drop for Cards {
    fn drop(&mut self) {
        for (net, name, device) in [(&self.here, &self.names[0], "nic0"), (&self.there, &self.names[1], "peer0")] {
            // Servers keep their namespace, so the card has to be taken out of it.
            for step in [format!("link set {device} down"), format!("link set {device} name {name} netns 1")] {
                if let Err(e) = net.ip(&step) {
                    eprintln!("{e}");
                }
            }
        }
    }
}

/// Protects the card by a hook; asserts the places and that traffic is judged.
fn protected(pair: usize, hook: &str, places: [&str; 2]) {
    let Some(_) = kernel() else { return };
    let cards = Cards::new(pair);
    let mut daemon = cards.daemon();
    daemon.apply(&policy("nic0", hook), &[]).unwrap();
    let view = judged(&daemon, "nic0", &cards.there, HERE);
    assert_eq!(view.status.hooks, places, "{hook}");
    if hook == "hook: auto" {
        return;
    }
    // A new daemon takes over what it finds, and knows what that is.
    daemon.stop(libc::SIGTERM).unwrap();
    daemon.start().unwrap();
    let view = judged(&daemon, "nic0", &cards.there, HERE);
    assert_eq!(view.status.hooks, places, "{hook} after a restart");
}

fn tc() -> &'static str {
    kernel().map_or("", Kernel::tc)
}

#[test]
fn xdp_runs_in_the_driver() {
    protected(PLAIN, "hook: xdp", ["xdp", tc()]);
}
#[test]
fn auto_takes_the_driver() {
    protected(PLAIN, "hook: auto", ["xdp", tc()]);
}
#[test]
fn xdp_falls_back_behind_a_driver_that_refuses() {
    protected(REFUSES, "hook: xdp", ["xdp (generic)", tc()]);
}
#[test]
fn auto_falls_back_to_tc_where_the_driver_refuses() {
    protected(REFUSES, "hook: auto", [tc(), tc()]);
}

#[test]
fn xdp_runs_on_every_queue() {
    let Some(_) = kernel() else { return };
    let cards = Cards::new(QUEUES);
    let daemon = cards.daemon();
    daemon.apply(&policy("nic0", "hook: xdp"), &[]).unwrap();
    let view = judged(&daemon, "nic0", &cards.there, HERE);
    assert_eq!(view.status.hooks, ["xdp", tc()]);
    let before = rule(&view, "ingress", "g[0]");
    for _ in 0..40 {
        assert!(cards.there.tcp(to("10.7.0.10:80")).unwrap());
    }
    assert_eq!(rule(&daemon.interface("nic0").unwrap(), "ingress", "g[0]"), before + 40);
    let text = cards.here.run(|| Ok(output("ethtool", &["-S", "nic0"]))).unwrap();
    let seen = |line: &str| {
        let (name, count) = line.trim().split_once(": ")?;
        (name.starts_with("rx") && name.ends_with("xdp_packets") && name != "rx_xdp_packets")
            .then(|| count.parse::<u64>().unwrap_or(0))
    };
    let queues: Vec<u64> = text.lines().filter_map(seen).collect();
    println!("packets by queue: {queues:?}");
    assert!(queues.iter().filter(|n| **n > 0).count() >= 2, "{text}");
}

/// The tag is in the frame; replies leave with theirs beside the packet or in it.
#[test]
fn tagged_packets_are_judged_in_the_driver() {
    let Some(_) = kernel() else { return };
    let cards = Cards::new(PLAIN);
    for (net, device, number) in [(&cards.there, "peer0", 1), (&cards.here, "nic0", 10)] {
        net.ip(&format!("link add link {device} name vlan5 type vlan id 5")).unwrap();
        net.ip("link set vlan5 up").unwrap();
        net.address("vlan5", &[&format!("10.8.0.{number}/24"), &format!("2001:db8:8::{number}/64")]).unwrap();
    }
    let daemon = cards.daemon();
    daemon.apply(&policy("nic0", "hook: xdp"), &[]).unwrap();
    let view = judged(&daemon, "nic0", &cards.there, ["10.8.0.10", "[2001:db8:8::10]"]);
    assert_eq!(view.status.hooks, ["xdp", tc()]);
    // What the instance opens itself is answered into the same flow.
    cards.there.tcp_server(7000).unwrap();
    assert!(cards.here.tcp(to("10.8.0.1:7000")).unwrap());
    assert_eq!(reason(&daemon.interface("nic0").unwrap(), "ingress", "no_flow"), 0);
}

/// A larger MTU than the driver's XDP takes, set while the program is there.
/// virtio_net before 6.3 then refuses to take the program out, of which the
/// kernel would tell nobody.
#[test]
fn a_larger_mtu_does_not_keep_the_program_unseen() {
    let Some(kernel) = kernel() else { return };
    let cards = Cards::new(PLAIN);
    let mut daemon = cards.daemon();
    daemon.apply(&policy("nic0", "hook: xdp"), &[]).unwrap();
    let open = || cards.there.tcp(to("10.7.0.10:81")).unwrap();
    cards.here.ip("link set nic0 mtu 9000").unwrap();
    assert!(!open(), "still protected");
    if kernel.version < (6, 3) {
        let e = daemon.apply(&policy("nic0", "hook: tc"), &[]).unwrap_err().to_string();
        assert!(e.contains("nic0") && e.contains("does not let go of the XDP program"), "{e}");
        assert!(!open(), "what was there stays");
        let e = daemon.apply("security_groups: [{security_group_name: g}]\n", &["--yes"]).unwrap_err().to_string();
        assert!(e.contains("cannot take the protection off nic0"), "{e}");
        daemon.stop(libc::SIGTERM).unwrap();
        let (done, said) = daemon.sgd(&["--detach"]).unwrap();
        println!("{said}");
        assert!(!done && said.contains("nic0 is still protected: its driver does not let go"), "{said}");
        assert!(said.contains("mtu 1500"), "{said}");
        cards.here.ip("link set nic0 mtu 1500").unwrap();
    } else {
        daemon.stop(libc::SIGTERM).unwrap();
    }
    let (done, said) = daemon.sgd(&["--detach"]).unwrap();
    assert!(done, "{said}");
    eventually("the card is open again", open);
    // The driver takes a program again.
    daemon.start().unwrap();
    daemon.apply(&policy("nic0", "hook: xdp"), &["--yes"]).unwrap();
    cards.here.ip("link set nic0 mtu 1500").unwrap();
    judged(&daemon, "nic0", &cards.there, HERE);
}
