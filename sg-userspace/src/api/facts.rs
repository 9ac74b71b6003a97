//! What the control plane knows of objects beside what a document can say: when
//! they came, whose they are, which id a rule has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rule;
use crate::{document::Group, validate::Valid};

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
    /// It is the default group of its VPC.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
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

/// All of it; a copy shares what is the same. Rules are found by the id of their group and what they match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// By object id.
    pub objects: OrdMap<String, Fact>,
    /// By group id and [`super::rule::key`].
    pub rules: OrdMap<String, OrdMap<String, RuleFact>>,
}

impl Facts {
    /// Forgets rules that are gone; what is kept of older generations has its own. Without
    /// `old` every group is looked at, else those that are not as they were.
    pub fn forget_rules(&mut self, old: Option<&Valid>, new: &Valid) {
        let group = |policy: &Valid, id: &str| {
            let (document, i) = policy.names().groups.places[policy.names().groups.with_id(id)?];
            policy.documents()[document].security_groups.shared().get(i).cloned()
        };
        // What a rule names may be called otherwise, too.
        let alike = |old: &&Valid| {
            let (a, b) = (old.names(), new.names());
            Arc::ptr_eq(&a.groups, &b.groups)
                && Arc::ptr_eq(&a.prefix_lists, &b.prefix_lists)
                && Arc::ptr_eq(&a.port_lists, &b.port_lists)
        };
        let old = old.filter(alike);
        let mut gone: Vec<(String, Vec<String>)> = Vec::new();
        for (id, known) in &self.rules {
            let now = group(new, id);
            let as_it_was = |now: &Arc<Group>| old.and_then(|o| group(o, id)).is_some_and(|o| Arc::ptr_eq(&o, now));
            if now.as_ref().is_some_and(as_it_was) {
                continue;
            }
            let standing: BTreeSet<String> =
                now.iter().flat_map(|g| g.permissions.iter()).map(|r| rule::key(new.names(), r)).collect();
            gone.push((id.clone(), known.keys().filter(|key| !standing.contains(*key)).cloned().collect()));
        }
        for (id, keys) in gone {
            if let Some(known) = self.rules.get_mut(&id).filter(|_| !keys.is_empty()) {
                keys.iter().for_each(|key| drop(known.remove(key)));
            }
            if self.rules.get(&id).is_some_and(OrdMap::is_empty) {
                self.rules.remove(&id);
            }
        }
    }
}

/// What a repeated call is answered by. Kept beside [`Facts`], as it changes with
/// every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// Changing calls, by account, action and token.
    pub tokens: OrdMap<String, Answered>,
    /// Nonces of changing calls, by key; when they were used, seconds since 1970.
    pub nonces: OrdMap<String, OrdMap<String, u64>>,
}

/// Seconds for which a ClientToken is remembered.
pub const TOKEN_LIFE: u64 = 24 * 3600;
/// Answers remembered of one account.
pub const MAX_TOKENS: usize = 10_000;

impl Replay {
    /// Forgets what is too old to count.
    pub fn expire(&mut self, now: u64) {
        let mut left: BTreeMap<&str, Vec<(u64, String)>> = BTreeMap::new();
        let mut old = Vec::new();
        for (key, answered) in &self.tokens {
            if answered.at + TOKEN_LIFE > now {
                let account = key.split_once(' ').map_or("", |(account, _)| account);
                left.entry(account).or_default().push((answered.at, key.clone()));
            } else {
                old.push(key.clone());
            }
        }
        for mut left in left.into_values() {
            left.sort_unstable();
            let more = left.len().saturating_sub(MAX_TOKENS);
            old.extend(left.drain(..more).map(|(_, key)| key));
        }
        for key in &old {
            self.tokens.remove(key);
        }
        let keys: Vec<String> = self.nonces.keys().cloned().collect();
        for key in keys {
            let Some(nonces) = self.nonces.get_mut(&key) else { continue };
            let gone = |at: &u64| *at + 2 * super::auth::WINDOW <= now;
            let old: Vec<String> = nonces.iter().filter(|(_, at)| gone(at)).map(|(nonce, _)| nonce.clone()).collect();
            for nonce in &old {
                nonces.remove(nonce);
            }
            if nonces.is_empty() {
                self.nonces.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_account_asks_pushes_out_nothing_of_anothers() {
        let mut replay = Replay::default();
        let answered = |at| Answered { parameters: String::new(), status: 200, body: Value::Null, at };
        replay.tokens.insert("1 CreateSecurityGroup mine".into(), answered(1));
        for i in 0..MAX_TOKENS as u64 + 5 {
            replay.tokens.insert(format!("2 CreateSecurityGroup {i}"), answered(2 + i));
        }
        replay.expire(100);
        assert_eq!(replay.tokens.len(), MAX_TOKENS + 1);
        assert!(replay.tokens.contains_key("1 CreateSecurityGroup mine"));
        assert!(!replay.tokens.contains_key("2 CreateSecurityGroup 4"));
        replay.expire(TOKEN_LIFE + 1);
        assert!(!replay.tokens.contains_key("1 CreateSecurityGroup mine"));
    }
}
