//! Between pixels and latents: a variational autoencoder (Kingma and Welling, 2014; Esser et al., 2021). Layer names and
//! configuration follow diffusers' `AutoencoderKL`.

mod decoder;
mod encoder;
mod middle;

use candle_core::Tensor;
use serde_json::json;

use super::error::Result;
use super::folder::{Folder, SETTINGS_LIMIT};
use super::resnet::ResnetStyle;
use super::settings::Settings;
use super::weights::Weights;
use crate::kernels::{Activation, Kernels};
use decoder::Decoder;
use encoder::Encoder;
pub(crate) use encoder::Moments;

const CONFIG: &str = "vae/config.json";
/// Fixed in diffusers' `Encoder` and `Decoder`.
const EPS: f64 = 1e-6;

/// What `vae/config.json` says.
#[derive(Debug)]
struct VaeConfig {
    latents: usize,
    /// From the finest resolution.
    channels: Vec<usize>,
    layers: usize,
    groups: usize,
    activation: Activation,
    scaling_factor: f64,
    /// What the denoiser's latents are relative to.
    shift_factor: f64,
    quant_conv: bool,
    post_quant_conv: bool,
    attention: bool,
}

impl VaeConfig {
    fn style(&self) -> ResnetStyle {
        ResnetStyle {
            groups: self.groups,
            eps: EPS,
            activation: self.activation,
            time: None,
        }
    }

    fn finest(&self) -> usize {
        self.channels[0]
    }

    fn coarsest(&self) -> usize {
        self.channels[self.channels.len() - 1]
    }

    fn load(folder: &mut Folder, shifts: bool) -> Result<Self> {
        let bytes = folder.bytes(CONFIG, SETTINGS_LIMIT)?;
        Self::read(Settings::parse(CONFIG, &bytes)?, shifts)
    }

    fn read(mut s: Settings, shifts: bool) -> Result<Self> {
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
            shift_factor: match shifts {
                true => s.number("shift_factor", 0.0, -1e6..=1e6)?,
                false => 0.0,
            },
            quant_conv: s.flag("use_quant_conv", true)?,
            post_quant_conv: s.flag("use_post_quant_conv", true)?,
            attention: s.flag("mid_block_add_attention", true)?,
        };
        s.only("in_channels", &[json!(3)])?;
        s.only("out_channels", &[json!(3)])?;
        // Stable Diffusion's pipelines do not shift latents; models that need it, or a scale of each channel, belong to others.
        for key in ["shift_factor", "latents_mean", "latents_std"] {
            s.only(key, &[])?;
        }
        // A hint for tiling, and a precision this pipeline always has.
        s.ignore(&["sample_size", "force_upcast"]);
        s.finish()?;
        Ok(config)
    }
}

/// The autoencoder with its weights.
#[derive(Debug)]
pub(crate) struct Vae {
    config: VaeConfig,
    decoder: Decoder,
    /// Absent where the weights have none, as in folders made for text to image alone.
    encoder: Option<Encoder>,
}

impl Vae {
    /// Reads `vae/`, of a pipeline that `shifts` latents or does not.
    pub(crate) fn load(folder: &mut Folder, shifts: bool, kernels: &dyn Kernels) -> Result<Self> {
        let config = VaeConfig::load(folder, shifts)?;
        let weights = Weights::open(folder, "vae", "diffusion_pytorch_model", kernels.device())?;
        weights.fit(folder)?;
        let encoder = || Encoder::load(&weights, &config, kernels);
        let has_encoder = weights.part("encoder").has("conv_in.weight");
        let vae = Self {
            decoder: Decoder::load(&weights, &config, kernels)?,
            encoder: has_encoder.then(encoder).transpose()?,
            config,
        };
        weights.finish(&["quant_conv."])?;
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

    /// Latents as the encoder draws them, made those that the denoiser knows.
    pub(crate) fn scale_latents(&self, latents: &mut [f32]) {
        let (shift, scale) = (
            self.config.shift_factor as f32,
            self.config.scaling_factor as f32,
        );
        latents.iter_mut().for_each(|x| *x = (*x - shift) * scale);
    }

    /// Whether pictures can be encoded.
    pub(crate) fn encodes(&self) -> bool {
        self.encoder.is_some()
    }

    /// Numbers held at once, about, for each pixel that is decoded or encoded: input and output of a residual block at the
    /// finest resolution, and two tensors between them.
    pub(crate) fn numbers_per_pixel(&self) -> usize {
        let channels = &self.config.channels;
        let widest = channels.iter().take(2).copied().max().unwrap_or(1);
        widest * 4
    }

    /// Latents `[batch, channels, height, width]` as pixels `[batch, 3, height * scale, width * scale]`, about -1 to 1.
    pub(crate) fn decode(&self, kernels: &dyn Kernels, latents: &Tensor) -> Result<Tensor> {
        let latents = latents.affine(1.0 / self.config.scaling_factor, self.config.shift_factor)?;
        self.decoder.forward(kernels, &latents)
    }

    /// Pixels `[1, 3, height, width]`, -1 to 1, as the distribution of their latents, before scaling; `None` without an
    /// encoder.
    pub(crate) fn encode(&self, kernels: &dyn Kernels, pixels: &Tensor) -> Result<Option<Moments>> {
        self.encoder
            .as_ref()
            .map(|encoder| encoder.forward(kernels, pixels))
            .transpose()
    }
}
