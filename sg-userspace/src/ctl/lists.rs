//! `sgctl prefix-list`, `sgctl port-list`: one for both kinds.

use std::io::Write;

use anyhow::{Error, Result, bail};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{
        Arguments, Output, Yes,
        lists::{Entry, Kind, List, Words, family_of},
    },
    call::{self, Refusal, all, call, items, make, text},
    confirm::{Going, confirm},
    group::Titles,
    output::{self, made},
};

/// Entries of one call.
const PART: usize = 200;
/// What a list may have when nothing was said: a rule that names it counts as so many.
const ROOM: usize = 20;

impl Words {
    /// The field of an id.
    pub fn id(&self) -> String {
        format!("{}Id", self.api)
    }

    /// The field of a name.
    pub fn name(&self) -> String {
        format!("{}Name", self.api)
    }
}

/// All lists of which something is so.
pub fn listed(arguments: &Arguments, w: &Words, mut ask: Value) -> Result<Vec<Value>> {
    ask["MaxResults"] = 100.into();
    Ok(all(arguments, &format!("Describe{}s", w.api), ask, &format!("{}s", w.api))?.0)
}

/// The list of an id, or else those of a name.
pub fn named(arguments: &Arguments, w: &Words, name: &str) -> Result<Vec<Value>> {
    let found = listed(arguments, w, json!({w.id(): [name]}))?;
    if found.is_empty() { listed(arguments, w, json!({w.name(): name})) } else { Ok(found) }
}

/// The one list of an id or a name.
///
/// # Errors
/// There is none, or there are several.
pub fn find(arguments: &Arguments, w: &Words, name: &str) -> Result<Value> {
    call::one(named(arguments, w, name)?, name, w.what, w.command, &w.id())
}

/// A list with its entries, and with the groups whose rules name it.
fn whole(arguments: &Arguments, w: &Words, name: &str) -> Result<Value> {
    let mut list = find(arguments, w, name)?;
    let ask = json!({w.id(): list[w.id()], "MaxResults": 100});
    list["Entries"] = items(&call(arguments, w.entries, &ask, false)?["Entries"]).into();
    let users = format!("{}Associations", w.api);
    list["Associations"] = all(arguments, &format!("Describe{users}"), ask, &users)?.0.into();
    Ok(list)
}

fn lists_table(w: &Words, lists: &[Value]) -> comfy_table::Table {
    let families = lists.iter().any(|l| !text(l, "AddressFamily").is_empty());
    let mut head = vec!["list", "name", "at most", "groups", "description"];
    if families {
        head.insert(2, "family");
    }
    let mut table = output::listing(&head);
    for l in lists {
        let mut row = vec![
            text(l, &w.id()).to_owned(),
            text(l, &w.name()).to_owned(),
            l["MaxEntries"].to_string(),
            l["AssociationCount"].to_string(),
            text(l, "Description").to_owned(),
        ];
        if families {
            row.insert(2, text(l, "AddressFamily").to_owned());
        }
        table.add_row(row);
    }
    table
}

fn tell(arguments: &Arguments, w: &Words, list: &Value) -> Result<()> {
    let titles = Titles::read(arguments)?;
    let (entries, users) = (items(&list["Entries"]), items(&list["Associations"]));
    let mut out = output::stdout();
    let family = match text(list, "AddressFamily") {
        "" => String::new(),
        family => format!("{family}, "),
    };
    let (id, name, most) = (text(list, &w.id()), text(list, &w.name()), &list["MaxEntries"]);
    writeln!(out, "{id} {name}: {family}{} of at most {most} entries", entries.len())?;
    if !text(list, "Description").is_empty() {
        writeln!(out, "{}", text(list, "Description"))?;
    }
    if users.is_empty() {
        writeln!(out, "no rule names it")?;
    } else {
        let users: Vec<&str> = users.iter().map(|u| titles.of(text(u, "ResourceId"))).collect();
        writeln!(out, "named by rules of {}", users.join(", "))?;
    }
    let mut table = output::table(&["entry", "description"]);
    for e in &entries {
        table.add_row([text(e, w.entry), text(e, "Description")]);
    }
    writeln!(out, "\n{}", output::fit(table))?;
    Ok(())
}

