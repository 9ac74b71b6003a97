//! `sgctl group`: calls of the control API, as tables.

use std::{collections::HashMap, io::Write, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{Arguments, Group, Output},
    call::{Refusal, all, call, text},
    default_group,
    output::{self, made, say, sure},
    rules_file::{self, Format},
};

/// All groups of which something is so.
pub fn listed(arguments: &Arguments, mut ask: Value) -> Result<Vec<Value>> {
    ask["MaxResults"] = 100.into();
    Ok(all(arguments, "DescribeSecurityGroups", ask, "SecurityGroups")?.0)
}

/// What groups are called: their names, or ids where a name is missing or several bear it.
pub struct Titles(HashMap<String, String>);

impl Titles {
    /// Of all groups.
    pub fn read(arguments: &Arguments) -> Result<Self> {
        let groups = listed(arguments, json!({}))?;
        let mut bearers: HashMap<&str, usize> = HashMap::new();
        groups.iter().for_each(|g| *bearers.entry(text(g, "SecurityGroupName")).or_default() += 1);
        let title = |g: &Value| {
            let (id, name) = (text(g, "SecurityGroupId"), text(g, "SecurityGroupName"));
            (id.to_owned(), if name.is_empty() || bearers[name] > 1 { id } else { name }.to_owned())
        };
        Ok(Self(groups.iter().map(title).collect()))
    }

    /// Of one.
    pub fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }
}

/// A group by id or name, with all its rules.
pub fn whole(arguments: &Arguments, group: &str) -> Result<(Vec<Value>, Value)> {
    let ask = json!({"SecurityGroupId": group, "MaxResults": 1000});
    all(arguments, "DescribeSecurityGroupAttribute", ask, "Permissions")
}

/// An object that a rule refers to.
fn named(id: &str, name: &str) -> String {
    if name.is_empty() { id.to_owned() } else { format!("{name} ({id})") }
}

fn remote(rule: &Value) -> String {
    let side = if text(rule, "Direction") == "ingress" { "Source" } else { "Dest" };
    let field = |name: &str| text(rule, name).to_owned();
    for cidr in [format!("{side}CidrIp"), format!("Ipv6{side}CidrIp")] {
        if !field(&cidr).is_empty() {
            return field(&cidr);
        }
    }
    let group = field(&format!("{side}GroupId"));
    if !group.is_empty() {
        return named(&group, text(rule, &format!("{side}GroupName")));
    }
    named(text(rule, &format!("{side}PrefixListId")), text(rule, &format!("{side}PrefixListName")))
}

fn rules_table(rules: &[Value]) -> comfy_table::Table {
    let mut table =
        output::listing(&["rule", "direction", "policy", "prio", "protocol", "ports", "remote", "description"]);
    for r in rules {
        let ports = match text(r, "PortRangeListId") {
            "" => text(r, "PortRange").to_owned(),
            list => named(list, text(r, "PortRangeListName")),
        };
        table.add_row([
            text(r, "SecurityGroupRuleId").to_owned(),
            text(r, "Direction").to_owned(),
            text(r, "Policy").to_owned(),
            r["Priority"].to_string(),
            text(r, "IpProtocol").to_owned(),
            ports,
            remote(r),
            text(r, "Description").to_owned(),
        ]);
    }
    table
}

fn groups_table(groups: &[Value]) -> comfy_table::Table {
    let mut table = output::listing(&["group", "name", "type", "vpc", "rules", "managed", "description"]);
    for g in groups {
        table.add_row([
            text(g, "SecurityGroupId").to_owned(),
            text(g, "SecurityGroupName").to_owned(),
            text(g, "SecurityGroupType").to_owned(),
            text(g, "VpcId").to_owned(),
            g["RuleCount"].to_string(),
            if g["ServiceManaged"] == true { "yes" } else { "" }.to_owned(),
            text(g, "Description").to_owned(),
        ]);
    }
    table
}

/// A rule as a permission of a call.
fn permission(rule: &Value) -> Value {
    let mut fields = serde_json::Map::new();
    for field in crate::api::rule::FIELDS.iter().filter(|f| !f.ends_with("OwnerAccount") && !f.ends_with("OwnerId")) {
        match &rule[*field] {
            Value::String(text) if !text.is_empty() => fields.insert((*field).to_owned(), text.as_str().into()),
            Value::Number(n) => fields.insert((*field).to_owned(), n.to_string().into()),
            _ => None,
        };
    }
    // A list of ports is shown with a range that stands for it.
    if fields.contains_key("PortRangeListId") {
        fields.remove("PortRange");
    }
    Value::Object(fields)
}

