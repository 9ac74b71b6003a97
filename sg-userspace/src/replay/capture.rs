//! Captures, packet by packet: pcap and pcapng, however long, in bounded memory.

use std::io::{self, Read};

use pcap_parser::{
    Block, InterfaceDescriptionBlock, PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock,
};
use thiserror::Error;

/// Room for what is read at once.
const ROOM: usize = 1 << 18;
/// The longest block there may be; packets have at most 256 KiB.
const MOST: usize = 1 << 24;
/// Interfaces that one section of a pcapng file may have.
const INTERFACES: usize = 1 << 16;
const NANOSECONDS: u64 = 1_000_000_000;

/// A packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its place, from 1, as other programs number it.
    pub number: u64,
    /// Nanoseconds since 1970, as it was stamped.
    pub at: u64,
    /// Type of its link: a number of the pcap registry.
    pub link: i32,
    /// Its bytes, as far as they were kept.
    pub data: &'a [u8],
    /// Bytes it had.
    pub length: u32,
}

/// Why a capture cannot be read.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Its bytes could not be had.
    #[error("cannot read {0}")]
    Unreadable(String),
    /// It is something else.
    #[error("{name} is neither a pcap nor a pcapng file{help}")]
    Unknown {
        /// Which.
        name: String,
        /// What it may be.
        help: &'static str,
    },
    /// It makes no sense from somewhere on.
    #[error("{name} is damaged after packet {after}: capture it again, or cut it there")]
    Damaged {
        /// Which.
        name: String,
        /// Packets before.
        after: u64,
    },
}

/// Fills what it is given as far as there is something: parsers take a short read for the end.
struct Full<R>(R);

impl<R: Read> Read for Full<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read(&mut into[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// How the stamps of an interface are read.
#[derive(Clone, Copy)]
struct Stamps {
    link: i32,
    /// Units a second.
    units: u64,
    /// Seconds to be added.
    offset: i64,
}

impl Stamps {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Self {
        let exponent = u32::from(block.if_tsresol & 0x7f);
        let base = if block.if_tsresol & 0x80 == 0 { 10_u64 } else { 2 };
        // A unit that no number holds is no unit; then it is as if nothing was said.
        let units = base.checked_pow(exponent).unwrap_or(1_000_000);
        Self { link: block.linktype.0, units, offset: block.if_tsoffset }
    }

    fn nanoseconds(&self, high: u32, low: u32) -> u64 {
        let stamp = u128::from(high) << 32 | u128::from(low);
        let at = stamp * u128::from(NANOSECONDS) / u128::from(self.units);
        let at = i128::try_from(at).unwrap_or(i128::MAX);
        let at = at.saturating_add(i128::from(self.offset) * i128::from(NANOSECONDS));
        u64::try_from(at.max(0)).unwrap_or(u64::MAX)
    }
}

/// What a block says of those that follow.
#[derive(Default)]
struct Known {
    interfaces: Vec<Stamps>,
    link: i32,
    /// Nanoseconds in what the old format calls microseconds.
    fraction: u64,
    packets: u64,
    last: u64,
}

impl Known {
    /// The packet of a block, if it is one; `Err` for a block that makes no sense.
    fn take<'a>(&mut self, block: &'a PcapBlockOwned<'_>) -> Result<Option<Packet<'a>>, ()> {
        let (at, link, data, length) = match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.link = header.network.0;
                self.fraction = if header.is_nanosecond_precision() { 1 } else { 1000 };
                return Ok(None);
            }
            PcapBlockOwned::Legacy(b) => {
                let at = u64::from(b.ts_sec) * NANOSECONDS + u64::from(b.ts_usec) * self.fraction;
                (at, self.link, b.data, b.origlen)
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                return Ok(None);
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(b)) => {
                if self.interfaces.len() == INTERFACES {
                    return Err(());
                }
                self.interfaces.push(Stamps::of(b));
                return Ok(None);
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(b)) => {
                let stamps = self.interfaces.get(b.if_id as usize).ok_or(())?;
                (stamps.nanoseconds(b.ts_high, b.ts_low), stamps.link, b.packet_data(), b.origlen)
            }
            // It has no stamp: it came after the one before it.
            PcapBlockOwned::NG(Block::SimplePacket(b)) => {
                let stamps = self.interfaces.first().ok_or(())?;
                (self.last, stamps.link, b.packet_data(), b.origlen)
            }
            PcapBlockOwned::NG(_) => return Ok(None),
        };
        self.packets += 1;
        self.last = at;
        let length = length.max(u32::try_from(data.len()).map_err(drop)?);
        Ok(Some(Packet { number: self.packets, at, link, data, length }))
    }
}

/// Hands each packet of a capture over, in its order. True if the capture ends in the middle
/// of one, as after a tool that was killed: what is before is good.
///
/// # Errors
/// [`CaptureError`], or what `each` says.
pub fn read<E: From<CaptureError>>(
    name: &str,
    source: impl Read + Send,
    mut each: impl FnMut(&Packet<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut head = [0; 2];
    let mut source = Full(source);
    let got = source.read(&mut head).map_err(|_| CaptureError::Unreadable(name.into()))?;
    let help = match head {
        _ if got == 0 => ": it is empty",
        [0x1f, 0x8b] => ": it is compressed; `zcat FILE | sgctl replay -` reads it",
        [0x28, 0xb5] => ": it is compressed; `zstdcat FILE | sgctl replay -` reads it",
        _ => "; `tcpdump -w FILE` writes one",
    };
    let whole = Full(head[..got].chain(source));
    let mut reader = create_reader(ROOM, whole).map_err(|e| match e {
        PcapError::ReadError => CaptureError::Unreadable(name.into()),
        _ => CaptureError::Unknown { name: name.into(), help },
    })?;
    let (mut known, mut room) = (Known::default(), ROOM);
    loop {
        let damaged = |known: &Known| CaptureError::Damaged { name: name.into(), after: known.packets };
        let more = match reader.next() {
            Ok((offset, block)) => {
                match known.take(&block) {
                    Ok(Some(packet)) => each(&packet)?,
                    Ok(None) => {}
                    Err(()) => return Err(damaged(&known).into()),
                }
                drop(block);
                reader.consume(offset);
                continue;
            }
            Err(PcapError::Eof) => return Ok(false),
            Err(PcapError::UnexpectedEof) => return Ok(true),
            Err(PcapError::Incomplete(_)) => false,
            Err(PcapError::BufferTooSmall) => true,
            Err(PcapError::ReadError) => return Err(CaptureError::Unreadable(name.into()).into()),
            Err(_) => return Err(damaged(&known).into()),
        };
        if more {
            room *= 2;
            if room > MOST || !reader.grow(room) {
                return Err(damaged(&known).into());
            }
        }
        let before = reader.data().len();
        if reader.refill().is_err() {
            return Err(CaptureError::Unreadable(name.into()).into());
        }
        // Nothing came and nothing will: no block is read without an end.
        if reader.data().len() == before && !reader.reader_exhausted() && !more {
            return Err(damaged(&known).into());
        }
    }
}
