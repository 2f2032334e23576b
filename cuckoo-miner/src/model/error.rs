//! What can go wrong with a model folder, a request or a run.

use std::io;

use cuckoo_core::{Error as CoreError, ErrorKind};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of everything that reads or runs a model; it leaves the crate as a [`cuckoo_core::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the model folder lacks {file}; check the path and that the download is complete")]
    Missing { file: String },

    #[error("{file} cannot be read: {source}; check the file's permissions and the disk")]
    Read { file: String, source: io::Error },

    #[error(
        "{file} has {size} bytes, more than the {limit} such a file may have; the folder is damaged or hostile"
    )]
    TooLarge { file: String, size: u64, limit: u64 },

    #[error("{file} is not valid JSON: {source}; fetch the model again")]
    Json {
        file: String,
        source: serde_json::Error,
    },

    #[error("{file}: setting `{key}` {problem}")]
    Setting {
        file: String,
        key: String,
        problem: String,
    },

    #[error("{file} is not a complete safetensors file: {problem}; fetch the model again")]
    Weights { file: String, problem: String },

    #[error("{file} is not a GGUF file that can be read: {problem}; fetch the model again")]
    Gguf { file: String, problem: String },

    #[error(
        "{folder} has {count} files in GGUF, such as {file}; give the path of the one to run in the folder's place"
    )]
    Choice {
        folder: String,
        count: usize,
        file: String,
    },

    #[error("{file}, whose metadata were read as a folder of Hugging Face: {source}")]
    Within { file: String, source: Box<Self> },

    #[error("{file}: tensor `{tensor}` {problem}; the weights do not belong to this configuration")]
    Tensor {
        file: String,
        tensor: String,
        problem: String,
    },

    #[error("the tokenizer in {file} cannot be used: {problem}")]
    Tokenizer { file: String, problem: String },

    #[error("{file} is no chat template that can be used: {problem}")]
    Template { file: String, problem: String },

    #[error(
        "the weights that begin with {file} take {needed} bytes of memory, and {available} are free; close something, or run a smaller model"
    )]
    Memory {
        file: String,
        needed: u64,
        available: u64,
    },

    #[error("the LoRA {file} cannot be merged: {problem}")]
    Lora { file: String, problem: String },

    #[error("the recording cannot be read: {problem}")]
    Recording { problem: String },

    #[error("request: `{field}` {problem}")]
    Request {
        field: &'static str,
        problem: String,
    },

    #[error("cancelled after {step} of {steps} steps")]
    Cancelled { step: usize, steps: usize },

    #[error(
        "the picture diverged: {stage} holds numbers that are not finite; use lower guidance, more steps or other weights"
    )]
    Diverged { stage: &'static str },

    #[error(
        "the text diverged: token {token} was to be drawn from numbers that are not finite; the weights are damaged, or need more precision than this miner has"
    )]
    NotFinite { token: usize },

    #[error(
        "a vector holds numbers that are not finite; the weights are damaged, or need more precision than this miner has"
    )]
    VectorNotFinite,

    #[error(
        "the engine gave {given} scores for a vocabulary of {size} tokens; it and the tokenizer belong to different models"
    )]
    Scores { given: usize, size: usize },

    #[error("{problem}")]
    Full { problem: String },

    #[error("the deadline passed after {made} tokens")]
    Late { made: usize },

    #[error("{problem}")]
    Stopped { problem: String },

    #[error("the picture could not be encoded: {0}")]
    Png(#[from] png::EncodingError),

    #[error(
        "a layer failed: {0}; this is a defect, please report it with the model's config.json files"
    )]
    Compute(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn request(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Request {
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn tokenizer(file: &str, problem: impl ToString) -> Self {
        Self::Tokenizer {
            file: file.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// The same, said of a document that was made of the metadata in `file`.
    pub(crate) fn within(self, file: &str) -> Self {
        match &self {
            Self::Setting { file: inner, .. }
            | Self::Json { file: inner, .. }
            | Self::TooLarge { file: inner, .. }
            | Self::Tokenizer { file: inner, .. }
            | Self::Template { file: inner, .. }
                if inner != file =>
            {
                Self::Within {
                    file: file.to_owned(),
                    source: Box::new(self),
                }
            }
            _ => self,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Within { source, .. } => source.kind(),
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Read { .. } | Self::Memory { .. } => ErrorKind::Unavailable,
            Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::Setting { .. }
            | Self::Weights { .. }
            | Self::Gguf { .. }
            | Self::Choice { .. }
            | Self::Tensor { .. }
            | Self::Tokenizer { .. }
            | Self::Template { .. }
            | Self::Lora { .. }
            | Self::Recording { .. }
            | Self::Request { .. } => ErrorKind::Invalid,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Full { .. } => ErrorKind::Rejected,
            Self::Late { .. } => ErrorKind::Timeout,
            Self::Diverged { .. }
            | Self::NotFinite { .. }
            | Self::Scores { .. }
            | Self::VectorNotFinite
            | Self::Stopped { .. }
            | Self::Png(_)
            | Self::Compute(_) => ErrorKind::Execution,
        }
    }
}

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        // The message already carries its sources.
        Self::new(error.kind(), error.to_string())
    }
}
