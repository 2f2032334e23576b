//! The blocks: attention among all patches and tokens, and perceptrons, scaled and shifted by what is known of the picture as
//! a whole (Peebles and Xie, "Scalable diffusion models with transformers", 2023).

use candle_core::Tensor;

use super::config::FluxConfig;
use super::positions::{Turns, apart};
use crate::diffusion::error::Result;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels, Norm};
use crate::model::layers::{Projection, RmsNorm};

/// Fixed in diffusers, for all norms.
const EPS: f64 = 1e-6;
/// How much wider a perceptron is inside.
const WIDER: usize = 4;

/// Names of the layers for patches or for tokens in a double block.
struct Names {
    modulate: &'static str,
    inputs: [&'static str; 3],
    norms: [&'static str; 2],
    output: &'static str,
    up: &'static str,
    down: &'static str,
}

const PATCHES: Names = Names {
    modulate: "norm1.linear",
    inputs: ["attn.to_q", "attn.to_k", "attn.to_v"],
    norms: ["attn.norm_q", "attn.norm_k"],
    output: "attn.to_out.0",
    up: "ff.net.0.proj",
    down: "ff.net.2",
};

const TOKENS: Names = Names {
    modulate: "norm1_context.linear",
    inputs: ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    norms: ["attn.norm_added_q", "attn.norm_added_k"],
    output: "attn.to_add_out",
    up: "ff_context.net.0.proj",
    down: "ff_context.net.2",
};

/// Queries, keys and values, `[tokens, width]` each; queries and keys normalised in each head, their pairs apart.
struct Attended {
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

/// How queries, keys and values come about.
#[derive(Debug)]
struct Attention {
    /// Queries, keys, values, and in a single block the perceptron's inside, side by side.
    input: Projection,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    heads: usize,
    width: usize,
}

impl Attention {
    /// The layers `inputs` and `norms`, and where there is one the perceptron's `up`.
    fn load(
        part: &Part<'_>,
        inputs: [&str; 3],
        norms: [&str; 2],
        up: Option<&str>,
        config: &FluxConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let (width, heads) = (config.width(), config.heads);
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        // Values are not turned.
        for (name, is_turned) in inputs.iter().zip([true, true, false]) {
            let part = part.at(name);
            let mut weight = part.tensor("weight", &[width, width])?;
            let mut bias = part.tensor("bias", &[width])?;
            if is_turned {
                (weight, bias) = (apart(&weight, heads)?, apart(&bias, heads)?);
            }
            weights.push(weight);
            biases.push(bias);
        }
        if let Some(up) = up {
            let part = part.at(up);
            weights.push(part.tensor("weight", &[width * WIDER, width])?);
            biases.push(part.tensor("bias", &[width * WIDER])?);
        }
        let norm = |name: &str| -> Result<RmsNorm> {
            let weight = part.at(name).tensor("weight", &[config.depth])?;
            Ok(RmsNorm::of(apart(&weight, 1)?, EPS))
        };
        Ok(Self {
            input: Projection::of(kernels, weights, biases)?,
            query_norm: norm(norms[0])?,
            key_norm: norm(norms[1])?,
            heads,
            width,
        })
    }

    /// What it makes of `x`, and all that came of its input layers.
    fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<(Attended, Tensor)> {
        let y = self.input.forward(kernels, x)?;
        let width = self.width;
        let part = |i: usize| y.narrow(1, i * width, width);
        let attended = Attended {
            query: self.query_norm.by_head(kernels, &part(0)?)?,
            key: self.key_norm.by_head(kernels, &part(1)?)?,
            value: part(2)?.contiguous()?,
        };
        Ok((attended, y))
    }

    /// Attention of all tokens and patches among each other, `[tokens, width]`.
    fn attend(&self, kernels: &dyn Kernels, all: &Attended, turns: &Turns) -> Result<Tensor> {
        let q = turns.apply(kernels, &all.query)?.unsqueeze(0)?;
        let k = turns.apply(kernels, &all.key)?.unsqueeze(0)?;
        let v = all.value.unsqueeze(0)?;
        Ok(kernels
            .attention(&q, &k, &v, self.heads, false)?
            .squeeze(0)?)
    }
}

/// The layers of a double block for patches, or those for tokens.
#[derive(Debug)]
struct Stream {
    modulate: Projection,
    attention: Attention,
    output: Projection,
    up: Projection,
    down: Projection,
}

/// How a stream's layers are scaled and shifted, one number a channel each.
struct Modulation {
    attention: [Tensor; 3],
    perceptron: [Tensor; 3],
}

impl Stream {
    fn load(
        part: &Part<'_>,
        names: &Names,
        config: &FluxConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let width = config.width();
        let project = |name: &str, inputs, outputs| {
            Projection::load(kernels, part, &[(name, outputs)], inputs, true)
        };
        Ok(Self {
            modulate: project(names.modulate, width, width * 6)?,
            attention: Attention::load(part, names.inputs, names.norms, None, config, kernels)?,
            output: project(names.output, width, width)?,
            up: project(names.up, width, width * WIDER)?.activated(Activation::GeluTanh),
            down: project(names.down, width * WIDER, width)?,
        })
    }

    fn begin(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        whole: &Tensor,
    ) -> Result<(Modulation, Attended)> {
        let [shift, scale, gate, shift_up, scale_up, gate_up] =
            parts::<6>(&self.modulate.forward(kernels, whole)?)?;
        let y = modulated(kernels, x, &shift, &scale)?;
        let (attended, _) = self.attention.forward(kernels, &y)?;
        let modulation = Modulation {
            attention: [shift, scale, gate],
            perceptron: [shift_up, scale_up, gate_up],
        };
        Ok((modulation, attended))
    }

    fn finish(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        attention: &Tensor,
        modulation: &Modulation,
    ) -> Result<Tensor> {
        let [_, _, gate] = &modulation.attention;
        let y = self.output.forward(kernels, attention)?;
        let x = kernels.add(x, &y.broadcast_mul(gate)?)?;
        let [shift, scale, gate] = &modulation.perceptron;
        let y = modulated(kernels, &x, shift, scale)?;
        let y = self.up.forward(kernels, &y)?;
        let y = self.down.forward(kernels, &y)?;
        Ok(kernels.add(&x, &y.broadcast_mul(gate)?)?)
    }
}

/// A block with layers of their own for patches and for tokens.
#[derive(Debug)]
pub(super) struct DoubleBlock {
    image: Stream,
    text: Stream,
}

impl DoubleBlock {
    pub(super) fn load(
        part: &Part<'_>,
        config: &FluxConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        Ok(Self {
            image: Stream::load(part, &PATCHES, config, kernels)?,
            text: Stream::load(part, &TOKENS, config, kernels)?,
        })
    }

    /// Of patches and tokens, `[patches, width]` and `[tokens, width]`, the same.
    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        image: &Tensor,
        text: &Tensor,
        whole: &Tensor,
        turns: &Turns,
    ) -> Result<(Tensor, Tensor)> {
        let (of_image, patches) = self.image.begin(kernels, image, whole)?;
        let (of_text, tokens) = self.text.begin(kernels, text, whole)?;
        let all = Attended {
            query: Tensor::cat(&[tokens.query, patches.query], 0)?,
            key: Tensor::cat(&[tokens.key, patches.key], 0)?,
            value: Tensor::cat(&[tokens.value, patches.value], 0)?,
        };
        let y = self.image.attention.attend(kernels, &all, turns)?;
        let (tokens, patches) = (text.dim(0)?, image.dim(0)?);
        let of_patches = y.narrow(0, tokens, patches)?;
        let image = self.image.finish(kernels, image, &of_patches, &of_image)?;
        let of_tokens = y.narrow(0, 0, tokens)?;
        let text = self.text.finish(kernels, text, &of_tokens, &of_text)?;
        Ok((image, text))
    }
}

/// A block with one set of layers, whose attention and perceptron stand side by side.
#[derive(Debug)]
pub(super) struct SingleBlock {
    modulate: Projection,
    attention: Attention,
    output: Projection,
}

impl SingleBlock {
    pub(super) fn load(
        part: &Part<'_>,
        config: &FluxConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let width = config.width();
        let project = |name: &str, inputs, outputs| {
            Projection::load(kernels, part, &[(name, outputs)], inputs, true)
        };
        Ok(Self {
            modulate: project("norm.linear", width, width * 3)?,
            attention: Attention::load(
                part,
                PATCHES.inputs,
                PATCHES.norms,
                Some("proj_mlp"),
                config,
                kernels,
            )?,
            output: project("proj_out", width * (1 + WIDER), width)?,
        })
    }

    /// Of tokens and patches, `[tokens + patches, width]`, the same.
    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        whole: &Tensor,
        turns: &Turns,
    ) -> Result<Tensor> {
        let [shift, scale, gate] = parts::<3>(&self.modulate.forward(kernels, whole)?)?;
        let y = modulated(kernels, x, &shift, &scale)?;
        let (all, inputs) = self.attention.forward(kernels, &y)?;
        let attention = self.attention.attend(kernels, &all, turns)?;
        let width = self.attention.width;
        let inside = inputs.narrow(1, 3 * width, WIDER * width)?;
        let inside = kernels.activate(&inside, Activation::GeluTanh)?;
        let y = Tensor::cat(&[attention, inside], 1)?;
        let y = self.output.forward(kernels, &y)?;
        Ok(kernels.add(x, &y.broadcast_mul(&gate)?)?)
    }
}

/// One row as `N` equally wide ones, each on its own.
pub(super) fn parts<const N: usize>(row: &Tensor) -> Result<[Tensor; N]> {
    let row = row.flatten_all()?;
    let width = row.elem_count() / N;
    let parts = (0..N).map(|i| row.narrow(0, i * width, width));
    let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
    <[Tensor; N]>::try_from(parts).map_err(|_| {
        let problem = format!("a row was not cut into {N} parts");
        candle_core::Error::Msg(problem).into()
    })
}

/// Layer normalisation without weights of its own, then scaled by one more than `scale` and shifted.
pub(super) fn modulated(
    kernels: &dyn Kernels,
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> Result<Tensor> {
    let weight = (scale + 1.0)?;
    let norm = Norm {
        weight: &weight,
        bias: shift,
        eps: EPS,
    };
    Ok(kernels.layer_norm(x, norm)?)
}
