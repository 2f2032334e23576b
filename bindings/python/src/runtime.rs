//! Runs Rust futures for asyncio, refuses to in a forked child, and ends before the interpreter does.

use std::future::Future;
use std::pin::Pin;
use std::process;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cuckoo_core::{Error, Result};
use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime, future_into_py};
use tokio::runtime::{Builder, Handle, Runtime as Threads};
use tokio::task::{JoinError, JoinHandle};

use crate::error::to_python;

/// How long the interpreter's exit waits for calls that are still under way.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

struct Loaded {
    process: u32,
    handle: Handle,
    threads: Mutex<Option<Threads>>,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();

/// Starts the threads, once, and has Python end them before it finalises: a thread that enters or leaves Python after
/// that aborts the process (cpython#124619).
pub(crate) fn load(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if LOADED.get().is_some() {
        return Ok(());
    }
    let threads = Builder::new_multi_thread().enable_all().build()?;
    let handle = threads.handle().clone();
    let loaded = Loaded {
        process: process::id(),
        handle,
        threads: Mutex::new(Some(threads)),
    };
    if LOADED.set(loaded).is_ok() {
        let exit = wrap_pyfunction!(end_threads, module)?;
        module
            .py()
            .import("atexit")?
            .call_method1("register", (exit,))?;
    }
    Ok(())
}

#[pyfunction]
fn end_threads(py: Python<'_>) {
    let Some(loaded) = LOADED.get() else { return };
    let threads = loaded
        .threads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(threads) = threads else { return };
    if loaded.process == process::id() {
        // Without Python's lock, since the threads may need it to finish.
        py.detach(|| threads.shutdown_timeout(EXIT_PATIENCE));
    } else {
        // They stayed with the parent; there is nothing to wait for in a forked child.
        std::mem::forget(threads);
    }
}

/// Turns a Rust future into an awaitable. Cancelling the awaitable drops the future.
///
/// # Errors
/// `closed` in a forked child: threads and sockets do not survive a fork.
pub(crate) fn awaitable<'py, T, F>(py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'a> IntoPyObject<'a> + Send + Sync + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    same_process().map_err(to_python)?;
    future_into_py::<Tokio, _, T>(py, async move { future.await.map_err(to_python) })
}

fn same_process() -> Result<()> {
    if LOADED
        .get()
        .is_none_or(|loaded| loaded.process != process::id())
    {
        return Err(Error::closed(
            "cuckoo was loaded before this process was forked; use the `spawn` start method, or import it in the child",
        ));
    }
    Ok(())
}

tokio::task_local! {
    /// The event loop that a future reports to.
    static LOCALS: TaskLocals;
}

/// The threads above as the bridge to asyncio wants to see them.
struct Tokio;

impl Runtime for Tokio {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Self::JoinHandle {
        match LOADED.get() {
            Some(loaded) => loaded.handle.spawn(future),
            None => tokio::spawn(future),
        }
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(call: F) -> Self::JoinHandle {
        match LOADED.get() {
            Some(loaded) => loaded.handle.spawn_blocking(call),
            None => tokio::task::spawn_blocking(call),
        }
    }
}

impl ContextExt for Tokio {
    fn scope<F, R>(locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(locals, future))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(Clone::clone).ok()
    }
}
