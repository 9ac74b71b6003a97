//! What is done to a group that is there: named anew, labelled, marked, deleted.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Titles, find};
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

/// What goes with a group.
fn going(arguments: &Arguments, group: &Value, force: bool) -> Result<Going> {
    let (id, titles) = (&group["SecurityGroupId"], Titles::read(arguments)?);
    let members = members::interfaces(arguments, json!({"SecurityGroupId": id}))?;
    let members: Vec<&str> = members.iter().map(|m| text(m, "NetworkInterfaceName")).collect();
    let users = users(arguments, id)?;
    let users: Vec<&str> = users.iter().map(|u| titles.of(text(u, "SecurityGroupId"))).collect();
    let rules = group["RuleCount"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_default();
    let name = text(group, "SecurityGroupName");
    let going = Going::new(format!("delete the group {name} ({})", text(group, "SecurityGroupId")));
    let going = going.and(count(rules, "rule"));
    let (leave, go) = match force {
        true => ("members, which leave it", "groups whose rules go where they name it, too"),
        false => ("members, which must leave it first", "groups whose rules name it, which must go first"),
    };
    Ok(going.names(leave, &members).names(go, &users))
}

/// Deletes it; with `force` whatever holds it.
pub fn delete(arguments: &Arguments, group: &str, force: bool, move_to: Option<&str>, yes: Yes) -> Result<Ended> {
    let found = find(arguments, group)?;
    confirm(yes, || going(arguments, &found, force))?;
    let id = &found["SecurityGroupId"];
    let action = if force { "sg:DeleteSecurityGroup" } else { "DeleteSecurityGroup" };
    let done = call(arguments, action, &json!({"SecurityGroupId": id, "MoveTo": move_to}), false)?;
    let mut lines = vec![format!("{group} deleted")];
    let names = done["Moved"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(names.map(|name| format!("  {name} left it")));
    let users = done["RemovedRules"].as_array().into_iter().flatten();
    let of = |u: &Value| format!("  {} of {} named it, and are gone", u["Rules"], text(u, "SecurityGroupId"));
    lines.extend(users.map(of));
    let value = json!({
        "SecurityGroupId": id, "Deleted": true, "Moved": done["Moved"], "RemovedRules": done["RemovedRules"],
        "Generation": done["Generation"],
    });
    made(arguments.output, &value, &lines.join("\n"))
}
