//! `sgctl doctor`.

use std::{io::Write, path::Path, time::Duration};

use anyhow::Result;

use super::{
    Ended,
    args::{Arguments, Doctor, Output},
    client, count, output,
};
use crate::{
    daemon::{
        config::DEFAULT_SOCKET,
        protocol::{Action, Reply},
    },
    doctor::{
        Check, State,
        facts::Daemon,
        gather::{config, gather},
        judge,
    },
};

/// How long the daemon may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon says of itself; that it says nothing is only a finding.
fn ask(socket: &Path) -> Daemon {
    match client::ask_within(socket, &Action::Status, Some(PATIENCE)) {
        Ok(Reply::Status(status)) => Daemon::Runs(status),
        Ok(other) => Daemon::Silent(client::otherwise(other)),
        Err(e) => Daemon::Silent(e),
    }
}

fn table(checks: &[Check]) -> comfy_table::Table {
    let mut table = output::table(&["check", "state", "found", "what to do"]);
    for c in checks {
        table.add_row([&c.check, c.state.name(), &c.found, &c.advice]);
    }
    table
}

/// Says what this host lacks; exit status 1 when something does not work.
pub fn run(arguments: &Arguments, a: &Doctor) -> Result<Ended> {
    let (file, config) = config(a.config.as_deref());
    // One that was named is meant; else the one that the file says.
    let named = arguments.socket != Path::new(DEFAULT_SOCKET);
    let daemon = ask(if named { &arguments.socket } else { &config.socket });
    let checks = judge(&gather(file, &config, daemon));
    let how_many = |state| checks.iter().filter(|c| c.state == state).count();
    let (failed, warned) = (how_many(State::Fail), how_many(State::Warn));
    output::print(arguments.output, &checks, |checks| table(checks))?;
    if arguments.output == Output::Table {
        let mut out = output::stdout();
        let all = count(checks.len(), "check");
        writeln!(out, "\n{all}: {failed} FAIL, {}", count(warned, "warning"))?;
    }
    Ok(if failed == 0 { Ended::Done } else { Ended::Refused })
}
