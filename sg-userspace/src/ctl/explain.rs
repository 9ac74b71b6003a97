//! `sgctl explain`.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result, bail};
use sg_common::reason::Reason;

use super::{
    Ended,
    args::{Arguments, Explain, KernelHook, Output},
    client, count, document, output, read_all,
};
use crate::{
    daemon::protocol::{Action, Reply},
    dataplane::probe,
    explain::{
        Answer, Line, batch,
        trace::{Trace, but},
        traces,
    },
    model::{Direction, Instance, Model},
    reference::{FlowQuery, Outcome, Reference},
    validate::{Quotas, validate},
};

/// One flow from the command line, as a line of a flows file.
fn line_of(words: &[String]) -> Result<String> {
    let [device, direction, protocol, local, remote] = words else {
        bail!("give a flow as: device direction protocol local[:port] remote[:port]; or many with --flows");
    };
    let end = |text: &str| match text.parse::<std::net::SocketAddr>() {
        Ok(socket) => (socket.ip().to_string(), Some(socket.port())),
        Err(_) => (text.trim_matches(['[', ']']).to_owned(), None),
    };
    let ((local, local_port), (remote, remote_port)) = (end(local), end(remote));
    let line = Line {
        device: device.clone(),
        direction: direction.clone(),
        protocol: protocol.clone().into(),
        local,
        remote,
        local_port,
        remote_port,
        icmp_type: None,
        icmp_code: None,
    };
    Ok(serde_json::to_string(&line)?)
}

fn reasons(form: Output) -> Result<Ended> {
    let all: Vec<serde_json::Value> = Reason::ALL
        .iter()
        .map(|r| serde_json::json!({"number": *r as u8, "reason": r.name(), "meaning": r.describe()}))
        .collect();
    output::print(form, &all, |_| {
        let mut table = output::table(&["number", "reason", "meaning"]);
        for r in Reason::ALL {
            table.add_row([(*r as u8).to_string(), r.name().to_owned(), r.describe().to_owned()]);
        }
        table
    })?;
    Ok(Ended::Done)
}

pub fn run(arguments: &Arguments, a: &Explain) -> Result<Ended> {
    let form = arguments.output;
    if a.reasons {
        return reasons(form);
    }
    let flows = match &a.flows {
        Some(name) if name == "-" && a.file.iter().any(|f| f == "-") => {
            bail!("standard input can be the document or the flows, not both")
        }
        Some(name) => String::from_utf8(read_all(name)?).with_context(|| format!("{name} is not UTF-8"))?,
        None => line_of(&a.flow)?,
    };
    // One flow is told with all that was looked at; in JSON only where that is asked for,
    // as programs expect a line for a line.
    let trace = a.flows.is_none() && (form == Output::Table || a.order);
    if a.file.is_empty() {
        if a.hook == KernelHook::Xdp {
            bail!("the program in force is asked at TC, where it says the same; --hook xdp needs a document: -f FILE");
        }
        let action = Action::Explain { flows: flows.clone(), trace, kernel: a.kernel };
        let reply = client::ask(&arguments.socket, &action)?;
        let Reply::Explained { answers, traces, differ } = reply else { return client::unexpected(reply) };
        let ended = finish(a, form, &flows, &answers, &traces)?;
        for (line, answer) in &differ {
            eprintln!(
                "line {line}: the kernel says otherwise than the policy, please report this: {}",
                policy_says(answer)
            );
        }
        return Ok(if differ.is_empty() { ended } else { Ended::Refused });
    }
    let model = validate(&document(&a.file)?, &Quotas::default())?;
    let instances = model.declared_instances();
    let judge = |flows: &[(usize, FlowQuery)]| -> Result<Vec<Outcome>> { judge(a, &model, &instances, flows) };
    let answers = batch(&model, &instances, &flows, judge)?;
    let traces = if trace { traces(&model, &instances, &flows) } else { Vec::new() };
    finish(a, form, &flows, &answers, &traces)
}

fn finish(a: &Explain, form: Output, flows: &str, answers: &[Answer], traces: &[Trace]) -> Result<Ended> {
    match traces {
        [trace] if form == Output::Table => tell(flows, answers, trace, a.order, a.kernel)?,
        [trace] => output::print(form, trace, |_| output::table(&[]))?,
        _ => print(form, flows, answers)?,
    }
    let refused = answers.iter().any(|a| matches!(a, Answer::Error { .. }));
    Ok(if refused { Ended::Refused } else { Ended::Done })
}

/// What the policy says, in words.
fn policy_says(answer: &Answer) -> String {
    match answer {
        Answer::Judged { verdict, reason, .. } => format!("by the policy it is {verdict} (reason: {reason})"),
        Answer::Error { error, .. } => error.clone(),
    }
}

