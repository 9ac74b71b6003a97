//! The filter of flows that may exist: it is renewed, and hides no flow.

use std::sync::atomic::{AtomicBool, Ordering};

use sg_common::{filter::BITS, reason::Reason};
use sg_userspace::dataplane::{
    filter::{self, Halves},
    probe::Entry,
};

use crate::support::{self, kernel::probe};

const POLICY: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, ipv6_source_cidr_ip: '::/0'}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [g]}
";

/// UDP between port 53 of the instance and a port of somebody else's.
fn udp(v4: bool, inbound: bool, port: u16) -> Vec<u8> {
    let (local, remote) = if v4 { ("10.0.0.5", "192.0.2.9") } else { ("2001:db8::5", "2001:db8:9::9") };
    let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
    let query = sg_userspace::reference::FlowQuery {
        direction: sg_userspace::model::Direction::Inbound,
        protocol: 17,
        local: if inbound { local } else { remote },
        remote: if inbound { remote } else { local },
        local_port: if inbound { 53 } else { port },
        remote_port: if inbound { port } else { 53 },
        icmp_type: 0,
        icmp_code: 0,
    };
    sg_userspace::packet::first_packet(&query, [2, 0, 0, 0, 0, 9])
}

#[test]
fn renewing_the_filter_hides_no_flow_and_forgets_dead_ones() {
    let Some(mut probe) = probe() else { return };
    let model = support::model(POLICY);
    probe.prepare(&model, &model.declared_instances(), 0).unwrap();
    let ports = 1000..1400;
    // Half of the flows are confirmed, the others only begun; both families.
    for port in ports.clone() {
        for v4 in [true, false] {
            let (_, event) = probe.run(Entry::TcIn, &udp(v4, true, port)).unwrap();
            assert_eq!(Reason::from_u8(event.reason), Some(Reason::Rule));
            if port % 2 == 0 {
                probe.run(Entry::TcOut, &udp(v4, false, port)).unwrap();
                probe.run(Entry::TcIn, &udp(v4, true, port)).unwrap();
            }
        }
    }
    let halves = Halves::open(probe.maps()).unwrap();
    // A flow has bits in both halves, and few share one.
    for half in [0, 1] {
        assert!((790..=800).contains(&halves.count(half)), "{}", halves.count(half));
    }
    // Dead flows by the thousand.
    (0..BITS / 8).for_each(|i| halves.add(i * 7 % BITS));
    assert!(filter::renew(probe.maps()).unwrap().is_some(), "it was worth while");
    let asked = probe.maps().config.get(&0).unwrap().unwrap().filter;
    assert_eq!(asked, 1);
    assert!((790..=800).contains(&halves.count(asked)), "only the living: {}", halves.count(asked));
    assert!(filter::renew(probe.maps()).unwrap().is_none(), "nothing to do");

    // Packets of all flows while the filter is renewed over and over.
    let done = AtomicBool::new(false);
    let maps = probe.maps_again().unwrap();
    let renewals = std::thread::scope(|scope| {
        let renewer = scope.spawn(|| {
            let mut renewals = 0;
            while !done.load(Ordering::Relaxed) || renewals < 3 {
                filter::renew_always(&maps).unwrap();
                renewals += 1;
            }
            renewals
        });
        for _ in 0..20 {
            for port in ports.clone() {
                for v4 in [true, false] {
                    let (_, event) = probe.run(Entry::TcIn, &udp(v4, true, port)).unwrap();
                    assert_eq!(Reason::from_u8(event.reason), Some(Reason::Established), "{port}");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        renewer.join().unwrap()
    });
    assert!(renewals >= 3);
}
