//! From tables to the kernel: load, write, attach, flip.
//!
//! # Layout
//! - [`sys`]: bpf(2) where aya has no call
//! - [`object`]: the kernel object and its maps
//! - [`clock`]: ticks and CPUs
//! - [`policies`]: compiled tables to inner maps
//! - [`probe`]: the program on packets of ours, attached to nothing

pub mod clock;
pub mod object;
pub mod policies;
pub mod probe;
pub mod sys;
