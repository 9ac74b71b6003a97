//! The one writer: takes an action, makes it durable, puts it in force, and
//! answers. Everything it needs of the machine is handed to it.

mod apply;
mod audited;
mod compare;
mod explain;
mod flows;
mod hear;
mod history;
mod keys;
mod look;
mod measured;
mod replay;
mod room;
mod shadow;
mod stats;
mod together;
mod trial;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use apply::Wanted;
use ipnet::IpNet;
use look::tell_carried;
pub use trial::{BOUNDS as TRIAL_BOUNDS, NO_RESET, TrialRecord};

use super::{
    config::{Config, Level},
    documents, drift,
    flow_log::FlowLog,
    log,
    metrics::Metrics,
    pressure::Pressure,
    protocol::{Action, Reply},
    sampler::Sampler,
    seen::LastSeen,
    stats::Accountant,
    store::{State, Store, StoreError},
    suggest, views,
};
use crate::{
    api::{audit::Audit, draft::Here, keys::Keys},
    dataplane::{
        dry::Dry,
        engine::{Engine, Order, Report, Setup},
        machine::{Machine, Resolved},
    },
    diagnose::{Check, Question},
    document::{Document, Problems},
    explain::find,
    lint::{self, Finding, Subject},
    model::Model,
    validate::Valid,
};

/// Why the machine is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At the start: devices that are up may carry connections.
    First,
    /// It may have changed. What is bound because it appeared enforces at once.
    Changes,
    /// What is in force may not be what should be, changed or not.
    Again,
}

/// Everything the daemon holds.
pub struct Control {
    config: Config,
    store: Box<dyn Store>,
    state: State,
    /// The documents of the state, and what they mean.
    policy: Arc<Valid>,
    engine: Engine,
    machine: Machine,
    /// When this daemon was started.
    begun: Instant,
    /// When devices appeared that were not there at the start.
    appeared: HashMap<u32, Instant>,
    last: Report,
    /// Why the policy could not be put in force everywhere, when that was last tried.
    trouble: Option<String>,
    /// What the last look at the hooks found.
    order: Order,
    /// Whether the filter of flows could not be renewed; said once.
    filter_fails: bool,
    pressure: Pressure,
    /// When packets were last seen, and at which part of the interfaces was looked last.
    seen: LastSeen,
    turn: u32,
    /// When the generation last changed; unknown at first.
    changed: Option<Instant>,
    /// When answers too old to count were last forgotten.
    expired: Instant,
    /// When flows were last swept.
    swept: Instant,
    /// Whether pins are gone and there is nowhere to pin; said once.
    pins_gone: bool,
    /// What the control API needs to know of this host.
    here: Here,
    /// Who may call it.
    keys: Arc<Mutex<Keys>>,
    audit: Audit,
    metrics: Arc<Metrics>,
    /// Who is told of packets.
    hearing: hear::Hearing,
    flow_log: Option<FlowLog>,
    /// A candidate beside the policy in force.
    shadow: Option<shadow::Shadow>,
    /// The program loaded once more, to answer only; when it was first asked.
    dry: Option<Dry>,
    sampler: Sampler,
    /// A change that is in force and not confirmed.
    trial: Option<trial::Trial>,
    accountant: Accountant,
    /// Whether accounts could not be read or stored; said once.
    accounts_fail: bool,
    /// The generation that was last taken back because nobody confirmed it, and when.
    taken_back: Option<(u64, Instant)>,
}

