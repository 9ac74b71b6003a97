//! What a model says of live flows, by the tables that the program would go by: there may
//! be a million flows, and a list of rules takes a thousand times as long.

use std::{collections::BTreeMap, net::IpAddr};

use sg_common::{flow::FlowKeys, reason::Verdict};
use sg_ebpf::classify::query;

use super::{flows::Live, machine::Resolved};
use crate::{
    compiler::{compile, host::HostPolicy},
    effective::PolicyKey,
    model::{Model, Side},
    reference::{FlowQuery, spoofs},
};

/// A model on its machine, and its tables as far as they were asked for.
pub struct Judges<'a> {
    model: &'a Model,
    resolved: &'a Resolved,
    policies: BTreeMap<PolicyKey, Option<HostPolicy>>,
}

impl<'a> Judges<'a> {
    /// Nothing is compiled yet.
    pub fn new(model: &'a Model, resolved: &'a Resolved) -> Self {
        Self { model, resolved, policies: BTreeMap::new() }
    }

    /// The tables of an instance. One whose tables do not fit is refused, with numbers, by who
    /// asks for more than this.
    pub fn policy(&mut self, instance: usize) -> Option<&HostPolicy> {
        let (model, instances) = (self.model, &self.resolved.instances);
        let key = PolicyKey::of(model, &instances[instance]);
        let compiled = || compile(model, instances, &key, |_| 0).ok().map(|tables| HostPolicy::new(&tables));
        self.policies.entry(key.clone()).or_insert_with(compiled).as_ref()
    }

    /// Whether an instance's flow would be dropped, had it begun now.
    pub fn denies(&mut self, instance: usize, flow: &Live) -> bool {
        let place = &self.resolved.instances[instance];
        let interface = &self.model.interfaces[place.interface];
        if interface.side == Side::Guest && interface.source_check && spoofs(place, &query_of(flow)) {
            return true;
        }
        let Some(policy) = self.policy(instance) else { return false };
        let keys = FlowKeys::new(flow.key, IpAddr::from(flow.key.local).is_ipv4());
        let row = policy.decide(&query(&keys, flow.origin));
        row.is_none_or(|row| Verdict::from_u8(row.verdict) == Verdict::Drop)
    }
}

/// The first packet of a live flow.
fn query_of(flow: &Live) -> FlowQuery {
    let protocol = flow.key.protocol();
    let icmp = matches!(protocol, 1 | 58);
    let port = |port: u16| if icmp { 0 } else { port };
    FlowQuery {
        direction: flow.origin,
        protocol,
        local: IpAddr::from(flow.key.local),
        remote: IpAddr::from(flow.key.remote),
        local_port: port(flow.key.local_port),
        remote_port: port(flow.key.remote_port),
        icmp_type: if protocol == 1 { 8 } else { 128 },
        icmp_code: 0,
    }
}
