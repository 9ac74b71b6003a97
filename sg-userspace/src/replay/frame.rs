//! A captured packet as the program is given it: an Ethernet frame of the length that its
//! headers say, whatever the capture kept of it.

use sg_common::{addr::Addr, reason::Reason};
use sg_ebpf::{
    packet::{Packet as View, Plain},
    parse::{Fragment, Kind, Parsed, parse},
};

use super::{capture::Packet, place::Skip};

/// Bytes of a frame that is run: the kernel takes no more than a page, and the program looks
/// at nothing behind the headers. Longer ones, which a host sees before its card cuts them
/// up, are shortened, lengths in their headers included.
const LONGEST: usize = 2048;
const ETHERNET: usize = 14;
/// Bytes of an ICMP message that may decide: its header, and those that it quotes.
const ICMP: usize = 104;
const UDP: u8 = 17;

/// Link types of the pcap registry.
mod links {
    pub const NULL: i32 = 0;
    pub const ETHERNET: i32 = 1;
    pub const RAW_OLD: [i32; 2] = [12, 14];
    pub const RAW: i32 = 101;
    pub const LOOP: i32 = 108;
    pub const SLL: i32 = 113;
    pub const IPV4: i32 = 228;
    pub const IPV6: i32 = 229;
    pub const SLL2: i32 = 276;
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Its fields.
    pub parsed: Parsed,
    /// Whether bytes that the capture did not keep are zeros in it.
    pub padded: bool,
}

/// What was kept of a packet that was longer.
struct Kept<'a> {
    data: &'a [u8],
    length: u32,
}

impl View for Kept<'_> {
    fn len(&self) -> u32 {
        self.length
    }
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        sg_ebpf::packet::Bytes::new(self.data).load(offset)
    }
    fn metadata_vlan(&self) -> Option<u16> {
        None
    }
    fn is_super_packet(&self) -> bool {
        false
    }
}

/// Writes a packet's frame; only what was kept of it.
fn ethernet(packet: &Packet<'_>, frame: &mut Vec<u8>) -> Result<u32, Skip> {
    frame.clear();
    let skip = match packet.link {
        links::ETHERNET => {
            frame.extend(packet.data.iter().take(LONGEST));
            return Ok(packet.length);
        }
        links::RAW | links::IPV4 | links::IPV6 => 0,
        link if links::RAW_OLD.contains(&link) => 0,
        links::NULL | links::LOOP => 4,
        links::SLL => 16,
        links::SLL2 => 20,
        link => return Err(Skip::Link(link)),
    };
    let kept = packet.data.get(skip..).ok_or(Skip::Cut)?;
    // What follows a cooked header may be anything; what is no IP has no version.
    let is_ip = match (packet.link, packet.data) {
        (links::SLL, data) => matches!(data[14..16], [0x08, 0x00] | [0x86, 0xdd]),
        (links::SLL2, data) => matches!(data[..2], [0x08, 0x00] | [0x86, 0xdd]),
        _ => true,
    };
    let kind = match kept.first().map(|b| b >> 4) {
        Some(4) if is_ip => [0x08, 0x00],
        Some(6) if is_ip => [0x86, 0xdd],
        Some(_) => return Err(Skip::NoIp),
        None => return Err(Skip::Cut),
    };
    frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame.extend(kind);
    frame.extend(kept.iter().take(LONGEST - ETHERNET));
    let header = (ETHERNET as u32).wrapping_sub(skip as u32);
    Ok(packet.length.saturating_add_signed(header as i32))
}

/// Where the network header begins: behind the VLAN tags, as [`parse`] walked them.
fn network(frame: &[u8]) -> usize {
    let mut at = ETHERNET;
    while matches!(frame.get(at - 2..at), Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00])) {
        at += 4;
    }
    at
}

/// Makes the lengths in the headers those of a frame that was shortened.
fn shorten(frame: &mut [u8], parsed: &Parsed) {
    let at = network(frame);
    let whole = frame.len() - at;
    let (field, length) = if parsed.v4 { (at + 2, whole) } else { (at + 4, whole - 40) };
    let said = u16::from_be_bytes([frame[field], frame[field + 1]]);
    if usize::from(said) <= length {
        return;
    }
    frame[field..field + 2].copy_from_slice(&(length as u16).to_be_bytes());
    let l4 = parsed.l4 as usize;
    if parsed.protocol == UDP && matches!(parsed.fragment, Fragment::Whole) {
        let length = (frame.len() - l4) as u16;
        frame[l4 + 4..l4 + 6].copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes the frame of a packet to `frame`.
///
/// # Errors
/// Why it says nothing.
pub fn prepare(packet: &Packet<'_>, frame: &mut Vec<u8>) -> Result<Ready, Skip> {
    let length = ethernet(packet, frame)?;
    let cut = packet.data.len() < packet.length as usize;
    let mut parsed = Parsed::empty();
    let result = parse(&Kept { data: frame, length }, true, &mut parsed);
    match result {
        Err(Reason::Truncated) if cut => return Err(Skip::Cut),
        // Addresses are all that is needed of one that is refused whatever the rules are.
        Err(_) if parsed.src == Addr::UNSPECIFIED && parsed.dst == Addr::UNSPECIFIED => return Err(Skip::Malformed),
        Ok(()) if matches!(parsed.kind, Kind::Other) => return Err(Skip::NoIp),
        _ => {}
    }
    let (l4, whole) = (parsed.l4 as usize, length as usize);
    if result.is_ok() && parsed.is_icmp() && frame.len() < whole.min(l4 + ICMP) && frame.len() < LONGEST {
        return Err(Skip::Cut);
    }
    let padded = frame.len() < whole.min(LONGEST);
    frame.resize(whole.min(LONGEST), 0);
    if whole > LONGEST && result.is_ok() && matches!(parsed.kind, Kind::Ip) {
        // So many extension headers that nothing is left of the packet.
        if l4 + ICMP > LONGEST {
            return Err(Skip::Malformed);
        }
        shorten(frame, &parsed);
    }
    Ok(Ready { parsed, padded })
}
