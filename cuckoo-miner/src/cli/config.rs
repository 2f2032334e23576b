//! The configuration file, with overrides from the environment.

use std::path::{Path, PathBuf};

use cuckoo_core::cli::{ChainConfig, OperatorConfig};
use cuckoo_core::{Error, ModelId, Result, Wei};
use serde::Deserialize;

use crate::cli::PROGRAM;
use crate::cli::status::StatusConfig;
use crate::{
    EmbeddingLimits, FolderKind, HubModel, Lora, ModelStore, Settings, SpeechLimits, TextLimits,
};

/// What `miner.toml` holds. Paths in it are relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) coordinators: Vec<String>,
    #[serde(default = "default_drain_seconds")]
    pub(crate) drain_seconds: u64,
    #[serde(default = "default_vouchers")]
    pub(crate) vouchers: PathBuf,
    pub(crate) chain: ChainConfig,
    pub(crate) operator: OperatorConfig,
    /// Memory that the models take turns in; all stay loaded when absent.
    pub(crate) warm_mib: Option<u64>,
    #[serde(default)]
    pub(crate) models: Vec<ModelConfig>,
    /// For the executors of a host, which alone know what is in it.
    pub(crate) executor: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) settings: Settings,
    /// Where the miner tells what it does; nowhere when absent.
    pub(crate) status: Option<StatusConfig>,
    /// Where the file is.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// A model it offers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    pub(crate) name: ModelId,
    /// Where it is: a folder on disk, or a model of the hub. One of the two is set.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) hub: Option<HubModel>,
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default, with = "cuckoo_core::cai_text")]
    pub(crate) min_price: Wei,
    /// Of pictures.
    pub(crate) max_pixels: Option<usize>,
    pub(crate) max_steps: Option<usize>,
    #[serde(default)]
    pub(crate) loras: Vec<Lora>,
    /// Of texts.
    pub(crate) texts: Option<usize>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) chunk: Option<usize>,
    /// Of embeddings.
    pub(crate) batch_tokens: Option<usize>,
    pub(crate) max_texts: Option<usize>,
    pub(crate) max_input_bytes: Option<u64>,
    /// Of recordings.
    pub(crate) max_seconds: Option<u32>,
    pub(crate) recordings: Option<usize>,
}

/// What a model's folder holds.
///
/// Where tasks of such a model are of another kind, that kind's name is taken, too: `chat` and `completion`, `embeddings`,
/// `transcription`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Kind {
    /// A pipeline in the layout of diffusers.
    #[default]
    Image,
    /// A language model in the layout of Hugging Face.
    Text,
    /// A sentence encoder in the layout of sentence-transformers or Hugging Face.
    Embedding,
    /// Whisper in the layout of Hugging Face.
    Speech,
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "image" => Ok(Self::Image),
            "text" | "chat" | "completion" => Ok(Self::Text),
            "embedding" | "embeddings" => Ok(Self::Embedding),
            "speech" | "transcription" => Ok(Self::Speech),
            _ => Err(format!(
                "`{name}` is no kind of model; set image, text, embedding or speech"
            )),
        }
    }
}

impl From<Kind> for FolderKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Image => Self::Image,
            Kind::Text => Self::Text,
            Kind::Embedding => Self::Embedding,
            Kind::Speech => Self::Speech,
        }
    }
}

impl ModelConfig {
    /// What a language model does at once: a text in each slot, unless the section says otherwise.
    pub(crate) fn text_limits(&self, slots: u32) -> TextLimits {
        let default = TextLimits::default();
        TextLimits {
            texts: self.texts.unwrap_or(slots as usize),
            memory_mib: self.memory_mib.unwrap_or(default.memory_mib),
            chunk: self.chunk.unwrap_or(default.chunk),
        }
    }

    /// What a sentence encoder takes and does at once.
    pub(crate) fn embedding_limits(&self) -> EmbeddingLimits {
        let default = EmbeddingLimits::default();
        EmbeddingLimits {
            batch_tokens: self.batch_tokens.unwrap_or(default.batch_tokens),
            max_texts: self.max_texts.unwrap_or(default.max_texts),
            max_input_bytes: self.max_input_bytes.unwrap_or(default.max_input_bytes),
        }
    }

    /// What a Whisper takes and does at once.
    pub(crate) fn speech_limits(&self) -> SpeechLimits {
        let default = SpeechLimits::default();
        SpeechLimits {
            max_seconds: self.max_seconds.unwrap_or(default.max_seconds),
            recordings: self.recordings.unwrap_or(default.recordings),
        }
    }

