//! What README and docs speak of within a line is there: commands and their options, files,
//! keys of `sgd.toml` and of documents.

use std::{collections::BTreeSet, fs, path::Path};

use clap::CommandFactory;
use sg_userspace::{
    ctl::args::Arguments,
    daemon::config::{Config, EXAMPLE},
    document::{Source, parse},
};

use super::{
    machine::repository,
    markdown::{blocks, links, spans},
};
use crate::world::bin;

/// Files that are somewhere else, or are made.
const NOT_OURS: &[&str] = &["audit.jsonl", "state.redb", "target/sdks", "target/vm"];

/// README and docs: name and text.
fn files() -> Vec<(String, String)> {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = docs.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    all.push(repository().join("README.md"));
    all.push(repository().join("CHANGELOG.md"));
    let name = |p: &Path| p.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
    all.iter().map(|p| (name(p), fs::read_to_string(p).unwrap())).collect()
}

/// Whether a command has an option, or every command has it.
fn has(command: &clap::Command, option: &str) -> bool {
    let long = option.strip_prefix("--");
    let short = option.strip_prefix('-').and_then(|s| s.chars().next());
    let root = Arguments::command();
    let known = |a: &clap::Arg| match long {
        Some(long) => a.get_long() == Some(long),
        None => a.get_short() == short,
    };
    option == "--help" || command.get_arguments().chain(root.get_arguments()).any(known)
}

/// What of a call of `sgctl` there is not. `a|b` is one or the other, `[…]` may be left out.
fn unknown(call: &str) -> Option<String> {
    let call = call.replace(['[', ']', '…', '(', ')'], " ");
    let mut here = vec![Arguments::command()];
    for word in call.split_whitespace() {
        let ways: Vec<&str> = word.split('|').collect();
        if word.starts_with('-') {
            let option = |way: &str| way.split('=').next().unwrap_or(way).to_owned();
            let missing = ways.iter().map(|w| option(w)).find(|o| !here.iter().any(|c| has(c, o)));
            if let Some(option) = missing {
                return Some(format!("no option {option}"));
            }
        } else if here.iter().any(clap::Command::has_subcommands) {
            let subs = |way: &&str| here.iter().filter_map(|c| c.find_subcommand(way)).cloned().collect::<Vec<_>>();
            let found: Vec<Vec<clap::Command>> = ways.iter().map(subs).collect();
            if let Some(missing) = found.iter().position(Vec::is_empty) {
                return Some(format!("no command {}", ways[missing]));
            }
            here = found.concat();
        }
    }
    None
}

/// Whether some command has an option.
fn anywhere(command: &clap::Command, option: &str) -> bool {
    has(command, option) || command.get_subcommands().any(|sub| anywhere(sub, option))
}

/// All files and directories of the repository.
fn tree(dir: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let path = entry.path();
        all.insert(path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            tree(&path, all);
        }
    }
}

/// Whether it is a path as this repository has them: letters, and an end or directories.
fn is_path(span: &str) -> bool {
    let ends = ["rs", "md", "toml", "yaml", "yml", "json", "jsonl", "service", "svg", "redb"];
    let ends = span.rsplit_once('.').is_some_and(|(_, end)| ends.contains(&end));
    let letters = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let first = span.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    letters && first && (ends || span.contains('/') && !span.contains(|c: char| c.is_ascii_uppercase()))
}

