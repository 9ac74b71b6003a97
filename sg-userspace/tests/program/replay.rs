//! Captures through the kernel program, under two policies.

use std::collections::BTreeSet;

use sg_common::addr::Addr;
use sg_userspace::{
    explain::Answer,
    replay::{
        Replay,
        judge::Judge,
        tally::{Flow, Report},
    },
};

use super::flows::POLICY;
use crate::support::{self, frames::*, kernel::probe, pcap::*};

const SECOND: u64 = 1_000_000;

/// Replays a capture with a policy in force and a candidate; `None` where the kernel cannot be asked.
fn replay(now: &str, candidate: &str, capture: &[u8]) -> Option<Report> {
    drop(probe()?);
    let judge = |text: &str| {
        let model = support::model(text);
        let instances = model.declared_instances();
        if instances.is_empty() { Judge::unprotected() } else { Judge::of(&model, &instances, 0).unwrap() }
    };
    let own = BTreeSet::from([Addr::v4(L4)]);
    let (mut last, replay) = (0, Replay::new(judge(now), judge(candidate), own));
    let report = replay.run("x", capture, |n| last = n).unwrap();
    assert_eq!(last, report.packets);
    Some(report)
}

fn inbound(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4(R4, L4, protocol).frame(payload)
}
fn outbound(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4(L4, R4, protocol).frame(payload)
}

/// What is decided otherwise: change, ports, first packet, packets, who decides before and after.
fn lines(report: &Report) -> Vec<String> {
    let line = |f: &Flow| {
        let ports = [f.local_port, f.remote_port].map(|p| p.map_or_else(|| "-".into(), |p| p.to_string()));
        let [before, after] = &f.rules;
        format!("{} {} {} #{} x{}: {before} -> {after}", f.change, f.protocol, ports.join(" "), f.first, f.packets)
    };
    report.flows.iter().map(line).collect()
}

/// A connection to port 80 with data both ways; a name that is asked for, and again after
/// a pause; a connection that nobody lets in; one whose data were not kept.
fn story() -> Vec<Record> {
    let to_web = |flags, more: &[u8]| inbound(6, &[tcp(40000, 80, flags), more.to_vec()].concat());
    let from_web = |flags, more: &[u8]| outbound(6, &[tcp(80, 40000, flags), more.to_vec()].concat());
    let mut story = vec![
        whole(0, to_web(SYN, &[])),
        whole(100, from_web(SYN | ACK, &[])),
        whole(200, to_web(ACK, &[])),
        whole(300, to_web(ACK, b"GET /")),
        whole(400, from_web(ACK, &[b'x'; 900])),
        // Out, and the answer; then an answer to nothing, as the flow is over.
        whole(SECOND, outbound(17, &udp(6000, 123, &[]))),
        whole(SECOND + 100, inbound(17, &udp(123, 6000, &[]))),
        whole(60 * SECOND, inbound(17, &udp(123, 6000, &[]))),
        whole(60 * SECOND + 100, outbound(17, &udp(6000, 123, &[]))),
        whole(60 * SECOND + 200, inbound(17, &udp(123, 6000, &[]))),
        whole(61 * SECOND, inbound(6, &tcp(50000, 22, SYN))),
    ];
    let data = to_web(ACK, &[7; 800]);
    story.push((62 * SECOND, data[..60].to_vec(), data.len()));
    story.push((63 * SECOND, data[..30].to_vec(), data.len()));
    story.push(whole(64 * SECOND, v4(R4, [10, 9, 9, 9], 6).frame(&tcp(1, 2, SYN))));
    story
}

#[test]
fn a_policy_decides_as_itself() {
    let Some(report) = replay(POLICY, POLICY, &pcap(ETHERNET, &story())) else { return };
    assert_eq!((report.packets, report.same, report.newly_accepted, report.newly_dropped), (14, 12, 0, 0));
    assert_eq!((report.padded, report.flows.len(), report.untold), (1, 0, 0));
    let skipped: Vec<(&str, u64)> = report.skipped.iter().map(|(why, n)| (why.as_str(), *n)).collect();
    let foreign = "neither of its addresses is the device's";
    assert_eq!(skipped, [("cut before its headers end (snaplen)", 1), (foreign, 1)]);
    assert_eq!(report.until.as_deref(), Some("1970-01-01T00:01:04.000000Z"));
}

#[test]
fn exactly_the_flows_that_differ_are_told() {
    let candidate = POLICY.replace("80/80", "22/22");
    let Some(report) = replay(POLICY, &candidate, &pcap(ETHERNET, &story())) else { return };
    assert_eq!(
        lines(&report),
        [
            "newly dropped tcp 80 40000 #1 x5: g[0] -> (default)",
            "newly accepted tcp 22 50000 #11 x1: (default) -> g[0]"
        ]
    );
    assert_eq!((report.newly_accepted, report.newly_dropped, report.same), (1, 5, 6));
    // An answer to nothing goes out no more than what it answers came in; a later segment
    // opens a flow of its own, as all may go out.
    let dropped = (1..=5).map(|n| replay(POLICY, &candidate, &pcap(ETHERNET, &story()[..n])).unwrap().newly_dropped);
    assert_eq!(dropped.collect::<Vec<u64>>(), [1, 2, 3, 4, 4]);
}

