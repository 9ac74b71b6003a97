//! What everybody reaches: judged for an address of the internet that only prefixes of
//! length 0 cover, so that a drop that stands before closes it again, and a drop of a few
//! addresses does not.

use std::collections::BTreeMap;

use super::{
    Policy, View,
    fate::Judged,
    finding::{Code, Finding, Spot},
    lines::{Far, Line},
};
use crate::{
    effective::{self, Origin, Remote, SMTP_PORT},
    model::{Direction, Model, Object, Ports, Verdict},
};

/// Ports of remote management, which the original names.
const MANAGEMENT: [(u16, &str); 2] = [(22, "SSH"), (3389, "RDP")];
/// Ports of databases, which the original opens to known addresses only.
const DATABASES: [(u16, &str); 5] =
    [(1433, "SQL Server"), (1521, "Oracle"), (3306, "MySQL"), (5432, "PostgreSQL"), (6379, "Redis")];
/// A protocol that no rule names, but those of all protocols match.
const ANY: u8 = 254;
const TCP: u8 = 6;

/// Whether a line is for all addresses of a family.
fn is_world(model: &Model, line: &Line, v4: bool) -> bool {
    let whole = |net: &ipnet::IpNet| net.prefix_len() == 0 && net.addr().is_ipv4() == v4;
    match line.far {
        Far::Of(Remote::Net(net)) => whole(&net),
        Far::Of(Remote::List(l)) => model.prefix_lists[l].entries.iter().any(whole),
        Far::Of(Remote::Failsafe) => effective::sources(model).iter().any(whole),
        _ => false,
    }
}

fn has_port(line: &Line, port: u16) -> bool {
    line.destinations.as_ref().is_none_or(|d| d.iter().any(|(a, b)| (*a..=*b).contains(&port)))
}

/// The rule that lets everybody in, at a protocol and port.
fn door(model: &Model, judged: &Judged, v4: bool, protocol: u8, port: u16) -> Option<(usize, usize)> {
    let mut lines = judged.lines.iter().filter(|l| {
        is_world(model, l, v4) && l.protocol.is_none_or(|p| p == protocol) && has_port(l, port)
            // A drop of some local addresses or source ports closes nothing.
            && (l.verdict == Verdict::Accept || (l.local.is_none() && l.sources.is_none()))
    });
    match lines.next()? {
        Line { verdict: Verdict::Accept, origin: Some(Origin::Rule(g, r)), .. } => Some((*g, *r)),
        _ => None,
    }
}

/// Rules, each with the ports at which it lets everybody in, and where.
type Doors<'v> = BTreeMap<(usize, usize), (Vec<String>, Vec<&'v Policy>)>;

/// Rules that let everybody in at some of these ports.
fn doors<'v>(view: &'v View<'_>, direction: usize, at: &[(u8, u16, String)]) -> Doors<'v> {
    let mut found: Doors<'_> = BTreeMap::new();
    for policy in &view.policies {
        let Some(judged) = &policy.judged[direction] else { continue };
        for (protocol, port, name) in at {
            for v4 in [true, false] {
                let Some(rule) = door(view.model, judged, v4, *protocol, *port) else { continue };
                let (names, policies) = found.entry(rule).or_default();
                if !names.contains(name) {
                    names.push(name.clone());
                }
                policies.push(policy);
            }
        }
    }
    found
}

fn listed(ports: &[(u16, &str)]) -> Vec<(u8, u16, String)> {
    ports.iter().map(|(port, name)| (TCP, *port, format!("{port} ({name})"))).collect()
}

/// ` on eth0`, or nothing where nobody has it.
fn on(view: &View<'_>, policies: &[&Policy]) -> String {
    let names = view.interfaces(policies.iter().flat_map(|p| &p.interfaces));
    if names.is_empty() { "its members, once it has any,".into() } else { names }
}

/// `0.0.0.0/0`, as the rule has it.
fn everybody(model: &Model, (g, r): (usize, usize)) -> String {
    match model.groups[g].rules[r].object {
        Object::Cidr(net) => net.to_string(),
        Object::PrefixList(l) => format!("everybody, by the list {}", model.prefix_lists[l].name),
        Object::Group(_) => "everybody".into(),
    }
}

