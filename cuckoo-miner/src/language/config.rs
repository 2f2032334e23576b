//! `config.json` of a language model: its sizes and ways.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::family::{Biases, FAMILIES, Family, Windows};
use super::rotary::Rotary;
use crate::kernels::Activation;
use crate::model::error::Result;
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;
use crate::model::transformers;

/// The file that is read.
pub(crate) const FILE: &str = "config.json";

/// A model's sizes and ways.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Tokens it tells apart.
    pub(crate) vocabulary: usize,
    /// Numbers that stand for one token.
    pub(crate) width: usize,
    /// Width of the perceptron's inside.
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    /// Numbers in a head.
    pub(crate) depth: usize,
    /// The longest text, in tokens.
    pub(crate) context: usize,
    pub(crate) eps: f64,
    pub(crate) rotary: Rotary,
    /// For each layer, how far back it looks.
    pub(crate) windows: Vec<Option<usize>>,
    pub(crate) activation: Activation,
    /// The output layer is the embeddings.
    pub(crate) tied: bool,
    pub(crate) input_bias: bool,
    pub(crate) output_bias: bool,
    pub(crate) perceptron_bias: bool,
    pub(crate) joined: bool,
    pub(crate) head_norm: bool,
    pub(crate) scaled: bool,
    /// Norms are stored less one.
    pub(crate) shifted: bool,
    /// Tokens that end a text.
    pub(crate) ends: Vec<u32>,
}

impl Config {
    /// Reads the folder's `config.json`.
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        Self::read(Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        const SIZE: RangeInclusive<usize> = 1..=1 << 20;
        let names = FAMILIES
            .each_ref()
            .map(|family| (family.architecture, family));
        let family = s.choices("architectures", &names, 1)?[0];
        let width = s.required("hidden_size", SIZE)?;
        let layers = s.required("num_hidden_layers", 1..=4096)?;
        let heads = s.required("num_attention_heads", 1..=4096)?;
        let key_heads = s.count("num_key_value_heads", heads, 1..=heads)?;
        if !heads.is_multiple_of(key_heads) {
            return Err(s.error(
                "num_key_value_heads",
                format!("is {key_heads}, which does not divide the {heads} heads"),
            ));
        }
        let depth = match s.optional_count("head_dim", 1..=65_536)? {
            Some(depth) => depth,
            None => match family.depth {
                Some(depth) => depth,
                None if width.is_multiple_of(heads) => width / heads,
                None => {
                    let problem = format!("is {width}, which {heads} heads do not divide");
                    return Err(s.error("hidden_size", problem));
                }
            },
        };
        let context = s.required("max_position_embeddings", 1..=1 << 30)?;
        s.ignore(&["original_max_position_embeddings"]);
        let (attention, perceptron) = match family.biases {
            Biases::None | Biases::Inputs => (false, false),
            Biases::AsSet => (s.flag("attention_bias", false)?, false),
            Biases::AllAsSet => (s.flag("attention_bias", false)?, s.flag("mlp_bias", false)?),
        };
        let config = Self {
            vocabulary: s.required("vocab_size", 1..=1 << 24)?,
            width,
            hidden: s.required("intermediate_size", SIZE)?,
            heads,
            key_heads,
            depth,
            context,
            eps: s.number("rms_norm_eps", 1e-6, 0.0..=1.0)?,
            rotary: Rotary::load(&mut s, depth)?,
            windows: windows(&mut s, family.windows, layers)?,
            activation: activation(&mut s, family)?,
            tied: s.flag("tie_word_embeddings", family.scaled)?,
            input_bias: attention || family.biases == Biases::Inputs,
            output_bias: attention,
            perceptron_bias: perceptron,
            joined: family.joined,
            head_norm: family.head_norm,
            scaled: family.scaled,
            shifted: family.scaled,
            ends: token_list(s.take("eos_token_id").as_ref()),
        };
        neutral(&mut s)?;
        s.finish()?;
        Ok(config)
    }
}

/// How far back each layer looks.
fn windows(s: &mut Settings, rule: Windows, layers: usize) -> Result<Vec<Option<usize>>> {
    if rule == Windows::None {
        s.only("sliding_window", &[])?;
        s.only("use_sliding_window", &[json!(false)])?;
        return Ok(vec![None; layers]);
    }
    let window = s.optional_count("sliding_window", 1..=1 << 30)?;
    let upper = s.count("max_window_layers", layers, 0..=4096)?;
    let used = s.flag("use_sliding_window", rule == Windows::All)?;
    let window = window.filter(|_| used);
    let kinds = match s.take("layer_types") {
        None => None,
        Some(Value::Array(kinds)) if kinds.len() == layers => Some(kinds),
        Some(other) => {
            let problem = format!("must name {layers} layers, not {other}");
            return Err(s.error("layer_types", problem));
        }
    };
    (0..layers)
        .map(|layer| {
            let limited = match kinds.as_ref().map(|kinds| kinds[layer].as_str()) {
                None => rule == Windows::All || layer >= upper,
                Some(Some("sliding_attention")) => true,
                Some(Some("full_attention")) => false,
                Some(_) => {
                    let problem = "has a kind other than full_attention and sliding_attention";
                    return Err(s.error("layer_types", problem));
                }
            };
            Ok(window.filter(|_| limited))
        })
        .collect()
}

