//! What several actions share: names, descriptions, tags, addresses.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value, json};

use crate::{
    api::{
        draft::Draft,
        error::{self, ApiError, Kind},
        params::Params,
    },
    document::{List, Tag, Text},
};

/// What an action answers beside its request id.
pub type Answer = Result<Map<String, Value>, ApiError>;

fn is_link(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A name: 2 to 128 characters, a letter first.
pub fn name(p: &Params, field: &str, kind: Kind) -> Result<Option<Text>, ApiError> {
    let Some(name) = p.get(field) else { return Ok(None) };
    let count = name.chars().count();
    let legal = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | ' ');
    let good = (2..=128).contains(&count)
        && name.chars().next().is_some_and(char::is_alphabetic)
        && name.chars().all(legal)
        && !is_link(name);
    if good { Ok(Some(Text::from(name))) } else { Err(kind.of(field)) }
}

/// A description: 2 to 256 characters, no link.
pub fn description(p: &Params, field: &str, kind: Kind) -> Result<Option<Text>, ApiError> {
    let Some(text) = p.get(field) else { return Ok(None) };
    let good = (2..=256).contains(&text.chars().count()) && !is_link(text);
    if good { Ok(Some(Text::from(text))) } else { Err(kind.of(field)) }
}

/// `Tag.N.Key` and `Tag.N.Value`, in any case.
pub fn tags(p: &Params) -> Result<BTreeMap<String, String>, ApiError> {
    let mut tags = BTreeMap::new();
    for (_, tag) in p.records("Tag").map_err(|_| error::TAG_KEY)? {
        let key = tag.get("Key").or_else(|| tag.get("key")).unwrap_or_default();
        let value = tag.get("Value").or_else(|| tag.get("value")).unwrap_or_default();
        let taken = ["aliyun", "acs:"].iter().any(|p| key.starts_with(p)) || is_link(key);
        if key.is_empty() || key.chars().count() > 128 || taken {
            return Err(error::TAG_KEY.into());
        }
        if value.chars().count() > 128 || is_link(value) {
            return Err(error::TAG_VALUE.into());
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(error::TAG_DUPLICATE.into());
        }
    }
    Ok(tags)
}

/// Whether a resource may have as many tags. A quota, so it is looked at last.
pub fn tag_quota(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() > 20 { Err(error::TAG_QUOTA.into()) } else { Ok(()) }
}

/// The resource group that a call names: a label of at most 128 characters.
pub fn resource_group(p: &Params) -> Result<Option<String>, ApiError> {
    let Some(label) = p.get("ResourceGroupId") else { return Ok(None) };
    let good = label.chars().count() <= 128 && !label.chars().any(char::is_control);
    if good { Ok(Some(label.to_owned())) } else { Err(error::RESOURCE_GROUP.into()) }
}

/// Tags as a document has them.
pub fn labels(tags: BTreeMap<String, String>) -> List<Tag> {
    let label = |(key, value): (String, String)| Tag {
        key: Some(Text::from(key.as_str())),
        value: Some(Text::from(value.as_str())),
        ..Tag::default()
    };
    tags.into_iter().map(label).collect()
}

/// Tags of a document as texts.
pub fn texts(tags: &List<Tag>) -> BTreeMap<String, String> {
    let text = |t: &Option<Text>| t.as_deref().unwrap_or_default().to_owned();
    tags.iter().map(|t| (text(&t.key), text(&t.value))).collect()
}

/// As listings of most objects show them.
pub fn show_tags(tags: &List<Tag>) -> Vec<Value> {
    texts(tags).into_iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect()
}

/// Whether all wanted tags are there; an empty value is any.
pub fn has_tags(tags: &List<Tag>, wanted: &BTreeMap<String, String>) -> bool {
    has_labels(&texts(tags), wanted)
}

/// The same of tags that are kept beside the documents.
pub fn has_labels(tags: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| tags.get(key).is_some_and(|v| value.is_empty() || v == value))
}

/// Whether a filter of the call lets something of this value pass.
pub fn is(p: &Params, filter: &str, value: &str) -> bool {
    p.get(filter).is_none_or(|wanted| wanted == value)
}

/// Whether a name is the one that is wanted, of which `*` is any text.
pub fn called(name: &str, wanted: &str) -> bool {
    let mut parts = wanted.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether the call only asks if it would be answered; said once all else is good.
pub fn dry_run(p: &Params) -> Result<(), ApiError> {
    let asked = p.get("DryRun").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if asked { Err(error::DRY_RUN.into()) } else { Ok(()) }
}

/// Ids that a call filters by: a hundred at most, as the documentation says.
pub fn ids<'p>(p: &'p Params, field: &str) -> Result<Vec<&'p str>, ApiError> {
    let ids = p.list(field).map_err(|name| error::UNREADABLE.of(&name))?;
    if ids.len() > 100 { Err(error::UNREADABLE.of(field)) } else { Ok(ids) }
}

/// Notes that an object has come, and whose it is.
pub fn own(draft: &mut Draft<'_>, id: &str) {
    let account = draft.account.filter(|a| *a != draft.here.account).map(str::to_owned);
    draft.fact_mut(id).account = account;
}

/// Addresses of an interface: declared, or those its device has.
pub fn addresses(draft: &Draft<'_>, interface: usize) -> Vec<IpAddr> {
    let declared = &draft.interface_at(interface).private_ip_addresses;
    if !declared.is_empty() {
        return declared.iter().filter_map(|t| t.parse().ok()).collect();
    }
    let instances = draft.resolved.instances.iter().filter(|i| i.interface == interface);
    instances.flat_map(|i| i.addresses.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_name_is_any_text() {
        for (name, wanted, is) in [
            ("web-1", "web-1", true),
            ("web-1", "web", false),
            ("web-1", "web*", true),
            ("web-1", "*-1", true),
            ("web-1", "w*b*1", true),
            ("web-1", "*b*", true),
            ("web-1", "*", true),
            ("web-1", "x*", false),
            ("web-1", "web-1*1", false),
            ("", "*", true),
        ] {
            assert_eq!(called(name, wanted), is, "{name} {wanted}");
        }
    }
}
