//! Language models in one GGUF file, as llama.cpp's converter writes them.
//!
//! ```text
//! metadata -> config.json, generation_config.json, tokenizer_config.json, tokenizer.json -> as from a folder
//! tensors  -> by the names that a folder's weights have
//! ```
//!
//! So all that follows is the same code for both, with the same checks. What the file says and this miner does not do is
//! an error that names the key.

mod names;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Map, Value, json};

use super::config::{self, Config};
use super::defaults;
use crate::model::error::{Error, Result};
use crate::model::folder::Folder;
use crate::model::gguf::Header;
use crate::model::settings::Settings;
use crate::model::weights::Weights;
use crate::model::{marks, tokenizer as vocabulary};
use names::stored;

/// The name that the hash counts, whatever the file is called on a disk.
const KNOWN_AS: &str = "model.gguf";
const FREQUENCIES: &str = "rope_freqs.weight";

/// What the converter makes of one of our families.
#[derive(Debug)]
struct Family {
    /// In `general.architecture`.
    name: &'static str,
    /// In a `config.json`.
    architecture: &'static str,
    /// Rows of queries and keys are reordered, so that the two numbers that are turned together lie side by side.
    paired: bool,
    /// `attention.sliding_window` is honoured; otherwise it must be absent.
    window: bool,
}

static FAMILIES: [Family; 5] = [
    Family {
        name: "llama",
        architecture: "LlamaForCausalLM",
        paired: true,
        window: false,
    },
    Family {
        name: "qwen2",
        architecture: "Qwen2ForCausalLM",
        paired: false,
        window: false,
    },
    Family {
        name: "qwen3",
        architecture: "Qwen3ForCausalLM",
        paired: false,
        window: false,
    },
    Family {
        name: "phi3",
        architecture: "Phi3ForCausalLM",
        paired: false,
        window: true,
    },
    Family {
        name: "gemma",
        architecture: "GemmaForCausalLM",
        paired: false,
        window: false,
    },
];

/// The GGUF file that `path` names: itself, or the only one in the folder, if that has no weights in safetensors.
pub(crate) fn find(path: &Path) -> Result<Option<PathBuf>> {
    let ends = |path: &Path, end: &str| {
        path.extension()
            .is_some_and(|found| found.eq_ignore_ascii_case(end))
    };
    if ends(path, "gguf") && path.is_file() {
        return Ok(Some(path.to_owned()));
    }
    let files = path.read_dir().into_iter().flatten().flatten();
    let files: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|file| file.is_file())
        .collect();
    if files.iter().any(|file| ends(file, "safetensors")) {
        return Ok(None);
    }
    let mut found: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| ends(file, "gguf"))
        .collect();
    found.sort();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(Error::Choice {
            folder: path.display().to_string(),
            count,
            file: found[0]
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }),
    }
}

/// Whether `path` names a GGUF file of an architecture that is run; of its weights nothing is read.
pub(crate) fn is_run(path: &Path) -> bool {
    find(path)
        .ok()
        .flatten()
        .is_some_and(|file| Gguf::open(&file).is_ok())
}

/// A model's file, its header read.
#[derive(Debug)]
pub(crate) struct Gguf {
    root: PathBuf,
    header: Header,
    family: &'static Family,
}

