//! The control API on a host with 1000 rules and 6000 members: how long a change
//! takes until its response says that it is in force, and what 200 clients at once get.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sg_userspace::testbed::{
    Daemon, Net,
    call::{post, signed},
};

use crate::{
    Scale,
    change::{MEMBERS, RULES},
    figures::{Bound, Figure},
    interfaces::resident,
    measure::{Samples, progress, unpin},
    nft,
    peers::Peers,
    policy::document,
};

const PART: &str = "API";
const LISTEN: &str = "127.0.0.1:8080";
/// Clients at once.
const CLIENTS: usize = 200;

/// A client that keeps its connection.
struct Client {
    key: String,
    secret: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(key: &Value) -> Result<Self> {
        let text = |name: &str| key[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let stream = TcpStream::connect(LISTEN).context("cannot connect to the API")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (key, secret) = (text("AccessKeyId")?, text("AccessKeySecret")?);
        Ok(Self { key, secret, stream: BufReader::new(stream) })
    }

    /// A call, and the milliseconds until its answer was there.
    fn call(&mut self, action: &str, parameters: &[(&str, &str)]) -> Result<(f64, Value)> {
        let named = [&[("Action", action)], parameters].concat();
        let request = post(&signed((&self.key, &self.secret), &named), false);
        let start = Instant::now();
        self.stream.get_mut().write_all(&request)?;
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the daemon hung up");
            let text = line.trim();
            if text.is_empty() {
                break;
            }
            if status.is_empty() {
                status = text.to_owned();
            } else if let Some((name, value)) =
                text.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().with_context(|| format!("{name}: {value}"))?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        let body: Value = serde_json::from_slice(&body).context("an answer that is not JSON")?;
        ensure!(status.contains(" 200 "), "{action}: {status}: {body}");
        Ok((took, body))
    }
}

/// The policy of the other figures, with members of known ids, a prefix list that a rule
/// names, and a group to move members to.
fn policy() -> String {
    let mut text = document(RULES - 1, MEMBERS, "eth0").replacen(
        "    permissions:\n",
        "    permissions:\n      - {direction: ingress, ip_protocol: tcp, port_range: 5433/5433, source_prefix_list_id: bench}\n",
        1,
    );
    for i in 0..MEMBERS {
        text = text.replacen("  - {private_ip", &format!("  - {{network_interface_id: eni-{i}, private_ip"), 1);
    }
    text.replacen("network_interfaces:", "  - {security_group_name: others}\nnetwork_interfaces:", 1)
        + "prefix_lists: [{prefix_list_name: bench, max_entries: 2, entries: [{cidr: 192.0.2.0/24}]}]\n"
}

/// A daemon with the policy, and a key for it.
fn daemon<'a>(net: &'a Net, bin: &std::path::Path) -> Result<(Daemon<'a>, Value)> {
    let mut daemon = Daemon::new(net, bin)?;
    for line in [&format!("api.listen = \"{LISTEN}\""), "api.rate = 1000000", "quotas.rules_per_interface = 1100"] {
        daemon.configure(line)?;
    }
    daemon.start()?;
    daemon.apply(&policy(), &["--yes"])?;
    let (done, said) = daemon.sgctl(&["key", "create", "-o", "json"])?;
    ensure!(done, "{said}");
    Ok((daemon, serde_json::from_str(&said)?))
}

/// Ids of the groups and of the prefix list.
fn ids(client: &mut Client) -> Result<(BTreeMap<String, String>, String)> {
    let found = client.call("DescribeSecurityGroups", &[("PageSize", "50")])?.1;
    let groups = found["SecurityGroups"]["SecurityGroup"].as_array().context("no groups")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = groups.iter().map(|g| (text(&g["SecurityGroupName"]), text(&g["SecurityGroupId"]))).collect();
    let found = client.call("DescribePrefixLists", &[])?.1;
    Ok((groups, text(&found["PrefixLists"]["PrefixList"][0]["PrefixListId"])))
}

fn pushed(figures: &mut Vec<Figure>, name: &str, samples: Vec<f64>, peer: Option<(&str, Vec<f64>)>, goal: f64) {
    let samples = Samples::new(samples);
    let figure = Figure::new(PART, format!("{name}: in force when answered"), "ms", &samples);
    figures.push(match peer {
        Some((peer, values)) => figure.faster_than(peer, &samples, &Samples::new(values)),
        None => figure,
    });
    let last = Samples::new(vec![samples.quantile(0.99)]);
    let name = format!("{name}: 99th percentile of {}", samples.count());
    figures.push(Figure::new(PART, name, "ms", &last).goal(Bound::Most(goal), None));
}

