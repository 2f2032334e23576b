//! `Server`.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use cuckoo_coordinator::{Coordinator, Front, router_with, serve};
use cuckoo_core::{Error, Result};
use pyo3::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::runtime::awaitable;

/// A coordinator behind HTTP, until it is closed.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Server {
    pub(crate) async fn start(
        coordinator: Coordinator,
        address: String,
        front: Front,
    ) -> Result<Self> {
        let refused =
            |source| Error::unavailable(format!("cannot listen at {address}")).with_source(source);
        let listener = TcpListener::bind(&address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let (stop, stopped) = oneshot::channel();
        let routes = router_with(coordinator, front);
        let served = tokio::spawn(serve(listener, routes, async {
            // Closed, or gone together with its object.
            let _ = stopped.await;
        }));
        Ok(Self {
            address: bound,
            running: Mutex::new(Some((stop, served))),
        })
    }
}

#[pymethods]
impl Server {
    /// Where it is reached, such as `http://127.0.0.1:8480`.
    #[getter]
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more requests and waits up to five seconds for those in work.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        awaitable(py, async move {
            if let Some((stop, served)) = running {
                // It may have ended by itself.
                let _ = stop.send(());
                let _ = served.await;
            }
            Ok(())
        })
    }
}
