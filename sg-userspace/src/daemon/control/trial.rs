//! A change on trial: in force at once, and taken back when nobody confirms it in time.
//!
//! The kernel program goes back by itself. What is stored stays what was before, so that
//! whoever starts next begins with that; beside it stands what is on trial, so that it
//! can be said what was taken back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Control, apply::note};
use crate::{
    api::{
        audit::Line,
        auth::now,
        draft::time,
        envelope, error,
        facts::{Facts, Replay},
    },
    daemon::{
        log,
        protocol::{Action, Reply, Source, TrialView},
    },
    dataplane::engine::{EngineError, OnChange, Report},
    document::Document,
    validate::Valid,
};

/// Seconds that a trial may take.
pub const BOUNDS: std::ops::RangeInclusive<u32> = 3..=3600;

/// What is stored of a change on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Generation that it is tried on.
    pub base: u64,
    /// Generation that it becomes when it is confirmed.
    pub generation: u64,
    /// When it is over, seconds since 1970.
    pub deadline: u64,
    /// What is tried.
    pub documents: Vec<Document>,
}

/// A change that is in force and not confirmed.
pub(super) struct Trial {
    base: Arc<Valid>,
    facts: Facts,
    generation: u64,
    ends: Instant,
    deadline: u64,
}

fn refused(message: impl ToString) -> Reply {
    Reply::Refused { message: message.to_string() }
}

/// Whether an action changes the policy, and so has to wait for the end of a trial.
fn waits(action: &Action) -> bool {
    match action {
        Action::Document { apply, .. } => *apply,
        // Going back is what ends it.
        Action::Restore { apply, source, group, .. } => *apply && !(*source == Source::Kept(None) && group.is_none()),
        Action::Call(call) => call.writes(),
        _ => false,
    }
}

impl Control {
    /// What is on trial.
    pub fn on_trial(&self) -> Option<TrialView> {
        let trial = self.trial.as_ref()?;
        let left = trial.ends.saturating_duration_since(Instant::now());
        Some(TrialView { generation: trial.generation, seconds: left.as_secs(), until: time(trial.deadline) })
    }

    /// What is stored, and what calls go by: while a change is on trial that before it.
    pub(super) fn stored(&self) -> &Arc<Valid> {
        self.trial.as_ref().map_or(&self.policy, |t| &t.base)
    }

    /// The refusal of what has to wait for the end of a trial.
    pub(super) fn conflict(&self, action: &Action) -> Option<Reply> {
        let trial = self.on_trial().filter(|_| waits(action))?;
        let why = format!(
            "a change is on trial for {} s more: `sgctl confirm` keeps it, `sgctl rollback` takes it back; nothing \
             else is changed meanwhile",
            trial.seconds
        );
        Some(match action {
            Action::Call(_) => super::together::called(&Err(error::CONFLICT.because(&why))),
            _ => refused(why),
        })
    }

    /// Puts a change in force for so many seconds.
    pub(super) fn try_out(
        &mut self,
        policy: Arc<Valid>,
        beside: Option<(Facts, Replay)>,
        generation: u64,
        mode: OnChange,
        seconds: u32,
    ) -> Result<Report, String> {
        if !BOUNDS.contains(&seconds) {
            return Err(format!(
                "a change is tried out for {} to {} seconds; nothing was changed",
                BOUNDS.start(),
                BOUNDS.end()
            ));
        }
        let mut facts = beside.map_or_else(|| self.state.facts.clone(), |(facts, _)| facts);
        note(&mut facts, &self.policy, &policy);
        let deadline = now() + u64::from(seconds);
        let documents = policy.documents().to_vec();
        let record = TrialRecord { base: self.state.generation, generation, deadline, documents };
        self.store.keep_trial(Some(&record)).map_err(|e| format!("{e}; nothing was changed"))?;
        let ends = Instant::now() + Duration::from_secs(seconds.into());
        let begun = Instant::now();
        if let Err(e) = self.engine.begin_trial(self.policy.model(), seconds) {
            self.forget_trial();
            return Err(format!("{e}; nothing was changed"));
        }
        let base = std::mem::replace(&mut self.policy, policy);
        self.keep_pinned();
        let result = self.engine.enforce(self.policy.model(), &self.machine, mode);
        self.share_out();
        self.metrics.applied(begun.elapsed(), result.is_ok());
        let trial = Trial { base, facts, generation, ends, deadline };
        match result {
            Ok(report) => {
                self.tell(&report);
                log::warning!("generation {generation} is on trial for {seconds} s: `sgctl confirm` keeps it");
                self.last = report.clone();
                self.trouble = None;
                self.trial = Some(trial);
                if let Err(e) = self.keep_counters() {
                    log::error!("{e}");
                }
                Ok(report)
            }
            Err(e) => {
                self.trial = Some(trial);
                let back = self.go_back();
                let message = format!("{e}; the policy before it stays in force");
                Err(back.map_or(message.clone(), |failure| format!("{message}; and going back: {failure}")))
            }
        }
    }

