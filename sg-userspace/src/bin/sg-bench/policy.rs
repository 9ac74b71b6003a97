//! Policies of any size, and packets for them.

use std::fmt::Write;

use anyhow::{Result, anyhow};
use sg_userspace::{
    compiler::{Tables, compile},
    document::{Source, parse},
    effective::PolicyKey,
    model::{Direction, Instance, Model},
    packet::first_packet,
    reference::FlowQuery,
    validate::{Quotas, validate},
};

/// Hardware address of whoever sends.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// One accepting rule: a TCP port for a prefix.
pub struct Accept {
    /// The source, as text.
    pub source: String,
    /// The destination port.
    pub port: u16,
}

/// Every rule with another prefix, of /16 to /32, and another port.
pub fn accepts(rules: usize) -> Vec<Accept> {
    (0..rules)
        .map(|i| {
            let length = [16, 20, 24, 28, 32][i % 5];
            let network = (10u32 << 24 | (i as u32) << 12).wrapping_mul(1) & (u32::MAX << (32 - length));
            let address = std::net::Ipv4Addr::from(network | u32::from(length == 32));
            Accept { source: format!("{address}/{length}"), port: 1000 + (i % 60_000) as u16 }
        })
        .collect()
}

/// A document with that many rules on `eth0` of one side, two hundred a group.
pub fn document(rules: usize, members: usize, device: &str) -> String {
    let all = accepts(rules);
    let groups = rules.div_ceil(200).clamp(1, 10);
    let mut text = String::from("security_groups:\n");
    for group in 0..groups {
        let _ = writeln!(text, "  - security_group_name: g{group}\n    inner_access_policy: drop\n    permissions:");
        for accept in all.iter().skip(group).step_by(groups) {
            let _ = writeln!(
                text,
                "      - {{direction: ingress, ip_protocol: tcp, port_range: {0}/{0}, source_cidr_ip: {1}, priority: 50}}",
                accept.port, accept.source
            );
        }
        if group == 0 {
            text +=
                "      - {direction: ingress, ip_protocol: tcp, port_range: 443/443, source_cidr_ip: 192.0.0.0/16}\n";
            text += "      - {direction: ingress, ip_protocol: tcp, port_range: 443/443, ipv6_source_cidr_ip: '2001:db8::/32'}\n";
            if members > 0 {
                text +=
                    "      - {direction: ingress, ip_protocol: tcp, port_range: 5432/5432, source_group_id: members}\n";
            }
        }
    }
    if members > 0 {
        text += "  - {security_group_name: members}\n";
    }
    let names: Vec<String> = (0..groups).map(|g| format!("g{g}")).collect();
    let _ = writeln!(
        text,
        "network_interfaces:\n  - {{device: \"{device}\", side: host, private_ip_addresses: [10.0.0.5, '2001:db8:1::5'], \
         security_group_ids: [{}]}}",
        names.join(", ")
    );
    for member in 0..members {
        let address = std::net::Ipv4Addr::from((172u32 << 24 | 16 << 16) + 1 + member as u32);
        let _ = writeln!(text, "  - {{private_ip_addresses: [{address}], security_group_ids: [members]}}");
    }
    text
}

/// Quotas that do not stand in the way.
pub fn quotas() -> Quotas {
    Quotas { rules_per_interface: 20_000, addresses_per_normal_group: 100_000, ..Quotas::default() }
}

/// A document read and checked.
///
/// # Errors
/// Its problems.
pub fn model(text: &str) -> Result<Model> {
    let document = parse(&[Source { name: "bench".into(), bytes: text.into() }]).map_err(|e| anyhow!("{e}"))?;
    validate(&document, &quotas()).map_err(|e| anyhow!("{e}"))
}

/// The tables of the first interface with a device.
///
/// # Errors
/// They do not fit.
pub fn tables(model: &Model) -> Result<(Instance, Tables)> {
    let instances = model.declared_instances();
    let instance = instances.first().ok_or_else(|| anyhow!("no interface"))?.clone();
    let mut next = 0;
    let tables = compile(model, &instances, &PolicyKey::of(model, &instance), |_| {
        next += 1;
        next
    })?;
    Ok((instance, tables))
}

/// The first packet of a flow to port `port` of the instance.
pub fn packet(v4: bool, direction: Direction, protocol: u8, port: u16) -> Vec<u8> {
    let (local, remote) = if v4 { ("10.0.0.5", "192.0.2.7") } else { ("2001:db8:1::5", "2001:db8:99::7") };
    let (local, remote) = (local.parse().expect("an address"), remote.parse().expect("an address"));
    let query = FlowQuery {
        direction,
        protocol,
        local,
        remote,
        local_port: port,
        remote_port: 40_000,
        icmp_type: 0,
        icmp_code: 0,
    };
    let mut frame = first_packet(&query, SENDER);
    // Not the shortest frame, but no longer than the smallest on a wire.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same with other TCP flags.
pub fn with_flags(mut frame: Vec<u8>, v4: bool, flags: u8) -> Vec<u8> {
    frame[if v4 { 47 } else { 67 }] = flags;
    frame
}
