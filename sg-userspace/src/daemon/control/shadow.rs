//! A candidate that judges beside the policy in force. It is a document, planned anew on
//! top of what is in force whenever that changes, and kept over restarts.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sg_common::{
    flow::Direction,
    reason::{Reason, Verdict},
    shadow::{Compared, Differs},
};

use super::Control;
use crate::{
    api::auth::now,
    daemon::{
        documents, log,
        protocol::{File, Reply, ShadowCommand, ShadowKind, ShadowView},
        watch::names::{Names, Time},
    },
    dataplane::{clock::possible_cpus, flows, object::Maps},
    document::{Source, parse},
    validate::Valid,
};

/// Kinds of flows that are shown unless all are asked for.
const SHOWN: usize = 20;

/// What is kept of a candidate.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    files: Vec<File>,
    adopt: bool,
    /// Seconds since 1970, UTC.
    since: u64,
}

/// The candidate.
pub(super) struct Shadow {
    kept: Kept,
    /// The name of its document.
    name: String,
    /// What it was planned on top of.
    base: Arc<Valid>,
    /// What would be in force; or why it cannot be.
    policy: Result<Arc<Valid>, String>,
    devices: Vec<String>,
    /// Why it judges nothing.
    problem: Option<String>,
}

fn refused(message: impl Into<String>) -> Reply {
    Reply::Refused { message: message.into() }
}

/// No flow has been compared yet.
fn forget(maps: &Maps) -> io::Result<()> {
    maps.shadow.clear()?;
    maps.shadowed.update_per_cpu(&0, &vec![Compared::default(); possible_cpus()])
}

impl Control {
    fn shadow_file(&self) -> PathBuf {
        self.config.state_dir.join("shadow.json")
    }

    pub(super) fn shadow(&mut self, command: &ShadowCommand) -> Reply {
        match command {
            ShadowCommand::Start { files, adopt } => self.shadow_start(files, *adopt).unwrap_or_else(|reply| reply),
            ShadowCommand::Report { all } => match &self.shadow {
                None => refused("there is no candidate; `sgctl shadow start -f FILE` makes one"),
                Some(_) => match self.shadow_view(*all) {
                    Ok(view) => Reply::Shadow(Box::new(view)),
                    Err(e) => self.unread(&e),
                },
            },
            ShadowCommand::Candidate => match &self.shadow {
                None => refused("there is no candidate; `sgctl shadow start -f FILE` makes one"),
                Some(shadow) => Reply::Candidate { files: shadow.kept.files.clone(), adopt: shadow.kept.adopt },
            },
            ShadowCommand::Stop => match self.shadow_view(false) {
                _ if self.shadow.is_none() => refused("there is no candidate"),
                Err(e) => self.unread(&e),
                Ok(view) => {
                    self.shadow = None;
                    self.follow_shadow();
                    if let Err(e) = std::fs::remove_file(self.shadow_file()) {
                        log::warning!("cannot remove {}: {e}", self.shadow_file().display());
                    }
                    Reply::Shadow(Box::new(view))
                }
            },
        }
    }

