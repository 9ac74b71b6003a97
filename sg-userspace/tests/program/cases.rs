//! Named packets: what they are, what becomes of them, why. Each runs at every
//! hook that sees its direction, on both sides.

use sg_common::reason::{Reason, Verdict};
use sg_userspace::{
    dataplane::probe::{Entry, Probe},
    model::Direction,
};

use crate::support::{self, frames::*, kernel::probe};

use Direction::{Inbound as In, Outbound as Out};
use Reason::*;
use Verdict::{Accept, Drop};

/// Rules 0 to 9, in this order.
const POLICY: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_source_cidr_ip: '::/0'}
  - {direction: ingress, policy: drop, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, ipv6_source_cidr_ip: '::/0'}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '2001:db8:ffff::/48'}
  - {direction: ingress, ip_protocol: gre, source_cidr_ip: 192.0.2.0/24}
  - {direction: ingress, ip_protocol: 132, source_cidr_ip: 192.0.2.0/24}
  - {direction: egress, policy: drop, ip_protocol: tcp, port_range: 9999/9999, dest_cidr_ip: 0.0.0.0/0}
network_interfaces:
- {device: host0, side: host, private_ip_addresses: [10.0.0.5, '2001:db8::5'], security_group_ids: [g]}
- {device: guest0, side: guest, private_ip_addresses: [10.0.0.6], security_group_ids: [g]}
";

struct Case {
    name: &'static str,
    direction: Direction,
    frame: Vec<u8>,
    host: (Verdict, Reason),
    guest: (Verdict, Reason),
}

fn case(name: &'static str, direction: Direction, frame: Vec<u8>, verdict: Verdict, reason: Reason) -> Case {
    Case { name, direction, frame, host: (verdict, reason), guest: (verdict, reason) }
}

impl Case {
    fn guest(mut self, verdict: Verdict, reason: Reason) -> Self {
        self.guest = (verdict, reason);
        self
    }
}

fn in4(protocol: u8) -> V4 {
    v4(R4, L4, protocol)
}
fn out4(protocol: u8) -> V4 {
    v4(L4, R4, protocol)
}

