//! One Python exception class for each error kind, under `CuckooError`.

use cuckoo_core::{Error, ErrorKind, Retry};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    cuckoo,
    CuckooError,
    PyException,
    "Anything that went wrong in Cuckoo; `kind` and `retry` say what to do."
);

macro_rules! kinds {
    ($($kind:ident => $class:ident, $doc:literal;)*) => {
        $(create_exception!(cuckoo, $class, CuckooError, $doc);)*

        /// Adds every class to the module.
        pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
            module.add("CuckooError", module.py().get_type::<CuckooError>())?;
            $(module.add(stringify!($class), module.py().get_type::<$class>())?;)*
            Ok(())
        }

        fn exception(kind: ErrorKind, message: String) -> PyErr {
            match kind {
                $(ErrorKind::$kind => $class::new_err(message),)*
                _ => CuckooError::new_err(message),
            }
        }

        fn kind_named(name: &str) -> Option<ErrorKind> {
            [$(ErrorKind::$kind),*].into_iter().find(|kind| kind.as_str() == name)
        }
    };
}

kinds! {
    Invalid => InvalidError, "The request itself is wrong.";
    Unauthorized => UnauthorizedError, "The caller was not accepted.";
    NotFound => NotFoundError, "No such task, model or file.";
    Conflict => ConflictError, "The state moved on.";
    Unavailable => UnavailableError, "A needed part is not reachable now.";
    Rejected => RejectedError, "Refused by policy.";
    Timeout => TimeoutError, "The deadline passed.";
    Cancelled => CancelledError, "It was cancelled.";
    Unverified => UnverifiedError, "A signature, hash or audit did not hold.";
    Chain => ChainError, "The chain or a contract refused.";
    Execution => ExecutionError, "An executor failed.";
    Closed => ClosedError, "The component was shut down.";
    Internal => InternalError, "A defect in Cuckoo.";
}

/// The exception for a Rust error, with its `kind` and `retry`.
pub(crate) fn to_python(error: Error) -> PyErr {
    let exception = exception(error.kind(), error.to_string());
    Python::attach(|py| {
        let value = exception.value(py);
        let retry = error.retry() == Retry::Later;
        // A failure to set an attribute is itself the error to show.
        let outcome = value
            .setattr("kind", error.kind().as_str())
            .and_then(|()| value.setattr("retry", retry));
        outcome.err().unwrap_or_else(|| exception.clone_ref(py))
    })
}

/// The Rust error for what an executor written in Python raised: its kind when it is a `CuckooError`, else a failed run.
pub(crate) fn from_python(py: Python<'_>, raised: &PyErr) -> Error {
    let kind = raised
        .get_type(py)
        .name()
        .ok()
        .filter(|_| raised.is_instance_of::<CuckooError>(py))
        .and_then(|class| kind_named(&snake_case(class.to_string().trim_end_matches("Error"))));
    Error::new(kind.unwrap_or(ErrorKind::Execution), raised.to_string())
}

/// `NotFound` to `not_found`.
fn snake_case(class: &str) -> String {
    let mut name = String::new();
    for letter in class.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
