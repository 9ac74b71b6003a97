//! A change: judged, made durable, put in force; what cannot be put in force is
//! taken back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use sg_ebpf::conntrack::{Clock, state};

use super::{Control, together, trial::can_be_tried};
use crate::{
    api::{
        auth::now,
        facts::{Fact, Facts, Replay},
    },
    daemon::{
        documents::{self, Change},
        drift, log,
        protocol::{Action, File, Planned, Reply, Session},
        store::{State, StoreError},
        watch::names::Names as RuleNames,
    },
    dataplane::{
        engine::{EngineError, OnChange, Report},
        flows::{self, Live},
        judges::Judges,
        machine::Resolved,
        object::Maps,
    },
    document::{Document, Source, parse},
    lint::{self, Finding},
    model::{Direction, Side, Verdict},
    reference::{FlowQuery, Reference},
    validate::{Valid, names::Names},
};

/// What is stored beside the documents, as a change leaves it.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub facts: Facts,
    pub replay: Replay,
    /// See [`State::applied`](crate::daemon::store::State::applied).
    pub applied: Arc<Vec<Document>>,
}

/// How often answers that are too old to count are forgotten.
const EXPIRY: Duration = Duration::from_secs(30);

/// What a document action asks for.
pub(super) struct Wanted<'a> {
    pub files: &'a [File],
    adopt: bool,
    apply: bool,
    if_generation: Option<u64>,
    on_change: OnChange,
    session: Option<Session>,
    confirm: Option<u32>,
    all: bool,
}

/// A document that could be applied.
pub(super) struct Considered {
    pub change: Change,
    pub planned: Planned,
    /// What is applied after it.
    pub applied: Arc<Vec<Document>>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(action: &'a Action) -> Option<Self> {
        let Action::Document { files, adopt, apply, if_generation, on_change, session, confirm, all } = action else {
            return None;
        };
        Some(Self {
            files,
            adopt: *adopt,
            apply: *apply,
            if_generation: *if_generation,
            on_change: *on_change,
            session: *session,
            confirm: *confirm,
            all: *all,
        })
    }
}

impl Control {
    /// Judges a change on top of a policy of a generation; nothing is changed.
    pub(super) fn consider(
        &mut self,
        policy: &Valid,
        generation: u64,
        applied: &Arc<Vec<Document>>,
        wanted: &Wanted<'_>,
        live: &[Live],
    ) -> Result<Considered, Reply> {
        expect(wanted.if_generation, generation)?;
        let sources: Vec<Source> =
            wanted.files.iter().map(|f| Source { name: f.name.clone(), bytes: f.text.clone().into_bytes() }).collect();
        let new = parse(&sources)?;
        let name = new.name().to_owned();
        let change = documents::plan(policy, new, wanted.adopt, &self.config.quotas())?;
        let mut planned = self.weigh(&change, generation, wanted.session, live)?;
        if !wanted.apply {
            planned.lints = self.lints_added(&change);
            self.compare(&change, wanted.all, &mut planned);
        }
        let find = |policy: &Valid| policy.documents().iter().find(|d| d.name() == name).cloned();
        let new = find(&change.policy).unwrap_or_default();
        planned.drift = find(policy).map(|now| {
            let then = applied.iter().find(|d| d.name() == name);
            drift::planned(then, (&now, policy.names()), (&new, change.policy.names()))
        });
        Ok(Considered { applied: drift::applied(applied, &new), change, planned })
    }

    /// What is stored beside the documents.
    pub(super) fn beside(&self) -> Beside {
        let State { facts, replay, applied, .. } = &self.state;
        Beside { facts: facts.clone(), replay: replay.clone(), applied: applied.clone() }
    }

    /// What a change of the state of a generation would do.
    pub(super) fn weigh(
        &mut self,
        change: &Change,
        generation: u64,
        session: Option<Session>,
        live: &[Live],
    ) -> Result<Planned, Reply> {
        self.engine.begin(self.beginning(true));
        let mut planned = self.consequences(change, session, live);
        planned.generation = generation;
        planned.trial = self.on_trial();
        let preview = self.engine.preview(change.policy.model(), &self.machine);
        planned.writes = preview.map_err(|e| Reply::Refused { message: format!("{e}; nothing was changed") })?;
        Ok(planned)
    }

    /// What lint says of a policy that it does not say of the one in force. It takes a while,
    /// so it is for plans: what is applied was planned before.
    pub(super) fn lints_added(&self, change: &Change) -> Vec<Finding> {
        lint::added(&self.lint(self.stored().model()), self.lint(change.policy.model()))
    }