fn ipv4() -> Vec<Case> {
    let with = |f: &dyn Fn(&mut V4)| {
        let mut p = in4(6);
        f(&mut p);
        p
    };
    let syn = tcp(40000, 80, SYN);
    let mut padded = in4(6).frame(&syn);
    padded.extend([0; 10]);
    vec![
        case("tcp to an open port", In, in4(6).frame(&syn), Accept, Rule),
        case("tcp to a closed port", In, in4(6).frame(&tcp(40000, 81, SYN)), Drop, Default),
        case("tcp to a port a rule drops", In, in4(6).frame(&tcp(40000, 443, SYN)), Drop, Rule),
        case("ethernet padding is no payload", In, padded, Accept, Rule),
        case("options are walked", In, with(&|p| p.options = vec![1; 8]).frame(&syn), Accept, Rule),
        case("the most options", In, with(&|p| p.options = vec![1; 40]).frame(&syn), Accept, Rule),
        case("version 5", In, with(&|p| p.version = Some(0x55)).frame(&syn), Drop, IpHeader),
        case("version 6 in an IPv4 frame", In, with(&|p| p.version = Some(0x65)).frame(&syn), Drop, IpHeader),
        case("a header of 16 bytes", In, with(&|p| p.version = Some(0x44)).frame(&syn), Drop, IpHeader),
        case("a header of nothing", In, with(&|p| p.version = Some(0x40)).frame(&syn), Drop, IpHeader),
        case("a header longer than the packet", In, with(&|p| p.version = Some(0x4f)).frame(&syn[..4]), Drop, IpLength),
        case("a length beyond the packet", In, with(&|p| p.length = Some(1000)).frame(&syn), Drop, IpLength),
        case("a length below the header", In, with(&|p| p.length = Some(19)).frame(&syn), Drop, IpLength),
        case("a length of nothing", In, with(&|p| p.length = Some(0)).frame(&syn), Drop, IpLength),
        case("a length that cuts tcp", In, with(&|p| p.length = Some(39)).frame(&syn), Drop, Transport),
        case("only the ethernet header and 19 bytes", In, eth(0x0800, &in4(6).bytes(&syn)[..19]), Drop, Truncated),
        case("one byte behind the ethernet header", In, eth(0x0800, &[0x45]), Drop, Truncated),
        case("land", In, v4(L4, L4, 6).frame(&syn), Drop, Land),
        case("land outbound", Out, v4(L4, L4, 6).frame(&syn), Drop, Land),
        case("outbound default", Out, out4(6).frame(&tcp(1, 2, SYN)), Accept, Default),
        case("outbound rule", Out, out4(6).frame(&tcp(1, 9999, SYN)), Drop, Rule),
        case("port 25 to a public address", Out, out4(6).frame(&tcp(1, 25, SYN)), Drop, Smtp),
        case("port 25 to a private address", Out, v4(L4, [10, 9, 9, 9], 6).frame(&tcp(1, 25, SYN)), Accept, Default),
        case("port 25 by udp", Out, out4(17).frame(&udp(1, 25, &[])), Accept, Default),
        case("port 25 inbound", In, in4(6).frame(&tcp(1, 25, SYN)), Drop, Default),
        case("metadata", Out, v4(L4, [100, 100, 100, 200], 6).frame(&tcp(1, 80, SYN)), Accept, Provider),
        case("metadata inbound", In, v4([100, 100, 100, 200], L4, 6).frame(&tcp(80, 1, SYN)), Drop, Default),
        case("a member's address", In, v4([10, 0, 0, 6], L4, 6).frame(&tcp(1, 7777, SYN)), Accept, IntraGroup),
        case(
            "a member's address before a drop rule",
            In,
            v4([10, 0, 0, 6], L4, 6).frame(&tcp(1, 443, SYN)),
            Accept,
            IntraGroup,
        ),
        case("gre", In, in4(47).frame(&[0, 0, 8, 0]), Accept, Rule),
        case("gre cut", In, in4(47).frame(&[0, 0, 8]), Drop, Transport),
        case("sctp", In, in4(132).frame(&[0; 12]), Accept, Rule),
        case("a protocol no rule names", In, in4(99).frame(&[0; 12]), Drop, Default),
        case("a protocol without payload", Out, out4(99).frame(&[]), Accept, Default),
    ]
}