fn judge(a: &Explain, model: &Model, instances: &[Instance], flows: &[(usize, FlowQuery)]) -> Result<Vec<Outcome>> {
    if a.kernel {
        return Ok(probe::judge(model, instances, flows, a.hook == KernelHook::Xdp)?);
    }
    let reference = Reference::new(model, instances);
    Ok(flows.iter().map(|(instance, q)| reference.judge(*instance, q)).collect())
}

fn print(form: Output, flows: &str, answers: &[Answer]) -> Result<()> {
    if form == Output::Yaml {
        return output::print(form, &answers, |_| output::table(&[]));
    }
    if form == Output::Json {
        // A line for a line, whatever their number.
        let mut out = BufWriter::new(std::io::stdout().lock());
        for answer in answers {
            writeln!(out, "{}", serde_json::to_string(answer)?)?;
        }
        return Ok(out.flush()?);
    }
    let mut table = output::table(&["flow", "verdict", "reason", "group", "rule", "priority"]);
    for (line, answer) in flows.lines().filter(|l| !l.trim().is_empty()).zip(answers) {
        let dash = |v: Option<String>| v.unwrap_or_else(|| "-".into());
        match answer {
            Answer::Judged { verdict, reason, security_group, rule, priority } => table.add_row([
                flow_text(line),
                verdict.clone(),
                reason.clone(),
                dash(security_group.clone()),
                dash(rule.map(|r| r.to_string())),
                dash(priority.map(|p| p.to_string())),
            ]),
            Answer::Error { error, line: number } => {
                table.add_row([format!("line {number}"), "error".into(), error.clone()])
            }
        };
    }
    writeln!(output::stdout(), "{}", output::fit(table))?;
    Ok(())
}

/// One flow: its verdict, what decides, what would have if one field were another.
fn tell(flows: &str, answers: &[Answer], trace: &Trace, order: bool, kernel: bool) -> Result<()> {
    let mut out = output::stdout();
    let inbound = serde_json::from_str::<Line>(flows).is_ok_and(|l| l.direction.eq_ignore_ascii_case("ingress"));
    let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
    writeln!(out, "{}: {} (reason: {})", flow_text(flows.trim()), trace.verdict.to_uppercase(), trace.reason)?;
    writeln!(out, "{}", trace.by(direction))?;
    if let [Answer::Judged { verdict, reason, .. }] = answers
        && (verdict, reason) != (&trace.verdict, &trace.reason)
    {
        writeln!(out, "THE KERNEL PROGRAM SAYS OTHERWISE: {verdict} (reason: {reason}); please report this")?;
    } else if kernel {
        writeln!(out, "the kernel program says the same")?;
    }
    let otherwise = if trace.verdict == "drop" { "accept" } else { "drop" };
    if !trace.near.is_empty() && !trace.before_rules {
        let mut table = output::table(&["rule", "priority", "matches", "but"]);
        for row in trace.near.iter().map(|&at| &trace.order[at]) {
            let priority = row.priority.map_or_else(|| "-".into(), |p| p.to_string());
            table.add_row([row.rule.clone(), priority, row.matches.clone(), but(&row.met)]);
        }
        writeln!(out, "\nrules that would {otherwise}, the closest first:\n{}", output::fit(table))?;
    }
    if order {
        let mut table = output::table(&["", "rule", "priority", "verdict", "matches", "this flow"]);
        for (i, row) in trace.order.iter().enumerate() {
            let priority = row.priority.map_or_else(|| "-".into(), |p| p.to_string());
            let number = (i + 1).to_string();
            table.add_row([
                number,
                row.rule.clone(),
                priority,
                row.verdict.clone(),
                row.matches.clone(),
                but(&row.met),
            ]);
        }
        writeln!(out, "\nall rules, first match first:\n{}", output::fit(table))?;
    } else if trace.order.len() > 1 {
        writeln!(out, "\n{} in all; --order shows them as they are looked at", count(trace.order.len(), "rule"))?;
    }
    Ok(())
}

fn flow_text(line: &str) -> String {
    let Ok(l) = serde_json::from_str::<Line>(line) else { return line.to_owned() };
    let end = |ip: &str, port: Option<u16>| match port {
        Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
        Some(port) => format!("{ip}:{port}"),
        None => ip.to_owned(),
    };
    let protocol = l.protocol.as_str().map_or_else(|| l.protocol.to_string(), str::to_owned);
    let (local, remote) = (end(&l.local, l.local_port), end(&l.remote, l.remote_port));
    if l.direction.eq_ignore_ascii_case("ingress") {
        format!("{} {protocol} {remote} -> {local}", l.device)
    } else {
        format!("{} {protocol} {local} -> {remote}", l.device)
    }
}