    fn shadow_start(&mut self, files: &[File], adopt: bool) -> Result<Reply, Reply> {
        if let Some(trial) = self.on_trial() {
            let message = format!("generation {} is on trial: confirm it, or roll it back, first", trial.generation);
            return Err(refused(message));
        }
        let kept = Kept { files: files.to_vec(), adopt, since: now() };
        let (name, policy) = self.candidate(&kept)?;
        forget(self.engine.maps()).map_err(|e| self.unread(&e))?;
        let text = serde_json::to_vec(&kept).map_err(|e| refused(format!("the candidate cannot be kept: {e}")))?;
        let (file, new) = (self.shadow_file(), self.shadow_file().with_extension("new"));
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|e| refused(format!("the candidate cannot be kept: {}: {e}", new.display())))?;
        let base = self.policy.clone();
        self.shadow = Some(Shadow { kept, name, base, policy: Ok(policy), devices: Vec::new(), problem: None });
        self.follow_shadow();
        if let Err(e) = self.keep_counters() {
            log::error!("{e}");
        }
        let view = self.shadow_view(false).map_err(|e| self.unread(&e))?;
        if let Some(problem) = &view.problem {
            let message = format!("{problem}; there is no candidate");
            self.shadow = None;
            self.follow_shadow();
            // Without it the next start has none, either.
            let _ = std::fs::remove_file(file);
            return Err(refused(message));
        }
        Ok(Reply::Shadow(Box::new(view)))
    }

    /// What would be in force with a candidate, and the name of its document.
    fn candidate(&self, kept: &Kept) -> Result<(String, Arc<Valid>), Reply> {
        let file = |f: &File| Source { name: f.name.clone(), bytes: f.text.clone().into_bytes() };
        let document = parse(&kept.files.iter().map(file).collect::<Vec<_>>())?;
        let name = document.name().to_owned();
        let change = documents::plan(&self.policy, document, kept.adopt, &self.config.quotas())?;
        Ok((name, change.policy))
    }

    /// Takes up the candidate of an earlier daemon.
    pub(super) fn restore_shadow(&mut self) {
        let file = self.shadow_file();
        let kept = match std::fs::read(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.follow_shadow(),
            Err(e) => Err(e.to_string()),
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(|e| e.to_string()),
        };
        match kept {
            Err(e) => {
                log::warning!("the candidate in {} cannot be read, and judges nothing: {e}", file.display());
                self.follow_shadow();
            }
            Ok(kept) => {
                let (name, policy) = planned(self.candidate(&kept));
                let base = self.policy.clone();
                self.shadow = Some(Shadow { kept, name, base, policy, devices: Vec::new(), problem: None });
                self.follow_shadow();
            }
        }
    }

    /// The candidate follows what is in force.
    pub(super) fn follow_shadow(&mut self) {
        if let Some(shadow) = &self.shadow
            && !Arc::ptr_eq(&shadow.base, &self.policy)
        {
            let (old, new) = (shadow.base.documents(), self.policy.documents());
            let again = shadow.policy.as_ref().ok().and_then(|before| {
                documents::plan_again(before, (old, new), &shadow.name, shadow.kept.adopt, &self.config.quotas())
            });
            let (name, policy) = match again {
                Some(policy) => (shadow.name.clone(), Ok(policy)),
                None => planned(self.candidate(&shadow.kept)),
            };
            if let Some(shadow) = &mut self.shadow {
                (shadow.base, shadow.name, shadow.policy) = (self.policy.clone(), name, policy);
            }
        }
        let model = self.shadow.as_ref().and_then(|s| s.policy.as_ref().ok()).map(|policy| policy.model().clone());
        let done = self.engine.shadow(model.as_ref(), &self.machine);
        let Some(shadow) = &mut self.shadow else {
            if let Err(e) = done {
                log::warning!("cannot let go of the candidate: {e}; trying again with the next change");
            }
            return;
        };
        let before = shadow.problem.take();
        shadow.problem = match (&shadow.policy, done) {
            (Err(problem), _) => Some(format!("it does not go together with what is in force: {problem}")),
            (Ok(_), Err(e)) => Some(e.to_string()),
            (Ok(_), Ok(devices)) => {
                shadow.devices = devices;
                None
            }
        };
        if let Some(problem) = shadow.problem.as_ref().filter(|p| before.as_ref() != Some(p)) {
            log::warning!("the candidate judges nothing: {problem}");
        }
    }

    fn shadow_view(&mut self, all: bool) -> io::Result<ShadowView> {
        self.follow_names();
        let time = self.time()?;
        let Some(shadow) = &self.shadow else { return Ok(ShadowView::default()) };
        let mut candidate = Names::default();
        if let Ok(policy) = &shadow.policy {
            candidate.follow(policy.model(), self.engine.counters());
        }
        let (mut kinds, differ) = self::kinds(self.engine.maps(), &mut self.hearing.names, &mut candidate, &time)?;
        let kind_count = kinds.len();
        kinds.truncate(if all { usize::MAX } else { SHOWN });
        let compared = self.engine.maps().shadowed.get_per_cpu(&0, possible_cpus())?;
        let since = UNIX_EPOCH + Duration::from_secs(shadow.kept.since);
        Ok(ShadowView {
            since: humantime::format_rfc3339_seconds(since).to_string(),
            files: shadow.kept.files.iter().map(|f| f.name.clone()).collect(),
            devices: if shadow.problem.is_none() { shadow.devices.clone() } else { Vec::new() },
            problem: shadow.problem.clone(),
            judged: compared.iter().map(|c| c.judged).sum(),
            differ,
            left_out: compared.iter().map(|c| c.left_out).sum(),
            kinds,
            kind_count,
        })
    }
}

