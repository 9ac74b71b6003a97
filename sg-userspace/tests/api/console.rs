//! What only `sgctl` does: clone, export, import, force delete, protection.

use serde_json::{Value, json};
use sg_userspace::testbed::Daemon;

use super::client::{call, daemon, key};
use crate::world::{Way, World, can_run, to};

/// What `sgctl` says of something that it does.
#[track_caller]
pub fn done(daemon: &Daemon<'_>, arguments: &[&str]) -> String {
    let (done, said) = daemon.sgctl(arguments).unwrap();
    assert!(done, "sgctl {arguments:?}: {said}");
    said
}

/// What it says of something that is refused.
#[track_caller]
pub fn refused(daemon: &Daemon<'_>, arguments: &[&str]) -> String {
    let (done, said) = daemon.sgctl(arguments).unwrap();
    assert!(!done, "sgctl {arguments:?} was not refused: {said}");
    said
}

/// The rules of a group, without what is each one's own.
fn rules(daemon: &Daemon<'_>, group: &str) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&done(daemon, &["group", "show", group, "-o", "json"])).unwrap();
    let mut rules = shown["Permissions"]["Permission"].as_array().unwrap().clone();
    for rule in &mut rules {
        let fields = rule.as_object_mut().unwrap();
        fields.remove("SecurityGroupRuleId");
        fields.remove("CreateTime");
    }
    rules.sort_by_key(ToString::to_string);
    rules
}

