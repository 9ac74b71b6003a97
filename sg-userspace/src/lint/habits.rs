//! The other advice of the original, as far as a policy shows whether it is followed:
//! one purpose for a group, environments apart, names that say it; health checks; and
//! rules that are written for a family or an address that they can not have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    View,
    finding::{Code, Finding, Spot, some},
};
use crate::model::{Direction, Group, Object, Ports, Rule, Verdict};

/// Words that name an environment of production, and those of others.
const PRODUCTION: [&str; 3] = ["prod", "production", "live"];
const TEST: [&str; 8] = ["test", "testing", "dev", "development", "staging", "stage", "qa", "uat"];
/// Ports, and the purpose that they tell of.
const PURPOSES: [(&str, &[u16]); 3] =
    [("web", &[80, 443, 8080]), ("database", &[1433, 1521, 3306, 5432]), ("cache", &[6379, 11_211])];

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    for (g, group) in view.model.groups.iter().enumerate() {
        purposes(view, g, group, findings);
        for (r, rule) in group.rules.iter().enumerate() {
            let spot = Spot::Rule(g, r);
            family(view, spot, rule, findings);
            elsewhere(view, g, spot, rule, findings);
            health(view, group, spot, rule, findings);
            let other = if let Object::Group(o) = rule.object { Some(&view.model.groups[o]) } else { None };
            if let Some(other) = other.filter(|o| rule.verdict == Verdict::Accept && apart(&group.name, &o.name)) {
                let message = format!(
                    "{} and {} are of different environments, and this rule joins them",
                    group.name, other.name
                );
                let advice = "keep production and test apart, so that a mistake in one stays there";
                findings.push(Finding::new(view.model, Code::MixedEnvironments, spot, message, advice));
            }
        }
    }
    environments(view, findings);
    group_names(view, findings);
}

/// Ports that a rule names, if they are few: a wide range tells of no purpose.
fn is_for(rule: &Rule, port: u16) -> bool {
    matches!(rule.ports, Ports::Range(a, b) if b - a < 16 && (a..=b).contains(&port)) && rule.protocol == Some(6)
}

fn purposes(view: &View<'_>, g: usize, group: &Group, findings: &mut Vec<Finding>) {
    let accepts = || group.rules.iter().filter(|r| (r.direction, r.verdict) == (Direction::Inbound, Verdict::Accept));
    let serves = |ports: &[u16]| accepts().any(|r| ports.iter().any(|p| is_for(r, *p)));
    let found: Vec<String> =
        PURPOSES.iter().filter(|(_, ports)| serves(ports)).map(|(name, _)| (*name).to_owned()).collect();
    if found.len() > 1 {
        let message = format!("this group opens ports of {}: each of its members has them all open", some(&found));
        let advice = "make a group for each purpose; an interface can be in several";
        findings.push(Finding::new(view.model, Code::MixedPurposes, Spot::Group(g), message, advice));
    }
}

/// ICMP is of IPv4, ICMPv6 of IPv6.
fn family(view: &View<'_>, spot: Spot, rule: &Rule, findings: &mut Vec<Finding>) {
    let v4 = match rule.object {
        Object::Cidr(net) => net.addr().is_ipv4(),
        Object::PrefixList(l) => view.model.prefix_lists[l].v4,
        Object::Group(_) => return,
    };
    let (name, other) = match rule.protocol {
        Some(1) if !v4 => ("icmp", "icmpv6"),
        Some(58) if v4 => ("icmpv6", "icmp"),
        _ => return,
    };
    let message = format!("{name} is not the ICMP of these addresses: no host sends what this rule describes");
    findings.push(Finding::new(view.model, Code::WrongFamily, spot, message, format!("write ip_protocol: {other}")));
}

/// A local side that no member has.
fn elsewhere(view: &View<'_>, g: usize, spot: Spot, rule: &Rule, findings: &mut Vec<Finding>) {
    let Some(local) = rule.local else { return };
    let mut own = view.members.of(g).peekable();
    if own.peek().is_none() || view.is_unknown(g) || own.any(|a| local.contains(&a)) {
        return;
    }
    let message = format!("the local side is {local}, and no member of the group has such an address");
    let advice = "name an address of a member, or leave the local side out";
    findings.push(Finding::new(view.model, Code::LocalElsewhere, spot, message, advice));
}

/// An inbound drop of everything, health checks of 100.64.0.0/10 included.
fn health(view: &View<'_>, group: &Group, spot: Spot, rule: &Rule, findings: &mut Vec<Finding>) {
    let Object::Cidr(IpNet::V4(net)) = rule.object else { return };
    let all = net.prefix_len() == 0 && rule.protocol.is_none() && rule.direction == Direction::Inbound;
    if !all || rule.verdict != Verdict::Drop || rule.local.is_some() {
        return;
    }
    let provider = IpAddr::from([100, 64, 0, 1]);
    let reaches = |other: &Rule| match &other.object {
        Object::Cidr(net) => net.contains(&provider),
        Object::PrefixList(l) => view.model.prefix_lists[*l].entries.iter().any(|net| net.contains(&provider)),
        Object::Group(_) => false,
    };
    let first = |other: &&Rule| {
        (other.direction, other.verdict) == (Direction::Inbound, Verdict::Accept) && other.priority < rule.priority
    };
    if !group.rules.iter().filter(first).any(reaches) {
        let message = "this drops everything inbound, also what checks the host's health from 100.64.0.0/10";
        let advice = "on a provider's host accept 100.64.0.0/10 with a smaller priority number; else this is as meant";
        findings.push(Finding::new(view.model, Code::HealthChecks, spot, message.into(), advice));
    }
}

fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase)
}

/// Whether it is of production, or of another environment, by its name.
fn production(name: &str) -> Option<bool> {
    let is = |list: &[&str]| words(name).any(|w| list.contains(&w.as_str()));
    if is(&PRODUCTION) { Some(true) } else { is(&TEST).then_some(false) }
}

/// Whether two groups are of different environments.
fn apart(a: &str, b: &str) -> bool {
    matches!((production(a), production(b)), (Some(a), Some(b)) if a != b)
}

fn environments(view: &View<'_>, findings: &mut Vec<Finding>) {
    for (i, interface) in view.model.interfaces.iter().enumerate() {
        let names: Vec<String> = interface.groups.iter().map(|g| view.model.groups[*g].name.clone()).collect();
        let of = |environment| names.iter().find(|n| production(n) == Some(environment));
        if let (Some(live), Some(test)) = (of(true), of(false)) {
            let message = format!("it is in {live} and in {test}: what is opened for tests is open in production");
            let advice = "take it out of one of them";
            findings.push(Finding::new(view.model, Code::MixedEnvironments, Spot::Interface(i), message, advice));
        }
    }
}

/// The original's names are `environment-application-purpose-sg`. Said only where some
/// groups have such names and others not.
fn group_names(view: &View<'_>, findings: &mut Vec<Finding>) {
    let follows = |name: &str| words(name).count() >= 3 && words(name).last().as_deref() == Some("sg");
    let one = view.model.groups.iter().find(|g| follows(&g.name));
    for (g, group) in view.model.groups.iter().enumerate().filter(|(_, g)| !follows(&g.name)) {
        if let Some(example) = one {
            let message = format!("other groups are named environment-application-purpose-sg, as {} is", example.name);
            let advice = format!("name {} like them, so that its name says what it is for", group.name);
            findings.push(Finding::new(view.model, Code::GroupName, Spot::Group(g), message, advice));
        }
    }
}