#[test]
fn commands_and_their_options_are_there() {
    let sgctl = Arguments::command();
    let sgd = std::process::Command::new(bin().join("sgd")).arg("--help").output().unwrap();
    let sgd = String::from_utf8(sgd.stdout).unwrap();
    let tasks = fs::read_to_string(repository().join("xtask/src/main.rs")).unwrap();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in files() {
        for (line, span) in spans(&text) {
            let first = span.split_whitespace().next().unwrap_or_default();
            let more = span.contains(' ');
            let said = if let Some(call) = span.strip_prefix("sudo sgctl ").or_else(|| span.strip_prefix("sgctl ")) {
                unknown(call)
            } else if more && sgctl.find_subcommand(first).is_some() {
                unknown(&span)
            } else if let Some(call) = span.strip_prefix("sgd ") {
                let call = call.replace(['[', ']'], "");
                let words = call.split_whitespace().filter(|w| w.starts_with("--") || *w == "check");
                words.filter(|w| !sgd.contains(w)).map(|w| format!("sgd has no {w}")).next()
            } else if first.starts_with("--") && first.len() > 2 {
                // Of sgctl, of sgd, or a task's: tasks are looked at where they are.
                let field = first.trim_start_matches('-').replace('-', "_") + ":";
                let known = anywhere(&sgctl, first) || sgd.contains(first) || tasks.contains(&field);
                (!known).then(|| format!("nobody has {first}"))
            } else {
                continue;
            };
            seen += 1;
            wrong.extend(said.map(|said| format!("{file}:{line}: `{span}`: {said}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} were looked at");
    // This can be seen to fail.
    for (call, said) in [
        ("interface show DEV --rulez", "no option --rulez"),
        ("group list|shew", "no command shew"),
        ("apply -f F [--confirm 60s] -q", "no option -q"),
        ("statuses", "no command statuses"),
    ] {
        assert_eq!(unknown(call).as_deref(), Some(said));
    }
}

#[test]
fn files_are_there() {
    let mut all = BTreeSet::new();
    tree(&repository(), &mut all);
    let there = |path: &str| all.iter().any(|f| f == path || f.ends_with(&format!("/{path}")));
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in files() {
        let dir = Path::new(&file).parent().unwrap().to_owned();
        for to in links(&text).iter().filter(|to| !to.contains("://") && !to.starts_with('#')) {
            seen += 1;
            if !repository().join(&dir).join(to).exists() {
                wrong.push(format!("{file}: the link to {to} leads nowhere"));
            }
        }
        for (line, span) in spans(&text).iter().filter(|(_, s)| is_path(s) && !NOT_OURS.contains(&s.as_str())) {
            seen += 1;
            if !there(span) {
                wrong.push(format!("{file}:{line}: there is no `{span}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} were looked at");
    assert!(is_path("vm/nowhere.rs") && is_path("sgd.toml") && !is_path("22/22") && !is_path("veth*"));
    assert!(!there("vm/nowhere.rs"));
}

/// What of a setting there is not: `section.key`, `key = value`, `[section]`.
fn unset(span: &str) -> Option<Result<(), String>> {
    let name = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (key, value) = span.split_once(" = ").map_or((span, None), |(key, value)| (key, Some(value)));
    let section = span.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
    if let Some(section) = section.filter(|s| name(s)) {
        return Some(Config::parse(&format!("[{section}]\n")).map(drop));
    }
    let (table, key) = key.split_once('.').map_or((None, key), |(table, key)| (Some(table), key));
    if !name(key) || table.is_some_and(|t| !name(t)) || is_path(span) || (table.is_none() && value.is_none()) {
        return None;
    }
    let (before, after) = EXAMPLE.split_once("\n[").unwrap();
    let part = match table {
        None => before,
        Some(table) => {
            let all = format!("[{after}");
            let part =
                all.split_once(&format!("[{table}]")).map(|(_, part)| part.split("\n[").next().unwrap().to_owned());
            return Some(match part {
                None => Err(format!("no section {table}")),
                Some(part) => known(&part, key).and_then(|()| good(Some(table), key, value)),
            });
        }
    };
    Some(known(part, key).and_then(|()| good(None, key, value)))
}

fn known(part: &str, key: &str) -> Result<(), String> {
    let said = |l: &str| l.trim_start_matches("#= ").split_once(" = ").is_some_and(|(k, _)| k == key);
    if part.lines().any(said) { Ok(()) } else { Err(format!("no key {key}")) }
}

fn good(table: Option<&str>, key: &str, value: Option<&str>) -> Result<(), String> {
    let head = table.map(|t| format!("[{t}]\n")).unwrap_or_default();
    value.map_or(Ok(()), |value| Config::parse(&format!("{head}{key} = {value}\n")).map(drop))
}

#[test]
fn settings_are_there() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in files() {
        for (line, span) in spans(&text) {
            let Some(said) = unset(&span) else { continue };
            seen += 1;
            wrong.extend(said.err().map(|e| format!("{file}:{line}: `{span}`: {e}")));
        }
        for block in blocks(&text).iter().filter(|b| b.kind == "toml") {
            seen += 1;
            wrong.extend(Config::parse(&block.text).err().map(|e| format!("{file}:{}: {e}", block.line)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 10, "only {seen} were looked at");
    for bad in ["api.listens", "apis.listen", "[failsave]", "log = \"loud\"", "logs = 1"] {
        assert!(unset(bad).unwrap().is_err(), "{bad}");
    }
}

/// The table of what a document holds: each key is one, where it says.
#[test]
fn keys_of_documents_are_there() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let table = text.split_once("\n| object | keys |\n").unwrap().1.split("\n\n").next().unwrap();
    let unknown = |object: &str, key: &str| {
        let document = match object {
            "permissions" => format!("security_groups: [{{permissions: [{{{key}: x}}]}}]\n"),
            _ => format!("{object}: [{{{key}: x}}]\n"),
        };
        let read = parse(&[Source { name: "README.md".into(), bytes: document.into() }]);
        read.err().is_some_and(|e| e.to_string().contains("unknown key"))
    };
    let mut seen = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let object = spans(cells[0]).into_iter().next().map_or_else(|| "permissions".to_owned(), |(_, o)| o);
        let mut depth = 0;
        // What stands in parentheses are values.
        let keys: String = cells[1]
            .chars()
            .filter(|c| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                depth == 0
            })
            .collect();
        for (_, span) in spans(&keys) {
            let key = span.split(':').next().unwrap();
            if key.ends_with('…') {
                continue;
            }
            seen += 1;
            assert!(!unknown(&object, key), "README.md: {object} have no {key}");
        }
    }
    assert!(seen > 30, "only {seen} were looked at");
    assert!(unknown("security_groups", "security_group_names") && unknown("permissions", "device"));
}

/// Examples of lines are lines.
#[test]
fn examples_in_json_are_json() {
    for (file, text) in files() {
        for block in blocks(&text).iter().filter(|b| b.kind == "json") {
            for (number, line) in block.text.lines().enumerate() {
                let read = serde_json::from_str::<serde_json::Value>(line);
                assert!(read.is_ok(), "{file}:{}: {read:?}", block.line + number);
            }
        }
    }
}
