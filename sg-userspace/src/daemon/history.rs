//! Generations that are kept: what was in force can be looked at, compared, and put
//! back, whole or one group's rules. Pure.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::documents::Step;
use crate::{
    api::facts::Facts,
    document::Document,
    validate::{Quotas, Valid},
};

/// Generations that are kept by themselves, at most.
pub const MOST: usize = 50;
/// Seconds after which they are let go.
pub const LIFE: u64 = 30 * 24 * 3600;
/// Seconds for which a generation was in force that is kept by itself; what follows
/// on a change within this time is one change with it.
pub const SETTLED: u64 = 300;
/// Generations that are kept because somebody asked for it, at most.
pub const MOST_NAMED: usize = 50;

/// What a list says of a kept generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub generation: u64,
    /// When it was kept, seconds since 1970, UTC.
    pub at: u64,
    /// Why, or what somebody calls it.
    pub comment: String,
    /// Whether somebody asked for it: such ones stay until they are deleted.
    pub named: bool,
    /// Security groups.
    pub groups: usize,
    /// Their rules.
    pub rules: usize,
    /// Interfaces, those elsewhere included.
    pub interfaces: usize,
}

/// A kept generation. Also what a backup is made of: neither has a secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What a list says of it.
    pub head: Head,
    /// All documents.
    pub documents: Vec<Document>,
    /// What is known beside them.
    pub facts: Facts,
}

impl Kept {
    /// A state as it is now.
    pub fn new(generation: u64, at: u64, comment: &str, named: bool, documents: &[Document], facts: &Facts) -> Self {
        let groups = || documents.iter().flat_map(|d| d.security_groups.iter());
        let head = Head {
            generation,
            at,
            comment: comment.into(),
            named,
            groups: groups().count(),
            rules: groups().map(|g| g.permissions.len()).sum(),
            interfaces: documents.iter().map(|d| d.network_interfaces.len()).sum(),
        };
        Self { head, documents: documents.to_vec(), facts: facts.clone() }
    }
}

/// Which generations are let go when there are these.
pub fn surplus(heads: &[Head], now: u64) -> Vec<u64> {
    let mut own: Vec<&Head> = heads.iter().filter(|h| !h.named).collect();
    own.sort_unstable_by_key(|h| std::cmp::Reverse((h.at, h.generation)));
    let old = |(i, h): &(usize, &Head)| *i >= MOST || h.at + LIFE < now;
    own.into_iter().enumerate().filter(old).map(|(_, h)| h.generation).collect()
}

/// Why the rules of a group cannot be put back.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GroupError {
    /// Not there.
    #[error("there is no security group {0:?} now; put the whole generation back, or make the group first")]
    Absent(String),
    /// Was not there.
    #[error("there was no security group {0:?} then")]
    Unknown(String),
    /// Of an older version, or of a backup that was edited.
    #[error("what was kept does not read any more: {0}")]
    Unreadable(String),
}

/// Documents and facts as they are, but one group's rules as they were: all of them, or
/// with `additive` those that it lacks now, put behind the ones it has.
///
/// # Errors
/// [`GroupError`].
pub fn with_rules_of(
    now: &Valid,
    facts: &Facts,
    kept: &Kept,
    group: &str,
    additive: bool,
) -> Result<(Vec<Document>, Facts), GroupError> {
    let then = Valid::of(kept.documents.clone(), &Quotas::UNBOUNDED, None);
    let then = then.map_err(|problems| GroupError::Unreadable(problems.to_string()))?;
    let find = |policy: &Valid| {
        let groups = &policy.names().groups;
        groups.with_id(group).or_else(|| groups.named(group))
    };
    let here = find(now).ok_or_else(|| GroupError::Absent(group.into()))?;
    let id = &now.names().groups.ids[here];
    let there = then.names().groups.with_id(id).or_else(|| find(&then));
    let there = there.ok_or_else(|| GroupError::Unknown(group.into()))?;
    let (document, place) = then.names().groups.places[there];
    let old = &then.documents()[document].security_groups[place].permissions;
    let mut documents = now.documents().to_vec();
    let (document, place) = now.names().groups.places[here];
    let rules = &mut documents[document].security_groups.edit(place).permissions;
    let mut facts = facts.clone();
    let known = kept.facts.rules.get(&then.names().groups.ids[there]).cloned().unwrap_or_default();
    if additive {
        // Rules of one id match the same, and have the same priority and policy.
        let has = &now.model().groups[here].rules;
        let lacks = then.model().groups[there].rules.iter().enumerate();
        for (i, _) in lacks.filter(|(_, rule)| has.iter().all(|h| h.id != rule.id)) {
            rules.push(old[i].clone());
        }
        let own = facts.rules.entry(id.clone()).or_default();
        for (key, fact) in known {
            own.entry(key).or_insert(fact);
        }
    } else {
        *rules = old.clone();
        facts.rules.insert(id.clone(), known);
    }
    Ok((documents, facts))
}

