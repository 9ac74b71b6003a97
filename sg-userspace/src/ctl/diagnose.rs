//! `sgctl diagnose`.

use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
};

use anyhow::{Result, anyhow, bail};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::json;

use super::{
    Ended,
    args::{Arguments, Diagnose, Output, documents},
    client,
    confirm::{Going, confirm},
    count, group, output,
};
use crate::{
    daemon::protocol::{Action, Reply},
    diagnose::{Check, Opening, Row, State},
};

/// What a source looks like that has not been said.
const SOMEBODY: &str = "SOURCE";

fn ask(arguments: &Arguments, a: &Diagnose, source: Option<IpNet>) -> Result<Vec<Row>> {
    let name = |protocol: &String| match a.port {
        Some(port) => format!("{protocol} {port}"),
        None => protocol.clone(),
    };
    let checks = a.protocol.iter().map(|p| Check { protocol: p.clone(), port: a.port, name: name(p) }).collect();
    match client::ask(&arguments.socket, &Action::Diagnose { device: a.device.clone(), checks, source })? {
        Reply::Diagnosed { rows } => Ok(rows),
        other => client::unexpected(other),
    }
}

/// The command that opens a service.
fn command(opening: &Opening, source: Option<IpNet>) -> String {
    let Opening { group, protocol, ports, priority, .. } = opening;
    let source = source.map_or_else(|| SOMEBODY.to_owned(), |s| s.to_string());
    let priority = if *priority == 1 { String::new() } else { format!(" --priority {priority}") };
    format!("sgctl rule add {group} ingress {protocol} {ports} {source}{priority}")
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = output::table(&["service", "family", "state", "who", "by"]);
    for row in rows {
        let state = match row.state {
            State::Open => "open",
            State::Partly => "partly",
            State::Closed => "closed",
        };
        let mut who = row.sources.join(", ");
        if row.more > 0 {
            who += &format!(" and {} more", row.more);
        }
        if who.is_empty() {
            who = "nobody".into();
        }
        table.add_row([row.check.name.clone(), row.family.clone(), state.into(), who, row.by.join(", ")]);
    }
    table
}

/// What opens the services that are not, a line each: to be copied.
fn openings(rows: &[Row], source: Option<IpNet>) -> Result<()> {
    let mut out = output::stdout();
    for row in rows {
        let service = format!("{} ({})", row.check.name, row.family);
        match (&row.opening, &row.forbidden) {
            (_, Some(rule)) => {
                writeln!(out, "{service}: {rule} keeps them out at priority 1, and no rule wins against that")?;
            }
            (Some(opening), None) => writeln!(out, "{service}: {}", command(opening, source))?,
            (None, None) => {}
        }
    }
    let groups: BTreeSet<(&str, &str, usize)> =
        rows.iter().filter_map(|r| r.opening.as_ref()).map(|o| (o.group.as_str(), o.name.as_str(), o.others)).collect();
    for (id, name, others) in groups {
        let others = count(others, "other member");
        writeln!(out, "{id} is {name}, with {others}; if a file makes it, put the rule there, too")?;
    }
    if source.is_none() && rows.iter().any(|r| r.opening.is_some()) {
        writeln!(out, "{SOMEBODY}: who is to be let in; --from SOURCE answers for them alone")?;
    }
    Ok(())
}

fn show(arguments: &Arguments, rows: &[Row], source: Option<IpNet>) -> Result<()> {
    output::print(arguments.output, &rows, |rows| table(rows))?;
    if arguments.output == Output::Table { openings(rows, source) } else { Ok(()) }
}

/// Asks for the source; none is ever assumed.
fn asked() -> Result<IpNet> {
    if !std::io::stdin().is_terminal() {
        bail!("say who is to be let in: --from 203.0.113.7, or a prefix; nothing was changed");
    }
    let mut out = output::stderr();
    write!(out, "Who is to be let in? An address or a prefix: ")?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    documents::source(line.trim()).map_err(|wanted| anyhow!("that is not {wanted}; nothing was changed"))
}

/// A rule that was added, for programs.
#[derive(Debug, Serialize)]
struct Opened {
    /// Id of the group that it stands in.
    group: String,
    /// That group's name.
    name: String,
    /// Other members of it, which it opened the service on, too.
    other_members: usize,
    /// The rule, as the API has it.
    rule: serde_json::Value,
    /// What does the same.
    command: String,
    /// The state that has it.
    generation: Option<u64>,
}

/// All that `--open` did, for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// Who was to be let in.
    source: IpNet,
    /// Services that they did not reach all of before.
    closed: &'a [Row],
    /// What was added for it.
    opened: &'a [Opened],
    /// Who reaches what now.
    now: &'a [Row],
}

/// Says who reaches what; with `--open`, lets somebody in.
pub fn run(arguments: &Arguments, a: &Diagnose) -> Result<Ended> {
    if !a.open {
        show(arguments, &ask(arguments, a, a.from)?, a.from)?;
        return Ok(Ended::Done);
    }
    let source = match a.from {
        Some(source) => source,
        None => asked()?,
    };
    let rows = ask(arguments, a, Some(source))?;
    if let Some((row, rule)) = rows.iter().find_map(|row| Some((row, row.forbidden.as_ref()?))) {
        bail!(
            "{rule} keeps {source} from {} at priority 1, and no rule wins against that; take it out, or give it a \
             lower priority, first; nothing was changed",
            row.check.name
        );
    }
    let mut opened = Vec::new();
    for opening in rows.iter().filter_map(|row| row.opening.as_ref()) {
        confirm(a.yes, || {
            let going = Going::new(format!("let {source} in by a rule of the group {}", opening.name));
            Ok(match opening.others {
                0 => going,
                n => going.and(format!("it opens the service on {}, too", count(n, "other member"))),
            })
        })?;
        let field = if source.addr().is_ipv4() { "SourceCidrIp" } else { "Ipv6SourceCidrIp" };
        let rule = json!({
            "Direction": "ingress", "IpProtocol": opening.protocol, "PortRange": opening.ports, field: source.to_string(),
            "Policy": "accept", "Priority": opening.priority.to_string(), "Description": "opened by sgctl diagnose",
        });
        let done = group::put(arguments, &opening.group, std::slice::from_ref(&rule))?;
        let command = command(opening, Some(source));
        if arguments.output == Output::Table {
            writeln!(output::stdout(), "done: {command}")?;
        }
        let Opening { group, name, others, .. } = opening.clone();
        opened.push(Opened {
            group,
            name,
            other_members: others,
            rule,
            command,
            generation: done["Generation"].as_u64(),
        });
    }
    let now = ask(arguments, a, Some(source))?;
    if arguments.output == Output::Table {
        show(arguments, &now, Some(source))?;
    } else {
        let closed: Vec<Row> = rows.into_iter().filter(|r| r.state != State::Open).collect();
        let answer = Answer { source, closed: &closed, opened: &opened, now: &now };
        output::print(arguments.output, &answer, |_| output::table(&[]))?;
    }
    Ok(if now.iter().all(|r| r.state == State::Open) { Ended::Done } else { Ended::Refused })
}
