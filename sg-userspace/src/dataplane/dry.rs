//! The program in force asked what it would do: the same object, loaded once more with a
//! constant set, over the very tables that packets are judged by. It is attached to
//! nothing, makes no flow, counts nothing and tells nobody; and no live packet can reach
//! the branches that this leaves out, as its own program was loaded without the constant.

use std::{collections::HashMap, io, os::fd::AsFd, path::Path};

use sg_common::{
    generation::{Generation, flags},
    maps,
    reason::Reason,
    watch::{ANSWERED, Told},
};
use sg_ebpf::verdict::Decision;
use thiserror::Error;

use super::{
    clock::possible_cpus,
    object::{self, Object, ObjectError},
    shapes::Sizes,
    sys,
};
use crate::{
    effective::Origin,
    model::{Direction, Side},
    packet::first_packet,
    reference::{FlowQuery, Outcome},
};

/// Bytes of a `struct __sk_buff`.
const SKB: usize = 192;
/// Where its `ifindex` is.
const IFINDEX: usize = 40;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Hardware address of whoever sends, where none is known.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Why the program could not be asked.
#[derive(Debug, Error)]
pub enum DryError {
    /// It could not be loaded once more.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The kernel refused something.
    #[error("cannot {what}: {error}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// It gave no answer.
    #[error("the program judged a packet without saying why")]
    Silent,
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> DryError {
    move |error| DryError::Kernel { what, error }
}

/// A device as the program knows it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Whose end it is.
    pub side: Side,
    /// What it enforces.
    pub generation: Generation,
}

/// The program, loaded to answer only.
#[derive(Debug)]
pub struct Dry(Object);

/// What it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What, why, and by which counter.
    pub decision: Decision,
    /// Epoch of the generation that it went by.
    pub epoch: u32,
}

impl Dry {
    /// Loads it over the maps that are pinned there.
    ///
    /// # Errors
    /// As loading the program in force.
    pub fn load(pins: &Path, sizes: Sizes) -> Result<Self, DryError> {
        // The loader would make those that are missing, empty, and the tables in force would be others.
        let missing = object::names().into_iter().find(|name| !pins.join(name).exists());
        if let Some(name) = missing {
            let error = io::Error::new(io::ErrorKind::NotFound, format!("the pin {name} is gone"));
            return Err(kernel("find the tables in force")(error));
        }
        Ok(Self(object::load_as(&object::bytes()?, Some(pins), sizes, true)?))
    }

    /// What becomes of the first packet of a flow on a device of this network namespace.
    ///
    /// # Errors
    /// The device is gone, or what the kernel says.
    pub fn ask(&mut self, device: &Device, query: &FlowQuery) -> Result<Said, DryError> {
        let mac = if device.generation.flags & flags::MAC_KNOWN != 0 { device.generation.mac } else { SENDER };
        let mut frame = first_packet(query, mac);
        if device.generation.flags & flags::NO_L2 != 0 {
            frame.drain(..ETHERNET);
        }
        let ingress = (query.direction == Direction::Inbound) != (device.side == Side::Guest);
        let name = if ingress { maps::PROG_TC_IN } else { maps::PROG_TC_OUT };
        let mut context = [0; SKB];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&device.index.to_ne_bytes());
        let fresh = vec![Told::default(); possible_cpus()];
        self.0.maps.told.update_per_cpu(&0, &fresh).map_err(kernel("ready the program"))?;
        let program = self.0.tc(name)?.fd().map_err(|_| DryError::Silent)?;
        sys::test_run(program.as_fd(), &frame, &context).map_err(kernel("run the program"))?;
        let told = self.0.maps.told.get_per_cpu(&0, possible_cpus()).map_err(kernel("read what it says"))?;
        let told = told.iter().find(|t| t.answer & ANSWERED != 0).ok_or(DryError::Silent)?;
        Ok(Said { decision: Decision::unpack(told.answer & !ANSWERED), epoch: told.epoch })
    }
}

/// An answer in terms of a model; `origins` are what counters stand for.
///
/// # Errors
/// [`DryError::Silent`] for a number that is no reason.
pub fn outcome(said: &Said, origins: &HashMap<u32, Origin>) -> Result<Outcome, DryError> {
    let Decision { verdict, reason, rule } = said.decision;
    let reason = Reason::from_u8(reason).ok_or(DryError::Silent)?;
    let (group, rule) = match origins.get(&rule) {
        Some(Origin::Rule(g, r)) => (Some(*g), Some(*r)),
        Some(Origin::IntraGroup(g)) => (Some(*g), None),
        _ => (None, None),
    };
    Ok(Outcome { verdict, reason, group, rule })
}
