//! What is fuzzed: each target takes arbitrary bytes and panics when something does not hold that must.
//!
//! libFuzzer calls these functions, and `tests/fuzz_regressions.rs` of the coordinator calls the same ones for every input
//! in `corpus/` and `findings/`. `docs/fuzzing.md` says how to run either.

mod kinds;
mod market;
mod messages;
mod numbers;
mod requests;
mod rows;
pub mod seeds;
mod session;
mod signature;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use kinds::kinds;
pub use messages::{control, receipt, task};
pub use numbers::numbers;
pub use requests::requests;
pub use rows::rows;
pub use session::session;
pub use signature::signature;

/// A target's name and the function behind it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("task", task),
    ("control", control),
    ("receipt", receipt),
    ("signature", signature),
    ("kinds", kinds),
    ("numbers", numbers),
    ("rows", rows),
    ("requests", requests),
    ("session", session),
];

/// What was read once is written so that it is read the same again.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("what was read can be written");
    let again: T = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(*value, again, "{json}");
}

/// Reads JSON and checks that it survives.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &[u8]) -> Option<T> {
    let value = serde_json::from_slice(json).ok()?;
    survives(&value);
    Some(value)
}
