//! The refusal by a limit: which one, and when it lets through again.

use std::fmt;
use std::time::Duration;

use cuckoo_core::{Error, Retry};

/// A limit that was reached. The source of errors of kind `Rejected`, so that any interface can tell when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// Which limit, such as `requests` or `tasks-per-day`.
    pub policy: &'static str,
    /// What it allows in how long, where both are numbers.
    pub allowed: Option<(u64, Duration)>,
    /// When to try again; what else ends the wait, such as a task's end, may come sooner.
    pub retry_after: Duration,
    /// The limit in words.
    pub(crate) words: String,
}

impl LimitReached {
    /// The error that refuses `what`.
    pub(crate) fn refuse(self, what: &str) -> Error {
        Error::rejected(what)
            .with_retry(Retry::Later)
            .with_source(self)
    }

    /// The limit behind an error, if one is.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Whole seconds to wait, at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after.as_millis().div_ceil(1_000).max(1) as u64
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for LimitReached {}