#[test]
fn rules_travel_by_files_and_clones() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    world.instance.tcp_server(7000).unwrap();
    done(&daemon, &["group", "create", "web", "--open", "https@0.0.0.0/0", "--open", "ssh@2001:db8::/32"]);
    done(&daemon, &["group", "create", "app"]);
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "7000/7000", "192.0.2.10", "--priority", "7"]);
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "5432/5432", "app"]);
    done(&daemon, &["rule", "add", "web", "egress", "all", "-1/-1", "198.51.100.0/24", "--policy", "drop"]);
    assert_eq!(rules(&daemon, "web").len(), 5);

    // Export, and import into an empty group: the same rules, in both kinds of file.
    for format in ["json", "csv"] {
        let dir = daemon.dir().to_str().unwrap();
        let said = done(&daemon, &["group", "export", "web", "--format", format, "--dir", dir]);
        let file = said.trim().rsplit_once(" to ").unwrap().1.to_owned();
        let name = file.rsplit_once('/').unwrap().1;
        assert!(name.starts_with(if format == "json" { "ecs_local_sg-" } else { "ecs_sgRule_sg-" }), "{name}");
        let empty = format!("empty-{format}");
        done(&daemon, &["group", "create", &empty]);
        let preview = done(&daemon, &["group", "import", &empty, &file, "--preview"]);
        assert!(preview.contains("5 would be put in, 0 not") && rules(&daemon, &empty).is_empty(), "{preview}");
        done(&daemon, &["group", "import", &empty, &file]);
        assert_eq!(rules(&daemon, &empty), rules(&daemon, "web"), "{format}");
        let again = refused(&daemon, &["group", "import", &empty, &file]);
        assert!(again.contains("0 put in, 5 not") && again.contains("it is there already"), "{again}");
        // From another region no objects come along.
        let other = file.replace("local", "cn-beijing");
        std::fs::copy(&file, &other).unwrap();
        done(&daemon, &["group", "create", &format!("far-{format}")]);
        let far = refused(&daemon, &["group", "import", &format!("far-{format}"), &other]);
        assert!(far.contains("4 put in, 1 not") && far.contains("names an object of region cn-beijing"), "{far}");
        assert!(far.contains("region cn-beijing, as the file's name says"), "{far}");
    }
    // What the file itself says of its region counts more than its name.
    let mut listed: Value = serde_json::from_str(&done(&daemon, &["group", "show", "web", "-o", "json"])).unwrap();
    let file = daemon.dir().join("ecs_local_sg-1.json");
    for (region, name, put) in [("cn-beijing", "listed-far", 4), ("local", "listed-near", 5)] {
        listed["RegionId"] = region.into();
        std::fs::write(&file, listed.to_string()).unwrap();
        done(&daemon, &["group", "create", name]);
        let (_, said) = daemon.sgctl(&["group", "import", name, file.to_str().unwrap()]).unwrap();
        assert!(said.contains(&format!("{put} put in, {} not", 5 - put)), "{said}");
        assert!(said.contains(&format!("region {region}, as the file says")), "{said}");
        assert_eq!(rules(&daemon, name).len(), put);
    }

    // A file of 2020: fewer fields, and a rule of the system's with priority 110.
    let one = |port: u16, priority: u16| {
        json!({"SourceGroupId": "", "Policy": "Accept", "Description": "System created rule.", "SourcePortRange": "",
            "Priority": priority, "CreateTime": "2019-09-16T08:20:59Z", "Ipv6SourceCidrIp": "", "NicType": "intranet",
            "DestGroupId": "", "Direction": "ingress", "SourceGroupName": "", "PortRange": format!("{port}/{port}"),
            "DestGroupOwnerAccount": "", "SourceCidrIp": "0.0.0.0/0", "IpProtocol": "TCP", "DestCidrIp": "",
            "DestGroupName": "", "SourceGroupOwnerAccount": "", "Ipv6DestCidrIp": ""})
    };
    let old = daemon.dir().join("old.json");
    let old_name = old.to_str().unwrap();
    std::fs::write(&old, json!([one(27017, 1), one(22, 110)]).to_string()).unwrap();
    done(&daemon, &["group", "create", "old"]);
    let said = refused(&daemon, &["group", "import", "old", old_name]);
    assert!(said.contains("1 put in, 1 not") && said.contains("skipped: its priority"), "{said}");
    let said = done(&daemon, &["group", "clone", old_name, "cloned-file"]);
    assert!(said.contains("2 rules") && said.contains("1 priorities above 100 became 100"), "{said}");

    // 201 rules: the last is too much. Broken lines and encodings have their place.
    let many: Vec<Value> = (0..201).map(|i| one(1000 + i, 1)).collect();
    std::fs::write(&old, Value::from(many).to_string()).unwrap();
    done(&daemon, &["group", "create", "many"]);
    let said = refused(&daemon, &["group", "import", "many", old_name]);
    assert!(said.contains("200 put in, 1 not") && said.contains("more than 200 rules"), "{said}");
    let csv = daemon.dir().join("broken.csv");
    let csv_name = csv.to_str().unwrap();
    std::fs::write(&csv, "Direction,IpProtocol,PortRange,SourceCidrIp\ningress,tcp,1/1,1.2.3.4\ningress,tcp\n")
        .unwrap();
    let said = refused(&daemon, &["group", "import", "app", csv_name]);
    assert!(said.contains("1 put in, 1 not") && said.contains("2 fields, the first line has 4"), "{said}");
    std::fs::write(&csv, b"Direction,IpProtocol,PortRange,SourceCidrIp\ningress,tcp,2/2,\xe9\n").unwrap();
    let said = refused(&daemon, &["group", "import", "app", csv_name]);
    assert!(said.contains("broken.csv:2: not UTF-8"), "{said}");

    // So have those that a clone of a file cannot have; it is made with the others.
    let bad = json!([one(1, 1), 7, {"Direction": "up"}, one(2, 1), {"Direction": "ingress", "PortRange": "9/1",
        "IpProtocol": "TCP", "SourceCidrIp": "1.2.3.4"}, one(1, 1), one(3, 110)]);
    std::fs::write(&old, bad.to_string()).unwrap();
    let said = refused(&daemon, &["group", "clone", old_name, "partly"]);
    for why in ["not a rule", "Direction is ingress or egress", "InvalidParam.PortRange", "it is there already"] {
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(why), "{why}: {said}");
    }
    let lines: Vec<&str> = said.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert!(["2", "3", "5", "6"].iter().all(|place| lines.contains(place)) && !lines.contains(&"4"), "{said}");
    assert!(said.contains("made with 3 rules; 1 priorities above 100 became 100, without 4"), "{said}");
    assert_eq!(rules(&daemon, "partly").len(), 3);
    let said = refused(&daemon, &["group", "clone", old_name, "partly-json", "-o", "json"]);
    let value: Value = serde_json::from_str(said.split_inclusive("\n}").next().unwrap()).unwrap();
    let lines: Vec<&Value> = value["Skipped"].as_array().unwrap().iter().map(|s| &s["Line"]).collect();
    assert_eq!(lines, [2, 3, 5, 6], "{said}");
    let said = done(&daemon, &["group", "clone", old_name, "none-of-it", "--without-rules"]);
    assert!(said.contains("made with 0 rules") && rules(&daemon, "none-of-it").is_empty(), "{said}");

    // A clone has the rules, and what is done to it is not done to the first.
    done(&daemon, &["group", "clone", "web", "twin"]);
    assert_eq!(rules(&daemon, "twin"), rules(&daemon, "web"));
    done(&daemon, &["group", "clone", "web", "bare", "--without-rules"]);
    assert!(rules(&daemon, "bare").is_empty());

    // In force at once.
    done(&daemon, &["api", "JoinSecurityGroup", "SecurityGroupId=twin", "NetworkInterfaceId=eni-guest"]);
    let reaches = || world.client.tcp(to("10.0.0.10:7000")).unwrap();
    assert!(reaches());
    let shown: Value = serde_json::from_str(&done(&daemon, &["group", "show", "twin", "-o", "json"])).unwrap();
    let rule =
        shown["Permissions"]["Permission"].as_array().unwrap().iter().find(|r| r["PortRange"] == "7000/7000").unwrap();
    let id = rule["SecurityGroupRuleId"].as_str().unwrap();
    // With one that is not there, in whatever place, none goes; nor unasked.
    for ids in [[id, "sgr-unknown"], ["sgr-unknown", id]] {
        let said = refused(&daemon, &[&["rule", "remove", "twin", "--yes"][..], &ids].concat());
        assert!(said.contains("the group twin has no rule sgr-unknown; nothing was changed"), "{said}");
    }
    let said = refused(&daemon, &["rule", "remove", "twin", id]);
    for part in ["take 1 of 5 rules out of the group twin (sg-", "its members: tap0", "7000/7000", "add --yes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(rules(&daemon, "twin").len() == 5 && reaches());
    done(&daemon, &["rule", "remove", "twin", id, "--yes"]);
    assert!(rules(&daemon, "twin").len() == 4 && !reaches());
}

