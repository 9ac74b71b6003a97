//! What grows, and what that costs: rules, members, prefixes.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use sg_common::generation::Generation;
use sg_userspace::{
    dataplane::probe::{Entry, Probe, record},
    model::Direction,
};

use crate::{
    Scale,
    figures::Curve,
    measure::{Contestant, progress, rounds},
    nft,
    packets::probe,
    peers::{Hook, Peers, time_live},
    policy::{model, packet, tables},
};

const UDP: u8 = 17;
const SENDERS: u32 = 65_536;

/// A denied packet over the number of rules, beside nftables.
pub fn rules(peers: &Peers, scale: &Scale, curves: &mut Vec<Curve>) -> Result<()> {
    let frame = packet(true, Direction::Inbound, UDP, 1500);
    let source = peers.program("bench_xdp_vary")?;
    let mut points = [const { Vec::new() }; 3];
    for count in scale.points(&[1, 10, 100, 1000, 10_000]) {
        progress(&format!("{count} rules"));
        let (set, _far, set_index) = nft::receiver("set")?;
        let (list, _other, list_index) = nft::receiver("list")?;
        nft::load(&set, &nft::one_set(count))?;
        nft::load(&list, &nft::as_written(count))?;
        // What one interface can hold.
        let mut own = if count <= 1000 { Some(probe(count, 0)?) } else { None };
        let ours = own.as_mut().map(|own| own.program(Entry::Xdp)).transpose()?;
        let into = |net: &sg_userspace::testbed::Net, index, repeat: u32| {
            peers.vary(Hook::Xdp, &frame, true, SENDERS, None)?;
            net.run(|| time_live(source, &frame, index, repeat.max(200)))
        };
        let samples = rounds(
            scale.few(5),
            &mut [
                Contestant::new("security groups", || match ours {
                    Some(ours) => {
                        peers.vary(Hook::Xdp, &frame, true, SENDERS, Some(ours))?;
                        time_live(source, &frame, 1, scale.repeat / 4)
                    }
                    None => Ok(f64::NAN),
                }),
                Contestant::new("nftables, one set", || into(&set, set_index, scale.repeat / 20)),
                Contestant::new("nftables, a rule each", || {
                    into(&list, list_index, scale.repeat / (20 + 2 * count as u32))
                }),
            ],
        )?;
        for (points, samples) in points.iter_mut().zip(&samples) {
            if samples.median().is_finite() {
                points.push((count as f64, samples.median()));
            }
        }
    }
    for (name, points) in ["security groups", "nftables, one set", "nftables, a rule each"].into_iter().zip(points) {
        curves.push(Curve { plot: "denied packet over rules", over: "rules", unit: "ns", name: name.into(), points });
    }
    Ok(())
}

/// A denied packet over the members of a group that a rule names.
pub fn members(peers: &Peers, scale: &Scale, curves: &mut Vec<Curve>) -> Result<()> {
    let frame = packet(true, Direction::Inbound, UDP, 1500);
    let source = peers.program("bench_xdp_vary")?;
    let mut points = Vec::new();
    for count in scale.points(&[1, 10, 100, 1000, 6000, 20_000, 60_000]) {
        progress(&format!("{count} members"));
        let mut own = probe(10, count)?;
        let ours = own.program(Entry::Xdp)?;
        let samples = rounds(
            scale.few(5),
            &mut [Contestant::new("denied", || {
                peers.vary(Hook::Xdp, &frame, true, SENDERS, Some(ours))?;
                time_live(source, &frame, 1, scale.repeat / 4)
            })],
        )?;
        points.push((count as f64, samples[0].median()));
    }
    let name = "security groups".into();
    curves.push(Curve { plot: "denied packet over members of a group", over: "members", unit: "ns", name, points });
    Ok(())
}

/// A probe whose one rule names a prefix list.
fn listed(entries: Vec<IpNet>) -> Result<Probe> {
    let family = if entries.first().is_some_and(|net| net.addr().is_ipv6()) { "IPv6" } else { "IPv4" };
    let mut model = model(&format!(
        "security_groups:\n- security_group_name: g\n  permissions:\n  \
         - {{direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: l}}\n\
         prefix_lists: [{{prefix_list_name: l, address_family: {family}, entries: []}}]\n\
         network_interfaces: [{{device: eth0, private_ip_addresses: [10.0.0.5, '2001:db8:1::5'], security_group_ids: [g]}}]\n"
    ))?;
    std::sync::Arc::make_mut(&mut model.prefix_lists[0]).entries = entries;
    let probe = Probe::load()?;
    let (_, tables) = tables(&model)?;
    probe.install(0, &tables)?;
    probe.enforce(&Generation { policy_class: tables.size_class() as u32, ..record() })?;
    probe.quiet()?;
    Ok(probe)
}

/// Entries of each kind of table that finds the class of an address.
fn entries(kind: usize, i: u32) -> Result<IpNet> {
    let v6 = |high: u64, low: u64| Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
    Ok(match kind {
        0 => IpNet::new(Ipv4Addr::from((11 << 24) + i * 512).into(), 25)?,
        1 => IpNet::new(v6(0x2001_0db8_0099_0000 + u64::from(i), 0).into(), 64)?,
        _ => IpNet::new(v6(0x2001_0db8_0099_0000, u64::from(i) + 1).into(), 128)?,
    })
}

/// A denied packet over the prefixes of a list, by what holds them.
pub fn prefixes(peers: &Peers, scale: &Scale, curves: &mut Vec<Curve>) -> Result<()> {
    let source = peers.program("bench_xdp_vary")?;
    let names = ["IPv4 prefixes: multi-bit table", "IPv6 prefixes: trie", "IPv6 hosts: hash, then trie"];
    let mut points = [const { Vec::new() }; 3];
    for count in scale.points(&[10, 100, 1000, 10_000, 100_000]) {
        progress(&format!("{count} prefixes"));
        let list = |kind| (0..count).map(|i| entries(kind, i)).collect::<Result<Vec<_>>>().and_then(listed);
        let mut own = [list(0)?, list(1)?, list(2)?];
        let programs = own.each_mut().map(|probe| probe.program(Entry::Xdp));
        let [table, trie, hash] = programs;
        let run = |program, v4| {
            let frame = packet(v4, Direction::Inbound, UDP, 1500);
            move || {
                peers.vary(Hook::Xdp, &frame, v4, SENDERS, Some(program))?;
                time_live(source, &frame, 1, scale.repeat / 4)
            }
        };
        let samples = rounds(
            scale.few(5),
            &mut [
                Contestant::new(names[0], run(table?, true)),
                Contestant::new(names[1], run(trie?, false)),
                Contestant::new(names[2], run(hash?, false)),
            ],
        )?;
        for (points, samples) in points.iter_mut().zip(&samples) {
            points.push((f64::from(count), samples.median()));
        }
    }
    for (name, points) in names.into_iter().zip(points) {
        let plot = "denied packet over prefixes of a list";
        curves.push(Curve { plot, over: "prefixes", unit: "ns", name: name.into(), points });
    }
    Ok(())
}
