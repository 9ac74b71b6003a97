//! The control API: the ECS RPC protocol (2014-05-26), as the official SDKs speak it.
//!
//! # Layout
//! - [`http`]: requests in, responses out; [`tls`]: for others than this host; [`endpoint`]: requests to calls
//! - [`auth`], [`sign`], [`keys`]: who calls
//! - [`params`], [`error`], [`envelope`], [`page`]: the protocol's vocabulary; [`published`]: its whole list of codes
//! - [`call`]: one call, checked and done; [`actions`]: what can be called
//! - [`draft`], [`facts`]: documents and what is known beside them; [`rule`]: rules
//! - [`audit`]: who did what; [`refusals`]: who was not let; [`docs`]: `docs/api.md`

pub mod actions;
pub mod audit;
pub mod auth;
pub mod call;
pub mod docs;
pub mod draft;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod facts;
pub mod http;
pub mod keys;
pub mod page;
pub mod params;
pub mod published;
pub mod refusals;
pub mod rule;
pub mod sign;
pub mod sources;
pub mod tls;
