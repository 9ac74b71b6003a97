//! What the kernel program tells, and who is told: those who watch, and the sampler.

use std::sync::Arc;

use sg_common::{event::Event, watch::Tell};

use super::Control;
use crate::{
    daemon::{
        log,
        protocol::{Action, Reply},
        sampler::{self, Known, Numbers},
        watch::{
            self, Asked, Watchers,
            names::{Names, Time},
        },
    },
    dataplane::{
        engine::{EngineError, OnChange, Report},
        events::{self, Ring, Sums},
    },
    model::Model,
};

/// Everything that comes of events.
pub(super) struct Hearing {
    watchers: Watchers,
    pub(super) names: Names,
    /// What the kernel was asked for last, and whether it has been.
    tell: Tell,
    asked: bool,
    /// Of what the names were made: the last epoch, the number of devices, the policy.
    seen: (u32, usize, Arc<Model>),
    /// What it said last that it has told.
    sums: Sums,
    /// Whether the kernel could not be asked or read; said once.
    failing: bool,
}

impl Default for Hearing {
    fn default() -> Self {
        let (watchers, names) = (Watchers::default(), Names::default());
        Self {
            watchers,
            names,
            tell: Tell::NOTHING,
            asked: false,
            seen: Default::default(),
            sums: Sums::default(),
            failing: false,
        }
    }
}

/// Mismatches that are logged one by one, a second.
const NAMED: usize = 5;

impl Control {
    /// Puts the policy in force, and remembers what was in force when.
    pub(super) fn enforce(&mut self, mode: OnChange) -> Result<Report, EngineError> {
        let result = self.engine.enforce(self.policy.model(), &self.machine, mode);
        self.follow_sampler();
        self.follow_shadow();
        result
    }

    /// Remembers what is in force now, to judge samples by.
    pub(super) fn follow_sampler(&mut self) {
        let engine = &self.engine;
        let numbers = || Numbers {
            counters: engine.counters().clone(),
            slots: engine.bound().iter().map(|(&index, b)| (b.slot, index)).collect(),
        };
        self.sampler.follow(self.policy.model(), &self.machine, engine.epoch(), engine.span(), numbers);
    }

