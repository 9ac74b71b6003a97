//! Live flows that somebody ends by hand.
//!
//! A cut flow keeps its entry, with the verdict drop for both directions, until it has
//! been quiet for its timeout: without an entry the next packet would open it anew. The
//! entry is exchanged for another one in place, and programs run meanwhile: one that
//! holds the old entry may yet confirm the flow from it, or write into the memory where
//! the next one's entry lies by then. So what was written is looked at again once all
//! that ran have ended, until nothing had to be written.

use std::{io, thread, time::Duration};

use sg_common::{
    flow::{BY_HAND, Flow, FlowKey},
    reason::Verdict,
};

use super::{
    flows::{flow_of, words},
    object::{FlowWords, Maps},
    sys::{self, Raw, RawMap},
};

/// Times that what was cut is looked at again.
const ROUNDS: usize = 8;

/// What became of flows that were to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Cut, and seen to be.
    pub cut: usize,
    /// Had ended before.
    pub ended: usize,
    /// Open again each time that they were looked at: peers that begin anew, and may.
    pub open: usize,
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// There is none.
    Gone,
    /// It was cut already.
    Closed,
    /// It was open, and was cut now.
    Struck,
}

/// A cut entry in place of one, under an epoch; `None` where it is that already.
fn closed(flow: &Flow, epoch: u32) -> Option<Flow> {
    let is_closed = flow.verdict.get() == Verdict::Drop as u8 && flow.epoch.get() == epoch;
    if is_closed {
        return None;
    }
    let flow = flow.clone();
    flow.verdict.set(Verdict::Drop as u8);
    // No rule says so, none counts what is dropped, and no change has it judged anew.
    flow.rule.set(BY_HAND);
    flow.epoch.set(epoch);
    Some(flow)
}

fn strike<K: Raw>(map: &RawMap<K, FlowWords>, key: &K, epoch: u32) -> io::Result<Stand> {
    let Some(old) = map.get(key)? else { return Ok(Stand::Gone) };
    match closed(&flow_of(old), epoch) {
        None => Ok(Stand::Closed),
        // It may have gone, or to another table, since it was read.
        Some(new) => Ok(if map.replace(key, &words(new))? { Stand::Struck } else { Stand::Gone }),
    }
}

/// Cuts a flow in whichever tables hold it.
fn strike_all(maps: &Maps, key: &FlowKey, epoch: u32) -> io::Result<Stand> {
    // In the order in which one moves: unconfirmed, then confirmed.
    let stands: Vec<Stand> = if key.local.is_v4() && key.remote.is_v4() {
        let key = key.to_v4();
        let tables = maps.churn4.iter().chain([&maps.flows4]);
        tables.map(|map| strike(map, &key, epoch)).collect::<io::Result<_>>()?
    } else {
        let tables = maps.churn6.iter().chain([&maps.flows6]);
        tables.map(|map| strike(map, key, epoch)).collect::<io::Result<_>>()?
    };
    let has = |stand| stands.contains(&stand);
    Ok(match (has(Stand::Struck), has(Stand::Closed)) {
        (true, _) => Stand::Struck,
        (false, true) => Stand::Closed,
        (false, false) => Stand::Gone,
    })
}

/// Cuts flows, each with the epoch that its device is under. Those that a change of the
/// rules has cut under it stay as they are, and count as cut.
///
/// # Errors
/// What the kernel says; some may be cut then.
pub fn cut(maps: &Maps, flows: &[(FlowKey, u32)]) -> io::Result<Cut> {
    let (mut result, mut left) = (Cut::default(), flows.to_vec());
    for round in 0..ROUNDS {
        let mut struck = Vec::new();
        for (key, epoch) in left {
            match strike_all(maps, &key, epoch)? {
                Stand::Struck => struck.push((key, epoch)),
                Stand::Closed => result.cut += 1,
                // One that was cut and is gone now has ended, too.
                Stand::Gone => result.ended += 1,
            }
        }
        left = struck;
        if left.is_empty() {
            return Ok(result);
        }
        if round + 1 < ROUNDS && sys::grace_period().is_err() {
            // Packets take microseconds; a kernel that isolates CPUs will not say when.
            thread::sleep(Duration::from_millis(100));
        }
    }
    result.open = left.len();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sg_common::flow::{Cell, place, seen};

    #[test]
    fn what_is_cut_stays_as_it_is_but_for_its_verdict() {
        let flow = Flow {
            last: [Cell::new(11), Cell::new(12)],
            ack: [Cell::new(21), Cell::new(22)],
            epoch: Cell::new(13),
            rule: Cell::new(14),
            timeout: 910,
            seen: [Cell::new(seen::ANY), Cell::new(seen::SYN)],
            origin: Cell::new(1),
            verdict: Cell::new(Verdict::Accept as u8),
            timeout_closed: 3,
            place: place::MAIN,
        };
        let cut = closed(&flow, 20).unwrap();
        assert_eq!((cut.verdict.get(), cut.rule.get(), cut.epoch.get()), (Verdict::Drop as u8, BY_HAND, 20));
        let kept = |f: &Flow| (words(f.clone())[0..4].to_vec(), f.timeout, f.origin.get(), f.timeout_closed, f.place);
        assert_eq!(kept(&cut), kept(&flow));
        assert!(closed(&cut, 20).is_none(), "it is");
        assert!(closed(&cut, 21).is_some(), "the next packet would have it judged");
    }
}