fn authorize(rule: &Value) -> &'static str {
    if text(rule, "Direction") == "egress" { "AuthorizeSecurityGroupEgress" } else { "AuthorizeSecurityGroup" }
}

/// Puts rules into a group, a hundred a call.
pub fn put(arguments: &Arguments, group: &str, rules: &[Value]) -> Result<()> {
    for direction in ["ingress", "egress"] {
        let of: Vec<&Value> = rules.iter().filter(|r| text(r, "Direction") == direction).collect();
        for chunk in of.chunks(100) {
            let permissions: Vec<Value> = chunk.iter().map(|r| permission(r)).collect();
            let ask = json!({"SecurityGroupId": group, "Permissions": permissions});
            call(arguments, authorize(chunk[0]), &ask, false)?;
        }
    }
    Ok(())
}

/// Services that most hosts have; each inbound.
const SERVICES: &[(&str, &str, &str)] = &[
    ("ssh", "TCP", "22/22"),
    ("http", "TCP", "80/80"),
    ("https", "TCP", "443/443"),
    ("rdp", "TCP", "3389/3389"),
    ("mysql", "TCP", "3306/3306"),
    ("postgresql", "TCP", "5432/5432"),
    ("redis", "TCP", "6379/6379"),
    ("icmp", "ICMP", "-1/-1"),
];

/// `SERVICE@PREFIX` as a rule.
fn quick(wish: &str) -> Result<Value> {
    let (service, from) = wish.split_once('@').context("a quick rule is SERVICE@PREFIX, such as ssh@203.0.113.0/24")?;
    let Some((_, protocol, ports)) = SERVICES.iter().find(|(name, ..)| *name == service) else {
        let names: Vec<&str> = SERVICES.iter().map(|(name, ..)| *name).collect();
        bail!("{service:?} is no service; there are: {}", names.join(", "));
    };
    let v6 = from.contains(':');
    let (protocol, field) = match (v6, *protocol) {
        (true, "ICMP") => ("ICMPv6", "Ipv6SourceCidrIp"),
        (true, other) => (other, "Ipv6SourceCidrIp"),
        (false, other) => (other, "SourceCidrIp"),
    };
    Ok(json!({"Direction": "ingress", "IpProtocol": protocol, "PortRange": ports, field: from, "Description": service}))
}

/// Makes a group with rules, or nothing.
///
/// # Errors
/// It, or one of its rules, is refused.
pub fn created(arguments: &Arguments, ask: &Value, rules: &[Value]) -> Result<String> {
    let made = call(arguments, "CreateSecurityGroup", ask, false)?;
    let id = text(&made, "SecurityGroupId").to_owned();
    if let Err(e) = put(arguments, &id, rules) {
        // A group without its rules is not what was asked for.
        call(arguments, "DeleteSecurityGroup", &json!({"SecurityGroupId": id}), false)?;
        return Err(e.context("no group was made"));
    }
    Ok(id)
}

/// Priorities above what a rule can have become the lowest that one has. How many were.
fn lowered<'a>(rules: impl Iterator<Item = &'a mut Value>) -> usize {
    let high = rules.filter(|r| rules_file::priority(r).is_some_and(|p| p > 100));
    high.map(|r| r["Priority"] = 100.into()).count()
}

/// What is said of priorities that became others.
fn lowered_note(count: usize) -> String {
    if count > 0 { format!("; {count} priorities above 100 became 100") } else { String::new() }
}

fn clone(arguments: &Arguments, source: &str, name: &str, vpc: Option<&str>, rules: bool, tags: bool) -> Result<Ended> {
    if Path::new(source).is_file() {
        return clone_file(arguments, Path::new(source), name, vpc, rules);
    }
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
    if !rules {
        found.clear();
    }
    let note = lowered_note(lowered(found.iter_mut()));
    let id = created(arguments, &ask, &found)?;
    let line = format!("{id} made with {} rules{note}", found.len());
    made(arguments.output, &json!({"SecurityGroupId": id}), &line)
}

