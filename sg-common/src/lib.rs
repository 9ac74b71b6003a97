//! The one vocabulary that the kernel program and the daemon share.
//!
//! Everything here is `no_std`, `repr(C)`, free of hidden padding, and laid
//! out in host byte order unless a field says otherwise. Sizes and offsets are
//! asserted at compile time beside each type: they are the ABI between a
//! pinned map and the next version of the daemon.
//!
//! # Layout
//! - [`limits`]: every bound
//! - [`addr`]: addresses, and what makes one public
//! - [`reason`]: why a packet passed or dropped
//! - [`flow`]: conntrack and fragment keys and entries
//! - [`filter`]: which flows may exist
//! - [`quota`]: who may hold how many confirmed flows, and who holds how many
//! - [`generation`]: what an interface enforces
//! - [`policy`]: the flat policy value and its tables
//! - [`event`]: what leaves through the ring buffer; [`watch`]: how much of it
//! - [`account`]: what a flow has carried; [`shadow`]: what a candidate decides otherwise
//! - [`maps`]: names of maps and programs
//! - [`mod@bench`]: what the benchmark's programs share with its driver
#![no_std]

pub mod account;
pub mod addr;
pub mod bench;
pub mod event;
pub mod filter;
pub mod flow;
pub mod generation;
pub mod limits;
pub mod maps;
pub mod policy;
pub mod quota;
pub mod reason;
pub mod shadow;
pub mod watch;

/// Version of every layout in this crate. Pinned maps of version 1 are carried over
/// into new ones; those of a newer version are refused, never reinterpreted. Any
/// change to a `repr(C)` type, to a reason's number or to a map's shape bumps it.
///
/// 2: flows know acknowledgement numbers, generations until when they observe, and
/// quotas have maps of their own.
pub const ABI_VERSION: u32 = 2;
