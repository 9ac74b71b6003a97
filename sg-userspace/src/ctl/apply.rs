//! `sgctl plan` and `sgctl apply`.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};

use super::{
    Ended,
    args::{Apply, Arguments, Output, Plan},
    client, count, count_of, differences, drift, lint, output, session, sources,
};
use crate::{
    daemon::{
        control::NO_RESET,
        protocol::{Action, File, Planned, Reply, TrialView},
    },
    dataplane::{
        engine::{OnChange, Resets},
        report::SHOWN,
    },
    document::{MAX_DOCUMENT, Problems, parse},
};

/// Files of a document, which is one by its shape.
///
/// # Errors
/// One that cannot be read, or what is wrong with them.
pub fn files_of(names: &[String]) -> Result<Vec<File>> {
    let sources = sources(names)?;
    // Shape is judged here, so that a wrong file needs no daemon to be found out.
    parse(&sources)?;
    debug_assert!(sources.iter().map(|s| s.bytes.len()).sum::<usize>() <= MAX_DOCUMENT);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| Problems::default());
    Ok(sources.into_iter().map(|s| Ok(File { name: s.name, text: text(s.bytes)? })).collect::<Result<_, Problems>>()?)
}

fn ask(arguments: &Arguments, action: &Action) -> Result<Planned> {
    match client::ask(&arguments.socket, action)? {
        Reply::Planned(planned) => Ok(*planned),
        other => client::unexpected(other),
    }
}

fn show(planned: &Planned) -> Result<()> {
    let mut out = output::stdout();
    if let Some(trial) = &planned.trial {
        writeln!(out, "{}", on_trial(trial))?;
    }
    // What hurts comes first.
    if planned.cut_count > 0 {
        writeln!(out, "{} that the new rules deny:", count(planned.cut_count, "live flow"))?;
        for flow in planned.cut.iter().take(SHOWN) {
            writeln!(out, "  {flow}")?;
        }
        if planned.cut_count > SHOWN {
            let named = planned.cut.len();
            writeln!(out, "  … and {} more; `sgctl plan -o json` names {named}", planned.cut_count - SHOWN)?;
        }
        if !planned.cut_counted {
            writeln!(out, "  their bytes and ages are not counted; [flow_log] in sgd.toml counts them")?;
        }
    }
    if let Some(reason) = &planned.session {
        writeln!(out, "{}", output::red(&format!("YOUR OWN SSH CONNECTION would be dropped (reason: {reason})")))?;
    }
    for line in &planned.warnings {
        writeln!(out, "warning: {line}; such flows are judged as new ones")?;
    }
    if planned.adopted > 0 {
        let go_on = count_of(planned.adopted, "live flow goes", "live flows go");
        writeln!(out, "{go_on} on where the protection is new")?;
    }
    if !planned.observing.is_empty() {
        writeln!(out, "guests that observe before they enforce: {}", planned.observing.join(", "))?;
    }
    if planned.steps.is_empty() {
        writeln!(out, "nothing to change: the policy is in force as it is")?;
    } else {
        let mut table = output::table(&["step", "object", "name", "what"]);
        for s in &planned.steps {
            table.add_row([&s.step, &s.kind, &s.name, &s.detail]);
        }
        writeln!(out, "{}", output::fit(table))?;
    }
    drift::planned(&mut out, planned.drift.as_ref())?;
    differences::show(&mut out, &planned.differences)?;
    if planned.differences.is_empty() && planned.compared > 0 && !planned.steps.is_empty() {
        writeln!(out, "no packet is decided otherwise on {}", count(planned.compared, "device"))?;
    }
    lint::added(&mut out, &planned.lints)?;
    let w = &planned.writes;
    if w.policies > 0 {
        let (tables, entries) = (format!("{} policy tables", w.policies), format!("{} address entries", w.entries));
        writeln!(out, "to write to the kernel: {tables} ({} bytes), {entries}", w.bytes)?;
    }
    if w.deltas > 0 {
        let policies = if w.deltas == 1 { "policy" } else { "policies" };
        writeln!(out, "to patch in place: {} {policies}, {} of addresses", w.deltas, count(w.addresses, "change"))?;
    }
    Ok(())
}

