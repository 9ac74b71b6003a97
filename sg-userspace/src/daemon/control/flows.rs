//! Live flows: listed, counted by remote, cut.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use sg_ebpf::conntrack::Clock;

use sg_common::{
    flow::{BY_HAND, FlowKey},
    generation::flags,
    reason::Verdict,
};

use super::Control;
use crate::{
    daemon::{
        flows::{Meant, Newest, Top, has_ports, verdict_of, words},
        log,
        protocol::{CutView, FlowFilter, FlowLine, FlowVerdict, FlowsAsked, FlowsView, Reply, Session, Want},
    },
    dataplane::{
        cut,
        engine::{Bound, Resets, bound_to, is_routed_here},
        flows::{self, Live},
        reset::Wanted,
    },
    effective,
    model::{Model, protocol_name},
};

/// Flows that are cut in one go: a second, in which nothing else is done.
const MOST_CUT: usize = 262_144;

fn refused(message: impl ToString) -> Reply {
    Reply::Refused { message: message.to_string() }
}

/// Groups of an id, or else of a name.
pub(super) fn groups(model: &Model, wanted: &str) -> Result<HashSet<usize>, Reply> {
    let all = |is: &dyn Fn(&str, &str) -> bool| -> HashSet<usize> {
        model.groups.iter().enumerate().filter(|(_, g)| is(&g.id, &g.name)).map(|(i, _)| i).collect()
    };
    let mut found = all(&|id, _| id == wanted);
    if found.is_empty() {
        found = all(&|_, name| name == wanted);
    }
    if found.is_empty() {
        return Err(refused(format!("there is no security group {wanted:?}; `sgctl group list` shows them")));
    }
    Ok(found)
}

/// What rules are called, by the counters of those that some flows name.
struct Names(HashMap<u32, String>);

impl Names {
    fn of(control: &Control, flows: &[Live]) -> Self {
        let wanted: HashSet<u32> = flows.iter().map(|f| f.rule).filter(|rule| *rule != 0).collect();
        if wanted.is_empty() {
            return Self(HashMap::new());
        }
        let (model, origins) = (control.model(), effective::origins(control.model()));
        let here = control.engine.counters().iter().filter(|(_, counter)| wanted.contains(counter));
        let name = |(identity, counter): (&String, &u32)| {
            let origin = origins.get(identity)?;
            Some((*counter, effective::name(model, *origin)))
        };
        Self(here.filter_map(name).collect())
    }

    /// What admitted a flow, or cut it.
    fn rule(&self, flow: &Live) -> Option<String> {
        match (flow.rule, verdict_of(flow)) {
            (0, FlowVerdict::Accept) => Some("(default)".into()),
            (0, FlowVerdict::Drop) => None,
            (BY_HAND, _) => None,
            (counter, _) => Some(self.0.get(&counter).cloned().unwrap_or_else(|| "(a rule that is gone)".into())),
        }
    }
}

fn state(flow: &Live, observing: bool) -> &'static str {
    match verdict_of(flow) {
        FlowVerdict::Drop if observing => "observed",
        FlowVerdict::Drop => "cut",
        FlowVerdict::Accept if flow.is_closing() => "closing",
        FlowVerdict::Accept if flow.confirmed => "confirmed",
        FlowVerdict::Accept => "half-open",
    }
}

fn line(flow: &Live, device: &Bound, names: &Names, clock: Clock) -> FlowLine {
    let key = &flow.key;
    let port = |port| (port != 0 || has_ports(key.protocol())).then_some(port);
    let vlans = [key.vlan_proto >> 20, key.vlan_proto >> 8 & 0xfff];
    FlowLine {
        device: device.device.clone(),
        protocol: protocol_name(Some(key.protocol())),
        direction: flow.origin.name().into(),
        local: key.local.into(),
        local_port: port(key.local_port),
        remote: key.remote.into(),
        remote_port: port(key.remote_port),
        vlans: vlans.into_iter().filter(|id| *id != 0).map(|id| id as u16).collect(),
        state: state(flow, device.is_observing()).into(),
        verdict: verdict_of(flow),
        rule: names.rule(flow),
        idle: flow.idle_seconds(clock),
        timeout: flow.timeout,
    }
}

/// Flows that are to be cut.
struct ToCut {
    /// Each with the epoch that its device is under.
    all: Vec<(FlowKey, u32)>,
    /// Those that have not been cut before.
    open: Vec<FlowKey>,
}

/// Whether a flow is somebody's connection.
fn is_session(flow: &Live, session: &Session) -> bool {
    let key = &flow.key;
    key.protocol() == 6
        && IpAddr::from(key.local) == session.local
        && IpAddr::from(key.remote) == session.remote
        && (key.local_port, key.remote_port) == (session.local_port, session.remote_port)
}

impl Control {
    /// Answers what is asked of live flows.
    pub(super) fn flows(&mut self, asked: &FlowsAsked) -> Result<Reply, Reply> {
        let now = self.engine.jiffies().map_err(|e| self.unread(&e))?;
        let clock = Clock { now, hz: self.engine.ticks_per_second() };
        let zones = self.zones(&asked.filter)?;
        let names = zones.iter().map(|(zone, bound)| (*zone, bound.device.as_str())).collect();
        let meant = Meant { zones: names, filter: &asked.filter, clock };
        let view = match asked.want {
            Want::List => self.listed(&meant, &zones, asked.limit),
            Want::Top => self.top(&meant, asked.limit),
            Want::Cut { session, reset } => {
                let ToCut { all, open } = self.to_cut(&meant, &zones, session.as_ref())?;
                // While they are open: the resets leave as packets of theirs.
                let reset = reset.then(|| self.reset(&open, &all, &zones, clock));
                self.cut(&all, reset).map(FlowsView::Cut)
            }
        };
        view.map(Reply::Flows).map_err(|e| self.unread(&e))
    }

