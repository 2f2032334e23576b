//! Chats with an engine of your own: tokens go in and scores come out, all else is the SDK's.

use std::path::Path;
use std::sync::Arc;

use cuckoo_core::{Assignment, B256, Capability, Error, ModelId, Result, TextInput};
use cuckoo_miner::{Execution, Executor, LanguageModel, TaskContext, TextTokenizer, TokenSampler};

#[derive(Debug, Clone)]
pub(crate) struct Chat {
    name: ModelId,
    tokenizer: TextTokenizer,
    /// Stands for your engine.
    engine: Arc<LanguageModel>,
}

impl Chat {
    pub(crate) fn load(folder: &Path, name: ModelId) -> Result<Self> {
        Ok(Self {
            name,
            tokenizer: TextTokenizer::load(folder)?,
            engine: Arc::new(LanguageModel::load(folder)?),
        })
    }

    /// The scores of what follows these tokens.
    fn scores(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let last = self.engine.scores(tokens)?.pop();
        last.ok_or_else(|| Error::execution("the engine gave no scores"))
    }

    fn write(&self, input: TextInput, context: &TaskContext) -> Result<Execution> {
        let mut text = TokenSampler::new(&self.tokenizer, input)?;
        let mut scores = self.scores(text.tokens())?;
        while let Some(_token) = text.sample(&scores, context)? {
            // An engine that remembers what it read goes on from the new token alone.
            scores = self.scores(text.tokens())?;
        }
        text.finish(context)
    }
}

#[async_trait::async_trait]
impl Executor for Chat {
    fn capabilities(&self) -> Vec<Capability> {
        // Of the files that decide the output; the kernels' name is yours, and says what else does: device, precision,
        // the versions of your engine and of `cuckoo-miner`.
        let hash = B256::from(self.engine.model_hash());
        vec![Capability::new(self.name.clone(), hash, "my-engine-1")]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = TextInput::read(&task.input)?;
        let chat = self.clone();
        tokio::task::spawn_blocking(move || chat.write(input, &context))
            .await
            .map_err(|join| Error::execution("the engine failed").with_source(join))?
    }
}