#[test]
fn a_group_is_named_labelled_and_looked_up() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&done(&daemon, &[arguments, &["-o", "json"]].concat())).unwrap()
    };
    let id = json(&["group", "create", "web"])["SecurityGroupId"].clone();
    done(&daemon, &["group", "create", "app"]);
    done(&daemon, &["rule", "add", "app", "ingress", "tcp", "80", "web"]);
    done(&daemon, &["group", "rename", "web", "front"]);
    let said = refused(&daemon, &["group", "rename", "web", "other"]);
    assert!(said.contains("there is no security group \"web\"; `sgctl group list`"), "{said}");
    done(&daemon, &["group", "modify", "front", "--description", "what the world sees", "--inner-access", "drop"]);
    let shown = json(&["group", "show", "front"]);
    assert_eq!((&shown["SecurityGroupId"], &shown["Description"]), (&id, &"what the world sees".into()), "{shown}");
    assert_eq!(shown["InnerAccessPolicy"], "Drop", "{shown}");
    // All of it or nothing, in one change that is intended once.
    let audit = || std::fs::read_to_string(daemon.dir().join("state/audit.jsonl")).unwrap();
    let intents = || audit().lines().filter(|l| l.contains("\"kind\":\"intent\"")).count();
    let before = (json(&["status"])["generation"].as_u64().unwrap(), intents());
    let said = refused(&daemon, &["group", "modify", "front", "--description", "x", "--inner-access", "accept"]);
    assert!(said.contains("InvalidDescription.Malformed"), "{said}");
    assert_eq!(json(&["group", "show", "front"])["InnerAccessPolicy"], "Drop");
    let both = json(&["group", "modify", "front", "--description", "seen by all", "--inner-access", "accept"]);
    assert_eq!((both["Generation"].as_u64(), intents()), (Some(before.0 + 1), before.1 + 2), "{both}");
    let shown = json(&["group", "show", "front"]);
    assert_eq!((&shown["InnerAccessPolicy"], &shown["Description"]), (&"Accept".into(), &"seen by all".into()));
    done(&daemon, &["group", "modify", "front", "--inner-access", "drop"]);
    // A copy of a group whose members do not trust each other is such a one.
    done(&daemon, &["group", "clone", "front", "front-too"]);
    assert_eq!(json(&["group", "show", "front-too"])["InnerAccessPolicy"], "Drop");
    let said = done(&daemon, &["group", "tag", "front", "env=prod", "tier=1", "seen"]);
    assert!(said.contains("its tags: env=prod, seen, tier=1"), "{said}");
    let tags = json(&["group", "untag", "front", "tier", "seen"])["Tags"].clone();
    assert_eq!(tags, json!([{"TagKey": "env", "TagValue": "prod"}]));
    assert!(done(&daemon, &["group", "untag", "front", "--all"]).contains("it has no tags"));
    // Who names it; and before it goes, that is said.
    let said = done(&daemon, &["group", "references", "front"]);
    assert!(said.contains("app"), "{said}");
    assert_eq!(json(&["group", "references", "app"]), json!([]));
    done(&daemon, &["interface", "join", "tap0", "front"]);
    let said = refused(&daemon, &["group", "delete", "front", "--force"]);
    let parts =
        ["delete the group front (sg-", "0 rules", "members, which leave it: tap0", "name it, too: app", "add --yes"];
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(json(&["group", "show", "front"])["SecurityGroupId"], id, "it is there");
}

