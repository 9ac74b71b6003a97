//! The daemon `sgd`.
//!
//! # Layout
//! - [`config`]: what an administrator sets; [`capabilities`]: what it may do
//! - [`log`]: lines for journald; [`lines`]: files of JSON lines
//! - [`store`]: the last good state
//! - [`history`]: generations that are kept
//! - [`documents`]: whose object is whose, and what a change does; [`drift`]: what else changed them
//! - [`control`]: the one writer; [`views`]: what is in force, for listings
//! - [`headroom`]: how full everything is; [`seen`]: when packets were last seen
//! - [`pressure`]: room in the conntrack tables; [`mod@flows`]: live flows, found and counted
//! - [`stats`]: what rules have counted, over restarts of daemon and machine
//! - [`metrics`]: for Prometheus
//! - [`network`]: devices and addresses, watched
//! - [`flow_log`]: what flows carried, and what was denied
//! - [`watch`]: who watches packets; [`sampler`]: verdicts judged once more
//! - [`protocol`]: what is said over the socket; [`wait`]: who waits for devices
//! - [`suggest`]: the failsafe that a first start suggests
//! - [`server`]: the daemon itself; [`notify`]: word to the service manager

pub mod backups;
pub mod capabilities;
pub mod config;
pub mod control;
pub mod documents;
pub mod drift;
pub mod flow_log;
pub mod flows;
pub mod headroom;
pub mod history;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod network;
pub mod notify;
pub mod pressure;
pub mod protocol;
pub mod sampler;
pub mod seen;
pub mod server;
pub mod stats;
pub mod store;
pub mod suggest;
pub mod views;
pub mod wait;
pub mod watch;
