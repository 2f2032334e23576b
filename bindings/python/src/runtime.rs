//! Runs Rust futures for asyncio, and refuses to in a forked child.

use std::future::Future;
use std::process;
use std::sync::OnceLock;

use cuckoo_core::{Error, Result};
use pyo3::prelude::*;

use crate::error::to_python;

static PROCESS: OnceLock<u32> = OnceLock::new();

/// Notes which process loaded the module.
pub(crate) fn remember_process() {
    PROCESS.get_or_init(process::id);
}

/// Turns a Rust future into an awaitable. Cancelling the awaitable drops the future.
///
/// # Errors
/// `closed` in a forked child: threads and sockets do not survive a fork.
pub(crate) fn awaitable<'py, T, F>(py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'a> IntoPyObject<'a> + Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    same_process().map_err(to_python)?;
    pyo3_async_runtimes::tokio::future_into_py(py, async move { future.await.map_err(to_python) })
}

/// Checks that this is the process that loaded the module.
pub(crate) fn same_process() -> Result<()> {
    if PROCESS.get().is_some_and(|loaded| *loaded != process::id()) {
        return Err(Error::closed(
            "cuckoo was loaded before this process was forked; use the `spawn` start method, or import it in the child",
        ));
    }
    Ok(())
}
