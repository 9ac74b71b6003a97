//! What rules have counted: read, kept, told.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    time::Instant,
};

use sg_common::{event::Counter, reason::Verdict};
use sg_ebpf::conntrack::Clock;

use super::{Control, flows::groups};
use crate::{
    api::{auth::now, draft::time},
    daemon::{
        log,
        protocol::{GroupStats, InterfaceStats, Reply, RuleStats, StatsView},
        stats::{self, Account, Accountant},
        store::Store,
        views,
    },
    dataplane::{engine::Engine, flows},
    effective::{self, Origin},
    model::Model,
};

/// What was counted before. Where that cannot be read, it begins anew: no reason not to start.
pub(super) fn accountant(store: &dyn Store, engine: &Engine) -> Accountant {
    let accounts = store.accounts().unwrap_or_else(|e| {
        log::error!("{e}: what rules have counted begins anew");
        BTreeMap::new()
    });
    let kernel = stats::kernel(engine.maps()).unwrap_or_else(|e| {
        log::error!("cannot tell this kernel's counters from those before ({e}): a rule may count packets twice");
        0
    });
    Accountant::new(accounts, kernel)
}

/// Whose counters and accounts can be: identities of a model.
fn identities(models: [&Model; 2]) -> HashSet<String> {
    models.into_iter().flat_map(|model| effective::origins(model).into_keys()).collect()
}

/// Live flows that count: those of each zone, and those that each counter's rule admits.
#[derive(Default)]
struct Living {
    zones: HashMap<u32, usize>,
    rules: HashMap<u32, usize>,
}

impl Control {
    /// Reads what rules have counted. Before counters are emptied, too: what they
    /// counted is in no other place.
    pub(super) fn watch_rules(&mut self) {
        if self.accountant.is_due(Instant::now()) || !self.engine.is_tidy() {
            let _ = self.read_rules();
            self.store_accounts(false);
        }
    }

    /// Follows the counters that there are; while a change is on trial what was before it lives on.
    fn follow_rules(&mut self) {
        let state = (self.state.generation, self.trial.is_some());
        let (tried, base) = (self.policy.clone(), self.stored().clone());
        self.accountant.follow(self.engine.counters(), state, now(), || identities([tried.model(), base.model()]));
    }

    pub(super) fn read_rules(&mut self) -> io::Result<()> {
        self.follow_rules();
        let (rules, now) = (&self.engine.maps().rules, now());
        let read = self.accountant.look(now, |indices| stats::read(rules, indices));
        if let Err(e) = &read {
            self.metrics.read_failed();
            self.say_once(&format!("cannot read what rules have counted: {e}"));
        }
        read
    }

    fn say_once(&mut self, what: &str) {
        if !std::mem::replace(&mut self.accounts_fail, true) {
            log::error!("{what}; trying again");
        }
    }

    /// Stores what rules have counted, as far as this daemon lives to see it.
    pub fn keep_accounts(&mut self) {
        // What could not be read the next one reads, if the machine stays on.
        let _ = self.read_rules();
        self.store_accounts(true);
    }

    /// Stores what has been read, if it is time to, or must be `now`.
    fn store_accounts(&mut self, now: bool) {
        let Some(changed) = self.accountant.to_store(now) else { return };
        match self.store.keep_accounts(&changed) {
            Ok(()) => {
                self.accountant.stored();
                self.accounts_fail = false;
            }
            Err(e) => self.say_once(&format!("{e}: what rules have counted is not stored")),
        }
    }

    /// Counters of rules that still are have been emptied, because no device has them any
    /// more: only this daemon knows what they had counted.
    pub(super) fn keep_what_was_emptied(&mut self) {
        self.follow_rules();
        if self.accountant.hangs_by_us() {
            self.store_accounts(true);
        }
    }

    /// What a rule has counted in all, as of now if the kernel can be asked.
    pub(in crate::daemon) fn account(&self, identity: &str) -> Option<&Account> {
        self.accountant.of(identity)
    }

    /// What was counted: by devices, groups and rules.
    pub(super) fn stats(&mut self, device: Option<&str>, group: Option<&str>, unused: bool) -> Result<Reply, Reply> {
        let refused = |message: String| Reply::Refused { message };
        self.read_rules().map_err(|e| self.unread(&e))?;
        let model = self.model().clone();
        let mut chosen: HashSet<usize> = (0..model.groups.len()).collect();
        if let Some(wanted) = group {
            chosen = groups(&model, wanted)?;
        }
        if let Some(name) = device {
            let resolved = self.resolved();
            let binding = resolved.bindings.iter().find(|b| b.device.name == name);
            let binding =
                binding.ok_or_else(|| refused(format!("{name} is not protected; `sgctl status` lists what is")))?;
            let own = &model.interfaces[resolved.instances[binding.instance].interface].groups;
            chosen.retain(|g| own.contains(g));
        }
        let living = self.living().map_err(|e| self.unread(&e))?;
        let whole = device.is_none() && group.is_none();
        let (rules, uncounted) = self.rules(&model, &chosen, &living, whole);
        let mut view = StatsView { uncounted, resolution: self.accountant.resolution(), ..StatsView::default() };
        if !unused {
            view.groups = by_group(&model, &rules);
            view.interfaces = self.interfaces(device, group, &chosen, &living).map_err(|e| self.unread(&e))?;
        }
        view.rules = rules.into_iter().map(|(_, line)| line).filter(|line| !unused || is_unused(line)).collect();
        Ok(Reply::Stats(Box::new(view)))
    }

