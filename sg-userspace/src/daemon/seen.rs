//! When packets were last seen: the kernel counts them and keeps no time, so that the time
//! is that of the look which found more than the one before. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

/// What one look has found of one direction of an interface.
#[derive(Clone, Copy, Debug)]
struct Track {
    packets: u64,
    /// When it was first looked at.
    since: SystemTime,
    /// When it was last found to have more, and how long before that the look before was.
    last: Option<(SystemTime, Duration)>,
    /// When it was last looked at.
    looked: SystemTime,
}

/// The last packet of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPacket {
    /// `ingress` or `egress`.
    pub direction: String,
    /// When, UTC, or up to `within` seconds before; absent when there was none since `since`.
    pub at: Option<String>,
    /// How far before that it may have been, seconds.
    pub within: u64,
    /// Since when it is looked for, UTC.
    pub since: String,
}

/// Interfaces by zone, which no two ever share.
#[derive(Debug, Default)]
pub struct LastSeen(BTreeMap<u32, [Track; 2]>);

impl LastSeen {
    /// Forgets all but these zones.
    pub fn keep(&mut self, zones: &BTreeSet<u32>) {
        self.0.retain(|zone, _| zones.contains(zone));
    }

    /// Takes note of what has been counted by now: inbound and outbound packets by zone.
    pub fn look(&mut self, now: SystemTime, counts: &BTreeMap<u32, [u64; 2]>) {
        for (zone, counts) in counts {
            let new = |packets| Track { packets, since: now, last: None, looked: now };
            let tracks = self.0.entry(*zone).or_insert_with(|| counts.map(new));
            for (track, packets) in tracks.iter_mut().zip(counts) {
                // Emptied counters hold what came since then.
                if *packets != track.packets && *packets > 0 {
                    track.last = Some((now, now.duration_since(track.looked).unwrap_or_default()));
                }
                (track.packets, track.looked) = (*packets, now);
            }
        }
    }

    /// What is known of a zone: inbound, outbound; nothing before it was looked at.
    pub fn of(&self, zone: u32, names: [&str; 2]) -> Vec<LastPacket> {
        let time = |at| humantime::format_rfc3339_seconds(at).to_string();
        let tracks = self.0.get(&zone).into_iter().flatten();
        let packet = |(track, name): (&Track, &str)| LastPacket {
            direction: name.into(),
            at: track.last.map(|(at, _)| time(at)),
            // Whole seconds, as the time is.
            within: track.last.map_or(0, |(_, within)| within.as_secs() + u64::from(within.subsec_nanos() > 0)),
            since: time(track.since),
        };
        tracks.zip(names).map(packet).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["ingress", "egress"];

    #[test]
    fn the_time_is_that_of_the_look_that_found_more() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut seen = LastSeen::default();
        let mut look = |seconds, counts: &[(u32, [u64; 2])]| {
            seen.keep(&counts.iter().map(|(zone, _)| *zone).collect());
            seen.look(at(seconds), &counts.iter().copied().collect());
            let told = |zone| {
                let of = seen.of(zone, NAMES);
                of.iter().map(|p| (p.at.clone().map(|at| at[14..19].to_owned()), p.within)).collect::<Vec<_>>()
            };
            (told(1), told(2))
        };
        assert_eq!(look(0, &[(1, [7, 0])]).0, [(None, 0), (None, 0)], "when these came nobody knows");
        assert_eq!(look(5, &[(1, [8, 0])]).0, [(Some("00:05".into()), 5), (None, 0)]);
        let (first, second) = look(12, &[(1, [8, 3]), (2, [1, 1])]);
        assert_eq!(first, [(Some("00:05".into()), 5), (Some("00:12".into()), 7)]);
        assert_eq!(second, [(None, 0), (None, 0)]);
        // Emptied, and one since then; emptied, and none.
        let (first, _) = look(20, &[(1, [1, 0]), (2, [1, 1])]);
        assert_eq!(first, [(Some("00:20".into()), 8), (Some("00:12".into()), 7)]);
        let (first, second) = look(21, &[(1, [1, 0])]);
        assert_eq!((first.len(), second.len()), (2, 0));
        // A clock that was set back takes nothing back.
        assert_eq!(look(3, &[(1, [2, 0])]).0[0], (Some("00:03".into()), 0));
        assert_eq!(seen.of(1, NAMES)[1].since, "1970-01-01T00:00:00Z");
    }
}
