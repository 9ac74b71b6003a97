//! Rules that travel: clones, and files that are written and read.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{created, hint_of_enterprise, listed, permission, tables::remote, whole};
use crate::ctl::{
    Ended,
    args::Arguments,
    call::{Refusal, call, items, text},
    output::{self, made},
    rules_file::{self, Format, Region},
};

/// Priorities above what a rule can have become the lowest that one has. How many were.
fn lowered<'a>(rules: impl Iterator<Item = &'a mut Value>) -> usize {
    let high = rules.filter(|r| rules_file::priority(r).is_some_and(|p| p > 100));
    high.map(|r| r["Priority"] = 100.into()).count()
}

/// What is said of priorities that became others.
fn lowered_note(count: usize) -> String {
    if count > 0 { format!("; {count} priorities above 100 became 100") } else { String::new() }
}

/// What is said of a copy.
pub struct Copy<'a> {
    /// Its name.
    pub name: &'a str,
    /// VPC it is in.
    pub vpc: Option<&'a str>,
    /// What it is, when made of a file.
    pub kind: Option<&'a str>,
    /// With the rules.
    pub rules: bool,
    /// With the tags.
    pub tags: bool,
}

/// Makes a copy of a group, or of a file.
pub fn clone(arguments: &Arguments, source: &str, copy: &Copy<'_>) -> Result<Ended> {
    let Copy { name, vpc, kind, rules, tags } = *copy;
    if Path::new(source).is_file() {
        ensure!(!tags, "a file of rules has no tags: leave --tags out; nothing was made");
        return clone_file(arguments, Path::new(source), copy);
    }
    ensure!(
        kind.is_none(),
        "a copy of a group is of its type, or it would not let the same through: leave --type out, \
         or clone a file of its rules (`sgctl group export`); nothing was made"
    );
    let (mut found, group) = whole(arguments, source)?;
    let id = text(&group, "SecurityGroupId");
    let listed = listed(arguments, json!({"SecurityGroupId": id}))?.first().cloned().unwrap_or_default();
    let mut ask = json!({"SecurityGroupName": name, "SecurityGroupType": listed["SecurityGroupType"]});
    ask["VpcId"] = vpc.map_or_else(|| listed["VpcId"].clone(), Value::from);
    if !text(&group, "Description").is_empty() {
        ask["Description"] = group["Description"].clone();
    }
    if tags {
        let of = listed["Tags"]["Tag"].as_array().cloned().unwrap_or_default();
        ask["Tag"] = of.iter().map(|t| json!({"Key": t["TagKey"], "Value": t["TagValue"]})).collect();
    }
    if !text(&listed, "ResourceGroupId").is_empty() {
        ask["ResourceGroupId"] = listed["ResourceGroupId"].clone();
    }
    if !rules {
        found.clear();
    }
    let note = lowered_note(lowered(found.iter_mut()));
    let mut new = created(arguments, None, &ask, &found)?;
    // A group is made open to its own members: a copy of one that is not must not be.
    if group["InnerAccessPolicy"] == "Drop" && listed["SecurityGroupType"] != "enterprise" {
        let id = new["SecurityGroupId"].clone();
        let close = json!({"SecurityGroupId": id, "InnerAccessPolicy": "Drop"});
        match call(arguments, "ModifySecurityGroupPolicy", &close, false) {
            Ok(done) => new["Generation"] = done["Generation"].clone(),
            Err(e) => {
                call(arguments, "DeleteSecurityGroup", &json!({"SecurityGroupId": id}), false)?;
                return Err(e.context("no group was made"));
            }
        }
    }
    let line = format!("{} made with {} rules{note}", text(&new, "SecurityGroupId"), found.len());
    made(arguments.output, &new, &line)
}

