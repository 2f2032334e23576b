//! Text generation: models of the Llama family in the folder layout of Hugging Face, or in one GGUF file.
//!
//! ```text
//! messages -> template -> vocabulary -> decoder <-> cache
//!                                          |
//! lines <- answer <- detokenizer <- sampler <-> grammar
//! ```
//!
//! `tokenizer.rs` is what is before the decoder, `token_sampler.rs` what is behind it; both serve engines of others, too.
//!
//! A folder holds `config.json`, safetensors weights (F32, F16 or BF16; computed in F32), `tokenizer.json`, and where the
//! model has them `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`. `family.rs` has the table of
//! families. A GGUF file stands for such a folder; `gguf.rs` says how. What a configuration asks for and this model does not do is an error that names the setting.
//!
//! One network serves many texts at once, and their numbers do not depend on each other: every layer computes each row
//! with the same operations in the same order whatever else is in the batch. So the same input gives the same bytes on
//! a busy miner and on an idle one, which is what lets a second miner check the first.

mod answer;
mod config;
mod decoder;
mod defaults;
mod detokenizer;
mod engine;
mod family;
mod gguf;
mod grammar;
mod rotary;
mod sampler;
mod sequence;
mod stop;
mod template;
mod token_sampler;
mod tokenizer;
mod vocabulary;

use std::path::Path;
use std::sync::Arc;

use cuckoo_core::{Message, Result, TextInput, TextPrompt};

use crate::kernels::{CpuKernels, Kernels};
use crate::model::cache::{Cache, Pool};
use crate::model::error::{self, Error};
use crate::model::folder::Folder;
use crate::model::weights::Weights;
use config::Config;
use decoder::{Chunk, Decoder};
pub(crate) use engine::Engine;
use gguf::Gguf;
pub(crate) use sampler::pick;
pub use token_sampler::TokenSampler;
pub use tokenizer::{TextDecoder, TextTokenizer};

/// Whether a family of models of this name, as `architectures` of a `config.json` has it, is run.
pub(crate) fn is_known(architecture: &str) -> bool {
    family::FAMILIES
        .iter()
        .any(|family| family.architecture == architecture)
}

/// Whether a path names a GGUF file, or a folder with one, of an architecture that is run.
pub(crate) fn is_run_gguf(path: &Path) -> bool {
    gguf::is_run(path)
}

/// A loaded language model. Texts share it; each call computes on the calling thread and the threads of the current rayon
/// pool, so call it from a thread that may block.
#[derive(Debug)]
pub struct LanguageModel {
    kernels: Arc<dyn Kernels>,
    decoder: Decoder,
    tokenizer: TextTokenizer,
    hash: [u8; 32],
    memory: u64,
}