    /// The ring buffer of the program in force.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn ring(&self) -> std::io::Result<Ring> {
        self.engine.ring()
    }

    /// The kernel's clock, beside the machine's.
    pub(super) fn time(&mut self) -> std::io::Result<Time> {
        Ok(watch::time(self.engine.jiffies()?, self.engine.ticks_per_second()))
    }

    fn sums(&mut self) -> Sums {
        match events::sums(self.engine.maps()) {
            Ok(sums) => self.hearing.sums = sums,
            Err(e) => self.unheard(&e),
        }
        self.hearing.sums
    }

    fn unheard(&mut self, e: &std::io::Error) {
        self.metrics.read_failed();
        if !std::mem::replace(&mut self.hearing.failing, true) {
            log::warning!("cannot ask the kernel for events: {e}; `sgctl watch` shows less than there is");
        }
    }

    /// Names what the kernel's numbers mean now.
    pub(super) fn follow_names(&mut self) {
        let (engine, hearing) = (&self.engine, &mut self.hearing);
        let seen = (engine.epoch(), engine.bound().len());
        hearing.names.follow(self.policy.model(), engine.counters());
        let (epoch, devices, model) = &hearing.seen;
        if (*epoch, *devices) != seen || !Arc::ptr_eq(model, self.policy.model()) {
            hearing.seen = (seen.0, seen.1, self.policy.model().clone());
            let local = self.machine.local(self.policy.model());
            let groups = |index: u32| {
                let binding = local.bindings.iter().find(|b| b.device.index == index);
                let interface = binding.map(|b| local.instances[b.instance].interface);
                interface.map(|i| self.policy.model().interfaces[i].groups.clone()).unwrap_or_default()
            };
            hearing.names.follow_devices(engine.bound().iter(), groups);
        }
    }

    /// Follows what has changed, and asks the kernel for what is wanted now.
    pub fn ask_events(&mut self) {
        self.follow_names();
        let (engine, hearing) = (&self.engine, &mut self.hearing);
        let hz = engine.ticks_per_second();
        let mut tell = Tell { window: (hz / watch::wish::WINDOWS).max(1), ..Tell::NOTHING };
        hearing.watchers.ask(&mut hearing.names, hz, &mut tell);
        sampler::ask(self.config.samples, &mut tell);
        if let Some(flow_log) = &self.flow_log {
            flow_log.ask(&mut tell);
        }
        tell.version = hearing.tell.version;
        if tell != hearing.tell {
            tell.version = tell.version.wrapping_add(1);
            match events::ask(engine.maps(), &tell) {
                Ok(()) => (hearing.tell, hearing.asked) = (tell, true),
                Err(e) => self.unheard(&e),
            }
        }
    }

    /// Looks whether the kernel is asked for what it was told last; what differs is said, and it
    /// is asked anew. Only this thread ever writes that, whoever comes or goes.
    pub(super) fn compare_asked(&mut self) -> Option<String> {
        let (maps, hearing) = (self.engine.maps(), &mut self.hearing);
        let compared = maps.tell.get(&0).and_then(|there| {
            let Some(there) = there.filter(|there| hearing.asked && *there != hearing.tell) else { return Ok(false) };
            // A version that no CPU has: what began under the settings of others is over.
            let version = hearing.tell.version.max(there.version).wrapping_add(1);
            let tell = Tell { version, ..hearing.tell };
            events::ask(maps, &tell)?;
            hearing.tell = tell;
            Ok(true)
        });
        match compared {
            Ok(differs) => differs.then(|| "the table of what is told".into()),
            Err(e) => {
                self.unheard(&e);
                None
            }
        }
    }

    /// Events have come.
    pub fn hear(&mut self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        self.follow_names();
        let jiffies = self.engine.jiffies().unwrap_or(events[events.len() - 1].time);
        let time = watch::time(jiffies, self.engine.ticks_per_second());
        let (hearing, sampler) = (&mut self.hearing, &mut self.sampler);
        for event in events {
            if event.streams & 1 << sg_common::watch::stream::LOG != 0
                && let Some(flow_log) = &mut self.flow_log
            {
                flow_log.denied(event, &mut hearing.names, &time);
            }
            if event.streams & 1 << sg_common::watch::stream::SAMPLE != 0 {
                sampler.add(*event);
            }
            if event.streams & 1 << sg_common::watch::stream::WATCH != 0 {
                hearing.watchers.tell(event, &mut hearing.names, &time, &hearing.tell);
            }
        }
    }

    /// Somebody begins to watch, or ends.
    pub fn watching(&mut self, asked: Asked) {
        let sums = self.sums();
        match asked {
            Asked::Begin { watch, source, lines, reply } => {
                let Hearing { watchers, names, .. } = &mut self.hearing;
                let begun = watchers.begin((*watch).clone(), lines, names, sums);
                let said = match &begun {
                    Ok(_) => Reply::Watching,
                    Err(message) => Reply::Refused { message: message.clone() },
                };
                // Before anybody hears of it, so that nothing of what comes then is missed.
                self.ask_events();
                self.note_alone(&Action::Watch(watch), &source, &said);
                let _ = reply.send(begun.map_err(|message| Reply::Refused { message }));
            }
            Asked::End(number) => self.hearing.watchers.end(number, &sums),
        }
    }

    /// Writes the log of flows, when it is time.
    pub fn log_flows(&mut self) {
        let Some(flow_log) = &mut self.flow_log else { return };
        let mut failed = None;
        if flow_log.is_due() {
            let looked = events::sums(self.engine.maps()).and_then(|sums| {
                let time = watch::time(self.engine.jiffies()?, self.engine.ticks_per_second());
                flow_log.look(self.engine.maps(), &mut self.hearing.names, &time, &sums)
            });
            failed = looked.err();
        }
        self.metrics.flows_logged(&flow_log.flush());
        if let Some(e) = failed {
            self.metrics.read_failed();
            log::warning!("cannot look which flows are over: {e}");
        }
    }

    /// Writes the rest of the log of flows, as the last thing.
    pub fn end_flow_log(&mut self) {
        self.log_flows();
        if let Some(flow_log) = &mut self.flow_log {
            self.metrics.flows_logged(&flow_log.close());
        }
    }

    /// Once a second: what was missed is said, and samples are judged.
    pub fn listen(&mut self) {
        self.ask_events();
        if !self.hearing.watchers.is_empty() {
            let sums = self.sums();
            self.hearing.watchers.say_missed(&sums);
        }
        self.log_flows();
        let epochs = self.engine.bound().values().map(|b| (b.slot, b.generation.epoch)).collect();
        let Ok(now) = self.engine.jiffies() else { return };
        let known = Known { epochs, now: (now, self.engine.ticks_per_second()) };
        let (judged, mismatches) = self.sampler.judge(&known);
        self.metrics.sampled(&judged);
        for mismatch in mismatches.iter().take(NAMED) {
            log::error!("a verdict is not what the policy says, please report this: {}", mismatch.text);
        }
    }
}
