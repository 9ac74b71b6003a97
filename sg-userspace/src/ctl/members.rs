//! `sgctl instance`, `sgctl interface`: who is in which groups, and interfaces that live elsewhere.

use std::{io::Write, net::IpAddr};

use anyhow::{Error, Result};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{Arguments, Instance, Interface, Output, Yes},
    call::{self, Refusal, all, call, items, text},
    confirm::{Going, confirm},
    group::{self, Titles},
    output::{self, made},
    show,
};
use crate::{api::draft::vswitch_of, validate::names::DEFAULT_VPC};

/// Addresses of an interface, as listings have them.
fn addresses(interface: &Value) -> String {
    let v4 = items(&interface["PrivateIpSets"]).into_iter().map(|a| text(&a, "PrivateIpAddress").to_owned());
    let v6 = items(&interface["Ipv6Sets"]).into_iter().map(|a| text(&a, "Ipv6Address").to_owned());
    v4.chain(v6).collect::<Vec<_>>().join(", ")
}

fn groups(titles: &Titles, member: &Value) -> String {
    let ids = items(&member["SecurityGroupIds"]);
    ids.iter().map(|id| titles.of(id.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", ")
}

fn interfaces_table(titles: &Titles, interfaces: &[Value]) -> comfy_table::Table {
    let mut table = output::listing(&["interface", "name", "instance", "groups", "addresses"]);
    for i in interfaces {
        let instance = match (text(i, "InstanceId"), text(i, "Type")) {
            ("", _) => String::new(),
            (id, "Primary") => format!("{id} (primary)"),
            (id, _) => id.to_owned(),
        };
        table.add_row([
            text(i, "NetworkInterfaceId").to_owned(),
            text(i, "NetworkInterfaceName").to_owned(),
            instance,
            groups(titles, i),
            addresses(i),
        ]);
    }
    table
}

/// All interfaces of which something is so.
pub fn interfaces(arguments: &Arguments, mut ask: Value) -> Result<Vec<Value>> {
    ask["MaxResults"] = 500.into();
    Ok(all(arguments, "DescribeNetworkInterfaces", ask, "NetworkInterfaceSets")?.0)
}

/// All instances of which something is so.
pub fn instances(arguments: &Arguments, mut ask: Value) -> Result<Vec<Value>> {
    ask["MaxResults"] = 100.into();
    Ok(all(arguments, "DescribeInstances", ask, "Instances")?.0)
}

fn interface_of(arguments: &Arguments, name: &str) -> Result<Value> {
    let ask = json!({"NetworkInterfaceId": name, "Attribute": "connectionTrackingConfiguration"});
    call(arguments, "DescribeNetworkInterfaceAttribute", &ask, false).map_err(|e| known(e, name))
}

/// A refusal, with what to do when there is no such interface.
fn known(e: Error, name: &str) -> Error {
    match e.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.code == "InvalidEniId.NotFound" => e.context(format!(
            "there is no network interface {name:?}; `sgctl interface list` shows those that there are"
        )),
        _ => e,
    }
}

/// Says what was done to an interface.
fn told(arguments: &Arguments, id: &Value, done: &Value, mut value: Value, line: &str) -> Result<Ended> {
    value["NetworkInterfaceId"] = id.clone();
    value["Generation"] = done["Generation"].clone();
    made(arguments.output, &value, line)
}

/// Says that an interface is in other groups now, and for programs in which.
fn regrouped(arguments: &Arguments, id: &Value, done: &Value) -> Result<Ended> {
    let now = match arguments.output {
        Output::Table => json!({}),
        _ => {
            json!({"SecurityGroupIds": items(&interface_of(arguments, id.as_str().unwrap_or_default())?["SecurityGroupIds"])})
        }
    };
    told(arguments, id, done, now, "done; in force")
}

/// Joins or leaves.
fn one_group(arguments: &Arguments, action: &str, interface: &str, group: &str) -> Result<Ended> {
    let ask = json!({"NetworkInterfaceId": interface, "SecurityGroupId": group});
    let found = interface_of(arguments, interface)?;
    let done = call(arguments, action, &ask, false)?;
    regrouped(arguments, &found["NetworkInterfaceId"], &done)
}

fn instance_of(arguments: &Arguments, name: &str) -> Result<Value> {
    let mut found = instances(arguments, json!({"InstanceIds": json!([name]).to_string()}))?;
    if found.is_empty() {
        found = instances(arguments, json!({"InstanceName": name}))?;
    }
    call::one(found, name, "instance", "instance", "InstanceId")
}

