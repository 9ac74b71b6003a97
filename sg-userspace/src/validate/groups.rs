//! Security groups and their rules.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;

use super::{
    Quotas,
    names::{DEFAULT_VPC, Names, derived_id},
    parse::{cidr, number, ports, protocol, read, word},
};
use crate::{
    document::{Document, Group as Written, Permission, Problems, Text, problem::Limit},
    model::{Direction, Group, GroupType, Object, Ports, Rule, Verdict},
};

/// All groups.
pub fn groups(document: &Document, names: &Names, quotas: &Quotas, problems: &mut Problems) -> Vec<Arc<Group>> {
    let all = 0..document.security_groups.len();
    let kinds: Vec<GroupType> = all.clone().map(|i| kind(document, i, problems)).collect();
    all.map(|i| Arc::new(group(document, i, &kinds, names, quotas, problems))).collect()
}

/// The type of one of them.
pub fn kind(document: &Document, i: usize, problems: &mut Problems) -> GroupType {
    let path = format!("security_groups[{i}].security_group_type");
    let words = [("normal", GroupType::Normal), ("enterprise", GroupType::Enterprise)];
    let text = document.security_groups[i].security_group_type.as_ref();
    text.and_then(|t| read(t, &path, problems, |t| word(&words, t))).unwrap_or(GroupType::Normal)
}

/// One of them; `kinds` are the types of all.
pub fn group(
    document: &Document,
    i: usize,
    kinds: &[GroupType],
    names: &Names,
    quotas: &Quotas,
    problems: &mut Problems,
) -> Group {
    let written = &document.security_groups[i];
    let path = format!("security_groups[{i}]");
    let reader = Reader { document, names, kinds, group: i };
    Group {
        id: names.groups.ids[i].clone(),
        name: names.groups.names[i].clone(),
        kind: kinds[i],
        vpc: written.vpc_id.as_deref().unwrap_or(DEFAULT_VPC).to_owned(),
        inner_accept: inner_accept(written, kinds[i], &path, problems),
        rules: reader.rules(written, &path, quotas, problems),
    }
}

fn inner_accept(written: &Written, kind: GroupType, path: &str, problems: &mut Problems) -> bool {
    let path = format!("{path}.inner_access_policy");
    let accept = written
        .inner_access_policy
        .as_ref()
        .and_then(|t| Some((t, read(t, &path, problems, |t| word(&[("accept", true), ("drop", false)], t))?)));
    match (kind, accept) {
        (GroupType::Normal, accept) => accept.is_none_or(|(_, accept)| accept),
        (GroupType::Enterprise, Some((text, true))) => {
            let help = Some("leave it out, or make the group normal".into());
            problems.add(&text.at, &path, "an enterprise group's members never accept each other", help);
            false
        }
        (GroupType::Enterprise, _) => false,
    }
}

struct Reader<'a> {
    document: &'a Document,
    names: &'a Names,
    kinds: &'a [GroupType],
    group: usize,
}