    /// Keeps what is on trial.
    pub(super) fn confirm(&mut self) -> Result<Reply, Reply> {
        let Some(trial) = &self.trial else {
            return Err(refused("nothing is on trial: what is in force is confirmed, or has been taken back"));
        };
        let (generation, facts) = (trial.generation, trial.facts.clone());
        if let Err(e) = self.engine.confirm_trial() {
            self.take_back(if matches!(e, EngineError::Late) { "not confirmed in time" } else { "not confirmed" });
            return Err(refused(format!("{e}: what was on trial was taken back")));
        }
        self.keep_settled("before a confirmed apply", true);
        let before = self.state.clone();
        self.state.documents = self.policy.documents().to_vec();
        (self.state.generation, self.state.facts) = (generation, facts);
        if let Err(e) = self.store.save(&self.state) {
            self.state = before;
            self.take_back("it could not be stored");
            return Err(refused(format!("{e}: what was on trial was taken back")));
        }
        self.trial = None;
        self.changed = Some(Instant::now());
        self.forget_trial();
        // Lets go of what it does not name.
        match self.engine.enforce(self.policy.model(), &self.machine, OnChange::Keep) {
            Ok(report) => self.tell(&report),
            Err(e) => self.deny(e.to_string()),
        }
        log::info!("generation {generation} is confirmed");
        Ok(Reply::Confirmed { generation })
    }

    /// Ends a trial whose time is over.
    pub fn end_trial(&mut self) {
        if self.trial.as_ref().is_some_and(|t| t.ends <= Instant::now()) {
            self.take_back("not confirmed in time");
        }
    }

    /// Takes back what is on trial; says so, and writes it down.
    pub(super) fn take_back(&mut self, why: &str) {
        let Some(generation) = self.trial.as_ref().map(|t| t.generation) else { return };
        let failure = self.go_back();
        log::warning!(
            "generation {generation} was taken back: {why}; generation {} is in force",
            self.state.generation
        );
        self.note_taken_back(generation, why);
        if let Some(failure) = failure {
            self.deny(failure);
        }
    }

    /// Puts in force what was before; returns what kept it from that.
    fn go_back(&mut self) -> Option<String> {
        let trial = self.trial.take()?;
        self.engine.end_trial();
        self.policy = trial.base;
        self.engine.begin(self.beginning(false));
        let result = self.engine.enforce(self.policy.model(), &self.machine, OnChange::Cut);
        self.share_out();
        self.forget_trial();
        match result {
            Ok(report) => {
                self.tell(&report);
                self.last = report;
                self.trouble = None;
                None
            }
            Err(e) => Some(e.to_string()),
        }
    }

    fn forget_trial(&mut self) {
        if let Err(e) = self.store.keep_trial(None) {
            // The next start takes back what is not in force, which changes nothing.
            log::warning!("{e}");
        }
    }

    pub(super) fn note_taken_back(&mut self, generation: u64, why: &str) {
        let parameters = [("generation".to_owned(), generation.to_string())].into_iter().collect();
        let line = Line {
            time: time(now()),
            kind: "call",
            call: &envelope::request_id(),
            caller: "sgd",
            account: None,
            source: "",
            action: "take back",
            parameters: Some(&parameters),
            result: Some(why),
            made: None,
            generation: Some(self.state.generation),
        };
        if self.audit.write(&[line]).is_err() {
            self.metrics.audit_failed();
        }
    }

    /// At the start: what was on trial when the daemon before this one ended counts as
    /// taken back.
    pub(super) fn take_back_of_before(&mut self) {
        match self.store.trial() {
            Ok(Some(trial)) if trial.generation != self.state.generation => {
                let (of, base) = (trial.generation, self.state.generation);
                log::warning!(
                    "generation {of} was on trial when sgd ended, and is taken back: generation {base} counts"
                );
                self.note_taken_back(of, "sgd ended before it was confirmed");
                self.forget_trial();
            }
            // It was confirmed, and sgd ended just then.
            Ok(Some(_)) => self.forget_trial(),
            Ok(None) => {}
            Err(e) => log::warning!("{e}"),
        }
    }
}