    fn living(&mut self) -> io::Result<Living> {
        let clock = Clock { now: self.engine.jiffies()?, hz: self.engine.ticks_per_second() };
        let mut living = Living::default();
        flows::each(self.engine.maps(), |flow| {
            if flow.is_expired(clock) {
                return;
            }
            *living.zones.entry(flow.key.zone).or_default() += 1;
            if flow.verdict == Verdict::Accept {
                *living.rules.entry(flow.rule).or_default() += 1;
            }
        })?;
        Ok(living)
    }

    /// Lines of rules in the order of the model, and how many rules nothing counts.
    fn rules(
        &self,
        model: &Model,
        chosen: &HashSet<usize>,
        living: &Living,
        whole: bool,
    ) -> (Vec<(Origin, RuleStats)>, usize) {
        let mut origins: Vec<Origin> = effective::origins(model)
            .into_values()
            .filter(|origin| match origin {
                Origin::Rule(g, _) | Origin::IntraGroup(g) => chosen.contains(g),
                Origin::Smtp | Origin::Provider | Origin::Failsafe(_) => whole,
            })
            .collect();
        origins.sort_unstable();
        let (mut lines, mut uncounted, now) = (Vec::new(), 0, now());
        for origin in origins {
            let identity = effective::identity(model, origin);
            let Some(account) = self.account(&identity) else {
                uncounted += usize::from(matches!(origin, Origin::Rule(..)));
                continue;
            };
            let counter = self.engine.counters().get(&identity);
            let flows = counter.and_then(|counter| living.rules.get(counter)).copied().unwrap_or(0);
            let (id, direction, verdict) = match origin {
                Origin::Rule(g, r) => {
                    let rule = &model.groups[g].rules[r];
                    let id = (model.groups[g].id.clone(), rule.id.clone());
                    (Some(id), Some(rule.direction.name().to_owned()), rule.verdict)
                }
                Origin::Smtp => (None, None, Verdict::Drop),
                Origin::IntraGroup(_) | Origin::Provider | Origin::Failsafe(_) => (None, None, Verdict::Accept),
            };
            lines.push((
                origin,
                RuleStats {
                    rule: effective::name(model, origin),
                    id,
                    direction,
                    verdict: verdict.name().into(),
                    packets: account.packets,
                    bytes: account.bytes,
                    flows,
                    last_hit: account.hit.map(time),
                    in_force: counter.is_some(),
                    since: time(account.since),
                    watched: now.saturating_sub(account.since),
                },
            ));
        }
        (lines, uncounted)
    }

    fn interfaces(
        &self,
        device: Option<&str>,
        group: Option<&str>,
        chosen: &HashSet<usize>,
        living: &Living,
    ) -> io::Result<Vec<InterfaceStats>> {
        let members = group.map(|_| self.devices_of(chosen));
        let shown = self.engine.bound().values().filter(|b| {
            device.is_none_or(|name| name == b.device) && members.as_ref().is_none_or(|m| m.contains(&b.device))
        });
        let line = |bound: &crate::dataplane::engine::Bound| {
            let [dropped, accepted]: [Counter; 2] = views::verdicts(self.engine.maps(), bound.slot)?;
            Ok(InterfaceStats {
                device: bound.device.clone(),
                accepted: accepted.packets,
                accepted_bytes: accepted.bytes,
                dropped: dropped.packets,
                dropped_bytes: dropped.bytes,
                flows: living.zones.get(&bound.generation.zone).copied().unwrap_or(0),
            })
        };
        shown.map(line).collect()
    }
}

/// A rule that somebody wrote, and no packet has matched. One that admits flows was
/// matched before it was counted, or took them over from another.
fn is_unused(line: &RuleStats) -> bool {
    line.id.is_some() && line.packets == 0 && line.flows == 0
}

/// Sums of the rules of each group.
fn by_group(model: &Model, rules: &[(Origin, RuleStats)]) -> Vec<GroupStats> {
    let mut groups: BTreeMap<usize, GroupStats> = BTreeMap::new();
    for (origin, line) in rules {
        let (Origin::Rule(g, _) | Origin::IntraGroup(g)) = *origin else { continue };
        let sum = groups.entry(g).or_insert_with(|| GroupStats {
            group: model.groups[g].name.clone(),
            id: model.groups[g].id.clone(),
            ..GroupStats::default()
        });
        sum.rules += usize::from(line.id.is_some());
        sum.unused += usize::from(is_unused(line));
        sum.packets += line.packets;
        sum.bytes += line.bytes;
        sum.flows += line.flows;
        // Times of one form are in order as texts.
        sum.last_hit = sum.last_hit.take().max(line.last_hit.clone());
        sum.since = Some(sum.since.take().map_or_else(|| line.since.clone(), |since| since.min(line.since.clone())));
    }
    groups.into_values().collect()
}
