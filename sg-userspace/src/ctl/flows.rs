//! `sgctl flows`.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    Ended,
    apply::was_reset,
    args::{Arguments, Flows, Output},
    client,
    confirm::{Going, confirm},
    count, output, session,
};
use crate::daemon::{
    flows::words,
    protocol::{Action, CutView, FlowLine, FlowsAsked, FlowsView, Reply, TopView, Want},
};

fn ask(arguments: &Arguments, a: &Flows, want: Want, limit: u32) -> Result<FlowsView> {
    let asked = FlowsAsked { filter: a.filter(), limit: limit as usize, want };
    match client::ask(&arguments.socket, &Action::Flows(Box::new(asked)))? {
        Reply::Flows(view) => Ok(view),
        other => client::unexpected(other),
    }
}

/// One end of a flow: `10.0.0.5:22`, `[2001:db8::5]:22`.
fn end(address: std::net::IpAddr, port: Option<u16>) -> String {
    match (port, address.is_ipv6()) {
        (None, _) => address.to_string(),
        (Some(port), true) => format!("[{address}]:{port}"),
        (Some(port), false) => format!("{address}:{port}"),
    }
}

/// `tcp`, or `tcp, vlan 10`.
fn protocol(flow: &FlowLine) -> String {
    let vlans: Vec<String> = flow.vlans.iter().map(ToString::to_string).collect();
    if vlans.is_empty() { flow.protocol.clone() } else { format!("{}, vlan {}", flow.protocol, vlans.join(".")) }
}

fn table(flows: &[FlowLine]) -> comfy_table::Table {
    let mut table = output::table(&["device", "proto", "begun", "local", "remote", "state", "rule", "idle"]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for flow in flows {
        table.add_row([
            flow.device.clone(),
            protocol(flow),
            if flow.direction == "ingress" { "in" } else { "out" }.into(),
            end(flow.local, flow.local_port),
            end(flow.remote, flow.remote_port),
            flow.state.clone(),
            flow.rule.clone().unwrap_or_else(|| "-".into()),
            format!("{}s", flow.idle),
        ]);
    }
    table
}

fn list(arguments: &Arguments, total: usize, flows: &[FlowLine]) -> Result<()> {
    let left = total - flows.len();
    let value = json!({"total": total, "not_shown": left, "flows": flows});
    output::print(arguments.output, &value, |_| table(flows))?;
    if arguments.output == Output::Table {
        let mut out = output::stdout();
        let more = if left > 0 { format!("; {left} are not shown (--limit)") } else { String::new() };
        writeln!(out, "{}{more}", count(total, "live flow"))?;
    }
    Ok(())
}

fn top(arguments: &Arguments, view: &TopView) -> Result<()> {
    let left = view.remotes - view.top.len();
    let value = json!({"flows": view.flows, "remotes": view.remotes, "not_shown": left, "top": view.top});
    output::print(arguments.output, &value, |_| {
        let mut table = output::table(&["device", "remote", "flows", "confirmed", "cut"]);
        for line in &view.top {
            let remote = match line.remote.prefix_len() == line.remote.max_prefix_len() {
                true => line.remote.addr().to_string(),
                false => line.remote.to_string(),
            };
            let [flows, confirmed, cut] = [line.flows, line.confirmed, line.cut].map(|n| n.to_string());
            table.add_row([line.device.clone(), remote, flows, confirmed, cut]);
        }
        table
    })?;
    if arguments.output == Output::Table {
        let more = if left > 0 { format!("; {left} are not shown (--limit)") } else { String::new() };
        let mut out = output::stdout();
        writeln!(out, "{} of {}{more}", count(view.flows, "live flow"), count(view.remotes, "remote"))?;
    }
    Ok(())
}

/// What would go, for who is asked.
fn going(arguments: &Arguments, a: &Flows) -> Result<Going> {
    let words: Vec<String> = words(&a.filter()).iter().map(|(name, value)| format!("{name} {value}")).collect();
    let FlowsView::Listed { total, flows } = ask(arguments, a, Want::List, a.limit.min(100))? else {
        bail!("the daemon gave an answer to something else");
    };
    let lines = flows.iter().map(|f| {
        let (local, remote) = (end(f.local, f.local_port), end(f.remote, f.remote_port));
        let (from, to) = if f.direction == "ingress" { (remote, local) } else { (local, remote) };
        format!("{} {} {from} -> {to}", f.device, protocol(f))
    });
    let mut going = Going::new(format!("cut {} of {}", count(total, "live flow"), words.join(", ")))
        .each(lines.collect::<Vec<_>>());
    if total > flows.len() {
        going = going.and(format!("and {} that are not named here", total - flows.len()));
    }
    Ok(going)
}

fn cut(arguments: &Arguments, a: &Flows) -> Result<()> {
    if words(&a.filter()).is_empty() {
        bail!(
            "say which flows are to be cut: --device, --group, --address, --port, --protocol or --verdict; nothing was cut"
        );
    }
    confirm(a.yes, || going(arguments, a))?;
    let session = if a.with_my_session { None } else { session::own() };
    let FlowsView::Cut(view) = ask(arguments, a, Want::Cut { session, reset: a.reset }, 0)? else {
        bail!("the daemon gave an answer to something else");
    };
    let CutView { cut, ended, open, reset } = &view;
    let mut line = match cut {
        1 => "1 live flow is cut".to_owned(),
        n => format!("{n} live flows are cut"),
    };
    if *ended > 0 {
        line += &format!("; {ended} had ended");
    }
    if *open > 0 {
        line += &format!("; {open} were begun anew each time, which the rules allow");
    }
    match reset {
        Some(reset) => line += &format!("; {}", was_reset(reset)),
        None if a.reset => line += "; nothing was reset: sgd is older than this sgctl, and cannot",
        None => {}
    }
    output::made(arguments.output, &serde_json::to_value(&view)?, &line).map(drop)
}

/// Lists, counts or cuts.
pub fn run(arguments: &Arguments, a: &Flows) -> Result<Ended> {
    if a.cut {
        cut(arguments, a)?;
        return Ok(Ended::Done);
    }
    match ask(arguments, a, if a.top { Want::Top } else { Want::List }, a.limit)? {
        FlowsView::Listed { total, flows } => list(arguments, total, &flows)?,
        FlowsView::Top(view) => top(arguments, &view)?,
        FlowsView::Cut(_) => bail!("the daemon gave an answer to something else"),
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::protocol::FlowVerdict;

    #[test]
    fn the_longest_lines_fit_a_terminal() {
        let flow = FlowLine {
            device: "tap-longest-one".into(),
            protocol: "icmpv6".into(),
            direction: "egress".into(),
            local: "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap(),
            local_port: Some(65_535),
            remote: "192.0.2.7".parse().unwrap(),
            remote_port: None,
            vlans: vec![10, 4094],
            state: "half-open".into(),
            verdict: FlowVerdict::Accept,
            rule: Some("a-group-with-a-long-name[199]".into()),
            idle: 909,
            timeout: 910,
        };
        assert_eq!(end(flow.local, flow.local_port), "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535");
        assert_eq!((end(flow.remote, None).as_str(), protocol(&flow).as_str()), ("192.0.2.7", "icmpv6, vlan 10.4094"));
        let shown = table(&[flow]).set_width(80).to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }
}
