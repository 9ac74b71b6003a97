//! `sgctl group`: calls of the control API, as tables.
//!
//! # Layout
//! - `change`: what is done to a group that is there; `files`: rules that travel
//! - `tables`: how groups and rules are shown

mod change;
mod files;
mod tables;

use std::{collections::HashMap, io::Write};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{Arguments, Group, Output},
    call::{self, all, call, text},
    default_group,
    output::{self, made},
};
pub use tables::rule_line;
use tables::{groups_table, rules_table};

/// All groups of which something is so.
pub fn listed(arguments: &Arguments, mut ask: Value) -> Result<Vec<Value>> {
    ask["MaxResults"] = 100.into();
    Ok(all(arguments, "DescribeSecurityGroups", ask, "SecurityGroups")?.0)
}

/// The one group of an id or a name.
///
/// # Errors
/// There is none, or there are several.
pub fn find(arguments: &Arguments, group: &str) -> Result<Value> {
    let found = listed(arguments, json!({"SecurityGroupId": group}))?;
    let named = || listed(arguments, json!({"SecurityGroupName": group}));
    let found = if found.is_empty() { named()? } else { found };
    call::one(found, group, "security group", "group", "SecurityGroupId")
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

/// Puts rules into a group, a hundred a call; the last call's answer.
pub fn put(arguments: &Arguments, group: &str, rules: &[Value]) -> Result<Value> {
    let mut done = Value::Null;
    for direction in ["ingress", "egress"] {
        let of: Vec<&Value> = rules.iter().filter(|r| text(r, "Direction") == direction).collect();
        for chunk in of.chunks(100) {
            let permissions: Vec<Value> = chunk.iter().map(|r| permission(r)).collect();
            let ask = json!({"SecurityGroupId": group, "Permissions": permissions});
            done = call(arguments, authorize(chunk[0]), &ask, false)?;
        }
    }
    Ok(done)
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

/// Says of a new enterprise group that nothing leaves its members, and how to change that,
/// unless one of its rules lets something out. `name` is what commands call it.
///
/// # Errors
/// A closed output.
fn hint_of_enterprise<'a>(kind: Option<&str>, name: &str, mut rules: impl Iterator<Item = &'a Value>) -> Result<()> {
    let out = |r: &Value| text(r, "Direction") == "egress" && !text(r, "Policy").eq_ignore_ascii_case("drop");
    if kind == Some("enterprise") && !rules.any(out) {
        writeln!(
            output::stderr(),
            "nothing leaves members of an enterprise group until a rule lets it out: \
             sgctl rule add {} egress all -1/-1 0.0.0.0/0",
            quoted(name)
        )?;
    }
    Ok(())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Makes a group with rules, or nothing; its id, and the generation that has it. It is the
/// `owner`'s, an account; the default one's when absent.
///
/// # Errors
/// It, or one of its rules, is refused.
pub fn created(arguments: &Arguments, owner: Option<&str>, ask: &Value, rules: &[Value]) -> Result<Value> {
    let made = call::make(arguments, owner, "CreateSecurityGroup", ask)?;
    let id = text(&made, "SecurityGroupId");
    let done = put(arguments, id, rules).or_else(|e| {
        // A group without its rules is not what was asked for.
        call(arguments, "DeleteSecurityGroup", &json!({"SecurityGroupId": id}), false)?;
        Err(e.context("no group was made"))
    })?;
    let last = if done.is_null() { &made } else { &done };
    Ok(json!({"SecurityGroupId": id, "Generation": last["Generation"]}))
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
                let mut out = output::stdout();
                let field = |name: &str| text(&whole, name).to_owned();
                writeln!(
                    out,
                    "{} {}, members of it: {}",
                    field("SecurityGroupId"),
                    field("SecurityGroupName"),
                    field("InnerAccessPolicy")
                )?;
                tables::marked(&whole).iter().try_for_each(|line| writeln!(out, "{line}"))?;
                writeln!(out, "\n{}", output::fit(rules_table(&rules)))?;
            } else {
                whole["Permissions"]["Permission"] = rules.into();
                output::print(arguments.output, &whole, |_| output::table(&[]))?;
            }
            Ok(Ended::Done)
        }
        Group::Create { name, kind, description, vpc, open, account } => {
            let rules = open.iter().map(|w| quick(w)).collect::<Result<Vec<_>>>()?;
            let ask =
                json!({"SecurityGroupName": name, "SecurityGroupType": kind, "Description": description, "VpcId": vpc});
            let new = created(arguments, account.as_deref(), &ask, &rules)?;
            let line = format!("{} made with {} rules", text(&new, "SecurityGroupId"), rules.len());
            let done = made(arguments.output, &new, &line)?;
            hint_of_enterprise(Some(kind), name, rules.iter())?;
            Ok(done)
        }
        Group::Default { vpc, web } => default_group::make(arguments, vpc.as_deref(), *web),
        Group::Delete { group, force, move_to, yes } => {
            change::delete(arguments, group, *force, move_to.as_deref(), *yes)
        }
        Group::Rename { group, name } => change::modify(arguments, group, &json!({"SecurityGroupName": name}), None),
        Group::Modify { group, description, inner_access } => {
            let ask = json!({"Description": description});
            change::modify(arguments, group, &ask, inner_access.as_deref())
        }
        Group::Tag { group, tags } => change::tag(arguments, group, tags),
        Group::Untag { group, keys, all } => change::untag(arguments, group, keys, *all),
        Group::References { group } => change::references(arguments, group),
        Group::Clone { group, name, vpc, kind, without_rules, tags } => {
            let (vpc, kind) = (vpc.as_deref(), kind.as_deref());
            files::clone(arguments, group, &files::Copy { name, vpc, kind, rules: !without_rules, tags: *tags })
        }
        Group::Export { group, format, dir } => files::export(arguments, group, *format, dir.as_deref()),
        Group::Import { group, file, preview } => files::import(arguments, group, file, *preview),
        Group::Protect { group, off } => {
            let line = if *off { "can be deleted again" } else { "is not deleted" };
            change::mark(arguments, group, &json!({"Protected": !off}), line)
        }
        Group::Manage { group, off } => {
            let line = if *off { "is its account's again" } else { "is changed by the administrator only" };
            change::mark(arguments, group, &json!({"Managed": !off}), line)
        }
    }
}
