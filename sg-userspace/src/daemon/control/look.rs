//! Following the machine: devices that come and go, programs of others, pins that
//! vanish, observations that end, flows that expire.

use std::time::{Duration, Instant};

use super::{Control, Look};
use crate::{
    daemon::{log, metrics::Transport},
    dataplane::{
        carry::Carried,
        engine::{Beginning, OnChange, Report, Resets},
        flows,
        machine::Machine,
        report::{Denied, Observed},
    },
};

/// How often flows are swept while room is short.
const SHORT_PERIOD: Duration = Duration::from_secs(5);
/// For how long after it appeared a device is new: nothing lived there before.
const NEW: Duration = Duration::from_secs(60);

impl Control {
    /// The machine changed: follow it. True when the kernel had to be changed.
    pub fn look(&mut self, machine: Machine, look: Look) -> bool {
        self.end_trial();
        if machine == self.machine && look == Look::Changes {
            return false;
        }
        let old = std::mem::replace(&mut self.machine, machine);
        let start = look == Look::First;
        if !start {
            let now = Instant::now();
            let there = |machine: &Machine, index: u32| machine.devices.iter().any(|d| d.index == index);
            self.appeared.retain(|index, _| there(&self.machine, *index));
            let new = self.machine.devices.iter().map(|d| d.index).filter(|i| !there(&old, *i));
            self.appeared.extend(new.map(|index| (index, now)));
        }
        let begun = Instant::now();
        self.engine.begin(self.beginning(start));
        self.keep_pinned();
        let result = self.enforce(OnChange::Unasked);
        self.share_out();
        match result {
            Ok(report) => {
                self.tell(&report);
                let changed = !report.is_nothing();
                // A look that found nothing to do says nothing of how long one takes.
                if changed {
                    self.metrics.applied(begun.elapsed(), true);
                    self.metrics.change(Transport::Network, true);
                } else {
                    self.metrics.in_force();
                }
                self.last = report;
                self.trouble = None;
                if let Err(e) = self.keep_counters() {
                    log::error!("{e}");
                }
                changed
            }
            Err(e) => {
                self.metrics.applied(begun.elapsed(), false);
                self.metrics.change(Transport::Network, false);
                self.deny(e.to_string());
                true
            }
        }
    }

    /// How devices begin that are bound now: by the start or an apply, or else
    /// because they appeared.
    pub(super) fn beginning(&self, observe: bool) -> Beginning {
        let guest = Duration::from_secs(self.config.guest_observe.into());
        let new = self.appeared.iter().filter(|(_, at)| at.elapsed() < NEW).map(|(index, _)| *index).collect();
        Beginning { observe, guest, new }
    }

    /// Ends observations whose time is over.
    pub fn end_observations(&mut self) {
        match self.engine.end_observations(Instant::now(), self.policy.model(), &self.machine) {
            Ok(ended) => {
                ended.iter().for_each(|(device, observed)| tell_observed(device, observed));
                if !ended.is_empty() {
                    self.follow_sampler();
                }
            }
            Err(e) => log::error!("cannot end an observation: {e}; trying again"),
        }
    }

    /// Puts the policy in force again when that failed.
    pub fn retry(&mut self) {
        if self.trouble.is_some() {
            let machine = self.machine.clone();
            let _ = self.look(machine, Look::Again);
        }
    }

