//! Tables for people, JSON and YAML for programs; lines.

use std::io::Write;

use anyhow::Result;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;
use serde_json::Value;

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

/// Says what was done: a line for people, a value for programs.
///
/// # Errors
/// A closed output.
pub fn made(output: Output, value: &Value, line: &str) -> Result<Ended> {
    if output == Output::Table {
        writeln!(std::io::stdout().lock(), "{line}")?;
    } else {
        print(output, value, |_| table(&[]))?;
    }
    Ok(Ended::Done)
}

/// Prints what is a text of its own, such as a script: as it is for people, as a value for programs.
///
/// # Errors
/// A closed output.
pub fn text(output: Output, text: &str, value: impl FnOnce() -> Result<Value>) -> Result<Ended> {
    if output == Output::Table {
        write!(std::io::stdout().lock(), "{text}")?;
    } else {
        print(output, &value()?, |_| table(&[]))?;
    }
    Ok(Ended::Done)
}
