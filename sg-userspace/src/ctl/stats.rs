//! `sgctl stats`.

use std::io::Write;

use anyhow::Result;

use super::{
    Ended,
    args::{Arguments, Output, Stats},
    client, count, output,
};
use crate::daemon::protocol::{Action, GroupStats, InterfaceStats, Reply, RuleStats, StatsView};

const NEVER: &str = "never";
/// Said of a rule that no device here has any more.
const NOT_NOW: &str = ", not in force now";

/// A length of time by its two largest units: `12 d 4 h`, `40 s`.
fn length(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(n, _)| *n > 0);
    let text: Vec<String> = shown.map(|(n, unit)| format!("{n} {unit}")).collect();
    if text.is_empty() { "0 s".into() } else { text.join(" ") }
}

/// A time of the form `2026-01-31T12:00:00Z`, in two words that a narrow column can hold.
fn at(time: &str) -> String {
    time.replace('T', " ").trim_end_matches('Z').to_owned()
}

fn table(head: &[&str]) -> comfy_table::Table {
    let mut table = output::table(head);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

fn interfaces(lines: &[InterfaceStats]) -> comfy_table::Table {
    let mut table = table(&["interface", "accepted", "bytes", "dropped", "bytes", "flows"]);
    for i in lines {
        let counts = [i.accepted, i.accepted_bytes, i.dropped, i.dropped_bytes, i.flows as u64];
        table.add_row([i.device.clone()].into_iter().chain(counts.map(|n| n.to_string())));
    }
    table
}

fn groups(lines: &[GroupStats]) -> comfy_table::Table {
    let mut table = table(&["group", "rules", "unused", "packets", "bytes", "flows", "last hit", "counted since"]);
    for g in lines {
        table.add_row([
            g.group.clone(),
            g.rules.to_string(),
            g.unused.to_string(),
            g.packets.to_string(),
            g.bytes.to_string(),
            g.flows.to_string(),
            g.last_hit.as_deref().map_or_else(|| NEVER.into(), at),
            g.since.as_deref().map_or_else(|| "-".into(), at),
        ]);
    }
    table
}

fn rules(lines: &[RuleStats]) -> comfy_table::Table {
    let mut table = table(&["rule", "direction", "verdict", "packets", "bytes", "flows", "last hit", "counted since"]);
    for r in lines {
        table.add_row([
            r.rule.clone(),
            r.direction.clone().unwrap_or_else(|| "-".into()),
            r.verdict.clone(),
            r.packets.to_string(),
            r.bytes.to_string(),
            r.flows.to_string(),
            r.last_hit.as_deref().map_or_else(|| NEVER.into(), at),
            format!("{}{}", at(&r.since), if r.in_force { "" } else { NOT_NOW }),
        ]);
    }
    table
}

fn unused(lines: &[RuleStats]) -> comfy_table::Table {
    let mut table = table(&["rule", "id", "direction", "verdict", "unused for"]);
    for r in lines {
        let (_, id) = r.id.clone().unwrap_or_default();
        table.add_row([
            r.rule.clone(),
            id,
            r.direction.clone().unwrap_or_default(),
            r.verdict.clone(),
            format!("{}{}", length(r.watched), if r.in_force { "" } else { NOT_NOW }),
        ]);
    }
    table
}

fn tell(view: &StatsView, only_unused: bool) -> Result<()> {
    let mut out = output::stdout();
    if only_unused {
        if view.rules.is_empty() {
            writeln!(out, "each rule that is counted has been used")?;
        } else {
            writeln!(out, "{}", unused(&view.rules))?;
            writeln!(out, "unused: no packet that began a flow, or was dropped, has matched it for so long;")?;
            writeln!(out, "packets of flows that were open before are not looked up among the rules")?;
        }
    } else {
        if view.interfaces.is_empty() {
            writeln!(out, "no device is protected; `sgctl apply -f FILE` protects those that FILE names")?;
        } else {
            writeln!(out, "{}", interfaces(&view.interfaces))?;
        }
        if !view.groups.is_empty() {
            writeln!(out, "\n{}", groups(&view.groups))?;
        }
        if !view.rules.is_empty() {
            writeln!(out, "\n{}", rules(&view.rules))?;
            writeln!(out, "packets: those a rule decided, not those of flows that it had let in; times are UTC")?;
        }
    }
    if view.uncounted > 0 {
        let (rules, are) = (count(view.uncounted, "rule"), if view.uncounted == 1 { "is" } else { "are" });
        writeln!(out, "{rules} {are} not counted: in force on no device here")?;
    }
    Ok(())
}

/// Shows what was counted.
pub fn run(arguments: &Arguments, a: &Stats) -> Result<Ended> {
    let action = Action::Stats { device: a.device.clone(), group: a.group.clone(), unused: a.unused };
    let view = match client::ask(&arguments.socket, &action)? {
        Reply::Stats(view) => view,
        other => return client::unexpected(other),
    };
    if arguments.output == Output::Table {
        tell(&view, a.unused)?;
    } else {
        output::print(arguments.output, &view, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lines_fit_a_terminal() {
        let many = 10_u64.pow(15);
        let time = "2026-01-31T12:00:00Z";
        let (line, sum, total) = (
            RuleStats {
                rule: "a-group-with-a-long-name[199]".into(),
                id: Some(("sg-1".into(), "sgr-bp1234567890abcdefghi".into())),
                direction: Some("ingress".into()),
                verdict: "accept".into(),
                packets: many,
                bytes: many,
                flows: 65_536,
                last_hit: Some(time.into()),
                since: time.into(),
                watched: 86_399,
                ..RuleStats::default()
            },
            GroupStats {
                group: "a-group-with-a-long-name".into(),
                packets: many,
                since: Some(time.into()),
                ..GroupStats::default()
            },
            InterfaceStats {
                device: "tap-longest-one".into(),
                accepted: many,
                dropped_bytes: many,
                ..InterfaceStats::default()
            },
        );
        assert_eq!(at(time), "2026-01-31 12:00:00");
        for mut table in [
            rules(std::slice::from_ref(&line)),
            unused(std::slice::from_ref(&line)),
            groups(&[sum]),
            interfaces(&[total]),
        ] {
            let shown = table.set_width(80).to_string();
            assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        }
    }

    #[test]
    fn lengths_are_said_by_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (40, "40 s"),
            (60, "1 min"),
            (3661, "1 h 1 min"),
            (86_400 + 59, "1 d"),
            (12 * 86_400 + 4 * 3600 + 7, "12 d 4 h"),
        ] {
            assert_eq!(length(seconds), text);
        }
    }
}
