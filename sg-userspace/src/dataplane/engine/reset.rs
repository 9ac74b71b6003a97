//! Connections that a change is about to cut, and that both ends are to know of.

use std::collections::{HashMap, HashSet};

use sg_common::{generation::flags, reason::Verdict};
use sg_ebpf::conntrack::Clock;

use super::{
    Bound, Engine,
    policy::{Put, key_of},
};
use crate::{
    dataplane::{
        adopt::Living,
        flows::{self, Live},
        judges::Judges,
        machine::{Device, Machine, Resolved},
        report::Resets,
        reset::{Wanted, unread},
    },
    effective::PolicyKey,
    model::{Model, Side},
};

/// A device whose flows are about to be judged anew.
struct Judged {
    instance: usize,
    /// Its index; none where a guest's connections cannot be spoken to.
    device: Option<u32>,
    /// To what sockets of its flows may be bound; none where they are somebody else's.
    sockets: Option<Vec<u32>>,
}

/// Devices that a socket is bound to whose packets cross one: itself, and what it is enslaved to.
pub fn bound_to(machine: &Machine, device: &Device) -> Vec<u32> {
    let master = device.master.as_ref().map(|(name, _)| name);
    let masters = machine.devices.iter().filter(|d| Some(&d.name) == master).map(|d| d.index);
    std::iter::once(device.index).chain(masters).collect()
}

/// Whether packets of a guest's connection are found by the routes of this host, and not by
/// those of a VRF: there another guest may have its addresses.
pub fn is_routed_here(machine: &Machine, device: &Device) -> bool {
    let master = device.master.as_ref().and_then(|(name, _)| machine.devices.iter().find(|d| d.name == *name));
    !device.vrf && master.is_none_or(|master| !master.vrf)
}

impl Engine {
    /// Resets what the policies deny that each device is about to go by, as far as it is a
    /// connection; the other flows that they deny are counted. What has a policy already, and
    /// keeps it, is not looked at: nothing of it is judged anew.
    pub(super) fn reset(
        &mut self,
        model: &Model,
        machine: &Machine,
        resolved: &Resolved,
        put: &HashMap<PolicyKey, Put>,
    ) -> Resets {
        let all = machine.resolve(model);
        let places: HashMap<u32, usize> = all.bindings.iter().map(|b| (b.device.index, b.instance)).collect();
        let mut judges = Judges::new(model, &all);
        let (mut zones, mut wanted, mut denied) = (HashMap::new(), Wanted::default(), 0);
        let mut living = None;
        for binding in &resolved.bindings {
            let device = &binding.device;
            let (Some(put), Some(&instance)) = (put.get(&key_of(model, resolved, binding)), places.get(&device.index))
            else {
                continue;
            };
            let generation = self.wanted(model, resolved, binding, *put);
            let Some(bound) = self.bound.get(&device.index) else { continue };
            let host = model.interfaces[all.instances[instance].interface].side == Side::Host;
            let sockets = host.then(|| bound_to(machine, device));
            if let (true, Some(sockets)) = (bound.is_observing(), &sockets) {
                // It is about to adopt what lives there.
                let Some(policy) = judges.policy(instance) else { continue };
                for flow in living.get_or_insert_with(Living::read).crossing(machine, device) {
                    let judged = flow.judge(policy);
                    if judged.verdict == Verdict::Drop {
                        denied += 1;
                        wanted.add(&judged.flow.key(0), sockets);
                    }
                }
            } else if !bound.is_observing()
                && (put.patched || bound.settle(generation, self.trial.is_some()) != bound.generation)
            {
                let device = is_routed_here(machine, device).then_some(device.index);
                zones.insert(bound.generation.zone, Judged { instance, device, sockets });
            }
        }
        // A clock that cannot be read has nothing expire.
        let clock = self.jiffies().ok().map(|now| Clock { now, hz: self.hz });
        let lives = |flow: &Live| flow.verdict == Verdict::Accept && clock.is_none_or(|clock| !flow.is_expired(clock));
        let read = flows::each(&self.object.maps, |flow| {
            let Some(Judged { instance, device, sockets }) = zones.get(&flow.key.zone) else { return };
            if lives(&flow) && judges.denies(*instance, &flow) {
                denied += 1;
                match (sockets, device) {
                    (Some(sockets), _) => wanted.add(&flow.key, sockets),
                    (None, Some(device)) => wanted.add_guest(&flow.key, *device),
                    (None, None) => {}
                }
            }
        });
        if let Err(e) = read {
            return unread(denied, &e);
        }
        let hosts = self.host_zones();
        wanted.close(&self.object.maps, denied, |flow| {
            let stays = hosts.contains(&flow.key.zone) && lives(flow);
            stays && zones.get(&flow.key.zone).is_none_or(|j| !judges.denies(j.instance, flow))
        })
    }

    /// Zones of devices of this host that enforce a policy.
    pub fn host_zones(&self) -> HashSet<u32> {
        let enforcing = |b: &&Bound| b.generation.flags & flags::GUEST == 0 && !b.is_observing();
        self.bound.values().filter(enforcing).map(|b| b.generation.zone).collect()
    }
}
