//! Two revisions of this project, measured in turn.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Wish;
use crate::run::{output_of, root, run, step};

/// How often each of both is measured.
const TURNS: usize = 3;

/// Checks `revision` out below `target`, and measures it and this tree in turn.
///
/// # Errors
/// No such revision, one that has no benchmark, or what could not be run.
pub fn compare(revision: &str, wish: &Wish) -> Result<()> {
    let git = |arguments: &[&str]| output_of(Command::new("git").arg("-C").arg(root()).args(arguments));
    let commit = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("there is no revision {revision}"))?;
    ensure!(
        git(&["cat-file", "-e", &format!("{commit}:xtask/src/bench.rs")]).is_some(),
        "{revision} is from before there was a benchmark"
    );
    let dir = crate::run::target().join("against");
    let tree = dir.join(&commit);
    if !tree.is_dir() {
        run(Command::new("git").arg("-C").arg(root()).args(["worktree", "prune"]))?;
        run(Command::new("git")
            .arg("-C")
            .arg(root())
            .args(["worktree", "add", "--quiet", "--detach"])
            .args([&tree, Path::new(&commit)]))?;
    }
    let outcome = turns(&tree, &dir.join("target"), wish);
    run(Command::new("git").arg("-C").arg(root()).args(["worktree", "remove", "--force"]).arg(&tree))?;
    let (theirs, ours) = outcome?;
    print!("{}", table(revision, &theirs, &ours));
    Ok(())
}

type Values = BTreeMap<String, (String, Vec<f64>)>;

fn turns(tree: &Path, target: &Path, wish: &Wish) -> Result<(Values, Values)> {
    let (mut theirs, mut ours) = (Values::new(), Values::new());
    for turn in 1..=TURNS {
        step(&format!("turn {turn} of {TURNS}"));
        for (dir, built, values) in [(tree, target, &mut theirs), (&root(), &crate::run::target(), &mut ours)] {
            let json: PathBuf = target.with_file_name("figures.json");
            let mut command = Command::new("cargo");
            command.current_dir(dir).env("CARGO_TARGET_DIR", built).args(["xtask", "bench", "--json"]).arg(&json);
            if wish.quick {
                command.arg("--quick");
            }
            if let Some(part) = &wish.only {
                command.args(["--only", part]);
            }
            run(&mut command)?;
            let text = std::fs::read(&json).with_context(|| format!("cannot read {}", json.display()))?;
            add(values, &serde_json::from_slice(&text)?);
        }
    }
    Ok((theirs, ours))
}

fn add(values: &mut Values, json: &Value) {
    for figure in json["figures"].as_array().into_iter().flatten() {
        if let (Some(name), Some(value)) = (figure["name"].as_str(), figure["value"].as_f64()) {
            let unit = figure["unit"].as_str().unwrap_or_default();
            values.entry(name.to_owned()).or_insert_with(|| (unit.to_owned(), Vec::new())).1.push(value);
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(revision: &str, theirs: &Values, ours: &Values) -> String {
    let width = ours.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {revision:>12}  {:>12}  ratio\n", "figure", "this tree");
    for (name, (unit, now)) in ours {
        let now = median(now);
        let (before, ratio) = match theirs.get(name) {
            Some((_, then)) => (format!("{:.1} {unit}", median(then)), format!("{:.3}", now / median(then))),
            None => ("—".to_owned(), "—".to_owned()),
        };
        text += &format!("{name:width$}  {before:>12}  {:>12}  {ratio}\n", format!("{now:.1} {unit}"));
    }
    text
}
