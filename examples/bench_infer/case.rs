//! What is measured: shapes of models, and sizes of what they are given.

use std::path::{Path, PathBuf};

use cuckoo_miner::Philox;
use serde_json::{Value, json};

use crate::Result;

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) model: Model,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A step of denoising, with guidance where the model has it, on latents of so many rows and columns.
    Step { side: usize },
    /// Latents of so many rows and columns to a picture.
    Decode { side: usize },
    /// A prompt through the text encoder.
    Prompt,
    /// A text of so many tokens, up to the scores of its next one.
    Read { tokens: usize },
    /// The next token of each text.
    Write { texts: usize, tokens: usize },
    /// Texts of so many tokens to vectors.
    Embed { texts: usize, tokens: usize },
}

const WRITE_ONE: Kind = Kind::Write {
    texts: 1,
    tokens: 128,
};
const WRITE_EIGHT: Kind = Kind::Write {
    texts: 8,
    tokens: 32,
};

/// All rows.
pub(crate) const CASES: [Case; 15] = [
    Case {
        name: "SD 1.5 step with guidance, 32x32 latents",
        model: Model::Pipeline,
        kind: Kind::Step { side: 32 },
    },
    Case {
        name: "SD 1.5 step with guidance, 64x64 latents",
        model: Model::Pipeline,
        kind: Kind::Step { side: 64 },
    },
    Case {
        name: "SD 1.5 decoder to 256x256",
        model: Model::Pipeline,
        kind: Kind::Decode { side: 32 },
    },
    Case {
        name: "SD 1.5 decoder to 512x512",
        model: Model::Pipeline,
        kind: Kind::Decode { side: 64 },
    },
    Case {
        name: "CLIP ViT-L/14 text encoder, one prompt",
        model: Model::Pipeline,
        kind: Kind::Prompt,
    },
    Case {
        name: "FLUX.1 of 2 double and 4 single blocks, step of 512x512",
        model: Model::Flux,
        kind: Kind::Step { side: 64 },
    },
    Case {
        name: "Qwen2 0.5B reads 128 tokens",
        model: Model::Language,
        kind: Kind::Read { tokens: 128 },
    },
    Case {
        name: "Qwen2 0.5B reads 512 tokens",
        model: Model::Language,
        kind: Kind::Read { tokens: 512 },
    },
    Case {
        name: "Qwen2 0.5B writes a token after 128",
        model: Model::Language,
        kind: WRITE_ONE,
    },
    Case {
        name: "Qwen2 0.5B writes 8 texts' tokens after 32",
        model: Model::Language,
        kind: WRITE_EIGHT,
    },
    Case {
        name: "Qwen2 0.5B in bfloat16 reads 128 tokens",
        model: Model::LanguageBf16,
        kind: Kind::Read { tokens: 128 },
    },
    Case {
        name: "Qwen2 0.5B in bfloat16 writes a token after 128",
        model: Model::LanguageBf16,
        kind: WRITE_ONE,
    },
    Case {
        name: "Qwen2 0.5B in bfloat16 writes 8 texts' tokens after 32",
        model: Model::LanguageBf16,
        kind: WRITE_EIGHT,
    },
    Case {
        name: "MiniLM-L6 embeds a text of 32 tokens",
        model: Model::Encoder,
        kind: Kind::Embed {
            texts: 1,
            tokens: 32,
        },
    },
    Case {
        name: "MiniLM-L6 embeds 32 texts of 32 tokens",
        model: Model::Encoder,
        kind: Kind::Embed {
            texts: 32,
            tokens: 32,
        },
    },
];

pub(crate) const PROMPT: &str = "large red circle, blue background";
pub(crate) const GUIDANCE: f64 = 7.5;
/// Tokens written in each round.
pub(crate) const WRITTEN: usize = 17;
/// Words that the language model and the encoder both have.
const VOCABULARY: u64 = 30_522;

/// Which model a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    Pipeline,
    /// FLUX.1 with a tenth of its blocks, in bfloat16.
    Flux,
    Language,
    /// The same numbers, rounded to bfloat16.
    LanguageBf16,
    Encoder,
}

impl Model {
    /// What its folder in the scratch folder and the program that writes it call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Flux => "flux",
            Self::Language => "language",
            Self::LanguageBf16 => "language-bf16",
            Self::Encoder => "encoder",
        }
    }
}

impl Case {
    /// The relative error up to which both sides computed the same: one of a picture's 256 levels, no other token at all.
    pub(crate) fn agreement(self) -> f32 {
        match self.kind {
            Kind::Decode { .. } => 1e-2,
            Kind::Write { .. } => 0.0,
            _ => 1e-4,
        }
    }

    /// How many results one measured time stands for: the steps in which tokens are written.
    pub(crate) fn steps(self) -> f64 {
        match self.kind {
            Kind::Write { .. } => (WRITTEN - 1) as f64,
            _ => 1.0,
        }
    }

    /// The tokens of each text.
    pub(crate) fn texts(self) -> Vec<Vec<u32>> {
        let (texts, tokens) = match self.kind {
            Kind::Read { tokens } => (1, tokens),
            Kind::Write { texts, tokens } | Kind::Embed { texts, tokens } => (texts, tokens),
            _ => (0, 0),
        };
        (0..texts as u64)
            .map(|text| {
                (0..tokens as u64)
                    .map(|i| ((1 + i + 1000 * text) * 7919 % VOCABULARY) as u32)
                    .collect()
            })
            .collect()
    }

    /// The latents it begins with.
    pub(crate) fn noise(self) -> Vec<f32> {
        let channels = match self.model {
            Model::Flux => 16,
            _ => 4,
        };
        match self.kind {
            Kind::Step { side } | Kind::Decode { side } => {
                Philox::new(7).normal(channels * side * side)
            }
            _ => Vec::new(),
        }
    }

    /// The same, for the peer: what it finds in which files.
    pub(crate) fn for_peer(self, folder: &Path, scratch: &Path) -> Result<Value> {
        let noise = scratch.join("noise.f32");
        let case = match self.kind {
            Kind::Step { side } if self.model == Model::Flux => {
                json!({ "kind": "flow step", "side": side, "prompt": PROMPT })
            }
            Kind::Step { side } => {
                json!({ "kind": "step", "side": side, "prompt": PROMPT, "guidance": GUIDANCE })
            }
            Kind::Decode { side } => json!({ "kind": "decode", "side": side }),
            Kind::Prompt => json!({ "kind": "prompt", "prompt": PROMPT }),
            Kind::Read { .. } => json!({ "kind": "read", "tokens": self.texts()[0] }),
            Kind::Write { .. } => {
                json!({ "kind": "write", "prompts": self.texts(), "count": WRITTEN })
            }
            Kind::Embed { .. } => json!({ "kind": "embed", "texts": self.texts() }),
        };
        let bytes: Vec<u8> = self
            .noise()
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        std::fs::write(&noise, bytes)?;
        let mut case = case;
        case["folder"] = json!(folder);
        case["noise"] = json!(noise);
        case["bf16"] = json!(self.model == Model::LanguageBf16);
        Ok(case)
    }
}

/// Where the peer leaves what it computed.
pub(crate) fn output_file(scratch: &Path) -> PathBuf {
    scratch.join("output.f32")
}
