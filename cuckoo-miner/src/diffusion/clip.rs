//! The text encoder of CLIP (Radford et al., "Learning transferable visual models from natural language supervision",
//! 2021): a causal transformer over a prompt's tokens. Layer names follow transformers' `CLIPTextModel`.

use candle_core::Tensor;
use serde_json::json;

use super::error::{Error, Result};
use super::folder::{Folder, SETTINGS_LIMIT};
use super::lora::Loras;
use super::settings::Settings;
use super::weights::{Part, Weights};
use crate::kernels::{Activation, Kernels, Packed};
use crate::model::layers::{LayerNorm, Projection};

/// The end of text in old configurations, which is none: the end is the token of the highest number then.
const NO_END: usize = 2;

/// What `config.json` of a text encoder says.
#[derive(Debug)]
struct ClipConfig {
    vocabulary: usize,
    positions: usize,
    width: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    activation: Activation,
    eps: f64,
    projection: usize,
    end: usize,
}

impl ClipConfig {
    fn load(folder: &mut Folder, part: &str) -> Result<Self> {
        let file = format!("{part}/config.json");
        let mut s = Settings::parse(&file, &folder.bytes(&file, SETTINGS_LIMIT)?)?;
        let width = s.count("hidden_size", 512, 1..=16_384)?;
        let config = Self {
            vocabulary: s.count("vocab_size", 49_408, 1..=4_000_000)?,
            positions: s.count("max_position_embeddings", 77, 2..=4_096)?,
            width,
            hidden: s.count("intermediate_size", 2_048, 1..=65_536)?,
            layers: s.count("num_hidden_layers", 12, 1..=128)?,
            heads: s.count("num_attention_heads", 8, 1..=256)?,
            activation: s.choice(
                "hidden_act",
                Activation::QuickGelu,
                &[
                    ("quick_gelu", Activation::QuickGelu),
                    ("gelu", Activation::Gelu),
                ],
            )?,
            eps: s.number("layer_norm_eps", 1e-5, 0.0..=1.0)?,
            projection: s.count("projection_dim", 512, 1..=16_384)?,
            end: s.count("eos_token_id", 49_407, 0..=4_000_000)?,
        };
        if !width.is_multiple_of(config.heads) {
            return Err(s.error(
                "num_attention_heads",
                format!("does not divide hidden_size {width}"),
            ));
        }
        s.only("model_type", &[json!("clip_text_model")])?;
        s.only(
            "architectures",
            &[
                json!(["CLIPTextModel"]),
                json!(["CLIPTextModelWithProjection"]),
            ],
        )?;
        // With a mask, padding would not be seen; Stable Diffusion lets it be seen.
        s.only("use_attention_mask", &[json!(false)])?;
        // The first group concerns training; the second is what transformers writes into every configuration.
        s.ignore(&[
            "attention_dropout",
            "dropout",
            "initializer_factor",
            "initializer_range",
        ]);
        s.ignore(&[
            "bos_token_id",
            "pad_token_id",
            "torch_dtype",
            "dtype",
            "transformers_version",
        ]);
        s.ignore(&[
            "gradient_checkpointing",
            "use_cache",
            "return_dict",
            "output_hidden_states",
            "output_attentions",
        ]);
        s.finish()?;
        Ok(config)
    }
}

/// What stands for a prompt as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Nothing is wanted.
    None,
    /// The last state of the token that ends it.
    End,
    /// The same, projected.
    Projected,
}

/// CLIP's text encoder with its weights.
#[derive(Debug)]
pub(crate) struct ClipText {
    config: ClipConfig,
    tokens: Packed,
    positions: Packed,
    layers: Vec<Layer>,
    norm: LayerNorm,
    whole: Whole,
    projection: Option<Projection>,
}

/// Prompts as a text encoder gives them.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// `[prompts, tokens, width]`.
    pub(crate) tokens: Tensor,
    /// `[prompts, width]`, where it is wanted: each prompt as a whole.
    pub(crate) pooled: Option<Tensor>,
}