impl Reader<'_> {
    fn rules(&self, written: &Written, path: &str, quotas: &Quotas, problems: &mut Problems) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut seen = HashMap::new();
        let mut group_objects = 0;
        let mut first_over = None;
        for (j, permission) in written.permissions.iter().enumerate() {
            let path = format!("{path}.permissions[{j}]");
            let Some(mut rule) = self.rule(permission, &path, problems) else { continue };
            if let Some(first) = seen.insert(rule.clone(), j) {
                let at = &written.permissions[first].at.0;
                let message = format!("the same rule stands on line {}", at.line);
                problems.add(&permission.at.0, &path, message, Some("remove one of them".into()));
            }
            if matches!(rule.object, Object::Group(_)) {
                group_objects += 1;
                if self.kinds[self.group] == GroupType::Enterprise {
                    let help = Some("name addresses or a prefix list, or make the group normal".into());
                    problems.add(&permission.at.0, &path, "a rule of an enterprise group can not name a group", help);
                } else if group_objects == quotas.group_rules_per_group.saturating_add(1) {
                    first_over = Some((permission, path));
                }
            }
            let identity = self.identity(&rule);
            rule.id = derived_id("sgr", &[&self.names.groups.ids[self.group], &identity]);
            rules.push(rule);
        }
        if let Some((permission, path)) = first_over {
            let limit = quotas.group_rules_per_group;
            let message = format!("{group_objects} rules of this group name a group, the limit is {limit}");
            problems.add(&permission.at.0, &path, message, None);
            problems.passes(Limit::GroupRules(limit), &self.names.groups.ids[self.group], group_objects);
        }
        rules
    }

    /// What a rule's id is made of: it stays while others come and go.
    fn identity(&self, rule: &Rule) -> String {
        let Names { groups, prefix_lists, port_lists, .. } = self.names;
        let object = match &rule.object {
            Object::Cidr(net) => net.to_string(),
            Object::Group(i) => groups.ids[*i].clone(),
            Object::PrefixList(i) => prefix_lists.ids[*i].clone(),
        };
        let ports = match &rule.ports {
            Ports::List(i) => port_lists.ids[*i].clone(),
            other => format!("{other:?}"),
        };
        let Rule { direction, verdict, priority, protocol, source_ports, local, .. } = rule;
        format!("{direction:?} {verdict:?} {priority} {protocol:?} {ports} {source_ports:?} {object} {local:?}")
    }

    /// One rule; its id is still empty.
    fn rule(&self, p: &Permission, path: &str, problems: &mut Problems) -> Option<Rule> {
        let before = problems.0.len();
        let field = |name: &str| format!("{path}.{name}");
        let direction = match &p.direction {
            Some(t) => read(t, &field("direction"), problems, |t| {
                word(&[("ingress", Direction::Inbound), ("egress", Direction::Outbound)], t)
            }),
            None => {
                problems.add(&p.at.0, path, "direction is required", Some("ingress or egress".into()));
                None
            }
        };
        let verdict = p.policy.as_ref().map_or(Some(Verdict::Accept), |t| {
            read(t, &field("policy"), problems, |t| word(&[("accept", Verdict::Accept), ("drop", Verdict::Drop)], t))
        });
        let priority = p
            .priority
            .as_ref()
            .map_or(Some(1), |t| read(t, &field("priority"), problems, |t| number(t, 1, 100)))
            .map(|n| n as u8);
        let protocol = match &p.ip_protocol {
            Some(t) => read(t, &field("ip_protocol"), problems, protocol),
            None => {
                let help = Some("TCP, UDP, ICMP, ICMPv6, GRE, ALL or a number".into());
                problems.add(&p.at.0, path, "ip_protocol is required", help);
                None
            }
        };
        if let Some(t) = &p.nic_type {
            read(t, &field("nic_type"), problems, |t| word(&[("intranet", ()), ("internet", ())], t));
        }
        for (name, t) in [
            ("source_group_owner_account", &p.source_group_owner_account),
            ("dest_group_owner_account", &p.dest_group_owner_account),
        ] {
            if let Some(t) = t {
                let help = Some("leave it out: all groups here belong to one account".into());
                problems.add(&t.at, &field(name), "groups of other accounts are not known here", help);
            }
        }
        let ports = protocol.and_then(|protocol| self.ports(p, protocol, path, problems));
        let source_ports = protocol.and_then(|protocol| source_ports(p, protocol, path, problems));
        let sides = direction.and_then(|direction| self.sides(p, direction, path, problems));
        if problems.0.len() > before {
            return None;
        }
        let (object, local) = sides?;
        Some(Rule {
            id: String::new(),
            direction: direction?,
            verdict: verdict?,
            priority: priority?,
            protocol: protocol?,
            ports: ports?,
            source_ports: source_ports?,
            object,
            local,
        })
    }

    fn ports(&self, p: &Permission, protocol: Option<u8>, path: &str, problems: &mut Problems) -> Option<Ports> {
        let with_ports = matches!(protocol, Some(6 | 17));
        let range_path = format!("{path}.port_range");
        if let Some(list) = &p.port_range_list_id {
            if let Some(t) = &p.port_range {
                let message = "port_range and port_range_list_id exclude each other";
                problems.add(&t.at, &range_path, message, Some("keep one of them".into()));
            }
            if !with_ports {
                let message = "a port list needs ip_protocol TCP or UDP";
                problems.add(&list.at, &format!("{path}.port_range_list_id"), message, None);
            }
            let path = format!("{path}.port_range_list_id");
            return self.names.port_lists.resolve(list, &path, problems).map(Ports::List);
        }
        let range = match &p.port_range {
            Some(t) => read(t, &range_path, problems, ports)?,
            None => None,
        };
        match (with_ports, range) {
            (true, Some((first, last))) => Some(Ports::Range(first, last)),
            (true, None) => {
                let (at, message) = match &p.port_range {
                    Some(t) => (&t.at, "-1/-1 (no ports) does not go with TCP or UDP"),
                    None => (&p.at.0, "port_range is required for TCP and UDP"),
                };
                problems.add(at, &range_path, message, Some("write 1/65535 for every port".into()));
                None
            }
            (false, None) => Some(Ports::Any),
            (false, Some(_)) => {
                let at = p.port_range.as_ref().map_or(&p.at.0, |t| &t.at);
                let help = Some("leave it out, or write -1/-1".into());
                problems.add(at, &range_path, "only TCP and UDP have ports", help);
                None
            }
        }
    }

    /// Remote object and local prefix.
    fn sides(
        &self,
        p: &Permission,
        direction: Direction,
        path: &str,
        problems: &mut Problems,
    ) -> Option<(Object, Option<IpNet>)> {
        let source = Side {
            cidrs: [("source_cidr_ip", &p.source_cidr_ip), ("ipv6_source_cidr_ip", &p.ipv6_source_cidr_ip)],
            group: ("source_group_id", &p.source_group_id),
            list: ("source_prefix_list_id", &p.source_prefix_list_id),
        };
        let dest = Side {
            cidrs: [("dest_cidr_ip", &p.dest_cidr_ip), ("ipv6_dest_cidr_ip", &p.ipv6_dest_cidr_ip)],
            group: ("dest_group_id", &p.dest_group_id),
            list: ("dest_prefix_list_id", &p.dest_prefix_list_id),
        };
        let (remote, local) = if direction == Direction::Inbound { (source, dest) } else { (dest, source) };
        let before = problems.0.len();
        for (name, text) in [local.group, local.list] {
            if let Some(t) = text {
                let message = format!("{name} names the instance's own side in an {} rule", direction.name());
                let help = format!("name the remote side: {} or {}", remote.group.0, remote.list.0);
                problems.add(&t.at, &format!("{path}.{name}"), message, Some(help));
            }
        }
        let local = local.local(path, problems);
        let object = self.object(p, &remote, path, problems);
        if let (Some((object, text)), Some((net, _))) = (&object, &local) {
            let v4 = matches!(net, IpNet::V4(_));
            let mixed = match object {
                Object::Cidr(o) => matches!(o, IpNet::V4(_)) != v4,
                Object::PrefixList(i) => {
                    let family = self.document.prefix_lists[*i].address_family.as_deref().unwrap_or("IPv4");
                    family.eq_ignore_ascii_case("IPv4") != v4
                }
                Object::Group(_) => false,
            };
            if mixed {
                let message = "one side is IPv4, the other IPv6: no packet can match";
                problems.add(&text.at, path, message, Some("write one rule for each family".into()));
            }
        }
        if problems.0.len() > before {
            return None;
        }
        Some((object?.0, local.map(|(net, _)| net)))
    }

    fn object<'t>(
        &self,
        p: &Permission,
        side: &Side<'t>,
        path: &str,
        problems: &mut Problems,
    ) -> Option<(Object, &'t Text)> {
        let fields = [side.cidrs[0], side.cidrs[1], side.group, side.list];
        let given: Vec<_> = fields.iter().filter_map(|(name, t)| t.as_ref().map(|t| (*name, t))).collect();
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        let [(name, text)] = given[..] else {
            let (at, message) = match given.get(1) {
                Some((_, second)) => {
                    let given: Vec<_> = given.iter().map(|(name, _)| *name).collect();
                    (&second.at, format!("more than one remote side: {}", given.join(" and ")))
                }
                None => (&p.at.0, "the remote side is missing".to_owned()),
            };
            problems.add(at, path, message, Some(format!("give exactly one of: {}", names.join(", "))));
            return None;
        };
        let path = format!("{path}.{name}");
        let object = if name == side.group.0 {
            let i = self.names.groups.resolve(text, &path, problems)?;
            self.check_group(i, text, &path, problems)?;
            Object::Group(i)
        } else if name == side.list.0 {
            Object::PrefixList(self.names.prefix_lists.resolve(text, &path, problems)?)
        } else {
            Object::Cidr(read(text, &path, problems, |t| cidr(t, name == side.cidrs[0].0))?)
        };
        Some((object, text))
    }

    fn check_group(&self, i: usize, text: &Text, path: &str, problems: &mut Problems) -> Option<()> {
        let vpc = |i: usize| self.document.security_groups[i].vpc_id.as_deref().unwrap_or(DEFAULT_VPC);
        if i == self.group {
            let help = Some("members of a normal group accept each other: see inner_access_policy".into());
            problems.add(&text.at, path, "a rule can not name its own group", help);
            return None;
        }
        if vpc(i) != vpc(self.group) {
            let message = format!("the group is in {}, this one in {}", vpc(i), vpc(self.group));
            problems.add(&text.at, path, message, Some("name its addresses instead".into()));
            return None;
        }
        if self.kinds[i] == GroupType::Enterprise {
            let help = Some("name its addresses or a prefix list".into());
            problems.add(&text.at, path, "a rule can not name an enterprise group", help);
            return None;
        }
        Some(())
    }
}

