//! Generations that are kept: made, listed, compared, put back; and backups.

use std::{sync::Arc, time::Duration};

use super::{
    Control,
    apply::{Beside, expect},
    together,
    trial::can_be_tried,
};
use crate::{
    api::auth::now,
    daemon::{
        documents::{self, Change},
        history::{self, Head, Kept, MOST_NAMED, SETTLED},
        log,
        protocol::{Action, Download, Made, Planned, Reply, SnapshotCommand, Source},
        store::StoreError,
    },
    dataplane::engine::OnChange,
    document::Document,
};

const NONE: &str = "no generation is kept yet: one is before an apply, and before a change of what was in force for \
                    five minutes; `sgctl snapshot create` keeps the one in force now";

fn refused(message: impl ToString) -> Reply {
    Reply::Refused { message: message.to_string() }
}

impl Control {
    fn as_kept(&self, comment: &str, named: bool) -> Kept {
        let state = &self.state;
        Kept::new(state.generation, now(), comment, named, &state.documents, &state.facts)
    }

    /// Keeps what is in force before it changes. Without `always` only if it has been for
    /// a while: of many changes one after the other only what was before the first is kept.
    /// What cannot be kept stands in no change's way.
    pub(super) fn keep_settled(&mut self, why: &str, always: bool) {
        let settled = self.changed.is_none_or(|at| at.elapsed() >= Duration::from_secs(SETTLED));
        if self.state.documents.is_empty() || !(always || settled) {
            return;
        }
        let mut keep = || -> Result<(), StoreError> {
            let mut heads = self.store.kept()?;
            if heads.iter().any(|h| h.generation == self.state.generation) {
                return Ok(());
            }
            let new = self.as_kept(why, false);
            heads.push(new.head.clone());
            self.store.keep(Some(&new), &history::surplus(&heads, now()))
        };
        if let Err(e) = keep() {
            log::warning!("generation {} is not kept: {e}", self.state.generation);
        }
    }

    pub(super) fn snapshot(&mut self, command: &SnapshotCommand) -> Reply {
        self.snapshots(command).unwrap_or_else(|reply| reply)
    }

    fn snapshots(&mut self, command: &SnapshotCommand) -> Result<Reply, Reply> {
        let mut made = None;
        match command {
            SnapshotCommand::List => {}
            SnapshotCommand::Create { comment } => {
                let (heads, generation) = (self.store.kept().map_err(refused)?, self.state.generation);
                // What somebody called it stays: it is what they look for when they want it back.
                let already = heads.iter().any(|h| h.named && h.generation == generation);
                made = Some(Made { generation, already });
                if !already && heads.iter().filter(|h| h.named).count() >= MOST_NAMED {
                    return Err(refused(format!(
                        "{MOST_NAMED} snapshots are there: `sgctl snapshot delete` one first"
                    )));
                }
                if !already {
                    let kept = self.as_kept(comment, true);
                    self.store.keep(Some(&kept), &[]).map_err(refused)?;
                }
            }
            SnapshotCommand::Delete { generation } => {
                self.head(*generation)?;
                self.store.keep(None, &[*generation]).map_err(refused)?;
            }
            SnapshotCommand::Show { generation } => {
                let texts = self.documents_of(Some(*generation))?;
                let texts: Vec<String> = texts.iter().map(documents::export).collect();
                return Ok(Reply::Exported { text: texts.join("---\n") });
            }
            SnapshotCommand::Diff { from, to } => {
                let (from, to) = (self.documents_of(Some(*from))?, self.documents_of(*to)?);
                return Ok(Reply::Different { steps: documents::difference(&from, &to) });
            }
        }
        Ok(Reply::Snapshots { kept: self.store.kept().map_err(refused)?, made })
    }

    fn head(&self, generation: u64) -> Result<Head, Reply> {
        let heads = self.store.kept().map_err(refused)?;
        let numbers: Vec<String> = heads.iter().map(|h| h.generation.to_string()).collect();
        let found = heads.into_iter().find(|h| h.generation == generation);
        found.ok_or_else(|| match numbers.is_empty() {
            true => refused(NONE),
            false => refused(format!("generation {generation} is not kept; these are: {}", numbers.join(", "))),
        })
    }

