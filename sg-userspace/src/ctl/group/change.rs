//! What is done to a group that is there: named anew, labelled, marked, deleted.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Titles, find, rule_line};
use crate::ctl::{
    Ended,
    args::{Arguments, Yes},
    call::{call, items, text},
    confirm::{Going, confirm},
    count, members,
    output::{self, made},
};

/// Does something to a group of an id, and says so.
fn changed(arguments: &Arguments, action: &str, id: &Value, mut ask: Value, line: &str) -> Result<Ended> {
    ask["SecurityGroupId"] = id.clone();
    let done = call(arguments, action, &ask, false)?;
    // What was asked for is what is so now.
    ask["Generation"] = done["Generation"].clone();
    if let Value::Object(fields) = &mut ask {
        fields.retain(|_, value| !value.is_null());
    }
    made(arguments.output, &ask, line)
}

/// Changes its name or its description, and whether its members reach each other; in one
/// call, so all of it or nothing.
pub fn modify(arguments: &Arguments, group: &str, ask: &Value, inner: Option<&str>) -> Result<Ended> {
    let id = find(arguments, group)?["SecurityGroupId"].clone();
    let fields = ask.as_object().is_some_and(|fields| fields.values().any(|v| !v.is_null()));
    let mut ask = ask.clone();
    if let Some(inner) = inner {
        ask["InnerAccessPolicy"] = inner.into();
    }
    let (action, line) = match (inner, fields) {
        (None, _) => ("ModifySecurityGroupAttribute", "done"),
        (Some(_), true) => ("sg:ModifySecurityGroup", "done"),
        (Some(_), false) => ("ModifySecurityGroupPolicy", "done; in force"),
    };
    changed(arguments, action, &id, ask, line)
}

/// Protects it, or leaves it to the administrator; or ends that.
pub fn mark(arguments: &Arguments, group: &str, mark: &Value, line: &str) -> Result<Ended> {
    let id = find(arguments, group)?["SecurityGroupId"].clone();
    changed(arguments, "sg:MarkSecurityGroup", &id, mark.clone(), &format!("{group} {line}"))
}

/// Its tags now.
fn tagged(arguments: &Arguments, id: &Value, done: &Value) -> Result<Ended> {
    let now = find(arguments, id.as_str().unwrap_or_default())?;
    let tags: Vec<Value> = items(&now["Tags"]);
    let of = |t: &Value| match text(t, "TagValue") {
        "" => text(t, "TagKey").to_owned(),
        value => format!("{}={value}", text(t, "TagKey")),
    };
    let line = match tags.is_empty() {
        true => "done; it has no tags".to_owned(),
        false => format!("done; its tags: {}", tags.iter().map(of).collect::<Vec<_>>().join(", ")),
    };
    made(arguments.output, &json!({"SecurityGroupId": id, "Tags": tags, "Generation": done["Generation"]}), &line)
}

/// Puts tags on it.
pub fn tag(arguments: &Arguments, group: &str, tags: &[(String, String)]) -> Result<Ended> {
    let id = find(arguments, group)?["SecurityGroupId"].clone();
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let ask = json!({"ResourceType": "securitygroup", "ResourceId": [id], "Tag": tags});
    let done = call(arguments, "TagResources", &ask, false)?;
    tagged(arguments, &id, &done)
}

/// Takes tags off it.
pub fn untag(arguments: &Arguments, group: &str, keys: &[String], all: bool) -> Result<Ended> {
    let id = find(arguments, group)?["SecurityGroupId"].clone();
    let ask = json!({"ResourceType": "securitygroup", "ResourceId": [id], "TagKey": keys, "All": all});
    let done = call(arguments, "UntagResources", &ask, false)?;
    tagged(arguments, &id, &done)
}

/// Ids of the groups whose rules name it.
fn users(arguments: &Arguments, id: &Value) -> Result<Vec<Value>> {
    let found = call(arguments, "DescribeSecurityGroupReferences", &json!({"SecurityGroupId": [id]}), false)?;
    let of = items(&found["SecurityGroupReferences"]);
    Ok(of.iter().flat_map(|r| items(&r["ReferencingSecurityGroups"])).collect())
}

