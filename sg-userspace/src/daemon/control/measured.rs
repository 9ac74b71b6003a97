//! What metrics say of the writer's own state.

use sg_common::generation::NO_POLICY;

use super::Control;
use crate::{
    daemon::metrics::picture::{Picture, States},
    dataplane::{engine::Bound, object::Maps},
};

impl Control {
    /// The kernel's tables.
    pub fn maps(&self) -> &Maps {
        self.engine.maps()
    }

    /// How things stand; nothing is asked of the kernel.
    pub fn picture(&self) -> Picture {
        let resolved = self.machine.local(self.policy.model());
        let bound = self.engine.bound();
        let in_force = |b: &&Bound| b.places.is_some() && b.generation.policy != NO_POLICY && !b.passes();
        let observing = bound.values().filter(in_force).filter(|b| b.is_observing()).count();
        let enforcing = bound.values().filter(in_force).count() - observing;
        // One whose programs could not be mended may enforce all the same, at another hook.
        let bare = bound.values().filter(|b| b.places.is_none()).count();
        Picture {
            generation: self.state.generation,
            states: States {
                protected: enforcing,
                observing,
                missing: resolved.absent.len(),
                refused: resolved.refused.len() + (bound.len() - enforcing - observing),
            },
            interfaces: bound.values().map(|b| (b.device.clone(), b.slot)).collect(),
            rules: self.engine.counters().clone(),
            short: self.pressure.count(),
            detached: bare.max(self.order.failed.len()),
            foreign: self.order.before.len(),
            pins_gone: self.pins_gone,
            audit_failing: self.audit.is_failing(),
        }
    }
}
