//! Captures of both formats, whole, cut and wrong; and whose packets they are. No kernel.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sg_common::addr::Addr;
use sg_userspace::{
    model::Direction,
    replay::{
        capture::{CaptureError, Packet, read},
        frame::prepare,
        place::{Skip, direction, only},
    },
};

use crate::support::{frames::*, pcap::*};

/// Number, time in nanoseconds, link, kept bytes, length.
type Seen = (u64, u64, i32, Vec<u8>, u32);

fn packets(bytes: &[u8]) -> Result<(Vec<Seen>, bool), CaptureError> {
    let mut seen = Vec::new();
    let cut = read("x.pcap", bytes, |p| {
        seen.push((p.number, p.at, p.link, p.data.to_vec(), p.length));
        Ok::<(), CaptureError>(())
    })?;
    Ok((seen, cut))
}

fn said(bytes: &[u8]) -> String {
    packets(bytes).unwrap_err().to_string()
}

#[test]
fn both_formats_say_the_same() {
    let data = eth(0x0800, &[7; 50]);
    let records = [whole(1_700_000_000_000_001, data.clone()), (1_700_000_001_500_000, data[..20].to_vec(), 64)];
    let (old, cut) = packets(&pcap(ETHERNET, &records)).unwrap();
    assert!(!cut);
    assert_eq!(old[0], (1, 1_700_000_000_000_001_000, 1, data.clone(), 64));
    assert_eq!(old[1], (2, 1_700_000_001_500_000_000, 1, data[..20].to_vec(), 64));
    for unit in [6, 9] {
        let new = pcapng(&[(RAW, 6), (ETHERNET, unit)], &records.clone().map(|r| (1, r)));
        assert_eq!(packets(&new).unwrap(), (old.clone(), false), "{unit}");
    }
    // A unit of 2 to the minus 20 is no whole number of nanoseconds.
    let (new, _) = packets(&pcapng(&[(ETHERNET, 0x94)], &records.clone().map(|r| (0, r)))).unwrap();
    assert!(old[0].1 - new[0].1 < 1000 && new[1].1 == old[1].1, "{new:?}");
}

