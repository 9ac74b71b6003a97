//! No parser panics, on any bytes.

use proptest::prelude::*;
use sg_ebpf::{
    packet::Bytes,
    parse::{Parsed, parse},
};

fn parsed(data: &[u8], l2: bool) -> Result<Parsed, sg_common::reason::Reason> {
    let mut scratch = sg_ebpf::Scratch::default();
    parse(&Bytes::new(data), l2, &mut scratch.parsed).map(|()| scratch.parsed)
}

proptest! {
    #[test]
    fn any_bytes_parse_or_have_a_reason(data in proptest::collection::vec(any::<u8>(), 0..200), l2: bool) {
        let _ = parsed(&data, l2);
    }

    #[test]
    fn any_ipv4_body_parses_or_has_a_reason(mut data in proptest::collection::vec(any::<u8>(), 14..120)) {
        data[12] = 8;
        data[13] = 0;
        if data.len() > 14 {
            data[14] = 0x45;
        }
        let _ = parsed(&data, true);
    }

    #[test]
    fn any_ipv6_body_parses_or_has_a_reason(mut data in proptest::collection::vec(any::<u8>(), 15..180)) {
        data[12] = 0x86;
        data[13] = 0xdd;
        data[14] = 0x60;
        let _ = parsed(&data, true);
    }
}

#[test]
fn a_truncated_header_is_never_guessed_past() {
    use sg_common::reason::Reason;
    assert_eq!(parsed(&[0; 13], true).unwrap_err(), Reason::Truncated);
    let mut ip = vec![0u8; 14];
    ip[12] = 8;
    ip.extend([0x45, 0, 0, 40]);
    assert_eq!(parsed(&ip, true).unwrap_err(), Reason::Truncated);
}

/// A segment that stands for several has no IP length (BIG TCP): its skb's length counts.
#[test]
fn a_super_packet_has_the_length_of_its_skb() {
    use sg_common::reason::Reason;
    let mut v4 = vec![0u8; 12];
    v4.extend([8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    v4.extend([0, 1, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 16, 0, 0, 0, 0, 0, 0]);
    v4.extend(vec![7; 70_000]);
    let mut v6 = vec![0u8; 12];
    v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
    v6.extend([0x20; 16]);
    v6.extend([0x30; 16]);
    v6.extend(&v4[34..]);
    for frame in [v4, v6] {
        let mut scratch = sg_ebpf::Scratch::default();
        let packet = Bytes { data: &frame, vlan: None, super_packet: true };
        parse(&packet, true, &mut scratch.parsed).unwrap();
        assert_eq!((scratch.parsed.dst_port, scratch.parsed.l4_len), (80, 70_020));
        assert!(matches!(parsed(&frame, true), Err(Reason::IpLength | Reason::Transport)), "not without segments");
    }
}

/// wg, tun and ppp devices hand over packets that begin with their IP header.
#[test]
fn devices_without_ethernet_begin_with_ip() {
    use sg_common::reason::Reason;
    let mut v4 = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    v4.extend([0, 1, 0, 53, 0, 8, 0, 0]);
    assert_eq!(parsed(&v4, false).unwrap().dst_port, 53);
    v4[0] = 0x55;
    assert_eq!(parsed(&v4, false).unwrap_err(), Reason::IpHeader);
}
