//! A miner that cheats: it computes one picture, then signs for that picture whatever it is asked.

use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, Result};
use cuckoo_miner::{Execution, Executor, TaskContext};
use tokio::sync::OnceCell;

/// Runs the wrapped executor once and returns that execution for ever.
#[derive(Debug)]
pub(crate) struct CachingExecutor {
    honest: Arc<dyn Executor>,
    cached: OnceCell<Execution>,
}

impl CachingExecutor {
    pub(crate) fn new(honest: Arc<dyn Executor>) -> Self {
        Self {
            honest,
            cached: OnceCell::new(),
        }
    }
}

#[async_trait]
impl Executor for CachingExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        self.honest.capabilities()
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let execution = self
            .cached
            .get_or_try_init(|| self.honest.execute(task, context))
            .await?;
        Ok(execution.clone())
    }
}
