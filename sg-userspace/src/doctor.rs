//! What this host lacks for the protection to work, and what to do about it: facts are
//! gathered first, then judged, and what judges them is pure.
//!
//! # Layout
//! - [`facts`]: what is looked at; [`gather`]: looks
//! - `host`: kernel, privileges, clock; `files`: configuration, disk, secrets
//! - `running`: the daemon, its devices, programs of others
//! - `ethtool`: what a card does to packets by itself

mod ethtool;
pub mod facts;
mod files;
pub mod gather;
mod host;
mod running;

use serde::{Deserialize, Serialize};

use facts::Facts;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be, or only to be known.
    Ok,
    /// It works, or was not looked at; better with what is to be done.
    Warn,
    /// It does not work like this.
    Fail,
}

impl State {
    /// As tables have it: what fails is to be seen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// A check, and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when it is nothing.
    pub advice: String,
}

impl Check {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, found: found.into(), advice: advice.into() }
    }

    fn fail(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(check, found, advice) }
    }

    /// Something that only root may look at.
    fn unseen(check: &str, what: &str) -> Self {
        Self::warn(check, format!("{what} may not be looked at"), "run it as root: `sudo sgctl doctor`")
    }
}

/// Judges everything, in the order in which it is needed.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = host::judge(facts);
    checks.extend(files::judge(facts));
    checks.extend(running::judge(facts));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_host_has_nothing_that_fails() {
        let checks = judge(&facts::good());
        // No daemon is only a warning: nothing may be set up yet.
        let not_ok: Vec<_> = checks.iter().filter(|c| c.state != State::Ok).map(|c| c.check.as_str()).collect();
        assert_eq!(not_ok, ["daemon"], "{checks:#?}");
        let bad = Facts { btf: false, ..facts::good() };
        assert_eq!(judge(&bad).iter().filter(|c| c.state == State::Fail).count(), 1);
        assert!(checks.iter().all(|c| c.state == State::Ok || !c.advice.is_empty()));
    }
}