type Field<'a> = (&'static str, &'a Option<Text>);

/// The fields of one side of a rule.
struct Side<'a> {
    cidrs: [Field<'a>; 2],
    group: Field<'a>,
    list: Field<'a>,
}

impl<'a> Side<'a> {
    /// The local prefix; the whole of a family is as good as none only together with its remote side, so it stays.
    fn local(&self, path: &str, problems: &mut Problems) -> Option<(IpNet, &'a Text)> {
        let [v4, v6] = self.cidrs;
        if let (Some(_), Some(second)) = (v4.1, v6.1) {
            let message = format!("{} and {} exclude each other", v4.0, v6.0);
            problems.add(&second.at, path, message, Some("write one rule for each family".into()));
            return None;
        }
        let ((name, Some(text)), v4) = (if v4.1.is_some() { (v4, true) } else { (v6, false) }) else {
            return None;
        };
        Some((read(text, &format!("{path}.{name}"), problems, |t| cidr(t, v4))?, text))
    }
}

#[expect(clippy::option_option, reason = "the outer one is a problem, the inner one any port")]
fn source_ports(
    p: &Permission,
    protocol: Option<u8>,
    path: &str,
    problems: &mut Problems,
) -> Option<Option<(u16, u16)>> {
    let Some(text) = &p.source_port_range else { return Some(None) };
    let path = format!("{path}.source_port_range");
    let range = read(text, &path, problems, ports)?;
    if range.is_some() && !matches!(protocol, Some(6 | 17)) {
        problems.add(&text.at, &path, "only TCP and UDP have ports", Some("leave it out, or write -1/-1".into()));
        return None;
    }
    Some(range)
}
