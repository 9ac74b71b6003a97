//! Tables for people, JSON and YAML for programs.

use std::io::Write;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

use super::args::Output;

/// An empty table with a head.
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(head);
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
