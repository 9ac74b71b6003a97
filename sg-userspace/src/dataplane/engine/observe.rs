//! The first moments of a device that is already up: observe, adopt, enforce.
//!
//! Both hooks first only track and count. On a host device the live connections
//! are looked up then, judged where they began, and entered; what the policy
//! denies is entered, too, as cut. Behind a guest's device nothing can be looked
//! up, so it observes for a while. One flip ends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use sg_common::{
    flow::{FlowKeys, seen},
    generation::{Generation, flags},
    reason::Verdict,
};
use sg_ebpf::{classify::query, conntrack::Clock};

use super::{Engine, EngineError, kernel, policy::key_of};
use crate::{
    compiler::{compile, host::HostPolicy},
    dataplane::{
        adopt::{Judged, Living},
        filter::Halves,
        flows::{self, Found, Live},
        machine::{Binding, Device, Machine, Resolved},
        report::{Forecast, Observed, OnChange, Report},
    },
    effective::{PolicyKey, identity},
    model::{Model, Side},
};

/// For how long a device goes on observing when the daemon that should end that is
/// no more: then the program itself enforces.
const GRACE: Duration = Duration::from_secs(60);

/// How devices that are bound for the first time begin.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Devices that are up may carry live connections: those observe first.
    pub observe: bool,
    /// How long guests do; zero is not at all.
    pub guest: Duration,
    /// Guest devices that have only just appeared: nothing lived there before.
    pub new: BTreeSet<u32>,
}

impl Beginning {
    /// Whether a device observes before it enforces.
    fn observes(&self, device: &Device, side: Side) -> bool {
        self.observe
            && device.up
            && (side == Side::Host || (!self.guest.is_zero() && !self.new.contains(&device.index)))
    }
}

fn side(model: &Model, resolved: &Resolved, binding: &Binding) -> Side {
    model.interfaces[resolved.instances[binding.instance].interface].side
}

impl Engine {
    /// Says how devices begin that are bound from now on.
    pub fn begin(&mut self, beginning: Beginning) {
        self.beginning = beginning;
    }

    /// Flags of a device's first generation, and until when the program lets it
    /// observe if nobody ends that earlier.
    pub(super) fn first_flags(&mut self, other: u32, device: &Device, side: Side) -> Result<(u32, u32), EngineError> {
        if !self.beginning.observes(device, side) {
            return Ok((other, 0));
        }
        let now = self.object.jiffies().map_err(kernel("read the kernel's clock"))?;
        let guest = if side == Side::Guest { self.beginning.guest } else { Duration::ZERO };
        let seconds = u32::try_from((guest + GRACE).as_secs()).unwrap_or(u32::MAX);
        Ok((other | flags::OBSERVE, now.wrapping_add(seconds.saturating_mul(self.hz).min(i32::MAX as u32)).max(1)))
    }

    /// Flags of its next one: an observation goes on under a new policy, and
    /// under a new daemon, whose clock starts anew.
    pub(super) fn next_flags(&mut self, index: u32, side: Side) -> u32 {
        let (guest, hz) = (self.beginning.guest, self.hz);
        let Some(bound) = self.bound.get_mut(&index).filter(|b| b.is_observing()) else { return 0 };
        // A clock that cannot be read is past it: that fails closed.
        let Some(now) = self.object.jiffies().ok().filter(|&now| bound.generation.observes_at(now)) else { return 0 };
        if side == Side::Guest {
            let left = Duration::from_secs(u64::from(bound.generation.observe_until.wrapping_sub(now) / hz.max(1)));
            // Not at all, now: what it carries is looked through before it ends.
            let left = guest.min(left.saturating_sub(GRACE));
            bound.until.get_or_insert_with(|| Instant::now() + left);
        }
        flags::OBSERVE
    }

    /// When the observation of a guest that is about to be bound is over.
    pub(super) fn first_deadline(&self, device: &Device, side: Side) -> Option<Instant> {
        let observes = side == Side::Guest && self.beginning.observes(device, side);
        observes.then(|| Instant::now() + self.beginning.guest)
    }

    /// After a failure: no host device stays open until somebody tries again.
    pub(super) fn close_hosts(&mut self) {
        let open: Vec<(u32, Generation)> = self
            .bound
            .iter()
            .filter(|(_, b)| b.is_observing() && b.generation.flags & flags::GUEST == 0)
            .map(|(index, b)| (*index, b.generation))
            .collect();
        for (index, generation) in open {
            let closed = Generation { flags: generation.flags & !flags::OBSERVE, ..generation };
            if let Err(e) = self.flip(index, closed, OnChange::Cut, false) {
                log::error!("a device only observes and could not be made to enforce: {e}");
            }
        }
    }

