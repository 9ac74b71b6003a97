//! Verdicts of the kernel program, judged once more by the reference evaluator under
//! the policy that each was given under. One that differs is a defect, or a table that
//! somebody else wrote to: it is logged and counted, and must never be.
//!
//! A verdict names the epoch of its generation. Epochs only grow, so the policy is the
//! first one that was put in force with an epoch not below it. A change of addresses is
//! written to the tables in force before the epoch grows, so a packet of that very moment
//! may be judged by the next policy already.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sg_common::{
    event::{ANSWER, Event},
    flow::Direction,
    reason::{Reason, Verdict},
    watch::{Tell, stream},
};

use super::watch::wish::WINDOWS;
use crate::{
    dataplane::machine::{Machine, Resolved},
    effective::{Origin, identity},
    model::Model,
    reference::{FlowQuery, Outcome, Reference},
};

/// Policies that are remembered.
const REMEMBERED: usize = 16;
/// Samples that wait; older ones are let go, and counted.
const WAITING: usize = 8192;
/// How long judging may hold up the writer, a second.
const SPAN: Duration = Duration::from_millis(25);

/// Reasons that the rules give, and that tell whether they were read right.
const JUDGED: [Reason; 6] =
    [Reason::Rule, Reason::Default, Reason::IntraGroup, Reason::Smtp, Reason::Provider, Reason::Failsafe];

/// Asks the kernel for so many samples a second and CPU.
pub fn ask(rate: u32, tell: &mut Tell) {
    let bits = JUDGED.into_iter().fold(0, |bits, reason| bits | 1u64 << reason as u8);
    tell.tokens[stream::SAMPLE] = rate.div_ceil(WINDOWS);
    tell.reasons[stream::SAMPLE] = [bits, bits];
}

/// A policy that was put in force.
struct Held {
    /// The last epoch that was given under it.
    epoch: u32,
    /// Jiffies when putting it in force began and ended.
    span: (u32, u32),
    model: Arc<Model>,
    machine: Machine,
    /// Rule counters by identity, and interface index by slot, of that time.
    counters: Arc<HashMap<String, u32>>,
    slots: HashMap<u32, u32>,
    /// What both mean, and the members of each group; made for the first sample.
    meaning: Option<(Resolved, Vec<HashSet<IpAddr>>)>,
}

/// What became of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The reference says the same.
    pub same: u64,
    /// It says something else.
    pub mismatches: u64,
    /// Their policy is not known any more, or there were too many.
    pub skipped: u64,
}

/// A sample that differs, for a human.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the kernel said of which packet, and what it should have said.
    pub text: String,
}

/// Samples, and the policies to judge them by.
#[derive(Default)]
pub struct Sampler {
    held: VecDeque<Held>,
    waiting: VecDeque<Event>,
    let_go: u64,
}

/// What is known of the kernel's numbers now.
pub struct Known {
    /// Epoch of each slot in force.
    pub epochs: HashMap<u32, u32>,
    /// The kernel's clock, and its ticks a second.
    pub now: (u32, u32),
}

/// Seconds after which a sample is not worth judging: a number may mean something else by then.
const OLD: u32 = 10;

/// What a policy's numbers mean, as it is put in force.
pub struct Numbers {
    /// Rule counters by identity.
    pub counters: Arc<HashMap<String, u32>>,
    /// Interface index by slot.
    pub slots: HashMap<u32, u32>,
}

/// The first packet that a verdict was about, if it was one.
fn query(e: &Event) -> FlowQuery {
    let mut direction = Direction::from_u8(e.direction);
    if e.streams & ANSWER != 0 {
        direction = direction.reverse();
    }
    let protocol = (e.vlan_proto & 0xff) as u8;
    let ports = matches!(protocol, 6 | 17);
    // A type that is essential would have been decided before the rules, which do not look at it.
    let icmp_type = match protocol {
        1 => 8,
        58 => 128,
        _ => 0,
    };
    FlowQuery {
        direction,
        protocol,
        local: e.local.into(),
        remote: e.remote.into(),
        local_port: if ports { e.local_port } else { 0 },
        remote_port: if ports { e.remote_port } else { 0 },
        icmp_type,
        icmp_code: 0,
    }
}

impl Held {
    fn outcome(&mut self, index: u32, query: &FlowQuery) -> Option<Outcome> {
        let Self { model, machine, meaning, .. } = self;
        let (resolved, members) = meaning.get_or_insert_with(|| {
            let resolved = machine.resolve(model);
            let members = Reference::members(model, &resolved.instances);
            (resolved, members)
        });
        let binding = resolved.bindings.iter().find(|b| b.device.index == index)?;
        Some(Reference::with(model, &resolved.instances, members).judge(binding.instance, query))
    }

    /// Whether the reference's answer is what the kernel said.
    fn agrees(&self, outcome: &Outcome, e: &Event) -> bool {
        if outcome.verdict as u8 != e.verdict || outcome.reason as u8 != e.reason {
            return false;
        }
        let origin = match (outcome.group, outcome.rule) {
            (Some(g), Some(r)) => Origin::Rule(g, r),
            (Some(g), None) => Origin::IntraGroup(g),
            _ => return true,
        };
        // A rule that no policy in force has is counted by nothing.
        self.counters.get(&identity(&self.model, origin)).is_none_or(|id| *id == e.rule)
    }
}

