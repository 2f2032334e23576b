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
    /// FLUX.1: a transformer that matches flows, told by CLIP of the whole prompt and by T5 of its tokens.
    Flux,
}

impl Family {
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        let mut s = Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?;
        let plain = Self::StableDiffusion;
        let class = [
            ("StableDiffusionPipeline", plain),
            (
                "StableDiffusionXLPipeline",
                Self::Xl {
                    zero_negative: true,
                },
            ),
            ("FluxPipeline", Self::Flux),
        ];
        let mut family = s.choice("_class_name", plain, &class)?;
        if let Self::Xl { zero_negative } = &mut family {
            // The watermark that diffusers may add is a package of its own, which is not installed with it.
            s.ignore(&["add_watermarker"]);
            *zero_negative = s.flag("force_zeros_for_empty_prompt", true)?;
        }
        let clip = ["CLIPTokenizer", "CLIPTokenizerFast"];
        let t5 = ["T5Tokenizer", "T5TokenizerFast"];
        let (denoiser, second) = match family {
            Self::StableDiffusion => (("unet", "UNet2DConditionModel"), None),
            Self::Xl { .. } => (
                ("unet", "UNet2DConditionModel"),
                Some(("CLIPTextModelWithProjection", clip)),
            ),
            Self::Flux => (
                ("transformer", "FluxTransformer2DModel"),
                Some(("T5EncoderModel", t5)),
            ),
        };
        let mut parts = vec![
            ("text_encoder", "transformers", vec!["CLIPTextModel"]),
            ("tokenizer", "transformers", clip.to_vec()),
            (denoiser.0, "diffusers", vec![denoiser.1]),
            ("vae", "diffusers", vec!["AutoencoderKL"]),
        ];
        if let Some((encoder, tokenizer)) = second {
            parts.push(("text_encoder_2", "transformers", vec![encoder]));
            parts.push(("tokenizer_2", "transformers", tokenizer.to_vec()));
        }
        for (part, library, classes) in parts {
            let classes: Vec<_> = classes
                .iter()
                .map(|class| json!([library, class]))
                .collect();
            s.only(part, &classes)?;
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