impl ClipText {
    /// Reads the text encoder in the sub-folder `name`, with or without the prefix `text_model.` before each tensor's name.
    /// `whole` says what is wanted of prompts as a whole.
    pub(crate) fn load(
        folder: &mut Folder,
        name: &str,
        whole: Whole,
        loras: &Loras,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let config = ClipConfig::load(folder, name)?;
        let mut weights = Weights::open(folder, name, "model", kernels.device())?;
        loras.merge(name, &mut weights)?;
        weights.fit(folder)?;
        let root = weights.part("");
        let projection = || {
            let names = [("text_projection", config.projection)];
            Projection::load(kernels, &root, &names, config.width, false)
        };
        let projection = (whole == Whole::Projected).then(projection).transpose()?;
        let part = if root.has("text_model.final_layer_norm.weight") {
            root.at("text_model")
        } else {
            root.clone()
        };
        let embeddings = part.at("embeddings");
        let table = |name: &str, rows| -> Result<Packed> {
            let table = embeddings
                .at(name)
                .tensor("weight", &[rows, config.width])?;
            Ok(kernels.pack(&table)?)
        };
        let layer = |i| {
            Layer::load(
                &part.at(format_args!("encoder.layers.{i}")),
                &config,
                kernels,
            )
        };
        let clip = Self {
            tokens: table("token_embedding", config.vocabulary)?,
            positions: table("position_embedding", config.positions)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&part.at("final_layer_norm"), config.width, config.eps)?,
            whole,
            projection,
            config,
        };
        // Old checkpoints store the positions 0, 1, 2, ... as a tensor; some carry the projection for similarity.
        weights.finish(&[
            "text_model.embeddings.position_ids",
            "embeddings.position_ids",
            "text_projection.",
        ])?;
        Ok(clip)
    }

    /// Tokens in the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    /// Tokens a prompt may have.
    pub(crate) fn positions(&self) -> usize {
        self.config.positions
    }

    /// Numbers that stand for one token.
    pub(crate) fn width(&self) -> usize {
        self.config.width
    }

    /// Numbers that stand for a whole prompt, where any are wanted.
    pub(crate) fn whole_width(&self) -> Option<usize> {
        match self.whole {
            Whole::None => None,
            Whole::End => Some(self.config.width),
            Whole::Projected => Some(self.config.projection),
        }
    }

    /// Prompts of equally many tokens: the normalised output of the last layer, or what comes into that layer where the
    /// `penultimate` state is wanted.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        prompts: &[Vec<u32>],
        penultimate: bool,
    ) -> Result<Encoded> {
        let length = prompts.first().map_or(0, Vec::len);
        if length == 0
            || length > self.config.positions
            || prompts.iter().any(|prompt| prompt.len() != length)
        {
            return Err(Error::request("prompt", "has no tokens, or too many"));
        }
        let embedded = kernels.rows(&self.tokens, &prompts.concat())?;
        let embedded = embedded.reshape((prompts.len(), length, self.config.width))?;
        let places: Vec<u32> = (0..length as u32).collect();
        let mut x = embedded.broadcast_add(&kernels.rows(&self.positions, &places)?)?;
        let (last, layers) = match self.layers.split_last() {
            Some((last, layers)) => (Some(last), layers),
            None => (None, &self.layers[..]),
        };
        for layer in layers {
            x = layer.forward(kernels, &x)?;
        }
        let before_last = x.clone();
        let mut pooled = None;
        if !penultimate || self.whole != Whole::None {
            if let Some(last) = last {
                x = last.forward(kernels, &x)?;
            }
            x = self.norm.forward(kernels, &x)?;
            if self.whole != Whole::None {
                let ends = prompts.iter().enumerate();
                let ends = ends.map(|(i, prompt)| (i * length + self.end(prompt)) as u32);
                let ends = Tensor::from_iter(ends, kernels.device())?;
                let rows = x.reshape((prompts.len() * length, self.config.width))?;
                let ends = rows.index_select(&ends, 0)?;
                pooled = Some(match &self.projection {
                    Some(projection) => projection.forward(kernels, &ends)?,
                    None => ends,
                });
            }
        }
        Ok(Encoded {
            tokens: if penultimate { before_last } else { x },
            pooled,
        })
    }

    /// Where a prompt ends: the place whose output stands for the whole.
    fn end(&self, prompt: &[u32]) -> usize {
        let end = match self.config.end {
            NO_END => prompt.iter().copied().max().unwrap_or_default(),
            end => end as u32,
        };
        prompt.iter().position(|token| *token == end).unwrap_or(0)
    }
}

/// One layer: attention, then a perceptron, each normalised before and added to its input.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
    norm2: LayerNorm,
    up: Projection,
    down: Projection,
    heads: usize,
}

impl Layer {
    fn load(part: &Part<'_>, config: &ClipConfig, kernels: &dyn Kernels) -> Result<Self> {
        let (width, hidden) = (config.width, config.hidden);
        let project = |name, inputs, outputs| {
            Projection::load(kernels, part, &[(name, outputs)], inputs, true)
        };
        Ok(Self {
            norm1: LayerNorm::load(&part.at("layer_norm1"), width, config.eps)?,
            query: project("self_attn.q_proj", width, width)?,
            key: project("self_attn.k_proj", width, width)?,
            value: project("self_attn.v_proj", width, width)?,
            out: project("self_attn.out_proj", width, width)?,
            norm2: LayerNorm::load(&part.at("layer_norm2"), width, config.eps)?,
            up: project("mlp.fc1", width, hidden)?.activated(config.activation),
            down: project("mlp.fc2", hidden, width)?,
            heads: config.heads,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let y = self.norm1.forward(kernels, x)?;
        let (q, k) = (
            self.query.forward(kernels, &y)?,
            self.key.forward(kernels, &y)?,
        );
        let y = kernels.attention(&q, &k, &self.value.forward(kernels, &y)?, self.heads, true)?;
        let x = kernels.add(x, &self.out.forward(kernels, &y)?)?;
        let y = self
            .up
            .forward(kernels, &self.norm2.forward(kernels, &x)?)?;
        Ok(kernels.add(&x, &self.down.forward(kernels, &y)?)?)
    }
}