/// An interface that is no device here.
fn tell_interface(arguments: &Arguments, i: &Value) -> Result<()> {
    let mut out = output::stdout();
    writeln!(out, "{}", output::fit(interfaces_table(&Titles::read(arguments)?, std::slice::from_ref(i))))?;
    writeln!(out, "\nno device of that name is protected here")?;
    let seconds = |name: &str| i["ConnectionTrackingConfiguration"][name].to_string();
    let (tcp, closed, udp) = ("TcpEstablishedTimeout", "TcpClosedAndTimeWaitTimeout", "UdpTimeout");
    writeln!(out, "timeouts: TCP {} s, closed {} s, UDP {} s", seconds(tcp), seconds(closed), seconds(udp))?;
    Ok(())
}

/// A device as it is protected; or else an interface that the policy knows.
fn show_interface(arguments: &Arguments, name: &str, rules: bool) -> Result<Ended> {
    let unprotected = match show::device(arguments, name, rules) {
        Err(e) if !rules => e,
        other => return other,
    };
    let Ok(interface) = interface_of(arguments, name) else { return Err(unprotected) };
    if arguments.output == Output::Table {
        tell_interface(arguments, &interface)?;
    } else {
        output::print(arguments.output, &interface, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

fn set_groups(arguments: &Arguments, interface: &str, groups: &[String]) -> Result<Ended> {
    let found = interface_of(arguments, interface)?;
    // The groups of a primary interface are those of its instance, and are set as such.
    let (action, ask) = if text(&found, "Type") == "Primary" {
        ("ModifyInstanceAttribute", json!({"InstanceId": found["InstanceId"], "SecurityGroupIds": groups}))
    } else {
        let id = &found["NetworkInterfaceId"];
        ("ModifyNetworkInterfaceAttribute", json!({"NetworkInterfaceId": id, "SecurityGroupId": groups}))
    };
    let done = call(arguments, action, &ask, false)?;
    regrouped(arguments, &found["NetworkInterfaceId"], &done)
}

/// Makes an interface that lives elsewhere.
fn create(
    arguments: &Arguments,
    groups: &[String],
    addresses: &[IpAddr],
    said: (Option<&str>, Option<&str>),
    owner: Option<&str>,
) -> Result<Ended> {
    let (name, description) = said;
    let of = |v6: bool| addresses.iter().filter(move |a| a.is_ipv6() == v6).map(ToString::to_string);
    let v4: Vec<String> = of(false).collect();
    // It lives where its groups do.
    let vpc = match groups.first() {
        Some(group) => text(&group::find(arguments, group)?, "VpcId").to_owned(),
        None => DEFAULT_VPC.to_owned(),
    };
    // Of an account nothing but ids can be named.
    let id = |group: &String| Ok(group::find(arguments, group)?["SecurityGroupId"].clone());
    let ids = match owner {
        Some(_) => groups.iter().map(id).collect::<Result<Vec<Value>>>()?,
        None => groups.iter().map(|g| g.as_str().into()).collect(),
    };
    let ask = json!({
        "VSwitchId": vswitch_of(&vpc), "SecurityGroupIds": ids, "NetworkInterfaceName": name,
        "Description": description, "PrimaryIpAddress": v4.first(), "PrivateIpAddress": v4.iter().skip(1).collect::<Vec<_>>(),
        "Ipv6Address": of(true).collect::<Vec<_>>(),
    });
    let done = call::make(arguments, owner, "CreateNetworkInterface", &ask)?;
    let id = &done["NetworkInterfaceId"];
    let line =
        format!("{} made; its addresses are members of {}", text(&done, "NetworkInterfaceId"), groups.join(", "));
    told(arguments, id, &done, json!({}), &line)
}

fn delete(arguments: &Arguments, interface: &str, yes: Yes) -> Result<Ended> {
    let found = interface_of(arguments, interface)?;
    let id = text(&found, "NetworkInterfaceId");
    confirm(yes, || {
        let titles = Titles::read(arguments)?;
        let going = Going::new(format!("delete the network interface {} ({id})", text(&found, "NetworkInterfaceName")));
        let going = going.and(format!("addresses: {}", addresses(&found)));
        Ok(going.and(format!("it is a member of: {}", groups(&titles, &found))))
    })?;
    let done = call(arguments, "DeleteNetworkInterface", &json!({"NetworkInterfaceId": id}), false)?;
    told(arguments, &id.into(), &done, json!({"Deleted": true}), &format!("{interface} deleted"))
}

/// Gives an interface to an instance, or with none takes it from the one that has it.
fn attach(arguments: &Arguments, interface: &str, instance: Option<&str>) -> Result<Ended> {
    let found = interface_of(arguments, interface)?;
    let id = &found["NetworkInterfaceId"];
    let (action, owner) = match instance {
        Some(instance) => ("AttachNetworkInterface", instance_of(arguments, instance)?["InstanceId"].clone()),
        None => ("DetachNetworkInterface", found["InstanceId"].clone()),
    };
    let ask = json!({"NetworkInterfaceId": id, "InstanceId": owner});
    let done = call(arguments, action, &ask, false)?;
    let how = if instance.is_some() { "attached to" } else { "detached from" };
    let line = format!("{interface} {how} {}", owner.as_str().unwrap_or_default());
    told(arguments, id, &done, json!({"InstanceId": owner, "Attached": instance.is_some()}), &line)
}

/// `sgctl interface`.
pub fn interface(arguments: &Arguments, command: &Interface) -> Result<Ended> {
    match command {
        Interface::List => {
            let (titles, all) = (Titles::read(arguments)?, interfaces(arguments, json!({}))?);
            output::print(arguments.output, &all, |all| interfaces_table(&titles, all))?;
            Ok(Ended::Done)
        }
        Interface::Show { interface, rules } => show_interface(arguments, interface, *rules),
        Interface::Join { interface, group } => one_group(arguments, "JoinSecurityGroup", interface, group),
        Interface::Leave { interface, group } => one_group(arguments, "LeaveSecurityGroup", interface, group),
        Interface::SetGroups { interface, groups } => set_groups(arguments, interface, groups),
        Interface::Create { groups, address, name, description, account } => {
            create(arguments, groups, address, (name.as_deref(), description.as_deref()), account.as_deref())
        }
        Interface::Delete { interface, yes } => delete(arguments, interface, *yes),
        Interface::Attach { interface, instance } => attach(arguments, interface, Some(instance)),
        Interface::Detach { interface } => attach(arguments, interface, None),
    }
}

fn instances_table(titles: &Titles, instances: &[Value]) -> comfy_table::Table {
    let mut table = output::listing(&["instance", "name", "groups", "interfaces", "addresses"]);
    for i in instances {
        let interfaces = items(&i["NetworkInterfaces"]);
        let each = |of: &dyn Fn(&Value) -> String| interfaces.iter().map(of).collect::<Vec<_>>().join(", ");
        table.add_row([
            text(i, "InstanceId").to_owned(),
            text(i, "InstanceName").to_owned(),
            groups(titles, i),
            each(&|n| text(n, "NetworkInterfaceId").to_owned()),
            each(&addresses),
        ]);
    }
    table
}

/// `sgctl instance`.
pub fn instance(arguments: &Arguments, command: &Instance) -> Result<Ended> {
    match command {
        Instance::List => {
            let (titles, all) = (Titles::read(arguments)?, instances(arguments, json!({}))?);
            output::print(arguments.output, &all, |all| instances_table(&titles, all))?;
            Ok(Ended::Done)
        }
        Instance::Show { instance } => {
            let mut found = instance_of(arguments, instance)?;
            let mut of = interfaces(arguments, json!({"InstanceId": found["InstanceId"]}))?;
            of.sort_by_key(|i| text(i, "Type") != "Primary");
            if arguments.output == Output::Table {
                let mut out = output::stdout();
                writeln!(out, "{} {}", text(&found, "InstanceId"), text(&found, "InstanceName"))?;
                writeln!(out, "\n{}", output::fit(interfaces_table(&Titles::read(arguments)?, &of)))?;
            } else {
                found["NetworkInterfaces"]["NetworkInterface"] = of.into();
                output::print(arguments.output, &found, |_| output::table(&[]))?;
            }
            Ok(Ended::Done)
        }
        Instance::SetGroups { instance, groups } => {
            let found = instance_of(arguments, instance)?;
            let ask = json!({"InstanceId": found["InstanceId"], "SecurityGroupIds": groups});
            let done = call(arguments, "ModifyInstanceAttribute", &ask, false)?;
            let value = json!({"InstanceId": found["InstanceId"], "Generation": done["Generation"]});
            made(arguments.output, &value, "done; in force")
        }
    }
}