/// One client, one change after the other, of one kind at a time; beside `nft -f` of the same change.
pub fn changes(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    unpin()?;
    let bin = std::env::current_exe()?.parent().context("no directory")?.to_path_buf();
    let (net, peer, other) = (Net::new("api")?, Net::new("peer")?, Net::new("nft")?);
    net.veth("eth0", &peer, "eth0")?;
    net.ip("link set eth0 up")?;
    let (daemon, key) = daemon(&net, &bin)?;
    nft::load(&other, &nft::with_members(RULES, MEMBERS))?;
    let count = if scale.quick { 100 } else { 500 };
    let mut took: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    daemon.enter(|| {
        let mut client = Client::new(&key)?;
        let (groups, list) = ids(&mut client)?;
        let group = |name: &str| groups.get(name).map(String::as_str).with_context(|| format!("no group {name}"));
        let (members, others, first) = (group("members")?, group("others")?, group("g0")?);
        // Each kind alone: what a change of rules leaves to be tidied up is not what a member's costs.
        let mut turns = |name: &'static str, turn: &mut dyn FnMut(bool) -> Result<f64>| -> Result<()> {
            for i in 0..count {
                progress(&format!("{name} {i}/{count}"));
                took.entry(name).or_default().push(turn(i % 2 == 0)?);
            }
            Ok(())
        };
        turns("member", &mut |there| {
            let to = if there { others } else { members };
            let interface = [("NetworkInterfaceId", "eni-77"), ("SecurityGroupId.1", to)];
            Ok(client.call("ModifyNetworkInterfaceAttribute", &interface)?.0)
        })?;
        turns("nft", &mut |there| {
            let verb = if there { "delete" } else { "add" };
            let start = Instant::now();
            nft::load(&other, &format!("{verb} element inet filter members {{ 172.16.0.78 }}\n"))?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })?;
        turns("prefix", &mut |there| {
            let entry = if there { "AddEntry.1.Cidr" } else { "RemoveEntry.1.Cidr" };
            let prefix = [("PrefixListId", list.as_str()), (entry, "198.51.100.0/24")];
            Ok(client.call("ModifyPrefixList", &prefix)?.0)
        })?;
        turns("rule", &mut |there| {
            let rule = [
                ("SecurityGroupId", first),
                ("Permissions.1.IpProtocol", "TCP"),
                ("Permissions.1.PortRange", "3000/3000"),
                ("Permissions.1.SourceCidrIp", "203.0.113.9/32"),
            ];
            let action = if there { "AuthorizeSecurityGroup" } else { "RevokeSecurityGroup" };
            Ok(client.call(action, &rule)?.0)
        })?;
        turns("read", &mut |_| Ok(client.call("DescribeSecurityGroups", &[("PageSize", "10")])?.0))?;
        Ok(())
    })?;
    progress("");
    let mut of = |name: &str| took.remove(name).unwrap_or_default();
    let nft = of("nft");
    let host = format!("{RULES} rules, {MEMBERS} members");
    pushed(figures, &format!("{host}: a member change"), of("member"), Some(("nft -f of one element", nft)), 5.0);
    pushed(figures, &format!("{host}: a prefix change"), of("prefix"), None, 5.0);
    pushed(figures, &format!("{host}: a rule change"), of("rule"), None, 60.0);
    figures.push(Figure::new(PART, format!("{host}: a page of groups is read"), "ms", &Samples::new(of("read"))));
    Ok(())
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    reads: Vec<f64>,
    changes: Vec<f64>,
}

/// 200 clients at once, each of whom reads three times and then moves a member.
pub fn crowd(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    unpin()?;
    let bin: PathBuf = std::env::current_exe()?.parent().context("no directory")?.into();
    let (net, peer) = (Net::new("api")?, Net::new("peer")?);
    net.veth("eth0", &peer, "eth0")?;
    net.ip("link set eth0 up")?;
    let (daemon, key) = daemon(&net, &bin)?;
    let pid = daemon.pid().context("sgd is not running")?;
    let seconds = if scale.quick { 5 } else { 60 };
    let (all, over) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    let (groups, _) = daemon.enter(|| ids(&mut Client::new(&key)?))?;
    let group = |name: &str| groups.get(name).map(String::as_str).with_context(|| format!("no group {name}"));
    let (members, others) = (group("members")?, group("others")?);
    let one = |number: usize| -> Result<()> {
        let mut client = Client::new(&key)?;
        let (mut seen, interface) = (Seen::default(), format!("eni-{number}"));
        for turn in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let named = [("NetworkInterfaceId.1", interface.as_str())];
            seen.reads.push(client.call("DescribeNetworkInterfaces", &named)?.0);
            seen.reads.push(client.call("DescribeSecurityGroups", &[("PageSize", "10")])?.0);
            seen.reads.push(client.call("DescribeSecurityGroupAttribute", &[("SecurityGroupId", others)])?.0);
            let to = if turn % 2 == 0 { others } else { members };
            let moved = [("NetworkInterfaceId", interface.as_str()), ("SecurityGroupId.1", to)];
            seen.changes.push(client.call("ModifyNetworkInterfaceAttribute", &moved)?.0);
        }
        let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.reads.append(&mut seen.reads);
        all.changes.append(&mut seen.changes);
        Ok(())
    };
    let mut weight = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (one, daemon, over) = (&one, &daemon, &over);
                scope.spawn(move || {
                    let result = daemon.enter(|| one(number));
                    // Whoever fails ends it for all.
                    if result.is_err() {
                        over.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(500));
            progress(&format!("{} of {seconds} s", start.elapsed().as_secs()));
            weight.push(resident(pid)?);
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow::anyhow!("a client died"))?)
    })?;
    progress("");
    let all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = |what: &str| format!("{CLIENTS} clients at once, {RULES} rules, {MEMBERS} members: {what}");
    let rate = (all.reads.len() + all.changes.len()) as f64 / seconds as f64;
    let one = |value: f64| Samples::new(vec![value]);
    figures.push(Figure::new(PART, name("calls answered, a quarter of them changes"), "a second", &one(rate)));
    for (what, values) in [("a read", all.reads), ("a change", all.changes)] {
        let samples = Samples::new(values);
        figures.push(Figure::new(PART, name(what), "ms", &samples));
        figures.push(Figure::new(PART, name(&format!("{what}: 99th percentile")), "ms", &one(samples.quantile(0.99))));
    }
    // Nonces and tokens are kept for their time, which is longer than this takes.
    let (early, late) = (weight.get(weight.len() / 6).copied(), weight.last().copied());
    let (early, late) = (early.unwrap_or(f64::NAN), late.unwrap_or(f64::NAN));
    figures.push(Figure::new(PART, name("daemon, resident"), "MiB", &one(late)).over("after a sixth of it", early));
    Ok(())
}
