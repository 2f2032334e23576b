//! `config.json` and `preprocessor_config.json`: the sizes of a model, and of what it hears.

use std::ops::RangeInclusive;

use serde_json::json;

use super::mel::{HOP, SPAN};
use super::recording::Recording;
use crate::model::cache::PAGE;
use crate::model::error::{Error, Result};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;
use crate::model::transformers;

/// As `architectures` has it.
pub(crate) const ARCHITECTURE: &str = "WhisperForConditionalGeneration";

const FEATURES: &str = "preprocessor_config.json";
/// Where newer writers put them.
const PROCESSOR: &str = "processor_config.json";

/// Sizes of an encoder, or of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Width of the perceptron's inside.
    pub(crate) hidden: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Bands of frequencies in a frame.
    pub(crate) bands: usize,
    /// Numbers that stand for a moment, and for a token.
    pub(crate) width: usize,
    pub(crate) encoder: Stack,
    pub(crate) decoder: Stack,
    /// Tokens it tells apart.
    pub(crate) vocabulary: usize,
    /// Moments in a window, two frames each.
    pub(crate) sources: usize,
    /// Tokens of a window at the most, those it begins with included.
    pub(crate) targets: usize,
}

impl Config {
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        const FILE: &str = "config.json";
        let config = Self::read(Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?)?;
        let nested = !folder.has(FEATURES) && folder.has(PROCESSOR);
        let file = if nested { PROCESSOR } else { FEATURES };
        let mut s = Settings::parse(file, &folder.bytes(file, SETTINGS_LIMIT)?)?;
        if nested {
            s = s
                .section("feature_extractor")?
                .ok_or_else(|| Error::Missing {
                    file: FEATURES.to_owned(),
                })?;
        }
        config.features(s)?;
        Ok(config)
    }

    fn read(mut s: Settings) -> Result<Self> {
        const SIZE: RangeInclusive<usize> = 1..=1 << 20;
        s.choices("architectures", &[(ARCHITECTURE, ())], 1)?;
        let width = s.required("d_model", SIZE)?;
        let mut stack = |part: &str| -> Result<Stack> {
            let key = format!("{part}_attention_heads");
            let heads = s.required(&key, 1..=4096)?;
            if !width.is_multiple_of(heads) {
                let problem = format!("is {heads}, which does not divide the width, {width}");
                return Err(s.error(&key, problem));
            }
            Ok(Stack {
                layers: s.required(&format!("{part}_layers"), 1..=4096)?,
                heads,
                hidden: s.required(&format!("{part}_ffn_dim"), SIZE)?,
            })
        };
        let (encoder, decoder) = (stack("encoder")?, stack("decoder")?);
        let config = Self {
            bands: s.required("num_mel_bins", 1..=1024)?,
            width,
            encoder,
            decoder,
            vocabulary: s.required("vocab_size", 1..=1 << 24)?,
            // Half a second to ten minutes.
            sources: s.count("max_source_positions", 1500, 25..=30_000)?,
            targets: s.count("max_target_positions", 448, 16..=1 << 16)?,
        };
        s.only("activation_function", &[json!("gelu")])?;
        s.only("tie_word_embeddings", &[json!(true)])?;
        for key in ["scale_embedding", "quantization_config"] {
            s.only(key, &[json!(false)])?;
        }
        s.ignore(&[
            // Training.
            "activation_dropout",
            "apply_spec_augment",
            "attention_dropout",
            "decoder_layerdrop",
            "dropout",
            "encoder_layerdrop",
            "init_std",
            "mask_feature_length",
            "mask_feature_min_masks",
            "mask_feature_prob",
            "mask_time_length",
            "mask_time_min_masks",
            "mask_time_prob",
            // Of models that tell recordings apart, and of times of single words.
            "classifier_proj_size",
            "median_filter_width",
            "use_weighted_layer_sum",
            // The encoder's, by another name; what `generation_config.json` says.
            "eos_token_id",
            "forced_decoder_ids",
            "num_hidden_layers",
        ]);
        s.ignore(transformers::WITHOUT_EFFECT);
        s.finish()?;
        Ok(config)
    }

    /// Checks that what the model was taught to hear is what is computed.
    fn features(&self, mut s: Settings) -> Result<()> {
        s.only(
            "feature_extractor_type",
            &[json!("WhisperFeatureExtractor")],
        )?;
        s.only("feature_size", &[json!(self.bands)])?;
        s.only("hop_length", &[json!(HOP)])?;
        s.only("n_fft", &[json!(SPAN)])?;
        s.only("sampling_rate", &[json!(Recording::RATE)])?;
        s.only("n_samples", &[json!(self.window())])?;
        s.only("nb_max_frames", &[json!(self.window() / HOP)])?;
        s.only(
            "chunk_length",
            &[json!(self.window() / Recording::RATE as usize)],
        )?;
        s.only("padding_side", &[json!("right")])?;
        for key in ["dither", "padding_value"] {
            s.only(key, &[json!(0)])?;
        }
        s.only("do_normalize", &[json!(false)])?;
        // The same filters for all; old files list their numbers.
        s.ignore(&["mel_filters", "processor_class", "return_attention_mask"]);
        s.finish()
    }

    /// Numbers of a recording in a window.
    pub(crate) fn window(&self) -> usize {
        self.sources * 2 * HOP
    }

    /// Bytes of memory that a recording of so many samples takes while it is written down, beside the weights: the recording
    /// and its features, and of one window what is larger: what the encoder computes with, or the keys and values of the
    /// decoder.
    pub(crate) fn run_memory(&self, samples: u64) -> u64 {
        let size = |numbers: usize| numbers as u64;
        let samples = samples.max(size(self.window()));
        let recording = samples + samples / size(HOP) * size(self.bands);
        // The second convolution, of which every moment looks at three frames; or a layer's perceptron.
        let moment = (8 * self.width).max(3 * self.width + 2 * self.encoder.hidden);
        let pages = self.sources.next_multiple_of(PAGE) + self.targets.next_multiple_of(PAGE);
        let decoder = size(self.decoder.layers) * 2 * size(pages) * size(self.width);
        let window = decoder.max(size(self.sources) * size(moment));
        (recording + window) * size(size_of::<f32>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn changed(mut value: Value, changes: Value) -> Value {
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        value
    }

    fn with(changes: Value) -> Result<Config> {
        let base = json!({
            "architectures": ["WhisperForConditionalGeneration"], "d_model": 384, "num_mel_bins": 80,
            "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
            "decoder_layers": 2, "decoder_attention_heads": 8, "decoder_ffn_dim": 1000,
            "vocab_size": 51865, "activation_function": "gelu",
        });
        let value = changed(base, changes).to_string();
        Config::read(Settings::parse("config.json", value.as_bytes())?)
    }

    fn hears(changes: Value) -> Result<()> {
        let base = json!({
            "chunk_length": 30, "feature_size": 80, "hop_length": 160, "n_fft": 400, "n_samples": 480_000,
            "nb_max_frames": 3000, "sampling_rate": 16_000, "padding_value": 0.0, "mel_filters": [[0.0]],
        });
        let value = changed(base, changes).to_string();
        with(json!({}))?.features(Settings::parse(FEATURES, value.as_bytes())?)
    }

    #[test]
    fn memory_of_a_run_is_of_the_recording_and_one_window() {
        let large = |layers: u32| {
            let config = with(json!({
                "d_model": 1280, "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20,
                "encoder_ffn_dim": 5120, "decoder_layers": layers, "decoder_attention_heads": 20,
                "decoder_ffn_dim": 5120,
            }));
            config.unwrap()
        };
        let second =
            |config: &Config| config.run_memory(16_000 * 61) - config.run_memory(16_000 * 60);
        // large-v3: 32 layers of keys and values of 1536 moments and 448 tokens.
        let whole = large(32);
        let recording = 4 * (480_000 + 3_000 * 128);
        let window = 4 * 32 * 2 * (1_536 + 448) * 1_280;
        assert_eq!(whole.run_memory(480_000), recording + window);
        assert_eq!(whole.run_memory(1), whole.run_memory(480_000));
        assert_eq!(second(&whole), 4 * (16_000 + 100 * 128));
        // turbo: its encoder takes more than its four layers.
        let turbo = large(4);
        assert_eq!(
            turbo.run_memory(1),
            recording + 4 * 1_500 * (3 * 1_280 + 2 * 5_120)
        );
        assert_eq!(second(&turbo), second(&whole));
    }

    #[test]
    fn sizes_are_those_of_the_file() {
        let config = with(json!({})).unwrap();
        let decoder = Stack {
            layers: 2,
            heads: 8,
            hidden: 1000,
        };
        assert_eq!((config.decoder, config.encoder.heads), (decoder, 6));
        assert_eq!((config.sources, config.targets), (1500, 448));
        assert_eq!(config.window(), 480_000);
        hears(json!({})).unwrap();
    }

    #[test]
    fn what_is_missing_unknown_or_impossible_is_named() {
        for (changes, named) in [
            (
                json!({"architectures": ["WhisperForAudioClassification"]}),
                ARCHITECTURE,
            ),
            (json!({"d_model": null}), "`d_model` is missing"),
            (
                json!({"decoder_attention_heads": 7}),
                "decoder_attention_heads",
            ),
            (
                json!({"max_source_positions": 1 << 20}),
                "max_source_positions",
            ),
            (
                json!({"activation_function": "relu"}),
                "activation_function",
            ),
            (json!({"scale_embedding": true}), "scale_embedding"),
            (json!({"new_trick": 1}), "`new_trick` is unknown"),
        ] {
            let message = with(changes).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
        for (changes, named) in [
            (json!({"feature_size": 128}), "feature_size"),
            (json!({"chunk_length": 15}), "chunk_length"),
            (json!({"sampling_rate": 8000}), "sampling_rate"),
            (json!({"do_normalize": true}), "do_normalize"),
        ] {
            let message = hears(changes).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(message.starts_with(FEATURES), "{message}");
        }
    }
}