    /// Adopts what lives on the host devices that observe, and has them enforce.
    pub(super) fn adopt_hosts(
        &mut self,
        model: &Model,
        machine: &Machine,
        resolved: &Resolved,
        mode: OnChange,
        report: &mut Report,
    ) -> Result<(), EngineError> {
        let (mut living, mut all) = (None, None);
        let mut policies = BTreeMap::new();
        for binding in &resolved.bindings {
            let device = &binding.device;
            let Some(bound) = self.bound.get(&device.index).filter(|b| b.is_observing()) else { continue };
            if side(model, resolved, binding) == Side::Guest {
                report.observing.push(device.name.clone());
                continue;
            }
            let generation = bound.generation;
            let living = living.get_or_insert_with(Living::read);
            let all = all.get_or_insert_with(|| machine.resolve(model));
            let key = key_of(model, resolved, binding);
            let policy = policies.entry(key.clone()).or_insert_with(|| self.judge(model, all, &key));
            let entered = match policy {
                Some(policy) => {
                    let flows = living.crossing(machine, device).into_iter().map(|f| f.judge(policy)).collect();
                    let entered = self.enter(&device.name, &generation, flows, mode);
                    // What no socket is connected for, and spoke while nobody enforced.
                    let rechecked = self.recheck(&generation, policy);
                    entered.and_then(|observed| rechecked.map(|_| observed))
                }
                None => Err(io::Error::other("its policy is not known")),
            };
            // Whatever went wrong: it does not stay open.
            let observed = entered.unwrap_or_else(|e| {
                report.warnings.push(format!(
                    "{}: live connections could not be adopted ({e}); those that the rules do not admit in their midst are cut",
                    device.name
                ));
                Observed::default()
            });
            self.flip(
                device.index,
                Generation { flags: generation.flags & !flags::OBSERVE, ..generation },
                mode,
                false,
            )?;
            // And what began to speak between the two.
            if let Some(Some(policy)) = policies.get(&key)
                && let Err(e) = self.recheck(&generation, policy)
            {
                report
                    .warnings
                    .push(format!("{}: its last observed flows could not be looked through ({e})", device.name));
            }
            report.adopted += observed.adopted;
            report.denied.extend(&device.name, &observed.denied);
            if let Some(bound) = self.bound.get_mut(&device.index) {
                bound.observed = Some(observed);
            }
        }
        report.warnings.extend(living.into_iter().flat_map(|l| l.problems));
        Ok(())
    }

    /// Enters flows into the tables. What is denied is entered as cut, or else its
    /// other end would pick it up; unless the change itself lets it live on.
    fn enter(
        &mut self,
        device: &str,
        generation: &Generation,
        flows: Vec<Judged>,
        mode: OnChange,
    ) -> io::Result<Observed> {
        let now = self.object.jiffies()?;
        let maps = &self.object.maps;
        let halves = Halves::open(maps)?;
        let mut observed = Observed::default();
        let mut failed = (0, None);
        for Judged { flow, verdict, rule } in flows {
            let key = flow.key(generation.zone);
            let denied = verdict == Verdict::Drop;
            if denied {
                observed.denied.add(|| flows::text(&key, flow.origin));
            } else {
                observed.adopted += 1;
            }
            let verdict = if mode.cuts() { verdict } else { Verdict::Accept };
            let found =
                Found { origin: flow.origin, verdict, rule, seen: flow.seen, confirmed: flow.established || denied };
            if let Err(e) = flows::put(maps, &halves, &key, &found, generation, now) {
                failed.0 += 1;
                failed.1 = Some(e);
            }
        }
        if let (count, Some(e)) = failed {
            log::warn!("{device}: {count} live connections have no entry and are judged as new ones: {e}");
        }
        Ok(observed)
    }

    /// A policy as it is in the kernel, to be asked here.
    fn judge(&self, model: &Model, all: &Resolved, key: &PolicyKey) -> Option<HostPolicy> {
        let counter = |origin| self.counters.ids().get(&identity(model, origin)).copied().unwrap_or(0);
        compile(model, &all.instances, key, counter).ok().map(|tables| HostPolicy::new(&tables))
    }

