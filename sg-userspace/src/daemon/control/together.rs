//! Changes that wait at the same time are made together: each is judged on top
//! of the ones before it, then all that are good are stored once and put in force
//! once. Whoever is refused changes nothing, also not for the others.

use std::sync::Arc;

use super::{Control, Wanted};
use crate::{
    daemon::{
        documents::Change,
        log,
        protocol::{Action, Planned, Reply},
    },
    dataplane::engine::OnChange,
    document::Document,
    model::Model,
};

/// How a change takes live flows; `None` for what changes nothing.
fn mode(action: &Action) -> Option<OnChange> {
    match action {
        Action::Document { apply: true, on_change, .. } => Some(*on_change),
        _ => None,
    }
}

impl Control {
    /// Answers actions in their order.
    pub fn act_all(&mut self, actions: &[Action]) -> Vec<Reply> {
        let runs = actions.chunk_by(|a, b| mode(a).is_some() && mode(a) == mode(b));
        let mut replies = Vec::with_capacity(actions.len());
        for run in runs {
            match (run, mode(&run[0])) {
                ([_, _, ..], Some(mode)) => replies.extend(self.together(run, mode)),
                _ => replies.extend(run.iter().map(|action| self.act(action))),
            }
        }
        replies
    }

    fn together(&mut self, actions: &[Action], mode: OnChange) -> Vec<Reply> {
        let (mut documents, mut generation) = (self.state.documents.clone(), self.state.generation);
        let mut model: Option<Arc<Model>> = None;
        let mut judged: Vec<Result<Planned, Reply>> = Vec::new();
        let live = self.live();
        for action in actions {
            let Some(wanted) = Wanted::of(action) else { continue };
            judged.push(self.consider(&documents, generation, &wanted, &live).map(|(change, planned)| {
                generation = next(generation, &documents, &change.documents);
                documents = change.documents;
                model = Some(change.model);
                planned
            }));
        }
        let report = model.map(|model| self.apply(Change { documents, model, steps: Vec::new() }, generation, mode));
        match report {
            Some(Err(message)) => {
                // One of them is to blame: it is found out by making each alone.
                log::warning!("{} changes together: {message}; making each alone", actions.len());
                actions.iter().map(|action| self.act(action)).collect()
            }
            report => {
                let report = report.and_then(Result::ok);
                let answer = |planned: Planned| Reply::Planned(Box::new(Planned { report: report.clone(), ..planned }));
                judged.into_iter().map(|judged| judged.map_or_else(|refused| refused, answer)).collect()
            }
        }
    }
}

/// Number of the state once it holds these documents.
pub(super) fn next(generation: u64, before: &[Document], after: &[Document]) -> u64 {
    generation + u64::from(before != after)
}