/// A new group with the rules of an exported file, as many of them as can be.
fn clone_file(arguments: &Arguments, file: &Path, copy: &Copy<'_>) -> Result<Ended> {
    let Copy { name, vpc, kind, rules, .. } = *copy;
    let mut items = rules_file::read(file)?;
    if !rules {
        items.clear();
    }
    // The system's had priorities that no rule has any more.
    let readable = items.iter_mut().filter(|i| i.problem.is_none());
    let note = lowered_note(lowered(readable.map(|i| &mut i.rule)));
    let ask = json!({"SecurityGroupName": name, "SecurityGroupType": kind, "VpcId": vpc});
    let group = call(arguments, "CreateSecurityGroup", &ask, false)?;
    let id = text(&group, "SecurityGroupId").to_owned();
    let placed = match place(arguments, &id, items, usize::MAX, false) {
        Ok(placed) => placed,
        Err(e) => {
            call(arguments, "DeleteSecurityGroup", &json!({"SecurityGroupId": id}), false)?;
            return Err(e.context("no group was made"));
        }
    };
    let skipped: Vec<&Placed> = placed.iter().filter(|p| p.refused.is_some()).collect();
    let good = placed.len() - skipped.len();
    let mut value = json!({"SecurityGroupId": id});
    let mut line = format!("{id} made with {good} rules{note}");
    if !skipped.is_empty() {
        let one = |p: &&Placed| json!({"Line": p.line, "Reason": p.refused});
        value["Skipped"] = skipped.iter().map(one).collect();
        line = format!("{}\n{line}, without {}", placed_table(&skipped, ""), skipped.len());
    }
    made(arguments.output, &value, &line)?;
    let put = placed.iter().filter(|p| p.refused.is_none()).map(|p| &p.rule);
    hint_of_enterprise(kind, name, put)?;
    Ok(if skipped.is_empty() { Ended::Done } else { Ended::Refused })
}

/// Writes a group's rules to a file, or to standard output.
pub fn export(arguments: &Arguments, group: &str, format: Format, dir: Option<&Path>) -> Result<Ended> {
    let (rules, whole) = whole(arguments, group)?;
    let bytes = rules_file::write(&rules, format)?;
    let Some(dir) = dir else {
        let text = String::from_utf8(bytes).context("the file is no text")?;
        return output::text(arguments.output, &text, || {
            Ok(match format {
                Format::Json => serde_json::from_str(&text)?,
                Format::Csv => json!({"Csv": text}),
            })
        });
    };
    let day = &crate::api::draft::time(crate::api::auth::now())[..10];
    let name = rules_file::name(text(&whole, "RegionId"), text(&whole, "SecurityGroupId"), format, day);
    let path = dir.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    let line = format!("{} rules written to {}", rules.len(), path.display());
    made(arguments.output, &json!({"File": path, "Rules": rules.len()}), &line)
}

/// What became of a rule of a file.
struct Placed {
    line: usize,
    rule: Value,
    /// Why it was not put in.
    refused: Option<String>,
    /// One that matches the same was there.
    there: bool,
}

/// Rules of one call: as many as the audit log has room for. What would become of rules is
/// asked in one call, as each counts for those after it.
const PART: usize = 100;

/// What becomes of rules, in their order: put in, there already, or why not.
fn fates(arguments: &Arguments, group: &str, rules: &[&Value], preview: bool) -> Result<Vec<Value>> {
    let of = |r: &&Value| {
        let mut fields = permission(r);
        fields["Direction"] = r["Direction"].clone();
        fields
    };
    let mut fates = Vec::new();
    for part in rules.chunks(if preview { rules.len().max(1) } else { PART }) {
        let ask = json!({"SecurityGroupId": group, "Rule": part.iter().map(of).collect::<Vec<_>>()});
        match call(arguments, "sg:ImportRules", &ask, preview) {
            Ok(done) => fates.extend(items(&done["Rules"])),
            // One of them is to blame: it is found out by putting each in alone.
            Err(e) if e.downcast_ref::<Refusal>().is_some_and(|r| r.code == "InternalError") => match part {
                [_] => fates.push(json!({"Result": "Refused", "Reason": e.to_string()})),
                _ => {
                    for one in part {
                        fates.extend(self::fates(arguments, group, std::slice::from_ref(one), preview)?);
                    }
                }
            },
            Err(e) if fates.is_empty() => return Err(e),
            // What was put in before is, and is told.
            Err(e) => {
                let refused = json!({"Result": "Refused", "Reason": format!("{e:#}")});
                fates.resize(rules.len(), refused);
                break;
            }
        }
    }
    Ok(fates)
}

