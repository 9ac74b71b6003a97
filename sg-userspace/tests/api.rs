//! The control API, by real clients: official SDKs call the daemon in a namespace,
//! and packets follow each step.

mod api {
    pub mod access;
    pub mod answers;
    pub mod audit;
    pub mod client;
    pub mod complete;
    pub mod console;
    pub mod dashboard;
    pub mod diagnose;
    pub mod doctor;
    pub mod drift;
    pub mod durable;
    pub mod errors;
    pub mod examples;
    pub mod filters;
    pub mod forms;
    pub mod full;
    pub mod history;
    pub mod hostile;
    pub mod lists;
    pub mod members;
    pub mod metrics;
    pub mod order;
    pub mod quotas;
    pub mod readme;
    pub mod sdk;
    pub mod settings;
    pub mod store;
    pub mod story;
    pub mod terminal;
    pub mod terraform;
    pub mod tls;
    pub mod walk;
    pub mod xml;
}
#[path = "namespaces/foreign.rs"]
#[allow(dead_code, reason = "shared with the tests of the data plane")]
mod foreign;
mod support;
#[path = "namespaces/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the data plane")]
mod world;