impl LanguageModel {
    /// Reads a model's folder, or the GGUF file at that path or alone in it, to run on this machine's processor.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or a file in it is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged, does not fit the others, or asks for something
    /// that is not done, [`Unavailable`](cuckoo_core::ErrorKind::Unavailable) when the weights are more than the machine's
    /// free memory; the message names the file and the setting or tensor.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Arc::new(CpuKernels::new()))
    }

    /// As [`LanguageModel::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`LanguageModel::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        let Some(file) = gguf::find(folder)? else {
            return Ok(Self::read(&mut Folder::open(folder)?, None, kernels)?);
        };
        let file = Gguf::open(&file)?;
        let model = file
            .folder()
            .and_then(|mut folder| Self::read(&mut folder, Some(&file), kernels));
        Ok(model.map_err(|error| error.within(file.file()))?)
    }

    /// Reads a folder, or what stands for one.
    fn read(
        folder: &mut Folder,
        file: Option<&Gguf>,
        kernels: Arc<dyn Kernels>,
    ) -> error::Result<Self> {
        let mut config = Config::load(folder)?;
        let (size, context) = (Some(config.vocabulary), Some(config.context));
        let tokenizer = TextTokenizer::read(folder, size, context, &config.ends)?;
        let weights = match file {
            Some(file) => file.weights(folder, &mut config, kernels.device())?,
            None => Weights::open(folder, "", "model", kernels.device())?,
        };
        weights.fit(folder)?;
        Ok(Self {
            decoder: Decoder::load(&weights, config, &*kernels)?,
            tokenizer,
            hash: folder.hash(),
            memory: folder.memory,
            kernels,
        })
    }

    /// The same model with texts that nothing ends but their limits, to measure how fast they are written.
    pub(crate) fn endless(mut self) -> Self {
        self.tokenizer.ends.clear();
        self
    }

    /// Names exactly which model this is: a SHA-256 over the names, sizes and contents of the files that were read.
    pub fn model_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// How much memory its weights take, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Names the arithmetic; outputs of miners with equal names are compared exactly. See [`Kernels::text_name`].
    pub fn kernels(&self) -> &str {
        self.kernels.text_name()
    }

    /// The longest text, prompt and answer together, in tokens.
    pub fn context(&self) -> usize {
        self.decoder.config().context
    }

    /// How many tokens it tells apart.
    pub fn vocabulary(&self) -> usize {
        self.decoder.config().vocabulary
    }

    /// Whether it takes conversations; every model takes prompts.
    pub fn chats(&self) -> bool {
        self.tokenizer.chats()
    }

    /// The text that the model's template makes of a conversation, ready for its answer.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the model has no template, or the template does not take such a
    /// conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.tokenizer.render(messages)
    }

    /// The tokens of a conversation, through the model's template, or of a prompt, with the marks that the tokenizer
    /// puts around a text.
    ///
    /// # Errors
    /// As [`LanguageModel::render`], and when there are no tokens, or as many as the context or more.
    pub fn tokens(&self, prompt: TextPrompt<'_>) -> Result<Vec<u32>> {
        self.tokenizer.tokens(prompt)
    }

    /// The text of some tokens, special ones left out.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the tokenizer cannot decode them.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.text(tokens)
    }

    /// For each of the tokens, the scores (logits) of the one after it.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) for no tokens, unknown ones, or more than the context;
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails.
    pub fn scores(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        Ok(self.run(
            &mut Cache::default(),
            &mut self.pool(),
            tokens,
            tokens.len(),
        )?)
    }

    /// The likeliest `count` tokens after the given ones, one after another, whatever ends a text.
    ///
    /// # Errors
    /// As [`LanguageModel::scores`].
    pub fn likeliest(&self, tokens: &[u32], count: usize) -> Result<Vec<u32>> {
        let (mut pool, mut cache) = (self.pool(), Cache::default());
        let mut next = tokens.to_vec();
        let mut made = Vec::with_capacity(count);
        for _ in 0..count {
            let scores = self.run(&mut cache, &mut pool, &next, 1)?;
            let scores = scores.first().map(Vec::as_slice).unwrap_or_default();
            let mut best = 0;
            for (token, score) in scores.iter().enumerate() {
                if *score > scores[best] {
                    best = token;
                }
            }
            next = vec![best as u32];
            made.push(best as u32);
        }
        Ok(made)
    }

    /// A text of this model, at its beginning, as a task's input that was checked asks for it. See [`TokenSampler::new`].
    pub(crate) fn begin(&self, input: TextInput) -> Result<TokenSampler> {
        Ok(TokenSampler::begin(self.tokenizer.clone(), input)?)
    }

    /// Room for one text of any length.
    fn pool(&self) -> Pool {
        let pages = Cache::pages_for(self.context());
        Pool::new(self.decoder.page_size(), pages, self.kernels.device())
    }

    /// Goes on with one text.
    fn run(
        &self,
        cache: &mut Cache,
        pool: &mut Pool,
        tokens: &[u32],
        wanted: usize,
    ) -> error::Result<Vec<Vec<f32>>> {
        let known = |token: &u32| (*token as usize) < self.vocabulary();
        let total = cache.length() + tokens.len();
        if tokens.is_empty() || !tokens.iter().all(known) || total > self.context() {
            let problem = format!(
                "are none, unknown, or too many: the model has {} and room for {}",
                self.vocabulary(),
                self.context()
            );
            return Err(Error::request("tokens", problem));
        }
        cache.grow(pool, total)?;
        let mut chunk = [Chunk {
            tokens,
            cache,
            wanted,
        }];
        self.decoder.forward(&*self.kernels, &mut chunk)
    }
}

#[cfg(test)]
mod tests;