impl Sampler {
    /// A policy has been put in force, or was tried to be: `epoch` is the last one given,
    /// `span` when that began and ended, in jiffies.
    pub fn follow(
        &mut self,
        model: &Arc<Model>,
        machine: &Machine,
        epoch: u32,
        span: (u32, u32),
        numbers: impl FnOnce() -> Numbers,
    ) {
        // A tick on each side: a program that has begun may yet be at it.
        let span = (span.0.wrapping_sub(1), span.1.wrapping_add(1));
        let Numbers { counters, slots } = numbers();
        if let Some(last) = self.held.back_mut()
            && Arc::ptr_eq(&last.model, model)
            && last.machine == *machine
        {
            (last.epoch, last.counters, last.slots) = (epoch, counters, slots);
            last.span.1 = span.1;
            return;
        }
        let (model, machine) = (model.clone(), machine.clone());
        self.held.push_back(Held { epoch, span, model, machine, counters, slots, meaning: None });
        if self.held.len() > REMEMBERED {
            self.held.pop_front();
        }
    }

    /// A sample; it is judged later.
    pub fn add(&mut self, event: Event) {
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            self.let_go += 1;
        }
        self.waiting.push_back(event);
    }

    /// Judges what waits, as far as there is time.
    pub fn judge(&mut self, known: &Known) -> (Judged, Vec<Mismatch>) {
        let begun = Instant::now();
        let mut judged = Judged { skipped: std::mem::take(&mut self.let_go), ..Judged::default() };
        let mut mismatches = Vec::new();
        while begun.elapsed() < SPAN
            && let Some(event) = self.waiting.pop_front()
        {
            match self.one(&event, known) {
                None => judged.skipped += 1,
                Some(Ok(())) => judged.same += 1,
                Some(Err(mismatch)) => {
                    judged.mismatches += 1;
                    mismatches.push(mismatch);
                }
            }
        }
        (judged, mismatches)
    }

    fn one(&mut self, e: &Event, known: &Known) -> Option<Result<(), Mismatch>> {
        let epoch = *known.epochs.get(&e.slot)?;
        let (now, hz) = known.now;
        if now.wrapping_sub(e.time) as i32 > (OLD * hz) as i32 {
            return None;
        }
        let query = query(e);
        // What is in force under an old epoch is in force because nothing changed since.
        let at = if e.epoch == epoch {
            self.held.len().checked_sub(1)?
        } else {
            let at = self.held.iter().position(|h| h.epoch.wrapping_sub(e.epoch) as i32 >= 0)?;
            // Before the oldest one that is remembered there may have been others.
            if at == 0 && self.held.len() == REMEMBERED {
                return None;
            }
            at
        };
        let index = *self.held[at].slots.get(&e.slot)?;
        let outcome = self.held[at].outcome(index, &query)?;
        if self.held[at].agrees(&outcome, e) {
            return Some(Ok(()));
        }
        // What an event does not tell of a packet, types and fragments and who sent it, decides
        // before the rules.
        if !JUDGED.contains(&outcome.reason) {
            return None;
        }
        let during = |h: &Held| e.time.wrapping_sub(h.span.0) as i32 >= 0 && h.span.1.wrapping_sub(e.time) as i32 >= 0;
        for next in 0..self.held.len() {
            if next != at
                && during(&self.held[next])
                && let Some(outcome) = self.held[next].outcome(index, &query)
                && self.held[next].agrees(&outcome, e)
            {
                return Some(Ok(()));
            }
        }
        let (said, reason) = (Verdict::from_u8(e.verdict).name(), Reason::from_u8(e.reason));
        let text = format!(
            "{} {} {} {}:{} remote {}:{} was judged {said} ({}, rule counter {}) under epoch {}, and the policy says {} ({})",
            format_args!("on the device with index {index},"),
            query.direction.name(),
            crate::model::protocol_name(Some(query.protocol)),
            query.local,
            query.local_port,
            query.remote,
            query.remote_port,
            reason.map_or("unknown reason", Reason::name),
            e.rule,
            e.epoch,
            outcome.verdict.name(),
            outcome.reason.name(),
        );
        Some(Err(Mismatch { text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dataplane::machine::Device,
        document::{Source, parse},
        validate::{Quotas, validate},
    };
    use sg_common::addr::Addr;

    fn model(port: u16) -> Arc<Model> {
        let text = format!(
            "security_groups: [{{security_group_name: g, permissions: [{{direction: ingress, ip_protocol: tcp, \
             port_range: {port}/{port}, source_cidr_ip: 0.0.0.0/0}}]}}]\n\
             network_interfaces: [{{device: eth0, security_group_ids: [g]}}]\n"
        );
        let document = parse(&[Source { name: "t".into(), bytes: text.into() }]).unwrap();
        Arc::new(validate(&document, &Quotas::default()).unwrap())
    }

    fn machine() -> Machine {
        let device = Device {
            index: 7,
            name: "eth0".into(),
            ethernet: true,
            loopback: false,
            up: true,
            master: None,
            vrf: false,
            kind: None,
            generic_xdp: false,
            xdp: None,
            addresses: vec![[10, 0, 0, 5].into()],
        };
        Machine { devices: vec![device] }
    }

    fn event(port: u16, epoch: u32, time: u32, accept: bool, rule: u32) -> Event {
        Event {
            time,
            epoch,
            slot: 1,
            rule,
            vlan_proto: 6,
            length: 60,
            local: Addr::v4([10, 0, 0, 5]),
            remote: Addr::v4([192, 0, 2, 7]),
            local_port: port,
            remote_port: 40_000,
            direction: 0,
            verdict: accept as u8,
            reason: if accept { Reason::Rule } else { Reason::Default } as u8,
            streams: 2,
        }
    }

    /// Counters of both policies.
    fn numbers() -> Numbers {
        let (a, b) = (model(22), model(80));
        let counters = [(identity(&a, Origin::Rule(0, 0)), 4), (identity(&b, Origin::Rule(0, 0)), 5)];
        Numbers { counters: Arc::new(counters.into()), slots: [(1, 7)].into() }
    }

    /// One sample.
    fn judge(sampler: &mut Sampler, epoch: u32, event: Event) -> Judged {
        sampler.add(event);
        sampler.judge(&Known { epochs: [(1, epoch)].into(), now: (400, 250) }).0
    }

    const SAME: Judged = Judged { same: 1, mismatches: 0, skipped: 0 };
    const DIFFERS: Judged = Judged { same: 0, mismatches: 1, skipped: 0 };
    const SKIPPED: Judged = Judged { same: 0, mismatches: 0, skipped: 1 };

    fn sampler() -> Sampler {
        let mut sampler = Sampler::default();
        sampler.follow(&model(22), &machine(), 10, (100, 110), numbers);
        sampler.follow(&model(80), &machine(), 11, (200, 210), numbers);
        sampler
    }

    #[test]
    fn each_is_judged_by_the_policy_of_its_epoch() {
        let mut s = sampler();
        assert_eq!(judge(&mut s, 11, event(22, 10, 150, true, 4)), SAME);
        assert_eq!(judge(&mut s, 11, event(80, 10, 150, false, 0)), SAME);
        assert_eq!(judge(&mut s, 11, event(80, 11, 250, true, 5)), SAME);
        assert_eq!(judge(&mut s, 11, event(22, 11, 250, false, 0)), SAME);
        assert_eq!(judge(&mut s, 11, event(22, 11, 250, true, 4)), DIFFERS);
        assert_eq!(judge(&mut s, 11, event(80, 10, 150, true, 5)), DIFFERS);
        assert_eq!(judge(&mut s, 11, event(80, 11, 250, true, 4)), DIFFERS, "by another rule");
    }

    #[test]
    fn only_while_a_change_is_made_either_policy_will_do() {
        let mut s = sampler();
        assert_eq!(judge(&mut s, 11, event(80, 10, 205, true, 5)), SAME);
        assert_eq!(judge(&mut s, 11, event(80, 10, 198, true, 5)), DIFFERS);
        assert_eq!(judge(&mut s, 11, event(80, 10, 212, true, 5)), DIFFERS);
    }

    #[test]
    fn an_old_epoch_that_is_in_force_means_the_policy_of_now() {
        let mut s = Sampler::default();
        s.follow(&model(80), &machine(), 30, (100, 110), numbers);
        assert_eq!(judge(&mut s, 3, event(80, 3, 250, true, 5)), SAME);
    }

    #[test]
    fn what_is_not_known_any_more_is_not_judged() {
        let mut s = sampler();
        assert_eq!(judge(&mut s, 11, Event { slot: 2, ..event(22, 10, 150, true, 4) }), SKIPPED);
        assert_eq!(judge(&mut s, 11, event(22, 12, 150, true, 4)), SKIPPED);
        let late = u32::MAX - 10_000;
        assert_eq!(judge(&mut s, 11, event(22, 10, late, true, 4)), SKIPPED);
        for epoch in 12..40 {
            s.follow(&model(22), &machine(), epoch, (300, 310), numbers);
        }
        assert_eq!(judge(&mut s, 39, event(22, 10, 150, true, 4)), SKIPPED);
    }

    #[test]
    fn what_decides_before_the_rules_is_not_judged() {
        let mut s = sampler();
        // As the first fragment of a lease is: the rules drop it, as a whole packet it passes.
        let e = Event { vlan_proto: 17, remote_port: 67, ..event(68, 11, 250, false, 0) };
        assert_eq!(judge(&mut s, 11, e), SKIPPED);
    }

    #[test]
    fn an_answer_to_a_syn_is_judged_as_what_it_answers() {
        let mut s = sampler();
        let e = Event { direction: 1, streams: 2 | ANSWER, ..event(22, 10, 150, true, 4) };
        assert_eq!(judge(&mut s, 11, e), SAME);
    }
}
