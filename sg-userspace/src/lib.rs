//! Security groups for Linux: model, compiler, data plane and control plane.
//!
//! # Layout
//! In the order of the flow, documents to kernel:
//! - [`model`]: the validated policy, pure
pub mod model;
