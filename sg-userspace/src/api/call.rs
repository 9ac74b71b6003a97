//! One call: checked in one order, done on a draft. Authentication and common
//! parameters come before it; here are region, syntax, existence and ownership,
//! state, quota.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    actions,
    draft::Draft,
    envelope,
    error::{self, ApiError, Kind},
    params::Params,
    sign,
};
use crate::document::problem::{Limit, Problem, Problems};

/// A call of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Its name.
    #[serde(rename = "name")]
    pub action: String,
    /// Its own parameters.
    pub parameters: Params,
    /// Only says whether it would be good, and changes nothing.
    pub dry: bool,
    /// The account that the administrator makes something for: what it is called in that
    /// account, and no other's, can be named. Of signed calls none: they have their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whose it is; the administrator's when absent.
    #[serde(skip)]
    pub account: Option<String>,
    /// The key that signed it, and its nonce.
    #[serde(skip)]
    pub signed: Option<(String, String)>,
}

impl Call {
    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        !self.dry && self.find().is_some_and(|a| a.writes)
    }

    fn find(&self) -> Option<&'static actions::Action> {
        match self.account {
            Some(_) => actions::find(&self.action),
            None => actions::find_as_administrator(&self.action),
        }
    }

    /// What its answer is remembered by, if it asks for that.
    pub fn token(&self) -> Option<String> {
        let token = self.parameters.get("ClientToken").filter(|_| self.writes())?;
        Some(format!("{} {} {token}", self.account.as_deref().unwrap_or("-"), self.action))
    }

    /// What makes it the same call as another with its token.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<String> =
            self.parameters.0.iter().map(|(k, v)| format!("{}={}", sign::encode(k), sign::encode(v))).collect();
        sign::sha256(pairs.join("&").as_bytes())
    }
}

/// Whether a text can be an account.
pub fn is_account(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit())
}

fn check_region(draft: &Draft<'_>, p: &Params, needed: bool, missing: Kind) -> Result<(), ApiError> {
    match p.get("RegionId") {
        None if needed && draft.account.is_some() => Err(missing.into()),
        None => Ok(()),
        Some(region) => {
            let legal =
                region.len() <= 64 && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            let known = !draft.here.strict_region || region == draft.here.region;
            if legal && known { Ok(()) } else { Err(error::REGION.into()) }
        }
    }
}

/// Does a call on a draft.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn perform<'a>(draft: &mut Draft<'a>, call: &'a Call) -> Result<Map<String, Value>, ApiError> {
    let action = call.find().ok_or(error::NO_ACTION)?;
    let p = &call.parameters;
    if p.get("ClientToken").is_some_and(|t| t.len() > 64 || !t.is_ascii()) {
        return Err(error::TOKEN.into());
    }
    // One action has a misspelt code of its own.
    let policy = action.name == "ModifySecurityGroupPolicy";
    let missing = if policy { error::REGION_MISSING_POLICY } else { error::REGION_MISSING };
    check_region(draft, p, action.region, missing)?;
    if let Some(owner) = call.owner.as_deref().filter(|_| draft.account.is_none()) {
        if !is_account(owner) {
            return Err(error::UNREADABLE.of("account").and("An account is 16 digits."));
        }
        draft.account = Some(owner);
    }
    (action.run)(draft, p)
}

/// What the whole policy's problems mean to a caller: the quotas are checked there.
pub fn refusal(action: &str, problems: &Problems) -> ApiError {
    let joins = matches!(action, "JoinSecurityGroup" | "ModifyInstanceAttribute");
    let interface = matches!(action, "ModifyNetworkInterfaceAttribute" | "CreateNetworkInterface");
    let limit_of = |p: &Problem| p.over.as_ref().map(|o| o.limit);
    let limit = problems.0.iter().find_map(limit_of);
    let kind = match limit {
        Some(Limit::RulesPerInterface) if joins || interface => error::JOIN_RULES,
        Some(Limit::RulesPerInterface) if action.starts_with("ModifySecurityGroup") => error::RULES_QUOTA_MODIFY,
        Some(Limit::RulesPerInterface) => error::RULES_QUOTA,
        Some(Limit::GroupRules(_)) => error::GROUP_RULES_QUOTA,
        Some(Limit::Addresses) if interface => error::INTERFACE_ADDRESSES,
        Some(Limit::Addresses) => error::JOIN_ADDRESSES,
        Some(Limit::Interfaces) if interface => error::INTERFACE_COUNT,
        Some(Limit::Interfaces) => error::JOIN_INTERFACES,
        Some(Limit::GroupsPerInterface) => error::GROUPS_OF_INTERFACE,
        Some(Limit::ListGroups) => error::LIST_ASSOCIATIONS,
        Some(Limit::PrefixEntries) => error::LIST_ENTRIES,
        Some(Limit::PrefixSize(_)) => error::LIST_MAX_ENTRIES,
        Some(Limit::PortEntries) => error::PORT_LIST_ENTRIES,
        Some(Limit::PortSize(_)) => error::PORT_LIST_MAX_ENTRIES,
        None => error::UNREADABLE,
    };
    let about = match limit {
        Some(Limit::GroupRules(most) | Limit::PrefixSize(most) | Limit::PortSize(most)) => most.to_string(),
        _ => String::new(),
    };
    let first = problems.0.iter().find(|p| limit.is_none() || limit_of(p) == limit);
    first.map_or_else(|| kind.into(), |first| kind.of(&about).and(&format!("({})", first.message)))
}

/// An answer: its status and body.
pub fn answer(result: &Result<Map<String, Value>, ApiError>, host: &str) -> (u16, Value) {
    let id = envelope::request_id();
    match result {
        Ok(body) => (200, envelope::success(&id, body.clone())),
        Err(e) => (e.status, envelope::refusal(&id, host, e)),
    }
}