fn activation(s: &mut Settings, family: &Family) -> Result<Activation> {
    // Gemma's first files say `gelu` where the tanh form is meant; its later key wins.
    let gelu = if family.scaled {
        Activation::GeluTanh
    } else {
        Activation::Gelu
    };
    let names = [
        ("silu", Activation::Silu),
        ("gelu", gelu),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
    ];
    let first = s.choice("hidden_act", family.activation, &names)?;
    s.choice("hidden_activation", first, &names)
}

/// Takes what changes nothing, or is run only where it changes nothing.
fn neutral(s: &mut Settings) -> Result<()> {
    for key in [
        "attention_bias",
        "mlp_bias",
        "quantization_config",
        "rope_interleaved",
        "use_bidirectional_attention",
        "use_mrope",
    ] {
        s.only(key, &[json!(false)])?;
    }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        s.only(key, &[])?;
    }
    s.only("pretraining_tp", &[json!(1)])?;
    s.ignore(&[
        "attention_dropout",
        "cache_implementation",
        "embd_pdrop",
        "is_llama_config",
        "max_sequence_length",
        "max_window_layers",
        "resid_pdrop",
        "unsloth_fixed",
        "unsloth_version",
    ]);
    s.ignore(transformers::WITHOUT_EFFECT);
    Ok(())
}

/// One token's number, or a list of them.
pub(crate) fn token_list(value: Option<&Value>) -> Vec<u32> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(number).collect(),
        Some(value) => number(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64, "eos_token_id": [1, 2],
        })
    }

    fn with(changes: Value) -> Result<Config> {
        let mut value = base();
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        Config::read(Settings::parse(FILE, value.to_string().as_bytes())?)
    }

    #[test]
    fn what_is_left_out_has_the_familys_default() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.depth, config.key_heads), (6, 4));
        assert_eq!(config.windows, [None; 3]);
        assert!(!config.tied && !config.input_bias && !config.scaled);
        assert_eq!(config.ends, [1, 2]);
        let gemma = with(json!({"architectures": ["GemmaForCausalLM"], "hidden_act": "gelu"}));
        let gemma = gemma.unwrap();
        assert_eq!((gemma.depth, gemma.activation), (256, Activation::GeluTanh));
        assert!(gemma.tied && gemma.scaled);
        let qwen = with(json!({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 5}));
        let qwen = qwen.unwrap();
        assert!(qwen.input_bias && !qwen.output_bias);
        assert_eq!(
            qwen.windows, [None; 3],
            "only when use_sliding_window is set"
        );
    }

    #[test]
    fn windows_follow_the_familys_rule() {
        let windows = |changes| with(changes).unwrap().windows;
        let mistral = json!({"architectures": ["MistralForCausalLM"], "sliding_window": 7});
        assert_eq!(windows(mistral), [Some(7); 3]);
        let mistral = json!({"architectures": ["MistralForCausalLM"], "sliding_window": null});
        assert_eq!(windows(mistral), [None; 3]);
        let mut qwen = json!({
            "architectures": ["Qwen2ForCausalLM"], "sliding_window": 5, "use_sliding_window": true,
            "max_window_layers": 2,
        });
        assert_eq!(windows(qwen.clone()), [None, None, Some(5)]);
        qwen["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention"]);
        assert_eq!(windows(qwen), [Some(5), None, None]);
    }

    #[test]
    fn what_is_missing_unknown_or_impossible_is_named() {
        for (changes, named) in [
            (json!({"architectures": ["T5Model"]}), "LlamaForCausalLM"),
            (json!({"architectures": null}), "architectures"),
            (json!({"hidden_size": null}), "`hidden_size` is missing"),
            (json!({"vocab_size": 0}), "vocab_size"),
            (json!({"hidden_size": 25}), "4 heads do not divide"),
            (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
            (json!({"sliding_window": 9}), "sliding_window"),
            (
                json!({"architectures": ["MistralForCausalLM"], "attention_bias": true}),
                "attention_bias",
            ),
            (json!({"hidden_act": "mish"}), "hidden_act"),
            (
                json!({"quantization_config": {"bits": 4}}),
                "quantization_config",
            ),
            (json!({"new_trick": 1}), "`new_trick` is unknown"),
            (
                json!({"architectures": ["Qwen3ForCausalLM"], "layer_types": ["full_attention"]}),
                "layer_types",
            ),
        ] {
            let message = with(changes).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(message.starts_with(FILE), "{message}");
        }
    }
}