impl Gguf {
    /// Reads the header of the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let header = Header::read(path)?;
        let name = header.text("general.architecture")?;
        let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
            let names = FAMILIES.each_ref().map(|family| family.name).join(", ");
            let problem = format!("is `{name}`; this miner runs {names}");
            return Err(header.error("general.architecture", problem));
        };
        if let Some(count) = header.single("split.count").and_then(Value::as_u64)
            && count > 1
        {
            let problem = format!(
                "says this is one of {count} files; join them with llama-gguf-split --merge"
            );
            return Err(header.error("split.count", problem));
        }
        Ok(Self {
            root: path.parent().unwrap_or(Path::new("")).to_owned(),
            header,
            family,
        })
    }

    /// The file's name, for errors.
    pub(crate) fn file(&self) -> &str {
        self.header.file()
    }

    /// The folder that the file stands for.
    pub(crate) fn folder(&self) -> Result<Folder> {
        let tokens = tokenizer::Tokens::read(&self.header, self.family.name)?;
        let mut config = self.config()?;
        config.insert("eos_token_id".to_owned(), json!(tokens.ends()?));
        let documents = [
            (config::FILE, Value::Object(config)),
            (defaults::FILE, Value::Object(self.defaults())),
            (marks::FILE, tokens.marks()?),
            (vocabulary::FILE, tokens.document()?),
        ];
        let documents: BTreeMap<_, _> = documents
            .map(|(name, value)| (name, value.to_string().into_bytes()))
            .into_iter()
            .collect();
        Ok(Folder::of_documents(&self.root, documents))
    }

    /// The tensors; what they alone say of the network is noted in `config`.
    pub(crate) fn weights(
        &self,
        folder: &mut Folder,
        config: &mut Config,
        device: &Device,
    ) -> Result<Weights> {
        let (file, _) = folder.known_as(self.file(), KNOWN_AS)?;
        let (paired, heads, key_heads) = (self.family.paired, config.heads, config.key_heads);
        let heads = |name: &str| match paired {
            true if name.contains(".attn_q.") => heads,
            true if name.contains(".attn_k.") => key_heads,
            _ => 0,
        };
        let weights = Weights::quantized(file, &self.header, stored, heads, device);
        let has = |name: &str| self.header.shape(name).is_some();
        config.input_bias = has("blk.0.attn_q.bias");
        config.output_bias = has("blk.0.attn_output.bias");
        config.perceptron_bias = has("blk.0.ffn_up.bias");
        // The converter has added the one already.
        config.shifted = false;
        if has(FREQUENCIES) {
            // Llama 3's stretching, worked out by the converter.
            let part = weights.part("");
            let factors = part.tensor(FREQUENCIES, &[config.rotary.pairs()])?;
            let factors = factors.to_vec1::<f32>()?;
            if !factors.iter().all(|factor| *factor > 0.0) {
                return Err(part.error(FREQUENCIES, "holds factors that are not above 0"));
            }
            config.rotary.slow(&factors);
        }
        Ok(weights)
    }

    /// What would be the model's `config.json`.
    fn config(&self) -> Result<Map<String, Value>> {
        const SIZE: std::ops::RangeInclusive<usize> = 1..=1 << 20;
        let key = |name: &str| format!("{}.{name}", self.family.name);
        let mut s = self.header.settings(&key(""));
        let width = s.required(&key("embedding_length"), SIZE)?;
        let heads = s.required(&key("attention.head_count"), 1..=4096)?;
        let depth = match s.optional_count(&key("attention.key_length"), 1..=65_536)? {
            Some(depth) => depth,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                let problem = format!("is {heads}, which does not divide the width {width}");
                return Err(s.error(&key("attention.head_count"), problem));
            }
        };
        s.only(&key("attention.value_length"), &[json!(depth)])?;
        let name = key("attention.layer_norm_rms_epsilon");
        let Some(eps) = s.take(&name) else {
            return Err(s.error(&name, "is missing"));
        };
        let context = s.required(&key("context_length"), 1..=1 << 30)?;
        let Some([vocabulary, _]) = self.header.shape("token_embd.weight") else {
            return Err(Error::Tensor {
                file: self.file().to_owned(),
                tensor: "token_embd.weight".to_owned(),
                problem: "is missing, or no table".to_owned(),
            });
        };
        let mut config = json!({
            "architectures": [self.family.architecture],
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": s.required(&key("feed_forward_length"), SIZE)?,
            "num_hidden_layers": s.required(&key("block_count"), 1..=4096)?,
            "num_attention_heads": heads,
            "num_key_value_heads": s.count(&key("attention.head_count_kv"), heads, 1..=heads)?,
            "head_dim": depth,
            "max_position_embeddings": context,
            "rms_norm_eps": eps,
            "rope_parameters": self.rotary(&mut s, depth, context)?,
            "tie_word_embeddings": self.header.shape("output.weight").is_none(),
        });
        let window = key("attention.sliding_window");
        if self.family.window {
            // 0 says that there is none.
            let window = s.count(&window, 0, 0..=1 << 30)?;
            config["sliding_window"] = (window > 0).then_some(window).into();
        } else {
            s.only(&window, &[json!(0)])?;
        }
        for name in ["expert_count", "expert_used_count", "pooling_type"] {
            s.only(&key(name), &[json!(0)])?;
        }
        s.only(&key("attention.causal"), &[json!(true)])?;
        // The table of embeddings tells how many tokens there are.
        for name in ["vocab_size", "tensor_data_layout", "rope.scaling.finetuned"] {
            s.ignore(&[key(name).as_str()]);
        }
        s.finish()?;
        match config {
            Value::Object(config) => Ok(config),
            _ => Ok(Map::new()),
        }
    }

    /// What would be its `rope_parameters`.
    fn rotary(&self, s: &mut Settings, depth: usize, context: usize) -> Result<Value> {
        #[derive(Clone, Copy)]
        enum Scaling {
            None,
            Linear,
            Yarn,
        }
        const KINDS: [(&str, Scaling); 3] = [
            ("none", Scaling::None),
            ("linear", Scaling::Linear),
            ("yarn", Scaling::Yarn),
        ];
        for name in ["rope_factors_long.weight", "rope_factors_short.weight"] {
            if self.header.shape(name).is_some() {
                return Err(Error::Tensor {
                    file: self.file().to_owned(),
                    tensor: name.to_owned(),
                    problem: "belongs to LongRoPE, which this miner does not run".to_owned(),
                });
            }
        }
        let key = |name: &str| format!("{}.rope.{name}", self.family.name);
        let turned = s.count(&key("dimension_count"), depth, 2..=depth)?;
        if self.family.paired && turned != depth {
            let problem = format!("is {turned}; this miner turns all {depth} numbers of a head");
            return Err(s.error(&key("dimension_count"), problem));
        }
        // As llama.cpp has it: linear where nothing is said, by the older key where the newer is absent.
        let kind = s.choice(&key("scaling.type"), Scaling::Linear, &KINDS)?;
        let older = s.number(&key("scale_linear"), 1.0, 0.0..=1e6)?;
        let factor = s.number(&key("scaling.factor"), older, 0.0..=1e6)?;
        let length = key("scaling.original_context_length");
        let length = s.count(&length, context, 1..=1 << 30)?;
        for name in [
            "scaling.attn_factor",
            "scaling.yarn_attn_factor",
            "scaling.yarn_ext_factor",
        ] {
            s.only(&key(name), &[json!(1)])?;
        }
        s.only(&key("scaling.yarn_log_multiplier"), &[json!(0)])?;
        let fast = s.number(&key("scaling.yarn_beta_fast"), 32.0, 1e-3..=1e6)?;
        let slow = s.number(&key("scaling.yarn_beta_slow"), 1.0, 1e-3..=1e6)?;
        let mut section = json!({
            "rope_theta": s.number(&key("freq_base"), 10_000.0, 1.01..=1e12)?,
        });
        if turned < depth {
            // Half a number more, so that rounding cannot lose one.
            section["partial_rotary_factor"] = ((turned as f64 + 0.5) / depth as f64).into();
        }
        // A factor of 0 says that there is none.
        let stretched = factor != 0.0 && factor != 1.0;
        match kind {
            Scaling::Linear if stretched => {
                section["rope_type"] = "linear".into();
                section["factor"] = factor.into();
            }
            Scaling::Yarn if stretched => {
                section["rope_type"] = "yarn".into();
                section["factor"] = factor.into();
                section["original_max_position_embeddings"] = length.into();
                section["beta_fast"] = fast.into();
                section["beta_slow"] = slow.into();
            }
            _ => section["rope_type"] = "default".into(),
        }
        Ok(section)
    }

    /// What would be its `generation_config.json`: newer files have some of it.
    fn defaults(&self) -> Map<String, Value> {
        [
            ("temperature", "temp"),
            ("top_k", "top_k"),
            ("top_p", "top_p"),
            ("min_p", "min_p"),
            ("repetition_penalty", "penalty_repeat"),
        ]
        .iter()
        .filter_map(|(name, key)| {
            let value = self.header.single(&format!("general.sampling.{key}"))?;
            // Of the likeliest so many, or of all where the number is not above 0.
            let all = *key == "top_k" && value.as_i64().is_some_and(|count| count < 0);
            let value = if all { 0.into() } else { value.clone() };
            Some(((*name).to_owned(), value))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
