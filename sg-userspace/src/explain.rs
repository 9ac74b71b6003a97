//! Which rule decides a flow, and why: the batch oracle. Lines of JSON in,
//! one line of JSON out for each. [`trace`]: one flow, with all that was looked at.

pub mod trace;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::trace::Trace;
use crate::{
    model::{Direction, Instance, Model, protocol_name},
    reference::{FlowQuery, Outcome},
    validate::parse,
};

/// A line of input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Device name, as the document has it or as its patterns match it.
    pub device: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// A name or a number.
    pub protocol: serde_json::Value,
    /// The instance's address.
    pub local: String,
    /// The other side's address.
    pub remote: String,
    /// Required for TCP and UDP.
    pub local_port: Option<u16>,
    /// Required for TCP and UDP.
    pub remote_port: Option<u16>,
    /// Default: echo request.
    pub icmp_type: Option<u8>,
    /// Default 0.
    pub icmp_code: Option<u8>,
}

impl Line {
    /// The line that is read as this flow.
    pub fn of(device: &str, q: &FlowQuery) -> Self {
        let has_ports = matches!(q.protocol, 6 | 17);
        let icmp = matches!(q.protocol, 1 | 2 | 58);
        let named = matches!(q.protocol, 1 | 6 | 17 | 47 | 58);
        let name = protocol_name(Some(q.protocol));
        Self {
            device: device.into(),
            direction: q.direction.name().into(),
            protocol: if named { name.into() } else { q.protocol.into() },
            local: q.local.to_string(),
            remote: q.remote.to_string(),
            local_port: has_ports.then_some(q.local_port),
            remote_port: has_ports.then_some(q.remote_port),
            icmp_type: icmp.then_some(q.icmp_type),
            icmp_code: icmp.then_some(q.icmp_code),
        }
    }
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// The flow was judged.
    Judged {
        /// `accept` or `drop`.
        verdict: String,
        /// One of [`sg_common::reason::Reason`].
        reason: String,
        /// Name of the deciding group.
        security_group: Option<String>,
        /// Index in that group's permissions, from 0.
        rule: Option<usize>,
        /// Its priority.
        priority: Option<u8>,
    },
    /// The line makes no sense.
    Error {
        /// Why.
        error: String,
        /// Its number, from 1.
        line: usize,
    },
}

impl Answer {
    /// What an outcome says, by name.
    pub fn of(model: &Model, outcome: &Outcome) -> Self {
        Self::Judged {
            verdict: outcome.verdict.name().into(),
            reason: outcome.reason.name().into(),
            security_group: outcome.group.map(|g| model.groups[g].name.clone()),
            rule: outcome.rule,
            priority: outcome.group.zip(outcome.rule).map(|(g, r)| model.groups[g].rules[r].priority),
        }
    }
}

/// A protocol by its name or number.
///
/// # Errors
/// There is none, for a human.
pub fn protocol(value: &serde_json::Value) -> Result<u8, String> {
    let text = match value {
        serde_json::Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    match parse::protocol(&text) {
        Ok(Some(p)) => Ok(p),
        Ok(None) => Err("a packet has one protocol; \"all\" is none".into()),
        Err(_) => match text.to_ascii_lowercase().as_str() {
            "igmp" => Ok(2),
            "sctp" => Ok(132),
            "esp" => Ok(50),
            "ah" => Ok(51),
            _ => Err(format!("{text} is not a protocol: a name such as \"tcp\", or a number from 0 to 255")),
        },
    }
}

fn address(text: &str, name: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{name}: {text:?} is not an address"))
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it, for a human.
pub fn read(text: &str) -> Result<(String, FlowQuery), String> {
    let line: Line = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let direction = parse::word(&[("ingress", Direction::Inbound), ("egress", Direction::Outbound)], &line.direction)
        .map_err(|e| format!("direction: {e}"))?;
    let protocol = protocol(&line.protocol)?;
    let (local, remote) = (address(&line.local, "local")?, address(&line.remote, "remote")?);
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(format!("{local} and {remote} are of different families"));
    }
    let (local_port, remote_port) = match (protocol, line.local_port, line.remote_port) {
        (6 | 17, Some(local), Some(remote)) => (local, remote),
        (6 | 17, ..) => return Err("local_port and remote_port are required for TCP and UDP".into()),
        (_, None | Some(0), None | Some(0)) => (0, 0),
        _ => return Err("only TCP and UDP have ports".into()),
    };
    let icmp = matches!(protocol, 1 | 2 | 58);
    if !icmp && (line.icmp_type.is_some() || line.icmp_code.is_some()) {
        return Err("icmp_type and icmp_code need protocol icmp or icmpv6".into());
    }
    let echo = match protocol {
        1 => 8,
        58 => 128,
        _ => 0,
    };
    let icmp_type = line.icmp_type.unwrap_or(echo);
    let icmp_code = line.icmp_code.unwrap_or(0);
    let query = FlowQuery { direction, protocol, local, remote, local_port, remote_port, icmp_type, icmp_code };
    Ok((line.device, query))
}

/// The instance that a device name means: exactly named, else by the first pattern.
pub fn find(instances: &[Instance], device: &str) -> Option<usize> {
    let named = |i: &Instance| i.device.as_deref() == Some(device);
    let pattern = |i: &Instance| i.device.as_deref().is_some_and(|p| crate::model::device_matches(p, device));
    instances.iter().position(named).or_else(|| instances.iter().position(pattern))
}

/// Flows that are traced at once: each answer holds every rule.
const TRACED: usize = 8;

/// Why the first few flows of a text, of those that make sense, are decided as they are.
pub fn traces(model: &Model, instances: &[Instance], text: &str) -> Vec<Trace> {
    let flows = text.lines().filter_map(|line| {
        let (device, query) = read(line).ok()?;
        Some((find(instances, &device)?, query))
    });
    flows.take(TRACED).map(|(instance, query)| trace::trace(model, instances, instance, &query)).collect()
}

/// Answers every line; `judge` is asked once, with all flows that make sense.
///
/// # Errors
/// What `judge` says.
pub fn batch<E>(
    model: &Model,
    instances: &[Instance],
    text: &str,
    judge: impl FnOnce(&[(usize, FlowQuery)]) -> Result<Vec<Outcome>, E>,
) -> Result<Vec<Answer>, E> {
    let mut flows = Vec::new();
    let mut lines: Vec<Result<(), Answer>> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let flow = read(line).and_then(|(device, query)| match find(instances, &device) {
            Some(instance) => Ok((instance, query)),
            None => Err(format!("the document binds no device {device:?}")),
        });
        lines.push(flow.map(|flow| flows.push(flow)).map_err(|error| Answer::Error { error, line: number + 1 }));
    }
    let mut outcomes = judge(&flows)?.into_iter();
    let answers = lines.into_iter().enumerate().map(|(i, line)| match line {
        Ok(()) => outcomes.next().map_or_else(
            || Answer::Error { error: "the evaluator gave no answer".into(), line: i + 1 },
            |o| Answer::of(model, &o),
        ),
        Err(answer) => answer,
    });
    Ok(answers.collect())
}
