//! Later fragments follow their first one.

use sg_common::{
    flow::{FragEntry, FragKey},
    limits::TIMEOUT_FRAGMENT,
    reason::{Reason, Verdict},
};

use crate::{
    conntrack::{Clock, Packet},
    tables::Tables,
    verdict::Decision,
};

#[inline(always)]
fn key(packet: &Packet<'_>) -> FragKey {
    let p = packet.parsed;
    let key = &packet.keys.full;
    FragKey {
        zone: key.zone,
        vlan_proto: (key.vlan_proto & !0xff) | u32::from(p.fragment_protocol),
        local: key.local,
        remote: key.remote,
        id: p.fragment_id,
        direction: packet.direction as u32,
    }
}

/// Remembers what happened to a first fragment; a later first one overwrites.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, clock: Clock, packet: &Packet<'_>, decision: &Decision, scratch: &mut FragKey) {
    let entry =
        FragEntry { seen: clock.now, header: packet.parsed.header_len, verdict: decision.verdict as u8, pad: 0 };
    *scratch = key(packet);
    tables.remember(scratch, &entry);
}

/// Judges a later fragment.
#[inline(always)]
pub fn follow<T: Tables>(tables: &T, clock: Clock, packet: &Packet<'_>, scratch: &mut FragKey) -> Decision {
    *scratch = key(packet);
    match tables.fragment(scratch) {
        Some(f) if clock.now.wrapping_sub(f.seen) <= u32::from(TIMEOUT_FRAGMENT) * clock.hz => {
            if packet.parsed.fragment_offset < f.header {
                Decision::new(Verdict::Drop, Reason::FragmentOverlap, 0)
            } else {
                Decision::new(Verdict::from_u8(f.verdict), Reason::Fragment, 0)
            }
        }
        _ => Decision::new(Verdict::Drop, Reason::FragmentUnseen, 0),
    }
}
