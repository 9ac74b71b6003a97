//! Merged rules to tables: equivalence classes of addresses and services, and
//! the search done ahead of time. Pure: no kernel, no clock.
//!
//! # Layout
//! - [`bits`]: sets of rules
//! - [`skeleton`]: what a policy is besides its addresses
//! - [`addresses`]: prefixes; [`tree`], [`classes`]: prefixes to classes
//! - [`services`]: protocols and ports to classes
//! - [`flat`]: everything but addresses, in one value
//! - [`multibit`], [`list6`]: addresses as plain loads
//! - [`live`]: all of it, and what a change of addresses writes
//! - [`host`]: the tables, asked on the host

pub mod addresses;
pub mod bits;
pub mod classes;
pub mod flat;
pub mod host;
pub mod list6;
pub mod live;
pub mod multibit;
pub mod services;
pub mod skeleton;
pub mod tree;

use sg_common::{
    limits::MAX_POLICY_RULES,
    policy::{AddrClass, CLASS_SIZES},
};
use thiserror::Error;

use crate::{
    effective::{Members, Origin, PolicyKey},
    model::{Instance, Model},
};
use live::Live;
use skeleton::Skeleton;

/// A policy that is too large for its tables.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// Too many rules.
    #[error(
        "{rules} {direction} rules apply to one interface, the tables hold {MAX_POLICY_RULES}: use fewer, or prefix and port lists"
    )]
    Rules {
        /// Rules of one direction, invisible ones included.
        rules: usize,
        /// `ingress` or `egress`.
        direction: &'static str,
    },
    /// Too many bytes.
    #[error("the tables of one interface need {bytes} bytes, the limit is {}: use fewer distinct ranges", CLASS_SIZES[2])]
    Size {
        /// Bytes needed.
        bytes: usize,
    },
    /// Too many classes.
    #[error("{classes} classes of {what}, the tables hold 65535: use fewer distinct ranges")]
    Classes {
        /// Classes needed.
        classes: usize,
        /// Of what.
        what: &'static str,
    },
}

/// The compiled tables of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The flat value.
    pub flat: Vec<u8>,
    /// Exact remote hosts, of the families that neither table nor list knows.
    pub hosts: Vec<(sg_common::addr::Addr, AddrClass)>,
    /// Prefixes: kind, address bytes, length; remote ones as the hosts.
    pub prefixes: Vec<(addresses::Prefix, AddrClass)>,
    /// Prefixes that may come later.
    pub room: usize,
    /// Shape of each direction.
    pub shape: [Shape; 2],
}

impl Tables {
    /// Size class of the flat value.
    pub fn size_class(&self) -> usize {
        CLASS_SIZES.iter().position(|&size| self.flat.len() <= size as usize).unwrap_or(CLASS_SIZES.len() - 1)
    }
}

/// Figures of one direction's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Remote address classes.
    pub remotes: usize,
    /// Service classes.
    pub services: usize,
    /// Whether bit-vectors replace the matrix.
    pub bitvec: bool,
}

/// Compiles one policy. `counter` gives the counter of an entry, by its
/// identity (see [`crate::effective::identity`]).
///
/// # Errors
/// [`CompileError`] when a table would pass its bound.
pub fn compile(
    model: &Model,
    instances: &[Instance],
    key: &PolicyKey,
    counter: impl FnMut(Origin) -> u32,
) -> Result<Tables, CompileError> {
    let (skeleton, sources) = Skeleton::new(model, key, counter)?;
    let members = Members::of_all(model, instances);
    Live::build(skeleton, &skeleton::sets(model, &members, &sources)).map(|live| live.tables)
}
