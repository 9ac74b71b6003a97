//! Answers as XML, which a request of V1 gets that asks for nothing else.

mod element;

use serde_json::Value;
use sg_userspace::testbed::Daemon;

use self::element::Element;
use super::{
    client::{daemon, key, post, raw, signed},
    story,
};
use crate::world::{Way, World, can_run};

type Key = (String, String);

/// Status, content type and body of an answer to a request that asks for this format.
fn ask(daemon: &Daemon<'_>, key: &Key, format: &str, parameters: &[(&str, &str)]) -> (u16, String, String) {
    let answer = raw(daemon, &post(&signed(key, &[&[("Format", format)], parameters].concat())));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let of = |name: &str| {
        let line = head.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.unwrap_or_else(|| panic!("no {name}: {head}")).1.to_owned()
    };
    assert_eq!(of("Content-Length"), body.len().to_string());
    (status, of("Content-Type"), body.to_owned())
}

/// The root of an answer as XML.
#[track_caller]
fn xml(daemon: &Daemon<'_>, key: &Key, parameters: &[(&str, &str)]) -> (u16, Element) {
    let (status, content, body) = ask(daemon, key, "XML", parameters);
    assert_eq!(content, "text/xml;charset=utf-8");
    // Whoever reads XML reads the ends of lines in one way.
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let mut rest = body.strip_prefix("<?xml version='1.0' encoding='UTF-8'?>").unwrap_or_else(|| panic!("{body}"));
    let root = Element::take(&mut rest);
    assert_eq!(rest, "", "after the root");
    // An id of its own, as a UUID in capitals.
    let id = &root.one("RequestId").text;
    let is = |(i, c): (usize, char)| match i {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_digit() || ('A'..='F').contains(&c),
    };
    assert!(id.len() == 36 && id.chars().enumerate().all(is), "{id}");
    (status, root)
}

/// What XML has to write in other ways, and what it needs not to.
const DESCRIPTION: &str = "a<b> & \"c\" 'd' ]]> \u{e9}\u{4e2d}\u{1f600}\r\n\tend";

#[test]
fn good_answers() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = story::begun(&world, story::document());
    let good = |parameters: &[(&str, &str)]| {
        let (status, root) = xml(&daemon, &key, parameters);
        assert_eq!(status, 200, "{parameters:?}: {root:?}");
        assert_eq!(root.name, format!("{}Response", parameters[0].1));
        root
    };

    // What a change answers is read from it, too.
    let mut make = vec![("Action", "CreateSecurityGroup"), ("SecurityGroupName", "web"), ("Tag.1.Key", "env")];
    make.extend([("Tag.1.Value", "a&b"), ("Tag.2.Key", "tier"), ("Tag.2.Value", "1")]);
    let group = good(&make).one("SecurityGroupId").text.clone();
    let group = group.as_str();
    let id = ("SecurityGroupId", group);
    let made = good(&[
        ("Action", "AuthorizeSecurityGroup"),
        id,
        ("Permissions.1.IpProtocol", "TCP"),
        ("Permissions.1.PortRange", "22/22"),
        ("Permissions.1.SourceCidrIp", "192.0.2.0/24"),
        ("Permissions.1.Description", DESCRIPTION),
        ("Permissions.2.IpProtocol", "ICMP"),
        ("Permissions.2.PortRange", "-1/-1"),
        ("Permissions.2.Policy", "drop"),
        ("Permissions.2.Priority", "7"),
        ("Permissions.2.SourceCidrIp", "0.0.0.0/0"),
    ]);
    assert_eq!(made.children.len(), 1, "the request's id only: {made:?}");
    let list = [("Action", "CreatePrefixList"), ("PrefixListName", "office"), ("AddressFamily", "IPv4")];
    let entries = [("MaxEntries", "5"), ("Entry.1.Cidr", "192.0.2.0/24"), ("Entry.2.Cidr", "10.0.0.0/8")];
    let list = good(&[&list[..], &entries].concat()).one("PrefixListId").text.clone();
    let ports = [("Action", "CreatePortRangeList"), ("PortRangeListName", "web"), ("MaxEntries", "5")];
    let ports = good(&[&ports[..], &[("Entry.1.PortRange", "80/80"), ("Entry.2.PortRange", "443/443")]].concat());
    let ports = ports.one("PortRangeListId").text.clone();

    // By hand, one of them: an element of the list's name around elements of its items' name.
    let attribute = good(&[("Action", "DescribeSecurityGroupAttribute"), id]);
    let rules = attribute.one("Permissions").all("Permission");
    assert_eq!(rules.len(), 2);
    let field = |n: usize, name: &str| rules[n].one(name).text.as_str();
    assert_eq!((field(0, "Description"), field(0, "Priority"), field(0, "Policy")), (DESCRIPTION, "1", "Accept"));
    assert_eq!((field(1, "IpProtocol"), field(1, "Priority"), field(1, "SourceGroupId")), ("ICMP", "7", ""));
    let listed = good(&[("Action", "DescribeSecurityGroups"), id]);
    let item = listed.one("SecurityGroups").one("SecurityGroup");
    assert_eq!(item.one("Tags").all("Tag").len(), 2);
    assert_eq!((&*item.one("ServiceManaged").text, &*listed.one("TotalCount").text), ("false", "1"));
    let none = good(&[("Action", "DescribeSecurityGroups"), ("SecurityGroupId", "sg-none")]);
    assert!(none.one("SecurityGroups").children.is_empty(), "{none:?}");

    // And all of them as they are in JSON.
    let asks: [&[(&str, &str)]; 11] = [
        &[("Action", "DescribeRegions")],
        &[("Action", "DescribeSecurityGroups")],
        &[("Action", "DescribeSecurityGroups"), ("MaxResults", "1")],
        &[("Action", "DescribeSecurityGroups"), ("SecurityGroupId", "sg-none")],
        &[("Action", "DescribeSecurityGroupAttribute"), id],
        &[("Action", "DescribeSecurityGroupReferences"), ("SecurityGroupId.1", group)],
        &[("Action", "DescribeInstances")],
        &[("Action", "DescribeNetworkInterfaces")],
        &[("Action", "DescribePrefixListAttributes"), ("PrefixListId", &list)],
        &[("Action", "DescribePortRangeLists")],
        &[("Action", "DescribePortRangeListEntries"), ("PortRangeListId", &ports)],
    ];
    for parameters in asks {
        let (status, content, body) = ask(&daemon, &key, "json", parameters);
        assert_eq!((status, content.as_str()), (200, "application/json;charset=utf-8"), "{body}");
        good(parameters).says(&serde_json::from_str(&body).unwrap());
    }
}

