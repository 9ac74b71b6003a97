//! Bytes to fields: Ethernet, VLAN tags, ARP, and on to IP. Every failure is
//! a reason of its own; nothing is guessed past a header that could not be read.

pub mod ip;
pub mod transport;

use sg_common::{addr::Addr, limits::MAX_VLAN_TAGS, reason::Reason};

use crate::{packet::Packet, proto};

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 or IPv6.
    Ip,
    /// ARP for IPv4 over Ethernet; source and destination are sender and target.
    Arp,
    /// Any other Ethernet type.
    Other,
}

/// Where in a datagram the packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented (IPv6 atomic fragments included).
    Whole,
    /// The first of several.
    First,
    /// A later one: there is no transport header.
    Later,
}

/// All fields that later stages look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it is.
    pub kind: Kind,
    /// IPv4 (and ARP) or IPv6.
    pub v4: bool,
    /// Protocol number of the transport header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// TCP sequence number; 0 for other protocols.
    pub seq: u32,
    /// TCP acknowledgement number, meaningful with the flag; 0 for other protocols.
    pub ack: u32,
    /// First byte of an ICMP, ICMPv6 or IGMP message.
    pub icmp_type: u8,
    /// Second byte of the same.
    pub icmp_code: u8,
    /// Fragment state.
    pub fragment: Fragment,
    /// Protocol number that keys the fragments of a datagram.
    pub fragment_protocol: u8,
    /// Byte offset of a later fragment.
    pub fragment_offset: u16,
    /// Where the fragmented part begins: offsets of fragments count from here.
    pub fragment_base: u32,
    /// Bytes of transport header, that later fragments must not touch.
    pub header_len: u16,
    /// Identification, host order.
    pub fragment_id: u32,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port; ICMP echo: the identifier.
    pub src_port: u16,
    /// Destination port; ICMP echo: the identifier.
    pub dst_port: u16,
    /// `outer VLAN id << 12 | inner VLAN id`.
    pub vlan: u32,
    /// Offset of the transport header.
    pub l4: u32,
    /// Bytes of transport header and payload by the IP length.
    pub l4_len: u32,
    /// Ethernet source; zero without an Ethernet header.
    pub src_mac: [u16; 3],
    /// ARP sender hardware address.
    pub arp_mac: [u16; 3],
}

impl Parsed {
    /// Nothing parsed yet.
    #[inline(always)]
    pub const fn empty() -> Self {
        Self {
            kind: Kind::Other,
            v4: false,
            protocol: 0,
            ttl: 0,
            tcp_flags: 0,
            seq: 0,
            ack: 0,
            icmp_type: 0,
            icmp_code: 0,
            fragment: Fragment::Whole,
            fragment_protocol: 0,
            fragment_offset: 0,
            fragment_base: 0,
            header_len: 0,
            fragment_id: 0,
            src: Addr::UNSPECIFIED,
            dst: Addr::UNSPECIFIED,
            src_port: 0,
            dst_port: 0,
            vlan: 0,
            l4: 0,
            l4_len: 0,
            src_mac: [0; 3],
            arp_mac: [0; 3],
        }
    }
}

/// Parses a packet into `parsed`. With `l2`, it starts with an Ethernet header.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, l2: bool, parsed: &mut Parsed) -> Result<(), Reason> {
    *parsed = Parsed::empty();
    let mut offset = 0u32;
    let ether_type = if l2 {
        let header: [u16; 7] = packet.load(0).ok_or(Reason::Truncated)?;
        parsed.src_mac = [header[3], header[4], header[5]];
        offset = 14;
        vlan(packet, parsed, &mut offset, u16::from_be(header[6]))?
    } else {
        // A word, not a byte: the verifier learns nothing from a check of one byte.
        let first: u32 = packet.load(0).ok_or(Reason::Truncated)?;
        match u32::from_be(first) >> 28 {
            4 => proto::ETH_IPV4,
            6 => proto::ETH_IPV6,
            _ => return Err(Reason::IpHeader),
        }
    };
    match ether_type {
        proto::ETH_IPV4 => ip::parse_v4(packet, offset, parsed),
        proto::ETH_IPV6 => ip::parse_v6(packet, offset, parsed),
        proto::ETH_ARP => arp(packet, offset, parsed),
        _ => Ok(()),
    }
}

#[inline(always)]
const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, proto::ETH_VLAN | proto::ETH_QINQ | proto::ETH_QINQ_OLD)
}

/// Walks the tags, the one in metadata first: the kernel moves the outer tag there.
#[inline(always)]
fn vlan<P: Packet>(packet: &P, parsed: &mut Parsed, offset: &mut u32, first: u16) -> Result<u16, Reason> {
    let mut ether_type = first;
    let mut tags = 0;
    if let Some(tci) = packet.metadata_vlan() {
        parsed.vlan = u32::from(tci & 0xfff);
        tags = 1;
    }
    let mut i = 0;
    while i < MAX_VLAN_TAGS {
        i += 1;
        if !is_tag(ether_type) {
            break;
        }
        if tags == MAX_VLAN_TAGS {
            return Err(Reason::VlanDepth);
        }
        let tag: [u16; 2] = packet.load(*offset).ok_or(Reason::Truncated)?;
        parsed.vlan = (parsed.vlan << 12) | u32::from(u16::from_be(tag[0]) & 0xfff);
        ether_type = u16::from_be(tag[1]);
        *offset += 4;
        tags += 1;
    }
    if is_tag(ether_type) {
        return Err(Reason::VlanDepth);
    }
    // One tag is the outer one.
    if tags == 1 {
        parsed.vlan <<= 12;
    }
    Ok(ether_type)
}

#[inline(always)]
fn arp<P: Packet>(packet: &P, offset: u32, parsed: &mut Parsed) -> Result<(), Reason> {
    let a: [u16; 14] = packet.load(offset).ok_or(Reason::Truncated)?;
    let sizes = u16::from_be(a[2]);
    if u16::from_be(a[0]) != 1 || u16::from_be(a[1]) != proto::ETH_IPV4 || sizes != 0x0604 {
        return Err(Reason::ArpMalformed);
    }
    parsed.kind = Kind::Arp;
    parsed.v4 = true;
    parsed.arp_mac = [a[4], a[5], a[6]];
    parsed.src = v4_of([a[7], a[8]]);
    parsed.dst = v4_of([a[12], a[13]]);
    Ok(())
}

#[inline(always)]
fn v4_of(halves: [u16; 2]) -> Addr {
    let h = halves[0].to_ne_bytes();
    let l = halves[1].to_ne_bytes();
    Addr::v4([h[0], h[1], l[0], l[1]])
}
