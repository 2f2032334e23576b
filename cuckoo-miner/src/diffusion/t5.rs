//! The encoder of T5 1.1 (Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
//! transformer", 2020; Shazeer, "GLU variants improve transformer", 2020): a prompt's tokens, each of which sees all others,
//! shifted by how far they are from it. Layer names follow transformers' `T5EncoderModel`.

use candle_core::Tensor;
use serde_json::json;

use super::error::{Error, Result};
use super::folder::{Folder, SETTINGS_LIMIT};
use super::settings::Settings;
use super::weights::{Part, Weights};
use crate::kernels::{Activation, Heads, Kernels, Packed};
use crate::model::layers::{Projection, RmsNorm};
use crate::model::{distance, transformers};

/// What `config.json` of the encoder says.
#[derive(Debug)]
struct T5Config {
    vocabulary: usize,
    width: usize,
    /// Numbers in one head of attention; all heads together may be wider or narrower than the rest.
    depth: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    /// Groups of distances, and from where on all distances are one group.
    groups: usize,
    farthest: usize,
    eps: f64,
}

impl T5Config {
    fn load(folder: &mut Folder, part: &str) -> Result<Self> {
        let file = format!("{part}/config.json");
        let bytes = folder.bytes(&file, SETTINGS_LIMIT)?;
        Self::read(Settings::parse(&file, &bytes)?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        let config = Self {
            vocabulary: s.required("vocab_size", 1..=4_000_000)?,
            width: s.required("d_model", 1..=16_384)?,
            depth: s.required("d_kv", 1..=4_096)?,
            hidden: s.required("d_ff", 1..=131_072)?,
            layers: s.required("num_layers", 1..=256)?,
            heads: s.required("num_heads", 1..=256)?,
            groups: s.count(
                "relative_attention_num_buckets",
                32,
                distance::LEAST_GROUPS..=4_096,
            )?,
            farthest: s.count("relative_attention_max_distance", 128, 1..=1 << 20)?,
            eps: s.number("layer_norm_epsilon", 1e-6, 0.0..=1.0)?,
        };
        if config.farthest <= config.groups / 4 {
            let problem = format!(
                "is {}, and {} groups reach further",
                config.farthest, config.groups
            );
            return Err(s.error("relative_attention_max_distance", problem));
        }
        // What it is when absent is not run: that of the first T5.
        match s.take("feed_forward_proj") {
            Some(kind) if kind == "gated-gelu" => {}
            kind => {
                let kind = kind.unwrap_or_else(|| json!("relu"));
                let problem = format!("is {kind}; this miner runs gated-gelu");
                return Err(s.error("feed_forward_proj", problem));
            }
        }
        s.only("architectures", &[json!(["T5EncoderModel"])])?;
        s.only("dense_act_fn", &[json!("gelu_new")])?;
        s.only("is_gated_act", &[json!(true)])?;
        for key in ["is_decoder", "add_cross_attention", "quantization_config"] {
            s.only(key, &[json!(false)])?;
        }
        s.ignore(&[
            // Training.
            "classifier_dropout",
            "dropout_rate",
            "gradient_checkpointing",
            "initializer_factor",
            // The decoder that is not run, and the output layer.
            "eos_token_id",
            "num_decoder_layers",
            "output_past",
            "scale_decoder_outputs",
            "tie_word_embeddings",
        ]);
        s.ignore(transformers::WITHOUT_EFFECT);
        s.finish()?;
        Ok(config)
    }
}

/// The encoder with its weights.
#[derive(Debug)]
pub(crate) struct T5 {
    config: T5Config,
    words: Packed,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// What distances add to attention, in all layers.
    distances: Tensor,
    longest: usize,
}

impl T5 {
    /// Reads the encoder in the sub-folder `name`, for prompts of up to `longest` tokens.
    pub(crate) fn load(
        folder: &mut Folder,
        name: &str,
        longest: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let config = T5Config::load(folder, name)?;
        let weights = Weights::open(folder, name, "model", kernels.device())?;
        weights.fit(folder)?;
        let root = weights.part("");
        let encoder = root.at("encoder");
        // The same table has two names; files have one of them or both.
        let table = match root.has("shared.weight") {
            true => root.at("shared"),
            false => encoder.at("embed_tokens"),
        };
        let distances = encoder
            .at("block.0.layer.0.SelfAttention.relative_attention_bias")
            .tensor("weight", &[config.groups, config.heads])?;
        let layer = |i| Layer::load(&encoder.at(format_args!("block.{i}")), &config, kernels);
        let t5 = Self {
            words: kernels.pack(&table.tensor("weight", &[config.vocabulary, config.width])?)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::load(&encoder.at("final_layer_norm"), config.width, config.eps)?,
            distances: distance::spread(&distances, config.farthest, longest)?,
            longest,
            config,
        };
        weights.finish(&["encoder.embed_tokens."])?;
        Ok(t5)
    }

    /// Tokens in the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    /// Numbers that stand for one token.
    pub(crate) fn width(&self) -> usize {
        self.config.width
    }

