//! `config.json` of an encoder: its sizes and ways.

use std::ops::RangeInclusive;

use serde_json::json;

use super::family::{FAMILIES, Family, GROUPS, Positions};
use crate::kernels::Activation;
use crate::model::error::Result;
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;
use crate::model::transformers;

/// Activations by the names that transformers has for them.
const ACTIVATIONS: [(&str, Activation); 5] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
];

/// An encoder's sizes and ways.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) family: &'static Family,
    /// Tokens it tells apart.
    pub(crate) vocabulary: usize,
    /// Numbers that stand for one token.
    pub(crate) width: usize,
    /// Width of the perceptron's inside.
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
    /// Positions there are numbers for, those that no text reaches included.
    pub(crate) positions: usize,
    /// Kinds of tokens; 0 where the family has none.
    pub(crate) kinds: usize,
    /// The padding token.
    pub(crate) padding: u32,
}

impl Config {
    /// Reads `config.json` in the sub-folder `within` (with its `/`, or empty).
    pub(crate) fn load(folder: &mut Folder, within: &str) -> Result<Self> {
        let file = format!("{within}config.json");
        let bytes = folder.bytes(&file, SETTINGS_LIMIT)?;
        Self::read(Settings::parse(&file, &bytes)?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        const SIZE: RangeInclusive<usize> = 1..=1 << 20;
        let names: Vec<_> = FAMILIES
            .iter()
            .flat_map(|family| family.architectures.map(|name| (name, family)))
            .collect();
        let family = s.choices("architectures", &names, 1)?[0];
        let keys = &family.keys;
        let width = s.required(keys.width, SIZE)?;
        let heads = s.required(keys.heads, 1..=4096)?;
        if !width.is_multiple_of(heads) {
            let problem = format!("is {width}, which {heads} heads do not divide");
            return Err(s.error(keys.width, problem));
        }
        let positions = s.required("max_position_embeddings", 1..=1 << 24)?;
        let vocabulary = s.required("vocab_size", 1..=1 << 24)?;
        let padding = match family.positions {
            Positions::FromZero => 0,
            // MPNet's is built in.
            Positions::AfterPadding if family.distances => 1,
            Positions::AfterPadding => s.count("pad_token_id", 1, 0..=vocabulary - 1)?,
        };
        if family.positions == Positions::AfterPadding && positions <= padding + 1 {
            let problem = format!(
                "is {positions}, and the first {} are no text's",
                padding + 1
            );
            return Err(s.error("max_position_embeddings", problem));
        }
        let config = Self {
            family,
            vocabulary,
            width,
            hidden: s.required(keys.hidden, SIZE)?,
            layers: s.required(keys.layers, 1..=4096)?,
            heads,
            eps: match keys.eps {
                Some(key) => s.number(key, 1e-12, 0.0..=1.0)?,
                None => 1e-12,
            },
            activation: s.choice(keys.activation, Activation::Gelu, &ACTIVATIONS)?,
            positions,
            kinds: match family.kinds {
                true => s.count("type_vocab_size", 2, 1..=4096)?,
                false => 0,
            },
            padding: padding as u32,
        };
        s.only("position_embedding_type", &[json!("absolute")])?;
        // transformers has the setting and does not look at it.
        s.only("relative_attention_num_buckets", &[json!(GROUPS)])?;
        for key in ["is_decoder", "add_cross_attention", "quantization_config"] {
            s.only(key, &[json!(false)])?;
        }
        s.ignore(&[
            // Training; angles of DistilBERT's positions are stored as any others.
            "attention_dropout",
            "attention_probs_dropout_prob",
            "classifier_dropout",
            "dropout",
            "eos_token_id",
            "gradient_checkpointing",
            "hidden_dropout_prob",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",
            "tie_weights_",
            "tie_word_embeddings",
            // The output layer that is not run.
            "directionality",
            "output_past",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        ]);
        s.ignore(transformers::WITHOUT_EFFECT);
        s.finish()?;
        Ok(config)
    }

    /// The longest text that there are positions for, in tokens.
    pub(crate) fn room(&self) -> usize {
        match self.family.positions {
            Positions::FromZero => self.positions,
            Positions::AfterPadding => self.positions - self.padding as usize - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn base() -> Value {
        json!({
            "architectures": ["BertModel"], "vocab_size": 100, "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 5,
        })
    }

    fn with(changes: Value) -> Result<Config> {
        let mut value = base();
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        Config::read(Settings::parse(
            "config.json",
            value.to_string().as_bytes(),
        )?)
    }

    #[test]
    fn what_is_left_out_has_the_familys_default() {
        let bert = with(json!({})).unwrap();
        assert_eq!((bert.kinds, bert.eps), (2, 1e-12));
        assert_eq!((bert.room(), bert.activation), (64, Activation::Gelu));
        let roberta = with(json!({"architectures": ["XLMRobertaForMaskedLM"]})).unwrap();
        assert_eq!((roberta.padding, roberta.room()), (5, 58));
        let mpnet = with(json!({"architectures": ["MPNetModel"]})).unwrap();
        assert_eq!((mpnet.padding, mpnet.kinds, mpnet.room()), (1, 0, 62));
    }

    #[test]
    fn what_is_missing_unknown_or_impossible_is_named() {
        for (changes, named) in [
            (json!({"architectures": ["T5Model"]}), "DistilBertModel"),
            (json!({"architectures": null}), "architectures"),
            (json!({"hidden_size": null}), "`hidden_size` is missing"),
            (json!({"hidden_size": 25}), "4 heads do not divide"),
            (
                json!({"position_embedding_type": "relative_key"}),
                "position_embedding_type",
            ),
            (json!({"is_decoder": true}), "is_decoder"),
            (json!({"hidden_act": "mish"}), "hidden_act"),
            (json!({"new_trick": 1}), "`new_trick` is unknown"),
            (
                json!({"architectures": ["RobertaModel"], "max_position_embeddings": 6}),
                "max_position_embeddings",
            ),
            (
                json!({"architectures": ["MPNetModel"], "relative_attention_num_buckets": 7}),
                "relative_attention_num_buckets",
            ),
            (
                json!({"architectures": ["DistilBertModel"]}),
                "`dim` is missing",
            ),
        ] {
            let message = with(changes).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(message.starts_with("config.json"), "{message}");
        }
    }
}
