//! Every error that a call can have, provoked: request, status, code, message.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use sg_userspace::{
    api::{
        error::ALL,
        published::{CODES, NEVER},
    },
    testbed::Daemon,
};

use self::table::{BAD, BAD_PERMISSIONS, ELSEWHERE, LIMITS, MAKE};
use super::client::{call, key, parsed, post, raw, signed};
use crate::world::{Way, World, can_run};

pub type Key = (String, String);
pub type Request<'a> = Vec<(&'a str, String)>;

/// `Action.field=value field=value …`, with `$name` for what was made before.
pub fn request<'a>(text: &'a str, made: &BTreeMap<&str, String>) -> Request<'a> {
    let mut words = text.split_whitespace();
    let mut all = vec![("Action", words.next().unwrap().to_owned())];
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let value = match value.strip_prefix('$') {
            Some(name) => made.get(name).unwrap_or_else(|| panic!("{name} was not made")).clone(),
            None => value.replace('_', " "),
        };
        all.push((name, value));
    }
    all
}

pub fn send(daemon: &Daemon<'_>, key: &Key, request: &Request<'_>) -> (u16, serde_json::Value) {
    let pairs: Vec<(&str, &str)> = request.iter().map(|(k, v)| (*k, v.as_str())).collect();
    call(daemon, key, &pairs)
}

/// What stands for many parameters.
pub fn expand(request: &mut Request<'_>, made: &BTreeMap<&str, String>) -> Vec<(String, String)> {
    let mut more = Vec::new();
    request.retain(|(name, count)| {
        let n: usize = count.parse().unwrap_or(0);
        match *name {
            "$tags" => more.extend((1..=n).map(|i| (format!("Tag.{i}.Key"), format!("k{i}")))),
            "$permissions" => more.extend((1..=n).flat_map(|i| {
                let field = move |f: &str, v: String| (format!("Permissions.{i}.{f}"), v);
                [
                    field("IpProtocol", "tcp".into()),
                    field("PortRange", format!("{}/{}", 100 + i, 100 + i)),
                    field("SourceCidrIp", "1.2.3.4".into()),
                ]
            })),
            "$groups" => {
                more.extend((1..=n).map(|i| (format!("SecurityGroupId.{i}"), made[format!("g{i}").as_str()].clone())))
            }
            _ => return true,
        }
        false
    });
    more
}

