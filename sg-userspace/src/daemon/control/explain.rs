//! Which rule decides a flow: by the policy, and by the kernel program over its own tables.

use std::{collections::HashMap, convert::Infallible};

use sg_common::reason::Reason;

use super::Control;
use crate::{
    daemon::protocol::Reply,
    dataplane::dry::{self, Device, DryError},
    effective::{Origin, origins},
    explain::{Answer, batch, traces},
    model::Instance,
    reference::{FlowQuery, Outcome, Reference},
};

/// Why the kernel program has no answer.
enum Unasked {
    /// To a flow of that instance.
    Unbound(String),
    Dry(DryError),
}

/// Whether an interface only observes yet, whatever the policy says.
fn is_observed(answer: &Answer) -> bool {
    matches!(answer, Answer::Judged { reason, .. } if reason == Reason::Observed.name())
}

impl Control {
    pub(super) fn explain(&mut self, flows: &str, trace: bool, kernel: bool) -> Reply {
        let policy = self.policy.clone();
        let (model, instances) = (policy.model(), self.resolved().instances);
        let reference = Reference::new(model, &instances);
        let by_policy = |flows: &[(usize, FlowQuery)]| -> Result<Vec<Outcome>, Infallible> {
            Ok(flows.iter().map(|(i, q)| reference.judge(*i, q)).collect())
        };
        let Ok(mut answers) = batch(model, &instances, flows, by_policy);
        let mut differ = Vec::new();
        if kernel {
            let said = match batch(model, &instances, flows, |flows| self.by_kernel(&instances, flows)) {
                Ok(said) => said,
                Err(Unasked::Unbound(device)) => {
                    let message = format!("{device} is not protected here, so the kernel has no tables for it");
                    return Reply::Refused { message };
                }
                Err(Unasked::Dry(e)) => {
                    return Reply::Refused { message: format!("the kernel program could not be asked: {e}") };
                }
            };
            let pairs = answers.into_iter().zip(&said).enumerate();
            differ = pairs.filter(|(_, (a, b))| a != *b && !is_observed(b)).map(|(i, (a, _))| (i + 1, a)).collect();
            answers = said;
        }
        let traces = if trace { traces(model, &instances, flows) } else { Vec::new() };
        Reply::Explained { answers, traces, differ }
    }

    fn by_kernel(&mut self, instances: &[Instance], flows: &[(usize, FlowQuery)]) -> Result<Vec<Outcome>, Unasked> {
        let model = self.policy.model();
        let bindings = self.machine.resolve(model).bindings;
        let index_of: HashMap<usize, u32> = bindings.iter().map(|b| (b.instance, b.device.index)).collect();
        let counters = self.engine.counters();
        let origins = origins(model).into_iter().filter_map(|(identity, o)| Some((*counters.get(&identity)?, o)));
        let origins: HashMap<u32, Origin> = origins.collect();
        if self.dry.is_none() {
            self.dry = Some(self.engine.dry().map_err(Unasked::Dry)?);
        }
        let Some(dry) = &mut self.dry else { return Ok(Vec::new()) };
        let one = |(instance, query): &(usize, FlowQuery)| {
            let index = index_of.get(instance).copied();
            let bound = index.and_then(|index| Some((index, self.engine.bound().get(&index)?)));
            let Some((index, bound)) = bound.filter(|(_, b)| !b.passes()) else {
                return Err(Unasked::Unbound(instances[*instance].device.clone().unwrap_or_default()));
            };
            let side = model.interfaces[instances[*instance].interface].side;
            let device = Device { index, side, generation: bound.generation };
            let said = dry.ask(&device, query).map_err(Unasked::Dry)?;
            dry::outcome(&said, &origins).map_err(Unasked::Dry)
        };
        flows.iter().map(one).collect()
    }
}
