//! Sentence embeddings: encoders of the BERT family, in the folder layouts of sentence-transformers and of Hugging Face.
//!
//! ```text
//! texts -> reader -> encoder -> pooling -> steps -> vectors
//! ```
//!
//! A folder holds `config.json`, safetensors weights (F32, F16 or BF16; computed in F32) and `tokenizer.json`; where
//! `modules.json` is there too, the steps it names follow the encoder, and without it the mean of the tokens is taken. Both
//! is what sentence-transformers does. `family.rs` has the table of families. What a folder asks for and this model does not
//! do is an error that names the setting.
//!
//! Many texts are computed at once, one after another in the rows of a batch, without padding. Every layer computes each row
//! with the same operations in the same order whatever else is in the batch, so a text's vector has the same bits on a busy
//! miner and on an idle one.

mod config;
mod encoder;
mod engine;
mod executor;
mod family;
mod layout;
mod pooling;
mod reader;
mod steps;

use std::path::Path;
use std::sync::Arc;

use cuckoo_core::Result;
use rayon::prelude::*;

use crate::kernels::{CpuKernels, Kernels};
use crate::model::error::{self, Error};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;
use crate::model::weights::Weights;
use config::Config;
use encoder::Encoder;
pub use executor::{EmbeddingExecutor, EmbeddingLimits};
use family::FAMILIES;
use layout::{Layout, MODULES};
use pooling::Pooling;
use reader::Reader;
use steps::Step;

/// A loaded sentence encoder. Texts share it; each call computes on the calling thread and the threads of the current rayon
/// pool, so call it from a thread that may block.
#[derive(Debug)]
pub struct EmbeddingModel {
    kernels: Arc<dyn Kernels>,
    reader: Reader,
    encoder: Encoder,
    pooling: Pooling,
    steps: Vec<Step>,
    hash: [u8; 32],
    memory: u64,
}

impl EmbeddingModel {
    /// Whether `folder` says that it holds a sentence encoder: by `modules.json`, or by `architectures` in `config.json`.
    ///
    /// It may still ask for something that is not done; [`load`](Self::load) says what.
    pub(crate) fn recognises(folder: &Path) -> bool {
        if folder.join(MODULES).is_file() {
            return true;
        }
        let names = || -> error::Result<serde_json::Value> {
            let bytes = Folder::open(folder)?.bytes("config.json", SETTINGS_LIMIT)?;
            let architectures = Settings::parse("config.json", &bytes)?.take("architectures");
            Ok(architectures.unwrap_or_default())
        };
        names().is_ok_and(|names| {
            let all = FAMILIES.iter().flat_map(|family| family.architectures);
            all.into_iter().any(|name| names[0] == name)
        })
    }

    /// Reads a model's folder, to run on this machine's processor.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or a file in it is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged, does not fit the others, or asks for something
    /// that is not done, [`Unavailable`](cuckoo_core::ErrorKind::Unavailable) when the weights are more than the machine's
    /// free memory; the message names the file and the setting or tensor.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Arc::new(CpuKernels::new()))
    }

    /// As [`EmbeddingModel::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`EmbeddingModel::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        Ok(Self::read(&mut Folder::open(folder)?, kernels)?)
    }

    fn read(folder: &mut Folder, kernels: Arc<dyn Kernels>) -> error::Result<Self> {
        let layout = Layout::load(folder)?;
        let config = Config::load(folder, &layout.encoder)?;
        let reader = Reader::load(folder, &layout, &config)?;
        let pooling = match &layout.pooling {
            Some(path) => {
                let file = format!("{path}/config.json");
                let settings = Settings::parse(&file, &folder.bytes(&file, SETTINGS_LIMIT)?)?;
                Pooling::read(settings, config.width, !layout.prompt.is_empty())?
            }
            None => Pooling::default(),
        };
        let mut width = pooling.width(config.width);
        let mut steps = Vec::new();
        for (kind, path) in &layout.steps {
            let step = Step::load(folder, *kind, path, width, &*kernels)?;
            width = step.width(width);
            steps.push(step);
        }
        let part = layout.encoder.trim_end_matches('/');
        let weights = Weights::open(folder, part, "model", kernels.device())?;
        weights.fit(folder)?;
        Ok(Self {
            encoder: Encoder::load(&weights, config, reader.longest(), &*kernels)?,
            reader,
            pooling,
            steps,
            hash: folder.hash(),
            memory: folder.memory,
            kernels,
        })
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

    /// The most tokens of a text, its marks included; what is beyond is cut off.
    pub fn longest(&self) -> usize {
        self.reader.longest()
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        let pooled = self.pooling.width(self.encoder.config().width);
        self.steps
            .iter()
            .fold(pooled, |width, step| step.width(width))
    }

    /// The tokens of a text: with the model's own prompt before it, if it has one, with the marks around it, and cut to the
    /// [`longest`](Self::longest).
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when there are none.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.reader.tokens(text)?)
    }

    /// A vector for each text, all in one batch. An empty text has one, too.
    ///
    /// # Errors
    /// As [`EmbeddingModel::tokens`]; [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails, or a vector holds
    /// numbers that are not finite.
    pub fn embed(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Vec<Vec<f32>>> {
        let tokens = self.read_all(texts)?;
        let tokens: Vec<_> = tokens.iter().map(Vec::as_slice).collect();
        Ok(self.run(&tokens)?)
    }

    /// The tokens of each text.
    fn read_all(&self, texts: &[impl AsRef<str> + Sync]) -> error::Result<Vec<Vec<u32>>> {
        let read = |text: &_| self.reader.tokens(AsRef::as_ref(text));
        texts.par_iter().map(read).collect()
    }

    /// The vectors of texts with these tokens: at least one each, at most [`longest`](Self::longest), none unknown.
    fn run(&self, texts: &[&[u32]]) -> error::Result<Vec<Vec<f32>>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let kernels = &*self.kernels;
        let width = self.encoder.config().width;
        let tokens = self.encoder.forward(kernels, texts)?;
        let tokens: Vec<f32> = tokens.flatten_all()?.to_vec1()?;
        let mut rest = &tokens[..];
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let (own, after) = rest.split_at(text.len() * width);
            vectors.push(self.pooling.pool(own, width));
            rest = after;
        }
        for step in &self.steps {
            vectors = step.forward(kernels, vectors)?;
        }
        match vectors.iter().flatten().all(|number| number.is_finite()) {
            true => Ok(vectors),
            false => Err(Error::VectorNotFinite),
        }
    }
}

#[cfg(test)]
mod tests;