/// A new group with the rules of an exported file, as many of them as can be.
fn clone_file(arguments: &Arguments, file: &Path, name: &str, vpc: Option<&str>, rules: bool) -> Result<Ended> {
    let mut items = rules_file::read(file)?;
    if !rules {
        items.clear();
    }
    // The system's had priorities that no rule has any more.
    let readable = items.iter_mut().filter(|i| i.problem.is_none());
    let note = lowered_note(lowered(readable.map(|i| &mut i.rule)));
    let group = call(arguments, "CreateSecurityGroup", &json!({"SecurityGroupName": name, "VpcId": vpc}), false)?;
    let id = text(&group, "SecurityGroupId").to_owned();
    let placed = match place(arguments, &id, file, items, usize::MAX, false) {
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
    Ok(if skipped.is_empty() { Ended::Done } else { Ended::Refused })
}

fn export(arguments: &Arguments, group: &str, format: Format, dir: Option<&Path>) -> Result<Ended> {
    let (rules, whole) = whole(arguments, group)?;
    let bytes = rules_file::write(&rules, format)?;
    let Some(dir) = dir else {
        std::io::stdout().lock().write_all(&bytes)?;
        return Ok(Ended::Done);
    };
    let day = &crate::api::draft::time(crate::api::auth::now())[..10];
    let name = rules_file::name(text(&whole, "RegionId"), text(&whole, "SecurityGroupId"), format, day);
    let path = dir.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("{} rules written to {}", rules.len(), path.display()))
}

/// What became of a rule of a file.
struct Placed {
    line: usize,
    rule: Value,
    /// Why it was not put in.
    refused: Option<String>,
}

/// Puts the rules of a file into a group, one by one; `most` of them.
fn place(
    arguments: &Arguments,
    group: &str,
    file: &Path,
    items: Vec<rules_file::Item>,
    most: usize,
    preview: bool,
) -> Result<Vec<Placed>> {
    let (standing, whole) = whole(arguments, group)?;
    let (id, region) = (text(&whole, "SecurityGroupId"), text(&whole, "RegionId"));
    let elsewhere = rules_file::region(file).filter(|r| r != region);
    let mut standing: Vec<(String, Value)> = standing.iter().map(said).collect();
    let mut placed = Vec::new();
    for (n, rules_file::Item { line, rule, problem }) in items.into_iter().enumerate() {
        let objects = ["SourceGroupId", "DestGroupId", "SourcePrefixListId", "DestPrefixListId", "PortRangeListId"];
        let refused = if problem.is_some() {
            problem
        } else if n >= most {
            Some(format!("more than {most} rules are not imported at once"))
        } else if rules_file::priority(&rule).is_none_or(|p| !(1..=100).contains(&p)) {
            Some("skipped: its priority is not from 1 to 100".into())
        } else if let (Some(from), true) = (&elsewhere, objects.iter().any(|o| !text(&rule, o).is_empty())) {
            Some(format!("it names an object of region {from}"))
        } else if standing.contains(&said(&rule)) {
            Some("it is there already".into())
        } else {
            let ask = json!({"SecurityGroupId": id, "Permissions": [permission(&rule)]});
            match call(arguments, authorize(&rule), &ask, preview) {
                Ok(_) => None,
                Err(e) if e.is::<Refusal>() => Some(e.to_string()),
                Err(e) => return Err(e),
            }
        };
        if refused.is_none() {
            standing.push(said(&rule));
        }
        placed.push(Placed { line, rule, refused });
    }
    Ok(placed)
}

/// What a rule says, to be compared with others.
fn said(rule: &Value) -> (String, Value) {
    (text(rule, "Direction").to_owned(), permission(rule))
}