    /// Ends the observations whose time is over, under the model in force; returns
    /// what each has seen.
    ///
    /// # Errors
    /// What the kernel says; it is tried again.
    pub fn end_observations(
        &mut self,
        now: Instant,
        model: &Model,
        machine: &Machine,
    ) -> Result<Vec<(String, Observed)>, EngineError> {
        let over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let due: Vec<u32> = self.bound.iter().filter(|(_, b)| over(b.until)).map(|(i, _)| *i).collect();
        let mut ended = Vec::new();
        for index in due {
            let Some(bound) = self.bound.get(&index) else { continue };
            let (generation, name) = (bound.generation, bound.device.clone());
            let all = machine.resolve(model);
            let binding = all.bindings.iter().find(|b| b.device.index == index);
            let policy = binding.and_then(|b| self.judge(model, &all, &key_of(model, &all, b)));
            let look = |engine: &mut Self| match &policy {
                Some(policy) => engine.recheck(&generation, policy),
                None => Err(io::Error::other("its policy is not known")),
            };
            let observed = look(self).unwrap_or_else(|e| {
                log::warn!("{name}: the observed flows could not be looked through: {e}");
                Observed::default()
            });
            let enforcing = Generation { flags: generation.flags & !flags::OBSERVE, ..generation };
            self.flip(index, enforcing, OnChange::Cut, false)?;
            // What began to speak between the two.
            if let Err(e) = look(self) {
                log::warn!("{name}: its last observed flows could not be looked through: {e}");
            }
            if let Some(bound) = self.bound.get_mut(&index) {
                bound.until = None;
                bound.observed = Some(observed.clone());
            }
            ended.push((name, observed));
        }
        Ok(ended)
    }

    /// Judges the flows of a device once more. One that was idle since a change of
    /// policy may be admitted from its other end now, and no packet has shown it; one
    /// whose answering side spoke first was taken for the other's.
    fn recheck(&mut self, generation: &Generation, policy: &HostPolicy) -> io::Result<Observed> {
        let now = self.object.jiffies()?;
        let clock = Clock { now, hz: self.hz };
        let maps = &self.object.maps;
        let halves = Halves::open(maps)?;
        let mut observed = Observed::default();
        for flow in flows::all(maps)?.into_iter().filter(|f| f.key.zone == generation.zone && !f.is_expired(clock)) {
            let keys = FlowKeys::new(flow.key, flow.key.local.is_v4() && flow.key.remote.is_v4());
            let accepts = |origin| policy.decide(&query(&keys, origin)).filter(|r| r.verdict == Verdict::Accept as u8);
            if accepts(flow.origin).is_some() {
                observed.adopted += 1;
                continue;
            }
            let turned = flow.origin.reverse();
            match accepts(turned).filter(|_| !begun(&flow)) {
                Some(row) => {
                    let (seen, rule) = (flow.seen, row.counter);
                    let found = Found { origin: turned, verdict: Verdict::Accept, rule, seen, confirmed: true };
                    flows::put(maps, &halves, &flow.key, &found, generation, now)?;
                    observed.adopted += 1;
                }
                None => observed.denied.add(|| flows::text(&flow.key, flow.origin)),
            }
        }
        Ok(observed)
    }

    /// What protecting devices that are up would deny of what lives there, without doing it.
    pub fn forecast(&self, model: &Model, machine: &Machine) -> Forecast {
        let resolved = machine.resolve(model);
        let mut forecast = Forecast::default();
        let mut living = None;
        let mut policies: BTreeMap<PolicyKey, Option<HostPolicy>> = BTreeMap::new();
        for binding in resolved.bindings.iter().filter(|b| !self.bound.contains_key(&b.device.index)) {
            let (device, side) = (&binding.device, side(model, &resolved, binding));
            if !self.beginning.observes(device, side) {
                continue;
            }
            if side == Side::Guest {
                forecast.observing.push(device.name.clone());
                continue;
            }
            let key = key_of(model, &resolved, binding);
            // One that cannot be compiled is refused, with numbers, by who asks for more than this.
            let compiled = || compile(model, &resolved.instances, &key, |_| 0).ok().map(|t| HostPolicy::new(&t));
            let Some(policy) = policies.entry(key.clone()).or_insert_with(compiled) else { continue };
            let living = living.get_or_insert_with(Living::read);
            for flow in living.crossing(machine, device) {
                let judged = flow.judge(policy);
                if judged.verdict == Verdict::Drop {
                    let text = || format!("{} {}", device.name, flows::text(&flow.key(0), judged.flow.origin));
                    forecast.denied.add(text);
                } else {
                    forecast.adopted += 1;
                }
            }
        }
        forecast.warnings.extend(living.into_iter().flat_map(|l| l.problems));
        forecast
    }
}

/// Whether somebody saw who began it.
fn begun(flow: &Live) -> bool {
    (flow.seen[0] | flow.seen[1]) & seen::SYN != 0 || matches!(flow.key.protocol(), 1 | 58)
}