/// The failsafe is no rule, and its remedy is in another file.
fn failsafe(model: &Model) -> impl Iterator<Item = Finding> {
    let all = model.failsafe.iter().flat_map(|f| f.everybody().map(move |net| (f, net)));
    all.map(move |(f, net)| {
        let message = format!(
            "the failsafe lets {net} reach {} on {}, and no rule closes that: machines that try passwords find it \
             within hours",
            f.services(),
            f.place()
        );
        let advice = "name the addresses that you manage this host from in [failsafe] of sgd.toml";
        Finding::new(model, Code::FailsafeOpen, Spot::Whole, message, advice).about(&net.to_string())
    })
}

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    let model = view.model;
    findings.extend(failsafe(model));
    let wide = |(g, r): (usize, usize)| {
        let rule = &model.groups[g].rules[r];
        rule.protocol.is_none() || matches!(rule.ports, Ports::Range(0..=1, u16::MAX))
    };
    let all = [(ANY, 0, "every protocol and port".to_owned()), (TCP, 49_151, "every TCP port".to_owned())];
    for (rule, (what, policies)) in doors(view, 0, &all) {
        if !wide(rule) {
            continue;
        }
        let (from, reached) = (everybody(model, rule), on(view, &policies));
        let message = format!(
            "{from} reaches {} of {reached}: also those of management and of what is started later by mistake",
            what[0]
        );
        let advice = "accept the ports that are served, from those who need them; the rest is dropped by default";
        findings.push(Finding::new(model, Code::AnyAny, Spot::Rule(rule.0, rule.1), message, advice));
    }
    let mut closed = |code, ports: &[(u16, &str)], why: &str, advice: &str| {
        for (rule, (names, policies)) in doors(view, 0, &listed(ports)) {
            if wide(rule) {
                continue;
            }
            let (from, reached) = (everybody(model, rule), on(view, &policies));
            let message = format!("{from} reaches port {} of {reached}: {why}", names.join(", "));
            findings.push(Finding::new(model, code, Spot::Rule(rule.0, rule.1), message, advice));
        }
    };
    let why = "such ports are tried by everyone who guesses passwords";
    closed(
        Code::ManagementOpen,
        &MANAGEMENT,
        why,
        "accept it from static addresses that you trust only: a prefix, or a prefix list",
    );
    let why = "a database is for the hosts that use it";
    closed(Code::DatabaseOpen, &DATABASES, why, "accept it from the group, or the prefix, of what uses it");
    let why = "mail in clear, and spam; a mail server needs it, little else does";
    closed(
        Code::MailOpen,
        &[(SMTP_PORT, "SMTP")],
        why,
        "close it unless this is a mail server; clients take 465 or 587",
    );
    outbound_mail(view, findings);
    outbound(view, findings);
}

/// Outbound port 25.
fn outbound_mail(view: &View<'_>, findings: &mut Vec<Finding>) {
    let model = view.model;
    let names_mail = |g: usize, r: usize| {
        let rule = &model.groups[g].rules[r];
        (rule.direction, rule.verdict, &rule.ports) == (Direction::Outbound, Verdict::Accept, &Ports::Range(25, 25))
    };
    for policy in view.policies.iter().filter(|p| p.key.smtp_open) {
        let reason = policy.key.groups.iter().any(|&g| (0..model.groups[g].rules.len()).any(|r| names_mail(g, r)));
        for &interface in policy.interfaces.iter().filter(|_| !reason) {
            let message = "smtp_egress is open, but no rule of its groups says to whom it sends mail: whoever breaks in \
                           can send spam from here";
            let advice =
                "leave smtp_egress out and send by 465 or 587; or accept outbound port 25 to the relay by a rule";
            findings.push(Finding::new(model, Code::MailOpen, Spot::Interface(interface), message.into(), advice));
        }
    }
    for (g, group) in model.groups.iter().enumerate() {
        let blocked: Vec<usize> = view
            .policies
            .iter()
            .filter(|p| p.key.groups.contains(&g) && !p.key.smtp_open)
            .flat_map(|p| p.interfaces.iter().copied())
            .collect();
        for r in (0..group.rules.len()).filter(|r| names_mail(g, *r) && !blocked.is_empty()) {
            let private = |net: &ipnet::IpNet| {
                sg_common::addr::Addr::from(net.addr()).is_private(net.addr().is_ipv4()) && net.prefix_len() >= 7
            };
            if matches!(&group.rules[r].object, Object::Cidr(net) if private(net))
                || matches!(group.rules[r].object, Object::Group(_))
            {
                continue;
            }
            let message = format!(
                "this accept does not open port 25 to public addresses on {}: it is blocked before any rule",
                view.interfaces(&blocked)
            );
            let advice = "send mail by 465 or 587; only this host's administrator lifts the block (smtp_egress: open)";
            findings.push(Finding::new(model, Code::MailBlocked, Spot::Rule(g, r), message, advice));
        }
    }
}

