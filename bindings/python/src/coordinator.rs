//! `Coordinator`, `Task` and `TaskResult`.

use std::time::Duration;

use cuckoo_coordinator::{Front, TaskHandle};
use cuckoo_core::{Error, ModelId, Output, TaskSpec};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{from_object, read_or_default, to_object};
use crate::error::to_python;
use crate::runtime::awaitable;
use crate::server::Server;

/// Takes tasks, hands them to miners by stake, audits and pays.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct Coordinator {
    inner: cuckoo_coordinator::Coordinator,
}

impl Coordinator {
    pub(crate) fn new(inner: cuckoo_coordinator::Coordinator) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &cuckoo_coordinator::Coordinator {
        &self.inner
    }
}

#[pymethods]
impl Coordinator {
    /// Submits a task and gives a `Task` at once; `timeout` is in seconds.
    #[pyo3(signature = (model, input, *, timeout=None))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        model: &str,
        input: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let spec = task_spec(model, input, timeout)?;
        let inner = self.inner.clone();
        awaitable(py, async move {
            Ok(Task {
                handle: inner.submit(spec).await?,
            })
        })
    }

    /// Submits a task and waits for its result; cancelling the wait cancels the task.
    #[pyo3(signature = (model, input, *, timeout=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        model: &str,
        input: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let spec = task_spec(model, input, timeout)?;
        let inner = self.inner.clone();
        awaitable(py, async move {
            let task = inner.submit(spec).await?.guard();
            Ok(TaskResult {
                inner: task.result().await?,
            })
        })
    }

    /// Keeps bytes beside inputs: gives the text, such as `"blob:0x…"`, that an input writes in their place.
    #[pyo3(signature = (data, media_type="application/octet-stream".to_owned()))]
    fn put_blob<'py>(
        &self,
        py: Python<'py>,
        data: Vec<u8>,
        media_type: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner.clone();
        awaitable(py, async move {
            let id = inner.put_blob(Output::new(media_type, data)).await?;
            Ok(id.to_string())
        })
    }

    /// Serves it over HTTP at `address`, such as `"127.0.0.1:8480"`, and gives a `Server` once it listens. On port 0 the
    /// system picks a free one. `api_keys` and `http` are as in the settings of `cuckoo-coordinator`; without keys
    /// everybody who reaches the address may submit tasks.
    #[pyo3(signature = (address="127.0.0.1:0".to_owned(), *, api_keys=None, http=None))]
    fn serve<'py>(
        &self,
        py: Python<'py>,
        address: String,
        api_keys: Option<&Bound<'py, PyAny>>,
        http: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keys: Vec<_> = read_or_default("api_keys", api_keys)?;
        let http = read_or_default("http", http)?;
        let front = Front::new(http, &keys).map_err(to_python)?;
        let inner = self.inner.clone();
        awaitable(
            py,
            async move { Server::start(inner, address, front).await },
        )
    }

    /// The market as this coordinator sees it now, as a dictionary.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = py.detach(|| self.inner.status());
        to_object(py, &status)
    }

    /// Refuses new tasks, waits up to `grace` seconds for those in work, then stops.
    #[pyo3(signature = (grace=10.0))]
    fn close<'py>(&self, py: Python<'py>, grace: f64) -> PyResult<Bound<'py, PyAny>> {
        let grace = seconds("grace", grace)?;
        let inner = self.inner.clone();
        awaitable(py, async move {
            inner.shutdown(grace).await;
            Ok(())
        })
    }
}

/// A task that was accepted.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct Task {
    handle: TaskHandle,
}

#[pymethods]
impl Task {
    /// Its id, as hexadecimal text.
    #[getter]
    fn id(&self) -> String {
        self.handle.id().to_string()
    }

    /// Where it stands, as a dictionary with a `state`.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = py.detach(|| self.handle.state());
        to_object(py, &state)
    }

    /// Waits for the result; the task goes on when the wait is cancelled.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.handle.clone();
        awaitable(py, async move {
            Ok(TaskResult {
                inner: handle.result().await?,
            })
        })
    }

    /// Cancels the task; a miner in work is told with its next heartbeat.
    fn cancel<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.handle.clone();
        awaitable(py, async move { handle.cancel().await })
    }
}

/// A finished task.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct TaskResult {
    inner: cuckoo_core::TaskResult,
}

#[pymethods]
impl TaskResult {
    /// The task's id, as hexadecimal text.
    #[getter]
    fn task(&self) -> String {
        self.inner.task.to_string()
    }

    /// What came back.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.output.bytes)
    }

    /// Media type of `output`, such as `image/png`.
    #[getter]
    fn media_type(&self) -> &str {
        &self.inner.output.media_type
    }

    /// The miner's signed receipt, as a dictionary.
    #[getter]
    fn receipt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_object(py, &self.inner.receipt)
    }
}

fn task_spec(model: &str, input: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<TaskSpec> {
    let model: ModelId = model.parse().map_err(to_python)?;
    let spec = TaskSpec::new(model, from_object("input", input)?);
    Ok(match timeout {
        Some(timeout) => spec.with_timeout(seconds("timeout", timeout)?),
        None => spec,
    })
}

/// Seconds as Python counts them.
pub(crate) fn seconds(what: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        to_python(Error::invalid(format!(
            "{what} is a number of seconds, not negative"
        )))
    })
}
