//! `sgctl watch`: a connection that stays, a line for each event.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use super::{
    Ended,
    args::{Arguments, Output, watch::Watch as Asked},
    client, output,
};
use crate::daemon::protocol::{Action, Missed, Reply, Seen, Watch, WatchLine};

/// How long the daemon may take for its last line.
const PATIENCE: Duration = Duration::from_secs(5);

/// `sgctl watch`.
pub fn run(arguments: &Arguments, asked: &Asked) -> Result<Ended> {
    let watch = Watch {
        devices: asked.device.clone(),
        groups: asked.group.clone(),
        address: asked.address,
        ports: asked.port,
        protocol: asked.protocol,
        verdict: asked.verdict.clone(),
        reasons: asked.reason.clone(),
        rule: asked.rule.clone(),
        every: asked.every,
        rate: asked.rate,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(arguments, &watch, asked))
}

struct Connection {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

async fn connect(arguments: &Arguments, watch: &Watch) -> Result<Connection> {
    // The way every other command says what is wrong with it.
    let stream = client::connect(&arguments.socket)?;
    stream.set_nonblocking(true)?;
    let (read, mut write) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let mut bytes = serde_json::to_vec(&Action::Watch(Box::new(watch.clone())))?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    let mut lines = BufReader::new(read).lines();
    let hung_up = "the daemon hung up before it answered; its log says why";
    let first = lines.next_line().await?.context(hung_up)?;
    match client::read(&arguments.socket, &first)? {
        Reply::Watching => Ok(Connection { lines, write }),
        other => client::unexpected(other),
    }
}

async fn follow(arguments: &Arguments, watch: &Watch, asked: &Asked) -> Result<Ended> {
    let Connection { mut lines, mut write } = connect(arguments, watch).await?;
    let told = asked.count.map_or_else(String::new, |n| format!(", {n} events"));
    let form = arguments.output;
    let people = form == Output::Table && std::io::stderr().is_terminal();
    if form == Output::Table {
        writeln!(output::stderr(), "watching{told}; Ctrl-C ends it")?;
    }
    let mut shown = 0u64;
    let mut done = asked.count == Some(0);
    let mut missed = Missed::default();
    let time = asked.time.unwrap_or(Duration::from_secs(365 * 24 * 3600));
    let over = tokio::time::sleep(time);
    tokio::pin!(over);
    let mut closing = false;
    loop {
        if done && !closing {
            closing = true;
            write.shutdown().await?;
            over.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
        }
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { bail!("the daemon has ended") };
                match serde_json::from_str(&line).context("the daemon is of another version than this sgctl")? {
                    // What is behind the last one that was asked for is not shown.
                    WatchLine::Seen(_) if done => {}
                    WatchLine::Seen(seen) => {
                        show(form, &seen)?;
                        shown += 1;
                        done = asked.count == Some(shown);
                    }
                    WatchLine::Missed(now) => {
                        if people {
                            writeln!(output::stderr(), "{}", so_far(&now, &missed))?;
                        }
                        missed = now;
                    }
                    WatchLine::End(missed) => return end(form, shown, &missed),
                }
            }
            () = &mut over => {
                if closing {
                    bail!("the daemon did not say how much was left out");
                }
                done = true;
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                if closing {
                    return end(form, shown, &missed);
                }
                done = true;
            }
        }
    }
}

fn so_far(now: &Missed, before: &Missed) -> String {
    let (left_out, passed_over) =
        (now.left_out.saturating_sub(before.left_out), now.passed_over.saturating_sub(before.passed_over));
    match (left_out, passed_over) {
        (left_out, 0) => format!("… {left_out} more left out (--rate)"),
        (0, passed_over) => format!("… {passed_over} more passed over (--every)"),
        (left_out, passed_over) => format!("… {left_out} more left out (--rate), {passed_over} passed over (--every)"),
    }
}

fn end(form: Output, shown: u64, missed: &Missed) -> Result<Ended> {
    let Missed { left_out, passed_over } = *missed;
    if form == Output::Table {
        let passed = if passed_over > 0 { format!(", {passed_over} passed over (--every)") } else { String::new() };
        writeln!(output::stderr(), "{shown} shown, {left_out} left out{passed}")?;
    } else {
        put(form, &serde_json::json!({"end": {"shown": shown, "left_out": left_out, "passed_over": passed_over}}))?;
    }
    Ok(Ended::Done)
}

fn put<T: serde::Serialize>(form: Output, value: &T) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match form {
        // A line each, so that a reader need not wait for the end.
        Output::Table | Output::Json => writeln!(out, "{}", serde_json::to_string(value)?)?,
        Output::Yaml => write!(out, "---\n{}", serde_yaml_ng::to_string(value)?)?,
    }
    Ok(out.flush()?)
}

fn show(form: Output, seen: &Seen) -> Result<()> {
    if form != Output::Table {
        return put(form, seen);
    }
    let mut out = output::stdout();
    writeln!(out, "{}", text(seen))?;
    Ok(out.flush()?)
}

/// One event on a line: the time of day, what became of it, where, who, why.
fn text(s: &Seen) -> String {
    let end = |ip: std::net::IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(ip, port).to_string(),
        None => ip.to_string(),
    };
    let (local, remote) = (end(s.local, s.local_port), end(s.remote, s.remote_port));
    let inbound = s.direction == "ingress";
    let (from, to) = if inbound { (remote, local) } else { (local, remote) };
    let time = s.time.split_once('T').map_or(s.time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let why = match &s.rule {
        Some(rule) if s.reason == "rule" => format!("rule {rule}"),
        Some(rule) => format!("{} {rule}", s.reason),
        None => s.reason.clone(),
    };
    let vlans: Vec<String> = s.vlans.iter().map(|id| format!(" vlan {id}")).collect();
    format!(
        "{time} {:<8} {} {} {}{} {from} > {to} {why}",
        s.what.to_uppercase(),
        s.device,
        if inbound { "in" } else { "out" },
        s.protocol,
        vlans.concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_who_asked_whom_and_what_decided() {
        let seen = Seen {
            time: "2026-01-02T03:04:05.678Z".into(),
            what: "drop".into(),
            device: "eth0".into(),
            direction: "ingress".into(),
            protocol: "tcp".into(),
            local: [10, 0, 0, 5].into(),
            remote: [192, 0, 2, 7].into(),
            local_port: Some(22),
            remote_port: Some(40_000),
            vlans: Vec::new(),
            bytes: 60,
            verdict: "drop".into(),
            reason: "rule".into(),
            rule: Some("web[3]".into()),
            priority: Some(1),
        };
        let line = "03:04:05.678 DROP     eth0 in tcp 192.0.2.7:40000 > 10.0.0.5:22 rule web[3]";
        assert_eq!(text(&seen), line);
        let out = Seen {
            direction: "egress".into(),
            protocol: "icmp".into(),
            local_port: None,
            remote_port: None,
            reason: "default".into(),
            rule: None,
            vlans: vec![7],
            ..seen
        };
        assert_eq!(text(&out), "03:04:05.678 DROP     eth0 out icmp vlan 7 10.0.0.5 > 192.0.2.7 default");
    }
}