/// What of a list would go, and whose rules it would change.
fn going(arguments: &Arguments, w: &Words, list: &Value, what: String) -> Result<Going> {
    let titles = Titles::read(arguments)?;
    let users: Vec<String> =
        items(&list["Associations"]).iter().map(|u| titles.of(text(u, "ResourceId")).to_owned()).collect();
    let (id, name) = (text(list, &w.id()), text(list, &w.name()));
    let going = Going::new(format!("{what} the {} {name} ({id})", w.what));
    Ok(if users.is_empty() {
        going.and("no rule names it")
    } else {
        going.names("rules of these groups name it", &users)
    })
}

/// An entry as it is said.
fn entry_line(w: &Words, entry: &Value) -> String {
    format!("{} {}", text(entry, w.entry), text(entry, "Description")).trim_end().to_owned()
}

/// What a change of a list says, for programs: which, and its generation.
fn changed(w: &Words, list: &Value, done: &Value, mut value: Value) -> Value {
    value[w.id()] = list[w.id()].clone();
    value["Generation"] = done["Generation"].clone();
    value
}

/// Refuses a prefix that is not of a list's family.
fn fits(w: &Words, family: &str, entries: &[Entry]) -> Result<()> {
    match entries.iter().find(|e| !family.is_empty() && family_of(&e.value) != family) {
        Some(e) => bail!("{} is {}, and the {} has {family} only", e.value, family_of(&e.value), w.what),
        None => Ok(()),
    }
}

fn records(w: &Words, entries: &[Entry]) -> Value {
    entries.iter().map(|e| json!({w.entry: e.value, "Description": e.description})).collect()
}

/// Puts entries into a list, as many a call as one takes; the last call's answer.
fn put(arguments: &Arguments, w: &Words, id: &Value, entries: &[Entry]) -> Result<Value> {
    let mut done = Value::Null;
    for part in entries.chunks(PART) {
        let ask = json!({w.id(): id, "AddEntry": records(w, part)});
        done = call(arguments, &format!("Modify{}", w.api), &ask, false)?;
    }
    Ok(done)
}

/// A refusal, with what to do when a list has no room.
fn full(e: Error, list: &str, most: &Value) -> Error {
    let codes = ["LimitExceed.Entry", "InvalidOperation.EntryCountExceedMaxEntries"];
    match e.downcast_ref::<Refusal>() {
        Some(refusal) if codes.contains(&refusal.code.as_str()) => {
            e.context(format!("{list} has room for {most}, which cannot be changed; make a larger list"))
        }
        _ => e,
    }
}

fn create(arguments: &Arguments, w: &Words, owner: Option<&str>, mut ask: Value, entries: &[Entry]) -> Result<Ended> {
    fits(w, text(&ask, "AddressFamily"), entries)?;
    let (first, more) = entries.split_at(entries.len().min(PART));
    ask["Entry"] = records(w, first);
    let list = make(arguments, owner, &format!("Create{}", w.api), &ask)?;
    let done = put(arguments, w, &list[w.id()], more).or_else(|e| {
        // A list without some of its entries is not what was asked for.
        call(arguments, &format!("Delete{}", w.api), &json!({w.id(): list[w.id()]}), false)?;
        Err(e.context("no list was made"))
    })?;
    let done = if done.is_null() { &list } else { &done };
    let (said, entries) = (changed(w, &list, done, json!({})), entries.len());
    let entries = super::count_of(entries, "entry", "entries");
    let line = format!("{} made with {entries} of at most {}", text(&said, &w.id()), ask["MaxEntries"]);
    made(arguments.output, &said, &line)
}

