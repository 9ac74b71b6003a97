//! Which packets somebody wants to hear of, and whether there is room to say so.
//! See [`sg_common::watch`].

use sg_common::{
    addr::Addr,
    watch::{ANY_PROTOCOL, STREAMS, Tell, Told, stream},
};

use crate::{classify::Query, verdict::Decision};

/// Bit of [`stream::WATCH`].
const WATCH: u32 = 1 << stream::WATCH;

#[inline(always)]
fn is_within(tell: &Tell, addr: &Addr) -> bool {
    let [high, low] = addr.words();
    high & tell.mask[0] == tell.network[0] && low & tell.mask[1] == tell.network[1]
}

/// Bits of the streams that want a packet, whether they have room for it or not.
#[inline(always)]
pub fn wanted(tell: &Tell, query: &Query, slot: u32, decision: &Decision) -> u32 {
    let (bit, verdict) = (1u64 << (decision.reason & 63), decision.verdict as usize & 1);
    let mut streams = 0;
    let mut s = 0;
    while s < STREAMS {
        if tell.tokens[s] != 0 && tell.reasons[s][verdict] & bit != 0 {
            streams |= 1 << s;
        }
        s += 1;
    }
    if streams & WATCH != 0 && !is_watched(tell, query, slot, decision) {
        streams &= !WATCH;
    }
    streams
}

/// What [`stream::WATCH`] asks beyond verdict and reason.
#[inline(always)]
fn is_watched(tell: &Tell, query: &Query, slot: u32, decision: &Decision) -> bool {
    let of_slot = tell.slots.get((slot >> 6) as usize).is_some_and(|bits| bits >> (slot & 63) & 1 != 0);
    let [first, last] = tell.ports;
    let has = |port: u16| port >= first && port <= last;
    of_slot
        && (tell.rule == 0 || tell.rule == decision.rule)
        && (tell.protocol == ANY_PROTOCOL || tell.protocol == u32::from(query.protocol))
        && (has(query.source_port) || has(query.destination_port))
        && (is_within(tell, &query.local) || is_within(tell, &query.remote))
}

/// Bits of the streams that have room for a packet that `wanted` wants. With `take` the
/// room is taken; without it only what nobody has room for is counted as left out, so that
/// asking first, and then taking, counts each packet once.
#[inline(always)]
pub fn room(told: &mut Told, tell: &Tell, now: u32, wanted: u32, take: bool) -> u32 {
    if now.wrapping_sub(told.start) >= tell.window || told.version != tell.version {
        told.start = now;
        told.version = tell.version;
        told.left = tell.tokens;
    }
    let passes = wanted & WATCH != 0 && told.turn.wrapping_add(1) < tell.every;
    let due = if passes { wanted & !WATCH } else { wanted };
    let mut granted = 0;
    let mut s = 0;
    while s < STREAMS {
        if due & (1 << s) != 0 && told.left[s] != 0 {
            granted |= 1 << s;
        }
        s += 1;
    }
    if granted != 0 && !take {
        return granted;
    }
    if passes {
        told.turn += 1;
        told.passed_over += 1;
    } else if wanted & WATCH != 0 {
        told.turn = 0;
    }
    let mut s = 0;
    while s < STREAMS {
        if granted & (1 << s) != 0 {
            told.left[s] -= 1;
            told.told[s] += 1;
        } else if due & (1 << s) != 0 {
            told.left_out[s] += 1;
        }
        s += 1;
    }
    granted
}

