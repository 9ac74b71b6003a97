//! Real sockets over veth pairs, in namespaces of their own: both families,
//! both sides, both hooks. That a packet was dropped is read from the kernel's
//! counters, never from silence alone.

mod namespaces {
    pub mod foreign;
    pub mod world;

    pub mod adoption;
    pub mod boot;
    pub mod change;
    pub mod daemon;
    pub mod failsafe;
    pub mod flow_log;
    pub mod flows;
    pub mod groups;
    pub mod kernel;
    pub mod migrate;
    pub mod neighbours;
    pub mod pressure;
    pub mod refusals;
    pub mod replay;
    pub mod reset;
    pub mod room;
    pub mod rules;
    pub mod samples;
    pub mod shadow;
    pub mod starved;
    pub mod stats;
    pub mod storm;
    pub mod survival;
    pub mod tables;
    pub mod trial;
    pub mod watch;
    pub mod wire;
    pub mod witness;
}
mod support;