fn remove<K: Kind>(arguments: &Arguments, name: &str, entries: &[String], yes: Yes) -> Result<Ended> {
    let w = &K::WORDS;
    let list = whole(arguments, w, name)?;
    // A document may write an entry in another way.
    let standing: Vec<(String, Value)> =
        items(&list["Entries"]).into_iter().filter_map(|e| Some((K::entry(text(&e, w.entry)).ok()?, e))).collect();
    if let Some(unknown) = entries.iter().find(|e| standing.iter().all(|(s, _)| s != *e)) {
        bail!("{name} has no entry {unknown}, nothing was taken out; `sgctl {} show {name}` lists them", w.command);
    }
    confirm(yes, || {
        let what = format!("take {} of {} out of", entries.len(), super::count_of(standing.len(), "entry", "entries"));
        let gone = standing.iter().filter(|(s, _)| entries.contains(s)).map(|(_, e)| entry_line(w, e));
        Ok(going(arguments, w, &list, what)?.each(gone))
    })?;
    let mut done = Value::Null;
    for part in entries.chunks(PART) {
        let gone: Value = part.iter().map(|e| json!({w.entry: e})).collect();
        let ask = json!({w.id(): list[w.id()], "RemoveEntry": gone});
        done = call(arguments, &format!("Modify{}", w.api), &ask, false)?;
    }
    made(arguments.output, &changed(w, &list, &done, json!({"Removed": entries})), "done; in force")
}

/// `sgctl prefix-list`, `sgctl port-list`.
pub fn run<K: Kind>(arguments: &Arguments, command: &List<K>) -> Result<Ended> {
    let w = &K::WORDS;
    match command {
        List::List => {
            let lists = listed(arguments, w, json!({}))?;
            output::print(arguments.output, &lists, |lists| lists_table(w, lists))?;
            Ok(Ended::Done)
        }
        List::Show { list } => {
            let list = whole(arguments, w, list)?;
            if arguments.output == Output::Table {
                tell(arguments, w, &list)?;
            } else {
                output::print(arguments.output, &list, |_| output::table(&[]))?;
            }
            Ok(Ended::Done)
        }
        List::Create { name, entry, max_entries, description, account, kind } => {
            let most = max_entries.map_or(entry.len().max(ROOM), usize::from);
            let ask = json!({
                w.name(): name, "MaxEntries": most, "Description": description, "AddressFamily": kind.family(entry),
            });
            create(arguments, w, account.as_deref(), ask, entry)
        }
        List::Add { list, entries } => {
            let found = find(arguments, w, list)?;
            fits(w, text(&found, "AddressFamily"), entries)?;
            let done = put(arguments, w, &found[w.id()], entries).map_err(|e| full(e, list, &found["MaxEntries"]))?;
            made(arguments.output, &changed(w, &found, &done, json!({"Put": records(w, entries)})), "done; in force")
        }
        List::Remove { list, entries, yes } => remove::<K>(arguments, list, entries, *yes),
        List::Modify { list, name, description } => {
            let found = find(arguments, w, list)?;
            let ask = json!({w.id(): found[w.id()], w.name(): name, "Description": description});
            let done = call(arguments, &format!("Modify{}", w.api), &ask, false)?;
            made(arguments.output, &changed(w, &found, &done, json!({})), "done")
        }
        List::Delete { list, yes } => {
            let found = find(arguments, w, list)?;
            confirm(*yes, || {
                let all = whole(arguments, w, text(&found, &w.id()))?;
                let entries = items(&all["Entries"]);
                let going = going(arguments, w, &all, "delete".into())?;
                let going = going.and(super::count_of(entries.len(), "entry", "entries"));
                Ok(going.each(entries.iter().map(|e| entry_line(w, e))))
            })?;
            let done = call(arguments, &format!("Delete{}", w.api), &json!({w.id(): found[w.id()]}), false)?;
            let value = changed(w, &found, &done, json!({"Deleted": true}));
            made(arguments.output, &value, &format!("{list} deleted"))
        }
    }
}
