//! The one writer: takes an action, makes it durable, puts it in force, and
//! answers. Everything it needs of the machine is handed to it.

mod audited;
mod keys;
mod together;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use sg_common::flow::Direction;

use super::{
    config::{Config, Level},
    documents::{self, Change},
    log,
    pressure::Pressure,
    protocol::{Action, File, Planned, Reply, Session},
    store::{State, Store, StoreError},
    views,
};
use crate::{
    api::{
        audit::Audit,
        auth::now,
        draft::Here,
        facts::{Fact, Facts, Replay},
        keys::Keys,
    },
    dataplane::{
        carry::Carried,
        engine::{Beginning, Engine, EngineError, OnChange, Order, Report, Setup},
        filter,
        flows::{self, Live},
        machine::{Machine, Resolved},
        quotas,
        report::{Denied, Observed},
    },
    document::{Document, Problems, Source, parse},
    explain,
    model::{Model, Side, Verdict},
    reference::{FlowQuery, Reference},
    validate::{Quotas, names::Names, validate},
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

/// How often flows are swept while room is short.
const SHORT_PERIOD: Duration = Duration::from_secs(5);
/// For how long after it appeared a device is new: nothing lived there before.
const NEW: Duration = Duration::from_secs(60);

/// Everything the daemon holds.
pub struct Control {
    config: Config,
    store: Box<dyn Store>,
    state: State,
    model: Arc<Model>,
    engine: Engine,
    machine: Machine,
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
    /// When flows were last swept.
    swept: Instant,
    /// Whether pins are gone and there is nowhere to pin; said once.
    pins_gone: bool,
    /// What the control API needs to know of this host.
    here: Here,
    /// Who may call it.
    keys: Arc<Mutex<Keys>>,
    audit: Audit,
}

/// Says what came over from another set of maps.
fn tell_carried(carried: Option<&Carried>) {
    let Some(carried) = carried else { return };
    let (devices, flows) = (carried.devices, carried.flows);
    log::info!("carried {devices} devices and {} flows over to new tables", flows.carried);
    if flows.left > 0 {
        let left = flows.left;
        log::warning!("{left} flows were not carried, the tables are too small (max_flows): each is judged anew");
    }
    for (_, line) in &carried.kept {
        log::error!("not moved to the new tables, keeps what it enforced; the next start tries again: {line}");
    }
}

/// What a document action asks for.
struct Wanted<'a> {
    files: &'a [File],
    adopt: bool,
    apply: bool,
    if_generation: Option<u64>,
    on_change: OnChange,
    session: Option<Session>,
}