fn transport() -> Vec<Case> {
    let t = |flags| in4(6).frame(&tcp(40000, 80, flags));
    let mut short_offset = tcp(40000, 80, SYN);
    short_offset[12] = 0x40;
    let mut long_offset = tcp(40000, 80, SYN);
    long_offset[12] = 0xf0;
    let mut options = tcp(40000, 80, SYN);
    options[12] = 0x80;
    options.extend([1; 12]);
    let mut udp_long = udp(1, 53, &[1, 2, 3]);
    udp_long[5] = 200;
    let mut udp_short = udp(1, 53, &[1, 2, 3]);
    udp_short[5] = 7;
    let mut udp_less = udp(1, 53, &[1, 2, 3]);
    udp_less[5] = 9;
    vec![
        case("no flags", In, t(0), Drop, TcpFlags),
        case("syn and fin", In, t(SYN | FIN), Drop, TcpFlags),
        case("syn and rst", In, t(SYN | RST), Drop, TcpFlags),
        case("fin and rst", In, t(FIN | RST | ACK), Drop, TcpFlags),
        case("fin alone", In, t(FIN), Drop, TcpFlags),
        case("fin, psh, urg: a christmas tree", In, t(FIN | 8 | 32), Drop, TcpFlags),
        case("all flags", In, t(0xff), Drop, TcpFlags),
        case("ecn setup", In, t(SYN | 0xc0), Accept, Rule),
        case("a syn-ack without a flow", In, t(SYN | ACK), Drop, NoFlow),
        case("an ack without a flow is picked up", In, t(ACK), Accept, Rule),
        case("a rst without a flow is judged alone", In, t(RST), Accept, Rule),
        case("an ack to a closed port", In, in4(6).frame(&tcp(40000, 81, ACK)), Drop, Default),
        case(
            "a syn-ack outbound, as the reversed inbound flow",
            Out,
            out4(6).frame(&tcp(80, 40001, SYN | ACK)),
            Accept,
            Rule,
        ),
        case("a syn-ack outbound from a closed port", Out, out4(6).frame(&tcp(81, 40001, SYN | ACK)), Drop, Default),
        case("a data offset of 16", In, in4(6).frame(&short_offset), Drop, Transport),
        case("a data offset beyond the segment", In, in4(6).frame(&long_offset), Drop, Transport),
        case("tcp options", In, in4(6).frame(&options), Accept, Rule),
        case("nineteen bytes of tcp", In, in4(6).frame(&tcp(40000, 80, SYN)[..19]), Drop, Transport),
        case("tcp of nothing", In, in4(6).frame(&[]), Drop, Transport),
        case("udp to an open port", In, in4(17).frame(&udp(1, 53, &[1])), Accept, Rule),
        case("udp to a closed port", In, in4(17).frame(&udp(1, 54, &[1])), Drop, Default),
        case("udp without payload", In, in4(17).frame(&udp(1, 53, &[])), Accept, Rule),
        case("udp longer than the packet", In, in4(17).frame(&udp_long), Drop, Transport),
        case("udp shorter than its header", In, in4(17).frame(&udp_short), Drop, Transport),
        case("udp shorter than the packet", In, in4(17).frame(&udp_less), Accept, Rule),
        case("seven bytes of udp", In, in4(17).frame(&udp(1, 53, &[])[..7]), Drop, Transport),
        case("ping", In, in4(1).frame(&icmp(8, 0, &[0; 8])), Accept, Rule),
        case("ping from elsewhere", In, v4([198, 51, 100, 1], L4, 1).frame(&icmp(8, 0, &[])), Drop, Default),
        case("seven bytes of icmp", In, in4(1).frame(&icmp(8, 0, &[])[..7]), Drop, Transport),
        case("an echo reply without a request", In, in4(1).frame(&icmp(0, 0, &[])), Accept, Rule),
        case("a timestamp request, by the rules", In, in4(1).frame(&icmp(13, 0, &[])), Accept, Rule),
        case("unreachable about nothing", In, v4([198, 51, 100, 1], L4, 1).frame(&icmp(3, 4, &[])), Drop, Default),
        case(
            "unreachable about a flow that is not",
            In,
            v4([198, 51, 100, 1], L4, 1).frame(&icmp(3, 4, &out4(6).bytes(&tcp(1, 2, SYN)))),
            Drop,
            Default,
        ),
    ]
}