#[test]
fn time_is_that_of_the_capture() {
    // All of UDP goes out unasked, and comes in as a reply only: what comes late is none.
    let capture = pcap(ETHERNET, &story());
    let open = POLICY.replace("53/53", "1/65535");
    let Some(report) = replay(POLICY, &open, &capture) else { return };
    assert_eq!(lines(&report), ["newly accepted udp 6000 123 #8 x1: (default) -> g[1]"]);
    assert_eq!(report.flows[0].at, "1970-01-01T00:01:00.000000Z");
}

#[test]
fn the_new_format_and_bare_packets_are_judged_alike() {
    let candidate = POLICY.replace("80/80", "22/22");
    let bare = |(at, data, length): Record| (at, data[14..].to_vec(), length - 14);
    let old = pcap(ETHERNET, &story());
    let Some(report) = replay(POLICY, &candidate, &old) else { return };
    let new: Vec<(u32, Record)> = story().into_iter().map(|r| (0, r)).collect();
    let raw: Vec<(u32, Record)> = story().into_iter().map(|r| (1, bare(r))).collect();
    for records in [new, raw] {
        let other = replay(POLICY, &candidate, &pcapng(&[(ETHERNET, 9), (RAW, 6)], &records)).unwrap();
        assert_eq!(lines(&other), lines(&report));
        assert_eq!(
            (other.packets, other.same, other.padded, other.skipped),
            (report.packets, report.same, 1, report.skipped.clone())
        );
    }
}

#[test]
fn a_device_that_is_not_protected_lets_all_in() {
    let none = "security_groups: [{security_group_name: g}]\n";
    let Some(report) = replay(none, POLICY, &pcap(ETHERNET, &story())) else { return };
    assert_eq!((report.newly_accepted, report.newly_dropped), (0, 2));
    assert_eq!(report.flows[0].rules, ["not protected", "(default)"]);
    assert!(matches!(&report.flows[0].now, Answer::Judged { reason, .. } if reason == "unprotected"));
}

#[test]
fn flows_of_one_policy_admit_nothing_under_the_other() {
    let closed = POLICY.replace("80/80", "81/81");
    // An enterprise group lets nothing out unasked: each packet is decided otherwise.
    let strict = |policy: &str| {
        policy.replace("security_group_name: g\n", "security_group_name: g\n  security_group_type: enterprise\n")
    };
    let mut story = story();
    story.truncate(5);
    let Some(report) = replay(&strict(POLICY), &strict(&closed), &pcap(ETHERNET, &story)) else { return };
    assert_eq!(lines(&report), ["newly dropped tcp 80 40000 #1 x5: g[0] -> (default)"]);
    let bytes: usize = story.iter().map(|r| r.2).sum();
    assert_eq!(report.flows[0].bytes, bytes as u64);
}

/// Questions that are let in; their answers go out only as such.
#[test]
fn flows_that_are_over_make_room() {
    let strict =
        POLICY.replace("security_group_name: g\n", "security_group_name: g\n  security_group_type: enterprise\n");
    let open = strict.replace(
        "  permissions:\n",
        "  permissions:\n  - {direction: egress, ip_protocol: udp, port_range: 1/65535, dest_cidr_ip: 0.0.0.0/0}\n",
    );
    let asked = |n: u64| v4([192, 0, 2, (n >> 14) as u8], L4, 17).frame(&udp(1024 + (n & 0x3fff) as u16, 53, &[]));
    let answered = |n: u64| v4(L4, [192, 0, 2, (n >> 14) as u8], 17).frame(&udp(53, 1024 + (n & 0x3fff) as u16, &[]));
    let mut records = Vec::new();
    // More than the tables hold, an hour long; each is over after half a minute.
    for n in 0..70_000 {
        let at = n * SECOND / 20;
        records.extend([whole(at, asked(n)), whole(at + 10, answered(n)), whole(at + 20, asked(n))]);
    }
    // One that lives, and a flood beside it.
    let (at, one) = (4000 * SECOND, 100_000);
    records.extend([whole(at, asked(one)), whole(at + 10, answered(one)), whole(at + 20, asked(one))]);
    for n in 200_000..240_000 {
        let at = at + 100 + (n - 200_000) * 100;
        records.extend([whole(at, asked(n)), whole(at + 10, answered(n)), whole(at + 20, asked(n))]);
    }
    records.push(whole(at + 10 * SECOND, answered(one)));
    let Some(report) = replay(&strict, &open, &pcap(ETHERNET, &records)) else { return };
    assert_eq!(lines(&report), Vec::<String>::new());
    assert_eq!(report.same, 330_004);
}