#[test]
fn refusals() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let (daemon, key) = story::begun(&world, story::document());
    let nobody = ("nobody".to_owned(), key.1.clone());
    let wrong = (key.0.clone(), "another".to_owned());
    let create: &[(&str, &str)] = &[("Action", "CreateSecurityGroup"), ("SecurityGroupName", "a<&>b")];
    let delete: &[(&str, &str)] = &[("Action", "DeleteSecurityGroup"), ("SecurityGroupId", "sg-none")];
    // Of the action, before it, and before it is known who asks.
    for (key, parameters, status, code) in [
        (&key, delete, 404, "InvalidSecurityGroup.NotFound"),
        (&key, create, 400, "InvalidSecurityGroupName.Malformed"),
        (&key, &[("Action", "NoSuch")][..], 404, "InvalidAction.NotFound"),
        (&wrong, create, 400, "SignatureDoesNotMatch"),
        (&nobody, create, 404, "InvalidAccessKeyId.NotFound"),
    ] {
        let (is, root) = xml(&daemon, key, parameters);
        assert_eq!((is, root.name.as_str()), (status, "Error"), "{parameters:?}: {root:?}");
        let names: Vec<&str> = root.children.iter().map(|c| c.name.as_str()).collect();
        for name in ["RequestId", "HostId", "Code", "Message"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert_eq!((&*root.one("Code").text, &*root.one("HostId").text), (code, "h"));
        // The message is the same in both, also one that repeats what was signed.
        let (_, _, body) = ask(&daemon, key, "JSON", parameters);
        let other: Value = serde_json::from_str(&body).unwrap();
        let message = root.one("Message").text.as_str();
        if code == "SignatureDoesNotMatch" {
            assert!(message.contains("POST&%2F&AccessKeyId%3D"), "{message}");
        } else {
            assert_eq!(message, other["Message"]);
        }
    }
}

/// It is what a request of V1 gets that does not say; other words than this are JSON.
#[test]
fn which_requests_get_it() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let key = key(&daemon, &[]);
    for (format, is_xml) in [("<absent>", true), ("XML", true), ("xml", true), ("JSON", false), ("json", false)] {
        for (action, good) in [("DescribeRegions", true), ("NoSuch", false)] {
            let (status, content, body) = ask(&daemon, &key, format, &[("Action", action)]);
            assert_eq!(status == 200, good, "{body}");
            assert_eq!(
                (content.starts_with("text/xml"), body.starts_with("<?xml")),
                (is_xml, is_xml),
                "{format}: {body}"
            );
        }
    }
}