fn ipv6() -> Vec<Case> {
    let syn = tcp(40000, 80, SYN);
    let i = |next: u8, payload: &[u8]| v6(R6, L6, next, payload);
    let mut chain = syn.clone();
    let mut next = 6;
    for _ in 0..6 {
        chain = ext(next, &chain);
        next = 60;
    }
    let seven = ext(60, &chain);
    let mut long = ext(6, &syn);
    long[1] = 200;
    let mut bad_version = i(6, &syn);
    bad_version[14] = 0x50;
    let mut too_long = i(6, &syn);
    too_long[19] = 200;
    let mut cut = i(6, &syn);
    cut.truncate(14 + 39);
    let mut none = i(6, &[]);
    none[18..20].copy_from_slice(&[0, 0]);
    let auth = {
        let mut p = vec![6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        p.extend(&syn);
        p
    };
    vec![
        case("v6 tcp to an open port", In, i(6, &syn), Accept, Rule),
        case("v6 tcp to a closed port", In, i(6, &tcp(1, 81, SYN)), Drop, Default),
        case("0.0.0.0/0 does not cover IPv6", In, i(6, &tcp(1, 443, SYN)), Drop, Default),
        case("v6 udp", In, i(17, &udp(1, 53, &[])), Accept, Rule),
        case("v6 ping", In, i(58, &icmp(128, 0, &[])), Accept, Rule),
        case("v6 outbound", Out, v6(L6, R6, 6, &tcp(1, 2, SYN)), Accept, Default).guest(Drop, Spoofed),
        case("v6 port 25", Out, v6(L6, R6, 6, &tcp(1, 25, SYN)), Drop, Smtp).guest(Drop, Spoofed),
        case("v6 land", In, v6(L6, L6, 6, &syn), Drop, Land),
        case("hop-by-hop", In, i(0, &ext(6, &syn)), Accept, Rule),
        case("destination options", In, i(60, &ext(6, &syn)), Accept, Rule),
        case("routing", In, i(43, &ext(6, &syn)), Accept, Rule),
        case("authentication header", In, i(51, &auth), Accept, Rule),
        case("six headers", In, i(60, &chain), Accept, Rule),
        case("seven headers", In, i(60, &seven), Drop, ExtensionDepth),
        case("a header beyond the packet", In, i(60, &long), Drop, ExtensionHeader),
        case("four bytes of a header", In, i(60, &[6, 0, 0, 0]), Drop, ExtensionHeader),
        case("an atomic fragment is whole", In, i(44, &frag6(6, 0, false, 7, &syn)), Accept, Rule),
        case(
            "two fragment headers",
            In,
            i(44, &frag6(44, 0, false, 7, &frag6(6, 0, false, 7, &syn))),
            Drop,
            ExtensionHeader,
        ),
        case("an IPv4 source in IPv6 clothes", In, v6(MAPPED, L6, 6, &syn), Drop, Malformed),
        case("an IPv4 destination in IPv6 clothes", Out, v6(L6, MAPPED, 6, &syn), Drop, Malformed),
        case("version 5 in an IPv6 frame", In, bad_version, Drop, IpHeader),
        case("a payload length beyond the packet", In, too_long, Drop, IpLength),
        case("39 bytes of header", In, cut, Drop, Truncated),
        case("v6 without payload", In, none, Drop, Transport),
        case("no next header", Out, v6(L6, R6, 59, &[]), Accept, Default).guest(Drop, Spoofed),
    ]
}

fn essentials() -> Vec<Case> {
    let nd_in = |kind, hops| v6_hops(LL, L6, 58, hops, &nd(kind, L6));
    let nd_out = |kind, hops| v6_hops(L6, LL, 58, hops, &nd(kind, LL));
    let mld = |src, dst, kind, hops| v6_hops(src, dst, 58, hops, &icmp(kind, 0, &[0; 16]));
    let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut igmp_in = v4(R4, [224, 0, 0, 1], 2);
    igmp_in.ttl = 1;
    let mut igmp_out = v4(L4, [224, 0, 0, 22], 2);
    igmp_out.ttl = 1;
    let dhcp_out = |src, dst| v4(src, dst, 17).frame(&udp(68, 67, &[0; 8]));
    let mut arp_bad = arp(R4, L4);
    arp_bad[3] = 6;
    vec![
        case("arp", In, eth(0x0806, &arp(R4, L4)), Accept, Essential),
        case("arp outbound", Out, eth(0x0806, &arp(L4, R4)), Accept, Essential),
        case("arp probe", Out, eth(0x0806, &arp([0; 4], R4)), Accept, Essential),
        case("arp for no IPv4", In, eth(0x0806, &arp_bad), Drop, ArpMalformed),
        case("arp cut", In, eth(0x0806, &arp(R4, L4)[..20]), Drop, Truncated),
        case("arp of another's address", Out, eth(0x0806, &arp([10, 0, 0, 9], R4)), Accept, Essential)
            .guest(Drop, Spoofed),
        case("neighbour solicitation", In, nd_in(135, 255), Accept, Essential),
        case("neighbour advertisement", In, nd_in(136, 255), Accept, Essential),
        case("router advertisement", In, nd_in(134, 255), Accept, Essential),
        case("redirect", In, nd_in(137, 255), Accept, Essential),
        case("router solicitation inbound", In, nd_in(133, 255), Drop, Default),
        case("neighbour solicitation from afar", In, nd_in(135, 254), Drop, Default),
        case("router advertisement from afar", In, nd_in(134, 64), Drop, Default),
        case("router solicitation", Out, v6_hops(LL, all, 58, 255, &nd(133, LL)), Accept, Essential),
        case("neighbour solicitation outbound", Out, v6_hops(LL, R6, 58, 255, &nd(135, R6)), Accept, Essential),
        case("neighbour advertisement outbound", Out, v6_hops(LL, R6, 58, 255, &nd(136, LL)), Accept, Essential),
        case("advertisement of another's address", Out, v6_hops(LL, R6, 58, 255, &nd(136, R6)), Accept, Essential)
            .guest(Drop, Spoofed),
        case("router advertisement outbound", Out, nd_out(134, 255), Accept, Default).guest(Drop, Spoofed),
        case("router advertisement by a guest", Out, v6_hops(LL, all, 58, 255, &nd(134, LL)), Accept, Default)
            .guest(Drop, Rogue),
        case("redirect by a guest", Out, v6_hops(LL, all, 58, 255, &nd(137, LL)), Accept, Default).guest(Drop, Rogue),
        case("mld query", In, mld(LL, all, 130, 1), Accept, Essential),
        case("mld query from afar", In, mld(LL, all, 130, 2), Drop, Default),
        case("mld query from a global address", In, mld(R4_MAPPED, all, 130, 1), Drop, Default),
        case("mld report", Out, mld(LL, all, 143, 1), Accept, Essential),
        case("mld report inbound", In, mld(LL, all, 143, 1), Drop, Default),
        case("igmp query", In, igmp_in.frame(&icmp(0x11, 0, &[])), Accept, Essential),
        case("igmp report", Out, igmp_out.frame(&icmp(0x16, 0, &[])), Accept, Essential),
        case("igmp report inbound", In, igmp_in.frame(&icmp(0x16, 0, &[])), Drop, Default),
        case("igmp query with a ttl of 64", In, v4(R4, [224, 0, 0, 1], 2).frame(&icmp(0x11, 0, &[])), Drop, Default),
        case("dhcp discover", Out, dhcp_out([0; 4], [255; 4]), Accept, Essential),
        case("dhcp renew", Out, dhcp_out(L4, [10, 0, 0, 1]), Accept, Essential),
        case("dhcp to a public server", Out, dhcp_out(L4, R4), Accept, Default),
        case("dhcp offer", In, v4([10, 0, 0, 1], L4, 17).frame(&udp(67, 68, &[0; 8])), Accept, Essential),
        case("dhcp offer by a guest", Out, v4(L4, [255; 4], 17).frame(&udp(67, 68, &[0; 8])), Accept, Default)
            .guest(Drop, Rogue),
        case("dhcpv6", Out, v6(LL, all, 17, &udp(546, 547, &[0; 8])), Accept, Essential),
        case("dhcpv6 reply", In, v6(R6, LL, 17, &udp(547, 546, &[0; 8])), Accept, Essential),
        case("dhcpv6 reply to a global address", In, v6(R6, L6, 17, &udp(547, 546, &[0; 8])), Drop, Default),
        case("dhcpv6 server by a guest", Out, v6(LL, all, 17, &udp(547, 546, &[])), Accept, Default).guest(Drop, Rogue),
        case("icmp redirect outbound", Out, out4(1).frame(&icmp(5, 0, &[0; 20])), Accept, Default).guest(Drop, Rogue),
        case("another's source address", Out, v4([10, 0, 0, 9], R4, 6).frame(&tcp(1, 2, SYN)), Accept, Default)
            .guest(Drop, Spoofed),
        case("no source address", Out, v4([0; 4], R4, 6).frame(&tcp(1, 2, SYN)), Accept, Default).guest(Drop, Spoofed),
        case("duplicate address detection", Out, v6_hops([0; 16], all, 58, 255, &nd(135, LL)), Accept, Essential),
        case("detection of another's address", Out, v6_hops([0; 16], all, 58, 255, &nd(135, R6)), Accept, Essential)
            .guest(Drop, Spoofed),
    ]
}

/// A member's IPv4 address, mapped.
const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 6];
/// A global IPv6 address that no rule names.
const R4_MAPPED: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn layer2() -> Vec<Case> {
    let ip = in4(6).bytes(&tcp(40000, 80, SYN));
    let one = eth(0x8100, &tag(5, 0x0800, &ip));
    let two = eth(0x88a8, &tag(5, 0x8100, &tag(6, 0x0800, &ip)));
    let three = eth(0x88a8, &tag(5, 0x8100, &tag(6, 0x8100, &tag(7, 0x0800, &ip))));
    vec![
        case("one tag", In, one, Accept, Rule),
        case("two tags", In, two, Accept, Rule),
        case("three tags", In, three, Drop, VlanDepth),
        case("a tag cut", In, eth(0x8100, &[0, 5]), Drop, Truncated),
        case("an ethertype of nobody", In, eth(0x88b5, &[0; 50]), Accept, Ethertype).guest(Drop, Ethertype),
        case("an ethertype of nobody, outbound", Out, eth(0x88b5, &[0; 50]), Accept, Ethertype).guest(Drop, Ethertype),
        case("lldp", In, eth(0x88cc, &[0; 50]), Accept, Ethertype).guest(Drop, Ethertype),
        case("a length, not a type", In, eth(0x0026, &[0x42; 50]), Accept, Ethertype).guest(Drop, Ethertype),
    ]
}

