//! Security groups for Linux: model, compiler, data plane and control plane.
//!
//! # Layout
//! In the order of the flow, documents to kernel:
//! - [`model`]: the validated policy, pure
//! - [`dataplane`]: to the kernel
pub mod dataplane;
pub mod model;