#[test]
fn a_group_goes_with_all_that_holds_it_and_only_then() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    daemon.apply(super::story::document(), &[]).unwrap();
    for name in ["web", "app"] {
        done(&daemon, &["group", "create", name]);
    }
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "80/80", "app"]);
    done(&daemon, &["api", "ModifyInstanceAttribute", "InstanceId=i-guest", "SecurityGroupIds.1=app"]);
    let e = refused(&daemon, &["group", "delete", "app", "--yes"]);
    assert!(e.contains("DependencyViolation") && e.contains("tap0"), "{e}");
    let e = refused(&daemon, &["group", "delete", "app", "--force", "--yes"]);
    assert!(e.contains("would be in no group") && e.contains("--move-to"), "{e}");
    assert_eq!(rules(&daemon, "web").len(), 1, "nothing was done");
    let said = done(&daemon, &["group", "delete", "app", "--force", "--move-to", "web", "--yes"]);
    assert!(said.contains("tap0 left it") && said.contains("1 rule of other groups named it"), "{said}");
    assert!(rules(&daemon, "web").is_empty());
    assert_eq!(daemon.interface("tap0").unwrap().status.groups, ["web"]);

    // Protected, managed: by the administrator only, and no signed call can undo it.
    let key = key(&daemon, &[]);
    done(&daemon, &["group", "create", "held"]);
    let listed = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("SecurityGroupName", "held")]).1;
    let id = listed["SecurityGroups"]["SecurityGroup"][0]["SecurityGroupId"].as_str().unwrap().to_owned();
    let delete = [("Action", "DeleteSecurityGroup"), ("SecurityGroupId", id.as_str())];
    done(&daemon, &["group", "protect", "held"]);
    let (status, body) = call(&daemon, &key, &delete);
    assert_eq!((status, &body["Code"]), (403, &"InvalidOperation.DeletionProtection".into()), "{body}");
    done(&daemon, &["group", "protect", "held", "--off"]);
    done(&daemon, &["group", "manage", "held"]);
    let (status, body) = call(&daemon, &key, &delete);
    assert_eq!((status, &body["Code"]), (403, &"InvalidOperation.ResourceManagedByCloudProduct".into()), "{body}");
    // Nor is anything taken out of it by what puts an interface in other groups.
    let web = call(&daemon, &key, &[("Action", "DescribeSecurityGroups"), ("SecurityGroupName", "web")]).1;
    let web = web["SecurityGroups"]["SecurityGroup"][0]["SecurityGroupId"].as_str().unwrap().to_owned();
    done(&daemon, &["api", "ModifyInstanceAttribute", "InstanceId=i-guest", "SecurityGroupIds.1=held"]);
    let out = [("Action", "ModifyInstanceAttribute"), ("InstanceId", "i-guest"), ("SecurityGroupIds.1", web.as_str())];
    let (status, body) = call(&daemon, &key, &out);
    assert_eq!((status, &body["Code"]), (403, &"InvalidOperation.ResourceManagedByCloudProduct".into()), "{body}");
    assert_eq!(daemon.interface("tap0").unwrap().status.groups, ["held"]);
    done(&daemon, &["api", "ModifyInstanceAttribute", "InstanceId=i-guest", "SecurityGroupIds.1=web"]);
    for action in ["sg:MarkSecurityGroup", "sg:ModifySecurityGroup", "sg:DeleteSecurityGroup"] {
        let (status, body) = call(&daemon, &key, &[("Action", action), ("SecurityGroupId", id.as_str())]);
        assert_eq!((status, &body["Code"]), (404, &"InvalidAction.NotFound".into()), "{body}");
    }
    done(&daemon, &["group", "manage", "held", "--off"]);
    assert_eq!(call(&daemon, &key, &delete).0, 200);
}