/// Outbound: what is closed only half, and what is open though it need not be.
fn outbound(view: &View<'_>, findings: &mut Vec<Finding>) {
    let model = view.model;
    for policy in &view.policies {
        let Some(judged) = &policy.judged[1] else { continue };
        let first = |v4: bool| judged.lines.iter().find(|l| is_world(model, l, v4) && l.protocol.is_none());
        let closes = |v4: bool| first(v4).filter(|l| l.verdict == Verdict::Drop && l.local.is_none());
        let default = crate::effective::default_verdict(model, &policy.key, Direction::Outbound);
        for (v4, here, other) in [(true, "0.0.0.0/0", "::/0"), (false, "::/0", "0.0.0.0/0")] {
            let (Some(Line { origin: Some(Origin::Rule(g, r)), .. }), None) = (closes(v4), first(!v4)) else {
                continue;
            };
            if default == Verdict::Accept {
                let message = format!(
                    "this drop closes outbound for {here} only: everything to {other} still passes, by default"
                );
                let advice = format!("add the same rule for {other}");
                findings.push(Finding::new(model, Code::OneFamily, Spot::Rule(*g, *r), message, advice));
            }
        }
        let open = |v4: bool| first(v4).filter(|l| l.verdict == Verdict::Accept);
        for line in [true, false].into_iter().filter_map(open).filter(|_| default == Verdict::Drop) {
            if let Some(Origin::Rule(g, r)) = line.origin {
                let message = "this accept lets everything out of an enterprise group, which would let nothing out";
                let advice = "accept what is needed, so that what breaks in can not call out";
                findings.push(Finding::new(model, Code::EgressAny, Spot::Rule(g, r), message.into(), advice));
            }
        }
        names(view, policy, judged, default, findings);
    }
}

/// Outbound closed, but for some; and names are not looked up.
fn names(view: &View<'_>, policy: &Policy, judged: &Judged, default: Verdict, findings: &mut Vec<Finding>) {
    let model = view.model;
    let rules = || judged.lines.iter().filter(|l| matches!(l.origin, Some(Origin::Rule(..))));
    let closed = default == Verdict::Drop
        || [true, false]
            .iter()
            .any(|v4| rules().any(|l| is_world(model, l, *v4) && l.protocol.is_none() && l.verdict == Verdict::Drop));
    let accepts: Vec<&Line> = rules().filter(|l| l.verdict == Verdict::Accept).collect();
    let dns = |l: &&Line| l.protocol.is_none_or(|p| p == 17) && has_port(l, 53);
    // A rule for one address in numbers needs no name.
    let by_name = accepts.iter().any(|l| [true, false].iter().any(|v4| is_world(model, l, *v4)));
    let spot = policy.interfaces.first().map(|i| Spot::Interface(*i));
    if let Some(spot) = spot.filter(|_| closed && by_name && !accepts.iter().any(dns)) {
        let message = "outbound is closed but for some ports, and UDP 53 is none of them: names can not be looked up";
        let advice = "accept outbound UDP and TCP 53 to the name servers";
        findings.push(Finding::new(model, Code::NoDns, spot, message.into(), advice));
    }
}