/// Shows what a request would do that only plans.
pub fn preview(arguments: &Arguments, action: &Action) -> Result<Ended> {
    let planned = ask(arguments, action)?;
    if arguments.output == Output::Table {
        show(&planned)?;
    } else {
        output::print(arguments.output, &planned, |_| output::table(&[]))?;
    }
    Ok(Ended::Done)
}

pub fn plan(arguments: &Arguments, plan: &Plan) -> Result<Ended> {
    let action = Action::Document {
        files: files_of(&plan.file)?,
        adopt: plan.adopt,
        apply: false,
        if_generation: None,
        on_change: OnChange::Cut,
        session: session::own(),
        confirm: None,
        all: plan.all,
    };
    preview(arguments, &action)
}

/// That a change is on trial, and how that ends.
pub fn on_trial(trial: &TrialView) -> String {
    let TrialView { generation, seconds, until } = trial;
    format!(
        "ON TRIAL: generation {generation} is taken back in {seconds} s ({until}) unless `sgctl confirm` keeps it; \
         `sgctl rollback` takes it back now"
    )
}

/// What became of connections that were to be reset before they were cut.
pub fn was_reset(reset: &Resets) -> String {
    let Resets { connections, only_cut, problem } = reset;
    let mut text = format!("{} reset at both ends", count_of(*connections, "connection was", "connections were"));
    if *only_cut > 0 {
        text += &format!(", {} only cut", count_of(*only_cut, "flow is", "flows are"));
    }
    if let Some(why) = problem {
        text += &format!("\nwarning: what could not be reset is only cut: {why}");
    }
    text
}

/// Keeps what is on trial.
pub fn confirm(arguments: &Arguments) -> Result<Ended> {
    let generation = match client::ask(&arguments.socket, &Action::Confirm)? {
        Reply::Confirmed { generation } => generation,
        other => return client::unexpected(other),
    };
    match arguments.output {
        Output::Table => writeln!(output::stdout(), "generation {generation} is confirmed, and stays")?,
        form => output::print(form, &serde_json::json!({ "generation": generation }), |_| output::table(&[]))?,
    }
    Ok(Ended::Done)
}

/// Asks a person; `no` is the answer of silence.
fn agreed(question: &str) -> Result<bool> {
    let mut out = output::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

pub fn apply(arguments: &Arguments, a: &Apply) -> Result<Ended> {
    let files = files_of(&a.plan.file)?;
    let on_change = a.manner.on_change()?;
    let action = |apply: bool, if_generation, confirm| Action::Document {
        files: files.clone(),
        adopt: a.plan.adopt,
        apply,
        if_generation,
        on_change,
        session: session::own(),
        confirm,
        all: a.plan.all,
    };
    let from_stdin = a.plan.file.iter().any(|f| f == "-");
    let consent = Consent { yes: a.yes, from_stdin, confirm: a.manner.confirm, reset: a.manner.reset };
    carry_out(arguments, &consent, a.if_generation, action)
}

/// How far a user agrees to a change beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent {
    /// Do not ask.
    pub yes: bool,
    /// Standard input is taken, so that nobody can be asked.
    pub from_stdin: bool,
    /// Whether it is tried out first; by default if it would drop the user's own connection.
    pub confirm: Option<Confirm>,
    /// Whether connections that are cut are reset before.
    pub reset: bool,
}

/// Whether a change has to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Not at all.
    Off,
    /// Or else it is taken back after so many seconds.
    Within(u32),
}

/// Seconds in which a change that drops the user's own connection has to be confirmed.
const SESSION: u32 = 60;

