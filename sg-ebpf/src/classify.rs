//! Address classes and service classes to a rule, at a cost that does not
//! depend on the number of rules.

use core::mem::offset_of;

use sg_common::{
    addr::Addr,
    flow::{Direction, FlowKeys},
    limits::BITVEC_WORDS,
    policy::{
        AddrClass, DirectionHeader, MAGIC, MAX_LIST6, MODE_MATRIX, POLICY_HOSTS, POLICY_HOSTS_V4, POLICY_LIST6,
        POLICY_PREFIXES, POLICY_TABLE4, PolicyHeader, RuleRow, TABLE4_NODE,
    },
};

use crate::{
    proto,
    tables::{Addresses, Flat},
};

/// What is asked of a policy about a flow that began in `direction`.
#[inline(always)]
pub fn query(keys: &FlowKeys, direction: Direction) -> Query {
    let key = &keys.full;
    let (source_port, destination_port) = match direction {
        Direction::Inbound => (key.remote_port, key.local_port),
        Direction::Outbound => (key.local_port, key.remote_port),
    };
    Query {
        local: key.local,
        remote: key.remote,
        source_port,
        destination_port,
        protocol: key.protocol(),
        direction: direction as u8,
        v4: keys.is_v4() as u8,
        pad: 0,
    }
}

/// What is asked of a policy; bytes in place of enums, as it crosses functions
/// that are verified alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The instance's address.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// Source port of the first packet, host order; 0 where there is none.
    pub source_port: u16,
    /// Destination port of the first packet, host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`Direction`] of the flow's first packet.
    pub direction: u8,
    /// 1 when the addresses are IPv4.
    pub v4: u8,
    /// Zero.
    pub pad: u8,
}

#[inline(always)]
fn lpm<A: Addresses>(addresses: &A, addr: &Addr, v4: bool, local: bool) -> AddrClass {
    addresses.prefix(addr, v4, local).unwrap_or_default()
}

/// Two-level table: page by the high byte, class by the low one.
#[inline(always)]
fn port_class<F: Flat>(flat: &F, pages_of: u32, pages: u32, port: u16) -> u32 {
    let page = flat.u16(pages_of + (u32::from(port) >> 8) * 2) as u32;
    flat.u16(pages + page * 512 + (u32::from(port) & 0xff) * 2) as u32
}

/// Four levels of a byte each; most addresses need two.
#[inline(always)]
fn multibit<F: Flat>(flat: &F, table: u32, remote: &Addr) -> u32 {
    let address = u32::from_be_bytes(remote.v4_bytes());
    let mut entry = u32::from(TABLE4_NODE);
    let mut level = 0;
    while level < 4 {
        let byte = (address >> (24 - level * 8)) & 0xff;
        entry = u32::from(flat.u16(table + (entry & !u32::from(TABLE4_NODE)) * 512 + byte * 2));
        if entry & u32::from(TABLE4_NODE) == 0 {
            return entry;
        }
        level += 1;
    }
    0
}

/// The first prefix that holds an address: the longest one.
#[inline(always)]
fn listed<F: Flat>(flat: &F, list: u32, remote: &Addr) -> u32 {
    let [high, low] = remote.words();
    let count = flat.u32(list);
    let mut at = list + 8;
    let mut i = 0;
    while i < MAX_LIST6 as u32 && i < count {
        if (high & flat.u64(at + 16)) == flat.u64(at) && (low & flat.u64(at + 24)) == flat.u64(at + 8) {
            return flat.u32(at + 32);
        }
        at += 40;
        i += 1;
    }
    0
}

