use super::*;
use crate::document::{Source, parse};

fn read(text: &str) -> Document {
    parse(&[Source { name: "f".into(), bytes: text.into() }]).unwrap()
}

fn names(document: &Document) -> Names {
    Names::of(document, &mut Problems::default())
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (read(old), read(new));
    drift(&old, &new, &names(&new))
        .iter()
        .map(|d| format!("{} {} {}: {}", d.kind, d.name, d.what.words(), d.detail))
        .collect()
}

const BASE: &str = "
security_groups:
- security_group_name: web
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: office}
  - {direction: ingress, ip_protocol: tcp, port_range: 9100/9100, source_group_id: mon}
- {security_group_name: mon}
prefix_lists: [{prefix_list_name: office, max_entries: 5, entries: [{cidr: 203.0.113.0/24}]}]
port_range_lists: [{port_range_list_name: ports, entries: [{port_range: 80/80}]}]
network_interfaces: [{device: eth0, security_group_ids: [web]}]
instances: [{instance_id: i-1, instance_name: one, network_interface_ids: [eth0]}]
";

#[test]
fn what_is_only_written_otherwise_is_no_drift() {
    assert!(lines(BASE, BASE).is_empty());
    let (web, mon) = (names(&read(BASE)).groups.ids[0].clone(), names(&read(BASE)).groups.ids[1].clone());
    // In other places, by ids, with what is meant by itself said.
    let other = format!(
        "
network_interfaces: [{{device: eth0, security_group_ids: [{web}]}}]
instances: [{{instance_id: i-1, instance_name: one, network_interface_ids: [eth0]}}]
port_range_lists: [{{port_range_list_name: ports, entries: [{{port_range: 80/80}}]}}]
prefix_lists: [{{prefix_list_name: office, max_entries: 5, entries: [{{cidr: 203.0.113.0/24}}]}}]
security_groups:
- {{security_group_name: mon, inner_access_policy: Accept}}
- security_group_name: web
  security_group_id: {web}
  permissions:
  - {{direction: ingress, ip_protocol: TCP, port_range: 9100/9100, source_group_id: {mon}, priority: 1}}
  - {{direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0, policy: accept}}
  - {{direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: office}}
"
    );
    assert!(lines(BASE, &other).is_empty(), "{:?}", lines(BASE, &other));
}

#[test]
fn each_difference_is_told_in_its_own_words() {
    let changed = BASE
        .replace("  - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 0.0.0.0/0}\n", "")
        .replace(
            "source_group_id: mon}",
            "source_group_id: mon, description: metrics}\n  - {direction: egress, policy: drop, \
            priority: 7, ip_protocol: udp, port_range: 53/53, dest_cidr_ip: 8.8.8.8}",
        )
        .replace("{security_group_name: mon}", "{security_group_name: mon, inner_access_policy: drop, description: x}")
        .replace("203.0.113.0/24", "198.51.100.0/24")
        .replace("80/80", "81/81")
        .replace(
            "security_group_ids: [web]",
            "security_group_ids: [mon], connection_tracking_configuration: {udp_timeout: 60}",
        )
        .replace("instance_name: one", "instance_name: two");
    assert_eq!(
        lines(BASE, &changed),
        [
            "instance i-1 changed: instance_name: one → two",
            "network interface eth0 joined: mon",
            "network interface eth0 left: web",
            "network interface eth0 changed: connection_tracking_configuration.udp_timeout: none → 60",
            "port range list ports entry added: 81/81",
            "port range list ports entry removed: 80/80",
            "prefix list office entry added: 198.51.100.0/24",
            "prefix list office entry removed: 203.0.113.0/24",
            "security group web rule added: egress drop udp 53/53 to 8.8.8.8 priority 7",
            "security group web rule removed: ingress accept tcp 443/443 from 0.0.0.0/0",
            "security group web rule changed: ingress accept tcp 9100/9100 from mon: description: none → metrics",
            "security group mon changed: description: none → x",
            "security group mon changed: inner_access_policy: accept → drop",
        ]
    );
    let gone = BASE.replace("prefix_lists: [{prefix_list_name: office,", "prefix_lists: [{prefix_list_name: home,");
    let told = lines(BASE, &gone);
    assert!(
        told.contains(&"prefix list office removed: ".into()) && told.contains(&"prefix list home created: ".into())
    );
}

#[test]
fn a_plan_says_what_of_it_goes_and_what_stays() {
    let rule = |port: u16| {
        format!("{{direction: ingress, ip_protocol: tcp, port_range: {port}/{port}, source_cidr_ip: 10.0.0.0/8}}")
    };
    let group = |ports: &[u16]| {
        let rules: Vec<String> = ports.iter().map(|p| rule(*p)).collect();
        read(&format!("security_groups: [{{security_group_name: g, permissions: [{}]}}]", rules.join(", ")))
    };
    let (then, now, new) = (group(&[1, 2]), group(&[2, 3, 4]), group(&[2, 4, 5]));
    let told = |drift: &[Drift]| -> Vec<String> {
        drift.iter().map(|d| format!("{} {}", d.what.words(), d.detail.split(' ').nth(3).unwrap())).collect()
    };
    let planned = |then: Option<&Document>| planned(then, (&now, &names(&now)), (&new, &names(&new)));
    let PlannedDrift { known, undone, kept } = planned(Some(&then));
    assert!(known);
    assert_eq!(told(&undone), ["rule added 3/3"]);
    assert_eq!(told(&kept), ["rule added 4/4", "rule removed 1/1"]);
    assert_eq!(planned(None), PlannedDrift::default());
}

#[test]
fn each_document_is_told_apart_and_what_came_by_the_api_is_none() {
    let named = |name: &str, text: &str| Document { document: Some(name.into()), ..read(text) };
    let (a, b) = (named("a", "security_groups: [{security_group_name: g}]"), named("b", "security_groups: []"));
    let api = named(API_NAME, "security_groups: [{security_group_name: x}]");
    let gone = named("a", "security_groups: []");
    let whole = |documents: &[Document]| Names::of_all(documents, &mut Problems::default());
    let now = [gone, b, api];
    let told = of_all(std::slice::from_ref(&a), &now, &whole(&now));
    let short: Vec<_> = told.iter().map(|d| (d.document.as_str(), d.known, d.objects, d.changes)).collect();
    assert_eq!(short, [("a", true, 1, 1), ("b", false, 0, 0)]);
    assert_eq!(told[0].first[0].what, What::Removed);
    // A document of which nothing is left is told as well.
    assert_eq!(of_all(&[a], &now[1..], &whole(&now[1..]))[0].changes, 1);
}

#[test]
fn what_an_apply_takes_over_is_no_drift_of_whom_it_was_taken_from() {
    let named = |name: &str, text: &str| Document { document: Some(name.into()), ..read(text) };
    let a = named(
        "a",
        "security_groups: [{security_group_name: g}, {security_group_name: h}]\ninstances: [{instance_id: i-1}]",
    );
    let before = Arc::new(vec![a]);
    let b = named("b", "security_groups: [{security_group_name: g}]\ninstances: [{instance_id: i-1}]");
    let after = applied(&before, &b);
    assert_eq!(*after, [named("a", "security_groups: [{security_group_name: h}]"), b.clone()]);
    assert!(Arc::ptr_eq(&applied(&after, &b), &after), "the same again changes nothing");
}