fn fragments() -> Vec<Case> {
    let frag = |id: u16, offset: u16, more: bool, protocol: u8, payload: &[u8]| {
        let mut p = in4(protocol);
        p.id = id;
        p.fragment = (offset / 8) | if more { 0x2000 } else { 0 };
        p.frame(payload)
    };
    let mut first_udp = udp(1, 53, &[7; 16]);
    first_udp[4..6].copy_from_slice(&1000_u16.to_be_bytes());
    vec![
        case("a later fragment whose first was not seen", In, frag(77, 800, true, 17, &[1; 24]), Drop, FragmentUnseen),
        case("a last fragment whose first was not seen", In, frag(78, 800, false, 17, &[1; 24]), Drop, FragmentUnseen),
        case("a first fragment", In, frag(79, 0, true, 17, &first_udp), Accept, Rule),
        case("a later one follows its first", In, frag(79, 24, false, 17, &[1; 24]), Accept, Fragment),
        case("the same id of another protocol", In, frag(79, 24, false, 6, &[1; 24]), Drop, FragmentUnseen),
        case("another id", In, frag(80, 24, false, 17, &[1; 24]), Drop, FragmentUnseen),
        case("a first fragment that is denied", In, frag(81, 0, true, 17, &udp(1, 54, &[7; 16])), Drop, Default),
        case("what follows a denied one", In, frag(81, 24, false, 17, &[1; 24]), Drop, FragmentUnseen),
        case("a first fragment that cuts tcp", In, frag(82, 0, true, 6, &tcp(1, 80, SYN)[..16]), Drop, FragmentShort),
        case("what follows one cut short", In, frag(82, 16, false, 6, &[1; 24]), Drop, FragmentUnseen),
        case("a first fragment of tcp", In, frag(83, 0, true, 6, &tcp(41000, 80, SYN)), Accept, Rule),
        case("a fragment into the tcp header", In, frag(83, 8, false, 6, &[1; 24]), Drop, FragmentOverlap),
        case("a fragment behind the tcp header", In, frag(83, 24, false, 6, &[1; 24]), Accept, Fragment),
        case("a denied first overwrites", In, frag(83, 0, true, 6, &tcp(41000, 81, SYN)), Drop, Default),
        case("and its followers are dropped", In, frag(83, 24, false, 6, &[1; 24]), Drop, Fragment),
        case("past the largest datagram", In, frag(84, 65_528, false, 17, &[1; 24]), Drop, IpLength),
        case("v6 first fragment", In, v6(R6, L6, 44, &frag6(17, 0, true, 9, &first_udp)), Accept, Rule),
        case("v6 later fragment", In, v6(R6, L6, 44, &frag6(17, 24, false, 9, &[1; 8])), Accept, Fragment),
        case("v6 later fragment unseen", In, v6(R6, L6, 44, &frag6(17, 24, false, 10, &[1; 8])), Drop, FragmentUnseen),
        case(
            "v6 first fragment with options before tcp",
            In,
            v6(R6, L6, 44, &frag6(60, 0, true, 12, &ext(6, &[tcp(42000, 80, SYN), vec![0; 4]].concat()))),
            Accept,
            Rule,
        ),
        case(
            "v6 fragment into the tcp header behind them",
            In,
            v6(R6, L6, 44, &frag6(60, 24, false, 12, &[1; 8])),
            Drop,
            FragmentOverlap,
        ),
        case("v6 fragment behind it", In, v6(R6, L6, 44, &frag6(60, 32, false, 12, &[1; 8])), Accept, Fragment),
        case("v6 first fragment cut short", In, v6(R6, L6, 44, &frag6(6, 0, true, 11, &[0; 8])), Drop, FragmentShort),
    ]
}