/// The deciding row of a policy. `None` when the value is not a policy.
#[inline(always)]
pub fn classify<F: Flat, A: Addresses>(flat: &F, addresses: &A, query: &Query) -> Option<RuleRow> {
    if flat.u32(offset_of!(PolicyHeader, magic) as u32) != MAGIC {
        return None;
    }
    let flags = flat.u32(offset_of!(PolicyHeader, flags) as u32);
    let side = query.direction as usize & 1;
    let head = offset_of!(PolicyHeader, direction) as u32 + side as u32 * size_of::<DirectionHeader>() as u32;
    let field = |offset: usize| flat.u32(head + offset as u32);

    let remote = if query.v4 != 0 && flags & POLICY_TABLE4 != 0 {
        multibit(flat, field(offset_of!(DirectionHeader, table4)), &query.remote)
    } else if query.v4 == 0 && flags & POLICY_LIST6 != 0 {
        listed(flat, field(offset_of!(DirectionHeader, list6)), &query.remote)
    } else {
        let mut exact = None;
        if flags & POLICY_HOSTS != 0 && (query.v4 != 0 || flags & POLICY_HOSTS_V4 == 0) {
            exact = addresses.host(&query.remote);
        }
        let remote = match exact {
            Some(class) => class,
            None if flags & POLICY_PREFIXES != 0 => lpm(addresses, &query.remote, query.v4 != 0, false),
            None => AddrClass::default(),
        };
        if side == 0 { u32::from(remote.class[0]) } else { u32::from(remote.class[1]) }
    };

    let pages = field(offset_of!(DirectionHeader, pages));
    let service = match query.protocol {
        proto::TCP => port_class(flat, field(offset_of!(DirectionHeader, tcp)), pages, query.destination_port),
        proto::UDP => port_class(flat, field(offset_of!(DirectionHeader, udp)), pages, query.destination_port),
        other => flat.u16(field(offset_of!(DirectionHeader, protos)) + u32::from(other) * 2) as u32,
    };

    let row = if field(offset_of!(DirectionHeader, mode)) == MODE_MATRIX {
        let cell = remote * field(offset_of!(DirectionHeader, columns)) + service;
        flat.u16(field(offset_of!(DirectionHeader, matrix)) + cell * 2) as u32
    } else {
        let local = lpm(addresses, &query.local, query.v4 != 0, true);
        let local = if side == 0 { local.class[0] } else { local.class[1] } as u32;
        let source = port_class(flat, field(offset_of!(DirectionHeader, source_ports)), pages, query.source_port);
        let stride = BITVEC_WORDS as u32 * 8;
        let vectors = [
            field(offset_of!(DirectionHeader, bits_remote)) + remote * stride,
            field(offset_of!(DirectionHeader, bits_service)) + service * stride,
            field(offset_of!(DirectionHeader, bits_local)) + local * stride,
            field(offset_of!(DirectionHeader, bits_source)) + source * stride,
        ];
        first_bit(flat, &vectors, field(offset_of!(DirectionHeader, words)))
    };

    let at = field(offset_of!(DirectionHeader, rules)) + row * size_of::<RuleRow>() as u32;
    let verdict_reason = flat.u16(at + 4);
    Some(RuleRow { counter: flat.u32(at), verdict: verdict_reason as u8, reason: (verdict_reason >> 8) as u8, pad: 0 })
}

/// Row of the first rule whose bit all vectors have; 0 when there is none.
#[inline(always)]
fn first_bit<F: Flat>(flat: &F, vectors: &[u32; 4], words: u32) -> u32 {
    let mut word = 0u32;
    while word < BITVEC_WORDS as u32 && word < words {
        let at = word * 8;
        let all = flat.u64(vectors[0] + at)
            & flat.u64(vectors[1] + at)
            & flat.u64(vectors[2] + at)
            & flat.u64(vectors[3] + at);
        if all != 0 {
            return word * 64 + lowest_bit(all) + 1;
        }
        word += 1;
    }
    0
}

/// Index of the lowest set bit, without the byte table that a target without
/// such an instruction would get.
#[inline(always)]
fn lowest_bit(value: u64) -> u32 {
    let mut v = value;
    let mut n = 0;
    if v & 0xffff_ffff == 0 {
        n += 32;
        v >>= 32;
    }
    if v & 0xffff == 0 {
        n += 16;
        v >>= 16;
    }
    if v & 0xff == 0 {
        n += 8;
        v >>= 8;
    }
    if v & 0xf == 0 {
        n += 4;
        v >>= 4;
    }
    if v & 3 == 0 {
        n += 2;
        v >>= 2;
    }
    if v & 1 == 0 {
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::lowest_bit;

    #[test]
    fn lowest_bit_is_trailing_zeros() {
        for i in 0..64 {
            assert_eq!(lowest_bit(1 << i), i);
            assert_eq!(lowest_bit(u64::MAX << i), i);
        }
    }
}