/// The name of a candidate's document, and what would be in force; or why it is refused.
fn planned(candidate: Result<(String, Arc<Valid>), Reply>) -> (String, Result<Arc<Valid>, String>) {
    match candidate {
        Ok((name, policy)) => (name, Ok(policy)),
        Err(reply) => (String::new(), Err(why(&reply))),
    }
}

/// Why a candidate is refused, in one line.
fn why(reply: &Reply) -> String {
    match reply {
        Reply::Problems { problems } => problems.join("; "),
        Reply::Refused { message } => message.clone(),
        _ => "it is refused".into(),
    }
}

/// Zone, direction, verdict, both rules, both reasons.
type KindId = (u32, u8, u8, u32, u32, u8, u8);

/// What the kernel remembers, by kind, the largest first; and how many flows that are.
fn kinds(maps: &Maps, now: &mut Names, then: &mut Names, time: &Time) -> io::Result<(Vec<ShadowKind>, u64)> {
    let mut all = Vec::new();
    maps.shadow.each(|key, differs| all.push((*key, *differs)))?;
    let mut by_kind: HashMap<KindId, (ShadowKind, u32, u32)> = HashMap::new();
    for (key, d) in &all {
        let Differs { direction, verdict, rule, shadow_rule, reason, shadow_reason, .. } = *d;
        let id = (key.zone, direction, verdict, rule, shadow_rule, reason, shadow_reason);
        let (kind, first, last) = by_kind.entry(id).or_insert_with(|| {
            let kind = ShadowKind {
                device: now.device_of(key.zone),
                direction: Direction::from_u8(direction).name().into(),
                verdict: Verdict::from_u8(verdict).name().into(),
                now: decides(rule, reason, now),
                then: decides(shadow_rule, shadow_reason, then),
                flows: 0,
                packets: 0,
                first: String::new(),
                last: String::new(),
                example: String::new(),
            };
            (kind, d.first, d.last)
        });
        kind.flows += 1;
        kind.packets += d.packets;
        if first.wrapping_sub(d.first) as i32 > 0 {
            *first = d.first;
        }
        if kind.example.is_empty() || d.last.wrapping_sub(*last) as i32 > 0 {
            *last = d.last;
            kind.example = flows::text(key, Direction::from_u8(direction));
        }
    }
    let text = |jiffies| humantime::format_rfc3339_seconds(time.of(jiffies)).to_string();
    let mut kinds: Vec<ShadowKind> = by_kind
        .into_values()
        .map(|(kind, first, last)| ShadowKind { first: text(first), last: text(last), ..kind })
        .collect();
    kinds.sort_by(|a, b| {
        b.flows.cmp(&a.flows).then_with(|| (&a.device, &a.now, &a.then).cmp(&(&b.device, &b.now, &b.then)))
    });
    Ok((kinds, all.len() as u64))
}

/// What decides: a rule by name, or the reason.
fn decides(rule: u32, reason: u8, names: &mut Names) -> String {
    let reason = Reason::from_u8(reason).map_or("unknown", Reason::name);
    match (rule, names.rule(rule)) {
        (0, _) => reason.into(),
        (_, Some(rule)) => rule.name,
        (_, None) => "(a rule that is no more)".into(),
    }
}
