//! What only this engine does: files that are older, newer, or no database.

use std::{collections::HashMap, sync::Arc};

use super::{super::tests::contract, *};
use crate::document::Document;

fn dir(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sg-redb-{}-{name}", std::process::id()))
}

#[test]
fn the_embedded_store_keeps_the_contract() {
    let dir = dir("contract");
    contract(&mut || Box::new(Embedded::open(&dir).unwrap()));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_state_of_an_older_version_is_taken_over() {
    let dir = dir("import");
    let mut old = FileStore::open(&dir).unwrap();
    let text = include_bytes!("../../../../../examples/demo.yaml").to_vec();
    let source = crate::document::Source { name: "demo".into(), bytes: text };
    let document = crate::document::parse(&[source]).unwrap();
    let state = State { generation: 3, documents: vec![document], ..State::default() };
    old.save(&state).unwrap();
    assert_eq!(Embedded::open(&dir).unwrap().load().unwrap(), state);
    assert!(!dir.join("state.json").exists() && dir.join("state.json.imported").exists());
    assert_eq!(Embedded::open(&dir).unwrap().load().unwrap(), state);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let dir = dir("newer");
    let store = Embedded::open(&dir).unwrap();
    let db = store.db.as_ref().unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let e = Embedded::open(&dir).unwrap_err().to_string();
    assert!(e.contains(&format!("{}", SCHEMA + 1)) && e.contains(&format!("{SCHEMA}")), "{e}");
    fs::remove_dir_all(dir).unwrap();
}

/// A step that a later schema could have.
fn rename_counters(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    let mut objects = transaction.open_table(OBJECTS)?;
    let value = objects.remove("counter/a")?.map(|v| v.value().to_vec());
    value.map(|v| objects.insert("counter/b", v.as_slice()).map(drop)).transpose()?;
    Ok(())
}

fn failing(_: &redb::WriteTransaction) -> Result<(), redb::Error> {
    Err(redb::Error::Io(io::Error::other("no room")))
}

#[test]
fn an_older_schema_is_copied_and_brought_to_ours_in_one_go() {
    let dir = dir("migrated");
    let counters = Arc::new(HashMap::from([("a".to_owned(), 7)]));
    let state = State { generation: 3, counters, ..State::default() };
    Embedded::open(&dir).unwrap().save(&state).unwrap();
    let path = dir.join("state.redb");
    let copy = dir.join(format!("state.redb.schema-{SCHEMA}"));
    let closed = |path: &Path| Embedded { path: path.into(), db: None, last: State::default() };
    let steps = |more: &[Step]| [STEPS, more].concat();

    // Nothing is missing: nothing is copied.
    closed(&path).migrate(&steps(&[])).unwrap();
    assert!(!copy.exists());
    // A step that fails leaves all as it was, also what the steps before it did.
    let e = closed(&path).migrate(&steps(&[rename_counters, failing])).unwrap_err().to_string();
    assert!(e.contains("no room") && copy.exists(), "{e}");
    assert_eq!(closed(&path).read().unwrap(), state);
    // Two steps, and a daemon of this schema says whom it needs.
    closed(&path).migrate(&steps(&[rename_counters, |_| Ok(())])).unwrap();
    let e = Embedded::open(&dir).unwrap_err();
    assert!(matches!(e, StoreError::Newer { schema, .. } if schema == SCHEMA + 2), "{e}");
    let mut new = closed(&path);
    let db = new.open_db(false).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", SCHEMA).unwrap();
    transaction.commit().unwrap();
    new.db = Some(db);
    assert_eq!(*new.read().unwrap().counters, HashMap::from([("b".to_owned(), 7)]));
    drop(new);
    // The copy is what the older daemon knows.
    fs::rename(&copy, &path).unwrap();
    assert_eq!(Embedded::open(&dir).unwrap().load().unwrap(), state);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "and nothing else is left");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_was_applied_before_an_older_daemon_wrote_is_not_known() {
    let dir = dir("applied");
    let document = |name: &str| Document { document: Some(name.into()), ..Document::default() };
    let (old, new) = (document("a"), document("b"));
    let state = |generation, applied: &Document| State {
        generation,
        documents: vec![applied.clone()],
        applied: Arc::new(vec![applied.clone()]),
        ..State::default()
    };
    let mut store = Embedded::open(&dir).unwrap();
    store.save(&state(3, &old)).unwrap();
    drop(store);
    let store = Embedded::open(&dir).unwrap();
    assert_eq!(store.load().unwrap(), state(3, &old));
    // The older daemon counts on, and leaves alone what it does not know.
    let transaction = store.db.as_ref().unwrap().begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("generation", 4).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let mut store = Embedded::open(&dir).unwrap();
    let expected = State { generation: 4, applied: Arc::default(), ..state(3, &old) };
    assert_eq!(store.load().unwrap(), expected);
    // The next apply is known again, and nothing is left of the one before.
    store.save(&state(5, &new)).unwrap();
    drop(store);
    assert_eq!(Embedded::open(&dir).unwrap().load().unwrap(), state(5, &new));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_account_of_a_newer_daemon_is_left_out() {
    let dir = dir("accounts");
    let mut store = Embedded::open(&dir).unwrap();
    store.keep_accounts(&[("sg-1/sgr-1".into(), Some(Account::new(5)))]).unwrap();
    let transaction = store.db.as_ref().unwrap().begin_write().unwrap();
    let newer = br#"{"packets":[1,2],"since":"yesterday"}"#;
    transaction.open_table(ACCOUNTS).unwrap().insert("sg-1/sgr-2", newer.as_slice()).unwrap();
    transaction.commit().unwrap();
    assert_eq!(store.accounts().unwrap(), Accounts::from([("sg-1/sgr-1".into(), Account::new(5))]));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_damaged_file_is_no_empty_state() {
    let dir = dir("damaged");
    fs::create_dir_all(&dir).unwrap();
    for text in [&b"{"[..], &[7; 100_000]] {
        fs::write(dir.join("state.redb"), text).unwrap();
        let e = Embedded::open(&dir).unwrap_err().to_string();
        assert!(e.contains("is damaged"), "{e}");
    }
    fs::remove_dir_all(dir).unwrap();
}
