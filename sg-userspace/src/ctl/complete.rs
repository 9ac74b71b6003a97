//! Completions. A shell asks this program at each TAB, which asks the daemon what
//! there is; without a daemon, or without the right to ask it, only what is fixed is completed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{CommandFactory, ValueEnum};
use clap_complete::{CompleteEnv, CompletionCandidate, engine::ArgValueCandidates, env::Shells};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{
        Arguments, Command, Output,
        lists::{Kind, Prefixes},
    },
    call::text,
    client, group, lists, members, output, snapshot,
};
use crate::{
    api::actions,
    daemon::{
        config::DEFAULT_SOCKET,
        protocol::{Action, KeyCommand, Reply, Status},
    },
};

/// The variable by which a shell asks.
const VARIABLE: &str = "SG_COMPLETE";
/// How long somebody who pressed TAB waits.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shells that can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Answers a shell, if it is one that runs us, and ends.
pub fn answer() {
    CompleteEnv::with_factory(Arguments::command).var(VARIABLE).complete();
}

/// `sgctl completions`: what a shell reads once, to ask later.
pub fn script(output: Output, shell: Shell) -> Result<Ended> {
    let shells = Shells::builtins();
    let known = shells.completer(shell.name()).context("this shell is not known")?;
    let mut bytes = Vec::new();
    known.write_registration(VARIABLE, "sgctl", "sgctl", "sgctl", &mut bytes)?;
    let text = String::from_utf8(bytes).context("the script is no text")?;
    output::text(output, &text, || Ok(json!({"Shell": shell.name(), "Script": text})))
}

/// The socket that a command line to be completed names, or else the environment.
fn socket(words: impl Iterator<Item = OsString>, environment: Option<OsString>) -> PathBuf {
    let mut words = words.skip_while(|w| w != "--").skip(1);
    let mut named = None;
    while let Some(word) = words.next() {
        if word == "--socket" {
            named = words.next();
        } else if let Some(path) = word.to_str().and_then(|w| w.strip_prefix("--socket=")) {
            named = Some(path.into());
        }
    }
    let named = named.filter(|path| !path.is_empty());
    named.or(environment).unwrap_or_else(|| OsString::from(DEFAULT_SOCKET)).into()
}

/// What some work finds, if it finds it in time.
fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> Result<T> + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    // It ends with this program, at the latest.
    thread::spawn(move || tell.send(work().ok()));
    told.recv_timeout(patience).ok().flatten()
}

/// What the daemon says, or nothing.
fn asked<T: Default + Send + 'static>(work: impl FnOnce(&Arguments) -> Result<T> + Send + 'static) -> T {
    let socket = socket(std::env::args_os(), std::env::var_os("SG_SOCKET"));
    let arguments = Arguments { output: Output::Json, socket, command: Command::Status { all: false } };
    within(PATIENCE, move || work(&arguments)).unwrap_or_default()
}

/// Whether a shell takes it as it is. What others have named may hold anything, and
/// must not get onto somebody's command line unquoted.
fn plain(word: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    !word.is_empty() && !word.starts_with('-') && word.chars().all(good)
}

/// An object: its id, its name, and what it is, for people.
type Known = (String, String, String);

/// Objects by name. Ids are offered where there is no name, a name that several bear or
/// one that needs quotes; and to those who began to write one.
fn candidates(objects: &[Known]) -> Vec<CompletionCandidate> {
    let mut bearers: BTreeMap<&str, usize> = BTreeMap::new();
    objects.iter().for_each(|(_, name, _)| *bearers.entry(name).or_default() += 1);
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for (id, name, what) in objects {
        let help = (!what.is_empty() && !what.chars().any(char::is_control)).then(|| what.into());
        let by_name = plain(name) && bearers[name.as_str()] == 1;
        if by_name && seen.insert(name) {
            all.push(CompletionCandidate::new(name).help(help.clone()));
        }
        if plain(id) && seen.insert(id) {
            all.push(CompletionCandidate::new(id).help(help).hide(by_name));
        }
    }
    all
}

fn known(found: &[Value], id: &str, name: &str, what: &str) -> Vec<Known> {
    let known = |v: &Value| (text(v, id).to_owned(), text(v, name).to_owned(), text(v, what).to_owned());
    found.iter().map(known).collect()
}

fn all_groups(arguments: &Arguments) -> Result<Vec<Known>> {
    let found = group::listed(arguments, json!({}))?;
    Ok(known(&found, "SecurityGroupId", "SecurityGroupName", "Description"))
}

fn all_lists<K: Kind>(arguments: &Arguments) -> Result<Vec<Known>> {
    let (id, name) = (K::WORDS.id(), K::WORDS.name());
    Ok(known(&lists::listed(arguments, &K::WORDS, json!({}))?, &id, &name, "Description"))
}

fn all_interfaces(arguments: &Arguments) -> Result<Vec<Known>> {
    let found = members::interfaces(arguments, json!({}))?;
    Ok(known(&found, "NetworkInterfaceId", "NetworkInterfaceName", "Description"))
}

fn status(arguments: &Arguments) -> Result<Status> {
    match client::ask(&arguments.socket, &Action::Status)? {
        Reply::Status(status) => Ok(*status),
        other => client::unexpected(other),
    }
}

