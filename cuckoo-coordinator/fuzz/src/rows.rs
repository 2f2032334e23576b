//! Rows of the store, damaged or written by something else.

use std::cell::RefCell;

use cuckoo_coordinator::TaskRecord;
use cuckoo_coordinator::fuzzing::{RowStore, Stored};
use rusqlite::types::Value;

const TABLES: [&str; 11] = [
    "tasks",
    "open",
    "ended",
    "leases",
    "outputs",
    "payments",
    "accounts",
    "forgotten",
    "sessions",
    "nonces",
    "evidence",
];

thread_local! {
    static STORE: RefCell<RowStore> = RefCell::new(RowStore::open().expect("memory"));
}

/// Each line is a row: its table and its columns, with tabs between them. A column is `i` and a number, `t` and text, `x`
/// and the hexadecimal digits of bytes, or else nothing.
pub fn rows(data: &[u8]) {
    STORE.with_borrow_mut(|store| {
        if let Some(stored) = read(store, data) {
            check(store, &stored);
        }
    });
}

/// Whether a coordinator could start with these rows.
pub(crate) fn are_sound(data: &[u8]) -> bool {
    STORE.with_borrow_mut(|store| read(store, data).is_some())
}

fn read(store: &mut RowStore, data: &[u8]) -> Option<Stored> {
    let text = String::from_utf8_lossy(data);
    let rows: Vec<_> = text.lines().take(32).filter_map(row).collect();
    store.read(&rows).ok()
}

fn check(store: &mut RowStore, stored: &Stored) {
    let again = store.rewrite(stored);
    let again = again.expect("what was read can be written");
    // A row that says when its task ended and not how is damaged: to be written, it is open.
    let whole = |task: &&TaskRecord| task.outcome.is_some() || task.ended_at.is_none();
    // A conflict is refused by the tables; what is there is the same.
    for task in &again.tasks {
        let known = stored.tasks.contains(task) || !stored.tasks.iter().all(|one| whole(&one));
        assert!(known, "{task:?} came out of nothing");
    }
    if let [task] = &stored.tasks[..]
        && whole(&task)
    {
        assert_eq!(again.tasks, stored.tasks);
    }
    let known = |one| stored.sessions.contains(one);
    assert!(again.sessions.iter().all(known));
    assert_eq!(again.sessions.len(), stored.sessions.len());
    let known = |one| stored.nonces.contains(one);
    assert!(again.nonces.iter().all(known));
    assert_eq!(again.nonces.len(), stored.nonces.len());
    assert!(again.leases.iter().all(|one| stored.leases.contains(one)));
}

fn row(line: &str) -> Option<(&'static str, Vec<Value>)> {
    let mut fields = line.split('\t');
    let name = fields.next()?;
    let table = TABLES.into_iter().find(|table| *table == name)?;
    Some((table, fields.map(column).collect()))
}

fn column(field: &str) -> Value {
    let mut rest = field.chars();
    match (rest.next(), rest.as_str()) {
        (Some('i'), number) => number.parse().map_or(Value::Null, Value::Integer),
        (Some('t'), text) => Value::Text(text.to_owned()),
        (Some('x'), digits) => Value::Blob(bytes(digits)),
        _ => Value::Null,
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .map_while(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4) | pair[1])
        .collect()
}
