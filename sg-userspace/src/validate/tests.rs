//! One case per rule of the document: what is written, what is said.

use super::*;
use crate::document::{Source, parse};

fn said(text: &str) -> String {
    let document = match parse(&[Source { name: "p".into(), bytes: text.into() }]) {
        Ok(document) => document,
        Err(e) => return e.to_string(),
    };
    match validate(&document, &Quotas::default()) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

/// A group `web` with one rule, and a group `other`.
fn rule(fields: &str) -> String {
    said(&format!(
        "security_groups:\n- security_group_name: web\n  permissions:\n  - {{{fields}}}\n- {{security_group_name: other}}\n\
         - {{security_group_name: ent, security_group_type: enterprise}}\n\
         prefix_lists: [{{prefix_list_name: six, address_family: IPv6, entries: [{{cidr: '2001:db8::/32'}}]}}]\n\
         port_range_lists: [{{port_range_list_name: ports, entries: [{{port_range: 80/90}}]}}]\n"
    ))
}

#[test]
fn good_rules() {
    for fields in [
        "direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0",
        "direction: INGRESS, policy: Drop, priority: 100, ip_protocol: UDP, port_range: 1/65535, source_cidr_ip: 10.1.2.3/8",
        "direction: egress, ip_protocol: all, port_range: -1/-1, dest_cidr_ip: 10.0.0.1",
        "direction: egress, ip_protocol: '47', ipv6_dest_cidr_ip: '::/0', dest_cidr_ip: ''",
        "direction: ingress, ip_protocol: icmpv6, source_group_id: other",
        "direction: ingress, ip_protocol: tcp, port_range_list_id: ports, source_prefix_list_id: six",
        "direction: ingress, ip_protocol: tcp, port_range: 1/2, source_port_range: 5/6, source_cidr_ip: 1.2.3.4, dest_cidr_ip: 10.0.0.5",
    ] {
        assert_eq!(rule(fields), "", "{fields}");
    }
}

#[test]
fn bad_rules() {
    let base = "direction: ingress, ip_protocol: tcp, port_range: 1/2";
    for (fields, want) in [
        ("ip_protocol: all, source_cidr_ip: 1.2.3.4", "direction is required; ingress or egress"),
        ("direction: in, ip_protocol: all, source_cidr_ip: 1.2.3.4", "\"in\" is not one of: ingress, egress"),
        ("direction: ingress, source_cidr_ip: 1.2.3.4", "ip_protocol is required"),
        ("direction: ingress, ip_protocol: 256, source_cidr_ip: 1.2.3.4", "\"256\" is not a protocol"),
        ("direction: ingress, ip_protocol: tcp, source_cidr_ip: 1.2.3.4", "port_range is required for TCP and UDP"),
        (
            "direction: ingress, ip_protocol: tcp, port_range: -1/-1, source_cidr_ip: 1.2.3.4",
            "-1/-1 (no ports) does not go",
        ),
        (
            "direction: ingress, ip_protocol: icmp, port_range: 1/2, source_cidr_ip: 1.2.3.4",
            "only TCP and UDP have ports",
        ),
        ("direction: ingress, ip_protocol: tcp, port_range: 22, source_cidr_ip: 1.2.3.4", "write 22/22"),
        ("direction: ingress, ip_protocol: tcp, port_range: 9/7, source_cidr_ip: 1.2.3.4", "reversed; write 7/9"),
        (
            "direction: ingress, ip_protocol: tcp, port_range: 0/7, source_cidr_ip: 1.2.3.4",
            "\"0\" in \"0/7\" is not a port",
        ),
        (base, "the remote side is missing; give exactly one of: source_cidr_ip"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, source_group_id: other"), "more than one remote side"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4/33"), "the length in \"1.2.3.4/33\" is not from 0 to 32"),
        (&format!("{base}, source_cidr_ip: 1.2.3"), "is not a prefix"),
        (&format!("{base}, source_cidr_ip: '::/0'"), "is IPv6, this field takes IPv4"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, ipv6_dest_cidr_ip: '::1'"), "one side is IPv4, the other IPv6"),
        (&format!("{base}, source_prefix_list_id: six, dest_cidr_ip: 1.2.3.4"), "one side is IPv4, the other IPv6"),
        (&format!("{base}, source_group_id: web"), "can not name its own group"),
        (&format!("{base}, source_group_id: othr"), "there is no security group \"othr\"; did you mean \"other\"?"),
        (&format!("{base}, source_group_id: ent"), "can not name an enterprise group"),
        (&format!("{base}, dest_group_id: other"), "names the instance's own side"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, priority: 0"), "\"0\" is not a whole number from 1 to 100"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, priority: 1e1"), "\"1e1\" is not a whole number"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, port_range_list_id: ports"), "exclude each other"),
        (&format!("{base}, source_cidr_ip: 1.2.3.4, colour: red"), "unknown key \"colour\""),
        (
            "direction: ingress, ip_protocol: gre, port_range_list_id: ports, source_cidr_ip: 1.2.3.4",
            "needs ip_protocol TCP or UDP",
        ),
        (
            "direction: ingress, ip_protocol: all, source_port_range: 1/2, source_cidr_ip: 1.2.3.4",
            "only TCP and UDP have ports",
        ),
    ] {
        let said = rule(fields);
        assert!(said.contains(want), "{fields}\nsaid: {said}\nwant: {want}");
        assert!(said.starts_with("p:4:"), "{said}");
    }
}

#[test]
fn duplicate_rules_name_both_lines() {
    let r = "{direction: ingress, ip_protocol: all, source_cidr_ip: 1.2.3.4}";
    let text = format!("security_groups:\n- security_group_name: a\n  permissions:\n  - {r}\n  - {r}\n");
    assert!(said(&text).contains("p:5:5: security_groups[0].permissions[1]: the same rule stands on line 4"));
}

#[test]
fn bad_objects() {
    let groups: String = (0..12).map(|i| format!("- {{security_group_name: g{i}}}\n")).collect();
    let groups = format!(
        "security_groups:\n{groups}- {{security_group_name: ent, security_group_type: enterprise}}\n\
         - {{security_group_name: far, vpc_id: vpc-2}}\n- {{security_group_id: sg-1, security_group_name: two}}\n\
         - {{security_group_id: sg-2, security_group_name: two}}\n"
    );
    let eleven: Vec<String> = (0..11).map(|i| format!("g{i}")).collect();
    for (text, want) in [
        ("network_interfaces: [{device: eth0}]".to_owned(), "at least one security group"),
        (format!("network_interfaces: [{{device: eth0, security_group_ids: [{}]}}]", eleven.join(",")), "11 groups, the limit is 10"),
        ("network_interfaces: [{device: eth0, security_group_ids: [g0, ent]}]".into(), "\"ent\" is enterprise, the first group is normal"),
        ("network_interfaces: [{device: eth0, security_group_ids: [g0, far]}]".into(), "\"far\" is in vpc-2"),
        ("network_interfaces: [{device: eth0, security_group_ids: [two]}]".into(), "the name \"two\" is borne by sg-1 and sg-2"),
        ("network_interfaces: [{device: eth0, security_group_ids: [nope]}]".into(), "there is no security group \"nope\""),
        ("network_interfaces: [{device: eth0, security_group_ids: [g0, g0]}]".into(), "stands here twice"),
        ("network_interfaces: [{device: e, security_group_ids: [g0]}, {device: e, security_group_ids: [g1]}]".into(), "\"e\" is already bound"),
        ("network_interfaces: [{device: lo, security_group_ids: [g0]}]".into(), "loopback device is never"),
        ("network_interfaces: [{device: '*', security_group_ids: [g0]}]".into(), "every device"),
        ("network_interfaces: [{security_group_ids: [g0]}]".into(), "needs a device, or private_ip_addresses"),
        ("network_interfaces: [{device: e, side: left, security_group_ids: [g0]}]".into(), "not one of: host, guest"),
        ("network_interfaces: [{device: e, private_ip_addresses: [10.0.0.300], security_group_ids: [g0]}]".into(), "not an IP address"),
        ("network_interfaces: [{device: e, side: guest, hook: xdp, security_group_ids: [g0]}]".into(), "xdp sees only"),
        ("network_interfaces: [{device: e, security_group_ids: [g0], connection_tracking_configuration: {udp_timeout: 31}}]".into(), "\"31\" is not one of: 10, 20"),
        ("prefix_lists: [{prefix_list_name: p, entries: [{cidr: 10.0.0.1/8}]}]".into(), "has host bits set; write 10.0.0.0/8"),
        ("prefix_lists: [{prefix_list_name: p, max_entries: 1, entries: [{cidr: 10.0.0.0/8}, {cidr: 11.0.0.0/8}]}]".into(), "2 entries, but max_entries is 1"),
        ("prefix_lists: [{prefix_list_name: p, entries: [{cidr: '::/0'}]}]".into(), "is IPv6, this field takes IPv4"),
        ("prefix_lists: [{prefix_list_name: p}, {prefix_list_name: p}]".into(), "prefix list is defined twice"),
        ("instances: [{instance_id: i, network_interface_ids: [eni-1]}]".into(), "there is no network interface"),
    ] {
        let said = said(&format!("{groups}{text}\n"));
        assert!(said.contains(want), "{text}\nsaid: {said}\nwant: {want}");
    }
    assert!(
        said(
            "security_groups: [{security_group_name: e, security_group_type: enterprise, inner_access_policy: accept}]"
        )
        .contains("never accept each other")
    );
    assert!(said("security_groups: [{description: x}]").contains("needs a name or an id"));
}

#[test]
fn quotas_count_lists_whole() {
    let rules: String = (0..10)
        .map(|i| {
            format!(
                "  - {{direction: ingress, ip_protocol: tcp, port_range: {p}/{p}, source_prefix_list_id: l}}\n",
                p = i + 1
            )
        })
        .collect();
    let text = |max: u32| {
        format!(
            "security_groups:\n- security_group_name: a\n  permissions:\n{rules}\
             prefix_lists: [{{prefix_list_name: l, max_entries: {max}}}]\n\
             network_interfaces: [{{device: e, security_group_ids: [a]}}]\n"
        )
    };
    assert_eq!(said(&text(100)), "");
    assert!(said(&text(101)).contains("1010 rules apply here"));
    let many: String = (0..21)
        .map(|i| {
            format!(
                "  - {{direction: ingress, ip_protocol: tcp, port_range: {p}/{p}, source_group_id: b}}\n",
                p = i + 1
            )
        })
        .collect();
    let text =
        format!("security_groups:\n- {{security_group_name: b}}\n- security_group_name: a\n  permissions:\n{many}");
    assert!(
        said(&text).contains(
            "p:25:5: security_groups[1].permissions[20]: 21 rules of this group name a group, the limit is 20"
        )
    );
}

#[test]
fn a_list_is_named_by_a_bounded_number_of_groups() {
    let rule = |ports: &str| {
        format!("{{direction: ingress, ip_protocol: tcp, port_range: {ports}, source_prefix_list_id: l}}")
    };
    // Two rules of one group are one of them.
    let text = format!(
        "security_groups:\n- {{security_group_name: a, permissions: [{one}, {two}]}}\n\
         - {{security_group_name: b, permissions: [{one}]}}\nprefix_lists: [{{prefix_list_name: l}}]\n",
        one = rule("1/1"),
        two = rule("2/2"),
    );
    let document = parse(&[Source { name: "p".into(), bytes: text.into() }]).unwrap();
    let limited = |groups| validate(&document, &Quotas { groups_per_prefix_list: groups, ..Quotas::default() });
    assert!(limited(2).is_ok());
    let problems = limited(1).unwrap_err();
    assert_eq!(
        problems.0[0].over.as_ref().map(|o| (o.limit, o.count)),
        Some((crate::document::problem::Limit::ListGroups, 2))
    );
    assert!(problems.to_string().contains("rules of 2 groups name this list, the limit is 1"), "{problems}");
}
