//! Texts to vectors as an executor.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, Capability, Clock, EmbeddingsInput, Error, ModelId, Result, SystemClock, Wei,
};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::EmbeddingModel;
use super::engine::Engine;
use crate::limits;
use crate::{Execution, Executor, TaskContext, Trial};

/// How much an [`EmbeddingExecutor`] takes, and does at once. None of it changes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingLimits {
    /// Tokens of a batch (1 to 1048576), over all tasks in work; a text with more has a batch to itself. Between batches tasks
    /// join, are cancelled, and report progress.
    pub batch_tokens: usize,
    /// Texts of a task (1 to 2048); one with more goes back for another miner.
    pub max_texts: usize,
    /// Length of a task's input, all its texts together, in bytes (1 to 1073741824). Longer ones are not offered to this
    /// miner, and coordinators have a limit of their own.
    pub max_input_bytes: u64,
}

impl Default for EmbeddingLimits {
    fn default() -> Self {
        Self {
            batch_tokens: 2048,
            max_texts: EmbeddingsInput::MAX_TEXTS,
            max_input_bytes: 1 << 20,
        }
    }
}

impl EmbeddingLimits {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) naming the field and its range.
    pub fn validate(&self) -> Result<()> {
        limits::check(&[
            ("batch_tokens", self.batch_tokens as u64, 1 << 20),
            (
                "max_texts",
                self.max_texts as u64,
                EmbeddingsInput::MAX_TEXTS as u64,
            ),
            ("max_input_bytes", self.max_input_bytes, 1 << 30),
        ])
    }
}

/// Embeds texts with a sentence encoder on this machine.
///
/// Input and output are what `docs/tasks.md` says of embeddings: [`EmbeddingsInput`] and
/// [`Embeddings`](cuckoo_core::Embeddings). Equal texts give equal bytes on all miners whose kernels have the same name,
/// however busy they are. Clones share the model and its thread.
#[derive(Debug, Clone)]
pub struct EmbeddingExecutor {
    model: Arc<EmbeddingModel>,
    name: ModelId,
    min_price: Wei,
    limits: EmbeddingLimits,
    clock: Arc<dyn Clock>,
    /// Started with the first task.
    engine: Arc<OnceCell<Engine>>,
}

impl EmbeddingExecutor {
    /// Loads the model in `folder` (the layout of sentence-transformers, or of Hugging Face) and offers it as `name`. Blocks
    /// while it reads.
    ///
    /// [`EmbeddingLimits::default`]; free of charge.
    ///
    /// # Errors
    /// `NotFound` when the folder or a file in it is missing, `Invalid` when one is damaged or asks for something that is
    /// not done, `Unavailable` when the model is larger than the machine's free memory.
    pub fn load(folder: impl AsRef<Path>, name: ModelId) -> Result<Self> {
        let model = EmbeddingModel::load(folder.as_ref())?;
        Ok(Self::new(Arc::new(model), name))
    }

    /// Offers a loaded model as `name`, with the limits of [`load`](Self::load).
    pub fn new(model: Arc<EmbeddingModel>, name: ModelId) -> Self {
        Self {
            model,
            name,
            min_price: Wei::ZERO,
            limits: EmbeddingLimits::default(),
            clock: Arc::new(SystemClock),
            engine: Arc::default(),
        }
    }

    /// Asks at least `price` wei for a task.
    #[must_use]
    pub fn with_min_price(mut self, price: Wei) -> Self {
        self.min_price = price;
        self
    }

    /// Takes and does so much.
    ///
    /// # Errors
    /// As [`EmbeddingLimits::validate`].
    pub fn with_limits(mut self, limits: EmbeddingLimits) -> Result<Self> {
        limits.validate()?;
        self.limits = limits;
        self.engine = Arc::default();
        Ok(self)
    }

    /// Tells deadlines by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.engine = Arc::default();
        self
    }

    /// The loaded model.
    pub fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    async fn engine(&self) -> Result<&Engine> {
        let start = async || {
            let model = Arc::clone(&self.model);
            let clock = Arc::clone(&self.clock);
            Engine::start(model, self.limits.batch_tokens, clock).map_err(|source| {
                Error::execution("the model's thread cannot be started").with_source(source)
            })
        };
        self.engine.get_or_try_init(start).await
    }
}

#[async_trait]
impl Executor for EmbeddingExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = B256::from(self.model.model_hash());
        vec![Capability {
            min_price: self.min_price,
            max_input_bytes: self.limits.max_input_bytes,
            ..Capability::new(self.name.clone(), hash, self.model.kernels())
        }]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let EmbeddingsInput { texts, .. } = EmbeddingsInput::read(&task.input)?;
        if texts.len() > self.limits.max_texts {
            return Err(Error::rejected(format!(
                "the task has {} texts, and this miner takes {}; assign it to another one",
                texts.len(),
                self.limits.max_texts
            )));
        }
        let model = Arc::clone(&self.model);
        let tokens = tokio::task::spawn_blocking(move || model.read_all(&texts))
            .await
            .map_err(|join| Error::execution("reading the texts failed").with_source(join))??;
        self.engine().await?.run(tokens, context).await
    }

    fn memory(&self) -> u64 {
        self.model.memory()
    }

    /// Bytes to read.
    fn work(&self, task: &Assignment) -> Option<f64> {
        let input = EmbeddingsInput::read(&task.input).ok()?;
        let bytes: usize = input.texts.iter().map(String::len).sum();
        Some(bytes as f64)
    }

    fn trials(&self, _: &ModelId) -> Vec<Trial> {
        let trial = |texts: usize| {
            let list = vec!["\"a first task\""; texts].join(",");
            let input = format!(r#"{{"texts":[{list}],"seed":1}}"#);
            Trial::new(format!("an embedding of {texts} texts"), input)
        };
        let most = self.limits.max_texts;
        [1, most.min(16)].map(trial).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        let good = EmbeddingLimits::default();
        good.validate().unwrap();
        for (limits, named) in [
            (
                EmbeddingLimits {
                    batch_tokens: 0,
                    ..good
                },
                "batch_tokens",
            ),
            (
                EmbeddingLimits {
                    max_texts: 2049,
                    ..good
                },
                "max_texts",
            ),
            (
                EmbeddingLimits {
                    max_input_bytes: 0,
                    ..good
                },
                "max_input_bytes",
            ),
        ] {
            let error = limits.validate().unwrap_err();
            assert!(error.message().contains(named), "{error}");
        }
    }
}
