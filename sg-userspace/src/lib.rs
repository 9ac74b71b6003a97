//! Security groups for Linux: model, compiler, data plane and control plane.
//!
//! # Layout
//! In the order of the flow, documents to kernel:
//! - [`document`]: the policy as written, with places
//! - [`validate`]: every problem at once, or a model
//! - [`model`]: the validated policy, pure
//! - [`failsafe`]: what the administrator reaches whatever rules say
//! - [`effective`]: the merged view of an interface
//! - [`mod@reference`]: the evaluator of record
//! - [`compiler`]: merged view to tables
//! - [`mod@lint`]: what is unwise or needless in a policy
//! - [`witness`]: the packets that a change decides otherwise
//! - [`explain`]: which rule decides a flow; [`packet`]: the packet to ask with
//! - [`dataplane`]: to the kernel
//! - [`doctor`]: what this host lacks
//! - [`replay`]: a capture through the kernel program, under two policies
//! - [`api`]: the control API, as the official SDKs speak it
//! - [`daemon`], [`ctl`]: the two programs
//! - `fuzzing`: what holds whatever the bytes are, with the feature of that name
//! - [`processes`]: whose connection is whose
//! - [`testbed`]: namespaces and traffic for demo and tests
pub mod api;
pub mod compiler;
pub mod ctl;
pub mod daemon;
pub mod dataplane;
pub mod diagnose;
pub mod doctor;
pub mod document;
pub mod effective;
pub mod explain;
pub mod failsafe;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod lint;
pub mod model;
pub mod packet;
pub mod processes;
pub mod reference;
pub mod replay;
pub mod testbed;
pub mod validate;
pub mod witness;
