//! The daemon `sgd`.
//!
//! # Layout
//! - [`config`]: what an administrator sets; [`capabilities`]: what it may do
//! - [`log`]: lines for journald
//! - [`store`]: the last good state
//! - [`history`]: generations that are kept
//! - [`documents`]: whose object is whose, and what a change does
//! - [`control`]: the one writer; [`views`]: what is in force, for listings
//! - [`pressure`]: room in the conntrack tables
//! - [`metrics`]: for Prometheus
//! - [`network`]: devices and addresses, watched
//! - [`protocol`]: what is said over the socket; [`wait`]: who waits for devices
//! - [`suggest`]: the failsafe that a first start suggests
//! - [`server`]: the daemon itself; [`notify`]: word to the service manager

pub mod capabilities;
pub mod config;
pub mod control;
pub mod documents;
pub mod history;
pub mod log;
pub mod metrics;
pub mod network;
pub mod notify;
pub mod pressure;
pub mod protocol;
pub mod server;
pub mod store;
pub mod suggest;
pub mod views;
pub mod wait;
