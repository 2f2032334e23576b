//! From latents to pixels: the decoder of a variational autoencoder (Kingma and Welling, 2014; Esser et al., 2021).
//! Layer names and configuration follow diffusers' `AutoencoderKL`. The encoder is not loaded: text-to-image starts
//! from noise.

use candle_core::Tensor;
use serde_json::json;

use super::error::Result;
use super::folder::{Folder, SETTINGS_LIMIT};
use super::layers::{Conv2d, GroupNorm, Linear, to_image, to_tokens};
use super::resnet::{ResnetBlock, ResnetStyle, Upsample};
use super::settings::Settings;
use super::weights::{Part, Weights};
use crate::kernels::{Activation, Kernels};

const CONFIG: &str = "vae/config.json";
/// Fixed in diffusers' `Decoder`.
const EPS: f64 = 1e-6;

/// What `vae/config.json` says about decoding.
#[derive(Debug)]
struct VaeConfig {
    latents: usize,
    /// From the finest resolution.
    channels: Vec<usize>,
    layers: usize,
    groups: usize,
    activation: Activation,
    scaling_factor: f64,
    post_quant_conv: bool,
    attention: bool,
}

impl VaeConfig {
    fn load(folder: &mut Folder) -> Result<Self> {
        Self::read(Settings::parse(
            CONFIG,
            &folder.bytes(CONFIG, SETTINGS_LIMIT)?,
        )?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        let channels = s
            .optional_counts("block_out_channels", 1..=16_384)?
            .unwrap_or_else(|| vec![64]);
        for (key, kind) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            if s.choices(key, &[(kind, ())], 8)?.len() != channels.len() {
                return Err(s.error(key, "must have as many entries as block_out_channels"));
            }
        }
        let config = Self {
            latents: s.count("latent_channels", 4, 1..=64)?,
            channels,
            layers: s.count("layers_per_block", 1, 1..=64)?,
            groups: s.count("norm_num_groups", 32, 1..=16_384)?,
            activation: s.choice(
                "act_fn",
                Activation::Silu,
                &[("silu", Activation::Silu), ("swish", Activation::Silu)],
            )?,
            scaling_factor: s.number("scaling_factor", 0.18215, 1e-6..=1e6)?,
            post_quant_conv: s.flag("use_post_quant_conv", true)?,
            attention: s.flag("mid_block_add_attention", true)?,
        };
        s.only("out_channels", &[json!(3)])?;
        // Stable Diffusion's pipeline does not shift latents; models that need it belong to other pipelines.
        for key in ["shift_factor", "latents_mean", "latents_std"] {
            s.only(key, &[])?;
        }
        // The encoder's side; tiling hints; and a precision this pipeline always has.
        s.ignore(&[
            "in_channels",
            "use_quant_conv",
            "sample_size",
            "force_upcast",
        ]);
        s.finish()?;
        Ok(config)
    }
}