    /// The folder that it is in, on disk or in the cache.
    ///
    /// # Errors
    /// `NotFound`, with the command that pulls it, when a model of the hub is not in the cache, `Invalid` when the folder
    /// holds a model of another kind.
    pub(crate) fn located(&self) -> Result<PathBuf> {
        let folder = match (&self.folder, &self.hub) {
            (Some(folder), _) => folder.clone(),
            (None, Some(hub)) => ModelStore::from_env().folder_of(hub)?,
            (None, None) => return Err(self.no_place()),
        };
        let (found, set) = (FolderKind::of(&folder), FolderKind::from(self.kind));
        // Of what nothing is known, loading says more.
        if found == set || found == FolderKind::Other {
            return Ok(folder);
        }
        let (absent, todo) = match self.kind {
            Kind::Image => (" (which it is when none is set)", "add"),
            Kind::Text | Kind::Embedding | Kind::Speech => ("", "set"),
        };
        Err(Error::invalid(format!(
            "model `{}`: the folder holds {}, but its section is of kind `{}`{absent}; {todo} kind = \"{}\"",
            self.name,
            found.phrase(),
            set.as_str(),
            found.as_str()
        )))
    }

    /// What `models check` is told to look at it.
    pub(crate) fn place(&self) -> String {
        match (&self.folder, &self.hub) {
            (Some(folder), _) => folder.display().to_string(),
            (None, Some(hub)) => hub.to_string(),
            (None, None) => String::new(),
        }
    }

    fn no_place(&self) -> Error {
        Error::invalid(format!(
            "model `{}`: set `folder` to where it is, or `hub` to its name there, such as org/name@revision",
            self.name
        ))
    }

    /// Refuses a model that is nowhere or in two places, and settings of another kind, which would do nothing.
    fn check(&self) -> Result<()> {
        match (&self.folder, &self.hub) {
            (None, None) => return Err(self.no_place()),
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!(
                    "model `{}`: `folder` and `hub` are both set; leave one of them out",
                    self.name
                )));
            }
            _ => {}
        }
        let set = [
            (Kind::Image, "max_pixels", self.max_pixels.is_some()),
            (Kind::Image, "max_steps", self.max_steps.is_some()),
            (Kind::Image, "loras", !self.loras.is_empty()),
            (Kind::Text, "texts", self.texts.is_some()),
            (Kind::Text, "memory_mib", self.memory_mib.is_some()),
            (Kind::Text, "chunk", self.chunk.is_some()),
            (Kind::Embedding, "batch_tokens", self.batch_tokens.is_some()),
            (Kind::Embedding, "max_texts", self.max_texts.is_some()),
            (
                Kind::Embedding,
                "max_input_bytes",
                self.max_input_bytes.is_some(),
            ),
            (Kind::Speech, "max_seconds", self.max_seconds.is_some()),
            (Kind::Speech, "recordings", self.recordings.is_some()),
        ];
        let foreign = |(kind, _, set): &&(Kind, _, _)| *set && *kind != self.kind;
        if let Some((kind, key, _)) = set.iter().find(foreign) {
            return Err(Error::invalid(format!(
                "model `{}`: `{key}` is a setting of {}; set kind, or leave it out",
                self.name,
                FolderKind::from(*kind).phrase()
            )));
        }
        self.text_limits(1).validate()?;
        self.embedding_limits().validate()?;
        self.speech_limits().validate()
    }
}

fn default_drain_seconds() -> u64 {
    60
}

fn default_vouchers() -> PathBuf {
    "vouchers.json".into()
}

impl Config {
    /// Reads `path`, then the environment.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Invalid` that names the key which is unknown, missing or of a wrong type.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        PROGRAM.load(path).and_then(|config: Self| config.at(path))
    }

    /// The settings as they hold for a file at `path`.
    fn at(mut self, path: &Path) -> Result<Self> {
        self.settings.validate()?;
        if let Some(status) = &self.status {
            status.check()?;
        }
        if let Some(mib) = self.warm_mib
            && !(1..=1 << 30).contains(&mib)
        {
            return Err(Error::invalid(format!(
                "`warm_mib` is {mib}; it must be from 1 to {}, or left out",
                1 << 30
            )));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        self.folder = folder.to_owned();
        self.chain.resolve_paths(folder);
        self.operator.resolve_paths(folder);
        self.vouchers = folder.join(&self.vouchers);
        for model in &mut self.models {
            model.check()?;
            model.folder = model.folder.take().map(|path| folder.join(path));
            for lora in &mut model.loras {
                lora.file = folder.join(&lora.file);
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