/// The same rules, each in two ways of writing it.
const TWO_WAYS: [&str; 2] = [
    "Direction,Policy,Priority,IpProtocol,PortRange,SourceCidrIp,Ipv6SourceCidrIp,SourceGroupId\n\
     ingress,accept,1,tcp,22/22,192.0.2.7,,\n\
     ingress,Drop,2,udp,53/53,,2001:DB8:0::/32,\n\
     ingress,accept,,icmp,-1/-1,10.0.0.0/8,,\n\
     ingress,accept,1,tcp,443/443,,,app\n",
    "SourceGroupId,Direction,Policy,Priority,IpProtocol,PortRange,SourceCidrIp,Ipv6SourceCidrIp\n\
     ,ingress,,01,6,0022/22,192.0.2.7/32,\n\
     ,ingress,drop,2,UDP,53/053,,2001:db8::/32\n\
     ,ingress,ACCEPT,1,1,-1/-1,10.0.0.0/8,\n\
     APP,ingress,accept,1,Tcp,443/443,,\n",
];

#[test]
fn a_second_import_changes_nothing_however_rules_are_written() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let json = |text: &str| -> Value { serde_json::from_str(text.split_inclusive("\n}").next().unwrap()).unwrap() };
    let generation = || json(&done(&daemon, &["status", "-o", "json"]))["generation"].clone();
    done(&daemon, &["group", "create", "web"]);
    let app = json(&done(&daemon, &["group", "create", "app", "-o", "json"]))["SecurityGroupId"].clone();
    let file = daemon.dir().join("rules.csv");
    let name = file.to_str().unwrap();
    let write = |text: &str| std::fs::write(&file, text.replace("APP", app.as_str().unwrap())).unwrap();
    write(TWO_WAYS[0]);
    done(&daemon, &["group", "import", "web", name]);
    let (standing, before) = (rules(&daemon, "web"), generation());
    assert_eq!(standing.len(), 4);
    for text in TWO_WAYS {
        write(text);
        for more in [&["--preview"][..], &[]] {
            let said = refused(&daemon, &[&["group", "import", "web", name], more].concat());
            let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("put in, 4 not, of which 4 are there already"), "{said}");
            let said = refused(&daemon, &[&["group", "import", "web", name, "-o", "json"], more].concat());
            let there: Vec<bool> =
                json(&said)["Rules"].as_array().unwrap().iter().map(|r| r["There"] == true).collect();
            assert_eq!(there, [true; 4], "{said}");
        }
        assert_eq!((rules(&daemon, "web"), generation()), (standing.clone(), before.clone()), "{text}");
    }
    // Two that say the same in one file are one.
    write(&format!("{}ingress,accept,1,6,0022/0022,192.0.2.7/32,,\n", TWO_WAYS[0]));
    done(&daemon, &["group", "create", "twice"]);
    let said = refused(&daemon, &["group", "import", "twice", name]);
    assert!(said.contains("4 put in, 1 not, of which 1 is there already"), "{said}");
    assert_eq!(rules(&daemon, "twice"), standing);
}

#[test]
fn what_goes_with_a_group_is_said_rule_by_rule() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let file = daemon.dir().join("rules.json");
    for name in ["app", "web", "db"] {
        done(&daemon, &["group", "create", name]);
    }
    let rule = |direction: &str, object: &str, port: u16| {
        json!({"Direction": direction, "Policy": "accept", "Priority": 7, "IpProtocol": "tcp",
            "PortRange": format!("{port}/{port}"), object: "app"})
    };
    let mut all: Vec<Value> = (1..=11).map(|port| rule("ingress", "SourceGroupId", 1000 + port)).collect();
    all.push(rule("egress", "DestGroupId", 2000));
    std::fs::write(&file, Value::from(all).to_string()).unwrap();
    for group in ["web", "db"] {
        done(&daemon, &["group", "import", group, file.to_str().unwrap()]);
    }
    done(&daemon, &["rule", "add", "web", "ingress", "tcp", "22", "192.0.2.0/24"]);
    let words = |said: &str| said.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked = words(&refused(&daemon, &["group", "delete", "app", "--force"]));
    assert_eq!(rules(&daemon, "web").len(), 13, "nothing was done");
    let said = words(&done(&daemon, &["group", "delete", "app", "--force", "--yes"]));
    assert!(said.contains("24 rules of other groups named it, and went with it:"), "{said}");
    for said in [asked, said] {
        for port in 1001..=1011 {
            assert!(said.contains(&format!("ingress accept TCP {port}/{port} app (sg-")), "{port}: {said}");
        }
        for part in ["egress accept TCP 2000/2000 app (sg-", "priority 7", "web (sg-", "db (sg-", "… and 4 more"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.matches("accept TCP").count(), 20, "{said}");
    }
    assert_eq!((rules(&daemon, "web").len(), rules(&daemon, "db").len()), (1, 0));
}

