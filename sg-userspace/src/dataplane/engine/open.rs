//! How the engine comes to its maps: made anew, taken over from an earlier
//! daemon, or carried over from another set (see [`crate::dataplane::carry`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use sg_common::{
    ABI_VERSION,
    generation::{Config, NO_POLICY, events, flags},
};

use super::{Beginning, Engine, EngineError, OnChange, kernel};
use crate::{
    dataplane::{
        attach,
        carry::{self, Carried, old::OldSet},
        counters::Counters,
        machine::Machine,
        object::{self, ObjectError},
        pins::{Old, Pins, Root},
        shapes::{self, Sizes},
    },
    model::Model,
};

/// What the engine is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Directory on bpffs.
    pub pin_root: &'a Path,
    /// Without it clsact is used even where TCX is there.
    pub tcx: bool,
    /// Confirmed flows per family.
    pub max_flows: u32,
    /// Whether the packets and bytes of flows are counted.
    pub account: bool,
}

/// Passes over the flows before the new maps are in force, at most.
const PASSES: usize = 5;
/// So few flows are left to the pass that comes when the devices have been moved.
const FEW: usize = 500;

impl Engine {
    /// Loads the program, takes over what an earlier daemon left on the devices
    /// of this machine, and carries it over to this version's layouts and to the
    /// sizes that are asked for. `model` is the policy that is in force then;
    /// `counters` are the rule counters by identity, as they were saved.
    ///
    /// # Errors
    /// No rights, no program, no bpffs, pins that are damaged or of a version that
    /// is not known: what is in force stays in force.
    pub fn open(
        setup: Setup<'_>,
        machine: &Machine,
        model: &Arc<Model>,
        counters: Arc<HashMap<String, u32>>,
    ) -> Result<Self, EngineError> {
        let mut root = Root::open(setup.pin_root)?;
        let bytes = object::bytes()?;
        let own = root.own();
        let wanted = Sizes::of(setup.max_flows);
        let filters = || machine.devices.iter().any(|d| attach::has_filter(d.index));
        let found = shapes::check(&bytes, &own, filters).map_err(ObjectError::from)?;
        let Some(sizes) = found else {
            // Pins of a first start that ended too soon; nothing uses them.
            own.remove().map_err(kernel("remove pins that nothing uses"))?;
            if let [old, ..] = root.old.as_slice() {
                let old = old.clone();
                return Self::carry(setup, &bytes, &mut root, &old, (machine, model), counters);
            }
            return Self::load(setup, &bytes, own, wanted, counters);
        };
        if !root.old.is_empty() {
            let mut engine = Self::load(setup, &bytes, own.clone(), sizes, counters)?;
            engine.finish(&mut root, machine)?;
            let kept = engine.carried.as_ref().is_some_and(|c| !c.kept.is_empty());
            if sizes == wanted || kept {
                engine.adopt(machine).map_err(kernel("read what is in force"))?;
                return Ok(engine);
            }
            return Self::open(setup, machine, model, engine.counters.ids().clone());
        }
        if sizes != wanted {
            let old = Old { abi: ABI_VERSION, pins: own };
            return Self::carry(setup, &bytes, &mut root, &old, (machine, model), counters);
        }
        let mut engine = Self::load(setup, &bytes, own, sizes, counters)?;
        engine.adopt(machine).map_err(kernel("read what is in force"))?;
        Ok(engine)
    }

    /// Loads the program with its maps in a directory.
    fn load(
        setup: Setup<'_>,
        bytes: &[u8],
        pins: Pins,
        sizes: Sizes,
        counters: Arc<HashMap<String, u32>>,
    ) -> Result<Self, EngineError> {
        pins.make().map_err(kernel("make the pin directory"))?;
        attach::forget_moves(&pins.links);
        let mut object = object::load_sized(bytes, Some(&pins.dir), sizes)?;
        let hz = object.ticks_per_second().map_err(kernel("read the kernel's clock"))?;
        let old = object.maps.config.get(&0).map_err(kernel("read the configuration"))?;
        if let Some(old) = old.filter(|c| c.abi != 0 && c.abi != ABI_VERSION) {
            return Err(ObjectError::Abi { path: pins.dir, found: old.abi }.into());
        }
        let filter = old.map_or(0, |old| old.filter);
        let config = Config { abi: ABI_VERSION, hz, time_offset: 0, events: events::DECISIONS, filter };
        object.maps.config.update(&0, &config).map_err(kernel("write the configuration"))?;
        Ok(Self {
            object,
            pins,
            tcx: setup.tcx,
            hz,
            bound: BTreeMap::new(),
            policies: BTreeMap::new(),
            keys: HashMap::new(),
            known: None,
            grace: 0,
            foreign: BTreeSet::new(),
            passed: BTreeSet::new(),
            counters: Counters::new(counters),
            epoch: 0,
            zone: 0,
            beginning: Beginning::default(),
            held: BTreeMap::new(),
            carrying: false,
            carried: None,
            trial: None,
            span: (0, 0),
            compared: Default::default(),
            shadowed: None,
            account: if setup.account { flags::ACCOUNT } else { 0 },
            config,
            quotas: None,
            ledger: Default::default(),
            filter: None,
        })
    }