    pub(super) fn document(&mut self, wanted: &Wanted<'_>) -> Result<Reply, Reply> {
        let (policy, live) = (self.stored().clone(), self.live());
        let (generation, applied) = (self.state.generation, self.state.applied.clone());
        let Considered { change, mut planned, applied } =
            self.consider(&policy, generation, &applied, wanted, &live)?;
        if !wanted.apply {
            return Ok(Reply::Planned(Box::new(planned)));
        }
        let generation = together::next(self.state.generation, &policy, &change.policy);
        // Where nothing changes there is nothing to try out.
        let confirm = wanted.confirm.filter(|_| generation != self.state.generation);
        self.can_be_seen(confirm, &planned)?;
        can_be_tried(confirm, wanted.on_change)?;
        let beside = Some(Beside { applied, ..self.beside() });
        let result = match confirm {
            Some(seconds) => self.try_out(change.policy, beside, generation, wanted.on_change, seconds),
            None => {
                self.keep_settled("before an apply", true);
                self.apply(change.policy, beside, generation, wanted.on_change)
            }
        };
        planned.trial = self.on_trial();
        match result {
            Ok(report) => planned.report = Some(report),
            Err(message) => return Err(Reply::Refused { message }),
        }
        Ok(Reply::Planned(Box::new(planned)))
    }

    /// Durable first, then in force; what cannot be put in force is taken back.
    pub(super) fn apply(
        &mut self,
        policy: Arc<Valid>,
        beside: Option<Beside>,
        generation: u64,
        mode: OnChange,
    ) -> Result<Report, String> {
        let begun = Instant::now();
        let result = self.put(policy, beside, generation, mode);
        self.metrics.applied(begun.elapsed(), result.is_ok());
        result
    }

    fn put(
        &mut self,
        policy: Arc<Valid>,
        beside: Option<Beside>,
        generation: u64,
        mode: OnChange,
    ) -> Result<Report, String> {
        let before = self.state.clone();
        let Beside { mut facts, mut replay, applied } = beside.unwrap_or_else(|| self.beside());
        note(&mut facts, &self.policy, &policy);
        let same = generation == before.generation && applied == before.applied;
        if !same || facts != before.facts || replay != before.replay {
            if generation != before.generation {
                self.changed = Some(Instant::now());
            }
            if self.expired.elapsed() >= EXPIRY {
                replay.expire(now());
                self.expired = Instant::now();
            }
            self.state.documents = policy.documents().to_vec();
            self.state.generation = generation;
            (self.state.facts, self.state.replay, self.state.applied) = (facts, replay, applied);
            if let Err(e) = self.store.save(&self.state) {
                self.state = before;
                return Err(e.to_string());
            }
        }
        let old = std::mem::replace(&mut self.policy, policy);
        self.keep_pinned();
        let result = self.enforce(mode);
        self.share_out();
        match result {
            Ok(report) => {
                self.tell(&report);
                self.last = report.clone();
                self.trouble = None;
                // It is stored and in force; what counts what is found out again by the next change.
                if let Err(e) = self.keep_counters() {
                    log::error!("{e}");
                }
                Ok(report)
            }
            Err(e) => {
                self.policy = old;
                self.state = before;
                let mut message = format!("{e}; the policy before it stays in force");
                let back: Result<(), EngineError> = self.enforce(OnChange::Keep).map(drop);
                for failure in
                    [back.err().map(|e| e.to_string()), self.store.save(&self.state).err().map(|e| e.to_string())]
                        .into_iter()
                        .flatten()
                {
                    message = format!("{message}; and going back: {failure}");
                }
                log::error!("{message}");
                Err(message)
            }
        }
    }

    /// Keeps what refused calls have used up.
    pub(super) fn remember(&mut self, replay: Replay) -> Result<(), StoreError> {
        if replay == self.state.replay {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.state.replay, replay);
        self.store.save(&self.state).inspect_err(|_| self.state.replay = before)
    }

    /// Live flows, as far as they can be read.
    pub(super) fn live(&self) -> Vec<Live> {
        flows::all(self.engine.maps()).unwrap_or_default()
    }

