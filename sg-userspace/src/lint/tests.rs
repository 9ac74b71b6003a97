//! One case for each finding: what is written, what is said.

use super::*;
use crate::{
    document::{Source, parse},
    validate::validate,
};

fn quotas() -> Quotas {
    Quotas { rules_per_interface: 25, groups_per_interface: 4, prefix_list_entries: 20, ..Quotas::default() }
}

fn found(text: &str) -> Vec<Finding> {
    found_of(text, &quotas())
}

fn found_of(text: &str, quotas: &Quotas) -> Vec<Finding> {
    let document = parse(&[Source { name: "p".into(), bytes: text.into() }]).unwrap_or_else(|e| panic!("{e}"));
    let model = validate(&document, quotas).unwrap_or_else(|e| panic!("{e}"));
    let instances = model.declared_instances();
    lint(&Subject { model: &model, instances: &instances, quotas, document: Some(&document) })
}

/// A group `web` with rules on `eth0`, and its member elsewhere; more objects follow.
fn policy(rules: &[&str], more: &str) -> String {
    let rules: String = rules.iter().map(|r| format!("  - {{{r}}}\n")).collect();
    format!(
        "network_interfaces:\n- {{device: eth0, private_ip_addresses: [10.0.0.1, '2001:db8::1'], security_group_ids: [web]}}\n\
         {more}\nsecurity_groups:\n- security_group_name: web\n  inner_access_policy: drop\n  permissions:\n{rules}"
    )
}

/// The findings as `code place`.
fn said(text: &str) -> Vec<String> {
    found(text).iter().map(|f| format!("{} {}", f.code.name(), f.place.text())).collect()
}

const SSH: &str = "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 192.0.2.0/24";
const HTTPS: &str = "direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0";

#[test]
fn a_good_policy_has_no_findings() {
    assert_eq!(said(&policy(&[SSH, HTTPS], "")), [""; 0]);
    assert_eq!(found_of(include_str!("../../../examples/demo.yaml"), &Quotas::default()), []);
}

#[test]
fn rules_that_decide_nothing() {
    let inside = "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 192.0.2.7, priority: 2";
    let all = found(&policy(&[SSH, inside], ""));
    assert_eq!(
        (all.len(), all[0].code, all[0].because_of.as_slice()),
        (1, Code::RuleCovered, &["web[0]".to_owned()][..])
    );
    assert_eq!(all[0].at.as_deref(), Some("p:9:5"));
    let halves = ["192.0.2.0/25", "192.0.2.128/25"]
        .map(|half| format!("direction: ingress, ip_protocol: tcp, port_range: 20/30, source_cidr_ip: {half}"));
    let low = format!("{SSH}, priority: 9");
    let all = found(&policy(&[&halves[0], &halves[1], &low], ""));
    assert_eq!(
        (all[0].code, all[0].because_of.as_slice()),
        (Code::RuleCovered, &["web[0]".into(), "web[1]".into()][..])
    );
    assert!(all[0].message.contains("web[0] and web[1] come first and together match all"), "{}", all[0].message);
    let drop = format!("{SSH}, policy: drop");
    assert_eq!(said(&policy(&[&low, &drop], ""))[0], "rule-shadowed web[0]");
    // What is between keeps it needed.
    let wide = "direction: ingress, ip_protocol: tcp, port_range: 1/100, source_cidr_ip: 192.0.2.0/24, priority: 50";
    assert_eq!(said(&policy(&[SSH, wide], "")), ["rule-redundant web[0]"]);
    let between =
        "direction: ingress, policy: drop, ip_protocol: tcp, port_range: 22/23, source_cidr_ip: 192.0.2.9, priority: 7";
    assert_eq!(said(&policy(&[SSH, between, wide], "")), [""; 0]);
}

