//! Later fragments follow their first one.

use sg_common::{
    flow::{FragEntry, FragKey},
    limits::TIMEOUT_FRAGMENT,
    reason::{Reason, Verdict},
};

use crate::{
    conntrack::{Clock, Packet, state::age},
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

/// Remembers what happened to a first fragment; a later first one overwrites, denied ones included.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, clock: Clock, packet: &Packet<'_>, decision: &Decision, scratch: &mut FragKey) {
    let p = packet.parsed;
    // Offsets count from behind the fragment header, where other headers may stand first.
    let header = (p.l4.wrapping_sub(p.fragment_base)).wrapping_add(u32::from(p.header_len));
    let entry = FragEntry { seen: clock.now, header: header as u16, verdict: decision.verdict as u8, pad: 0 };
    *scratch = key(packet);
    // What is denied takes no room of others: its later fragments are unseen, and dropped, too.
    if decision.is_accept() || tables.fragment(scratch).is_some() {
        tables.remember(scratch, &entry);
    }
}

/// Judges a later fragment.
#[inline(always)]
pub fn follow<T: Tables>(tables: &T, clock: Clock, packet: &Packet<'_>, scratch: &mut FragKey) -> Decision {
    *scratch = key(packet);
    match tables.fragment(scratch) {
        Some(f) if age(clock.now.wrapping_sub(f.seen), clock) <= u32::from(TIMEOUT_FRAGMENT) * clock.hz => {
            if packet.parsed.fragment_offset < f.header {
                Decision::new(Verdict::Drop, Reason::FragmentOverlap, 0)
            } else {
                Decision::new(Verdict::from_u8(f.verdict), Reason::Fragment, 0)
            }
        }
        _ => Decision::new(Verdict::Drop, Reason::FragmentUnseen, 0),
    }
}
