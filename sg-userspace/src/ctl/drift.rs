//! Drift, as `plan` and `status` tell it.

use std::io::Write;

use anyhow::Result;

use super::{count, output};
use crate::daemon::drift::{DocumentDrift, Drift, PlannedDrift};

/// Differences of a plan that are shown; `-o json` has all.
const SHOWN: usize = 20;
/// Differences of each document that `status` shows.
const FIRST: usize = 5;

fn table(out: &mut impl Write, all: &[Drift]) -> Result<()> {
    let mut table = output::table(&["object", "name", "change", "what"]);
    for d in all.iter().take(SHOWN) {
        table.add_row([d.kind.as_str(), &d.name, d.what.words(), &d.detail]);
    }
    writeln!(out, "{}", output::fit(table))?;
    if all.len() > SHOWN {
        writeln!(out, "  … and {} more; `-o json` has all", all.len() - SHOWN)?;
    }
    Ok(())
}

/// What an apply does to what others did to the document.
pub fn planned(out: &mut impl Write, drift: Option<&PlannedDrift>) -> Result<()> {
    let Some(drift) = drift else { return Ok(()) };
    if !drift.known {
        writeln!(
            out,
            "drift is not known: the document was applied by an sgd that did not keep how; it is known from the next \
             apply on"
        )?;
    }
    if !drift.undone.is_empty() {
        writeln!(out, "drift: changed since the document was applied, and undone by this apply:")?;
        table(out, &drift.undone)?;
    }
    if !drift.kept.is_empty() {
        writeln!(out, "drift: changed since the document was applied, and now in the file, too:")?;
        table(out, &drift.kept)?;
    }
    Ok(())
}

/// How far documents are from how they were applied; nothing where they are not.
pub fn standing(out: &mut impl Write, all: &[DocumentDrift]) -> Result<()> {
    for d in all {
        let DocumentDrift { document, known, objects, changes, first } = d;
        if !known {
            writeln!(out, "drift of {document}: not known until its next apply, an older sgd applied it")?;
            continue;
        }
        if *changes == 0 {
            continue;
        }
        let (changes, objects) = (count(*changes, "change"), count(*objects, "object"));
        writeln!(out, "drift of {document}: {changes} of {objects} since it was applied; its next apply undoes them:")?;
        for Drift { kind, name, what, detail, .. } in first.iter().take(FIRST) {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            writeln!(out, "  {kind} {name}, {}{detail}", what.words())?;
        }
        if d.changes > FIRST {
            writeln!(out, "  … and {} more; `sgctl plan -f FILE` shows them", d.changes - FIRST)?;
        }
    }
    Ok(())
}