    /// What is named and could not get its policy is bound all the same, and denies.
    pub(super) fn deny(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            log::error!("the policy is not in force everywhere: {why}");
        }
        match self.engine.deny(self.policy.model(), &self.machine) {
            Ok(report) => {
                for device in &report.bound {
                    log::error!("{device} has no policy: all but what always passes is dropped there");
                }
            }
            Err(e) if e.to_string() != why => log::error!("{e}"),
            Err(_) => {}
        }
        self.trouble = Some(why);
    }

    /// Looks whether the kernel's tables hold what was written, a part of them each time.
    pub fn compare_tables(&mut self) {
        let (mut found, failed) = self.engine.compare();
        if let Some(e) = failed {
            self.metrics.read_failed();
            log::warning!("cannot compare the kernel's tables: {e}");
        }
        found.extend(self.compare_asked());
        if found.is_empty() {
            return;
        }
        self.metrics.differed(found.len());
        for what in &found {
            log::error!("{what} in the kernel was not what sgd had written; it is written anew");
        }
        let machine = self.machine.clone();
        let _ = self.look(machine, Look::Again);
    }

    /// Looks whether our programs are still there, and the first ones.
    pub fn check(&mut self) {
        // Without its pins a link cannot be looked at, nor be made anew so that it stays.
        let lapsed = self.keep_pinned();
        if self.pins_gone {
            return;
        }
        if lapsed {
            let machine = self.machine.clone();
            let _ = self.look(machine, Look::Again);
        }
        let order = self.engine.order(&self.machine);
        self.metrics.mended(order.back.len(), order.passed.len());
        for device in &order.back {
            log::warning!("the programs of {device} had been taken off; they are there again");
        }
        for program in &order.passed {
            log::warning!("{program}; ours were put before it");
        }
        for program in order.before.iter().filter(|b| !self.order.before.contains(b)) {
            log::warning!("{program}");
        }
        for (device, why) in order.failed.iter().filter(|f| !self.order.failed.contains(f)) {
            log::error!("{device}: {why}");
        }
        self.order = order;
    }

    pub(super) fn tell(&self, report: &Report) {
        for device in &report.bound {
            log::info!("{device} is protected");
        }
        if !report.observing.is_empty() && report.observing != self.last.observing {
            let seconds = self.config.guest_observe;
            log::info!("observing for up to {seconds} s before enforcing: {}", report.observing.join(", "));
        }
        if report.adopted > 0 {
            log::info!("{} live flows were adopted", report.adopted);
        }
        tell_denied("live flows that the rules deny are cut", &report.denied);
        self.tell_reset(report.reset.as_ref());
        for line in &report.warnings {
            log::warning!("{line}");
        }
        for device in &report.unbound {
            log::info!("{device} is no longer protected");
        }
        if !report.changed.is_empty() {
            log::info!("new policy in force on {}", report.changed.join(", "));
        }
        for line in report.refused.iter().filter(|l| !self.last.refused.contains(l)) {
            log::warning!("not protected: {line}");
        }
        for device in report.absent.iter().filter(|d| !self.last.absent.contains(d)) {
            log::info!("{device} is named but not here; it will be protected when it appears");
        }
    }

    /// Says what became of connections that were to be reset.
    pub(super) fn tell_reset(&self, reset: Option<&Resets>) {
        let Some(Resets { connections, only_cut, problem }) = reset else { return };
        log::info!("{connections} connections were reset at both ends, {only_cut} flows are only cut");
        if let Some(why) = problem {
            log::warning!("connections that could not be reset are only cut: {why}");
        }
    }

    /// Deletes flows that expired long ago, and counts those that are left.
    pub fn sweep(&mut self) {
        self.swept = Instant::now();
        let swept = self.engine.jiffies().and_then(|now| {
            let maps = self.engine.maps();
            flows::sweep(maps, now, self.engine.ticks_per_second())?;
            self.engine.recount()
        });
        if let Err(e) = swept {
            self.metrics.read_failed();
            log::warning!("cannot sweep flows: {e}");
        }
        self.share_out();
    }

    /// Shares the conntrack tables out among the interfaces there are.
    pub(super) fn share_out(&mut self) {
        // The file was read with them.
        let settings = self.config.conntrack.settings().unwrap_or_default();
        if let Err(e) = self.engine.share_out(&settings) {
            log::warning!("cannot set the quotas of flows: {e}");
        }
    }

    /// Says when flows are short of room; sweeps more often then.
    pub(super) fn watch_room(&mut self) {
        match self.pressure.look(&self.engine) {
            Ok(true) if self.swept.elapsed() >= SHORT_PERIOD => self.sweep(),
            Ok(_) => {}
            Err(e) => {
                self.metrics.read_failed();
                log::warning!("cannot count flows: {e}");
            }
        }
    }

    /// Sees to it that what is in force outlives this daemon. True when a device
    /// has to be attached anew.
    pub fn keep_pinned(&mut self) -> bool {
        let root = self.config.pin_root.display();
        match self.engine.repin() {
            Ok(done) => {
                self.pins_gone = false;
                self.metrics.repinned(done.pins);
                if done.pins > 0 {
                    log::warning!("{} pins in {root} were gone (was bpffs unmounted?) and are there again", done.pins);
                }
                for device in &done.lapsed {
                    log::error!("{device} has been open since its pins in {root} went away; it is attached anew");
                }
                !done.lapsed.is_empty()
            }
            Err(e) => {
                if !self.pins_gone {
                    log::error!(
                        "the pins in {root} are gone: {e}; what is in force ends with this daemon, unless a BPF file \
                         system is there again (`mount -t bpf`), where all is pinned anew within half a minute"
                    );
                }
                self.pins_gone = true;
                false
            }
        }
    }

    /// Takes out policies that nothing uses any more, and renews the filter of
    /// flows when many of its bits are of dead ones.
    pub fn tidy(&mut self) {
        self.watch_room();
        self.watch_rules();
        self.watch_packets();
        if let Err(e) = self.engine.tidy() {
            log::warning!("{e}; trying again");
        }
        self.keep_what_was_emptied();
        if self.filter_fails {
            return;
        }
        if let Err(e) = self.engine.renew_filter() {
            self.filter_fails = true;
            log::warning!("cannot renew the filter of flows, packets without a flow will cost more: {e}");
        }
    }
}

/// Says what came over from another set of maps.
pub(super) fn tell_carried(carried: Option<&Carried>) {
    let Some(carried) = carried else { return };
    let (devices, flows) = (carried.devices, carried.flows);
    log::info!("carried {devices} devices and {} flows over to new tables", flows.carried);
    if flows.left > 0 {
        let left = flows.left;
        log::warning!("{left} flows were not carried, the tables are too small (max_flows): each is judged anew");
    }
    for (_, line) in &carried.kept {
        log::error!("not moved to the new tables, keeps what it enforced; the next start tries again: {line}");
    }
}

pub(super) fn tell_denied(what: &str, denied: &Denied) {
    if denied.count > 0 {
        log::warning!("{} {what}:", denied.count);
        denied.lines().iter().for_each(|line| log::warning!("  {line}"));
    }
}

pub(super) fn tell_observed(device: &str, observed: &Observed) {
    log::info!("{device} enforces now; {} live flows were adopted", observed.adopted);
    tell_denied(&format!("live flows of {device} that the rules deny are cut"), &observed.denied);
}
