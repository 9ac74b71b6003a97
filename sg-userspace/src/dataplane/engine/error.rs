//! Why a policy could not be put in force.

use std::io;

use sg_common::limits::{MAX_IFINDEX, MAX_RULES, MAX_SLOTS};
use thiserror::Error;

use crate::{
    compiler::CompileError,
    dataplane::{attach::AttachError, object::ObjectError, pins::PinError, policies::PolicyError},
};

/// What fails where the kernel's clock cannot be read.
pub(super) const CLOCK: &str = "read the kernel's clock";

/// Why the policy could not be put in force.
#[derive(Debug, Error)]
pub enum EngineError {
    /// No program.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// No pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// Does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Not written.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Not attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Not let go of.
    #[error("cannot take the protection off {device}: {error}")]
    Detach {
        /// The device.
        device: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A map write failed.
    #[error("cannot {what}: {error}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Too many interfaces.
    #[error("{0} interfaces are named, the tables hold {max}", max = MAX_SLOTS - 1)]
    Slots(usize),
    /// It failed half-way, and what was reset before cannot be taken back.
    #[error("{1}; {0} connections had been reset by then")]
    AfterReset(usize, #[source] Box<EngineError>),
    /// Too many rules alive.
    #[error("{0} rules have counters, the tables hold {max}", max = MAX_RULES - 1)]
    Counters(usize),
    /// A trial is to begin while something else is under way.
    #[error(
        "{0} only observes yet, so nothing can be tried out: wait until it enforces (`sgctl status` says for how long), \
         or go without (`--confirm off`)"
    )]
    Observing(String),
    /// Too late to confirm.
    #[error("the time to confirm is over")]
    Late,
    /// An interface index that the direct table does not reach.
    #[error("the device {0} has index {1}; indices from {MAX_IFINDEX} on are not supported")]
    Index(String, u32),
}

pub(super) fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Kernel { what, error }
}