    /// Devices that a filter means, by the zones of their flows.
    fn zones(&self, filter: &FlowFilter) -> Result<HashMap<u32, &Bound>, Reply> {
        let bound = self.engine.bound().values();
        let mut all: HashMap<u32, &Bound> = bound.map(|b| (b.generation.zone, b)).collect();
        if let Some(device) = &filter.device {
            all.retain(|_, b| b.device == *device);
            if all.is_empty() {
                return Err(refused(format!("{device} is not protected; `sgctl status` lists what is")));
            }
        }
        if let Some(group) = &filter.group {
            let members = self.devices_of(&groups(self.model(), group)?);
            all.retain(|_, b| members.contains(b.device.as_str()));
        }
        Ok(all)
    }

    /// Names of devices that are in some of these groups.
    pub(super) fn devices_of(&self, groups: &HashSet<usize>) -> HashSet<String> {
        let (model, resolved) = (self.model(), self.resolved());
        let within = |instance: usize| {
            let interface = &model.interfaces[resolved.instances[instance].interface];
            interface.groups.iter().any(|g| groups.contains(g))
        };
        resolved.bindings.iter().filter(|b| within(b.instance)).map(|b| b.device.name.clone()).collect()
    }

    fn listed(&self, meant: &Meant<'_>, zones: &HashMap<u32, &Bound>, limit: usize) -> io::Result<FlowsView> {
        let mut newest = Newest::new(limit, meant.clock);
        flows::each(self.engine.maps(), |flow| {
            if meant.has(&flow) {
                newest.add(flow);
            }
        })?;
        let (total, flows) = newest.done();
        let names = Names::of(self, &flows);
        let lines = flows.iter().filter_map(|f| Some(line(f, zones.get(&f.key.zone)?, &names, meant.clock)));
        Ok(FlowsView::Listed { total, flows: lines.collect() })
    }

    fn top(&self, meant: &Meant<'_>, limit: usize) -> io::Result<FlowsView> {
        let mut top = Top::default();
        flows::each(self.engine.maps(), |flow| {
            if meant.has(&flow) {
                top.add(&flow);
            }
        })?;
        Ok(FlowsView::Top(top.done(limit, &meant.zones)))
    }

    /// The flows that are to be cut, if they may be.
    fn to_cut(
        &self,
        meant: &Meant<'_>,
        zones: &HashMap<u32, &Bound>,
        session: Option<&Session>,
    ) -> Result<ToCut, Reply> {
        if words(meant.filter).is_empty() {
            return Err(refused("say which flows: a cut without a filter is refused; nothing was cut"));
        }
        let (mut found, mut open, mut own, mut observing) = (Vec::new(), Vec::new(), None, None);
        flows::each(self.engine.maps(), |flow| {
            let Some(bound) = zones.get(&flow.key.zone).filter(|_| meant.has(&flow)) else { return };
            if session.is_some_and(|s| is_session(&flow, s)) {
                own = Some(flows::text(&flow.key, flow.origin));
            }
            if bound.is_observing() || bound.passes() {
                observing = Some(bound.device.clone());
            }
            found.push((flow.key, bound.generation.epoch));
            open.extend((verdict_of(&flow) == FlowVerdict::Accept).then_some(flow.key));
        })
        .map_err(|e| self.unread(&e))?;
        if let Some(own) = own {
            return Err(refused(format!(
                "YOUR OWN SSH CONNECTION ({own}) is among them: say more of which flows are meant, or \
                 --with-my-session; nothing was cut"
            )));
        }
        if let Some(device) = observing {
            return Err(refused(format!(
                "{device} only observes yet, and lets everything pass: cut its flows when it enforces (`sgctl status` \
                 says when); nothing was cut"
            )));
        }
        if found.len() > MOST_CUT {
            return Err(refused(format!(
                "{} flows match, {MOST_CUT} are cut at once at most: say more of which are meant; nothing was cut",
                found.len()
            )));
        }
        Ok(ToCut { all: found, open })
    }

    /// Resets connections, so that both ends know.
    fn reset(&self, open: &[FlowKey], all: &[(FlowKey, u32)], zones: &HashMap<u32, &Bound>, clock: Clock) -> Resets {
        let mut wanted = Wanted::default();
        for key in open {
            let Some(bound) = zones.get(&key.zone) else { continue };
            let device = self.machine.devices.iter().find(|d| d.name == bound.device);
            if bound.generation.flags & flags::GUEST == 0 {
                wanted.add(key, &device.map(|d| bound_to(&self.machine, d)).unwrap_or_default());
            } else if let Some(device) = device.filter(|d| is_routed_here(&self.machine, d)) {
                wanted.add_guest(key, device.index);
            }
        }
        // One that has moved to another device, and is not meant there, goes on.
        let meant: HashSet<FlowKey> = all.iter().map(|(key, _)| *key).collect();
        let hosts = self.engine.host_zones();
        wanted.close(self.engine.maps(), all.len(), |flow| {
            let stays = hosts.contains(&flow.key.zone) && !meant.contains(&flow.key);
            stays && flow.verdict == Verdict::Accept && !flow.is_expired(clock)
        })
    }

    fn cut(&self, found: &[(FlowKey, u32)], reset: Option<Resets>) -> io::Result<CutView> {
        let cut::Cut { cut, ended, open } = cut::cut(self.engine.maps(), found)?;
        log::info!("{cut} live flows were cut by hand");
        self.tell_reset(reset.as_ref());
        Ok(CutView { cut, ended, open, reset })
    }
}