    fn kept(&self, generation: u64) -> Result<Kept, Reply> {
        let head = self.head(generation)?;
        self.store.read_kept(head.generation).map_err(refused)?.ok_or_else(|| refused(NONE))
    }

    /// Documents of a kept generation, or those in force.
    fn documents_of(&self, generation: Option<u64>) -> Result<Vec<Document>, Reply> {
        match generation {
            Some(generation) if generation != self.state.generation => Ok(self.kept(generation)?.documents),
            _ => Ok(self.state.documents.clone()),
        }
    }

    pub(super) fn backup(&self) -> Reply {
        Reply::Backup(Download { bytes: 0, kept: Some(Arc::new(self.as_kept("backup", true))) })
    }

    /// Puts back what was, or says what that would change.
    pub(super) fn restore(&mut self, action: &Action) -> Result<Reply, Reply> {
        let Action::Restore { source, group, additive, apply, if_generation, on_change, session, confirm } = action
        else {
            return Err(refused("nothing to put back"));
        };
        let current = self.state.generation;
        expect(*if_generation, current)?;
        let kept = match source {
            Source::Trial(generation) => {
                let expected = self.on_trial().filter(|t| t.generation == *generation && group.is_none());
                expected.ok_or_else(|| refused(format!("generation {generation} is on trial no longer")))?;
                if *on_change == OnChange::Reset {
                    return Err(refused("taking back a trial resets nothing: leave --reset out; nothing was changed"));
                }
                let steps = documents::difference(self.policy.documents(), self.stored().documents());
                let change = Change { policy: self.stored().clone(), steps };
                let mut planned = self.weigh(&change, current, *session, &self.live())?;
                if *apply {
                    planned.report = Some(self.take_back("asked for").map_err(refused)?);
                    planned.trial = None;
                }
                return Ok(Reply::Planned(Box::new(planned)));
            }
            Source::Kept(None) if self.taken_back_lately().is_some() => {
                let taken_back = self.taken_back_lately().unwrap_or_default();
                return Err(refused(format!(
                    "generation {taken_back}, which was on trial, has been taken back already: generation {current} is in \
                     force; to go further back name the generation (`sgctl snapshot list`)"
                )));
            }
            Source::Backup(upload) => {
                let read = upload.kept.as_deref().ok_or_else(|| refused("no backup came with it"))?;
                read.clone().map_err(refused)?
            }
            Source::Kept(Some(generation)) => self.kept(*generation)?,
            Source::Kept(None) => {
                let heads = self.store.kept().map_err(refused)?;
                let last = heads.iter().filter(|h| h.generation < current).max_by_key(|h| h.generation);
                self.kept(last.ok_or_else(|| refused(NONE))?.generation)?
            }
        };
        let (documents, facts) = match group {
            None => (kept.documents, kept.facts),
            Some(group) => {
                let made = history::with_rules_of(self.stored(), &self.state.facts, &kept, group, *additive);
                made.map_err(refused)?
            }
        };
        // With places again, so that problems can point at them.
        let restored = documents.iter().map(documents::restore).collect();
        let policy = self.stored().succeeded_by(restored, &self.config.quotas())?;
        let mut steps = documents::difference(self.stored().documents(), policy.documents());
        steps.extend(history::facts_that_change(&self.state.facts, &facts));
        let change = Change { policy: Arc::new(policy), steps };
        let live = self.live();
        let mut planned: Planned = self.weigh(&change, current, *session, &live)?;
        if !apply {
            planned.lints = self.lints_added(&change);
            self.compare(&change, false, &mut planned);
        } else {
            let generation = together::next(current, self.stored(), &change.policy);
            let confirm = confirm.filter(|_| !planned.steps.is_empty());
            self.can_be_seen(confirm, &planned)?;
            can_be_tried(confirm, *on_change)?;
            // What was applied stays what it was: going back is another way than an apply.
            let beside = Some(Beside { facts, ..self.beside() });
            let result = match confirm {
                Some(seconds) => self.try_out(change.policy, beside, generation, *on_change, seconds),
                None => {
                    self.keep_settled("before a restore", true);
                    self.apply(change.policy, beside, generation, *on_change)
                }
            };
            planned.trial = self.on_trial();
            planned.report = Some(result.map_err(refused)?);
        }
        Ok(Reply::Planned(Box::new(planned)))
    }
}