    /// Makes a new set, whole and with everything in force, puts it in the place
    /// of the old one, and moves the devices to it.
    fn carry(
        setup: Setup<'_>,
        bytes: &[u8],
        root: &mut Root,
        old: &Old,
        (machine, model): (&Machine, &Arc<Model>),
        counters: Arc<HashMap<String, u32>>,
    ) -> Result<Self, EngineError> {
        let next = root.next();
        let made = Self::make(setup, bytes, &next, old, (machine, model), counters);
        let mut engine = match made {
            Ok(engine) => engine,
            Err(e) => {
                // What cannot be removed is not in force, and the next start removes it.
                let _ = next.remove();
                return Err(e);
            }
        };
        engine.pins = root.advance().map_err(kernel("put the new maps in the place of the old ones"))?;
        engine.finish(root, machine)?;
        if old.abi == ABI_VERSION {
            engine.adopt(machine).map_err(kernel("read what is in force"))?;
        }
        Ok(engine)
    }

    fn make(
        setup: Setup<'_>,
        bytes: &[u8],
        next: &Pins,
        old: &Old,
        (machine, model): (&Machine, &Arc<Model>),
        counters: Arc<HashMap<String, u32>>,
    ) -> Result<Self, EngineError> {
        let set = OldSet::open(old).map_err(kernel("read the maps of an earlier version"))?;
        let sizes = Sizes::of(setup.max_flows);
        next.make().map_err(kernel("make the pin directory"))?;
        carry::share(bytes, old, next, sizes)
            .map_err(|e| kernel("pin a map a second time")(std::io::Error::other(format!("{e:#}"))))?;
        let mut engine = Self::load(setup, bytes, next.clone(), sizes, counters)?;
        if old.abi != ABI_VERSION {
            carry::devices(&set, &old.pins, machine, &engine.object.maps).map_err(kernel("carry devices over"))?;
            engine.adopt(machine).map_err(kernel("read what is in force"))?;
            engine.carrying = true;
            let enforced = engine.enforce(model, machine, OnChange::Cut);
            engine.carrying = false;
            enforced?;
            // What is no longer named is let go of, not moved.
            let unnamed: Vec<u32> =
                engine.bound.iter().filter(|(_, b)| b.generation.policy == NO_POLICY).map(|(i, _)| *i).collect();
            for index in unnamed {
                engine.forget(index)?;
            }
        }
        let mut carried = Carried::default();
        let indices = carry::indices(machine, &old.pins);
        // Each time only what changed during the one before, which takes less and less.
        for _ in 0..PASSES {
            let pass = carry::flows(&set, &indices, &mut engine.object, false).map_err(kernel("carry flows over"))?;
            carried.flows += pass;
            if pass.carried < FEW {
                break;
            }
        }
        engine.carried = Some(carried);
        Ok(engine)
    }

    /// Moves the devices of old sets to this one, and removes those sets.
    fn finish(&mut self, root: &mut Root, machine: &Machine) -> Result<(), EngineError> {
        let mut carried = self.carried.take().unwrap_or_default();
        for old in std::mem::take(&mut root.old) {
            let done = carry::finish(&old, &self.pins, machine, &mut self.object)
                .map_err(kernel("move the devices to the new maps"))?;
            carried.devices += done.devices;
            carried.flows += done.flows;
            carried.kept.extend(done.kept);
        }
        self.carried = Some(carried);
        Ok(())
    }
}
