//! Tables for people, JSON and YAML for programs; lines, and questions.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

use super::{Ended, args::Output};

/// An empty table with a head.
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(head);
    table
}

/// An empty table whose first column are ids, which are copied into other commands:
/// they are never broken, however narrow the terminal is.
pub fn listing(head: &[&str]) -> Table {
    let mut table = table(head);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    if let Some(ids) = table.column_mut(0) {
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// Prints a value as asked; `rows` makes the table.
///
/// # Errors
/// A closed output.
pub fn print<T: Serialize>(output: Output, value: &T, rows: impl FnOnce(&T) -> Table) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => writeln!(out, "{}", rows(value))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(value)?)?,
        Output::Yaml => write!(out, "{}", serde_yaml_ng::to_string(value)?)?,
    }
    Ok(())
}

/// Says what was done.
///
/// # Errors
/// A closed output.
pub fn say(line: &str) -> Result<Ended> {
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(Ended::Done)
}

/// Says what was made: a line for people, a value for programs.
///
/// # Errors
/// A closed output.
pub fn made(output: Output, value: &serde_json::Value, line: &str) -> Result<Ended> {
    if output == Output::Table {
        return say(line);
    }
    print(output, value, |_| table(&[]))?;
    Ok(Ended::Done)
}

/// Asks before something is destroyed, where somebody can answer.
///
/// # Errors
/// Nobody can.
pub fn sure(question: &str, yes: bool) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("{question} Say --yes");
    }
    let mut out = std::io::stderr().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
