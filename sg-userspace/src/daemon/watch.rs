//! Those who watch packets as they are judged (`sgctl watch`).
//!
//! # Layout
//! - [`names`]: what the kernel's numbers mean
//! - [`wish`]: what a watcher wants; [`serve`]: its connection
//! - here: who watches, and what each is told

pub mod names;
pub mod serve;
pub mod wish;

use std::time::SystemTime;

use sg_common::{
    event::Event,
    flow::{BY_HAND, Direction},
    reason::{Reason, Verdict},
    watch::{Tell, stream},
};
use tokio::sync::{mpsc, oneshot};

use self::{
    names::{Names, Time},
    wish::Wish,
};
use super::protocol::{Missed, Reply, Seen, Watch, WatchLine};
use crate::{
    dataplane::{clock::possible_cpus, events::Sums},
    model::protocol_name,
};

/// Watchers at once; more are refused.
const MOST: usize = 16;
/// Lines that wait for a watcher that is slow; more are left out, and counted.
pub const WAITING: usize = 8192;

/// What a connection says of its watcher.
#[derive(Debug)]
pub enum Asked {
    /// It begins.
    Begin {
        /// What it wants.
        watch: Box<Watch>,
        /// Where it came from, for the audit log.
        source: String,
        /// Where its lines go.
        lines: mpsc::Sender<WatchLine>,
        /// Its number.
        reply: oneshot::Sender<Result<u64, Reply>>,
    },
    /// It has seen enough.
    End(u64),
}

struct Watcher {
    number: u64,
    watch: Watch,
    wish: Wish,
    lines: mpsc::Sender<WatchLine>,
    /// What the kernel had left out before it began.
    before: Sums,
    /// What the kernel told and it does not want to see each of, since the last that it saw.
    turn: u32,
    meter: Meter,
    /// What did not fit into its queue or its rate, or was not its turn.
    own: Missed,
    said: Missed,
}

/// What a watcher may still see of a window of time, when others have the kernel tell more.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// Jiffies when it began; none has yet.
    start: Option<u32>,
    left: u32,
}

impl Meter {
    /// Whether there is room for an event at a time, in jiffies, where a window of so many holds
    /// so many events. CPUs tell a little out of order: an older event is one of this window.
    fn takes(&mut self, at: u32, window: u32, room: u32) -> bool {
        let age = |start: u32| i64::from(at.wrapping_sub(start) as i32);
        // Far behind is far ahead, once the clock has gone round half way.
        if self.start.is_none_or(|start| age(start) >= i64::from(window) || age(start) < -i64::from(window)) {
            *self = Self { start: Some(at), left: room };
        }
        let takes = self.left > 0;
        self.left -= u32::from(takes);
        takes
    }
}

impl Watcher {
    /// Whether it may see one more event at its own rate. Where that is what the kernel was asked
    /// for the kernel keeps it, in windows of its own.
    fn has_room(&mut self, event: &Event, asked: &Tell) -> bool {
        let own = self.wish.tokens();
        let cpus = u32::try_from(possible_cpus()).unwrap_or(u32::MAX);
        own >= asked.tokens[stream::WATCH] || self.meter.takes(event.time, asked.window, own.saturating_mul(cpus))
    }

    fn missed(&self, sums: &Sums) -> Missed {
        let out = |now: u64, then: u64| now.saturating_sub(then);
        let left_out = out(sums.left_out[stream::WATCH], self.before.left_out[stream::WATCH]);
        let passed_over = out(sums.passed_over, self.before.passed_over);
        Missed { left_out: left_out + self.own.left_out, passed_over: passed_over + self.own.passed_over }
    }
}

/// All of them.
#[derive(Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    last: u64,
}

/// A verdict as a watcher reads it.
fn what(verdict: Verdict, reason: Reason) -> &'static str {
    match (verdict, reason) {
        (Verdict::Drop, Reason::Cut) => "cut",
        (Verdict::Drop, _) => "drop",
        (Verdict::Accept, Reason::Observed) => "observed",
        (
            Verdict::Accept,
            Reason::Rule | Reason::Default | Reason::IntraGroup | Reason::Failsafe | Reason::Provider,
        ) => "new",
        (Verdict::Accept, _) => "pass",
    }
}

