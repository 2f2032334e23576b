//! Executors: the miner's own, and the adapter behind which a Python object serves as one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, Error, Output, Result};
use cuckoo_miner::{Execution, Executor};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use tokio::sync::oneshot;

use crate::convert::{from_object as read, to_object};
use crate::error::{from_python, to_python};
use crate::runtime::awaitable;

/// An executor of the miner's own, for a model in a folder.
macro_rules! ready {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[pyclass(frozen, module = "cuckoo")]
        #[derive(Debug)]
        pub(crate) struct $name {
            inner: Arc<cuckoo_miner::$name>,
        }

        #[pymethods]
        impl $name {
            /// Loads the model in `folder`, offered under the name `model`.
            #[new]
            fn new(py: Python<'_>, folder: PathBuf, model: &str) -> PyResult<Self> {
                let model = model.parse().map_err(to_python)?;
                let inner = py
                    .detach(|| cuckoo_miner::$name::load(&folder, model))
                    .map_err(to_python)?;
                Ok(Self {
                    inner: Arc::new(inner),
                })
            }

            /// What it can run, as dictionaries.
            fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                to_object(py, &self.inner.capabilities())
            }
        }
    };
}

ready! {
    /// Draws pictures with a Stable Diffusion pipeline read from a folder in the layout of diffusers.
    ImageExecutor
}

ready! {
    /// Writes texts and chats with a language model read from a folder in the layout of Hugging Face, many at once.
    TextExecutor
}

ready! {
    /// Turns texts into vectors with a sentence encoder read from a folder in the layout of sentence-transformers.
    EmbeddingExecutor
}

/// A run's line to the miner: progress and the beginning of the output go out, cancellation comes in.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct TaskContext {
    inner: cuckoo_miner::TaskContext,
}

#[pymethods]
impl TaskContext {
    /// Whether the run should stop.
    #[getter]
    fn cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }

    /// Shows the next bytes of the output to whoever watches the task. What the run returns must begin with all of them.
    fn emit(&self, bytes: &[u8]) {
        self.inner.emit(bytes);
    }

    /// The bytes that a string in the input, such as `"blob:0x…"`, stands for, and their media type.
    fn blob<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyAny>> {
        let id = id.parse().map_err(to_python)?;
        let inner = self.inner.clone();
        awaitable(py, async move { inner.blob(id).await.map(Blob) })
    }

    /// Reports the share done, 0 to 1.
    fn progress(&self, share: f64) {
        self.inner.progress((share.clamp(0.0, 1.0) * 1000.0) as u16);
    }
}

/// A blob as Python has it: its bytes and their media type.
#[derive(Debug)]
struct Blob(Output);

impl<'py> IntoPyObject<'py> for Blob {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (PyBytes::new(py, &self.0.bytes), self.0.media_type).into_pyobject(py)
    }
}

/// The executor in or behind a Python object.
pub(crate) fn from_object(object: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Executor>> {
    if let Ok(ready) = object.cast::<ImageExecutor>() {
        return Ok(Arc::clone(&ready.get().inner) as Arc<dyn Executor>);
    }
    if let Ok(ready) = object.cast::<TextExecutor>() {
        return Ok(Arc::clone(&ready.get().inner) as Arc<dyn Executor>);
    }
    if let Ok(ready) = object.cast::<EmbeddingExecutor>() {
        return Ok(Arc::clone(&ready.get().inner) as Arc<dyn Executor>);
    }
    let capabilities = read("capabilities()", &object.call_method0("capabilities")?)?;
    // Its coroutines run where it was made: on the loop of the program that embeds it.
    let event_loop = object
        .py()
        .import("asyncio")?
        .call_method0("get_running_loop")?
        .unbind();
    Ok(Arc::new(PythonExecutor {
        object: object.clone().unbind(),
        event_loop,
        capabilities,
    }))
}

#[derive(Debug)]
struct PythonExecutor {
    object: Py<PyAny>,
    event_loop: Py<PyAny>,
    capabilities: Vec<Capability>,
}

#[async_trait]
impl Executor for PythonExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.clone()
    }

    async fn execute(
        &self,
        task: Assignment,
        context: cuckoo_miner::TaskContext,
    ) -> Result<Execution> {
        let (sender, receiver) = oneshot::channel();
        let (object, event_loop) =
            Python::attach(|py| (self.object.clone_ref(py), self.event_loop.clone_ref(py)));
        // Python's lock is waited for on a thread of its own, so that it never holds up the runtime.
        let running = tokio::task::spawn_blocking(move || {
            Python::attach(|py| {
                start(py, &object, &event_loop, &task, context, sender)
                    .map_err(|raised| from_python(py, &raised))
            })
        })
        .await
        .map_err(|source| Error::internal("the call into Python panicked").with_source(source))??;
        let _running = CancelOnDrop(running);
        receiver
            .await
            .map_err(|_| Error::execution("the executor's event loop ended before its run did"))?
    }
}

/// Schedules `object.execute(task, context)` on the loop; `sender` gets what comes of it.
fn start(
    py: Python<'_>,
    object: &Py<PyAny>,
    event_loop: &Py<PyAny>,
    task: &Assignment,
    context: cuckoo_miner::TaskContext,
    sender: oneshot::Sender<Result<Execution>>,
) -> PyResult<Py<PyAny>> {
    let context = Py::new(py, TaskContext { inner: context })?;
    let coroutine = object.call_method1(py, "execute", (to_object(py, task)?, context))?;
    let running = py
        .import("asyncio")?
        .call_method1("run_coroutine_threadsafe", (coroutine, event_loop))?;
    running.call_method1(
        "add_done_callback",
        (Py::new(
            py,
            Done {
                sender: Mutex::new(Some(sender)),
            },
        )?,),
    )?;
    Ok(running.unbind())
}

/// Called by Python when the coroutine ended.
#[pyclass(frozen)]
struct Done {
    sender: Mutex<Option<oneshot::Sender<Result<Execution>>>>,
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>, running: &Bound<'_, PyAny>) {
        let outcome = running
            .call_method0("result")
            .and_then(|returned| execution(&returned))
            .map_err(|raised| from_python(py, &raised));
        if let Some(sender) = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // The run was given up meanwhile.
            let _ = sender.send(outcome);
        }
    }
}

/// What `execute` returned: bytes; with their media type; with that and what the run consumed.
fn execution(returned: &Bound<'_, PyAny>) -> PyResult<Execution> {
    if let Ok(bytes) = returned.cast::<PyBytes>() {
        let output = Output::new("application/octet-stream", bytes.as_bytes().to_vec());
        return Ok(Execution::new(output));
    }
    if let Ok((bytes, media_type)) = returned.extract::<(Vec<u8>, String)>() {
        return Ok(Execution::new(Output::new(media_type, bytes)));
    }
    let (bytes, media_type, usage) = returned
        .extract::<(Vec<u8>, String, Bound<'_, PyAny>)>()
        .map_err(|_| {
            to_python(Error::execution(
                "execute() must return bytes, bytes and their media type, or these and what it consumed: \
                 {\"input_units\": number, \"output_units\": number, \"compute_millis\": number}",
            ))
        })?;
    let usage = read("usage", &usage)?;
    Ok(Execution::new(Output::new(media_type, bytes)).with_usage(usage))
}

/// Cancels the Python side when the Rust side stops waiting.
struct CancelOnDrop(Py<PyAny>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Cancelling what has ended does nothing. A loop that is closed has nothing left to cancel.
        Python::attach(|py| self.0.call_method0(py, "cancel").map(drop)).unwrap_or_default();
    }
}
