//! What `model_index.json` says: which family a pipeline is of, and which class each part.

use serde_json::json;

use super::error::Result;
use super::folder::{Folder, SETTINGS_LIMIT};
use super::settings::Settings;

const FILE: &str = "model_index.json";

/// A family of pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Stable Diffusion 1 and 2, and what is shaped like them.
    StableDiffusion,
    /// Stable Diffusion XL: two text encoders, and a denoiser that is told the picture's size.
    Xl {
        /// Whether a negative prompt that is absent is all zeros, and not an empty text.
        zero_negative: bool,
    },
}

impl Family {
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        let mut s = Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?;
        let class = [
            ("StableDiffusionPipeline", false),
            ("StableDiffusionXLPipeline", true),
        ];
        let is_xl = s.choice("_class_name", false, &class)?;
        let mut parts = vec![
            ("text_encoder", "transformers", "CLIPTextModel"),
            ("unet", "diffusers", "UNet2DConditionModel"),
            ("vae", "diffusers", "AutoencoderKL"),
        ];
        let mut tokenizers = vec!["tokenizer"];
        let family = if is_xl {
            parts.push((
                "text_encoder_2",
                "transformers",
                "CLIPTextModelWithProjection",
            ));
            tokenizers.push("tokenizer_2");
            // The watermark that diffusers may add is a package of its own, which is not installed with it.
            s.ignore(&["add_watermarker"]);
            Self::Xl {
                zero_negative: s.flag("force_zeros_for_empty_prompt", true)?,
            }
        } else {
            Self::StableDiffusion
        };
        for (part, library, class) in parts {
            s.only(part, &[json!([library, class])])?;
        }
        let classes =
            ["CLIPTokenizer", "CLIPTokenizerFast"].map(|class| json!(["transformers", class]));
        for tokenizer in tokenizers {
            s.only(tokenizer, &classes)?;
        }
        // An adapter for pictures as prompts changes what is made; the checker and its pre-processor do not.
        s.only("image_encoder", &[json!([null, null])])?;
        s.ignore(&[
            "scheduler",
            "safety_checker",
            "feature_extractor",
            "requires_safety_checker",
        ]);
        s.finish()?;
        Ok(family)
    }
}
