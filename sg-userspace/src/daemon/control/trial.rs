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

use super::{
    Control,
    apply::{Beside, note},
};
use crate::{
    api::{audit::Line, auth::now, draft::time, envelope, error, facts::Facts},
    daemon::{
        log,
        protocol::{Action, Planned, Reply, Source, TrialView},
        store::State,
    },
    dataplane::engine::{OnChange, Report},
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
    applied: Arc<Vec<Document>>,
    generation: u64,
    ends: Instant,
    deadline: u64,
}

fn refused(message: impl ToString) -> Reply {
    Reply::Refused { message: message.to_string() }
}

/// For how long after a trial ended by itself `rollback` must say what it means.
const LATELY: Duration = Duration::from_secs(300);

/// Whether an action changes the policy, and so has to wait for the end of a trial.
fn waits(action: &Action) -> bool {
    match action {
        Action::Document { apply, .. } => *apply,
        // Going back is what ends it.
        Action::Restore { apply, source, .. } => *apply && !matches!(source, Source::Trial(_)),
        Action::Call(call) => call.writes(),
        _ => false,
    }
}

/// Why nothing that resets connections is tried out.
pub const NO_RESET: &str = "a trial can be taken back and a reset can not: leave --reset out, or put it in force for good \
     (--confirm off); nothing was changed";

/// Refuses a trial of what cannot be taken back.
pub(super) fn can_be_tried(confirm: Option<u32>, mode: OnChange) -> Result<(), Reply> {
    if confirm.is_some() && mode == OnChange::Reset { Err(refused(NO_RESET)) } else { Ok(()) }
}

impl Control {
    /// What is on trial.
    pub fn on_trial(&self) -> Option<TrialView> {
        let trial = self.trial.as_ref()?;
        let left = trial.ends.saturating_duration_since(Instant::now());
        Some(TrialView { generation: trial.generation, seconds: left.as_secs(), until: time(trial.deadline) })
    }

