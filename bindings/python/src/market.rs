//! `LocalMarket`: a chain in this process, and coordinators and miners registered on it.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    DeployConfig, DevChain, Entropy, Key, LocalMarket as Market, OsEntropy, SeededEntropy,
    SystemClock, cai, parse_cai,
};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert::{from_object, read_or_default};
use crate::coordinator::Coordinator;
use crate::executor;
use crate::miner::Miner;
use crate::runtime::awaitable;

/// How long a new member waits for its votes to count.
const PATIENCE: Duration = Duration::from_secs(20);

/// A market in this process: the contracts on an in-process chain, and an account that funds whoever joins.
#[pyclass(frozen, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct LocalMarket {
    market: Market,
    entropy: Arc<dyn Entropy>,
}

#[pymethods]
impl LocalMarket {
    /// Deploys the contracts on a fresh chain. With a `seed`, keys, seeds and audit draws repeat.
    #[staticmethod]
    #[pyo3(signature = (*, seed=None))]
    fn open(py: Python<'_>, seed: Option<u64>) -> PyResult<Bound<'_, PyAny>> {
        awaitable(py, async move {
            let entropy: Arc<dyn Entropy> = match seed {
                Some(seed) => Arc::new(SeededEntropy::from_number(seed)),
                None => Arc::new(OsEntropy::new()?),
            };
            let treasury = Key::random(entropy.as_ref());
            let chain = DevChain::new(Arc::new(SystemClock));
            chain.fund(treasury.address(), cai(1_000_000_000));
            let contracts = chain.deploy(&treasury, &DeployConfig::demo()).await?;
            Ok(Self {
                market: Market::new(contracts, treasury, Arc::clone(&entropy)),
                entropy,
            })
        })
    }

    /// Registers a coordinator and starts it with `settings`: at least `{"models": [{"model": ..., "price": ...}]}`.
    #[pyo3(signature = (settings, *, name="coordinator".to_owned()))]
    fn coordinator<'py>(
        &self,
        py: Python<'py>,
        settings: &Bound<'py, PyAny>,
        name: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = from_object("settings", settings)?;
        let (market, entropy) = (self.market.clone(), Arc::clone(&self.entropy));
        awaitable(py, async move {
            let member = market
                .add_coordinator(&name, cai(2_000_000), cai(10_000))
                .await?;
            market.settle(&[&member], &SystemClock, PATIENCE).await?;
            let builder = cuckoo_coordinator::Coordinator::builder()
                .settings(settings)
                .chain(market.chain())
                .operator(member.operator)
                .entropy(entropy);
            Ok(Coordinator::new(builder.start().await?))
        })
    }

    /// Registers a miner with `stake` CAI and starts it: it serves `coordinator` with `executors`, which are the package's
    /// own (`ImageExecutor` and the like) or objects with `capabilities()` and `async execute(task, context)`, and where
    /// wanted `work(task)` and `trials(model)`.
    #[pyo3(signature = (coordinator, executors, *, name="miner".to_owned(), stake="20000".to_owned(), settings=None))]
    fn miner<'py>(
        &self,
        py: Python<'py>,
        coordinator: &Coordinator,
        executors: &Bound<'py, PyList>,
        name: String,
        stake: String,
        settings: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = read_or_default("settings", settings)?;
        let executors = executors
            .iter()
            .map(|object| executor::from_object(&object))
            .collect::<PyResult<Vec<_>>>()?;
        let protocol = coordinator.inner().protocol();
        let (market, entropy) = (self.market.clone(), Arc::clone(&self.entropy));
        awaitable(py, async move {
            let member = market.add_miner(&name, parse_cai(&stake)?).await?;
            market.settle(&[&member], &SystemClock, PATIENCE).await?;
            let mut builder = cuckoo_miner::Miner::builder()
                .operator(member.operator)
                .coordinator(protocol)
                .chain(market.chain())
                .entropy(entropy)
                .settings(settings);
            for executor in executors {
                builder = builder.executor(executor);
            }
            Ok(Miner::new(builder.start().await?))
        })
    }
}