#[test]
fn every_error_is_provoked() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = super::client::daemon(&world);
    daemon.stop(libc::SIGTERM).unwrap();
    super::full::place(&daemon);
    let lines = "quotas.rules_per_interface = 8\nquotas.group_rules_per_group = 2\nquotas.addresses_per_normal_group = 3\n\
                 quotas.interfaces_per_enterprise_group = 1\napi.vpcs = [\"vpc-other\"]\napi.max_groups = 20\n\
                 api.max_prefix_lists = 3\napi.max_port_lists = 1\nquotas.groups_per_prefix_list = 2\n\
                 quotas.prefix_list_entries = 199\nquotas.port_list_entries = 1999";
    for line in lines.lines() {
        daemon.configure(line).unwrap();
    }
    daemon.start().unwrap();
    daemon.apply(super::story::document(), &[]).unwrap();
    let key = key(&daemon, &[]);
    let mut made: BTreeMap<&str, String> = BTreeMap::new();
    let make = |made: &mut BTreeMap<&str, String>, name: &'static str, field: &str, text: &str| {
        let mut request = request(text, made).into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Vec<_>>();
        let mut short: Request<'_> = request.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let more = expand(&mut short, made);
        request = short.into_iter().map(|(k, v)| (k.to_owned(), v)).chain(more).collect();
        let pairs: Vec<(&str, &str)> = request.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (status, body) = call(&daemon, &key, &pairs);
        assert_eq!(status, 200, "{text}: {body}");
        if !name.is_empty() {
            made.insert(name, body[field].as_str().unwrap().to_owned());
        }
    };
    for (name, field, text) in MAKE {
        make(&mut made, name, field, text);
    }
    // One that only another group's rule holds.
    make(&mut made, "alone", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=alone");
    make(&mut made, "many", "SecurityGroupId", "CreateSecurityGroup SecurityGroupName=many");
    make(&mut made, "wide", "PrefixListId", "CreatePrefixList PrefixListName=wide AddressFamily=IPv4 MaxEntries=199");
    make(&mut made, "", "", "AuthorizeSecurityGroup SecurityGroupId=$many $permissions=5");
    // What each may have alone, and no interface of both.
    make(&mut made, "", "", "AuthorizeSecurityGroup SecurityGroupId=$full $permissions=3");
    make(
        &mut made,
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$many Permissions.1.IpProtocol=tcp Permissions.1.PortRange=1/1 Permissions.1.SourceGroupId=$alone",
    );
    make(
        &mut made,
        "",
        "",
        "AuthorizeSecurityGroup SecurityGroupId=$a Permissions.1.IpProtocol=tcp Permissions.1.PortRange=5/5 Permissions.1.SourceCidrIp=1.2.3.4 Permissions.2.IpProtocol=tcp Permissions.2.PortRange=6/6 Permissions.2.SourceCidrIp=1.2.3.4 Permissions.3.IpProtocol=tcp Permissions.3.PortRange=7/8 Permissions.3.SourcePrefixListId=$p4",
    );
    for name in ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9", "g10", "g11"] {
        make(&mut made, name, "SecurityGroupId", &format!("CreateSecurityGroup SecurityGroupName=xx{name}"));
    }
    for name in ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"] {
        make(&mut made, "", "", &format!("JoinSecurityGroup SecurityGroupId=${name} NetworkInterfaceId=$eni"));
    }
    // Rules of $a by their ids; the guest's group; a guest's second interface.
    let (_, body) =
        call(&daemon, &key, &[("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", &made["a"])]);
    for rule in body["Permissions"]["Permission"].as_array().unwrap() {
        let name = match rule["PortRange"].as_str() {
            Some("5/5") => "rule",
            Some("7/8") => "list_rule",
            _ => continue,
        };
        made.insert(name, rule["SecurityGroupRuleId"].as_str().unwrap().to_owned());
    }
    let (_, body) = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("SecurityGroupName", "base")]);
    made.insert("base", body["SecurityGroups"]["SecurityGroup"][0]["SecurityGroupId"].as_str().unwrap().to_owned());

    let mut provoked: BTreeSet<&str> = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut check = |name: &'static str, what: &str, (status, body): (u16, serde_json::Value)| {
        let (_, kind) = ALL.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is no error"));
        let begins = kind.message.split("%s").next().unwrap_or_default();
        let message = body["Message"].as_str().unwrap_or_default();
        if status != kind.status || body["Code"] != kind.code || !message.starts_with(begins) {
            wrong.push(format!("{name}: {what}\n  {status} {body}"));
        }
        if ["Code", "Message", "RequestId", "HostId"].iter().any(|f| body[*f].as_str().is_none_or(str::is_empty)) {
            wrong.push(format!("{name}: not a whole error: {body}"));
        }
        provoked.insert(name);
    };
    for (name, text) in
        BAD.iter().filter(|(name, _)| *name != "GROUP_QUOTA" && *name != "LIST_QUOTA" && *name != "JOIN_INTERFACES")
    {
        let mut request = request(text, &made);
        let more = expand(&mut request, &made);
        request.extend(more.iter().map(|(k, v)| (k.as_str(), v.clone())));
        let answer = send(&daemon, &key, &request);
        if let Some((_, said)) = LIMITS.iter().find(|(of, _)| of == name) {
            let message = answer.1["Message"].as_str().unwrap_or_default();
            assert!(message.contains(said), "{name} names another limit than is configured: {message}");
        }
        check(name, text, answer);
    }
    // While a change is on trial, no other is made.
    let tried = "document: tried\nsecurity_groups: [{security_group_name: tried}]\n";
    daemon.apply(tried, &["--yes", "--confirm", "1h"]).unwrap();
    let change = [("Action", "CreateSecurityGroup")];
    check("CONFLICT", "a change while another is on trial", call(&daemon, &key, &change));
    assert!(daemon.sgctl(&["rollback", "--yes"]).unwrap().0);
    // What comes at the end, as it uses up what there is.
    for n in 0.. {
        let (status, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
        if status != 200 {
            check("GROUP_QUOTA", "groups", (status, body));
            break;
        }
        assert!(n < 20, "the quota of groups does not count");
    }
    let list =
        [("Action", "CreatePrefixList"), ("PrefixListName", "xx"), ("AddressFamily", "IPv4"), ("MaxEntries", "1")];
    check("LIST_QUOTA", "lists", call(&daemon, &key, &list));
    let two = [
        ("Action", "ModifyInstanceAttribute"),
        ("InstanceId", "i-guest"),
        ("SecurityGroupIds.1", made["ent"].as_str()),
    ];
    check("JOIN_INTERFACES", "a second member of an enterprise group", call(&daemon, &key, &two));

    // Who calls, and when.
    let ask = [("Action", "DescribeRegions")];
    let mut with = |name: &'static str, key: &Key, change: &dyn Fn(&mut BTreeMap<String, String>), again: bool| {
        let mut all = signed(key, &ask);
        change(&mut all);
        let bytes = post(&all);
        if again {
            assert_eq!(parsed(&raw(&daemon, &bytes)).0, 200);
        }
        check(name, "who calls", parsed(&raw(&daemon, &bytes)));
    };
    let resign = |all: &mut BTreeMap<String, String>, name: &str, value: &str| {
        all.insert(name.into(), value.into());
        let signature = sg_userspace::api::sign::v1_sign(&key.1, &sg_userspace::api::sign::v1_text("POST", all));
        all.insert("Signature".into(), signature);
    };
    with("NO_KEY", &("SGNONE".into(), "x".into()), &|_| {}, false);
    with("NOT_SIGNED", &key, &|all| drop(all.remove("Signature")), false);
    with("SIGNATURE", &key, &|all| drop(all.insert("RegionId".into(), "other".into())), false);
    with("SIGNATURE_METHOD", &key, &|all| resign(all, "SignatureMethod", "HMAC-MD5"), false);
    with("EXPIRED", &key, &|all| resign(all, "Timestamp", "2020-01-01T00:00:00Z"), false);
    with("TIMESTAMP", &key, &|all| resign(all, "Timestamp", "yesterday"), false);
    with("NONCE_USED", &key, &|_| {}, true);
    let looks = super::client::key(&daemon, &["--read-only"]);
    check("READ_ONLY", "a key that only looks", call(&daemon, &looks, &[("Action", "CreateSecurityGroup")]));

    // A host that fails, and a daemon that ends.
    super::full::fill(&daemon);
    let change = [
        ("Action", "ModifySecurityGroupAttribute"),
        ("SecurityGroupId", made["a"].as_str()),
        ("Description", &"x".repeat(200)),
    ];
    let failed = super::full::until_refused(|| call(&daemon, &key, &change));
    check("INTERNAL", "a change that cannot be written down", failed);
    super::full::clear(&daemon);
    let cut = super::client::cut(&daemon, &key, &change);
    check("UNAVAILABLE", "a change that comes too late", parsed(&cut));

    let known: BTreeSet<&str> = provoked.iter().copied().chain(ELSEWHERE.iter().map(|(name, _)| *name)).collect();
    let missing: Vec<&str> = ALL.iter().map(|(name, _)| *name).filter(|name| !known.contains(name)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(missing.is_empty(), "never provoked: {missing:?}");
    // All that a client may know of: provoked here or elsewhere, or it cannot occur.
    let codes: BTreeSet<&str> =
        ALL.iter().filter(|(name, _)| known.contains(name)).map(|(_, kind)| kind.code).collect();
    let forgotten: Vec<_> =
        CODES.iter().filter(|c| !codes.contains(*c) && NEVER.iter().all(|(never, _)| never != *c)).collect();
    assert!(forgotten.is_empty(), "published, but neither provoked nor given a reason: {forgotten:?}");
    eprintln!("{} errors provoked, {} elsewhere", provoked.len(), ELSEWHERE.len());
}

