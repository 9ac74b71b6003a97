//! The packets that a change decides otherwise, as `plan` and `apply` show them.

use std::io::Write;

use anyhow::Result;

use super::{count, output};
use crate::daemon::protocol::{DifferenceLine, Differences};

/// Devices that are named; there may be a thousand alike.
const NAMED: usize = 5;

fn ports((first, last): (u16, u16)) -> String {
    if first == last { format!("port {first}") } else { format!("ports {first}-{last}") }
}

/// `from 10.0.0.0/8 to port 5432`.
fn packets(d: &DifferenceLine) -> String {
    let mut peer = d.peer.clone();
    if !d.except.is_empty() {
        peer += &format!(" except {}", d.except.join(", "));
    }
    let by = |range: Option<(u16, u16)>| range.map(ports);
    // The far end's words, then the near end's.
    let (mut from, mut to) = if d.direction == "ingress" {
        (vec![peer], d.local.iter().cloned().collect::<Vec<_>>())
    } else {
        (d.local.iter().cloned().collect(), vec![peer])
    };
    from.extend(by(d.source_ports));
    to.extend(by(d.ports));
    let side = |word: &str, parts: &[String]| (!parts.is_empty()).then(|| format!("{word} {}", parts.join(" ")));
    [side("from", &from), side("to", &to)].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Shows them, by devices with the same rules.
pub fn show(out: &mut impl Write, all: &[Differences]) -> Result<()> {
    for d in all {
        let mut devices = d.devices.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if d.devices.len() > NAMED {
            devices += &format!(" and {} more", d.devices.len() - NAMED);
        }
        let least = if d.cut { "at least " } else { "" };
        writeln!(out, "decided otherwise on {devices}: {least}{} of packets", count(d.count as usize, "kind"))?;
        if d.cut {
            writeln!(out, "  (too much to compare whole; `sgctl explain -f` answers for single flows)")?;
        }
        if d.largest.is_empty() {
            continue;
        }
        let mut table = output::table(&["verdict", "direction", "protocol", "packets", "by", "before by"]);
        for line in &d.largest {
            let verdict = if line.to == "accept" { "newly allowed" } else { "newly denied" };
            let (by, before) = (line.after.join(", "), line.before.join(", "));
            table.add_row([verdict, &line.direction, &line.protocol, &packets(line), &by, &before]);
        }
        writeln!(out, "{}", output::fit(table))?;
        let more = d.count.saturating_sub(d.largest.len() as u64);
        if more > 0 {
            writeln!(out, "  … and {more} more, smaller ones (--all)")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_one_says_it() {
        let line = DifferenceLine {
            direction: "ingress".into(),
            from: "drop".into(),
            to: "accept".into(),
            protocol: "tcp".into(),
            peer: "10.0.0.0/8".into(),
            except: Vec::new(),
            local: None,
            source_ports: None,
            ports: Some((5432, 5432)),
            before: vec!["(default)".into()],
            after: vec!["web[12]".into()],
            witness: None,
        };
        assert_eq!(packets(&line), "from 10.0.0.0/8 to port 5432");
        let out = DifferenceLine { direction: "egress".into(), source_ports: Some((1, 9)), ..line.clone() };
        assert_eq!(packets(&out), "from ports 1-9 to 10.0.0.0/8 port 5432");
        let all = Differences {
            devices: (0..7).map(|i| format!("tap{i}")).collect(),
            count: 3,
            cut: false,
            largest: vec![line],
        };
        let mut text = Vec::new();
        show(&mut text, &[all]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("decided otherwise on tap0, tap1, tap2, tap3, tap4 and 2 more: 3 kinds of packets\n"));
        let row: Vec<&str> =
            text.lines().nth(2).unwrap().split("  ").filter(|w| !w.is_empty()).map(str::trim).collect();
        assert_eq!(row, ["newly allowed", "ingress", "tcp", "from 10.0.0.0/8 to port 5432", "web[12]", "(default)"]);
        assert!(text.ends_with("  … and 2 more, smaller ones (--all)\n"), "{text}");
    }
}
