//! The adapter behind which a Python object serves as an executor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, Error, ModelId, Output, Result};
use cuckoo_miner::{Execution, Executor, Trial};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::{block_in_place, spawn_blocking};

use crate::convert::{from_object as read, to_object};
use crate::error::{from_python, to_python};
use crate::models::ModelExecutor;
use crate::runtime::awaitable;

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
    if let Ok(ready) = object.cast::<ModelExecutor>() {
        return Ok(ready.get().executor());
    }
    let capabilities: Vec<Capability> =
        read("capabilities()", &object.call_method0("capabilities")?)?;
    let trials = match method(object, "trials")? {
        Some(method) => trials(&method, &capabilities)?,
        None => HashMap::new(),
    };
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
        work: method(object, "work")?.map(Bound::unbind),
        trials,
    }))
}

/// A method that may be left out, or be `None`.
fn method<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = object.getattr_opt(name)?;
    match found.filter(|found| !found.is_none()) {
        Some(found) if !found.is_callable() => Err(PyTypeError::new_err(format!(
            "`{name}` of an executor must be a method, and is of type `{}`; make it one, or give the attribute another name",
            found.get_type().name()?
        ))),
        found => Ok(found),
    }
}

/// What `trials` says of each model.
fn trials(
    trials: &Bound<'_, PyAny>,
    capabilities: &[Capability],
) -> PyResult<HashMap<ModelId, Vec<Trial>>> {
    let of_model = |offer: &Capability| -> PyResult<(ModelId, Vec<Trial>)> {
        let said = trials.call1((offer.model.as_str(),))?;
        let trials = said.try_iter()?.map(|pair| trial(&pair?));
        Ok((offer.model.clone(), trials.collect::<PyResult<_>>()?))
    };
    capabilities.iter().map(of_model).collect()
}

fn trial(pair: &Bound<'_, PyAny>) -> PyResult<Trial> {
    let (what, input) = pair.extract::<(String, Bound<'_, PyAny>)>().map_err(|_| {
        to_python(Error::invalid(
            "trials() must give pairs of what a task is and its input, such as \
             (\"ten words\", {\"words\": 10, \"seed\": 1})",
        ))
    })?;
    let input: Value = read("the input of a trial", &input)?;
    Ok(Trial::new(what, input.to_string()))
}

#[derive(Debug)]
struct PythonExecutor {
    object: Py<PyAny>,
    event_loop: Py<PyAny>,
    capabilities: Vec<Capability>,
    /// Its method, if it has one.
    work: Option<Py<PyAny>>,
    trials: HashMap<ModelId, Vec<Trial>>,
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
        let running = spawn_blocking(move || {
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

    fn work(&self, task: &Assignment) -> Option<f64> {
        let work = self.work.as_ref()?;
        // The runtime's other tasks go on while this thread waits for Python's lock.
        block_in_place(|| {
            Python::attach(|py| {
                let work = work.bind(py);
                size(work, task).unwrap_or_else(|raised| {
                    // The task itself is not at fault: its size is unknown.
                    raised.write_unraisable(py, Some(work));
                    None
                })
            })
        })
    }

    fn trials(&self, model: &ModelId) -> Vec<Trial> {
        self.trials.get(model).cloned().unwrap_or_default()
    }
}

/// What `work` says of a task.
fn size(work: &Bound<'_, PyAny>, task: &Assignment) -> PyResult<Option<f64>> {
    work.call1((to_object(work.py(), task)?,))?.extract()
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