#[test]
fn a_refusal_names_the_permission_that_it_is_about() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = super::client::daemon(&world);
    let key = key(&daemon, &[]);
    let (_, body) = call(&daemon, &key, &[("Action", "CreateSecurityGroup")]);
    let made = BTreeMap::from([("a", body["SecurityGroupId"].as_str().unwrap().to_owned())]);
    // The numbers are those of the client, which may leave some out.
    for (numbers, bad) in [((1..=59).collect::<Vec<_>>(), 57), (vec![1, 5, 57, 570], 570), (vec![1, 5, 57], 5)] {
        for (change, code) in BAD_PERMISSIONS {
            let line = format!("AuthorizeSecurityGroup {change}");
            let changes = request(&line, &made);
            let mut all = BTreeMap::from([("SecurityGroupId".to_owned(), made["a"].clone())]);
            for n in &numbers {
                let mut field = |f: &str, v: String| all.insert(format!("Permissions.{n}.{f}"), v);
                field("IpProtocol", "tcp".into());
                field("PortRange", format!("{0}/{0}", 100 + n));
                field("SourceCidrIp", "1.2.3.4".into());
                for (f, v) in changes.iter().skip(1).filter(|_| *n == bad) {
                    field(f, v.clone());
                }
            }
            for (action, only) in [("AuthorizeSecurityGroup", ""), ("RevokeSecurityGroup", ".NotFound")] {
                let pairs = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain([("Action", action)]);
                let (status, body) = call(&daemon, &key, &pairs.collect::<Vec<_>>());
                if !only.is_empty() && status == 200 {
                    // What does not exist is in no rule that could be taken away; and one with
                    // the same on both sides is only not made.
                    assert!(code.ends_with(only) || *change == "DestCidrIp=1.2.3.4", "{change}: {body}");
                    continue;
                }
                let message = body["Message"].as_str().unwrap_or_default();
                assert_eq!(body["Code"], *code, "{change}: {body}");
                let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
                let named: Vec<String> = message.split("Permissions.").skip(1).map(number).collect();
                // One message ends a sentence with the word.
                let named: Vec<&String> = named.iter().filter(|n| !n.is_empty()).collect();
                assert_eq!(named, [&bad.to_string()], "{change}: {message}");
            }
        }
    }
    let ask = [("Action", "DescribeSecurityGroupAttribute"), ("SecurityGroupId", made["a"].as_str())];
    let body = call(&daemon, &key, &ask).1;
    assert_eq!(body["Permissions"]["Permission"], serde_json::json!([]), "all or nothing");
}
