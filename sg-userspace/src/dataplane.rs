//! From tables to the kernel: load, write, attach, flip.
//!
//! # Layout
//! - [`sys`]: bpf(2) where aya has no call
//! - [`object`]: the kernel object and its maps; [`shapes`]: what each must be
//! - [`pins`]: where they live on; [`carry`]: from one set of maps to another
//! - [`filter`]: which flows may exist
//! - [`clock`]: ticks and CPUs
//! - [`machine`]: devices and addresses, as data
//! - [`policies`]: compiled tables to inner maps; [`counters`]: which rule counts where;
//!   [`comparing`]: whether they are still what was written
//! - [`attach`]: programs to devices; [`order`]: what stands before them there
//! - [`engine`]: makes the kernel agree with the model; [`report`]: what that did
//! - [`flows`]: live flows; [`judges`]: what a model says of them; [`cut`]: ended by hand; [`reset`]: and told so;
//!   [`quotas`]: how many may be confirmed, and how many are;
//!   [`adopt`]: those that were there before
//! - [`events`]: what the program tells
//! - [`probe`]: the program on packets of ours, attached to nothing; [`dry`]: the same over the
//!   tables in force

pub mod adopt;
pub mod attach;
pub mod carry;
pub mod clock;
pub mod comparing;
pub mod counters;
pub mod cut;
pub mod dry;
pub mod engine;
pub mod events;
pub mod filter;
pub mod flows;
pub mod judges;
pub mod machine;
pub mod object;
pub mod order;
pub mod pins;
pub mod policies;
pub mod probe;
pub mod quotas;
pub mod report;
pub mod reset;
pub mod shapes;
pub mod sys;
