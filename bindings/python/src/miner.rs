//! `Miner`.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::convert::to_object;
use crate::coordinator::seconds;
use crate::runtime::awaitable;

/// Polls its coordinator, runs tasks and signs for them.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct Miner {
    inner: Arc<cuckoo_miner::Miner>,
}

impl Miner {
    pub(crate) fn new(inner: cuckoo_miner::Miner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }
}

#[pymethods]
impl Miner {
    /// The latest voucher of each coordinator, as dictionaries.
    fn vouchers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let vouchers = py.detach(|| self.inner.vouchers());
        to_object(py, &vouchers)
    }

    /// Stops taking work, waits up to `grace` seconds for the runs in work, then cancels them.
    #[pyo3(signature = (grace=10.0))]
    fn close<'py>(&self, py: Python<'py>, grace: f64) -> PyResult<Bound<'py, PyAny>> {
        let grace = seconds("grace", grace)?;
        let inner = Arc::clone(&self.inner);
        awaitable(py, async move {
            inner.shutdown(grace).await;
            Ok(())
        })
    }
}
