//! Captures by hand: every field can be wrong.

/// Link types.
pub const ETHERNET: u32 = 1;
pub const RAW: u32 = 101;
pub const SLL: u32 = 113;

/// A packet: microseconds, bytes that are kept, and how many it had.
pub type Record = (u64, Vec<u8>, usize);

/// A packet that is kept whole.
pub fn whole(at: u64, data: Vec<u8>) -> Record {
    let length = data.len();
    (at, data, length)
}

/// The old format.
pub fn pcap(link: u32, records: &[Record]) -> Vec<u8> {
    let mut f = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    f.extend([2, 0, 4, 0]);
    f.extend([0; 8]);
    f.extend(262_144_u32.to_le_bytes());
    f.extend(link.to_le_bytes());
    for (at, data, length) in records {
        for word in [at / 1_000_000, at % 1_000_000, data.len() as u64, *length as u64] {
            f.extend((word as u32).to_le_bytes());
        }
        f.extend(data);
    }
    f
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len().next_multiple_of(4)) as u32;
    let mut b = kind.to_le_bytes().to_vec();
    b.extend(length.to_le_bytes());
    b.extend(body);
    b.resize(length as usize - 4, 0);
    b.extend(length.to_le_bytes());
    b
}

/// The new format, of several interfaces: the link type of each, its packets' unit as an
/// option says it (10 to the minus `unit`, or a power of two), and packets by interface.
pub fn pcapng(interfaces: &[(u32, u8)], records: &[(u32, Record)]) -> Vec<u8> {
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut f = block(0x0a0d_0d0a, &section);
    for (link, unit) in interfaces {
        let mut body = link.to_le_bytes().to_vec();
        body.extend(0_u32.to_le_bytes());
        body.extend([9, 0, 1, 0, *unit, 0, 0, 0, 0, 0, 0, 0]);
        f.extend(block(1, &body));
    }
    for (interface, (at, data, length)) in records {
        let unit = interfaces[*interface as usize].1;
        let units = if unit & 0x80 == 0 { 10_u128.pow(unit.into()) } else { 1 << (unit & 0x7f) };
        let stamp = (u128::from(*at) * units / 1_000_000) as u64;
        let mut body = interface.to_le_bytes().to_vec();
        body.extend(((stamp >> 32) as u32).to_le_bytes());
        body.extend((stamp as u32).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend((*length as u32).to_le_bytes());
        body.extend(data);
        f.extend(block(6, &body));
    }
    f
}
