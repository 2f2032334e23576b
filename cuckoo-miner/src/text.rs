//! Text to text as an executor: a conversation or a prompt as input, lines of text as output.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, Capability, Clock, Error, ModelId, Result, SystemClock, TextInput,
    TextPrompt, Wei,
};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::language::{Engine, LanguageModel};
use crate::limits;
use crate::{Execution, Executor, TaskContext, Trial};

/// How much of a written token's work a byte of a prompt is, about: a token is four bytes, and read eight times as fast as
/// it is written.
const PROMPT_BYTE: f64 = 1.0 / 32.0;

/// How much a [`TextExecutor`] does at once. None of it changes what a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextLimits {
    /// Texts in work at once, which share each step (1 to 1024); others wait.
    pub texts: usize,
    /// Memory for what the model remembers of all of them, in mebibytes; at the least one page of 64 tokens is kept.
    pub memory_mib: u64,
    /// Tokens of prompts read in one step (1 to 65536): the more, the sooner a long prompt is read and the longer the
    /// others wait for their next token meanwhile.
    pub chunk: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        Self {
            texts: 8,
            memory_mib: 2048,
            chunk: 64,
        }
    }
}

impl TextLimits {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) naming the field and its range.
    pub fn validate(&self) -> Result<()> {
        limits::check(&[
            ("texts", self.texts as u64, 1024),
            ("memory_mib", self.memory_mib, 1 << 30),
            ("chunk", self.chunk as u64, 65_536),
        ])
    }
}

/// Chats and completes with a language model on this machine.
///
/// Input and output are what `docs/tasks.md` says of text: [`TextInput`], and lines that are emitted as they are made.
/// What an input leaves open is as the model's `generation_config.json` says. Equal inputs give equal bytes on all
/// miners whose kernels have the same name, however busy they are. Clones share the model and its thread.
#[derive(Debug, Clone)]
pub struct TextExecutor {
    model: Arc<LanguageModel>,
    name: ModelId,
    min_price: Wei,
    limits: TextLimits,
    clock: Arc<dyn Clock>,
    /// Started with the first task.
    engine: Arc<OnceCell<Engine>>,
}

impl TextExecutor {
    /// Loads the model in `folder` (the layout of Hugging Face, or a GGUF file in it or at that path) and offers it as `name`.
    /// Blocks while it reads.
    ///
    /// [`TextLimits::default`]; free of charge.
    ///
    /// # Errors
    /// `NotFound` when the folder or a file in it is missing, `Invalid` when one is damaged or asks for something that is
    /// not done, `Unavailable` when the model is larger than the machine's free memory.
    pub fn load(folder: impl AsRef<Path>, name: ModelId) -> Result<Self> {
        let model = LanguageModel::load(folder.as_ref())?;
        Ok(Self::new(Arc::new(model), name))
    }

    /// Offers a loaded model as `name`, with the limits of [`load`](Self::load).
    pub fn new(model: Arc<LanguageModel>, name: ModelId) -> Self {
        Self {
            model,
            name,
            min_price: Wei::ZERO,
            limits: TextLimits::default(),
            clock: Arc::new(SystemClock),
            engine: Arc::default(),
        }
    }

    /// Asks at least `price` wei for a text.
    #[must_use]
    pub fn with_min_price(mut self, price: Wei) -> Self {
        self.min_price = price;
        self
    }

    /// Does so much at once.
    ///
    /// # Errors
    /// As [`TextLimits::validate`].
    pub fn with_limits(mut self, limits: TextLimits) -> Result<Self> {
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
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    async fn engine(&self) -> Result<&Engine> {
        let start = async || {
            let model = Arc::clone(&self.model);
            Engine::start(model, self.limits, Arc::clone(&self.clock)).map_err(|source| {
                Error::execution("the model's thread cannot be started").with_source(source)
            })
        };
        self.engine.get_or_try_init(start).await
    }
}

#[async_trait]
impl Executor for TextExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = B256::from(self.model.model_hash());
        vec![Capability {
            min_price: self.min_price,
            ..Capability::new(self.name.clone(), hash, self.model.kernels())
        }]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = TextInput::read(&task.input)?;
        let model = Arc::clone(&self.model);
        // A long conversation takes a while to cut into tokens.
        let text = tokio::task::spawn_blocking(move || model.begin(input))
            .await
            .map_err(|join| Error::execution("reading the prompt failed").with_source(join))??;
        self.engine().await?.run(text, context).await
    }

    fn memory(&self) -> u64 {
        self.model.memory()
    }

    /// Tokens to write at the most, and those to read, of which a byte counts a thirty-second. Unknown where the input does
    /// not say how much to write: hardly any text is as long as the model's context.
    fn work(&self, task: &Assignment) -> Option<f64> {
        let input = TextInput::read(&task.input).ok()?;
        let context = self.model.context();
        let bytes = match input.prompt() {
            TextPrompt::Prompt(prompt) => prompt.len(),
            TextPrompt::Messages(messages) => {
                let lengths = messages.iter().map(|message| message.content.len());
                lengths.sum::<usize>()
            }
        };
        let written = (input.max_tokens? as usize).min(context);
        Some(written as f64 + bytes as f64 * PROMPT_BYTE)
    }

    fn concurrency(&self) -> usize {
        self.limits.texts
    }

    fn trials(&self, _: &ModelId) -> Vec<Trial> {
        let trial = |tokens: usize| {
            let what = format!("a text of {tokens} tokens");
            let input = format!(r#"{{"prompt":"A first task","seed":1,"max_tokens":{tokens}}}"#);
            Trial::new(what, input)
        };
        [1, 16].map(trial).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        TextLimits::default().validate().unwrap();
        let none = TextLimits {
            texts: 0,
            ..TextLimits::default()
        };
        assert!(none.validate().unwrap_err().message().contains("texts"));
        let chunk = TextLimits {
            chunk: 1 << 20,
            ..TextLimits::default()
        };
        assert!(chunk.validate().unwrap_err().message().contains("chunk"));
    }
}
