//! The compiled tables, run through the pipeline on the host.

use sg_common::{
    generation::{Generation, flags},
    reason::{Reason, Verdict},
};
use sg_ebpf::{Direct, Scratch, conntrack::Clock, packet::Bytes, pipeline, verdict::Decision};
use sg_userspace::{
    compiler::{
        Tables, compile,
        host::{HostPolicy, HostTables},
        live::Live,
        skeleton::{Skeleton, sets},
    },
    dataplane::probe::record,
    effective::{Members, Origin, PolicyKey, Remote},
    model::{Instance, Model, Side},
    packet::first_packet,
    reference::{FlowQuery, Outcome},
};

/// An interface on the host.
pub struct Compiled {
    tables: HostTables,
    compiled: Tables,
    origins: Vec<Origin>,
    generation: Generation,
}

impl Compiled {
    /// The tables.
    pub fn policy(&mut self) -> &mut HostPolicy {
        &mut self.tables.policy
    }

    /// The tables as they were compiled.
    pub fn tables(&self) -> &Tables {
        &self.compiled
    }

    /// What counters stand for.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }
}

/// Compiles an instance to what can be changed later, and its sources.
pub fn living(model: &Model, instances: &[Instance], instance: usize) -> (Live, Vec<Remote>, Compiled) {
    let key = PolicyKey::of(model, &instances[instance]);
    let mut compiled = compiled(model, instances, instance);
    let mut counter = 0;
    let (skeleton, sources) = Skeleton::new(model, &key, |_| {
        counter += 1;
        counter
    })
    .unwrap();
    let members = Members::of_all(model, instances);
    let mut live = Live::build(skeleton, &sets(model, &members, &sources)).unwrap();
    compiled.tables.policy = HostPolicy::new(&live.tables);
    compiled.compiled = live.tables.clone();
    live.settle();
    (live, sources, compiled)
}

/// Compiles an instance.
pub fn compiled(model: &Model, instances: &[Instance], instance: usize) -> Compiled {
    let interface = &model.interfaces[instances[instance].interface];
    let mut origins = Vec::new();
    let tables = compile(model, instances, &PolicyKey::of(model, &instances[instance]), |origin| {
        origins.push(origin);
        origins.len() as u32
    })
    .unwrap();
    let mut generation = record();
    if interface.side == Side::Guest {
        generation.flags |= flags::GUEST;
    }
    if interface.source_check {
        generation.flags |= flags::SOURCE_CHECK;
    }
    let own = instances[instance].addresses.iter().map(|a| (*a).into()).collect();
    Compiled { tables: HostTables { policy: HostPolicy::new(&tables), own }, compiled: tables, origins, generation }
}

/// Asks the pipeline.
pub fn ask(compiled: &Compiled, q: &FlowQuery) -> Decision {
    let frame = first_packet(q, [2, 0, 0, 0, 0, 1]);
    let mut scratch = Scratch::default();
    scratch.begin(Clock { now: 1000, hz: 250 }, q.direction);
    let packet = Bytes::new(&frame);
    pipeline(&Direct { packet: &packet, tables: &compiled.tables }, &compiled.generation, &mut scratch)
}

/// What a decision means.
pub fn outcome(compiled: &Compiled, d: &Decision) -> Outcome {
    let reason = Reason::from_u8(d.reason).unwrap();
    let (group, rule) = match d.rule.checked_sub(1).map(|i| compiled.origins[i as usize]) {
        Some(Origin::Rule(g, r)) => (Some(g), Some(r)),
        Some(Origin::IntraGroup(g)) => (Some(g), None),
        _ => (None, None),
    };
    Outcome { verdict: if d.is_accept() { Verdict::Accept } else { Verdict::Drop }, reason, group, rule }
}