/// Puts the rules of a file into a group, those that can be; `most` of them.
fn place(
    arguments: &Arguments,
    group: &str,
    items: Vec<rules_file::Item>,
    most: usize,
    preview: bool,
) -> Result<Vec<Placed>> {
    let (_, whole) = whole(arguments, group)?;
    let (id, region) = (text(&whole, "SecurityGroupId"), text(&whole, "RegionId"));
    let mut placed = Vec::new();
    for (n, rules_file::Item { line, rule, problem, region: from }) in items.into_iter().enumerate() {
        let elsewhere = from.as_ref().map(|r| r.id.as_str()).filter(|r| *r != region);
        let objects = ["SourceGroupId", "DestGroupId", "SourcePrefixListId", "DestPrefixListId", "PortRangeListId"];
        let refused = if problem.is_some() {
            problem
        } else if n >= most {
            Some(format!("more than {most} rules are not imported at once"))
        } else if rules_file::priority(&rule).is_none_or(|p| !(1..=100).contains(&p)) {
            Some("skipped: its priority is not from 1 to 100".into())
        } else if let (Some(from), true) = (elsewhere, objects.iter().any(|o| !text(&rule, o).is_empty())) {
            Some(format!("it names an object of region {from}"))
        } else {
            None
        };
        placed.push(Placed { line, rule, refused, there: false });
    }
    let good: Vec<&Value> = placed.iter().filter(|p| p.refused.is_none()).map(|p| &p.rule).collect();
    let fates = fates(arguments, id, &good, preview)?;
    for (one, fate) in placed.iter_mut().filter(|p| p.refused.is_none()).zip(fates) {
        one.there = fate["Result"] == "There";
        one.refused = match text(&fate, "Result") {
            "Put" => None,
            "There" => Some("it is there already".into()),
            _ if !fate["Reason"].is_null() => Some(text(&fate, "Reason").to_owned()),
            _ => Some(format!("{} ({})", text(&fate, "Message").trim(), text(&fate, "Code"))),
        };
    }
    Ok(placed)
}

fn placed_table(placed: &[&Placed], done: &str) -> comfy_table::Table {
    let mut table = output::table(&["line", "direction", "policy", "prio", "protocol", "ports", "remote", "result"]);
    for Placed { line, rule, refused, .. } in placed {
        table.add_row([
            line.to_string(),
            text(rule, "Direction").to_owned(),
            text(rule, "Policy").to_owned(),
            rules_file::priority(rule).map(|p| p.to_string()).unwrap_or_default(),
            text(rule, "IpProtocol").to_owned(),
            text(rule, "PortRange").to_owned(),
            remote(rule),
            refused.clone().unwrap_or_else(|| done.to_owned()),
        ]);
    }
    table
}

/// What becomes of each rule of a file: put in, or why not.
pub fn import(arguments: &Arguments, group: &str, file: &Path, preview: bool) -> Result<Ended> {
    let items = rules_file::read(file)?;
    let regions: BTreeSet<Region> = items.iter().filter_map(|i| i.region.clone()).collect();
    let placed = place(arguments, group, items, rules_file::MOST, preview)?;
    let bad = placed.iter().filter(|p| p.refused.is_some()).count();
    let done = if preview { "would be put in" } else { "put in" };
    let table = placed_table(&placed.iter().collect::<Vec<_>>(), done);
    let from = |r: &Region| format!("\nregion {}, as the file{} says", r.id, if r.by_name { "'s name" } else { "" });
    let froms: String = regions.iter().map(from).collect();
    let good = placed.len() - bad;
    let there = match placed.iter().filter(|p| p.there).count() {
        0 => String::new(),
        there => format!(", of which {there} {} there already", if there == 1 { "is" } else { "are" }),
    };
    let line = format!("{table}\n{good} {done}, {bad} not{there}; rules that stood there are as they were{froms}");
    let one = |p: &Placed| {
        json!({
            "Line": p.line, "Rule": p.rule, "Put": p.refused.is_none(), "There": p.there, "Reason": p.refused,
        })
    };
    let from = |r: &Region| json!({"RegionId": r.id, "By": if r.by_name { "name" } else { "file" }});
    let value = json!({
        "Preview": preview,
        "Regions": regions.iter().map(from).collect::<Vec<_>>(),
        "Rules": placed.iter().map(one).collect::<Vec<_>>(),
    });
    made(arguments.output, &value, &line)?;
    Ok(if bad == 0 { Ended::Done } else { Ended::Refused })
}