/// An event in words. The ports of what has none are 0 in the kernel, and those of echoes their identifier.
pub fn seen(e: &Event, names: &mut Names, time: &Time) -> Seen {
    let (verdict, reason) = (Verdict::from_u8(e.verdict), Reason::from_u8(e.reason));
    let protocol = (e.vlan_proto & 0xff) as u8;
    let ports = matches!(protocol, 6 | 17);
    let vlans = [(e.vlan_proto >> 20) as u16, (e.vlan_proto >> 8 & 0xfff) as u16];
    let rule = names.rule(e.rule);
    let device = names.slots.get(&e.slot).map_or_else(|| format!("slot {}", e.slot), |s| s.device.clone());
    Seen {
        time: humantime::format_rfc3339_millis(time.of(e.time)).to_string(),
        what: what(verdict, reason.unwrap_or(Reason::Default)).into(),
        device,
        direction: Direction::from_u8(e.direction).name().into(),
        protocol: protocol_name(Some(protocol)),
        local: e.local.into(),
        remote: e.remote.into(),
        local_port: ports.then_some(e.local_port),
        remote_port: ports.then_some(e.remote_port),
        vlans: vlans.into_iter().filter(|id| *id != 0).collect(),
        bytes: e.length,
        verdict: verdict.name().into(),
        reason: reason.map_or_else(|| e.reason.to_string(), |r| r.name().into()),
        priority: rule.as_ref().and_then(|r| r.priority),
        rule: rule
            .map(|r| r.name)
            .or_else(|| (e.rule != 0 && e.rule != BY_HAND).then(|| "(a rule that is no more)".into())),
    }
}

impl Watchers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One more; its number.
    ///
    /// # Errors
    /// What it wants and there is not, or that there are too many, for a human.
    pub fn begin(
        &mut self,
        watch: Watch,
        lines: mpsc::Sender<WatchLine>,
        names: &mut Names,
        before: Sums,
    ) -> Result<u64, String> {
        self.all.retain(|w| !w.lines.is_closed());
        if self.all.len() >= MOST {
            return Err(format!("{MOST} watch already; end one of them"));
        }
        let wish = Wish::of(&watch, names, true)?;
        self.last += 1;
        let (number, own, said) = (self.last, Missed::default(), Missed::default());
        let meter = Meter::default();
        self.all.push(Watcher { number, watch, wish, lines, before, turn: 0, meter, own, said });
        Ok(number)
    }

    /// Asks the kernel for what all of them want, by the names of now.
    pub fn ask(&mut self, names: &mut Names, hz: u32, tell: &mut Tell) {
        self.all.retain(|w| !w.lines.is_closed());
        for watcher in &mut self.all {
            if let Ok(wish) = Wish::of(&watcher.watch, names, false) {
                watcher.wish = wish;
            }
        }
        let wishes: Vec<Wish> = self.all.iter().map(|w| w.wish.clone()).collect();
        wish::ask(&wishes, hz, tell);
    }

    /// Tells those who want it, each as often as it wants it; the kernel was `asked` for what
    /// all of them want together.
    pub fn tell(&mut self, event: &Event, names: &mut Names, time: &Time, asked: &Tell) {
        let mut line = None;
        for watcher in self.all.iter_mut().filter(|w| w.wish.wants(event)) {
            watcher.turn += 1;
            if u64::from(watcher.turn) * u64::from(asked.every.max(1)) < u64::from(watcher.wish.every()) {
                watcher.own.passed_over += 1;
                continue;
            }
            watcher.turn = 0;
            if !watcher.has_room(event, asked) {
                watcher.own.left_out += 1;
                continue;
            }
            let line = line.get_or_insert_with(|| WatchLine::Seen(Box::new(seen(event, names, time)))).clone();
            if watcher.lines.try_send(line).is_err() {
                watcher.own.left_out += 1;
            }
        }
    }

    /// Says to each what it has missed, if that has grown.
    pub fn say_missed(&mut self, sums: &Sums) {
        for watcher in &mut self.all {
            let missed = watcher.missed(sums);
            if missed != watcher.said && watcher.lines.try_send(WatchLine::Missed(missed)).is_ok() {
                watcher.said = missed;
            }
        }
    }

    /// One has seen enough: its last line.
    pub fn end(&mut self, number: u64, sums: &Sums) {
        if let Some(at) = self.all.iter().position(|w| w.number == number) {
            let watcher = self.all.swap_remove(at);
            let missed = watcher.missed(sums);
            let lines = watcher.lines;
            // Behind all that waits, however long the watcher takes.
            tokio::spawn(async move { lines.send(WatchLine::End(missed)).await });
        }
    }
}