    /// Which live flows the change would cut, and whether the caller's is one.
    pub(super) fn consequences(&mut self, change: &Change, session: Option<Session>, live: &[Live]) -> Planned {
        self.follow_names();
        let clock = self.engine.jiffies().ok().map(|now| Clock { now, hz: self.engine.ticks_per_second() });
        // Taken out, so that the rest of this can be looked at meanwhile.
        let mut names = std::mem::take(&mut self.hearing.names);
        let resolved = self.machine.resolve(change.policy.model());
        let reference = Reference::new(change.policy.model(), &resolved.instances);
        let mut planned = Planned { steps: change.steps.clone(), ..Planned::default() };
        let forecast = self.engine.forecast(change.policy.model(), &self.machine);
        (planned.adopted, planned.observing) = (forecast.adopted, forecast.observing);
        planned.warnings = forecast.warnings;
        let mut denied = forecast.denied;
        let mut judges = Judges::new(change.policy.model(), &resolved);
        let zones: HashMap<u32, (&str, usize)> = self
            .engine
            .bound()
            .values()
            .filter_map(|b| Some((b.generation.zone, (b.device.as_str(), position(&resolved, &b.device)?))))
            .collect();
        // What has expired is only not swept yet.
        let lives = |f: &&Live| f.verdict == Verdict::Accept && clock.is_none_or(|clock| !f.is_expired(clock));
        for flow in live.iter().filter(lives) {
            let Some(&(device, instance)) = zones.get(&flow.key.zone) else { continue };
            if judges.denies(instance, flow) {
                denied.add(|| told(device, flow, &mut names, self.engine.maps(), clock));
            }
        }
        self.hearing.names = names;
        (planned.cut_count, planned.cut) = (denied.count, denied.shown);
        planned.cut_counted = self.flow_log.is_some();
        planned.session = session.and_then(|s| {
            let instance = resolved.bindings.iter().map(|b| b.instance).find(|i| {
                let interface = &change.policy.model().interfaces[resolved.instances[*i].interface];
                let index = resolved.bindings.iter().find(|b| b.instance == *i);
                interface.side == Side::Host && index.is_some_and(|b| b.device.addresses.contains(&s.local))
            })?;
            let query = FlowQuery {
                direction: Direction::Inbound,
                protocol: 6,
                local: s.local,
                remote: s.remote,
                local_port: s.local_port,
                remote_port: s.remote_port,
                icmp_type: 0,
                icmp_code: 0,
            };
            let outcome = reference.judge(instance, &query);
            (outcome.verdict == Verdict::Drop).then(|| outcome.reason.name().to_owned())
        });
        planned
    }
}

/// A live flow that would be cut: who speaks to whom, what let it in, how long it has been
/// silent; and what it has carried, where that is counted.
fn told(device: &str, flow: &Live, names: &mut RuleNames, maps: &Maps, clock: Option<Clock>) -> String {
    let mut text = format!("{device} {}", flows::text(&flow.key, flow.origin));
    match (flow.rule, names.rule(flow.rule)) {
        (_, Some(rule)) => text += &format!(", let in by {}", rule.name),
        (0, None) => text += ", let in by default",
        (_, None) => {}
    }
    let Some(clock) = clock else { return text };
    let seconds = |jiffies: u32| u64::from(jiffies / clock.hz.max(1));
    let span = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    if let Ok(Some(a)) = maps.accounts.get(&flow.key) {
        let age = span(seconds(clock.now.wrapping_sub(a.start)));
        text += &format!(", {} bytes in and {} out in {age}", a.bytes[0], a.bytes[1]);
    }
    let idle = flow.last.map(|last| state::age(clock.now.wrapping_sub(last), clock)).into_iter().min().unwrap_or(0);
    text + &format!(", idle for {}", span(seconds(idle)))
}

/// Refuses a change that was meant for a policy of another generation.
pub(super) fn expect(expected: Option<u64>, generation: u64) -> Result<(), Reply> {
    match expected.filter(|g| *g != generation) {
        None => Ok(()),
        Some(expected) => Err(Reply::Refused {
            message: format!("the policy has changed: it is generation {generation}, not {expected}; plan again"),
        }),
    }
}

/// Notes objects that came, and forgets those that are gone.
pub(super) fn note(facts: &mut Facts, old: &Valid, new: &Valid) {
    facts.forget_rules(Some(old), new);
    let (old, new) = ((old.names(), instances(old)), (new.names(), instances(new)));
    let kinds = |n: &Names| [n.groups.clone(), n.prefix_lists.clone(), n.port_lists.clone(), n.interfaces.clone()];
    let (before, after) = (kinds(old.0), kinds(new.0));
    let created = now();
    for kind in before.iter().zip(&after).filter(|(old, new)| !Arc::ptr_eq(old, new)).map(|(_, new)| new) {
        for id in kind.ids.iter().filter(|id| !facts.objects.contains_key(*id)).collect::<Vec<_>>() {
            facts.objects.insert(id.clone(), Fact { created, ..Fact::default() });
        }
    }
    let known = |id: &str| after.iter().any(|k| k.with_id(id).is_some()) || new.1.contains(id);
    let gone = before.iter().flat_map(|k| k.ids.iter().map(String::as_str)).chain(old.1.iter().copied());
    let gone = if before.iter().zip(&after).all(|(old, new)| Arc::ptr_eq(old, new)) && old.1 == new.1 {
        Vec::new()
    } else {
        gone.filter(|id| !known(id)).collect()
    };
    for id in gone {
        facts.objects.remove(id);
        facts.rules.remove(id);
    }
}

/// Ids of all instances that have one.
fn instances(policy: &Valid) -> BTreeSet<&str> {
    policy.documents().iter().flat_map(|d| d.instances.iter()).filter_map(|i| i.instance_id.as_deref()).collect()
}

fn position(resolved: &Resolved, device: &str) -> Option<usize> {
    resolved.bindings.iter().find(|b| b.device.name == device).map(|b| b.instance)
}
