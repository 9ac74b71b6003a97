//! TCP segments without payload: what is said to an end of somebody else's connection, and
//! what it answers.

use std::net::IpAddr;

use sg_ebpf::proto::{ACK, FIN, RST, SYN};

use crate::dataplane::adopt::sockets::{End, TCP};

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const HEADER: usize = 20;

/// A segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sends it.
    pub source: End,
    /// Whom it is for; of the same family.
    pub destination: End,
    /// Sequence number of what would come next.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
}

/// The Internet checksum of what is summed up in words, ones' complement.
fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b.get(1).copied().unwrap_or(0))).sum()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

impl Segment {
    /// The IP packet, with its checksums.
    pub fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(HEADER);
        tcp.extend(self.source.1.to_be_bytes());
        tcp.extend(self.destination.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([0x50, self.flags, 0, 0, 0, 0, 0, 0]);
        let addresses = [octets(self.source.0), octets(self.destination.0)].concat();
        let sum = words(&addresses) + u32::from(TCP) + HEADER as u32 + words(&tcp);
        tcp[16..18].copy_from_slice(&fold(sum).to_be_bytes());
        let mut packet = if self.source.0.is_ipv4() {
            // Not to be fragmented; the kernel fills in the header's checksum.
            let mut header = vec![0x45, 0, 0, 2 * HEADER as u8, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            header.extend(addresses);
            header
        } else {
            let mut header = vec![0x60, 0, 0, 0, 0, HEADER as u8, TCP, 64];
            header.extend(addresses);
            header
        };
        packet.extend(tcp);
        packet
    }

    /// The segment of an Ethernet frame, whose tags the kernel has taken off, with the sequence
    /// number that comes after it. `None` where it is none, or not whole.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let address = |at: usize, v4: bool| -> Option<IpAddr> {
            Some(if v4 {
                <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?.into()
            } else {
                <[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?.into()
            })
        };
        let (v4, at, length) = match half(12)? {
            0x0800 => {
                let header = usize::from(frame.get(ETHERNET)? & 0xf) * 4;
                let first = half(ETHERNET + 6)? & 0x1fff == 0;
                let whole = *frame.get(ETHERNET + 9)? == TCP && first;
                (true, ETHERNET + header, whole.then_some(usize::from(half(ETHERNET + 2)?).checked_sub(header)?)?)
            }
            0x86dd => {
                let direct = *frame.get(ETHERNET + 6)? == TCP;
                (false, ETHERNET + IPV6, direct.then_some(usize::from(half(ETHERNET + 4)?))?)
            }
            _ => return None,
        };
        let (source, destination) = if v4 { (26, 30) } else { (22, 38) };
        let payload = length.checked_sub(usize::from(frame.get(at + 12)? >> 4) * 4)?;
        let flags = *frame.get(at + 13)?;
        Some(Self {
            source: (address(source, v4)?, half(at)?),
            destination: (address(destination, v4)?, half(at + 2)?),
            // An end counts as one more (RFC 9293, 3.4).
            seq: word(at + 4)?.wrapping_add(payload as u32 + u32::from(flags & FIN != 0)),
            ack: word(at + 8)?,
            flags,
        })
    }

    /// What has a connection's end say where it stands, as if the other one had sent it: a segment
    /// far from all that it waits for (RFC 9293, 3.10.7.4).
    pub fn probe(of: End, from: End, seq: u32) -> Self {
        Self { source: from, destination: of, seq, ack: 0, flags: ACK }
    }

    /// Whether this says where an end stands.
    pub fn says_where(&self) -> bool {
        self.flags & (SYN | ACK | RST) == ACK
    }

    /// Whether who sent this knows of no such connection.
    pub fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// What ends the connection for who sent this, and for who it was sent to: each with the
    /// sequence number that its receiver waits for (RFC 5961, 3.2).
    pub fn resets(&self) -> [Self; 2] {
        let of = |source, destination, seq, ack| Self { source, destination, seq, ack, flags: RST | ACK };
        [of(self.destination, self.source, self.ack, self.seq), of(self.source, self.destination, self.seq, self.ack)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        let end: std::net::SocketAddr = text.parse().unwrap();
        (end.ip(), end.port())
    }

    fn both() -> [Segment; 2] {
        [("10.0.0.1:22", "192.0.2.7:4000"), ("[2001:db8::1]:22", "[2001:db8::7]:4000")].map(|(source, destination)| {
            Segment { source: end(source), destination: end(destination), seq: 0xfffffffe, ack: 77, flags: ACK }
        })
    }

    fn frame(segment: &Segment, payload: &[u8]) -> Vec<u8> {
        let mut packet = segment.packet();
        let v4 = segment.source.0.is_ipv4();
        let at = if v4 { 3 } else { 5 };
        packet[at] += payload.len() as u8;
        let head = [[2; 6], [4; 6]].concat();
        [&head[..], if v4 { &[8, 0] } else { &[0x86, 0xdd] }, &packet, payload].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        for segment in both() {
            assert_eq!(Segment::read(&frame(&segment, b"")), Some(segment));
            let after = Segment { seq: 1, ..segment };
            assert_eq!(Segment::read(&frame(&segment, b"abc")), Some(after), "past its payload");
            let end = Segment { flags: ACK | FIN, ..segment };
            let after = Segment { seq: 0xffffffff, ..end };
            assert_eq!(Segment::read(&frame(&end, b"")), Some(after), "past its end");
            let whole = frame(&segment, b"");
            for short in 0..whole.len() {
                // What is padded, or cut off, is no reason to end.
                let read = Segment::read(&whole[..short]);
                assert!(read.is_none() || short >= whole.len() - 6, "{short}");
            }
            let sum = |bytes: &[u8]| words(bytes);
            let packet = segment.packet();
            let (addresses, tcp) = if segment.source.0.is_ipv4() { (12..20, 20) } else { (8..40, 40) };
            assert_eq!(fold(sum(&packet[addresses]) + 6 + 20 + sum(&packet[tcp..])), 0, "its checksum");
        }
    }

    #[test]
    fn other_frames_are_none() {
        let [four, six] = both().map(|s| frame(&s, b""));
        let with = |frame: &[u8], at: usize, value: u8| {
            let mut frame = frame.to_vec();
            frame[at] = value;
            Segment::read(&frame)
        };
        assert_eq!(with(&four, 23, 17), None, "not TCP");
        assert_eq!(with(&four, 21, 9), None, "a later fragment");
        assert_eq!(with(&six, 20, 0), None, "an extension header");
        assert_eq!(with(&four, 12, 0x81), None, "a tag that was left on");
        assert_eq!(with(&four, 17, 30), None, "shorter than its headers");
    }

    #[test]
    fn both_ends_are_reset_where_they_stand() {
        let [answer, _] = both();
        assert!(answer.says_where() && !Segment { flags: RST | ACK, ..answer }.says_where());
        let [sender, receiver] = answer.resets();
        assert_eq!((sender.destination, sender.seq), (answer.source, answer.ack));
        assert_eq!((receiver.destination, receiver.seq), (answer.destination, answer.seq));
        assert!(sender.flags & RST != 0 && receiver.flags & RST != 0);
    }
}
