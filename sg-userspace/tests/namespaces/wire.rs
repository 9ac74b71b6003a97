//! What must pass a deny-all, and frames that no socket sends.

use std::{net::UdpSocket, os::fd::AsRawFd};

use super::world::*;
use sg_userspace::testbed::{Net, PATIENCE};

const DENY_ALL: &str = "security_groups:\n- {security_group_name: g, security_group_type: enterprise}\n";
const OUT_ONLY: &str = "security_groups:\n- {security_group_name: g}\n";

#[test]
fn neighbours_are_found_through_a_deny_all() {
    for way in WAYS {
        if !can_run() {
            return;
        }
        let world = World::new(way);
        world.client.tcp_server(7000).unwrap();
        let daemon = world.daemon();
        daemon.apply(&format!("{DENY_ALL}{}", world.interface("g")), &[]).unwrap();
        for net in [&world.instance, &world.router] {
            net.ip("neigh flush all").unwrap();
        }
        assert!(!world.instance.tcp(to("192.0.2.10:7000")).unwrap());
        assert!(!world.client.tcp(to("[2001:db8:1::10]:7000")).unwrap());
        let view = daemon.interface(world.device()).unwrap();
        for direction in ["ingress", "egress"] {
            assert!(reason(&view, direction, "essential") > 0, "{way:?} {:?}", view.reasons);
        }
        // The deny-all decided, not a neighbour that could not be found.
        assert!(
            reason(&view, "egress", "default") > 0 && reason(&view, "ingress", "default") > 0,
            "{:?}",
            view.reasons
        );
    }
}

#[test]
fn a_lease_is_renewed_through_a_deny_all() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    let daemon = world.daemon();
    daemon.apply(&format!("{DENY_ALL}{}", world.interface("g")), &[]).unwrap();
    let server = world.router.run(|| Ok(UdpSocket::bind("0.0.0.0:67")?)).unwrap();
    let client = world.instance.run(|| Ok(UdpSocket::bind("0.0.0.0:68")?)).unwrap();
    client.set_broadcast(true).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // A broadcast needs a route, which the address gives.
    client.send_to(b"discover", "10.0.0.255:67").unwrap();
    let mut buffer = [0; 64];
    let (n, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"discover");
    server.send_to(b"offer", from).unwrap();
    let (n, _) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"offer");
    assert!(reason(&daemon.interface("eth0").unwrap(), "ingress", "essential") > 0);
}

#[test]
fn the_path_mtu_is_found() {
    for way in WAYS {
        if !can_run() {
            return;
        }
        let world = World::new(way);
        world.router.ip("link set wan mtu 1300").unwrap();
        world.client.ip("link set eth0 mtu 1300").unwrap();
        let daemon = world.daemon();
        daemon.apply(&format!("{OUT_ONLY}{}", world.interface("g")), &[]).unwrap();
        let refused = world
            .instance
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                let (level, option, value) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
                // SAFETY: an int option with an int's size.
                let set = unsafe {
                    libc::setsockopt(
                        socket.as_raw_fd(),
                        level,
                        option,
                        (&raw const value).cast(),
                        size_of::<i32>() as u32,
                    )
                };
                assert_eq!(set, 0);
                socket.connect("192.0.2.10:9")?;
                Ok((0..200).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    socket.send(&[0; 1400]).is_err_and(|e| e.raw_os_error() == Some(libc::EMSGSIZE))
                }))
            })
            .unwrap();
        let view = daemon.interface(world.device()).unwrap();
        assert!(refused, "{way:?}: the sender never learnt the path MTU: {:?}", view.reasons);
        assert!(reason(&view, "ingress", "related") > 0, "{way:?}: {:?}", view.reasons);
    }
}

/// Sends a frame as it is.
pub fn raw(net: &Net, device: &str, frame: &[u8]) {
    net.run(|| {
        let name = std::ffi::CString::new(device)?;
        // SAFETY: no memory but the terminated name and the frame is passed; the
        // address is a zeroed sockaddr_ll with its index set.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
            assert!(fd >= 0);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let length = size_of::<libc::sockaddr_ll>() as u32;
            let sent = libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, (&raw const address).cast(), length);
            let error = std::io::Error::last_os_error();
            libc::close(fd);
            // What a hook drops on the way out is said to have found no buffer.
            let dropped = sent < 0 && error.raw_os_error() == Some(libc::ENOBUFS);
            assert!(dropped || sent == frame.len() as isize, "{error}");
        }
        Ok(())
    })
    .unwrap();
}

/// A SYN from 10.0.0.1 to 10.0.0.10 port 80 behind any tags.
fn tagged(tags: &[u16]) -> Vec<u8> {
    let mut f = vec![0xff; 6];
    f.extend([2, 0, 0, 0, 0, 1]);
    for tag in tags {
        f.extend([0x81, 0]);
        f.extend(tag.to_be_bytes());
    }
    f.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 10]);
    f.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    f
}

#[test]
fn vlan_tags_are_walked_and_bounded() {
    for way in [Way::HostTc, Way::HostXdp] {
        if !can_run() {
            return;
        }
        let world = World::new(way);
        let daemon = world.daemon();
        let rules =
            "  permissions:\n  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 10.0.0.1}\n";
        daemon
            .apply(&format!("security_groups:\n- security_group_name: g\n{rules}{}", world.interface("g")), &[])
            .unwrap();
        let count = |name| {
            let view = daemon.interface("eth0").unwrap();
            if name == "rule" { rule(&view, "ingress", "g[0]") } else { reason(&view, "ingress", name) }
        };
        raw(&world.router, "tap0", &tagged(&[5]));
        eventually("one tag is walked to the rule", || count("rule") == 1);
        raw(&world.router, "tap0", &tagged(&[5, 6]));
        eventually("two tags are", || count("rule") == 2);
        // The same tag again is the same flow; another one is not.
        raw(&world.router, "tap0", &tagged(&[5]));
        eventually("the flow is known", || count("established") == 1);
        raw(&world.router, "tap0", &tagged(&[7]));
        eventually("another VLAN is another flow", || count("rule") == 3);
        raw(&world.router, "tap0", &tagged(&[5, 6, 7]));
        eventually("three tags are dropped with their reason", || count("vlan_depth") == 1);
    }
}
