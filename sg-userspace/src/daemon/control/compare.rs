//! Which packets a change decides otherwise, by device: for plans.

use std::collections::BTreeMap;

use super::Control;
use crate::{
    daemon::{
        documents::Change,
        protocol::{DifferenceLine, Differences, Planned},
    },
    dataplane::machine::{Binding, Resolved},
    effective::{Members, PolicyKey},
    explain::Line,
    lint::space::Budget,
    model::{Instance, Interface, Model},
    witness::{BUDGET, Difference, Policy, compare},
};

/// Differences that are told of each device when not all are asked for.
const LARGEST: usize = 20;
/// Those that are told when all are.
const ALL: usize = 5000;

/// A policy as this machine has it.
struct State<'a> {
    model: &'a Model,
    resolved: Resolved,
    members: Members,
}

impl<'a> State<'a> {
    fn place(&self, binding: &Binding) -> (&Interface, &Instance) {
        let instance = &self.resolved.instances[binding.instance];
        (&self.model.interfaces[instance.interface], instance)
    }

    fn key(&self, binding: &Binding) -> PolicyKey {
        PolicyKey::of(self.model, &self.resolved.instances[binding.instance])
    }

    fn policy(&'a self, key: &'a PolicyKey) -> Policy<'a> {
        Policy { model: self.model, members: &self.members, key }
    }
}

impl Control {
    /// Compares the rules of each device that is protected before and after a change. All of
    /// it together may take as long as one large comparison: other requests wait meanwhile.
    pub(super) fn compare(&self, change: &Change, all: bool, planned: &mut Planned) {
        let [before, after] = [self.stored().model(), change.policy.model()].map(|model| {
            let resolved = self.machine.resolve(model);
            State { model, members: Members::of_all(model, &resolved.instances), resolved }
        });
        // Devices with the same rules before and the same ones after are told together.
        let mut alike: BTreeMap<[PolicyKey; 2], Vec<[&Binding; 2]>> = BTreeMap::new();
        let old: BTreeMap<u32, &Binding> = before.resolved.bindings.iter().map(|b| (b.device.index, b)).collect();
        for new in &after.resolved.bindings {
            let Some(old) = old.get(&new.device.index) else { continue };
            let keys = [before.key(old), after.key(new)];
            alike.entry(keys).or_default().push([*old, new]);
            planned.compared += 1;
        }
        let mut budget = Budget(BUDGET);
        for (keys, devices) in alike {
            let policies = [before.policy(&keys[0]), after.policy(&keys[1])];
            let found = compare(&policies[0], &policies[1], if all { ALL } else { LARGEST }, &mut budget);
            if found.count == 0 && !found.cut {
                continue;
            }
            let [old, new] = devices[0];
            let line = |d: &Difference| {
                let packet = d.sample(before.place(old), after.place(new));
                DifferenceLine {
                    direction: d.direction.name().into(),
                    from: d.from().name().into(),
                    to: d.to.name().into(),
                    protocol: d.protocols.text(),
                    peer: d.peer.prefix.to_string(),
                    except: d.peer.except.iter().map(ToString::to_string).collect(),
                    local: d.local.as_ref().map(crate::witness::peers::Peers::text),
                    source_ports: d.source_ports,
                    ports: d.ports,
                    before: d.before.names(before.model),
                    after: d.after.names(after.model),
                    witness: packet.map(|q| Line::of(&new.device.name, &q)),
                }
            };
            planned.differences.push(Differences {
                devices: devices.iter().map(|[_, new]| new.device.name.clone()).collect(),
                count: found.count,
                cut: found.cut,
                largest: found.shown.iter().map(line).collect(),
            });
        }
    }
}
