//! Security groups for Linux: model, compiler, data plane and control plane.
//!
//! # Layout
//! In the order of the flow, documents to kernel:
//! - [`document`]: the policy as written, with places
//! - [`validate`]: every problem at once, or a model
//! - [`model`]: the validated policy, pure
//! - [`dataplane`]: to the kernel
pub mod dataplane;
pub mod document;
pub mod model;
pub mod validate;
