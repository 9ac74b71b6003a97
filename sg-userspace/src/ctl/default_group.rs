//! `sgctl group default`: the group that the original makes by itself for an
//! instance that was given none. Here it is made on request only: it lets everybody in.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Ended,
    args::Arguments,
    call::{call, text},
    group::{created, listed},
    output::made,
};
use crate::validate::names::DEFAULT_VPC;

/// By this it is known that was made before the daemon kept which one it is; so are its copies.
const DESCRIPTION: &str = "System created security group.";

/// Its rules; those of a web server are there on request, in the original, too.
fn rules(web: bool) -> Vec<Value> {
    let always = [("ICMP", "-1/-1"), ("TCP", "22/22"), ("TCP", "3389/3389")];
    let web = [("TCP", "80/80"), ("TCP", "443/443")].into_iter().filter(|_| web);
    let rule = |(protocol, ports): (&str, &str)| {
        json!({
            "Direction": "ingress", "Policy": "accept", "Priority": 100, "IpProtocol": protocol, "PortRange": ports,
            "SourceCidrIp": "0.0.0.0/0", "Description": "System created rule.",
        })
    };
    always.into_iter().chain(web).map(rule).collect()
}

/// Makes the default group of a VPC, unless it is there.
pub fn make(arguments: &Arguments, vpc: Option<&str>, web: bool) -> Result<Ended> {
    let vpc = vpc.unwrap_or(DEFAULT_VPC);
    let known = listed(arguments, json!({"VpcId": vpc, "SecurityGroupType": "normal"}))?;
    let noted = known.iter().find(|g| g["Default"] == true);
    if let Some(there) = noted.or_else(|| known.iter().find(|g| text(g, "Description") == DESCRIPTION)) {
        let id = text(there, "SecurityGroupId");
        let line = format!("{id} is the default group of {vpc} already; nothing was changed");
        return made(arguments.output, &json!({"SecurityGroupId": id, "Created": false}), &line);
    }
    let rules = rules(web);
    let new = created(arguments, None, &json!({"VpcId": vpc, "Description": DESCRIPTION}), &rules)?;
    let id = text(&new, "SecurityGroupId");
    let name = json!({"SecurityGroupId": id, "SecurityGroupName": id});
    call(arguments, "ModifySecurityGroupAttribute", &name, false)?;
    let done = call(arguments, "sg:MarkSecurityGroup", &json!({"SecurityGroupId": id, "Default": true}), false)?;
    let ports = if web { "22, 80, 443 and 3389" } else { "22 and 3389" };
    let line = format!("{id} made with {} rules: everybody may ping, and reach TCP ports {ports}", rules.len());
    let value = json!({"SecurityGroupId": id, "Created": true, "Generation": done["Generation"]});
    made(arguments.output, &value, &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_rules_are_those_of_the_original() {
        let shown = |web| -> Vec<String> {
            rules(web).iter().map(|r| format!("{} {}", text(r, "IpProtocol"), text(r, "PortRange"))).collect()
        };
        assert_eq!(shown(false), ["ICMP -1/-1", "TCP 22/22", "TCP 3389/3389"]);
        assert_eq!(shown(true)[3..], ["TCP 80/80", "TCP 443/443"]);
        for rule in rules(true) {
            assert_eq!((&rule["Priority"], text(&rule, "SourceCidrIp")), (&Value::from(100), "0.0.0.0/0"));
            assert_eq!((text(&rule, "Direction"), text(&rule, "Policy")), ("ingress", "accept"));
        }
    }
}
