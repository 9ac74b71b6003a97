//! TCP, UDP, ICMP and the rest: ports, flags, types, and whether the header
//! fits the IP length (never the Ethernet padding).

use sg_common::reason::Reason;

use super::{Fragment, Parsed};
use crate::{packet::Packet, proto};

/// Parses the transport header at `parsed.l4`; a later fragment has none.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), Reason> {
    if matches!(parsed.fragment, Fragment::Later) {
        return Ok(());
    }
    // What a first fragment cuts short is an evasion attempt, and named so.
    let short = if matches!(parsed.fragment, Fragment::First) { Reason::FragmentShort } else { Reason::Transport };
    let length = parsed.l4_len;
    match parsed.protocol {
        proto::TCP => {
            if length < 20 {
                return Err(short);
            }
            let h: [u32; 4] = packet.load(parsed.l4).ok_or(Reason::Truncated)?;
            let ports = u32::from_be(h[0]);
            let word = u32::from_be(h[3]);
            let header = (word >> 28) * 4;
            if header < 20 {
                return Err(Reason::Transport);
            }
            if header > length {
                return Err(short);
            }
            parsed.src_port = (ports >> 16) as u16;
            parsed.dst_port = ports as u16;
            parsed.seq = u32::from_be(h[1]);
            parsed.ack = u32::from_be(h[2]);
            parsed.tcp_flags = ((word >> 16) & 0x3f) as u8;
            parsed.header_len = header as u16;
            flags_make_sense(parsed.tcp_flags)
        }
        proto::UDP => {
            if length < 8 {
                return Err(short);
            }
            let h: [u32; 2] = packet.load(parsed.l4).ok_or(Reason::Truncated)?;
            let ports = u32::from_be(h[0]);
            let datagram = u32::from_be(h[1]) >> 16;
            let whole = matches!(parsed.fragment, Fragment::Whole) && !packet.is_super_packet();
            if whole && (datagram < 8 || datagram > length) {
                return Err(Reason::Transport);
            }
            parsed.src_port = (ports >> 16) as u16;
            parsed.dst_port = ports as u16;
            parsed.header_len = 8;
            Ok(())
        }
        proto::ICMP | proto::ICMPV6 | proto::IGMP => {
            if length < 8 {
                return Err(short);
            }
            let h: [u32; 2] = packet.load(parsed.l4).ok_or(Reason::Truncated)?;
            let word = u32::from_be(h[0]);
            parsed.icmp_type = (word >> 24) as u8;
            parsed.icmp_code = (word >> 16) as u8;
            parsed.header_len = 8;
            if parsed.is_echo() {
                let id = (u32::from_be(h[1]) >> 16) as u16;
                parsed.src_port = id;
                parsed.dst_port = id;
            }
            Ok(())
        }
        proto::GRE => {
            if length < 4 {
                return Err(short);
            }
            parsed.header_len = 4;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Without ACK a segment opens or resets; SYN, FIN and RST exclude each other.
#[inline(always)]
fn flags_make_sense(flags: u8) -> Result<(), Reason> {
    let set = flags & (proto::SYN | proto::FIN | proto::RST);
    let single = set & set.wrapping_sub(1) == 0;
    let opens = set & (proto::SYN | proto::RST) != 0;
    if !single || (flags & proto::ACK == 0 && !opens) { Err(Reason::TcpFlags) } else { Ok(()) }
}

impl Parsed {
    /// An echo request or reply of its family.
    #[inline(always)]
    pub fn is_echo(&self) -> bool {
        match self.protocol {
            proto::ICMP => matches!(self.icmp_type, proto::ICMP_ECHO | proto::ICMP_ECHO_REPLY),
            proto::ICMPV6 => matches!(self.icmp_type, proto::ICMP6_ECHO | proto::ICMP6_ECHO_REPLY),
            _ => false,
        }
    }

    /// Whether the protocol is ICMP or ICMPv6.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        matches!(self.protocol, proto::ICMP | proto::ICMPV6)
    }

    /// An echo request.
    #[inline(always)]
    pub fn is_echo_request(&self) -> bool {
        match self.protocol {
            proto::ICMP => self.icmp_type == proto::ICMP_ECHO,
            proto::ICMPV6 => self.icmp_type == proto::ICMP6_ECHO,
            _ => false,
        }
    }

    /// An error that quotes the packet it is about: v4 types 3, 11, 12; v6 1 to 4.
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        match self.protocol {
            proto::ICMP => self.v4 && matches!(self.icmp_type, 3 | 11 | 12),
            proto::ICMPV6 => !self.v4 && matches!(self.icmp_type, 1..=4),
            _ => false,
        }
    }
}
