//! Frames by hand: every field can be wrong.

/// Own and foreign addresses of the packet tests.
pub const L4: [u8; 4] = [10, 0, 0, 5];
pub const R4: [u8; 4] = [192, 0, 2, 7];
pub const L6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
pub const R6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
pub const LL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// An Ethernet header in front of a payload.
pub fn eth(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    f.extend(ether_type.to_be_bytes());
    f.extend(payload);
    f
}

/// A VLAN tag and what follows it.
pub fn tag(id: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = id.to_be_bytes().to_vec();
    f.extend(ether_type.to_be_bytes());
    f.extend(payload);
    f
}

/// IPv4 fields that tests bend.
#[derive(Clone)]
pub struct V4 {
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub protocol: u8,
    pub ttl: u8,
    pub id: u16,
    /// Flags and offset as on the wire.
    pub fragment: u16,
    /// Total length; computed when `None`.
    pub length: Option<u16>,
    /// First byte; computed when `None`.
    pub version: Option<u8>,
    /// Option bytes, a multiple of four.
    pub options: Vec<u8>,
}

pub fn v4(src: [u8; 4], dst: [u8; 4], protocol: u8) -> V4 {
    V4 { src, dst, protocol, ttl: 64, id: 1, fragment: 0, length: None, version: None, options: Vec::new() }
}

impl V4 {
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut p = vec![self.version.unwrap_or(0x40 | (header / 4) as u8), 0];
        p.extend(self.length.unwrap_or((header + payload.len()) as u16).to_be_bytes());
        p.extend(self.id.to_be_bytes());
        p.extend(self.fragment.to_be_bytes());
        p.extend([self.ttl, self.protocol, 0, 0]);
        p.extend(self.src);
        p.extend(self.dst);
        p.extend(&self.options);
        p.extend(payload);
        p
    }
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        eth(0x0800, &self.bytes(payload))
    }
}

/// An IPv6 packet.
pub fn v6_bytes(src: [u8; 16], dst: [u8; 16], next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((payload.len() as u16).to_be_bytes());
    p.extend([next, hops]);
    p.extend(src);
    p.extend(dst);
    p.extend(payload);
    p
}

/// An IPv6 frame.
pub fn v6(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    eth(0x86dd, &v6_bytes(src, dst, next, 64, payload))
}

/// The same with a hop limit of its own.
pub fn v6_hops(src: [u8; 16], dst: [u8; 16], next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    eth(0x86dd, &v6_bytes(src, dst, next, hops, payload))
}

/// An IPv6 extension header of eight bytes.
pub fn ext(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![next, 0, 0, 0, 0, 0, 0, 0];
    p.extend(payload);
    p
}

/// An IPv6 fragment header.
pub fn frag6(next: u8, offset: u16, more: bool, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![next, 0];
    p.extend((offset & 0xfff8 | u16::from(more)).to_be_bytes());
    p.extend(id.to_be_bytes());
    p.extend(payload);
    p
}

pub fn tcp(src: u16, dst: u16, flags: u8) -> Vec<u8> {
    tcp_at(src, dst, flags, 1, 0)
}

/// TCP with sequence and acknowledgement number.
pub fn tcp_at(src: u16, dst: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut p = src.to_be_bytes().to_vec();
    p.extend(dst.to_be_bytes());
    p.extend(seq.to_be_bytes());
    p.extend(ack.to_be_bytes());
    p.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    p
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut p = src.to_be_bytes().to_vec();
    p.extend(dst.to_be_bytes());
    p.extend((8 + payload.len() as u16).to_be_bytes());
    p.extend([0, 0]);
    p.extend(payload);
    p
}

/// ICMP, ICMPv6 or IGMP with an identifier of 0x1234.
pub fn icmp(kind: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![kind, code, 0, 0, 0x12, 0x34, 0, 1];
    p.extend(payload);
    p
}

/// A neighbour message about a target.
pub fn nd(kind: u8, target: [u8; 16]) -> Vec<u8> {
    let mut p = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    p.extend(target);
    p
}

/// An ARP packet.
pub fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    p.extend(sender);
    p.extend([0; 6]);
    p.extend(target);
    p
}