/// What is known otherwise of objects that are there before and after, as steps.
pub fn facts_that_change(old: &Facts, new: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, after) in &new.objects {
        let Some(before) = old.objects.get(id) else { continue };
        let words = [
            (before.protected != after.protected, "deletion protection"),
            (before.managed != after.managed, "managed"),
            (before.account != after.account, "account"),
            (before.description != after.description, "description"),
            (before.resource_group != after.resource_group, "resource group"),
            (before.tags != after.tags, "tags"),
        ];
        let words: Vec<&str> = words.into_iter().filter(|(changed, _)| *changed).map(|(_, word)| word).collect();
        if !words.is_empty() {
            let detail = words.join(", ");
            steps.push(Step { step: "change".into(), kind: "label".into(), name: id.clone(), detail });
        }
    }
    steps
}

/// First line of a backup.
pub const FORMAT: &str = "sg-backup-1";

/// A backup of a state: one line that says what it is, one of JSON.
///
/// # Errors
/// What cannot be written as JSON: a defect.
pub fn backup(kept: &Kept) -> serde_json::Result<Vec<u8>> {
    let mut text = format!("{FORMAT}\n").into_bytes();
    serde_json::to_writer(&mut text, kept)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a backup.
///
/// # Errors
/// What is wrong with it.
pub fn read_backup(text: &[u8]) -> Result<Kept, String> {
    let none = || "this is no backup; `sgctl backup FILE` makes one".to_owned();
    let end = text.iter().position(|b| *b == b'\n').ok_or_else(none)?;
    match std::str::from_utf8(&text[..end]) {
        Ok(FORMAT) => serde_json::from_slice(&text[end..]).map_err(|e| format!("the backup is damaged: {e}")),
        Ok(first) if first.starts_with("sg-backup-") => {
            Err(format!("the backup is of another format ({}), this daemon reads {FORMAT}", first.trim()))
        }
        _ => Err(none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Source, parse};

    fn policy(rules: &str) -> Valid {
        let text = format!(
            "security_groups: [{{security_group_name: a, permissions: [{rules}]}}, {{security_group_name: b}}]"
        );
        let document = parse(&[Source { name: "t".into(), bytes: text.into_bytes() }]).unwrap();
        Valid::of(vec![document], &Quotas::default(), None).unwrap()
    }

    fn rule(port: u16) -> String {
        format!("{{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 10.0.0.0/8}}")
    }

    fn ports(documents: &[Document]) -> Vec<&str> {
        documents[0].security_groups[0].permissions.iter().filter_map(|p| p.port_range.as_deref()).collect()
    }

    #[test]
    fn a_groups_rules_come_back_whole_or_as_an_addition() {
        let then = policy(&[rule(1), rule(2)].join(", "));
        let now = policy(&[rule(2), rule(3)].join(", "));
        let kept = Kept::new(1, 0, "", false, then.documents(), &Facts::default());
        let restored = |additive| with_rules_of(&now, &Facts::default(), &kept, "a", additive).unwrap().0;
        assert_eq!(ports(&restored(false)), ["1/1", "2/2"]);
        assert_eq!(ports(&restored(true)), ["2/2", "3/3", "1/1"]);
        let missing = with_rules_of(&now, &Facts::default(), &kept, "c", true).unwrap_err();
        assert_eq!(missing, GroupError::Absent("c".into()));
        assert_eq!((kept.head.groups, kept.head.rules, kept.head.interfaces), (2, 2, 0));
    }

    #[test]
    fn labels_that_come_back_are_told() {
        let fact = |protected| crate::api::facts::Fact { protected, ..Default::default() };
        let facts = |protected| {
            let mut facts = Facts::default();
            facts.objects.insert("sg-1".into(), fact(protected));
            facts
        };
        assert_eq!(facts_that_change(&facts(true), &facts(true)), []);
        assert_eq!(facts_that_change(&facts(true), &facts(false))[0].detail, "deletion protection");
    }

    #[test]
    fn the_oldest_and_the_surplus_go_but_what_has_a_name_stays() {
        let head = |generation: u64, at: u64, named: bool| Head {
            generation,
            at,
            comment: String::new(),
            named,
            groups: 0,
            rules: 0,
            interfaces: 0,
        };
        let now = 100 * 24 * 3600;
        let mut heads = vec![head(1, 5, true), head(2, now - LIFE - 1, false)];
        assert_eq!(surplus(&heads, now), [2]);
        heads.extend((0..MOST as u64).map(|i| head(10 + i, now - 1000 + i, false)));
        assert_eq!(surplus(&heads, now), [2]);
        heads.push(head(99, now, false));
        assert_eq!(surplus(&heads, now), [10, 2]);
    }

    #[test]
    fn a_backup_reads_as_what_it_was() {
        let state = policy(&rule(1));
        let kept = Kept::new(7, 1, "b", true, state.documents(), &Facts::default());
        let text = backup(&kept).unwrap();
        assert_eq!(read_backup(&text).unwrap(), kept);
        assert!(read_backup(b"sg-backup-9\n{}\n").unwrap_err().contains("another format"));
        assert!(read_backup(b"{}\n").unwrap_err().contains("no backup"));
        assert!(read_backup(b"\xff\n{}\n").unwrap_err().contains("no backup"));
        assert!(read_backup(&text[..40]).unwrap_err().contains("damaged"));
    }
}
