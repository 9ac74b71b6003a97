//! Ours come first, and stay: what was taken off is put back, what somebody put
//! before ours is told of, and at TCX passed.

use std::io;

use aya::programs::{ProgramError, ProgramInfo};
use sg_common::maps;

use super::{Engine, EngineError, kernel};
use crate::dataplane::{
    attach::{self, AttachError, Links, Place},
    machine::{Device, Machine},
    object::{self, Object},
    order::{self, Before, Hook, Stand},
};
use crate::model;

/// What a look at the devices found, and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Programs of others that run before ours.
    pub before: Vec<Before>,
    /// Programs of others that ran before ours, and now run after.
    pub passed: Vec<Before>,
    /// Devices whose programs had been taken off, and are there again.
    pub back: Vec<String>,
    /// Devices where something could not be mended, and what.
    pub failed: Vec<(String, String)>,
}

/// Ids of our programs: XDP, and TC at device ingress and egress.
struct Programs {
    xdp: u32,
    tc: [u32; 2],
}

impl Engine {
    /// Looks at every protected device, and mends what can be mended.
    pub fn order(&mut self, machine: &Machine) -> Order {
        let mut found = Order::default();
        let mut copy = None;
        let programs = match self.programs() {
            Ok(programs) => programs,
            Err(e) => {
                found.failed.push(("every device".into(), e.to_string()));
                return found;
            }
        };
        for device in &machine.devices {
            if self.bound.get(&device.index).is_some_and(|b| b.places.is_some()) {
                self.order_of(device, &programs, &mut copy, &mut found);
            }
        }
        found
    }

    fn order_of(&mut self, device: &Device, programs: &Programs, copy: &mut Option<Object>, found: &mut Order) {
        let mut failed = |why: String| found.failed.push((device.name.clone(), why));
        let before = match self.before(device, programs) {
            Ok(Some(before)) => before,
            // Gone a moment ago, or has another name; word of that is on its way.
            Ok(None) if !order::is_here(&device.name, device.index) => return,
            Ok(None) => {
                match self.put_back(device) {
                    Ok(()) => found.back.push(device.name.clone()),
                    Err(e) => failed(format!("its programs were taken off, and cannot be put back: {e}")),
                }
                return;
            }
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return,
            Err(e) => return failed(format!("what runs on it cannot be seen: {e}")),
        };
        for ingress in [true, false] {
            let (tcx, mut rest): (Vec<_>, Vec<_>) = before
                .iter()
                .filter(|b| b.ingress == ingress)
                .cloned()
                .partition(|b| b.hook == Hook::Tcx && self.place(device.index, ingress) == Some(Place::Tcx));
            // Once for each program: with somebody who insists there is no contest.
            let new = tcx.iter().filter(|b| self.passed.insert((*b).clone())).count();
            if new > 0 {
                match self.pass(copy, device, ingress) {
                    Ok(()) => found.passed.extend(tcx),
                    Err(e) => {
                        let why = format!("ours cannot be put before the programs of others: {e}");
                        found.failed.push((device.name.clone(), why));
                        rest.extend(tcx);
                    }
                }
            } else {
                rest.extend(tcx);
            }
            found.before.extend(rest);
        }
    }

    fn place(&self, index: u32, ingress: bool) -> Option<Place> {
        Some(self.bound.get(&index)?.places?[usize::from(!ingress)])
    }

    /// Ids of our programs.
    fn programs(&mut self) -> Result<Programs, EngineError> {
        let id = |info: Result<ProgramInfo, ProgramError>| {
            info.map(|i| i.id()).map_err(|e| kernel("read the program")(io::Error::other(e)))
        };
        Ok(Programs {
            xdp: id(self.object.xdp()?.info())?,
            tc: [id(self.object.tc(maps::PROG_TC_IN)?.info())?, id(self.object.tc(maps::PROG_TC_OUT)?.info())?],
        })
    }

    /// What runs before ours; `None` when one of ours is not there any more.
    fn before(&self, device: &Device, programs: &Programs) -> io::Result<Option<Vec<Before>>> {
        let mut all = Vec::new();
        for ingress in [true, false] {
            let Some(place) = self.place(device.index, ingress) else { continue };
            let program = match place {
                Place::XdpNative | Place::XdpGeneric => programs.xdp,
                Place::Tcx | Place::Clsact => programs.tc[usize::from(!ingress)],
            };
            // Where a device has just left XDP, what was heard of it is older.
            let xdp = device.xdp.filter(|id| *id != programs.xdp);
            match order::look(&self.pins.links, device.index, ingress, place, program, xdp)? {
                Stand::Gone => return Ok(None),
                Stand::Behind(before) => all.extend(before.into_iter().map(|(hook, program, name)| Before {
                    device: device.name.clone(),
                    ingress,
                    hook,
                    program,
                    name,
                })),
            }
        }
        Ok(Some(all))
    }

    fn pass(&mut self, copy: &mut Option<Object>, device: &Device, ingress: bool) -> Result<(), EngineError> {
        let copy = match copy {
            Some(copy) => copy,
            None => copy.insert(object::load(&object::bytes()?, Some(&self.pins.dir))?),
        };
        attach::move_first(copy, device, ingress, &self.pins.links)?;
        // The new link gets the program that all the others have.
        Ok(self.put_back(device)?)
    }

    /// Attaches again; at TC where the hook that is asked for cannot be had any
    /// more. That is an error all the same, and tried again with every change.
    fn put_back(&mut self, device: &Device) -> Result<(), AttachError> {
        let Some(bound) = self.bound.get_mut(&device.index) else { return Ok(()) };
        let links = Links { dir: &self.pins.links, tcx: self.tcx };
        let mut attach = |hook| attach::attach(&mut self.object, device, hook, links);
        let done = match attach(bound.hook) {
            Ok(attached) => {
                bound.places = Some(attached.places);
                Ok(())
            }
            Err(e) => match attach(model::Hook::Tc) {
                Ok(attached) => {
                    (bound.places, bound.hook) = (Some(attached.places), model::Hook::Tc);
                    Err(e)
                }
                Err(e) => Err(e),
            },
        };
        // Links that are not those of before: without bpffs only these keep them.
        self.held.insert(device.index, attach::hold(&self.pins.links, device.index));
        done
    }
}