/// Plans, shows, asks where it is dangerous, and does what was shown. `action` makes
/// the request: whether to apply it, of which generation it holds, and in how many
/// seconds it has to be confirmed.
pub fn carry_out(
    arguments: &Arguments,
    consent: &Consent,
    if_generation: Option<u64>,
    action: impl Fn(bool, Option<u64>, Option<u32>) -> Action,
) -> Result<Ended> {
    let table = arguments.output == Output::Table;
    let &Consent { yes, from_stdin, confirm, reset } = consent;
    let planned = ask(arguments, &action(false, if_generation, None))?;
    let confirm = match (confirm, &planned.session) {
        (Some(Confirm::Within(seconds)), _) => Some(seconds),
        (None, Some(_)) => Some(SESSION),
        (None, None) | (Some(Confirm::Off), _) => None,
    };
    if table {
        show(&planned)?;
        if reset && planned.cut_count > 0 {
            writeln!(output::stdout(), "TCP connections among them are reset: that cannot be taken back")?;
        }
    }
    if reset && confirm.is_some() {
        bail!("{}{NO_RESET}", if planned.session.is_some() { "this would drop your own SSH connection; " } else { "" });
    }
    let deletes = planned.steps.iter().filter(|s| s.step == "delete").count();
    if !yes {
        if planned.session.is_some() && confirm.is_none() {
            bail!(
                "refused: this would drop your own SSH connection; add a rule for it, try it out (--confirm 60s), or \
                 say --yes; nothing was changed"
            );
        }
        let terminal = std::io::stdin().is_terminal() && !from_stdin;
        if deletes > 0 && !terminal {
            bail!("refused: {} would be deleted; say --yes to delete; nothing was changed", count(deletes, "object"));
        }
        if deletes > 0 && !agreed(&format!("Delete {}?", count(deletes, "object")))? {
            bail!("nothing was changed");
        }
    }
    if let Some(seconds) = confirm.filter(|_| table) {
        // Before it is done: who is cut off does not read the answer.
        writeln!(
            output::stderr(),
            "trying it out for {seconds} s: it is taken back by itself then, unless `sgctl confirm` keeps it"
        )?;
    }
    // What was shown is what is done, or nothing.
    let mut done = ask(arguments, &action(true, Some(planned.generation), confirm))?;
    (done.lints, done.compared, done.differences) = (planned.lints, planned.compared, planned.differences);
    if !table {
        output::print(arguments.output, &done, |_| output::table(&[]))?;
        return Ok(Ended::Done);
    }
    let report = done.report.unwrap_or_default();
    let mut out = output::stdout();
    if let Some(trial) = &done.trial {
        // First, and flushed: the next line may not come through.
        writeln!(out, "{}", on_trial(trial))?;
        out.flush()?;
    }
    let mut line = |what: &str, names: &[String]| -> std::io::Result<()> {
        if names.is_empty() { Ok(()) } else { writeln!(out, "{what}: {}", names.join(", ")) }
    };
    line("now protected", &report.bound)?;
    line("only observing yet (`sgctl status` says for how long)", &report.observing)?;
    line("no longer protected", &report.unbound)?;
    line("new policy in force", &report.changed)?;
    if report.policies + report.deltas > 0 {
        let ways = [format!("{} written anew", report.policies), format!("{} patched in place", report.deltas)];
        line("policies", &ways)?;
    }
    line("named but not here (protected as soon as they appear)", &report.absent)?;
    line("NOT PROTECTED", &report.refused)?;
    if report.adopted + report.denied.count > 0 {
        writeln!(out, "live flows: {} adopted, {} denied", report.adopted, report.denied.count)?;
    }
    if let Some(reset) = &report.reset {
        writeln!(out, "{}", was_reset(reset))?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if report.is_nothing() {
        writeln!(out, "nothing had to be changed in the kernel")?;
    }
    Ok(Ended::Done)
}
