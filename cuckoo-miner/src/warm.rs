//! More models than fit into memory: executors that take turns in a budget of bytes.
//!
//! A model is loaded when a task needs it and stays loaded, warm, while there is room. When there is none, idle models
//! make room, the one that was idle longest first; a model in use is never unloaded. A model that tasks wait for elsewhere is
//! loaded before one of them comes, when idle models that nobody waits for leave room and no task here does without it.

mod pool;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, Error, ErrorKind, ModelId, Result, Retry};

use crate::{Execution, Executor, TaskContext, Trial};
use pool::Pool;

type Load = dyn Fn() -> Result<Arc<dyn Executor>> + Send + Sync;

/// Executors that share a budget of memory. Clones share it too.
///
/// ```
/// use std::sync::Arc;
/// use cuckoo_miner::{Executor, ImageExecutor, WarmPool};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let pool = WarmPool::new(64 << 20);
/// let shapes = pool
///     .add(|| {
///         let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/shapes");
///         Ok(Arc::new(ImageExecutor::load(folder, "shapes".parse()?)?))
///     })
///     .await?;
/// // To a miner's builder, like any other executor.
/// assert_eq!(shapes.warm(), ["shapes".parse()?]);
/// assert!(shapes.memory() < pool.budget());
/// # Ok::<(), cuckoo_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct WarmPool(Arc<Pool>);

impl WarmPool {
    /// A pool in which loaded executors take `budget` bytes at most, by what their [`Executor::memory`] says.
    pub fn new(budget: u64) -> Self {
        Self(Arc::new(Pool::new(budget)))
    }

    /// The most bytes that loaded executors take.
    pub fn budget(&self) -> u64 {
        self.0.budget()
    }

    /// The bytes that loaded executors take now, those that are being loaded included.
    pub fn used(&self) -> u64 {
        self.0.used()
    }

    /// Adds the executor that `load` makes. It is loaded once now, to see what it offers and how much memory it takes,
    /// and stays if there is room beside those added before. `load` runs on a thread of its own and may block.
    ///
    /// # Errors
    /// Those of `load`; `Invalid` when it takes more than the whole budget.
    pub async fn add(
        &self,
        load: impl Fn() -> Result<Arc<dyn Executor>> + Send + Sync + 'static,
    ) -> Result<Arc<dyn Executor>> {
        let load: Arc<Load> = Arc::new(load);
        let executor = blocking(Arc::clone(&load)).await?;
        let (offers, memory) = (executor.capabilities(), executor.memory());
        let concurrency = executor.concurrency();
        let trials = offers
            .iter()
            .map(|offer| (offer.model.clone(), executor.trials(&offer.model)))
            .collect();
        if memory > self.budget() {
            let names: Vec<_> = offers.iter().map(|offer| offer.model.to_string()).collect();
            return Err(Error::invalid(format!(
                "`{}` takes {} MiB of memory and the budget for models is {} MiB; raise it, or leave the model out",
                names.join("`, `"),
                memory.div_ceil(1 << 20),
                self.budget() >> 20
            )));
        }
        let models = offers.iter().map(|offer| offer.model.clone());
        let place = self.0.add(memory, models.collect(), executor);
        Ok(Arc::new(Warmed {
            pool: Arc::clone(&self.0),
            place,
            load,
            offers,
            memory,
            concurrency,
            trials,
        }))
    }
}

async fn blocking(load: Arc<Load>) -> Result<Arc<dyn Executor>> {
    tokio::task::spawn_blocking(move || load())
        .await
        .map_err(|join| Error::execution("loading a model failed").with_source(join))?
}

/// One executor of a pool, loaded or not.
struct Warmed {
    pool: Arc<Pool>,
    place: usize,
    load: Arc<Load>,
    offers: Vec<Capability>,
    memory: u64,
    concurrency: usize,
    trials: HashMap<ModelId, Vec<Trial>>,
}

impl std::fmt::Debug for Warmed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warmed")
            .field("offers", &self.offers)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Executor for Warmed {
    fn capabilities(&self) -> Vec<Capability> {
        self.offers.clone()
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn warm(&self) -> Vec<ModelId> {
        let models = self.offers.iter().map(|offer| offer.model.clone());
        match self.pool.is_loaded(self.place) {
            true => models.collect(),
            false => Vec::new(),
        }
    }

    /// Unknown while it is not loaded.
    fn work(&self, task: &Assignment) -> Option<f64> {
        self.pool.loaded(self.place)?.work(task)
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn trials(&self, model: &ModelId) -> Vec<Trial> {
        self.trials.get(model).cloned().unwrap_or_default()
    }

    /// Loads it if it is the most wanted of the pool that is not there and finds room. Each executor of a pool is told all that
    /// is wanted, and so each knows whether it is its turn.
    fn wanted(&self, models: &[ModelId]) {
        if self.pool.want(models) == Some(self.place) {
            let load = Arc::clone(&self.load);
            let preload = Arc::clone(&self.pool).preload(self.place, || blocking(load));
            tokio::spawn(preload);
        }
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let load = || blocking(Arc::clone(&self.load));
        let ready = tokio::select! {
            ready = self.pool.acquire(self.place, load) => ready,
            () = context.cancelled() => return Err(Error::cancelled("cancelled while its model was loaded")),
        };
        let lease = ready.map_err(|source| {
            let message = format!("the model `{}` could not be loaded again", task.model);
            match source.kind() {
                // Memory that others took: another miner may have some.
                ErrorKind::Unavailable => Error::rejected(message).with_retry(Retry::Later),
                _ => Error::execution(message),
            }
            .with_source(source)
        })?;
        let executor = lease.executor();
        if executor.capabilities() != self.offers {
            return Err(Error::execution(format!(
                "the files of `{}` are not what they were when the miner started, and another hash was announced; \
                 restart the miner",
                task.model
            )));
        }
        executor.execute(task, context).await
    }
}