#[test]
fn invisible_rules_count() {
    let out = "direction: egress, ip_protocol: tcp, port_range: 443/443, dest_cidr_ip: 192.0.2.1";
    let all = found(&policy(&[out], ""));
    assert_eq!(all[0].code, Code::RuleRedundant);
    assert!(all[0].message.contains("the egress default would accept the same packets"), "{}", all[0].message);
    let metadata = "direction: egress, policy: drop, ip_protocol: all, dest_cidr_ip: 100.100.100.200";
    let all = found(&policy(&[metadata], ""));
    assert_eq!((all[0].code, all[0].because_of[0].as_str()), (Code::RuleShadowed, "(provider)"));
    let text = policy(&["direction: ingress, policy: drop, ip_protocol: all, source_cidr_ip: 10.0.0.2"], "")
        .replace("inner_access_policy: drop", "inner_access_policy: accept")
        .replace(
            "security_group_ids: [web]}",
            "security_group_ids: [web]}\n- {private_ip_addresses: [10.0.0.2], security_group_ids: [web]}",
        );
    assert_eq!(found(&text)[0].because_of, ["(members of web)"]);
    let lease = "direction: ingress, policy: drop, ip_protocol: udp, port_range: 68/68, source_port_range: 67/67, source_cidr_ip: 10.0.0.0/8";
    assert_eq!(found(&policy(&[lease], ""))[0].because_of, ["(essential)"]);
}

#[test]
fn a_rule_is_judged_where_its_group_is() {
    let text = |on: &str| {
        policy(&[SSH], &format!("- {{device: eth1, private_ip_addresses: [10.0.0.3], security_group_ids: [{on}]}}"))
            + "- security_group_name: lock\n  inner_access_policy: drop\n  permissions:\n  \
               - {direction: ingress, policy: drop, ip_protocol: all, source_cidr_ip: 192.0.0.0/16}\n"
    };
    let all = found(&text("web, lock"));
    let shadowed: Vec<_> = all.iter().filter(|f| f.code == Code::RuleShadowed).collect();
    assert!(
        shadowed[0].message.contains("never decides on eth1: there lock[0] comes first"),
        "{}",
        shadowed[0].message
    );
    assert!(!said(&text("lock")).contains(&"rule-shadowed web[0]".into()));
}

#[test]
fn unknown_addresses_may_be_any() {
    // Whether the drop is needed depends on who is in `others`.
    let rules = [
        "direction: ingress, policy: drop, ip_protocol: all, source_cidr_ip: 10.9.0.0/16",
        "direction: ingress, ip_protocol: all, source_group_id: others, priority: 2",
    ];
    let more = |addresses: &str| {
        policy(&rules, &format!("- {{device: eth1, {addresses}security_group_ids: [others]}}"))
            + "- security_group_name: others\n"
    };
    assert_eq!(said(&more("")), [""; 0]);
    assert_eq!(said(&more("private_ip_addresses: [10.9.0.1], ")), ["rule-shadowed web[1]"]);
    assert_eq!(said(&more("private_ip_addresses: [10.8.0.1], ")), ["rule-redundant web[0]"]);
}

#[test]
fn what_names_nothing() {
    let rules = [
        "direction: ingress, ip_protocol: tcp, port_range: 80/80, source_group_id: nobody",
        "direction: ingress, ip_protocol: tcp, port_range: 81/81, source_prefix_list_id: none",
        "direction: ingress, ip_protocol: icmp, ipv6_source_cidr_ip: '::/0'",
        "direction: ingress, ip_protocol: icmpv6, source_cidr_ip: 192.0.2.0/24",
        "direction: ingress, ip_protocol: gre, source_cidr_ip: 192.0.2.0/24, dest_cidr_ip: 10.0.0.9",
        "direction: ingress, ip_protocol: gre, source_cidr_ip: 10.0.0.1, dest_cidr_ip: 10.0.0.1/32",
    ];
    let lists = "prefix_lists: [{prefix_list_name: none, max_entries: 5}]";
    let text = policy(&rules[..5], "") + "- security_group_name: nobody\n" + lists;
    let mut want = vec![
        "group-empty group nobody",
        "rule-names-empty web[0]",
        "rule-names-empty web[1]",
        "wrong-family web[2]",
        "wrong-family web[3]",
        "local-elsewhere web[4]",
    ];
    let mut got = said(&text);
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, want);
    assert_eq!(said(&policy(&rules[5..], "")), ["rule-matches-nothing web[0]"]);
}