fn placed_table(placed: &[&Placed], done: &str) -> comfy_table::Table {
    let mut table = output::table(&["line", "direction", "policy", "prio", "protocol", "ports", "remote", "result"]);
    for Placed { line, rule, refused } in placed {
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
fn import(arguments: &Arguments, group: &str, file: &Path, preview: bool) -> Result<Ended> {
    let placed = place(arguments, group, file, rules_file::read(file)?, rules_file::MOST, preview)?;
    let bad = placed.iter().filter(|p| p.refused.is_some()).count();
    let done = if preview { "would be put in" } else { "put in" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", placed_table(&placed.iter().collect::<Vec<_>>(), done))?;
    writeln!(out, "{} {done}, {bad} not; rules that stood there are as they were", placed.len() - bad)?;
    Ok(if bad == 0 { Ended::Done } else { Ended::Refused })
}

/// `sgctl group`.
pub fn group(arguments: &Arguments, command: &Group) -> Result<Ended> {
    match command {
        Group::List => {
            let groups = listed(arguments, json!({}))?;
            output::print(arguments.output, &groups, |g| groups_table(g))?;
            Ok(Ended::Done)
        }
        Group::Show { group } => {
            let (rules, mut whole) = whole(arguments, group)?;
            if arguments.output == Output::Table {
                let mut out = std::io::stdout().lock();
                let field = |name: &str| text(&whole, name).to_owned();
                writeln!(
                    out,
                    "{} {}, members of it: {}",
                    field("SecurityGroupId"),
                    field("SecurityGroupName"),
                    field("InnerAccessPolicy")
                )?;
                writeln!(out, "\n{}", rules_table(&rules))?;
            } else {
                whole["Permissions"]["Permission"] = rules.into();
                output::print(arguments.output, &whole, |_| output::table(&[]))?;
            }
            Ok(Ended::Done)
        }
        Group::Create { name, kind, description, vpc, open } => {
            let rules = open.iter().map(|w| quick(w)).collect::<Result<Vec<_>>>()?;
            let ask =
                json!({"SecurityGroupName": name, "SecurityGroupType": kind, "Description": description, "VpcId": vpc});
            let id = created(arguments, &ask, &rules)?;
            made(arguments.output, &json!({"SecurityGroupId": id}), &format!("{id} made with {} rules", rules.len()))
        }
        Group::Default { vpc, web } => default_group::make(arguments, vpc.as_deref(), *web),
        Group::Delete { group, force, move_to, yes } => {
            if !sure(&format!("Delete the group {group} and its rules?"), *yes)? {
                return Ok(Ended::Refused);
            }
            if !force {
                call(arguments, "DeleteSecurityGroup", &json!({"SecurityGroupId": group}), false)?;
                return say(&format!("{group} deleted"));
            }
            let done = call(
                arguments,
                "sg:DeleteSecurityGroup",
                &json!({"SecurityGroupId": group, "MoveTo": move_to}),
                false,
            )?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "{group} deleted")?;
            for name in done["Moved"].as_array().into_iter().flatten() {
                writeln!(out, "  {} left it", name.as_str().unwrap_or_default())?;
            }
            for user in done["RemovedRules"].as_array().into_iter().flatten() {
                writeln!(out, "  {} of {} named it, and are gone", user["Rules"], text(user, "SecurityGroupId"))?;
            }
            Ok(Ended::Done)
        }
        Group::Clone { group, name, vpc, without_rules, tags } => {
            clone(arguments, group, name, vpc.as_deref(), !without_rules, *tags)
        }
        Group::Export { group, format, dir } => export(arguments, group, *format, dir.as_deref()),
        Group::Import { group, file, preview } => import(arguments, group, file, *preview),
        Group::Protect { group, off } => {
            call(arguments, "sg:MarkSecurityGroup", &json!({"SecurityGroupId": group, "Protected": !off}), false)?;
            say(&format!("{group} {}", if *off { "can be deleted again" } else { "is not deleted" }))
        }
        Group::Manage { group, off } => {
            call(arguments, "sg:MarkSecurityGroup", &json!({"SecurityGroupId": group, "Managed": !off}), false)?;
            say(&format!(
                "{group} {}",
                if *off { "is its account's again" } else { "is changed by the administrator only" }
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_at_any_width() {
        let (id, of) = (crate::api::draft::new_id, "the rule of many words that somebody has written about it");
        let rule = json!({"SecurityGroupRuleId": id("sgr"), "Direction": "ingress", "Policy": "Accept", "Priority": 1,
            "IpProtocol": "TCP", "PortRange": "27017/27017", "Ipv6SourceCidrIp": "2001:db8:1234:5678::/64",
            "Description": of});
        let group = json!({"SecurityGroupId": id("sg"), "SecurityGroupName": "a-group-with-a-long-name",
            "SecurityGroupType": "enterprise", "VpcId": id("vpc"), "RuleCount": 100, "Description": of});
        let tables = [
            (rules_table(std::slice::from_ref(&rule)), text(&rule, "SecurityGroupRuleId")),
            (groups_table(std::slice::from_ref(&group)), text(&group, "SecurityGroupId")),
        ];
        for (mut table, id) in tables {
            for width in [40, 80, 200] {
                let shown = table.set_width(width).to_string();
                assert!(shown.lines().any(|line| line.starts_with(&format!("{id} "))), "{width}:\n{shown}");
                let widest = shown.lines().map(|l| l.chars().count()).max();
                assert!(width == 40 || widest <= Some(width.into()), "{width}:\n{shown}");
            }
        }
    }
}
