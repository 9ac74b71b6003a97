//! How full everything is, and when packets were last seen.

use std::{collections::BTreeMap, io, time::SystemTime};

use sg_common::{flow::Direction, quota::Quotas};

use super::Control;
use crate::{
    daemon::{
        headroom::{self, Room},
        history::MOST_NAMED,
        seen::LastPacket,
        views,
    },
    dataplane::{
        engine::{Bound, Used},
        flows::Live,
        quotas::{Counts, remote_of},
    },
};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Turns in which the counters of all interfaces are looked at: the writer waits meanwhile.
const TURNS: u32 = 5;

impl Control {
    /// Everything that has a bound, the fullest first.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub(in crate::daemon) fn room(&self, flows: &[Live]) -> io::Result<Vec<Room>> {
        let used = |u: Used| Room { whose: u.device, ..Room::new(u.what, u.used, u.of) };
        let mut all: Vec<Room> = self.engine.room()?.into_iter().map(used).collect();
        all.extend(self.room_for_flows(flows)?);
        all.extend(headroom::quotas(self.policy.model(), &self.config.quotas()));
        all.extend(self.room_of_accounts());
        if let Ok(kept) = self.store.kept() {
            all.push(Room::new("snapshots", kept.iter().filter(|k| k.named).count(), MOST_NAMED));
        }
        headroom::sort(&mut all);
        Ok(all)
    }

    /// Confirmed flows, by the counts that the program goes by and metrics tell.
    fn room_for_flows(&self, flows: &[Live]) -> io::Result<Vec<Room>> {
        let (maps, bound) = (self.engine.maps(), self.engine.bound());
        let quotas = maps.quotas.get(&0)?.unwrap_or(Quotas::NONE);
        let (counts, capacity) = (Counts::open(maps)?, [maps.flows4.capacity()?, maps.flows6.capacity()?]);
        let mut all = Vec::new();
        for (i, family) in FAMILIES.into_iter().enumerate() {
            all.push(Room::new(&format!("confirmed flows, {family}"), counts.tables()[i], capacity[i]));
            let own = bound.values().map(|b| (b.device.clone(), counts.interface(b.slot)[i] as usize));
            let what = format!("confirmed flows of an interface, {family}");
            all.extend(Room::fullest(&what, quotas.interface as usize, own));
        }
        let mut remotes = BTreeMap::<_, usize>::new();
        for flow in flows.iter().filter(|f| f.confirmed) {
            *remotes.entry((flow.key.zone, remote_of(flow.key.remote.into()))).or_default() += 1;
        }
        let named = remotes.into_iter().map(|((_, remote), count)| (remote.to_string(), count));
        all.extend(Room::fullest("confirmed flows of a remote", quotas.remote as usize, named));
        Ok(all)
    }

    /// What the account with the most objects of each kind may still make.
    fn room_of_accounts(&self) -> Vec<Room> {
        let names = self.stored().names();
        let fullest = |what: &str, ids: &[String], of: usize| {
            let mut counts = BTreeMap::<&str, usize>::new();
            for id in ids {
                let fact = self.state.facts.objects.get(id);
                let account = fact.and_then(|f| f.account.as_deref()).unwrap_or(&self.here.account);
                *counts.entry(account).or_default() += 1;
            }
            Room::fullest(what, of, counts)
        };
        let kinds = [
            fullest("groups of an account", &names.groups.ids, self.here.max_groups),
            fullest("prefix lists of an account", &names.prefix_lists.ids, self.here.max_lists),
            fullest("port lists of an account", &names.port_lists.ids, self.here.max_port_lists),
        ];
        kinds.into_iter().flatten().collect()
    }

    /// Looks for packets since the last time, at a part of the interfaces.
    pub(super) fn watch_packets(&mut self) {
        self.turn = (self.turn + 1) % TURNS;
        let turn = self.turn;
        self.look_for_packets(|zone| zone % TURNS == turn);
    }

    /// Looks for packets since the last time, at those interfaces whose zones are meant.
    pub(super) fn look_for_packets(&mut self, meant: impl Fn(u32) -> bool) {
        let bound = self.engine.bound();
        self.seen.keep(&bound.values().map(|b| b.generation.zone).collect());
        let maps = self.engine.maps();
        let read = |b: &Bound| Ok((b.generation.zone, views::directions(maps, b.slot)?.map(|c| c.packets)));
        let counts: io::Result<BTreeMap<u32, [u64; 2]>> =
            bound.values().filter(|b| meant(b.generation.zone)).map(read).collect();
        match counts {
            Ok(counts) => self.seen.look(SystemTime::now(), &counts),
            Err(_) => self.metrics.read_failed(),
        }
    }

    /// The last packet of each direction of an interface, by its zone.
    pub(in crate::daemon) fn last_packets(&self, zone: u32) -> Vec<LastPacket> {
        self.seen.of(zone, [Direction::Inbound, Direction::Outbound].map(Direction::name))
    }
}
