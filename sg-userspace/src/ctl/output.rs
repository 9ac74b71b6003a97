//! Tables for people, JSON and YAML for programs; lines.

use std::io::{self, IsTerminal, StderrLock, StdoutLock, Write};

use anyhow::Result;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};
use serde::Serialize;
use serde_json::Value;

use super::{Ended, args::Output};

/// Lines for people. On a terminal those that are longer than it is wide are broken
/// between words, what follows indented; everywhere else they are as they are.
#[derive(Debug)]
pub struct Lines<W: Write> {
    to: W,
    width: Option<usize>,
    line: Vec<u8>,
}

/// Standard output, for people.
pub fn stdout() -> Lines<StdoutLock<'static>> {
    Lines::new(io::stdout().lock(), Table::new().width())
}

/// Standard error, for people.
pub fn stderr() -> Lines<StderrLock<'static>> {
    Lines::new(io::stderr().lock(), Table::new().use_stderr().width())
}

impl<W: Write> Lines<W> {
    /// For a terminal of so many columns, or for none.
    fn new(to: W, width: Option<u16>) -> Self {
        Self { to, width: width.map(usize::from), line: Vec::new() }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).ok().map(|text| text.trim_end_matches('\n'));
        match (self.width, text) {
            (Some(width), Some(text)) if textwrap::core::display_width(text) > width => {
                let indent = " ".repeat(text.len() - text.trim_start_matches(' ').len());
                let deeper = format!("{indent}  ");
                // Words are ids, prefixes and commands: whole, or of no use.
                let options = textwrap::Options::new(width)
                    .initial_indent(&indent)
                    .subsequent_indent(&deeper)
                    .break_words(false)
                    .word_separator(textwrap::WordSeparator::AsciiSpace)
                    .word_splitter(textwrap::WordSplitter::NoHyphenation)
                    .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
                for part in textwrap::wrap(text.trim_start_matches(' '), options) {
                    writeln!(self.to, "{part}")?;
                }
                Ok(())
            }
            _ => self.to.write_all(&line),
        }
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            self.line.extend(line);
            if line.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    /// What is not a whole line yet, such as a question, is written as it is.
    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.to.write_all(&line)?;
        self.to.flush()
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        // Who closed it has been told, or does not listen.
        let _ = self.flush();
    }
}

/// Red on a terminal, unless nobody wants colours.
pub fn red(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || !io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[1;31m{text}\x1b[0m") }
}

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

/// Keeps words whole, such as prefixes and addresses, where there is room for that: else a
/// narrow terminal takes from every column alike. Heads give way first.
pub fn fit(mut table: Table) -> Table {
    let Some(width) = table.width() else { return table };
    let longest = |text: String| text.split_whitespace().map(textwrap::core::display_width).max().unwrap_or(0);
    let mut words = vec![1; table.column_count()];
    for row in table.row_iter() {
        for (most, cell) in words.iter_mut().zip(row.cell_iter()) {
            *most = longest(cell.content()).max(*most);
        }
    }
    let heads: Vec<usize> = match table.header() {
        Some(head) => head.cell_iter().map(|cell| longest(cell.content())).collect(),
        None => Vec::new(),
    };
    let padding: usize = table.column_iter().map(|c| usize::from(c.padding_width())).sum();
    let with_heads: Vec<usize> = words.iter().zip(&heads).map(|(word, head)| *word.max(head)).collect();
    // A head of one letter a line is worse than a word in two.
    let with_halves: Vec<usize> = words.iter().zip(&heads).map(|(word, head)| *word.max(&head.div_ceil(2))).collect();
    let fits = |columns: &Vec<usize>| columns.iter().sum::<usize>() + padding <= width.into();
    let Some(columns) = [with_heads, with_halves, words].into_iter().find(fits) else { return table };
    for (column, least) in table.column_iter_mut().zip(columns) {
        if column.constraint().is_none() {
            let least = u16::try_from(least).unwrap_or(u16::MAX).saturating_add(column.padding_width());
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    table
}

/// Prints a value as asked; `rows` makes the table.
///
/// # Errors
/// A closed output.
pub fn print<T: Serialize>(output: Output, value: &T, rows: impl FnOnce(&T) -> Table) -> Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Table => writeln!(stdout(), "{}", fit(rows(value)))?,
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
        writeln!(stdout(), "{line}")?;
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
        write!(io::stdout().lock(), "{text}")?;
    } else {
        print(output, &value()?, |_| table(&[]))?;
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<u16>, text: &str) -> String {
        let mut bytes = Vec::new();
        // As `writeln!` does: a piece at a time.
        let mut lines = Lines::new(&mut bytes, width);
        text.as_bytes().chunks(3).for_each(|piece| lines.write_all(piece).unwrap());
        drop(lines);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn words_are_whole_where_there_is_room() {
        let mut table = listing(&["rule", "direction", "description"]);
        table.add_row(["sgr-0123456789", "in", "what somebody has written of 2001:db8:1234::/48 and more"]);
        for width in [30, 42, 50] {
            let shown = fit(table.clone().set_width(width).clone()).to_string();
            assert!(shown.lines().all(|l| l.chars().count() <= width.into()), "{width}:\n{shown}");
            assert_eq!(shown.contains("2001:db8:1234::/48"), width > 30, "{width}:\n{shown}");
            assert_eq!(shown.contains("direction"), width > 42, "{width}:\n{shown}");
        }
    }

    #[test]
    fn long_lines_are_broken_between_words_on_a_terminal_only() {
        let text = "short\n\n  one two-three 10.0.0.0/8 four\naaaaaaaaaaaaaaaaaaaaaaaa b\nno end of it, yet it is long";
        assert_eq!(shown(None, text), text);
        assert_eq!(shown(Some(200), text), text);
        assert_eq!(
            shown(Some(16), text),
            "short\n\n  one two-three\n    10.0.0.0/8\n    four\naaaaaaaaaaaaaaaaaaaaaaaa\n  b\nno end of it, yet it is long"
        );
        // Columns are counted, not bytes; and what is no text is left alone.
        assert_eq!(shown(Some(6), "ééé éé\n"), "ééé éé\n");
        let mut bytes = Vec::new();
        Lines::new(&mut bytes, Some(2)).write_all(b"\xff\xff \xff\xff\n").unwrap();
        assert_eq!(bytes, b"\xff\xff \xff\xff\n");
    }
}