fn all_devices(arguments: &Arguments) -> Result<Vec<Known>> {
    let status = status(arguments)?;
    let here = status.devices.into_iter().map(|d| (d.device, String::new(), d.groups.join(", ")));
    Ok(here.chain(status.absent.into_iter().map(|d| (d, String::new(), "not here yet".into()))).collect())
}

fn of(work: impl Fn(&Arguments) -> Result<Vec<Known>> + Send + Sync + Clone + 'static) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let work = work.clone();
        candidates(&asked(move |arguments| work(arguments)))
    })
}

/// Groups.
pub fn groups() -> ArgValueCandidates {
    of(all_groups)
}

/// Lists of one kind.
pub fn lists<K: Kind>() -> ArgValueCandidates {
    of(all_lists::<K>)
}

/// What can be the remote side of a rule.
pub fn remotes() -> ArgValueCandidates {
    of(|arguments| Ok([all_groups(arguments)?, all_lists::<Prefixes>(arguments)?].concat()))
}

/// Network interfaces.
pub fn interfaces() -> ArgValueCandidates {
    of(all_interfaces)
}

/// Devices that are protected, and interfaces.
pub fn shown() -> ArgValueCandidates {
    of(|arguments| Ok([all_devices(arguments)?, all_interfaces(arguments)?].concat()))
}

/// Devices that are protected, or will be.
pub fn devices() -> ArgValueCandidates {
    of(all_devices)
}

/// Instances.
pub fn instances() -> ArgValueCandidates {
    of(|arguments| {
        let found = members::instances(arguments, json!({}))?;
        Ok(known(&found, "InstanceId", "InstanceName", "Description"))
    })
}

/// Access keys.
pub fn keys() -> ArgValueCandidates {
    of(|arguments| match client::ask(&arguments.socket, &Action::Key { command: KeyCommand::List })? {
        Reply::Keys { keys } => Ok(keys.into_iter().map(|k| (k.id, String::new(), k.comment)).collect()),
        other => client::unexpected(other),
    })
}

/// Generations that are kept.
pub fn generations() -> ArgValueCandidates {
    of(|arguments| {
        let kept = snapshot::kept(arguments)?;
        Ok(kept.into_iter().map(|k| (k.generation.to_string(), String::new(), k.comment)).collect())
    })
}

/// Documents in force.
pub fn documents() -> ArgValueCandidates {
    let document = |(name, _): (String, usize)| (name, String::new(), String::new());
    of(move |arguments| Ok(status(arguments)?.documents.into_iter().map(document).collect()))
}

/// Actions of the API, for which nobody needs to be asked.
pub fn actions() -> ArgValueCandidates {
    ArgValueCandidates::new(|| actions::ACTIONS.iter().map(|a| CompletionCandidate::new(a.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(objects: &[(&str, &str)]) -> Vec<(String, bool)> {
        let objects: Vec<Known> =
            objects.iter().map(|(id, name)| ((*id).into(), (*name).into(), String::new())).collect();
        candidates(&objects).iter().map(|c| (c.get_value().to_string_lossy().into_owned(), c.is_hide_set())).collect()
    }

    #[test]
    fn names_are_offered_and_ids_where_names_are_none() {
        let pair = |word: &str, hidden| (word.to_owned(), hidden);
        assert_eq!(offered(&[("sg-1", "web")]), [pair("web", false), pair("sg-1", true)]);
        assert_eq!(offered(&[("sg-1", "sg-1")]), [pair("sg-1", false)]);
        assert_eq!(offered(&[("sg-1", "")]), [pair("sg-1", false)]);
        assert_eq!(offered(&[("sg-1", "a"), ("sg-2", "a")]), [pair("sg-1", false), pair("sg-2", false)]);
    }

    #[test]
    fn nothing_is_offered_that_a_shell_would_read_otherwise() {
        for name in ["a b", "$(reboot)", "a;b", "a'b", "`x`", "-rf", "a\nb", "*", "~x", "a:b", "{a,b}", "\u{1b}[2J"] {
            assert_eq!(offered(&[("sg-1", name)]), [("sg-1".to_owned(), false)], "{name:?}");
            assert!(offered(&[(name, name)]).is_empty(), "{name:?}");
        }
        assert_eq!(offered(&[("sg-1", "prod-Größe_2.b")])[0].0, "prod-Größe_2.b");
    }

    #[test]
    fn the_socket_is_the_one_of_the_command_line() {
        let of = |line: &str, environment: Option<&str>| {
            socket(line.split(' ').map(OsString::from), environment.map(OsString::from)).to_string_lossy().into_owned()
        };
        assert_eq!(of("sgctl -- sgctl group show", None), DEFAULT_SOCKET);
        assert_eq!(of("sgctl -- sgctl group show", Some("/e")), "/e");
        assert_eq!(of("sgctl -- sgctl --socket /a group show", Some("/e")), "/a");
        assert_eq!(of("sgctl -- sgctl group show --socket=/b x", None), "/b");
        assert_eq!(of("sgctl -- sgctl --socket", Some("/e")), "/e");
        assert_eq!(of("--socket /a -- sgctl", None), DEFAULT_SOCKET);
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let began = std::time::Instant::now();
        let slow = || -> Result<u8> {
            thread::sleep(Duration::from_secs(30));
            Ok(1)
        };
        assert_eq!(within(Duration::from_millis(20), slow), None);
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(within(Duration::from_secs(10), || Ok(1)), Some(1));
        assert_eq!(within(Duration::from_secs(10), || -> Result<u8> { anyhow::bail!("no") }), None);
    }
}