impl Control {
    /// Reads the last good state and puts it in force.
    ///
    /// # Errors
    /// A store or a kernel that cannot be used. What an earlier daemon left in
    /// force stays in force.
    pub fn start(
        config: Config,
        store: Box<dyn Store>,
        machine: Machine,
        keys: Arc<Mutex<Keys>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let mut state = store.load()?;
        let audit = config.audit_file();
        let audit = Audit::open(&audit).with_context(|| format!("cannot write {}", audit.display()))?;
        let whole: Vec<Document> = state.documents.iter().map(documents::restore).collect();
        // The file was read with it.
        let failsafe = config.failsafe.settings().map_err(anyhow::Error::msg)?.map(Arc::new);
        config.failsafe.warnings().iter().for_each(|line| log::warning!("{line}"));
        // Quotas are for changes: what was good when it came stays in force.
        let policy = Valid::stored(whole, &config.quotas(), failsafe.as_ref())?;
        if !policy.over().is_empty() {
            let problems = Problems(policy.over().to_vec());
            log::warning!(
                "the stored policy stays in force, but passes quotas of today; a change may make it smaller there, and \
                 no larger: {problems}"
            );
        }
        let policy = Arc::new(policy);
        // Older daemons never forgot any.
        state.facts.forget_rules(None, &policy);
        state.documents = policy.documents().to_vec();
        state.applied = drift::shared(&state.applied, &state.documents);
        let setup = Setup {
            pin_root: &config.pin_root,
            tcx: config.tcx,
            max_flows: config.max_flows,
            account: config.flow_log.is_on(),
        };
        if state.documents.is_empty() && failsafe.is_none() {
            suggest::suggest();
        }
        let engine = Engine::open(setup, &machine, policy.model(), state.counters.clone())?;
        tell_carried(engine.carried());
        let accountant = stats::accountant(&*store, &engine);
        let config_here = config.here();
        let flow_log = config.flow_log.is_on().then(|| FlowLog::new(&config.flow_log));
        let mut control = Self {
            config,
            store,
            state,
            policy,
            engine,
            machine: Machine::default(),
            begun: Instant::now(),
            appeared: HashMap::new(),
            last: Report::default(),
            trouble: None,
            order: Order::default(),
            filter_fails: false,
            pressure: Pressure::default(),
            seen: LastSeen::default(),
            turn: 0,
            changed: None,
            expired: Instant::now(),
            swept: Instant::now(),
            pins_gone: false,
            here: config_here,
            keys,
            audit,
            metrics,
            hearing: hear::Hearing::default(),
            flow_log,
            shadow: None,
            dry: None,
            sampler: Sampler::default(),
            trial: None,
            accountant,
            accounts_fail: false,
            taken_back: None,
        };
        control.take_back_of_before();
        let _ = control.look(machine, Look::First);
        if control.flow_log.is_none() {
            // No generation asks for it any more.
            control.engine.maps().accounts.clear().context("cannot empty a table of the kernel's")?;
        }
        control.restore_shadow();
        Ok(control)
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let bound = self.engine.bound().values().filter(|b| b.places.is_some() && !b.passes()).count();
        let mut parts = vec![format!("{} protected", count(bound, "device"))];
        parts.extend(self.on_trial().map(|t| format!("generation {} is ON TRIAL until {}", t.generation, t.until)));
        parts.extend(self.trouble.iter().map(|why| format!("NOT ALL IN FORCE: {why}")));
        let resolved = self.machine.local(self.policy.model());
        parts.extend(resolved.refused.iter().map(|r| format!("NOT PROTECTED: {}: {}", r.device, r.why)));
        parts.extend(self.order.failed.iter().map(|(device, why)| format!("NOT PROTECTED: {device}: {why}")));
        if !self.order.before.is_empty() {
            parts.push(format!("{} of others before ours", count(self.order.before.len(), "program")));
        }
        if !resolved.absent.is_empty() {
            parts.push(format!("not here yet: {}", resolved.absent.join(", ")));
        }
        parts.join("; ").replace('\n', " ")
    }

    fn keep_counters(&mut self) -> Result<(), StoreError> {
        if self.state.counters == *self.engine.counters() {
            return Ok(());
        }
        self.state.counters = self.engine.counters().clone();
        self.store.save(&self.state)
    }

