//! A flood of denied packets, by live frames, while somebody watches, flows are logged and
//! verdicts are sampled: each packet is told or counted as left out, by each stream.

use sg_common::watch::{STREAMS, Tell, stream};
use sg_userspace::{
    daemon::sampler,
    dataplane::{
        events::{self, Sums},
        probe::Entry,
        sys,
    },
};

use crate::support::{
    self,
    frames::{R4, udp, v4},
    kernel::probe,
    many,
};

const POLICY: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}
";

/// Frames of one run.
const RUN: u32 = 100_000;

#[test]
fn of_a_flood_each_packet_is_told_or_counted() {
    let Some(mut probe) = probe() else { return };
    let model = support::model(POLICY);
    probe.prepare(&model, &model.declared_instances(), 0).unwrap();
    let mut tell = Tell { window: (probe.ticks_per_second() / 10).max(1), version: 1, ..Tell::NOTHING };
    sampler::ask(20, &mut tell);
    for s in [stream::WATCH, stream::LOG] {
        tell.tokens[s] = 100;
        tell.reasons[s] = [!0, !0];
    }
    probe.tell(&tell).unwrap();
    let frame = v4(R4, [10, 0, 0, 5], 17).frame(&udp(4000, 1500, b"x"));
    // On the loopback device, whose index is 1: `data_end` and `ingress_ifindex` of an `xdp_md`.
    let context: Vec<u8> = [0, frame.len() as u32, 0, 1, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
    let runs = many(500_000, 5_000_000) / u64::from(RUN);
    let mut heard = 0;
    for _ in 0..runs {
        let program = probe.program(Entry::Xdp).unwrap();
        sys::test_runs(program, &frame, &context, RUN, true).unwrap();
        heard += probe.events() as u64;
    }
    let sent = runs * u64::from(RUN);
    let Sums { told, left_out, .. } = events::sums(probe.maps()).unwrap();
    for s in 0..STREAMS {
        assert_eq!(told[s] + left_out[s], sent, "stream {s}: {} told, {} left out", told[s], left_out[s]);
        assert!(told[s] > 0 && told[s] < sent / 100, "stream {s}: {} told", told[s]);
    }
    assert!(heard > 0 && heard <= told.iter().sum(), "{heard} heard, {told:?} told");
    eprintln!("{sent} packets: told {told:?}, left out {left_out:?}");
}
