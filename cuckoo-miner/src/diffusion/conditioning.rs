//! What the denoiser is told of prompts: one text encoder's tokens, or those of two side by side and a whole prompt's sum
//! (Podell et al., "SDXL: improving latent diffusion models for high-resolution image synthesis", 2023, section 2.1).

use candle_core::Tensor;

use super::clip::ClipText;
use super::error::{Error, Result};
use super::folder::Folder;
use super::index::Family;
use super::lora::Loras;
use super::tokenizer::PromptTokenizer;
use crate::kernels::Kernels;

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
    encoders: Vec<(PromptTokenizer, ClipText)>,
    penultimate: bool,
}

impl TextEncoders {
    pub(crate) fn load(
        folder: &mut Folder,
        family: Family,
        loras: &Loras,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let penultimate = family != Family::StableDiffusion;
        let names = [
            ("text_encoder", "tokenizer", false),
            ("text_encoder_2", "tokenizer_2", true),
        ];
        let mut encoders = Vec::new();
        for (encoder, tokenizer, projects) in &names[..if penultimate { 2 } else { 1 }] {
            let clip = ClipText::load(folder, encoder, *projects, loras, kernels)?;
            let tokenizer =
                PromptTokenizer::load(folder, tokenizer, clip.positions(), clip.vocabulary())?;
            encoders.push((tokenizer, clip));
        }
        let length = encoders[0].0.length();
        if let Some((other, _)) = encoders.iter().find(|(other, _)| other.length() != length) {
            return Err(Error::Setting {
                file: "tokenizer_2/tokenizer_config.json".to_owned(),
                key: "model_max_length".to_owned(),
                problem: format!(
                    "makes prompts of {} tokens, and the first tokenizer {length}",
                    other.length()
                ),
            });
        }
        Ok(Self {
            encoders,
            penultimate,
        })
    }

    /// Numbers that stand for one token.
    pub(crate) fn width(&self) -> usize {
        self.encoders.iter().map(|(_, clip)| clip.width()).sum()
    }

    /// Numbers that stand for a whole prompt, where there are any.
    pub(crate) fn pooled_width(&self) -> Option<usize> {
        self.encoders.iter().find_map(|(_, clip)| clip.projection())
    }

    /// Encodes prompts; `None` stands for zeros in place of a prompt's numbers.
    pub(crate) fn encode(
        &self,
        kernels: &dyn Kernels,
        prompts: &[Option<&str>],
    ) -> Result<Conditioning> {
        let texts: Vec<&str> = prompts.iter().flatten().copied().collect();
        let (mut tokens, mut pooled) = (Vec::new(), None);
        for (tokenizer, clip) in &self.encoders {
            let ids = texts
                .iter()
                .map(|prompt| tokenizer.encode(prompt))
                .collect::<Result<Vec<_>>>()?;
            let encoded = clip.forward(kernels, &ids, self.penultimate)?;
            tokens.push(encoded.tokens);
            pooled = encoded.pooled.or(pooled);
        }
        let tokens = Tensor::cat(&tokens, 2)?.contiguous()?;
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
