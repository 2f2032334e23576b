//! What the denoiser is told of prompts: one text encoder's tokens, or those of two side by side and a whole prompt's sum
//! (Podell et al., "SDXL: improving latent diffusion models for high-resolution image synthesis", 2023, section 2.1); or
//! T5's tokens and CLIP's sum (Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis",
//! 2024, section 4, without its zeros).

use candle_core::Tensor;

use super::clip::{ClipText, Whole};
use super::denoiser::Denoiser;
use super::error::{Error, Result};
use super::folder::Folder;
use super::index::Family;
use super::lora::Loras;
use super::t5::T5;
use super::tokenizer::PromptTokenizer;
use crate::kernels::Kernels;

/// The most tokens that FLUX.1 is given, with guidance and without, as their authors do.
const GUIDED: usize = 512;
const UNGUIDED: usize = 256;

/// Prompts as the denoiser takes them.
#[derive(Debug)]
pub(crate) struct Conditioning {
    /// `[prompts, tokens, width]`.
    pub(crate) tokens: Tensor,
    /// `[prompts, width]`, for the families that have it.
    pub(crate) pooled: Option<Tensor>,
}

/// A pipeline's text encoders with their tokenizers.
#[derive(Debug)]
pub(crate) struct TextEncoders {
    /// CLIP's, one or two.
    clips: Vec<(PromptTokenizer, ClipText)>,
    penultimate: bool,
    /// What gives the tokens in CLIP's place.
    t5: Option<(PromptTokenizer, T5)>,
}

impl TextEncoders {
    pub(crate) fn load(
        folder: &mut Folder,
        family: Family,
        denoiser: &Denoiser,
        loras: &Loras,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let first = |whole| ("text_encoder", "tokenizer", whole);
        let second = ("text_encoder_2", "tokenizer_2");
        let wanted = match family {
            Family::StableDiffusion => vec![first(Whole::None)],
            Family::Xl { .. } => vec![first(Whole::None), (second.0, second.1, Whole::Projected)],
            Family::Flux => vec![first(Whole::End)],
        };
        let mut clips = Vec::new();
        for (encoder, tokenizer, whole) in wanted {
            let clip = ClipText::load(folder, encoder, whole, loras, kernels)?;
            let tokenizer =
                PromptTokenizer::load(folder, tokenizer, clip.positions(), clip.vocabulary())?;
            clips.push((tokenizer, clip));
        }
        let length = clips[0].0.length();
        if let Some((other, _)) = clips.iter().find(|(other, _)| other.length() != length) {
            return Err(Error::Setting {
                file: "tokenizer_2/tokenizer_config.json".to_owned(),
                key: "model_max_length".to_owned(),
                problem: format!(
                    "makes prompts of {} tokens, and the first tokenizer {length}",
                    other.length()
                ),
            });
        }
        let t5 = match denoiser {
            Denoiser::UNet(_) => None,
            Denoiser::Flux(flux) => {
                let most = if flux.is_guided() { GUIDED } else { UNGUIDED };
                let t5 = T5::load(folder, second.0, most, kernels)?;
                let tokenizer = PromptTokenizer::load_t5(folder, second.1, most, t5.vocabulary())?;
                Some((tokenizer, t5))
            }
        };
        Ok(Self {
            clips,
            penultimate: matches!(family, Family::Xl { .. }),
            t5,
        })
    }

    /// Numbers that stand for one token.
    pub(crate) fn width(&self) -> usize {
        match &self.t5 {
            Some((_, t5)) => t5.width(),
            None => self.clips.iter().map(|(_, clip)| clip.width()).sum(),
        }
    }

    /// Numbers that stand for a whole prompt, where there are any.
    pub(crate) fn pooled_width(&self) -> Option<usize> {
        self.clips.iter().find_map(|(_, clip)| clip.whole_width())
    }

    /// Tokens of every prompt.
    pub(crate) fn length(&self) -> usize {
        match &self.t5 {
            Some((tokenizer, _)) => tokenizer.length(),
            None => self.clips[0].0.length(),
        }
    }

    /// Encodes prompts; `None` stands for zeros in place of a prompt's numbers.
    pub(crate) fn encode(
        &self,
        kernels: &dyn Kernels,
        prompts: &[Option<&str>],
    ) -> Result<Conditioning> {
        let texts: Vec<&str> = prompts.iter().flatten().copied().collect();
        let ids = |tokenizer: &PromptTokenizer| -> Result<Vec<_>> {
            texts
                .iter()
                .map(|prompt| tokenizer.encode(prompt))
                .collect()
        };
        let (mut tokens, mut pooled) = (Vec::new(), None);
        for (tokenizer, clip) in &self.clips {
            let encoded = clip.forward(kernels, &ids(tokenizer)?, self.penultimate)?;
            tokens.push(encoded.tokens);
            pooled = encoded.pooled.or(pooled);
        }
        let tokens = match &self.t5 {
            None => Tensor::cat(&tokens, 2)?.contiguous()?,
            Some((tokenizer, t5)) => {
                let encoded = ids(tokenizer)?;
                let encoded = encoded.iter().map(|ids| t5.forward(kernels, ids));
                Tensor::stack(&encoded.collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        Ok(Conditioning {
            tokens: spread(&tokens, prompts)?,
            pooled: pooled.map(|pooled| spread(&pooled, prompts)).transpose()?,
        })
    }
}

/// Rows of `encoded` where there is a prompt, zeros where there is none.
fn spread(encoded: &Tensor, prompts: &[Option<&str>]) -> Result<Tensor> {
    let mut row = 0;
    let rows = prompts.iter().map(|prompt| match prompt {
        Some(_) => {
            row += 1;
            encoded.narrow(0, row - 1, 1)
        }
        None => encoded.narrow(0, 0, 1)?.zeros_like(),
    });
    let rows = rows.collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&rows, 0)?.contiguous()?)
}