#[test]
fn what_everybody_reaches() {
    let open = |ports: &str| {
        format!("direction: ingress, ip_protocol: tcp, port_range: {ports}, source_cidr_ip: 0.0.0.0/0, priority: 10")
    };
    let case = |rules: &[&str]| said(&policy(rules, ""));
    assert_eq!(case(&[&open("22/22")]), ["management-open web[0]"]);
    assert_eq!(case(&[&open("3380/3400")]), ["management-open web[0]"]);
    let six = "direction: ingress, ip_protocol: tcp, port_range: 22/22, ipv6_source_cidr_ip: '::/0'";
    assert_eq!(case(&[six]), ["management-open web[0]"]);
    assert_eq!(case(&[&open("5432/5432")]), ["database-open web[0]"]);
    assert_eq!(case(&[&open("25/25")]), ["port-25-open web[0]"]);
    assert_eq!(case(&[&open("1/65535")]), ["any-any web[0]"]);
    assert_eq!(case(&["direction: ingress, ip_protocol: all, source_cidr_ip: 0.0.0.0/0"]), ["any-any web[0]"]);
    // A drop of everybody closes it again, a drop of some does not.
    let drop = |from: &str| {
        format!("direction: ingress, policy: drop, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: {from}")
    };
    assert_eq!(case(&[&open("20/24"), &drop("0.0.0.0/0")]), [""; 0]);
    assert_eq!(case(&[&open("20/24"), &drop("192.0.2.0/24")]), ["management-open web[0]"]);
    let list = "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: all";
    let text =
        policy(&[list], "") + "prefix_lists: [{prefix_list_name: all, max_entries: 5, entries: [{cidr: 0.0.0.0/0}]}]";
    assert_eq!(said(&text), ["management-open web[0]"]);
}

#[test]
fn outbound() {
    let mail = "direction: egress, ip_protocol: tcp, port_range: 25/25, dest_cidr_ip: 203.0.113.5";
    assert!(said(&policy(&[mail], "")).contains(&"port-25-blocked web[0]".into()));
    let lifted = |rules: &[&str]| said(&policy(rules, "").replace("device: eth0,", "device: eth0, smtp_egress: open,"));
    assert_eq!(lifted(&[SSH]), ["port-25-open interface eth0"]);
    let closed = ["0.0.0.0/0", "::/0"].map(|net| {
        let field = if net.contains(':') { "ipv6_dest_cidr_ip" } else { "dest_cidr_ip" };
        format!("direction: egress, policy: drop, ip_protocol: all, {field}: '{net}', priority: 100")
    });
    assert_eq!(lifted(&[mail, &closed[0], &closed[1]]), [""; 0]);
    assert_eq!(said(&policy(&[&closed[0]], "")), ["egress-one-family web[0]"]);
    let web = "direction: egress, ip_protocol: tcp, port_range: 443/443, dest_cidr_ip: 0.0.0.0/0";
    assert_eq!(said(&policy(&[web, &closed[0], &closed[1]], "")), ["egress-no-dns interface eth0"]);
    let dns = "direction: egress, ip_protocol: udp, port_range: 53/53, dest_cidr_ip: 192.0.2.53";
    assert_eq!(said(&policy(&[web, dns, &closed[0], &closed[1]], "")), [""; 0]);
    let enterprise = policy(&["direction: egress, ip_protocol: all, dest_cidr_ip: 0.0.0.0/0"], "")
        .replace("inner_access_policy: drop", "security_group_type: enterprise");
    assert_eq!(said(&enterprise), ["egress-any web[0]"]);
}

#[test]
fn lists_and_quotas() {
    let rule = "direction: ingress, ip_protocol: tcp, port_range: 80/80, source_prefix_list_id: l";
    let list = |max: &str, held: usize| {
        let entries: Vec<String> = (0..held).map(|i| format!("{{cidr: 192.0.{i}.0/24}}")).collect();
        said(&format!(
            "{}prefix_lists: [{{prefix_list_name: l, {max}entries: [{}]}}]",
            policy(&[rule], ""),
            entries.join(", ")
        ))
    };
    assert_eq!(list("max_entries: 5, ", 4), ["list-near-limit list l"]);
    assert_eq!(list("max_entries: 5, ", 3), [""; 0]);
    assert_eq!(list("", 16), ["list-near-limit list l"], "its limit is the quota");
    assert_eq!(list("", 2), [""; 0]);
    let unused = policy(&[SSH], "") + "port_range_lists: [{port_range_list_name: p, entries: [{port_range: 80/80}]}]";
    assert_eq!(said(&unused), ["list-unused list p"]);
    let many: Vec<String> = (0..20)
        .map(|i| {
            format!("direction: ingress, ip_protocol: tcp, port_range: {i}000/{i}001, source_cidr_ip: 192.0.2.0/24")
                .replace(" 0000/0001", " 1/2")
        })
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(said(&policy(&many, "")), ["quota-near interface eth0"]);
    assert_eq!(said(&policy(&many[1..], "")), [""; 0]);
}

