//! One question before something goes for good, and one refusal where nobody can be asked.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, bail};

use super::{args::Yes, output};

/// Lines of one kind that are shown.
const SHOWN: usize = 10;

/// What would go.
#[derive(Debug, Default)]
pub struct Going {
    /// What is about to be done, such as `delete the group web (sg-1)`.
    what: String,
    /// What that means, a line each.
    lines: Vec<String>,
}

impl Going {
    /// Begins with what is about to be done.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), lines: Vec::new() }
    }

    /// Adds a line.
    #[must_use]
    pub fn and(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds a line for each of some things, or for the first few and how many more there are.
    #[must_use]
    pub fn each(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let mut lines: Vec<String> = lines.into_iter().collect();
        let more = lines.len().saturating_sub(SHOWN);
        lines.truncate(SHOWN);
        self.lines.extend(lines);
        if more > 0 {
            self.lines.push(format!("… and {more} more"));
        }
        self
    }

    /// Adds a line of names, unless there are none.
    #[must_use]
    pub fn names<S: AsRef<str>>(self, what: &str, names: &[S]) -> Self {
        let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
        match names.len().saturating_sub(SHOWN) {
            _ if names.is_empty() => self,
            0 => self.and(format!("{what}: {}", shown.join(", "))),
            more => self.and(format!("{what}: {} and {more} more", shown.join(", "))),
        }
    }

    fn text(&self) -> String {
        if self.lines.is_empty() { self.what.clone() } else { format!("{}:\n  {}", self.what, self.lines.join("\n  ")) }
    }
}

/// Ends well when something may go: because the command says `--yes`, or somebody at the
/// terminal does. With `--yes` nothing is looked up.
///
/// # Errors
/// Nobody agreed, or nobody can be asked; nothing was changed then.
pub fn confirm(yes: Yes, going: impl FnOnce() -> Result<Going>) -> Result<()> {
    if yes.yes {
        return Ok(());
    }
    let input = std::io::stdin();
    agreed(&going()?, input.is_terminal(), &mut input.lock(), &mut output::stderr())
}

/// Asks, at a terminal.
fn agreed(going: &Going, terminal: bool, input: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
    if !terminal {
        bail!(
            "refused: this would {}\nnobody can be asked here: add --yes to do it; nothing was changed",
            going.text()
        );
    }
    write!(out, "This will {}\nGo on? [y/N] ", going.text())?;
    out.flush()?;
    let mut answer = String::new();
    // The end of the input is silence, which is no.
    input.read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(going: &Going, terminal: bool, answer: &str) -> (Result<(), String>, String) {
        let mut out = Vec::new();
        let said = agreed(going, terminal, &mut answer.as_bytes(), &mut out).map_err(|e| e.to_string());
        (said, String::from_utf8(out).unwrap())
    }

    #[test]
    fn only_a_person_who_says_so_agrees() {
        let going = Going::new("delete the group web (sg-1)").and("its 2 rules").names("members", &["tap0"]);
        for yes in ["y\n", "Y\n", "yes\n", "YES\r\n"] {
            assert_eq!(ask(&going, true, yes).0, Ok(()), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "ye\n", "no\n"] {
            let (said, shown) = ask(&going, true, no);
            assert_eq!(said, Err("nothing was changed".into()), "{no:?}");
            assert!(
                shown.contains("delete the group web (sg-1):\n  its 2 rules\n  members: tap0\nGo on? [y/N]"),
                "{shown}"
            );
        }
    }

    #[test]
    fn where_nobody_is_asked_the_way_is_named() {
        let (said, shown) = ask(&Going::new("delete the key k"), false, "y\n");
        let said = said.unwrap_err();
        assert!(said.contains("delete the key k") && said.contains("add --yes"), "{said}");
        assert!(said.ends_with("nothing was changed") && shown.is_empty(), "{said} {shown}");
        let looked = || -> Result<Going> { bail!("looked up") };
        assert!(confirm(Yes { yes: true }, looked).is_ok());
    }

    #[test]
    fn much_is_counted() {
        let names: Vec<String> = (0..12).map(|i| format!("g{i}")).collect();
        let text = Going::new("x").names("groups", &names).each(names.clone()).names("none", &[""; 0]).text();
        assert!(text.contains("groups: g0, g1,") && text.contains("g9 and 2 more"), "{text}");
        assert!(text.ends_with("g9\n  … and 2 more"), "{text}");
    }
}
