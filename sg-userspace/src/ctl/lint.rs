//! `sgctl lint`, and what of it `plan` and `apply` show.

use std::io::Write;

use anyhow::Result;
use comfy_table::Table;

use super::{
    Ended,
    args::{Arguments, Lint, Output},
    client, count, document, output,
};
use crate::{
    daemon::protocol::{Action, Reply},
    lint::{Finding, Severity, Subject, lint},
    validate::{Quotas, validate},
};

/// Findings that a plan shows.
const SHOWN: usize = 5;

fn find(arguments: &Arguments, a: &Lint) -> Result<Vec<Finding>> {
    if a.file.is_empty() {
        return match client::ask(&arguments.socket, &Action::Lint)? {
            Reply::Linted { findings } => Ok(findings),
            other => client::unexpected(other),
        };
    }
    let (document, quotas) = (document(&a.file)?, Quotas::default());
    let model = validate(&document, &quotas)?;
    let instances = model.declared_instances();
    Ok(lint(&Subject { model: &model, instances: &instances, quotas: &quotas, document: Some(&document) }))
}

/// How many of each severity.
fn counted(findings: &[Finding]) -> String {
    let warnings = findings.iter().filter(|f| f.severity == Severity::Warning).count();
    let advice = findings.len() - warnings;
    let advice = if advice == 1 { "1 piece of advice".into() } else { format!("{advice} pieces of advice") };
    format!("{}, {advice}", count(warnings, "warning"))
}

fn table(findings: &[Finding]) -> Table {
    let mut table = output::table(&["where", "finding", "what, and what to do"]);
    for f in findings {
        let place = f.at.iter().fold(f.place.text(), |text, at| format!("{text}\n{at}"));
        let kind = format!("{}\n{}", f.severity.name(), f.code.name());
        table.add_row([place, kind, format!("{}\n→ {}", f.message, f.advice)]);
    }
    table
}

pub fn run(arguments: &Arguments, a: &Lint) -> Result<Ended> {
    let findings = find(arguments, a)?;
    if arguments.output == Output::Table {
        let mut out = output::stdout();
        if !findings.is_empty() {
            writeln!(out, "{}\n", output::fit(table(&findings)))?;
        }
        writeln!(out, "{}", counted(&findings))?;
    } else {
        output::print(arguments.output, &findings, |_| output::table(&[]))?;
    }
    let warned = findings.iter().any(|f| f.severity == Severity::Warning);
    Ok(if a.strict && warned { Ended::Refused } else { Ended::Done })
}

/// The findings that a change adds: a few lines, and how many there are.
pub fn added(out: &mut impl Write, findings: &[Finding]) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "this adds {}; `sgctl lint` shows all:", counted(findings))?;
    let mut table = output::table(&["where", "finding", "what"]);
    for f in findings.iter().take(SHOWN) {
        table.add_row([f.place.text(), format!("{} {}", f.severity.name(), f.code.name()), f.message.clone()]);
    }
    writeln!(out, "{}", output::fit(table))?;
    if findings.len() > SHOWN {
        writeln!(out, "  … and {} more", findings.len() - SHOWN)?;
    }
    Ok(())
}