#[test]
fn what_was_killed_while_it_wrote_is_read_to_there() {
    let bytes = pcap(ETHERNET, &[whole(0, vec![1; 60]), whole(1, vec![2; 60])]);
    let (seen, cut) = packets(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((seen.len(), cut), (1, true));
    let (seen, cut) = packets(&bytes[..bytes.len() - 76]).unwrap();
    assert_eq!((seen.len(), cut), (1, false));
}

#[test]
fn what_is_no_capture_is_named() {
    assert_eq!(said(b""), "x.pcap is neither a pcap nor a pcapng file: it is empty");
    assert!(said(&[0x1f, 0x8b, 8, 0]).contains("zcat FILE | sgctl replay -"));
    assert!(said(b"security_groups: []\nnetwork_interfaces: []\n").contains("neither a pcap nor a pcapng"));
    let mut bytes = pcap(ETHERNET, &[whole(0, vec![1; 60]), whole(1, vec![2; 60])]);
    // The second packet claims three gigabytes, and there is enough behind it to try.
    let second = 24 + 76 + 8;
    bytes[second..second + 4].copy_from_slice(&0xc000_0000_u32.to_le_bytes());
    bytes.resize(64 << 20, 0);
    assert!(said(&bytes).contains("is damaged after packet 1"), "{}", said(&bytes));
    // A packet of an interface that nothing has described.
    let bytes = pcapng(&[], &[]);
    let mut orphan = pcapng(&[(ETHERNET, 6)], &[(0, whole(0, vec![1; 60]))]);
    orphan.drain(bytes.len()..bytes.len() + 32);
    assert!(said(&orphan).contains("is damaged after packet 0"));
}

#[test]
fn a_large_packet_is_read() {
    // As long as the kernel makes them, and longer than what is read at once.
    for size in [65_549, 262_144, 600_000] {
        let bytes = pcap(ETHERNET, &[whole(0, vec![1; size]), whole(1, vec![2; 60])]);
        let (seen, _) = packets(&bytes).unwrap();
        assert_eq!((seen[0].3.len(), seen.len()), (size, 2));
    }
}

fn prepared(link: u32, data: &[u8], length: usize) -> Result<(Vec<u8>, bool, [Addr; 2]), Skip> {
    let mut frame = vec![9; 9];
    let packet = Packet { number: 1, at: 0, link: link as i32, data, length: length as u32 };
    prepare(&packet, &mut frame).map(|r| (frame, r.padded, [r.parsed.src, r.parsed.dst]))
}

#[test]
fn a_frame_is_what_the_device_saw() {
    let segment = v4(R4, L4, 6).frame(&tcp(40000, 80, SYN));
    let (frame, padded, [from, to]) = prepared(ETHERNET, &segment, segment.len()).unwrap();
    assert_eq!((&frame, padded, from, to), (&segment, false, Addr::v4(R4), Addr::v4(L4)));
    // Without its Ethernet header, and behind one of the kernel's own making.
    for (link, header) in [(RAW, vec![]), (228, vec![]), (SLL, [vec![0; 14], vec![8, 0]].concat())] {
        let data = [&header[..], &segment[14..]].concat();
        let (frame, padded, _) = prepared(link, &data, data.len()).unwrap();
        assert_eq!((&frame[12..], padded), (&segment[12..], false), "{link}");
    }
    let v6 = v6(R6, L6, 6, &tcp(40000, 80, SYN));
    assert_eq!(prepared(RAW, &v6[14..], v6.len() - 14).unwrap().0[12..], v6[12..]);
    assert_eq!(prepared(SLL, &[0; 40], 40).unwrap_err(), Skip::NoIp);
    assert_eq!(prepared(127, &segment, segment.len()).unwrap_err(), Skip::Link(127));
    assert_eq!(prepared(ETHERNET, &eth(0x88cc, &[0; 46]), 60).unwrap_err(), Skip::NoIp);
}

#[test]
fn what_was_cut_is_padded_if_its_headers_are_whole() {
    let segment = v4(R4, L4, 6).frame(&[tcp(40000, 80, ACK), vec![7; 1000]].concat());
    let (frame, padded, _) = prepared(ETHERNET, &segment[..54], segment.len()).unwrap();
    assert!(padded && frame.len() == segment.len() && frame[..54] == segment[..54]);
    assert_eq!(prepared(ETHERNET, &segment[..45], segment.len()).unwrap_err(), Skip::Cut);
    assert_eq!(prepared(ETHERNET, &segment[..10], segment.len()).unwrap_err(), Skip::Cut);
    assert_eq!(prepared(RAW, &[], 40).unwrap_err(), Skip::Cut);
    // An error that quotes less than what decides.
    let error = v4(R4, L4, 1).frame(&icmp(3, 3, &v4(L4, R4, 17).bytes(&udp(1, 2, &[7; 400]))));
    assert_eq!(prepared(ETHERNET, &error[..60], error.len()).unwrap_err(), Skip::Cut);
    assert!(prepared(ETHERNET, &error[..150], error.len()).unwrap().1);
}

#[test]
fn what_is_longer_than_the_kernel_takes_is_shortened() {
    let mut long = v4(R4, L4, 17);
    long.options = vec![1; 8];
    let frame = long.frame(&udp(5000, 53, &vec![7; 60_000]));
    for kept in [frame.len(), 100] {
        let (short, padded, _) = prepared(ETHERNET, &frame[..kept], frame.len()).unwrap();
        assert_eq!((short.len(), padded), (2048, kept == 100));
        // The lengths are those of what is left; all else is as it was.
        assert_eq!((&short[16..18], &short[46..48]), (&2034_u16.to_be_bytes()[..], &2006_u16.to_be_bytes()[..]));
        assert_eq!((&short[..16], &short[18..46]), (&frame[..16], &frame[18..46]));
    }
    let frame = eth(0x8100, &tag(5, 0x86dd, &v6_bytes(R6, L6, 17, 64, &udp(5000, 53, &vec![7; 60_000]))));
    let (short, ..) = prepared(ETHERNET, &frame, frame.len()).unwrap();
    assert_eq!((&short[22..24], &short[62..64]), (&1990_u16.to_be_bytes()[..], &1990_u16.to_be_bytes()[..]));
}

#[test]
fn the_way_is_told_by_whose_address_it_is() {
    let own = BTreeSet::from([Addr::v4(L4), Addr(L6)]);
    let way = |frame: &[u8]| {
        let mut buffer = Vec::new();
        let packet = Packet { number: 1, at: 0, link: 1, data: frame, length: frame.len() as u32 };
        prepare(&packet, &mut buffer).and_then(|r| direction(&r.parsed, &own))
    };
    assert_eq!(way(&v4(R4, L4, 17).frame(&udp(1, 2, &[]))), Ok(Direction::Inbound));
    assert_eq!(way(&v6(L6, R6, 17, &udp(1, 2, &[]))), Ok(Direction::Outbound));
    assert_eq!(way(&eth(0x0806, &arp(L4, R4))), Ok(Direction::Outbound));
    assert_eq!(way(&v4(L4, L4, 17).frame(&udp(1, 2, &[]))), Err(Skip::Within));
    assert_eq!(way(&v4(R4, [10, 9, 9, 9], 17).frame(&udp(1, 2, &[]))), Err(Skip::Foreign));
    let mut wrong = v4(R4, L4, 17);
    wrong.length = Some(9999);
    assert_eq!(way(&wrong.frame(&udp(1, 2, &[]))), Err(Skip::Malformed));
    // One whose addresses can be read is judged: it is dropped whatever the rules are.
    assert_eq!(way(&v4(R4, L4, 6).frame(&tcp(1, 2, SYN | FIN))), Ok(Direction::Inbound));
}

#[test]
fn one_device_of_several_is_found_by_its_packets() {
    let names = ["eth0", "eth1", "tap0"].map(String::from);
    assert_eq!(only(&names, &[0, 7, 0]), Ok(1));
    assert!(only(&names, &[0, 0, 0]).unwrap_err().contains("no packet of eth0, eth1, tap0"));
    let said = only(&names, &[3, 0, 1]).unwrap_err();
    assert_eq!(said, "the capture holds packets of eth0 (3 packets), tap0 (1 packets): name one with --device");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever the bytes are, there is an answer, and what is prepared can be run.
    #[test]
    fn random_bytes_are_no_trouble(
        start in 0..4_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let good = v4(R4, L4, 6).frame(&tcp(1, 2, SYN));
        let mut file = match start {
            0 => bytes,
            1 => [pcap(ETHERNET, &[whole(0, good)]), bytes].concat(),
            2 => [pcapng(&[(RAW, 6), (SLL, 9)], &[(0, whole(0, good))]), bytes].concat(),
            _ => pcap(SLL, &[(0, bytes, 90_000), whole(3, good)]),
        };
        for (at, byte) in flips {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = byte;
            }
        }
        let mut frame = Vec::new();
        let _ = read("x", &file[..], |p| {
            if prepare(p, &mut frame).is_ok() {
                assert!((34..=2048).contains(&frame.len()), "{}", frame.len());
            }
            Ok::<(), CaptureError>(())
        });
    }
}