/// Runs a case at a hook; the counters must move by one.
fn check(probe: &mut Probe, case: &Case, entry: Entry, guest: bool) {
    let (verdict, reason) = if guest { case.guest } else { case.host };
    let before = probe.reason_count(1, case.direction, reason, verdict).unwrap();
    let (got, event) = match probe.run(entry, &case.frame) {
        Ok(ran) => ran,
        // TEST_RUN at TC refuses frames that end within their IP header; XDP takes them.
        Err(_) if reason == Truncated && entry != Entry::Xdp => return,
        Err(e) => panic!("{}, {entry:?}: {e}", case.name),
    };
    let said = Reason::from_u8(event.reason).unwrap();
    let place = format!("{}, {entry:?}, guest {guest}", case.name);
    assert_eq!((got, said), (verdict, reason), "{place}");
    assert_eq!(event.verdict, got as u8, "{place}");
    assert_eq!(probe.reason_count(1, case.direction, reason, verdict).unwrap(), before + 1, "counter of {place}");
    probe.forget(probe.zone(), &event).unwrap();
}

#[test]
fn named_packets_at_every_hook_on_both_sides() {
    let Some(mut probe) = probe() else { return };
    let groups = [ipv4(), transport(), ipv6(), essentials(), layer2(), fragments()];
    let cases: Vec<&Case> = groups.iter().flatten().collect();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    let model = support::model(POLICY);
    let mut instances = model.declared_instances();
    instances[1].addresses.push("10.0.0.5".parse().unwrap());
    for (instance, entries) in
        [(0, [Entry::Xdp, Entry::TcIn, Entry::TcOut]), (1, [Entry::Xdp, Entry::TcIn, Entry::TcOut])]
    {
        let guest = instance == 1;
        for entry in entries {
            // Each pass has a zone of its own, so that no flow or fragment is left over.
            // The host interface has the addresses of the packets; the guest shares the IPv4 one.
            probe.prepare(&model, &model.declared_instances(), instance).unwrap();
            if guest {
                probe.own(probe.zone(), "10.0.0.5".parse().unwrap()).unwrap();
            }
            let direction = if (entry == Entry::TcOut) == guest { In } else { Out };
            for case in cases.iter().filter(|c| c.direction == direction) {
                check(&mut probe, case, entry, guest);
            }
        }
    }
}