    /// What each token of a prompt became, `[tokens, width]`.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, prompt: &[u32]) -> Result<Tensor> {
        if prompt.is_empty() || prompt.len() > self.longest {
            return Err(Error::request("prompt", "has no tokens, or too many"));
        }
        let mut x = kernels.rows(&self.words, prompt)?;
        for layer in &self.layers {
            x = layer.forward(kernels, &x, &self.distances)?;
        }
        self.norm.forward(kernels, &x)
    }
}

/// One layer: attention, then a gated perceptron, each normalised before and added to its input.
#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    /// Queries, keys and values side by side.
    input: Projection,
    output: Projection,
    perceptron_norm: RmsNorm,
    /// Gate and value side by side.
    up: Projection,
    down: Projection,
    heads: Heads,
}

impl Layer {
    fn load(part: &Part<'_>, config: &T5Config, kernels: &dyn Kernels) -> Result<Self> {
        let (width, hidden) = (config.width, config.hidden);
        let inner = config.heads * config.depth;
        let (attention, perceptron) = (part.at("layer.0"), part.at("layer.1"));
        let project = |part: &Part<'_>, names: &[(&str, usize)], inputs| {
            Projection::load(kernels, part, names, inputs, false)
        };
        let norm = |part: &Part<'_>| RmsNorm::load(&part.at("layer_norm"), width, config.eps);
        let inputs = ["q", "k", "v"].map(|name| (name, inner));
        let gates = ["wi_0", "wi_1"].map(|name| (name, hidden));
        let (of_attention, of_perceptron) = (
            attention.at("SelfAttention"),
            perceptron.at("DenseReluDense"),
        );
        Ok(Self {
            attention_norm: norm(&attention)?,
            input: project(&of_attention, &inputs, width)?,
            output: project(&of_attention, &[("o", width)], inner)?,
            perceptron_norm: norm(&perceptron)?,
            up: project(&of_perceptron, &gates, width)?,
            down: project(&of_perceptron, &[("wo", width)], hidden)?,
            heads: Heads {
                queries: config.heads,
                keys: config.heads,
                depth: config.depth,
                // T5 has it in its weights.
                scale: 1.0,
                window: None,
            },
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor, distances: &Tensor) -> Result<Tensor> {
        let inner = self.heads.queries * self.heads.depth;
        let y = self.attention_norm.forward(kernels, x)?;
        let y = self.input.forward(kernels, &y)?;
        let part = |i: usize| y.narrow(1, i * inner, inner);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let lengths = [x.dim(0)?];
        let y = kernels.attend_all(&q, &k, &v, &lengths, self.heads, Some(distances))?;
        let x = kernels.add(x, &self.output.forward(kernels, &y)?)?;
        let y = self.perceptron_norm.forward(kernels, &x)?;
        let y = kernels.gated(&self.up.forward(kernels, &y)?, Activation::GeluTanh)?;
        Ok(kernels.add(&x, &self.down.forward(kernels, &y)?)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn with(key: &str, value: Value) -> Result<T5Config> {
        // As the published text encoder of FLUX.1 has it.
        let mut config = json!({
            "architectures": ["T5EncoderModel"], "classifier_dropout": 0.0, "d_ff": 10_240, "d_kv": 64, "d_model": 4_096,
            "decoder_start_token_id": 0, "dense_act_fn": "gelu_new", "dropout_rate": 0.1, "eos_token_id": 1,
            "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0, "is_encoder_decoder": true, "is_gated_act": true,
            "layer_norm_epsilon": 1e-6, "model_type": "t5", "num_decoder_layers": 24, "num_heads": 64, "num_layers": 24,
            "output_past": true, "pad_token_id": 0, "relative_attention_max_distance": 128,
            "relative_attention_num_buckets": 32, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "transformers_version": "4.43.3", "use_cache": true, "vocab_size": 32_128,
        });
        config[key] = value;
        let text = config.to_string();
        T5Config::read(Settings::parse("config.json", text.as_bytes())?)
    }

    #[test]
    fn the_published_settings_are_read() {
        let config = with("_name_or_path", json!("google/t5-v1_1-xxl")).unwrap();
        assert_eq!((config.width, config.heads, config.depth), (4_096, 64, 64));
        assert_eq!((config.groups, config.farthest), (32, 128));
    }

    #[test]
    fn what_is_missing_unknown_or_not_run_is_named() {
        for (key, value) in [
            ("d_model", json!(null)),
            ("d_kv", json!(0)),
            ("num_heads", json!("many")),
            ("feed_forward_proj", json!(null)),
            ("feed_forward_proj", json!("relu")),
            ("dense_act_fn", json!("silu")),
            ("architectures", json!(["T5ForConditionalGeneration"])),
            ("relative_attention_num_buckets", json!(3)),
            ("relative_attention_max_distance", json!(8)),
            ("is_decoder", json!(true)),
            ("rope_theta", json!(1.0)),
        ] {
            let error = with(key, value).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
    }
}
