//! What a model's folder holds, from a look at its settings.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::language::{self, is_run_gguf};
use crate::model::folder::{SETTINGS_LIMIT, TABLE_LIMIT};
use crate::{EmbeddingModel, speech};

/// What a model's folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FolderKind {
    /// A pipeline in the layout of diffusers, which makes pictures.
    Image,
    /// A language model in the layout of Hugging Face, or in one GGUF file, of a family that is run.
    Text,
    /// A sentence encoder in the layout of sentence-transformers or Hugging Face.
    Embedding,
    /// Whisper in the layout of Hugging Face, which writes down what is said.
    Speech,
    /// Something else, or something that no executor of this crate runs.
    Other,
}

impl FolderKind {
    /// What the settings in `folder` say, or the header of the GGUF file in it or at that path; no weights are read.
    pub fn of(folder: &Path) -> Self {
        if folder.join("model_index.json").is_file() {
            return Self::Image;
        }
        if EmbeddingModel::recognises(folder) {
            return Self::Embedding;
        }
        let config = json(&folder.join("config.json"), SETTINGS_LIMIT);
        let architectures = config
            .as_ref()
            .and_then(|config| config["architectures"].as_array());
        let named = |known: fn(&str) -> bool| {
            let mut names = architectures.into_iter().flatten();
            names.any(|name| name.as_str().is_some_and(known))
        };
        if named(speech::is_known) {
            return Self::Speech;
        }
        match named(language::is_known) || is_run_gguf(folder) {
            true => Self::Text,
            false => Self::Other,
        }
    }

    /// As it is written in settings and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Embedding => "embedding",
            Self::Speech => "speech",
            Self::Other => "other",
        }
    }

    /// The name with its article, as sentences have it: `an image model`.
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Image => "an image model",
            Self::Text => "a text model",
            Self::Embedding => "an embedding model",
            Self::Speech => "a speech model",
            Self::Other => "a model of another kind",
        }
    }
}

/// The first file that a folder needs and lacks, as its own settings say; `None` when nothing is known to be missing.
pub(super) fn lacks(folder: &Path) -> Option<String> {
    let Some(index) = json(&folder.join("model_index.json"), SETTINGS_LIMIT) else {
        return lacks_weights(folder, "", "config.json");
    };
    let parts = index.as_object().into_iter().flatten();
    let parts = parts.filter(|(name, value)| {
        let made_of = value
            .as_array()
            .is_some_and(|pair| pair.iter().all(Value::is_string));
        made_of
            && [
                "text_encoder",
                "text_encoder_2",
                "unet",
                "transformer",
                "vae",
                "tokenizer",
                "tokenizer_2",
                "scheduler",
            ]
            .contains(&name.as_str())
    });
    for (name, _) in parts {
        let missing = match name.as_str() {
            "tokenizer" | "tokenizer_2" | "scheduler" => {
                let part = folder.join(name);
                let empty = part
                    .read_dir()
                    .map_or(true, |mut files| files.next().is_none());
                empty.then(|| format!("{name}/"))
            }
            _ => lacks_weights(folder, &format!("{name}/"), "config.json"),
        };
        if missing.is_some() {
            return missing;
        }
    }
    None
}

fn lacks_weights(folder: &Path, part: &str, settings: &str) -> Option<String> {
    let names: BTreeSet<String> = folder
        .join(part)
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        // A link whose blob is gone is no file.
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|name| name.ends_with(".gguf")) {
        return None;
    }
    if !names.contains(settings) {
        return Some(format!("{part}{settings}"));
    }
    let indices = names
        .iter()
        .filter(|name| name.ends_with(".safetensors.index.json"));
    for index in indices {
        let index = json(&folder.join(part).join(index), TABLE_LIMIT).unwrap_or_default();
        let shards = index["weight_map"].as_object().into_iter().flatten();
        for shard in shards.filter_map(|(_, shard)| shard.as_str()) {
            if !names.contains(shard) {
                return Some(format!("{part}{shard}"));
            }
        }
    }
    let some = names.iter().any(|name| name.ends_with(".safetensors"));
    (!some).then(|| format!("{part}*.safetensors"))
}

fn json(path: &Path, limit: u64) -> Option<Value> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut bytes)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name)
    }

    #[test]
    fn folders_say_what_they_are_and_whether_they_are_whole() {
        for (folder, kind) in [
            ("random", FolderKind::Image),
            ("xl", FolderKind::Image),
            ("flux/schnell", FolderKind::Image),
            ("language/llama", FolderKind::Text),
            ("language/phi3", FolderKind::Text),
            ("gguf/qwen2", FolderKind::Text),
            ("embedding/bert", FolderKind::Embedding),
            ("speech/multilingual", FolderKind::Speech),
            ("speech/english", FolderKind::Speech),
        ] {
            assert_eq!(FolderKind::of(&golden(folder)), kind);
            assert_eq!(lacks(&golden(folder)), None);
        }
        assert_eq!(FolderKind::of(&golden("language")), FolderKind::Other);
        assert_eq!(lacks(&golden("language")).as_deref(), Some("config.json"));
    }

    #[test]
    fn a_missing_shard_or_part_is_named() {
        for (from, without, named) in [
            (
                "language/llama",
                "model-00002-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
            ),
            ("language/phi3", "model.safetensors", "*.safetensors"),
            (
                "random",
                "vae/diffusion_pytorch_model.safetensors",
                "vae/*.safetensors",
            ),
            ("random", "scheduler/scheduler_config.json", "scheduler/"),
            (
                "flux/dev",
                "transformer/diffusion_pytorch_model.safetensors",
                "transformer/*.safetensors",
            ),
            (
                "flux/dev",
                "text_encoder_2/config.json",
                "text_encoder_2/config.json",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in super::super::repo::files_below(&golden(from)).unwrap() {
                let name = file.strip_prefix(golden(from)).unwrap().to_owned();
                let copy = folder.path().join(&name);
                std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
                if name != Path::new(without) {
                    std::fs::copy(file, copy).unwrap();
                }
            }
            assert_eq!(lacks(folder.path()).as_deref(), Some(named));
        }
    }
}