#[test]
fn habits() {
    let database = "direction: ingress, ip_protocol: tcp, port_range: 3306/3306, source_cidr_ip: 192.0.2.0/24";
    assert_eq!(said(&policy(&[HTTPS, database], "")), ["mixed-purposes group web"]);
    let drop = "direction: ingress, policy: drop, ip_protocol: all, source_cidr_ip: 0.0.0.0/0, priority: 100";
    assert!(said(&policy(&[SSH, drop], "")).contains(&"health-checks-dropped web[1]".into()));
    let check = "direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 100.64.0.0/10";
    assert!(!said(&policy(&[check, drop], "")).contains(&"health-checks-dropped web[1]".into()));
    let two = "network_interfaces: [{device: e, private_ip_addresses: [10.0.0.1], security_group_ids: [prod-web-front-sg, web-test]}]\n\
               security_groups: [{security_group_name: prod-web-front-sg}, {security_group_name: web-test}]\n";
    assert_eq!(said(two), ["group-name group web-test", "mixed-environments interface e"]);
}

/// The administrator's own; no rule is the worse for it but one that it makes pointless.
#[test]
fn a_failsafe_is_part_of_the_policy() {
    let text = policy(&[&format!("{SSH}, policy: drop"), HTTPS], "");
    let document = parse(&[Source { name: "p".into(), bytes: text.into() }]).unwrap();
    let mut model = validate(&document, &quotas()).unwrap();
    let mut found = |sources: &[&str]| {
        let sources = sources.iter().map(|s| s.parse().unwrap()).collect();
        let failsafe = crate::failsafe::Failsafe { ports: vec![(22, 22)], sources, devices: Vec::new() };
        model.failsafe = Some(std::sync::Arc::new(failsafe));
        let instances = model.declared_instances();
        lint(&Subject { model: &model, instances: &instances, quotas: &quotas(), document: None })
    };
    let all = found(&["192.0.2.0/24"]);
    assert_eq!(
        (all.len(), all[0].code, all[0].because_of.as_slice()),
        (1, Code::RuleShadowed, &["(failsafe 22)".to_owned()][..])
    );
    let all = found(&["198.51.100.0/24", "::/0"]);
    let codes: Vec<_> = all.iter().map(|f| f.code).filter(|c| c.severity() == Severity::Warning).collect();
    assert_eq!(codes, [Code::FailsafeOpen], "{all:?}");
    assert!(all[0].message.contains("::/0 reach tcp 22"), "{all:?}");
}

#[test]
fn what_is_too_large_is_said() {
    let document = parse(&[Source { name: "p".into(), bytes: policy(&[SSH], "").into() }]).unwrap();
    let model = validate(&document, &quotas()).unwrap();
    let members = Members::of_all(&model, &model.declared_instances());
    let key = PolicyKey::of(&model, &model.declared_instances()[0]);
    let judge = |budget| fate::judge(&model, &members, &[], &key, Direction::Inbound, &mut Budget(budget)).is_some();
    assert!(judge(10_000) && !judge(50));
    let view = View {
        model: &model,
        quotas: &quotas(),
        members,
        unknown: Vec::new(),
        policies: vec![Policy { key, interfaces: vec![0], judged: [None, None] }],
    };
    let mut findings = Vec::new();
    rules::look(&view, &mut findings);
    assert_eq!((findings.len(), findings[0].code), (1, Code::NotLookedAt));
}

#[test]
fn only_what_is_new_is_added() {
    let before = found(&policy(
        &[HTTPS, "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 0.0.0.0/0"],
        "",
    ));
    // The rule has moved.
    let after = found(&policy(
        &[
            "direction: ingress, ip_protocol: tcp, port_range: 3389/3389, source_cidr_ip: 0.0.0.0/0",
            HTTPS,
            "direction: ingress, ip_protocol: tcp, port_range: 22/22, source_cidr_ip: 0.0.0.0/0",
        ],
        "",
    ));
    let new = added(&before, after);
    assert_eq!(new.iter().map(|f| f.place.text()).collect::<Vec<_>>(), ["web[0]"]);
}
