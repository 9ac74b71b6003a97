//! The daemon `sgd`.
//!
//! # Layout
//! - [`config`]: what an administrator sets

pub mod config;
