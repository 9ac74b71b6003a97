//! Changes that wait at the same time are made together: each is judged on top
//! of the ones before it, then all that are good are stored once and put in force
//! once. Whoever is refused changes nothing, also not for the others.

use std::{borrow::Cow, sync::Arc};

use super::{
    Control,
    apply::{Beside, Considered, Wanted},
};
use crate::{
    api::{
        auth::now,
        call::{self, Call},
        draft::Draft,
        envelope,
        error::{self, ApiError},
        facts::Answered,
    },
    daemon::{
        log,
        protocol::{Action, Planned, Reply},
    },
    dataplane::{engine::OnChange, machine::Resolved},
    document::Document,
    validate::Valid,
};

/// How a change takes live flows; `None` for what changes nothing.
fn mode(action: &Action) -> Option<OnChange> {
    match action {
        Action::Document { apply: true, on_change, .. } => Some(*on_change),
        Action::Call(call) if call.writes() => Some(OnChange::Cut),
        _ => None,
    }
}

/// Whether a change may be made together with others: not if it is to be tried out.
fn joins(action: &Action) -> bool {
    mode(action).is_some() && !matches!(action, Action::Document { confirm: Some(_), .. })
}

/// The state as it will be.
#[derive(Clone, Debug)]
struct Pending {
    policy: Arc<Valid>,
    generation: u64,
    beside: Beside,
}

/// A change that would be good.
enum Judged {
    Planned(Box<Planned>),
    Called(u16, serde_json::Value),
}

/// An answer of the control API.
pub(super) fn called(result: &Result<serde_json::Map<String, serde_json::Value>, ApiError>) -> Reply {
    let (status, body) = call::answer(result, "");
    Reply::Called { status, body, generation: None }
}

impl Control {
    /// Answers actions in their order; `sources` says where each came from.
    pub fn act_all(&mut self, actions: &[Action], sources: &[String]) -> Vec<Reply> {
        self.end_trial();
        let runs = actions.chunk_by(|a, b| joins(a) && joins(b) && mode(a) == mode(b));
        let mut replies = Vec::with_capacity(actions.len());
        for run in runs {
            let from = &sources[replies.len()..replies.len() + run.len()];
            let ids: Vec<String> = run.iter().map(|_| envelope::request_id()).collect();
            if let Err(why) = self.intend(run, from, &ids) {
                let refused: Vec<Reply> = run
                    .iter()
                    .map(|action| match action {
                        Action::Call(_) => called(&Err(error::INTERNAL.because(&why))),
                        _ => Reply::Refused { message: why.clone() },
                    })
                    .collect();
                self.count(run, &refused);
                replies.extend(refused);
                continue;
            }
            let calls = run.iter().any(|a| matches!(a, Action::Call(_)));
            // All of a run are changes, or it is of one.
            let conflicts: Option<Vec<Reply>> = run.iter().map(|action| self.conflict(action)).collect();
            let mut new: Vec<Reply> = match mode(&run[0]) {
                _ if conflicts.is_some() => {
                    self.use_up(run);
                    conflicts.unwrap_or_default()
                }
                Some(mode) if calls || run.len() > 1 => self.together(run, mode),
                _ => run.iter().map(|action| self.act(action)).collect(),
            };
            for ((action, reply), id) in run.iter().zip(&mut new).zip(&ids) {
                self.sign_off(action, reply, id);
            }
            self.note(run, from, &ids, &new);
            self.count(run, &new);
            replies.extend(new);
        }
        replies
    }

    /// Takes note of signed calls that are refused unseen: the same bytes must not be a
    /// call once more.
    fn use_up(&mut self, actions: &[Action]) {
        let mut replay = self.state.replay.clone();
        for action in actions {
            if let Action::Call(call) = action
                && let Some((key, nonce)) = &call.signed
            {
                replay.nonces.entry(key.clone()).or_default().insert(nonce.clone(), now());
            }
        }
        if let Err(e) = self.remember(replay) {
            log::error!("{e}");
        }
    }

    /// Gives an answer of the control API the id that the audit log has of its call, and
    /// that of a change the state after it.
    fn sign_off(&self, action: &Action, reply: &mut Reply, id: &str) {
        let (Action::Call(call), Reply::Called { status, body, generation }) = (action, reply) else { return };
        body["RequestId"] = id.into();
        *generation = (call.writes() && *status == 200).then_some(self.state.generation);
    }

