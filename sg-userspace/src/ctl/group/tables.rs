//! Groups and rules as tables and lines.

use serde_json::Value;

use crate::ctl::{call::text, output};

/// An object that a rule refers to.
fn named(id: &str, name: &str) -> String {
    if name.is_empty() { id.to_owned() } else { format!("{name} ({id})") }
}

/// The remote side of a rule.
pub fn remote(rule: &Value) -> String {
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

/// A rule in a line.
pub fn rule_line(r: &Value) -> String {
    let (policy, priority) = (text(r, "Policy").to_lowercase(), &r["Priority"]);
    let words = [text(r, "SecurityGroupRuleId"), text(r, "Direction"), &policy, text(r, "IpProtocol")];
    format!("{} {} {} priority {priority}", words.join(" "), ports(r), remote(r))
}

fn ports(rule: &Value) -> String {
    match text(rule, "PortRangeListId") {
        "" => text(rule, "PortRange").to_owned(),
        list => named(list, text(rule, "PortRangeListName")),
    }
}

/// Rules as a table.
pub fn rules_table(rules: &[Value]) -> comfy_table::Table {
    let mut table =
        output::listing(&["rule", "direction", "policy", "prio", "protocol", "ports", "remote", "description"]);
    for r in rules {
        table.add_row([
            text(r, "SecurityGroupRuleId").to_owned(),
            text(r, "Direction").to_owned(),
            text(r, "Policy").to_owned(),
            r["Priority"].to_string(),
            text(r, "IpProtocol").to_owned(),
            ports(r),
            remote(r),
            text(r, "Description").to_owned(),
        ]);
    }
    table
}

/// What the administrator has put on a group, a word each.
fn marks(group: &Value) -> String {
    let marks = [("ServiceManaged", "managed"), ("DeletionProtection", "protected"), ("Default", "default")];
    marks.iter().filter(|(field, _)| group[*field] == true).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// The same, as lines that say what it means.
pub fn marked(group: &Value) -> Vec<String> {
    let (id, vpc) = (text(group, "SecurityGroupId"), text(group, "VpcId"));
    let lines = [
        ("ServiceManaged", format!("managed: only the administrator changes it (sgctl group manage {id} --off)")),
        ("DeletionProtection", format!("protected: nobody deletes it (sgctl group protect {id} --off)")),
        ("Default", format!("the default group of {vpc}")),
    ];
    lines.into_iter().filter(|(field, _)| group[*field] == true).map(|(_, line)| line).collect()
}

/// Groups as a table.
pub fn groups_table(groups: &[Value]) -> comfy_table::Table {
    let mut table = output::listing(&["group", "name", "type", "vpc", "rules", "marks", "description"]);
    for g in groups {
        table.add_row([
            text(g, "SecurityGroupId").to_owned(),
            text(g, "SecurityGroupName").to_owned(),
            text(g, "SecurityGroupType").to_owned(),
            text(g, "VpcId").to_owned(),
            g["RuleCount"].to_string(),
            marks(g),
            text(g, "Description").to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
