//! `sgctl rule`: rules of a group, put in and taken out.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{
        Arguments, Output, Rule, Yes,
        lists::{Kind, Ports, Prefixes, range},
    },
    call::{call, one, text},
    confirm::{Going, confirm},
    count,
    group::{listed, put, rule_line, whole},
    lists, members,
    output::made,
    rules_file,
};

/// The ports of a new rule, and their field: a range, or a list.
fn ports_of(arguments: &Arguments, ports: &str) -> Result<(&'static str, Value)> {
    if ports.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        // What is no range is refused with a reason.
        return Ok(("PortRange", range(ports).unwrap_or_else(|_| ports.to_owned()).into()));
    }
    let list = lists::find(arguments, &Ports::WORDS, ports)?;
    Ok(("PortRangeListId", list["PortRangeListId"].clone()))
}

/// The remote side of a new rule, and its field: a prefix, a group, or a prefix list.
fn remote_of(arguments: &Arguments, side: &str, remote: &str) -> Result<(String, Value)> {
    let group = || (format!("{side}GroupId"), remote.into());
    if let Some(field) = prefix_field(side, remote) {
        return Ok((field, remote.into()));
    }
    let lists = if remote.starts_with("sg-") { Vec::new() } else { lists::named(arguments, &Prefixes::WORDS, remote)? };
    if lists.is_empty() {
        // What is not a group either is refused as one.
        return Ok(group());
    }
    let list = one(lists, remote, Prefixes::WORDS.what, Prefixes::WORDS.command, "PrefixListId")?;
    if let Some(other) = listed(arguments, json!({"SecurityGroupName": remote}))?.first() {
        let (list, other) = (text(&list, "PrefixListId"), text(other, "SecurityGroupId"));
        bail!("{remote:?} is the name of a prefix list, {list}, and of a group, {other}; say which by its id");
    }
    Ok((format!("{side}PrefixListId"), list["PrefixListId"].clone()))
}

/// The field of what is a prefix, or begins like one and is refused as such; names begin with letters.
fn prefix_field(side: &str, remote: &str) -> Option<String> {
    let address = remote.split('/').next().unwrap_or_default();
    let v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    match remote.chars().next() {
        _ if v6 => Some(format!("Ipv6{side}CidrIp")),
        Some(':' | '0'..='9') if remote.contains(':') => Some(format!("Ipv6{side}CidrIp")),
        Some('0'..='9') => Some(format!("{side}CidrIp")),
        _ => None,
    }
}

/// Puts a rule in. An answer does not say its id: for programs it is the one that was not
/// there before, or null where an equal rule stood there already.
fn add(arguments: &Arguments, group: &str, rule: Value) -> Result<Ended> {
    if arguments.output == Output::Table {
        put(arguments, group, &[rule])?;
        return made(arguments.output, &Value::Null, "done; in force");
    }
    let id = |r: &Value| text(r, "SecurityGroupRuleId").to_owned();
    let before: Vec<String> = whole(arguments, group)?.0.iter().map(id).collect();
    let done = put(arguments, group, std::slice::from_ref(&rule))?;
    let (standing, whole) = whole(arguments, group)?;
    // Others may have put in some of their own meanwhile.
    let same = |r: &&Value| {
        !before.contains(&id(r))
            && text(r, "Direction") == text(&rule, "Direction")
            && text(r, "IpProtocol").eq_ignore_ascii_case(text(&rule, "IpProtocol"))
            && rules_file::priority(r) == rules_file::priority(&rule)
    };
    let mut new = standing.iter().filter(same);
    let new = match (new.next(), new.next()) {
        (Some(one), None) => Some(id(one)),
        _ => None,
    };
    let value = json!({
        "SecurityGroupId": whole["SecurityGroupId"], "SecurityGroupRuleId": new, "Generation": done["Generation"],
    });
    made(arguments.output, &value, "done; in force")
}

/// Takes rules out; when one of them is not there, none.
fn remove(arguments: &Arguments, group: &str, rules: &[String], yes: Yes) -> Result<Ended> {
    let (standing, whole) = whole(arguments, group)?;
    let find = |id: &String| standing.iter().find(|s| text(s, "SecurityGroupRuleId") == id.as_str());
    if let Some(id) = rules.iter().find(|id| find(id).is_none()) {
        bail!("the group {group} has no rule {id}; nothing was changed; `sgctl group show {group}` lists them");
    }
    let found: Vec<&Value> = rules.iter().filter_map(find).collect();
    let (id, name) = (text(&whole, "SecurityGroupId"), text(&whole, "SecurityGroupName"));
    confirm(yes, || {
        let members = members::interfaces(arguments, json!({"SecurityGroupId": id}))?;
        let members: Vec<&str> = members.iter().map(|m| text(m, "NetworkInterfaceName")).collect();
        let of = format!("{} of {} out of the group {name} ({id})", rules.len(), count(standing.len(), "rule"));
        Ok(Going::new(format!("take {of}")).names("its members", &members).each(found.iter().map(|r| rule_line(r))))
    })?;
    let mut done = Value::Null;
    for (direction, action) in [("ingress", "RevokeSecurityGroup"), ("egress", "RevokeSecurityGroupEgress")] {
        let of = found.iter().filter(|r| text(r, "Direction") == direction);
        let ids: Vec<&str> = of.map(|r| text(r, "SecurityGroupRuleId")).collect();
        if !ids.is_empty() {
            done = call(arguments, action, &json!({"SecurityGroupId": id, "SecurityGroupRuleId": ids}), false)?;
        }
    }
    let value = json!({"SecurityGroupId": id, "Removed": rules, "Generation": done["Generation"]});
    made(arguments.output, &value, "done; in force")
}

/// `sgctl rule`.
pub fn rule(arguments: &Arguments, command: &Rule) -> Result<Ended> {
    match command {
        Rule::Add { group, direction, protocol, ports, remote, policy, priority, description } => {
            let side = if direction == "ingress" { "Source" } else { "Dest" };
            let (ports_field, ports) = ports_of(arguments, ports)?;
            let (field, remote) = remote_of(arguments, side, remote)?;
            let rule = json!({
                "Direction": direction, "IpProtocol": protocol, ports_field: ports, field: remote, "Policy": policy,
                "Priority": priority.to_string(), "Description": description,
            });
            add(arguments, group, rule)
        }
        Rule::Remove { group, rules, yes } => remove(arguments, group, rules, *yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_told_from_a_name() {
        let field = |remote: &str| prefix_field("Source", remote).unwrap_or_default();
        for v4 in ["10.0.0.0/8", "192.0.2.7", "10.0.0.300"] {
            assert_eq!(field(v4), "SourceCidrIp", "{v4}");
        }
        for v6 in ["::/0", "fe80::1", "2001:db8::/32", "2001:db8::x", "::x"] {
            assert_eq!(field(v6), "Ipv6SourceCidrIp", "{v6}");
        }
        for name in ["web", "sg-1", "pl-1", "db:prod", "fe80", "\u{fc}ber"] {
            assert_eq!(field(name), "", "{name}");
        }
    }
}
