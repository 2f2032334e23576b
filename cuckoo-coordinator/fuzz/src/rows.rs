//! Rows of the store, damaged or written by something else.

use std::cell::RefCell;

use cuckoo_coordinator::fuzzing::RowStore;
use rusqlite::types::Value;

const TABLES: [&str; 10] = [
    "tasks",
    "open",
    "ended",
    "leases",
    "outputs",
    "payments",
    "accounts",
    "forgotten",
    "sessions",
    "evidence",
];

thread_local! {
    static STORE: RefCell<RowStore> = RefCell::new(RowStore::open().expect("memory"));
}

/// Each line is a row: its table and its columns, with tabs between them. A column is `i` and a number, `t` and text, `x`
/// and the hexadecimal digits of bytes, or else nothing.
pub fn rows(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let rows: Vec<_> = text.lines().take(32).filter_map(row).collect();
    STORE.with_borrow_mut(|store| {
        let Ok(stored) = store.read(&rows) else {
            return;
        };
        let again = store
            .rewrite(&stored)
            .expect("what was read can be written");
        // A conflict is refused by the tables; what is there is the same.
        for task in &again.tasks {
            assert!(stored.tasks.contains(task), "{task:?} came out of nothing");
        }
        if let [task] = &stored.tasks[..]
            && (task.outcome.is_some() || task.ended_at.is_none())
        {
            assert_eq!(again.tasks, stored.tasks);
        }
        assert!(
            again
                .sessions
                .iter()
                .all(|one| stored.sessions.contains(one))
        );
        assert!(again.leases.iter().all(|one| stored.leases.contains(one)));
        assert_eq!(again.sessions.len(), stored.sessions.len());
    });
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