/// Which groups have rules that name it.
pub fn references(arguments: &Arguments, group: &str) -> Result<Ended> {
    let id = find(arguments, group)?["SecurityGroupId"].clone();
    let (users, titles) = (users(arguments, &id)?, Titles::read(arguments)?);
    output::print(arguments.output, &users, |users| {
        let mut table = output::listing(&["group", "name", "account"]);
        for user in users {
            let id = text(user, "SecurityGroupId");
            table.add_row([id, titles.of(id), text(user, "AliUid")]);
        }
        table
    })?;
    Ok(Ended::Done)
}

/// The rules that go with a group, by whose they are: the first of them, and how many more there are.
fn removed(gone: &Value) -> Vec<String> {
    let users: Vec<Value> = items(&gone["RemovedRules"]);
    let (mut lines, mut left_out) = (Vec::new(), 0);
    for user in &users {
        let rules = items(&user["Permissions"]);
        let all = user["Rules"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        let of = match text(user, "SecurityGroupName") {
            "" => text(user, "SecurityGroupId").to_owned(),
            name => format!("{name} ({})", text(user, "SecurityGroupId")),
        };
        left_out += all.saturating_sub(rules.len());
        lines.extend(rules.iter().map(|r| format!("{of}: {}", rule_line(r))));
    }
    if left_out > 0 {
        lines.push(format!("… and {left_out} more"));
    }
    lines
}

/// What goes with a group.
fn going(arguments: &Arguments, group: &Value, force: bool, move_to: Option<&str>) -> Result<Going> {
    let (id, titles) = (&group["SecurityGroupId"], Titles::read(arguments)?);
    let members = members::interfaces(arguments, json!({"SecurityGroupId": id}))?;
    let members: Vec<&str> = members.iter().map(|m| text(m, "NetworkInterfaceName")).collect();
    let users = users(arguments, id)?;
    let users: Vec<&str> = users.iter().map(|u| titles.of(text(u, "SecurityGroupId"))).collect();
    // What cannot be done is said before anybody is asked.
    let ask = json!({"SecurityGroupId": id, "MoveTo": move_to});
    let gone = if force { call(arguments, "sg:DeleteSecurityGroup", &ask, true)? } else { Value::Null };
    let rules = group["RuleCount"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_default();
    let name = text(group, "SecurityGroupName");
    let going = Going::new(format!("delete the group {name} ({})", text(group, "SecurityGroupId")));
    let going = going.and(count(rules, "rule"));
    let (leave, go) = match force {
        true => ("members, which leave it", "groups whose rules go where they name it, too"),
        false => ("members, which must leave it first", "groups whose rules name it, which must go first"),
    };
    let going = going.names(leave, &members).names(go, &users);
    Ok(removed(&gone).into_iter().fold(going, |going, line| going.and(line)))
}

/// Deletes it; with `force` whatever holds it.
pub fn delete(arguments: &Arguments, group: &str, force: bool, move_to: Option<&str>, yes: Yes) -> Result<Ended> {
    let found = find(arguments, group)?;
    confirm(yes, || going(arguments, &found, force, move_to))?;
    let id = &found["SecurityGroupId"];
    let action = if force { "sg:DeleteSecurityGroup" } else { "DeleteSecurityGroup" };
    let done = call(arguments, action, &json!({"SecurityGroupId": id, "MoveTo": move_to}), false)?;
    let mut lines = vec![format!("{group} deleted")];
    let names = done["Moved"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(names.map(|name| format!("  {name} left it")));
    let gone = removed(&done);
    if !gone.is_empty() {
        let rules = items(&done["RemovedRules"]).iter().filter_map(|u| u["Rules"].as_u64()).sum::<u64>();
        let rules = count(usize::try_from(rules).unwrap_or(usize::MAX), "rule");
        lines.push(format!("  {rules} of other groups named it, and went with it:"));
        lines.extend(gone.iter().map(|line| format!("    {line}")));
    }
    let value = json!({
        "SecurityGroupId": id, "Deleted": true, "Moved": done["Moved"], "RemovedRules": done["RemovedRules"],
        "Generation": done["Generation"],
    });
    made(arguments.output, &value, &lines.join("\n"))
}
