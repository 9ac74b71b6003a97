//! Rules of a file: each that can be is put into a group, of each it is said what became of
//! it. Only considered (`dry`), it is the preview: the same work, of which nothing is kept.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    common::Answer,
    rules::{cost, counts_as, grows_within, of, stands},
};
use crate::{
    api::{
        call,
        draft::Draft,
        error::{self, ApiError},
        params::Params,
        rule::{self, Form, key},
    },
    document::Permission,
    model::Direction,
};

/// What becomes of a rule.
#[derive(Clone)]
enum Fate {
    Put,
    /// One that matches the same, however it is written.
    There,
    Refused(ApiError),
}

/// A rule that could be put in: its place in the call, what makes it the same as another.
struct Wanted {
    at: usize,
    key: String,
    rule: Permission,
    direction: Direction,
}

/// Reads a rule as a call of this one alone would.
fn read(draft: &Draft<'_>, record: &Params, group: usize) -> Result<(String, Permission, Direction), ApiError> {
    let direction = match record.get("Direction") {
        Some("ingress") => Direction::Inbound,
        Some("egress") => Direction::Outbound,
        _ => return Err(error::DIRECTION.into()),
    };
    let form = Form::Listed(1);
    rule::two_sides(&rule::syntax(record, form, direction)?)?;
    let rule = rule::read(draft, record, form, direction, group)?;
    Ok((key(draft.names, &rule), rule, direction))
}

/// A message about one rule, of which the caller knows which one it is.
fn of_one(e: ApiError) -> ApiError {
    ApiError { message: e.message.replace("Permissions.1.", "").replace("Permissions.1", "the rule"), ..e }
}

/// Puts all of these in, or none.
fn put(draft: &mut Draft<'_>, group: usize, wanted: &[Wanted]) -> Result<(), ApiError> {
    let (before, as_it_was) = (cost(draft, group), draft.group_at(group).clone());
    for one in wanted {
        draft.group_mut(group).permissions.push(one.rule.clone());
    }
    // The quotas of interfaces, and whatever else is a matter of the whole.
    let whole = |draft: &Draft<'_>| {
        let judged = draft.policy.follow(draft.documents.to_vec(), &draft.here.quotas);
        judged.map(drop).map_err(|problems| call::refusal("AuthorizeSecurityGroup", &problems))
    };
    if let Err(e) = grows_within(draft, group, before, error::RULES_QUOTA).and_then(|()| whole(draft)) {
        *draft.group_mut(group) = as_it_was;
        return Err(e);
    }
    wanted.iter().for_each(|one| stands(draft, group, one.key.clone()));
    Ok(())
}

/// What the smallest rule counted as that the quota of rules refused, and what it said; by direction.
type Full = [Option<(usize, ApiError)>; 2];

/// Puts in what can be, each on top of those before it. Rules that are too much are found by
/// halves: mostly there are none, and the whole is judged once. Where the quota has refused
/// one, those that count as much are refused with it, without judging the whole for each.
fn place(draft: &mut Draft<'_>, group: usize, wanted: &[Wanted], full: &mut Full, fates: &mut [Fate]) {
    let [one] = wanted else {
        if full.iter().all(Option::is_none) && put(draft, group, wanted).is_ok() {
            wanted.iter().for_each(|one| fates[one.at] = Fate::Put);
            return;
        }
        let (first, second) = wanted.split_at(wanted.len() / 2);
        place(draft, group, first, full, fates);
        place(draft, group, second, full, fates);
        return;
    };
    let (size, full) = (counts_as(draft, &one.rule), &mut full[one.direction as usize]);
    fates[one.at] = match full {
        Some((least, e)) if size >= *least => Fate::Refused(e.clone()),
        _ => match put(draft, group, wanted) {
            Ok(()) => Fate::Put,
            Err(e) => {
                if e.code == error::RULES_QUOTA.code {
                    *full = Some((size, e.clone()));
                }
                Fate::Refused(e)
            }
        },
    };
}

/// `Rule.N`: a direction, and the fields of a permission.
pub fn import(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let records = p.records("Rule").map_err(|name| error::UNREADABLE.of(&name))?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let mut known: BTreeMap<String, Option<usize>> = of(draft, group).into_iter().map(|r| (r.key, None)).collect();
    let (mut fates, mut wanted, mut twice) = (vec![Fate::There; records.len()], Vec::new(), Vec::new());
    for (at, (_, record)) in records.iter().enumerate() {
        match read(draft, record, group) {
            Err(e) => fates[at] = Fate::Refused(of_one(e)),
            Ok((key, rule, direction)) => match known.get(&key) {
                Some(Some(first)) => twice.push((at, *first)),
                Some(None) => {}
                None => {
                    known.insert(key.clone(), Some(at));
                    wanted.push(Wanted { at, key, rule, direction });
                }
            },
        }
    }
    if !wanted.is_empty() {
        place(draft, group, &wanted, &mut Full::default(), &mut fates);
    }
    for (at, first) in twice {
        // It is there if the first of them is, and else refused like that.
        if let refused @ Fate::Refused(_) = &fates[first] {
            fates[at] = refused.clone();
        }
    }
    let one = |((n, _), fate): (&(usize, Params), &Fate)| match fate {
        Fate::Put => json!({"Rule": n, "Result": "Put"}),
        Fate::There => json!({"Rule": n, "Result": "There"}),
        Fate::Refused(e) => json!({"Rule": n, "Result": "Refused", "Code": e.code, "Message": e.message}),
    };
    let rules: Vec<Value> = records.iter().zip(&fates).map(one).collect();
    Ok(Map::from_iter([("Rules".to_owned(), rules.into())]))
}
