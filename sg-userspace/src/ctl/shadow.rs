//! `sgctl shadow`: a candidate beside the policy in force.

use std::io::Write;

use anyhow::Result;

use super::{
    Ended,
    apply::{Consent, carry_out, files_of},
    args::{
        Arguments, Output,
        shadow::{Promote, Shadow},
    },
    client, count, output, session,
};
use crate::daemon::protocol::{Action, Reply, ShadowCommand, ShadowView};

fn ask(arguments: &Arguments, command: ShadowCommand) -> Result<Reply> {
    Ok(client::ask(&arguments.socket, &Action::Shadow { command })?)
}

fn view(arguments: &Arguments, command: ShadowCommand) -> Result<ShadowView> {
    match ask(arguments, command)? {
        Reply::Shadow(view) => Ok(*view),
        other => client::unexpected(other),
    }
}

/// `sgctl shadow`.
pub fn run(arguments: &Arguments, command: &Shadow) -> Result<Ended> {
    let table = arguments.output == Output::Table;
    let view = match command {
        Shadow::Start(start) => {
            let command = ShadowCommand::Start { files: files_of(&start.file)?, adopt: start.adopt };
            let view = view(arguments, command)?;
            if table {
                let devices = view.devices.join(", ");
                let devices = if devices.is_empty() { "no device yet".into() } else { devices };
                let mut out = output::stdout();
                writeln!(out, "new flows are judged by {} from now on, too: {devices}", view.files.join(", "))?;
                writeln!(out, "nothing else is changed; `sgctl shadow report` shows what it decides otherwise")?;
                return Ok(Ended::Done);
            }
            view
        }
        Shadow::Report { all } => view(arguments, ShadowCommand::Report { all: *all })?,
        Shadow::Stop => view(arguments, ShadowCommand::Stop)?,
        Shadow::Promote(promote) => return self::promote(arguments, promote),
    };
    if table {
        show(&view)?;
    } else {
        output::print(arguments.output, &view, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

fn show(view: &ShadowView) -> Result<()> {
    let mut out = output::stdout();
    writeln!(out, "{} since {} on {}", view.files.join(", "), view.since, view.devices.join(", "))?;
    if let Some(problem) = &view.problem {
        writeln!(out, "IT JUDGES NOTHING NOW: {problem}")?;
    }
    let judged = format!("{} judged by both", count(view.judged as usize, "new flow"));
    writeln!(out, "{judged}, {} decided otherwise", view.differ)?;
    if view.left_out > 0 {
        writeln!(out, "{} more could not be remembered: stop, and start anew", view.left_out)?;
    }
    if !view.kinds.is_empty() {
        let mut table = output::table(&["flows", "device", "", "now", "then", "last", "such as"]);
        for kind in &view.kinds {
            let (now, then) = if kind.verdict == "accept" { ("accept", "drop") } else { ("drop", "accept") };
            table.add_row([
                kind.flows.to_string(),
                kind.device.clone(),
                if kind.direction == "ingress" { "in" } else { "out" }.into(),
                format!("{now} ({})", kind.now),
                format!("{then} ({})", kind.then),
                kind.last.clone(),
                kind.example.clone(),
            ]);
        }
        writeln!(out, "\n{}", output::fit(table))?;
    }
    if view.kind_count > view.kinds.len() {
        writeln!(out, "… and {} kinds more; --all shows them", view.kind_count - view.kinds.len())?;
    }
    Ok(())
}

fn promote(arguments: &Arguments, promote: &Promote) -> Result<Ended> {
    let (files, adopt) = match ask(arguments, ShadowCommand::Candidate)? {
        Reply::Candidate { files, adopt } => (files, adopt),
        other => return client::unexpected(other),
    };
    let on_change = promote.manner.on_change()?;
    let action = |apply: bool, if_generation, confirm| Action::Document {
        files: files.clone(),
        adopt,
        apply,
        if_generation,
        on_change,
        session: session::own(),
        confirm,
        all: false,
    };
    let manner = promote.manner;
    let consent = Consent { yes: promote.yes, from_stdin: false, confirm: manner.confirm, reset: manner.reset };
    let ended = carry_out(arguments, &consent, None, action)?;
    // It is what is in force now; one on trial may still be taken back, and is a candidate until then.
    if arguments.output == Output::Table {
        writeln!(output::stdout(), "the candidate says what is in force now; `sgctl shadow stop` lets it go")?;
    }
    Ok(ended)
}