    /// The kernel program's debug lines; `None` unless it was built with them.
    pub fn debug_lines(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn ::log::Log>> {
        (self.config.log == Level::Debug).then(|| self.engine.debug_lines()).flatten()
    }

    /// Answers an action.
    pub fn act(&mut self, action: &Action) -> Reply {
        let refused = |message: String| Reply::Refused { message };
        match action {
            Action::Document { .. } => match Wanted::of(action) {
                Some(wanted) => self.document(&wanted).unwrap_or_else(|reply| reply),
                None => refused("not a document".into()),
            },
            Action::Status => {
                self.look_for_packets(|_| true);
                match self.time().and_then(|time| views::status(self, &time)) {
                    Ok(status) => Reply::Status(Box::new(status)),
                    Err(e) => self.unread(&e),
                }
            }
            Action::Interface { device } => {
                self.look_for_packets(|_| true);
                match self.read_rules().and_then(|()| views::interface(self, device)) {
                    Ok(Some(view)) => Reply::Interface(Box::new(view)),
                    Ok(None) => refused(format!("{device} is not protected; `sgctl status` lists what is")),
                    Err(e) => self.unread(&e),
                }
            }
            Action::Export { document } => self.export(document.as_deref()),
            Action::Call(call) => self.read(call),
            Action::Key { command } => self.key(command),
            Action::Snapshot { command } => self.snapshot(command),
            Action::Backup => self.backup(),
            Action::Confirm => self.confirm().unwrap_or_else(|reply| reply),
            Action::Restore { .. } => self.restore(action).unwrap_or_else(|reply| reply),
            Action::Wait { devices, .. } => Reply::Waited { missing: views::missing(self, devices) },
            // It comes another way.
            Action::Watch(_) => refused("watching needs a connection of its own".into()),
            Action::Shadow { command } => self.shadow(command),
            Action::Flows(asked) => self.flows(asked).unwrap_or_else(|reply| reply),
            Action::Stats { device, group, unused } => {
                self.stats(device.as_deref(), group.as_deref(), *unused).unwrap_or_else(|reply| reply)
            }
            Action::Policies(candidate) => self.policies(candidate).unwrap_or_else(|reply| reply),
            Action::Lint => Reply::Linted { findings: self.lint(self.policy.model()) },
            Action::Diagnose { device, checks, source } => self.diagnose(device, checks, *source),
            Action::Explain { flows, trace, kernel } => self.explain(flows, *trace, *kernel),
        }
    }

    fn diagnose(&self, device: &str, checks: &[Check], source: Option<IpNet>) -> Reply {
        let (model, instances) = (self.policy.model(), self.resolved().instances);
        let Some(instance) = find(&instances, device) else {
            let message = format!("{device} is not protected: whatever comes is let in; `sgctl status` lists what is");
            return Reply::Refused { message };
        };
        // Rules say nothing of who reaches what is not filtered.
        if let Some(missing) = views::missing(self, &[device.to_owned()]).first() {
            let message = format!("{device} is not protected, whatever comes is let in: {}", missing.why);
            return Reply::Refused { message };
        }
        let question = Question { model, instances: &instances, instance, source };
        let usual = if checks.is_empty() { Check::usual() } else { Vec::new() };
        let answer = question.answer(if checks.is_empty() { &usual } else { checks });
        answer.map_or_else(|message| Reply::Refused { message }, |rows| Reply::Diagnosed { rows })
    }

    fn unread(&self, e: &std::io::Error) -> Reply {
        self.metrics.read_failed();
        Reply::Refused { message: format!("cannot read the kernel's tables: {e}") }
    }

    fn export(&self, name: Option<&str>) -> Reply {
        let names: Vec<&str> = self.state.documents.iter().map(Document::name).collect();
        let found = match (name, self.state.documents.as_slice()) {
            (None, [one]) => Some(one),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|d| d.name() == name),
        };
        match (found, names.is_empty()) {
            (Some(document), _) => Reply::Exported { text: documents::export(document) },
            (None, true) => {
                Reply::Refused { message: "no document is in force; `sgctl apply -f` puts one there".into() }
            }
            (None, false) => {
                Reply::Refused { message: format!("name one of the documents in force: {}", names.join(", ")) }
            }
        }
    }

    /// What is unwise or needless in a model, on this machine.
    pub(super) fn lint(&self, model: &Model) -> Vec<Finding> {
        let instances = self.machine.resolve(model).instances;
        lint::lint(&Subject { model, instances: &instances, quotas: &self.config.quotas(), document: None })
    }

    /// What the model means on this machine now.
    pub(super) fn resolved(&self) -> Resolved {
        self.machine.resolve(self.policy.model())
    }
    pub(super) fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
    pub(super) fn order(&self) -> &Order {
        &self.order
    }
    /// Whether this machine has a device of that name.
    pub(super) fn is_here(&self, device: &str) -> bool {
        self.machine.devices.iter().any(|d| d.name == device)
    }
    pub(super) fn model(&self) -> &Model {
        self.policy.model()
    }
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}