#[test]
fn what_a_new_group_is_and_is_not_is_said() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&done(&daemon, &[arguments, &["-o", "json"]].concat())).unwrap()
    };
    // An enterprise group lets nothing out: said, with a command that does what it says.
    let hint = "sgctl rule add big egress all -1/-1 0.0.0.0/0";
    assert!(!done(&daemon, &["group", "create", "small"]).contains("nothing leaves"));
    let said = done(&daemon, &["group", "create", "big", "--type", "enterprise"]);
    assert!(said.contains("nothing leaves members") && said.contains(hint), "{said}");
    done(&daemon, &hint.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(rules(&daemon, "big").len(), 1);
    // So is a copy of a file, unless a rule of it does.
    let dir = daemon.dir().to_str().unwrap();
    let file = |group: &str| {
        let said = done(&daemon, &["group", "export", group, "--dir", dir]);
        said.trim().rsplit_once(" to ").unwrap().1.to_owned()
    };
    let said = done(&daemon, &["group", "clone", &file("big"), "open", "--type", "enterprise"]);
    assert!(!said.contains("nothing leaves"), "{said}");
    assert_eq!(rules(&daemon, "open"), rules(&daemon, "big"));
    let said = done(&daemon, &["group", "clone", &file("small"), "a closed one", "--type", "enterprise"]);
    assert!(said.contains("nothing leaves members") && said.contains("rule add 'a closed one' egress"), "{said}");
    let kinds: Vec<(Value, Value)> = json(&["group", "list"])
        .as_array()
        .unwrap()
        .iter()
        .map(|g| (g["SecurityGroupName"].clone(), g["SecurityGroupType"].clone()))
        .collect();
    for (name, kind) in [("open", "enterprise"), ("a closed one", "enterprise"), ("small", "normal")] {
        assert!(kinds.contains(&(name.into(), kind.into())), "{name}: {kinds:?}");
    }
    let said = refused(&daemon, &["group", "clone", "small", "other", "--type", "enterprise"]);
    assert!(said.contains("leave --type out") && said.contains("nothing was made"), "{said}");

    // The marks of a group are shown, and gone with them.
    let shown = |name: &str| (done(&daemon, &["group", "show", name]), done(&daemon, &["group", "list"]));
    let marked = |name: &str, words: &[&str]| {
        let (show, list) = shown(name);
        let line = list.lines().find(|l| l.contains(&format!(" {name} "))).unwrap_or_else(|| panic!("{list}"));
        for word in ["protected", "managed"] {
            assert_eq!(show.contains(&format!("{word}: ")), words.contains(&word), "{word}: {show}");
            assert_eq!(line.contains(word), words.contains(&word), "{word}: {line}");
        }
    };
    marked("small", &[]);
    done(&daemon, &["group", "protect", "small"]);
    marked("small", &["protected"]);
    done(&daemon, &["group", "manage", "small"]);
    marked("small", &["protected", "managed"]);
    let said = shown("small").0;
    assert!(said.contains("group protect sg-") && said.contains("--off"), "{said}");
    done(&daemon, &["group", "protect", "small", "--off"]);
    marked("small", &["managed"]);
    done(&daemon, &["group", "manage", "small", "--off"]);
    marked("small", &[]);

    // The default group is the one that it is, whatever is said of it, and of others.
    let made = json(&["group", "default"])["SecurityGroupId"].clone();
    let id = made.as_str().unwrap();
    done(&daemon, &["group", "clone", id, "copy"]);
    done(&daemon, &["group", "modify", id, "--description", "open to everybody"]);
    done(&daemon, &["group", "rename", id, "everybody"]);
    let again = json(&["group", "default"]);
    assert_eq!((&again["SecurityGroupId"], &again["Created"]), (&made, &false.into()));
    assert!(shown("everybody").0.contains("the default group of vpc-default"), "{}", shown("everybody").0);
}