/// The ring buffer had no room for what had been granted.
#[inline(always)]
pub fn refuse(told: &mut Told, granted: u32) {
    let mut s = 0;
    while s < STREAMS {
        if granted & (1 << s) != 0 {
            told.told[s] = told.told[s].wrapping_sub(1);
            told.left_out[s] += 1;
        }
        s += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sg_common::reason::{Reason, Verdict};

    const SAMPLE: u32 = 1 << stream::SAMPLE;

    fn query() -> Query {
        Query {
            local: Addr::v4([10, 0, 0, 1]),
            remote: Addr::v4([192, 0, 2, 7]),
            source_port: 40_000,
            destination_port: 22,
            protocol: 6,
            direction: 0,
            v4: 1,
            pad: 0,
        }
    }

    fn tell() -> Tell {
        let mut tell = Tell { window: 10, ..Tell::NOTHING };
        tell.tokens[stream::WATCH] = 2;
        tell.reasons[stream::WATCH][Verdict::Drop as usize] = 1 << Reason::Default as u64;
        tell
    }

    #[test]
    fn each_field_of_the_filter_counts() {
        let dropped = Decision::new(Verdict::Drop, Reason::Default, 0);
        let all = tell();
        assert_eq!(wanted(&all, &query(), 70, &dropped), WATCH);
        assert_eq!(wanted(&all, &query(), 70, &Decision::new(Verdict::Accept, Reason::Default, 0)), 0);
        assert_eq!(wanted(&all, &query(), 70, &Decision::new(Verdict::Drop, Reason::Rule, 3)), 0);
        let net = Addr::v4([192, 0, 2, 0]).words();
        let mask =
            [!0, Addr([255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0]).words()[1]];
        let mut slots = [0; 16];
        slots[1] = 1 << 6;
        let narrow = Tell { network: net, mask, slots, rule: 5, protocol: 6, ports: [20, 22], ..tell() };
        let by_rule = Decision { rule: 5, ..dropped };
        assert_eq!(wanted(&narrow, &query(), 70, &by_rule), WATCH);
        assert_eq!(wanted(&narrow, &query(), 71, &by_rule), 0, "another slot");
        assert_eq!(wanted(&narrow, &query(), 70, &dropped), 0, "another rule");
        assert_eq!(wanted(&narrow, &Query { protocol: 17, ..query() }, 70, &by_rule), 0);
        assert_eq!(wanted(&narrow, &Query { destination_port: 23, ..query() }, 70, &by_rule), 0);
        assert_eq!(wanted(&narrow, &Query { source_port: 21, destination_port: 1, ..query() }, 70, &by_rule), WATCH);
        assert_eq!(wanted(&narrow, &Query { remote: Addr::v4([192, 0, 3, 7]), ..query() }, 70, &by_rule), 0);
        assert_eq!(
            wanted(
                &narrow,
                &Query { remote: Addr::v4([1; 4]), local: Addr::v4([192, 0, 2, 1]), ..query() },
                70,
                &by_rule
            ),
            WATCH
        );
    }

    #[test]
    fn a_window_holds_its_tokens_and_the_rest_is_counted() {
        let (tell, mut told) = (tell(), Told::default());
        let mut granted = 0;
        for _ in 0..5 {
            // As the program does: it asks on the short way, and takes on the long one.
            if room(&mut told, &tell, 100, WATCH, false) != 0 {
                granted += u32::from(room(&mut told, &tell, 100, WATCH, true) == WATCH);
            }
        }
        assert_eq!((granted, told.told[0], told.left_out[0]), (2, 2, 3));
        assert_eq!(room(&mut told, &tell, 109, WATCH, false), 0);
        assert_eq!(room(&mut told, &tell, 110, WATCH, true), WATCH, "the next window");
        assert_eq!(told.left_out[0], 4);
        refuse(&mut told, WATCH);
        assert_eq!((told.told[0], told.left_out[0]), (2, 5));
    }

    #[test]
    fn other_settings_begin_another_window() {
        let (mut tell, mut told) = (tell(), Told::default());
        assert_eq!(room(&mut told, &Tell { tokens: [0, 1, 0], ..tell }, 100, SAMPLE, true), SAMPLE);
        tell.version = 1;
        assert_eq!(room(&mut told, &tell, 101, WATCH, true), WATCH);
    }

    #[test]
    fn the_clock_goes_round() {
        let (tell, mut told) = (tell(), Told { start: u32::MAX - 3, ..Told::default() });
        assert_eq!(room(&mut told, &tell, 2, WATCH, true), 0, "six jiffies of ten");
        assert_eq!(room(&mut told, &tell, 6, WATCH, true), WATCH);
    }

    #[test]
    fn one_of_so_many_is_told_and_the_others_are_passed_over() {
        let tell = Tell { every: 3, tokens: [100, 1, 0], ..tell() };
        let mut told = Told::default();
        let mut granted = 0;
        for _ in 0..9 {
            if room(&mut told, &tell, 100, WATCH, false) != 0 {
                granted += u32::from(room(&mut told, &tell, 100, WATCH, true) == WATCH);
            }
        }
        assert_eq!((granted, told.told[0], told.passed_over, told.left_out[0]), (3, 3, 6, 0));
        // Two streams want it, and only one of them has its turn.
        assert_eq!(room(&mut told, &tell, 100, WATCH | SAMPLE, false), SAMPLE);
        assert_eq!(room(&mut told, &tell, 100, WATCH | SAMPLE, true), SAMPLE);
        assert_eq!((told.passed_over, told.left_out[0], told.told[1]), (7, 0, 1));
    }
}