impl<'a> Wanted<'a> {
    fn of(action: &'a Action) -> Option<Self> {
        let Action::Document { files, adopt, apply, if_generation, on_change, session } = action else { return None };
        Some(Self {
            files,
            adopt: *adopt,
            apply: *apply,
            if_generation: *if_generation,
            on_change: *on_change,
            session: *session,
        })
    }
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
    ) -> anyhow::Result<Self> {
        let state = store.load()?;
        let audit = config.audit_file();
        let audit = Audit::open(&audit).with_context(|| format!("cannot write {}", audit.display()))?;
        let whole = state.documents.iter().map(documents::restore).collect::<Result<Vec<_>, _>>()?;
        let merged = documents::merge(&whole);
        let model = match validate(&merged, &config.quotas()) {
            // Quotas are for changes: what was good when it came stays in force.
            Err(problems) if !whole.is_empty() => {
                let model = validate(&merged, &Quotas::UNBOUNDED).map_err(|_| problems.clone())?;
                log::warning!("the stored policy stays in force, but a change like it would be refused: {problems}");
                model
            }
            judged => judged?,
        };
        let model = Arc::new(model);
        let setup = Setup { pin_root: &config.pin_root, tcx: config.tcx, max_flows: config.max_flows };
        let engine = Engine::open(setup, &machine, &model, state.counters.clone())?;
        tell_carried(engine.carried());
        let config_here = config.here();
        let mut control = Self {
            config,
            store,
            state,
            model,
            engine,
            machine: Machine::default(),
            appeared: HashMap::new(),
            last: Report::default(),
            trouble: None,
            order: Order::default(),
            filter_fails: false,
            pressure: Pressure::default(),
            swept: Instant::now(),
            pins_gone: false,
            here: config_here,
            keys,
            audit,
        };
        let _ = control.look(machine, Look::First);
        Ok(control)
    }

    /// The machine changed: follow it. True when the kernel had to be changed.
    pub fn look(&mut self, machine: Machine, look: Look) -> bool {
        if machine == self.machine && look == Look::Changes {
            return false;
        }
        let old = std::mem::replace(&mut self.machine, machine);
        let start = look == Look::First;
        if !start {
            let now = Instant::now();
            let there = |machine: &Machine, index: u32| machine.devices.iter().any(|d| d.index == index);
            self.appeared.retain(|index, _| there(&self.machine, *index));
            let new = self.machine.devices.iter().map(|d| d.index).filter(|i| !there(&old, *i));
            self.appeared.extend(new.map(|index| (index, now)));
        }
        self.engine.begin(self.beginning(start));
        self.keep_pinned();
        let result = self.engine.enforce(&self.model, &self.machine, OnChange::Cut);
        self.share_out();
        match result {
            Ok(report) => {
                self.tell(&report);
                let changed = !report.is_nothing();
                self.last = report;
                self.trouble = None;
                if let Err(e) = self.keep_counters() {
                    log::error!("{e}");
                }
                changed
            }
            Err(e) => {
                self.deny(e.to_string());
                true
            }
        }
    }

    /// How devices begin that are bound now: by the start or an apply, or else
    /// because they appeared.
    fn beginning(&self, observe: bool) -> Beginning {
        let guest = Duration::from_secs(self.config.guest_observe.into());
        let new = self.appeared.iter().filter(|(_, at)| at.elapsed() < NEW).map(|(index, _)| *index).collect();
        Beginning { observe, guest, new }
    }

    /// Ends observations whose time is over.
    pub fn end_observations(&mut self) {
        match self.engine.end_observations(Instant::now(), &self.model, &self.machine) {
            Ok(ended) => ended.iter().for_each(|(device, observed)| tell_observed(device, observed)),
            Err(e) => log::error!("cannot end an observation: {e}; trying again"),
        }
    }

    /// Puts the policy in force again when that failed.
    pub fn retry(&mut self) {
        if self.trouble.is_some() {
            let machine = self.machine.clone();
            let _ = self.look(machine, Look::Again);
        }
    }

    /// What is named and could not get its policy is bound all the same, and denies.
    fn deny(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            log::error!("the policy is not in force everywhere: {why}");
        }
        match self.engine.deny(&self.model, &self.machine) {
            Ok(report) => {
                for device in &report.bound {
                    log::error!("{device} has no policy: all but what always passes is dropped there");
                }
            }
            Err(e) if e.to_string() != why => log::error!("{e}"),
            Err(_) => {}
        }
        self.trouble = Some(why);
    }

    /// Looks whether our programs are still there, and the first ones.
    pub fn check(&mut self) {
        // Without its pins a link cannot be looked at, nor be made anew so that it stays.
        let lapsed = self.keep_pinned();
        if self.pins_gone {
            return;
        }
        if lapsed {
            let machine = self.machine.clone();
            let _ = self.look(machine, Look::Again);
        }
        let order = self.engine.order(&self.machine);
        for device in &order.back {
            log::warning!("the programs of {device} had been taken off; they are there again");
        }
        for program in &order.passed {
            log::warning!("{program}; ours were put before it");
        }
        for program in order.before.iter().filter(|b| !self.order.before.contains(b)) {
            log::warning!("{program}");
        }
        for (device, why) in order.failed.iter().filter(|f| !self.order.failed.contains(f)) {
            log::error!("{device}: {why}");
        }
        self.order = order;
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let bound = self.engine.bound().values().filter(|b| b.places.is_some()).count();
        let mut parts = vec![format!("{} protected", count(bound, "device"))];
        parts.extend(self.trouble.iter().map(|why| format!("NOT ALL IN FORCE: {why}")));
        let resolved = self.resolved();
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

    fn tell(&self, report: &Report) {
        for device in &report.bound {
            log::info!("{device} is protected");
        }
        if !report.observing.is_empty() && report.observing != self.last.observing {
            let seconds = self.config.guest_observe;
            log::info!("observing for up to {seconds} s before enforcing: {}", report.observing.join(", "));
        }
        if report.adopted > 0 {
            log::info!("{} live flows were adopted", report.adopted);
        }
        tell_denied("live flows that the rules deny are cut", &report.denied);
        for line in &report.warnings {
            log::warning!("{line}");
        }
        for device in &report.unbound {
            log::info!("{device} is no longer protected");
        }
        if !report.changed.is_empty() {
            log::info!("new policy in force on {}", report.changed.join(", "));
        }
        for line in report.refused.iter().filter(|l| !self.last.refused.contains(l)) {
            log::warning!("not protected: {line}");
        }
        for device in report.absent.iter().filter(|d| !self.last.absent.contains(d)) {
            log::info!("{device} is named but not here; it will be protected when it appears");
        }
    }

    /// The kernel program's debug lines; `None` unless it was built with them.
    pub fn debug_lines(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn ::log::Log>> {
        (self.config.log == Level::Debug).then(|| self.engine.debug_lines()).flatten()
    }

    /// Deletes flows that expired long ago, and counts those that are left.
    pub fn sweep(&mut self) {
        self.swept = Instant::now();
        let swept = self.engine.jiffies().and_then(|now| {
            let maps = self.engine.maps();
            flows::sweep(maps, now, self.engine.ticks_per_second())?;
            let slots = self.engine.bound().values().map(|b| (b.generation.zone, b.slot)).collect();
            quotas::recount(maps, &slots)
        });
        if let Err(e) = swept {
            log::warning!("cannot sweep flows: {e}");
        }
        self.share_out();
    }

    /// Shares the conntrack tables out among the interfaces there are.
    fn share_out(&self) {
        // The file was read with them.
        let settings = self.config.conntrack.settings().unwrap_or_default();
        if let Err(e) = quotas::set(self.engine.maps(), &settings, self.engine.bound().len()) {
            log::warning!("cannot set the quotas of flows: {e}");
        }
    }

    /// Says when flows are short of room; sweeps more often then.
    fn watch_room(&mut self) {
        match self.pressure.look(&self.engine) {
            Ok(true) if self.swept.elapsed() >= SHORT_PERIOD => self.sweep(),
            Ok(_) => {}
            Err(e) => log::warning!("cannot count flows: {e}"),
        }
    }

    /// Sees to it that what is in force outlives this daemon. True when a device
    /// has to be attached anew.
    pub fn keep_pinned(&mut self) -> bool {
        let root = self.config.pin_root.display();
        match self.engine.repin() {
            Ok(done) => {
                self.pins_gone = false;
                if done.pins > 0 {
                    log::warning!("{} pins in {root} were gone (was bpffs unmounted?) and are there again", done.pins);
                }
                for device in &done.lapsed {
                    log::error!("{device} has been open since its pins in {root} went away; it is attached anew");
                }
                !done.lapsed.is_empty()
            }
            Err(e) => {
                if !self.pins_gone {
                    log::error!(
                        "the pins in {root} are gone: {e}; what is in force ends with this daemon, unless a BPF file \
                         system is there again (`mount -t bpf`), where all is pinned anew within half a minute"
                    );
                }
                self.pins_gone = true;
                false
            }
        }
    }

    /// Takes out policies that nothing uses any more, and renews the filter of
    /// flows when many of its bits are of dead ones.
    pub fn tidy(&mut self) {
        self.watch_room();
        if let Err(e) = self.engine.tidy() {
            log::warning!("{e}; trying again");
        }
        if self.filter_fails {
            return;
        }
        if let Err(e) = filter::renew(self.engine.maps()) {
            self.filter_fails = true;
            log::warning!("cannot renew the filter of flows, packets without a flow will cost more: {e}");
        }
    }

    /// Answers an action.
    pub fn act(&mut self, action: &Action) -> Reply {
        let refused = |message: String| Reply::Refused { message };
        match action {
            Action::Document { .. } => match Wanted::of(action) {
                Some(wanted) => self.document(&wanted).unwrap_or_else(|reply| reply),
                None => refused("not a document".into()),
            },
            Action::Status => match views::status(self) {
                Ok(status) => Reply::Status(Box::new(status)),
                Err(e) => refused(format!("cannot read the kernel's tables: {e}")),
            },
            Action::Interface { device } => match views::interface(self, device) {
                Ok(Some(view)) => Reply::Interface(Box::new(view)),
                Ok(None) => refused(format!("{device} is not protected; `sgctl status` lists what is")),
                Err(e) => refused(format!("cannot read the kernel's tables: {e}")),
            },
            Action::Export { document } => self.export(document.as_deref()),
            Action::Call(call) => self.read(call),
            Action::Key { command } => self.key(command),
            Action::Wait { devices, .. } => Reply::Waited { missing: views::missing(self, devices) },
            Action::Explain { flows } => {
                let instances = self.resolved().instances;
                let reference = Reference::new(&self.model, &instances);
                let judge = |flows: &[(usize, FlowQuery)]| -> Result<_, std::convert::Infallible> {
                    Ok(flows.iter().map(|(i, q)| reference.judge(*i, q)).collect())
                };
                let answers = explain::batch(&self.model, &instances, flows, judge);
                Reply::Explained { answers: answers.unwrap_or_default() }
            }
        }
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

    /// Judges a change on top of documents of a generation; nothing is changed.
    fn consider(
        &mut self,
        documents: &[Document],
        generation: u64,
        wanted: &Wanted<'_>,
        live: &[Live],
    ) -> Result<(Change, Planned), Reply> {
        let problems = |p: Problems| Reply::Problems { problems: p.0.iter().map(ToString::to_string).collect() };
        if let Some(expected) = wanted.if_generation.filter(|g| *g != generation) {
            let message = format!("the policy has changed: it is generation {generation}, not {expected}");
            return Err(Reply::Refused { message: format!("{message}; plan again") });
        }
        let sources: Vec<Source> =
            wanted.files.iter().map(|f| Source { name: f.name.clone(), bytes: f.text.clone().into_bytes() }).collect();
        let new = parse(&sources).map_err(problems)?;
        self.engine.begin(self.beginning(true));
        let change = documents::plan(documents, new, wanted.adopt, &self.config.quotas()).map_err(problems)?;
        let mut planned = self.consequences(&change, wanted, live);
        planned.generation = generation;
        let preview = self.engine.preview(&change.model, &self.machine);
        planned.writes = preview.map_err(|e| Reply::Refused { message: format!("{e}; nothing was changed") })?;
        Ok((change, planned))
    }

    fn document(&mut self, wanted: &Wanted<'_>) -> Result<Reply, Reply> {
        let documents = self.state.documents.clone();
        let live = self.live();
        let (change, mut planned) = self.consider(&documents, self.state.generation, wanted, &live)?;
        if !wanted.apply {
            return Ok(Reply::Planned(Box::new(planned)));
        }
        let generation = together::next(self.state.generation, &documents, &change.documents);
        match self.apply(change, None, generation, wanted.on_change) {
            Ok(report) => planned.report = Some(report),
            Err(message) => return Err(Reply::Refused { message }),
        }
        Ok(Reply::Planned(Box::new(planned)))
    }

    /// Durable first, then in force; what cannot be put in force is taken back.
    fn apply(
        &mut self,
        change: Change,
        beside: Option<(Facts, Replay)>,
        generation: u64,
        mode: OnChange,
    ) -> Result<Report, String> {
        let before = self.state.clone();
        let (mut facts, mut replay) = beside.unwrap_or_else(|| (before.facts.clone(), before.replay.clone()));
        note(&mut facts, &change.documents);
        if generation != before.generation || facts != before.facts || replay != before.replay {
            replay.expire(now());
            self.state.documents = change.documents;
            self.state.generation = generation;
            (self.state.facts, self.state.replay) = (facts, replay);
            if let Err(e) = self.store.save(&self.state) {
                self.state = before;
                return Err(e.to_string());
            }
        }
        let old = std::mem::replace(&mut self.model, change.model);
        self.keep_pinned();
        let result = self.engine.enforce(&self.model, &self.machine, mode);
        self.share_out();
        match result {
            Ok(report) => {
                self.tell(&report);
                self.last = report.clone();
                self.trouble = None;
                self.keep_counters().map_err(|e| e.to_string())?;
                Ok(report)
            }
            Err(e) => {
                self.model = old;
                self.state = before;
                let mut message = format!("{e}; the policy before it stays in force");
                let back: Result<(), EngineError> =
                    self.engine.enforce(&self.model, &self.machine, OnChange::Keep).map(drop);
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

    /// Live flows, as far as they can be read.
    fn live(&self) -> Vec<Live> {
        flows::all(self.engine.maps()).unwrap_or_default()
    }

    /// Which live flows the change would cut, and whether the caller's is one.
    fn consequences(&self, change: &Change, wanted: &Wanted<'_>, live: &[Live]) -> Planned {
        let resolved = self.machine.resolve(&change.model);
        let reference = Reference::new(&change.model, &resolved.instances);
        let mut planned = Planned { steps: change.steps.clone(), ..Planned::default() };
        let forecast = self.engine.forecast(&change.model, &self.machine);
        (planned.adopted, planned.observing) = (forecast.adopted, forecast.observing);
        planned.warnings = forecast.warnings;
        let mut denied = forecast.denied;
        for flow in live.iter().filter(|f| f.verdict == Verdict::Accept) {
            let Some(device) = self.engine.bound().values().find(|b| b.generation.zone == flow.key.zone) else {
                continue;
            };
            let Some(instance) = position(&resolved, &device.device) else { continue };
            let outcome = reference.judge(instance, &query_of(flow));
            if outcome.verdict == Verdict::Drop {
                denied.add(|| format!("{} {}", device.device, flows::text(&flow.key, flow.origin)));
            }
        }
        (planned.cut_count, planned.cut) = (denied.count, denied.shown);
        planned.session = wanted.session.and_then(|s| {
            let instance = resolved.bindings.iter().map(|b| b.instance).find(|i| {
                let interface = &change.model.interfaces[resolved.instances[*i].interface];
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

    /// What the model means on this machine now.
    pub(super) fn resolved(&self) -> Resolved {
        self.machine.resolve(&self.model)
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
        &self.model
    }
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

/// Notes objects that came, and forgets those that are gone.
fn note(facts: &mut Facts, documents: &[Document]) {
    let names = Names::of_all(documents, &mut Problems::default());
    let kinds = [&names.groups, &names.prefix_lists, &names.port_lists, &names.interfaces];
    let ids: BTreeSet<&String> = kinds.iter().flat_map(|k| &k.ids).collect();
    let created = now();
    for id in &ids {
        if !facts.objects.contains_key(*id) {
            facts.objects.insert((*id).clone(), Fact { created, ..Fact::default() });
        }
    }
    let instances: BTreeSet<&str> =
        documents.iter().flat_map(|d| d.instances.iter()).filter_map(|i| i.instance_id.as_deref()).collect();
    facts.objects.retain(|id, _| ids.contains(id) || instances.contains(id.as_str()));
    facts.rules.retain(|group, _| ids.contains(group));
}

fn tell_denied(what: &str, denied: &Denied) {
    if denied.count > 0 {
        log::warning!("{} {what}:", denied.count);
        denied.lines().iter().for_each(|line| log::warning!("  {line}"));
    }
}

fn tell_observed(device: &str, observed: &Observed) {
    log::info!("{device} enforces now; {} live flows were adopted", observed.adopted);
    tell_denied(&format!("live flows of {device} that the rules deny are cut"), &observed.denied);
}

fn position(resolved: &Resolved, device: &str) -> Option<usize> {
    resolved.bindings.iter().find(|b| b.device.name == device).map(|b| b.instance)
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