/// The clock of now.
pub fn time(jiffies: u32, hz: u32) -> Time {
    Time { wall: SystemTime::now(), jiffies, hz }
}

#[cfg(test)]
mod tests {
    use super::{names::SlotName, *};
    use sg_common::addr::Addr;

    pub(super) fn event(at: u32) -> Event {
        Event {
            time: at,
            epoch: 1,
            slot: 1,
            rule: 0,
            vlan_proto: 6,
            length: 60,
            local: Addr::v4([10, 0, 0, 5]),
            remote: Addr::v4([192, 0, 2, 7]),
            local_port: 22,
            remote_port: 40_000,
            direction: 0,
            verdict: Verdict::Drop as u8,
            reason: Reason::Default as u8,
            streams: 1,
        }
    }

    #[test]
    fn a_window_holds_so_many_and_the_next_one_as_many() {
        let mut meter = Meter::default();
        let mut takes = |at| meter.takes(at, 25, 2);
        // The clock wraps.
        let begun = u32::MAX - 10;
        assert!(takes(begun) && takes(begun + 9) && !takes(begun + 10) && !takes(begun.wrapping_add(24)));
        assert!(takes(begun.wrapping_add(25)) && takes(begun.wrapping_add(20)) && !takes(begun.wrapping_add(49)));
        assert!(takes(begun.wrapping_add(25 + (3 << 30))), "the clock went round half way since");
    }

    #[test]
    fn each_sees_no_more_than_its_own_rate_and_the_rest_is_counted_for_it() {
        let mut names = Names::default();
        names.slots.insert(1, SlotName { device: "eth0".into(), groups: Vec::new() });
        let mut watchers = Watchers::default();
        let mut begin = |watchers: &mut Watchers, rate, every| {
            let (sender, lines) = mpsc::channel(WAITING);
            let watch = Watch { rate, every, ..Watch::default() };
            watchers.begin(watch, sender, &mut names, Sums::default()).unwrap();
            lines
        };
        let mut slow = begin(&mut watchers, 10, 1);
        let mut half = begin(&mut watchers, 10, 2);
        let mut fast = begin(&mut watchers, 100_000, 1);
        let mut tell = Tell::NOTHING;
        watchers.ask(&mut names, 1000, &mut tell);
        // As the kernel told them: a second, ten windows.
        let time = time(1000, 1000);
        (0..1000).for_each(|at| watchers.tell(&event(at), &mut names, &time, &tell));
        let own = 10 * possible_cpus() as u64;
        let mut counts = |lines: &mut mpsc::Receiver<WatchLine>| {
            watchers.say_missed(&Sums::default());
            let (mut seen, mut last) = (0, Missed::default());
            while let Ok(line) = lines.try_recv() {
                match line {
                    WatchLine::Seen(_) => seen += 1,
                    WatchLine::Missed(missed) | WatchLine::End(missed) => last = missed,
                }
            }
            (seen, last.left_out, last.passed_over)
        };
        assert_eq!(counts(&mut fast), (1000, 0, 0));
        assert_eq!(counts(&mut slow), (own, 1000 - own, 0));
        assert_eq!(counts(&mut half), (own.min(500), 500 - own.min(500), 500));
    }
}