/// The decoder with its weights.
#[derive(Debug)]
pub(crate) struct VaeDecoder {
    config: VaeConfig,
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid: (ResnetBlock, Option<PixelAttention>, ResnetBlock),
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl VaeDecoder {
    /// Reads `vae/`.
    pub(crate) fn load(folder: &mut Folder, kernels: &dyn Kernels) -> Result<Self> {
        let config = VaeConfig::load(folder)?;
        let weights = Weights::open(folder, "vae", "diffusion_pytorch_model", kernels.device())?;
        let part = weights.part("decoder");
        let (finest, coarsest) = (
            config.channels[0],
            config.channels[config.channels.len() - 1],
        );
        let style = ResnetStyle {
            groups: config.groups,
            eps: EPS,
            activation: config.activation,
            time: None,
        };
        let post_quant_conv = || {
            Conv2d::load(
                &weights.part("post_quant_conv"),
                config.latents,
                config.latents,
                1,
            )
        };
        let middle = part.at("mid_block");
        let resnet = |i| {
            ResnetBlock::load(
                &middle.at(format_args!("resnets.{i}")),
                coarsest,
                coarsest,
                style,
            )
        };
        let attention =
            || PixelAttention::load(&middle.at("attentions.0"), coarsest, config.groups);
        let mut up = Vec::new();
        let mut inputs = coarsest;
        for (i, outputs) in config.channels.iter().rev().enumerate() {
            let last = i + 1 == config.channels.len();
            let part = part.at(format_args!("up_blocks.{i}"));
            up.push(UpBlock::load(
                &part,
                (inputs, *outputs),
                config.layers + 1,
                last,
                style,
            )?);
            inputs = *outputs;
        }
        let vae = Self {
            post_quant_conv: config.post_quant_conv.then(post_quant_conv).transpose()?,
            conv_in: Conv2d::load(&part.at("conv_in"), config.latents, coarsest, 3)?,
            mid: (
                resnet(0)?,
                config.attention.then(attention).transpose()?,
                resnet(1)?,
            ),
            up,
            norm_out: GroupNorm::load(
                &part.at("conv_norm_out"),
                finest,
                config.groups,
                EPS,
                Activation::Silu,
            )?,
            conv_out: Conv2d::load(&part.at("conv_out"), finest, 3, 3)?,
            config,
        };
        weights.finish(&["encoder.", "quant_conv."])?;
        Ok(vae)
    }

    /// Channels of the latents.
    pub(crate) fn channels(&self) -> usize {
        self.config.latents
    }

    /// Pixels along one side of a latent.
    pub(crate) fn scale(&self) -> usize {
        1 << (self.config.channels.len() - 1)
    }

    /// Latents `[batch, channels, height, width]` as pixels `[batch, 3, height * scale, width * scale]`, about -1 to 1.
    pub(crate) fn decode(&self, kernels: &dyn Kernels, latents: &Tensor) -> Result<Tensor> {
        let mut x = latents.affine(1.0 / self.config.scaling_factor, 0.0)?;
        if let Some(conv) = &self.post_quant_conv {
            x = conv.forward(kernels, &x)?;
        }
        x = self
            .mid
            .0
            .forward(kernels, &self.conv_in.forward(kernels, &x)?, None)?;
        if let Some(attention) = &self.mid.1 {
            x = attention.forward(kernels, &x)?;
        }
        x = self.mid.2.forward(kernels, &x, None)?;
        for block in &self.up {
            x = block.forward(kernels, x)?;
        }
        self.conv_out
            .forward(kernels, &self.norm_out.forward(kernels, &x)?)
    }
}

/// One resolution of the decoder.
#[derive(Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    fn load(
        part: &Part<'_>,
        (inputs, outputs): (usize, usize),
        layers: usize,
        last: bool,
        style: ResnetStyle,
    ) -> Result<Self> {
        let resnet = |i| {
            let inputs = if i == 0 { inputs } else { outputs };
            ResnetBlock::load(
                &part.at(format_args!("resnets.{i}")),
                inputs,
                outputs,
                style,
            )
        };
        Ok(Self {
            resnets: (0..layers).map(resnet).collect::<Result<_>>()?,
            upsample: (!last).then(|| Upsample::load(part, outputs)).transpose()?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(kernels, &x, None)?;
        }
        match &self.upsample {
            Some(upsample) => {
                let (_, _, height, width) = x.dims4()?;
                upsample.forward(kernels, &x, (height * 2, width * 2))
            }
            None => Ok(x),
        }
    }
}

/// Attention of one head among all pixels, added to them.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl PixelAttention {
    fn load(part: &Part<'_>, channels: usize, groups: usize) -> Result<Self> {
        // Checkpoints from before diffusers 0.12 have the second name.
        let linear = |name: &str, old: &str| {
            let name = if part.has(&format!("{name}.weight")) {
                name
            } else {
                old
            };
            Linear::load(&part.at(name), channels, channels)
        };
        Ok(Self {
            norm: GroupNorm::load(
                &part.at("group_norm"),
                channels,
                groups,
                EPS,
                Activation::Identity,
            )?,
            query: linear("to_q", "query")?,
            key: linear("to_k", "key")?,
            value: linear("to_v", "value")?,
            out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, image: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = image.dims4()?;
        let x = to_tokens(&self.norm.forward(kernels, image)?)?;
        let (query, key) = (
            self.query.forward(kernels, &x)?,
            self.key.forward(kernels, &x)?,
        );
        let x = kernels.attention(&query, &key, &self.value.forward(kernels, &x)?, 1, false)?;
        Ok((image + to_image(&self.out.forward(kernels, &x)?, height, width)?)?)
    }
}
