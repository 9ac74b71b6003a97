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
