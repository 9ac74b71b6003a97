//! What a change leaves as it was is not read anew: after any number of random edits,
//! good and bad ones, that comes to the same as reading all from the beginning.

mod support;

use sg_userspace::{
    document::{Document, Group, NetworkInterface, Permission, PrefixEntry, PrefixList, Text},
    validate::{Quotas, Valid},
};
use support::{Random, document, read, scale, with_remote};

fn text(value: &str) -> Option<Text> {
    Some(Text::from(value))
}

fn quotas() -> Quotas {
    Quotas {
        group_rules_per_group: 30,
        rules_per_interface: 120,
        addresses_per_normal_group: 12,
        interfaces_per_enterprise_group: 4,
        prefix_list_entries: 5,
        groups_per_interface: 4,
        ..Quotas::default()
    }
}

fn permission(r: &mut Random) -> Permission {
    let rule = Permission {
        direction: text(r.pick(&["ingress", "ingress", "ingress", "egress", "egress", "sideways"])),
        priority: text(r.pick(&["1", "2", "3", "4", "99", "100", "101"])),
        ip_protocol: text(r.pick(&["tcp", "udp", "icmp", "all"])),
        policy: text(r.pick(&["accept", "drop"])),
        ..Permission::default()
    };
    let port = match rule.ip_protocol.as_deref() {
        Some("tcp" | "udp") => text(r.pick(&["22/22", "80/90", "1/65535", "443/443", "9/1"])),
        _ => None,
    };
    let object = text(r.pick(&["g0", "g1", "g2", "g3", "g4"]));
    let list = text(r.pick(&["p4", "none", "none", "none", "p9"]));
    let cidr = text(r.pick(&["10.0.0.0/8", "0.0.0.0/0", "10.0.0.5", "10.0.0.6", "10.0.0.300"]));
    match r.below(4) {
        0 => Permission { port_range: port, source_group_id: object, ..rule },
        1 => Permission { port_range: port, source_prefix_list_id: list, dest_cidr_ip: text("10.0.0.0/8"), ..rule },
        2 => Permission { port_range_list_id: text("ports"), source_cidr_ip: cidr, ..rule },
        _ => Permission { port_range: port, dest_cidr_ip: cidr, ..rule },
    }
}

fn address(r: &mut Random) -> Text {
    Text::from(format!("10.{}.0.{}", r.pick(&["0", "200", "201"]), r.below(12)).as_str())
}

fn interface(r: &mut Random) -> NetworkInterface {
    let groups = (0..1 + r.below(3)).map(|_| Text::from(format!("g{}", r.below(5)).as_str())).collect();
    NetworkInterface {
        network_interface_id: r.chance(50).then(|| Text::from(format!("eni-{}", r.below(30)).as_str())),
        device: r.chance(30).then(|| Text::from(format!("eth{}", r.below(9)).as_str())),
        private_ip_addresses: (0..r.below(3)).map(|_| address(r)).collect(),
        security_group_ids: groups,
        ..NetworkInterface::default()
    }
}

/// Makes one edit somewhere.
fn edit(r: &mut Random, documents: &mut Vec<Document>) {
    if documents.len() < 2 {
        documents.push(Document { document: text("second"), ..Document::default() });
    }
    let d = r.below(documents.len());
    let document = &mut documents[d];
    let (groups, interfaces) = (&mut document.security_groups, &mut document.network_interfaces);
    let lists = &mut document.prefix_lists;
    match r.below(12) {
        0 => {
            let name = format!("g{}", r.below(9));
            // With an id of its own a group is the same wherever it goes.
            let security_group_id = r.chance(70).then(|| Text::from(format!("sg-{name}").as_str()));
            groups.push(Group { security_group_name: text(&name), security_group_id, ..Group::default() });
        }
        1 if !groups.is_empty() => groups.remove(r.below(groups.len())),
        2 | 3 if !groups.is_empty() => groups.edit(r.below(groups.len())).permissions.push(permission(r)),
        4 if !groups.is_empty() => {
            let rules = &mut groups.edit(r.below(groups.len())).permissions;
            if !rules.is_empty() {
                rules.remove(r.below(rules.len()));
            }
        }
        5 if !groups.is_empty() => {
            let group = groups.edit(r.below(groups.len()));
            match r.below(4) {
                0 => group.security_group_type = text(r.pick(&["normal", "enterprise", "other"])),
                1 => group.vpc_id = text(r.pick(&["vpc-default", "vpc-2"])),
                2 => group.inner_access_policy = text(r.pick(&["accept", "drop"])),
                _ => group.security_group_name = text(&format!("g{}", r.below(9))),
            }
        }
        6 => interfaces.push(interface(r)),
        7 if !interfaces.is_empty() => interfaces.remove(r.below(interfaces.len())),
        8 if !interfaces.is_empty() => *interfaces.edit(r.below(interfaces.len())) = interface(r),
        9 if !interfaces.is_empty() => {
            let new = interface(r);
            interfaces.edit(r.below(interfaces.len())).security_group_ids = new.security_group_ids;
        }
        10 => lists.push(PrefixList { prefix_list_name: text(r.pick(&["p4", "p5", "p9"])), ..PrefixList::default() }),
        11 if !lists.is_empty() => {
            let list = lists.edit(r.below(lists.len()));
            match r.below(6) {
                0 | 5 => list.address_family = text(r.pick(&["IPv4", "IPv6"])),
                1 => list.max_entries = text(r.pick(&["1", "3", "5", "9"])),
                2 if !list.entries.is_empty() => list.entries.remove(0),
                _ => {
                    let cidr = text(r.pick(&["10.9.0.0/16", "10.8.0.0/16", "2001:db8::/64", "10.9.0.1/16"]));
                    list.entries.push(PrefixEntry { cidr, ..PrefixEntry::default() });
                }
            }
        }
        _ => {}
    }
}

#[test]
fn following_a_change_is_reading_all_anew() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..200 * scale() {
        let r = &mut Random::new(seed);
        let documents = vec![read(&with_remote(document(r), 1))];
        let Ok(mut policy) = Valid::of(documents, &quotas(), None) else { continue };
        for step in 0..60 {
            let mut documents = policy.documents().to_vec();
            for _ in 0..1 + r.below(2) {
                edit(r, &mut documents);
            }
            let quotas = if r.chance(3) { Quotas::UNBOUNDED } else { quotas() };
            let (followed, whole) = (policy.follow(documents.clone(), &quotas), Valid::of(documents, &quotas, None));
            match (followed, whole) {
                (Ok(followed), Ok(whole)) => {
                    assert_eq!(followed.model(), whole.model(), "seed {seed} step {step}");
                    let names = |v: &Valid| {
                        let n = v.names();
                        let kinds = [&n.groups, &n.prefix_lists, &n.port_lists, &n.interfaces];
                        kinds.map(|k| (k.ids.clone(), k.names.clone(), k.places.clone()))
                    };
                    assert_eq!(names(&followed), names(&whole), "seed {seed} step {step}");
                    policy = followed;
                    good += 1;
                }
                (Err(followed), Err(whole)) => {
                    assert_eq!(followed.to_string(), whole.to_string(), "seed {seed} step {step}");
                    bad += 1;
                }
                (followed, whole) => panic!(
                    "seed {seed} step {step}: followed {:?}, from the beginning {:?}",
                    followed.map(drop).map_err(|e| e.to_string()),
                    whole.map(drop).map_err(|e| e.to_string())
                ),
            }
        }
    }
    println!("{good} changes followed, {bad} refused");
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}