    /// What is stored, and what calls go by: while a change is on trial that before it.
    pub(in crate::daemon) fn stored(&self) -> &Arc<Valid> {
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
        beside: Option<Beside>,
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
        let Beside { mut facts, applied, .. } = beside.unwrap_or_else(|| self.beside());
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
        let result = self.enforce(mode);
        self.share_out();
        self.metrics.applied(begun.elapsed(), result.is_ok());
        let trial = Trial { base, facts, applied, generation, ends, deadline };
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
                self.forget_trial();
                let message = format!("{e}; the policy before it stays in force");
                match back {
                    Ok(_) => Err(message),
                    Err(failure) => {
                        self.deny(failure.clone());
                        Err(format!("{message}; and going back: {failure}"))
                    }
                }
            }
        }
    }

    /// Refuses a trial that would be over before guests enforce, whose operator would
    /// confirm what has cut nobody yet.
    pub(super) fn can_be_seen(&self, confirm: Option<u32>, planned: &Planned) -> Result<(), Reply> {
        let observe = self.config.guest_observe;
        match confirm.filter(|seconds| !planned.observing.is_empty() && *seconds <= observe) {
            None => Ok(()),
            Some(_) => Err(refused(format!(
                "{} would only observe for {observe} s before enforcing, longer than the trial: say --confirm {}s, or \
                 --confirm off; nothing was changed",
                planned.observing.join(", "),
                observe.saturating_add(60)
            ))),
        }
    }

    /// Keeps what is on trial. It is stored first: whatever becomes of this daemon then, the
    /// program goes back by itself, and the next daemon puts in force what was confirmed.
    pub(super) fn confirm(&mut self) -> Result<Reply, Reply> {
        let Some(trial) = &self.trial else {
            return Err(refused("nothing is on trial: what is in force is confirmed, or has been taken back"));
        };
        let (generation, facts, applied) = (trial.generation, trial.facts.clone(), trial.applied.clone());
        if let Err(e) = self.engine.check_trial() {
            return Err(self.not_confirmed(&e, None));
        }
        self.keep_settled("before a confirmed apply", true);
        let before = self.state.clone();
        self.state.documents = self.policy.documents().to_vec();
        (self.state.generation, self.state.facts, self.state.applied) = (generation, facts, applied);
        if let Err(e) = self.store.save(&self.state) {
            return Err(self.not_confirmed(&e, Some(before)));
        }
        if let Err(e) = self.engine.confirm_trial() {
            return Err(self.not_confirmed(&e, Some(before)));
        }
        self.trial = None;
        self.changed = Some(Instant::now());
        self.forget_trial();
        // Lets go of what it does not name.
        match self.enforce(OnChange::Keep) {
            Ok(report) => self.tell(&report),
            Err(e) => {
                self.deny(e.to_string());
                return Err(refused(format!("generation {generation} is confirmed, but not in force everywhere: {e}")));
            }
        }
        log::info!("generation {generation} is confirmed");
        Ok(Reply::Confirmed { generation })
    }

    /// Goes back after a failure to confirm; what was stored of it already is undone.
    fn not_confirmed(&mut self, e: &dyn std::fmt::Display, before: Option<State>) -> Reply {
        let mut message = format!("{e}: what was on trial was taken back");
        if let Some(before) = before {
            self.state = before;
            if let Err(e) = self.store.save(&self.state) {
                message = format!("{message}; but that is not stored ({e}): the next start may put it in force");
            }
        }
        if let Err(e) = self.take_back("not confirmed") {
            message = format!("{message}; {e}");
        }
        refused(message)
    }

    /// Ends a trial whose time is over.
    pub fn end_trial(&mut self) {
        let Some(trial) = self.trial.as_ref().filter(|t| t.ends <= Instant::now()) else { return };
        self.taken_back = Some((trial.generation, Instant::now()));
        // What failed has been told, and is tried again.
        let _ = self.take_back("not confirmed in time");
    }

    /// The generation that was taken back by itself a short while ago.
    pub(super) fn taken_back_lately(&self) -> Option<u64> {
        self.taken_back.filter(|(_, at)| at.elapsed() < LATELY).map(|(generation, _)| generation)
    }

    /// Takes back what is on trial; says so, and writes it down.
    pub(super) fn take_back(&mut self, why: &str) -> Result<Report, String> {
        let Some(generation) = self.trial.as_ref().map(|t| t.generation) else { return Ok(Report::default()) };
        let result = self.go_back();
        // The record goes once what became of it is written down.
        if self.note_taken_back(generation, why) {
            self.forget_trial();
        }
        let base = self.state.generation;
        match &result {
            Ok(_) => log::warning!("generation {generation} was taken back: {why}; generation {base} is in force"),
            Err(e) => {
                log::error!("generation {generation} is to be taken back ({why}), which fails: {e}; trying again");
                self.deny(e.clone());
            }
        }
        result
    }

    /// Puts in force what was before.
    fn go_back(&mut self) -> Result<Report, String> {
        let Some(trial) = self.trial.take() else { return Ok(Report::default()) };
        self.engine.end_trial();
        self.policy = trial.base;
        self.engine.begin(self.beginning(false));
        let result = self.enforce(OnChange::Cut);
        self.share_out();
        let report = result.map_err(|e| e.to_string())?;
        self.tell(&report);
        self.last = report.clone();
        self.trouble = None;
        Ok(report)
    }

    fn forget_trial(&mut self) {
        if let Err(e) = self.store.keep_trial(None) {
            // The next start finds that it is neither in force nor stored.
            log::warning!("{e}");
        }
    }

    /// Whether it could be written down.
    fn note_taken_back(&mut self, generation: u64, why: &str) -> bool {
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
        let written = self.audit.write_durably(&[line]).is_ok();
        if !written {
            self.metrics.audit_failed();
        }
        written
    }

    /// At the start: what was on trial when the daemon before this one ended counts as
    /// taken back.
    pub(super) fn take_back_of_before(&mut self) {
        match self.store.trial() {
            Ok(Some(trial)) if trial.base == self.state.generation && trial.generation != trial.base => {
                let (of, base) = (trial.generation, trial.base);
                log::warning!("generation {of} was on trial when sgd ended, and is taken back: {base} counts");
                if self.note_taken_back(of, "sgd ended before it was confirmed") {
                    self.forget_trial();
                }
            }
            // It was confirmed, and sgd ended just then; or it is older than what is stored.
            Ok(Some(_)) => self.forget_trial(),
            Ok(None) => {}
            Err(e) => log::warning!("{e}"),
        }
    }
}
