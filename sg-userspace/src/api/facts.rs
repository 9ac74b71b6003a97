//! What the control plane knows of objects beside what a document can say: when
//! they came, whose they are, which id a rule has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fact {
    /// Seconds since 1970, UTC.
    pub created: u64,
    /// Account; the default one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Only the administrator changes it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed: bool,
    /// It is not deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// Free text of objects whose document has no place for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Label of objects whose document has no place for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// Labels of objects whose document has no place for them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFact {
    /// `sgr-…`.
    pub id: String,
    /// Seconds since 1970, UTC.
    pub created: u64,
}

/// What a call with a ClientToken was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Hash of its parameters.
    pub parameters: String,
    /// HTTP status.
    pub status: u16,
    /// The answer.
    pub body: Value,
    /// Seconds since 1970, UTC.
    pub at: u64,
}

/// All of it. Rules are found by the id of their group and what they match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// By object id.
    pub objects: BTreeMap<String, Fact>,
    /// By group id and [`super::rule::key`].
    pub rules: BTreeMap<String, BTreeMap<String, RuleFact>>,
}

/// What a repeated call is answered by. Kept beside [`Facts`], as it changes with
/// every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// Changing calls, by account, action and token.
    pub tokens: BTreeMap<String, Answered>,
    /// Nonces of changing calls, by key; when they were used, seconds since 1970.
    pub nonces: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Seconds for which a ClientToken is remembered.
pub const TOKEN_LIFE: u64 = 24 * 3600;
/// Answers remembered of one account.
pub const MAX_TOKENS: usize = 10_000;

impl Replay {
    /// Forgets what is too old to count.
    pub fn expire(&mut self, now: u64) {
        self.tokens.retain(|_, t| t.at + TOKEN_LIFE > now);
        while self.tokens.len() > MAX_TOKENS {
            let oldest = self.tokens.iter().min_by_key(|(_, t)| t.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.tokens.remove(&key));
        }
        for nonces in self.nonces.values_mut() {
            nonces.retain(|_, at| *at + 2 * super::auth::WINDOW > now);
        }
        self.nonces.retain(|_, nonces| !nonces.is_empty());
    }
}