    fn together(&mut self, actions: &[Action], mode: OnChange) -> Vec<Reply> {
        let mut pending =
            Pending { policy: self.policy.clone(), generation: self.state.generation, beside: self.beside() };
        let mut judged: Vec<Result<Judged, Reply>> = Vec::new();
        let reads = |a: &Action| matches!(a, Action::Document { .. });
        let live = if actions.iter().any(reads) { self.live() } else { Vec::new() };
        let here = self.machine.local(self.policy.model());
        for action in actions {
            judged.push(match (action, Wanted::of(action)) {
                (Action::Call(call), _) => self.consider_call(&mut pending, call, &here),
                (_, Some(wanted)) => {
                    let (policy, generation) = (pending.policy.clone(), pending.generation);
                    let applied = pending.beside.applied.clone();
                    let considered = self.consider(&policy, generation, &applied, &wanted, &live);
                    considered.map(|Considered { change, planned, applied }| {
                        pending.generation = next(generation, &policy, &change.policy);
                        (pending.policy, pending.beside.applied) = (change.policy, applied);
                        Judged::Planned(Box::new(planned))
                    })
                }
                _ => Err(Reply::Refused { message: "not a change".into() }),
            });
        }
        let good = judged.iter().any(Result::is_ok);
        if !good && let Err(e) = self.remember(pending.beside.replay.clone()) {
            log::error!("{e}");
        }
        if good && pending.generation != self.state.generation {
            let documents = actions.iter().any(reads);
            self.keep_settled(if documents { "before an apply" } else { "before calls" }, documents);
        }
        let report = good.then(|| self.apply(pending.policy, Some(pending.beside), pending.generation, mode));
        match (report, actions) {
            (Some(Err(message)), [Action::Call(_)]) => vec![called(&Err(error::INTERNAL.because(&message)))],
            (Some(Err(message)), [_]) => vec![Reply::Refused { message }],
            (Some(Err(message)), _) => {
                // One of them is to blame: it is found out by making each alone.
                log::warning!("{} changes together: {message}; making each alone", actions.len());
                actions.iter().flat_map(|action| self.together(std::slice::from_ref(action), mode)).collect()
            }
            (report, _) => {
                let report = report.and_then(Result::ok);
                let answer = |judged: Judged| match judged {
                    Judged::Planned(planned) => {
                        Reply::Planned(Box::new(Planned { report: report.clone(), ..*planned }))
                    }
                    Judged::Called(status, body) => Reply::Called { status, body, generation: None },
                };
                judged.into_iter().map(|judged| judged.map_or_else(|refused| refused, answer)).collect()
            }
        }
    }

    /// Judges a call that changes something on top of what is pending.
    fn consider_call(&self, pending: &mut Pending, call: &Call, here: &Resolved) -> Result<Judged, Reply> {
        let refused = |e: ApiError| called(&Err(e));
        let (token, fingerprint) = (call.token(), call.fingerprint());
        if let Some(known) = token.as_ref().and_then(|t| pending.beside.replay.tokens.get(t)) {
            return if known.parameters == fingerprint {
                Ok(Judged::Called(known.status, known.body.clone()))
            } else {
                Err(refused(error::TOKEN_MISMATCH.into()))
            };
        }
        let at = now();
        // Whatever becomes of it: the same bytes must not be a call once more.
        if let Some((key, nonce)) = &call.signed {
            pending.beside.replay.nonces.entry(key.clone()).or_default().insert(nonce.clone(), at);
        }
        let Pending { policy, beside, .. } = &*pending;
        let mut draft = Draft::new(policy, &beside.facts, &self.here, here, call.account.as_deref(), at);
        let answer = call::perform(&mut draft, call).map_err(refused)?;
        let Draft { documents: new, facts, .. } = draft;
        let (new, facts) = (owned(new), if let Cow::Owned(facts) = facts { Some(facts) } else { None });
        let new = new.filter(|new| new != policy.documents());
        if let Some(new) = new {
            let new = policy.follow(new, &self.config.quotas());
            pending.policy = Arc::new(new.map_err(|p| refused(call::refusal(&call.action, &p)))?);
            pending.generation += 1;
        }
        if let Some(facts) = facts {
            pending.beside.facts = facts;
        }
        let (status, body) = call::answer(&Ok(answer), "");
        if let Some(token) = token {
            let known = Answered { parameters: fingerprint, status, body: body.clone(), at };
            pending.beside.replay.tokens.insert(token, known);
        }
        Ok(Judged::Called(status, body))
    }

    /// Answers a call that changes nothing.
    pub(super) fn read(&self, call: &Call) -> Reply {
        let here = self.machine.local(self.stored().model());
        let mut draft = Draft::new(self.stored(), &self.state.facts, &self.here, &here, call.account.as_deref(), now());
        let answer = call::perform(&mut draft, call);
        // A change that is only considered: whether the whole would be good.
        if let (Ok(_), Some(new)) = (&answer, owned(draft.documents))
            && let Err(problems) = self.stored().follow(new, &self.config.quotas())
        {
            return called(&Err(call::refusal(&call.action, &problems)));
        }
        called(&answer)
    }
}

fn owned(documents: Cow<'_, [Document]>) -> Option<Vec<Document>> {
    match documents {
        Cow::Owned(documents) => Some(documents),
        Cow::Borrowed(_) => None,
    }
}

/// Number of the state once it holds the documents of `after`.
pub(super) fn next(generation: u64, before: &Valid, after: &Valid) -> u64 {
    generation + u64::from(before.documents() != after.documents())
}
