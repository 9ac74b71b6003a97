//! `sgctl rule`: rules of a group, put in and taken out.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{
        Arguments, Rule,
        lists::{Kind, Ports, Prefixes, range},
    },
    call::{call, one, text},
    group::{listed, put, whole},
    lists,
    output::say,
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
            put(arguments, group, &[rule])?;
            say("done; in force")
        }
        Rule::Remove { group, rules } => {
            let (standing, _) = whole(arguments, group)?;
            let unknown = |id: &&String| !standing.iter().any(|s| text(s, "SecurityGroupRuleId") == id.as_str());
            if let Some(id) = rules.iter().find(unknown) {
                bail!("the group {group} has no rule {id}; nothing was changed; `sgctl group show {group}` lists them");
            }
            for direction in ["ingress", "egress"] {
                let of = |id: &&String| {
                    standing.iter().any(|s| text(s, "SecurityGroupRuleId") == **id && text(s, "Direction") == direction)
                };
                let ids: Vec<&String> = rules.iter().filter(of).collect();
                if !ids.is_empty() {
                    let action =
                        if direction == "egress" { "RevokeSecurityGroupEgress" } else { "RevokeSecurityGroup" };
                    call(arguments, action, &json!({"SecurityGroupId": group, "SecurityGroupRuleId": ids}), false)?;
                }
            }
            say("done; in force")
        }
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
