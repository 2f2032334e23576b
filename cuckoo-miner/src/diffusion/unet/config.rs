//! What `unet/config.json` says.

use serde_json::{Value, json};

use crate::diffusion::error::Result;
use crate::diffusion::folder::{Folder, SETTINGS_LIMIT};
use crate::diffusion::resnet::ResnetStyle;
use crate::diffusion::settings::Settings;
use crate::kernels::Activation;

const FILE: &str = "unet/config.json";
/// Most resolutions a UNet may have.
const BLOCKS: usize = 8;
/// Largest number of channels of one layer.
const CHANNELS: usize = 16_384;

/// One resolution, on the way down or up.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) channels: usize,
    /// Residual blocks on the way down; the way up has one more.
    pub(super) layers: usize,
    /// How it attends to the prompt, if it does.
    pub(super) attention: Option<Attention>,
}

/// Sizes of the transformers of one resolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) layers: usize,
}

/// What the denoiser is told beside time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    /// Numbers in all.
    pub(crate) width: usize,
    /// Numbers for each of six sizes among them.
    pub(super) size_width: usize,
}

impl Added {
    /// Numbers left for the prompt as a whole.
    pub(crate) fn prompt_width(self) -> Option<usize> {
        self.width.checked_sub(self.size_width * 6)
    }
}

/// The whole configuration.
#[derive(Debug)]
pub(super) struct UNetConfig {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) sample_size: Option<(usize, usize)>,
    /// The way down, from the finest resolution.
    pub(super) blocks: Vec<Block>,
    pub(super) mid: Attention,
    up_attention: Vec<Option<Attention>>,
    pub(super) groups: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
    pub(super) context: usize,
    pub(super) linear_projection: bool,
    pub(super) cosine_first: bool,
    pub(super) frequency_shift: f64,
    time_width: Option<usize>,
    pub(super) added: Option<Added>,
    pub(super) kernel_in: usize,
    pub(super) kernel_out: usize,
}

impl UNetConfig {
    pub(super) fn load(folder: &mut Folder) -> Result<Self> {
        Self::read(Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        let sample_size = match s.per_block("sample_size", 2, 0, 0..=4_096)?[..] {
            [height, width] if height > 0 && width > 0 => Some((height, width)),
            _ => None,
        };
        let channels = s
            .optional_counts("block_out_channels", 1..=CHANNELS)?
            .unwrap_or_else(|| vec![320, 640, 1_280, 1_280]);
        let n = channels.len();
        if !(1..=BLOCKS).contains(&n) {
            return Err(s.error(
                "block_out_channels",
                format!("must have 1 to {BLOCKS} entries"),
            ));
        }
        let down = s.choices(
            "down_block_types",
            &[("DownBlock2D", false), ("CrossAttnDownBlock2D", true)],
            BLOCKS,
        )?;
        let up = s.choices(
            "up_block_types",
            &[("UpBlock2D", false), ("CrossAttnUpBlock2D", true)],
            BLOCKS,
        )?;
        if down.len() != n || up.len() != n {
            return Err(s.error(
                "block_out_channels",
                "must have as many entries as down_block_types and up_block_types",
            ));
        }
        let layers = s.per_block("layers_per_block", n, 2, 1..=64)?;
        // In this family `attention_head_dim` is, by an old misnomer, the number of heads.
        let heads = s.per_block("attention_head_dim", n, 8, 1..=1_024)?;
        if let Some(value) = s.take("num_attention_heads") {
            // diffusers refuses it too, because its meaning was never settled.
            return Err(s.error(
                "num_attention_heads",
                format!("is {value}; give the number of heads as attention_head_dim"),
            ));
        }
        let depth = s.per_block("transformer_layers_per_block", n, 1, 1..=64)?;
        let up_depth = s
            .optional_counts("reverse_transformer_layers_per_block", 1..=64)?
            .unwrap_or_else(|| depth.iter().rev().copied().collect());
        if up_depth.len() != n {
            return Err(s.error(
                "reverse_transformer_layers_per_block",
                format!("must have {n} entries"),
            ));
        }
        for (i, (channels, heads)) in channels.iter().zip(&heads).enumerate() {
            let attends = down[i] || up[n - 1 - i] || i + 1 == n;
            if attends && !channels.is_multiple_of(*heads) {
                return Err(s.error(
                    "attention_head_dim",
                    format!("{heads} heads do not divide {channels} channels"),
                ));
            }
        }
        let added = match s.choice("addition_embed_type", false, &[("text_time", true)])? {
            true => Some(Added {
                width: s.required("projection_class_embeddings_input_dim", 1..=CHANNELS)?,
                size_width: s.required("addition_time_embed_dim", 2..=CHANNELS)? / 2 * 2,
            }),
            false => {
                s.only("projection_class_embeddings_input_dim", &[])?;
                s.only("addition_time_embed_dim", &[])?;
                None
            }
        };
        let attention = |i: usize, layers: usize| Attention {
            heads: heads[i],
            layers,
        };
        let block = |i: usize| Block {
            channels: channels[i],
            layers: layers[i],
            attention: down[i].then(|| attention(i, depth[i])),
        };
        let config = Self {
            inputs: s.count("in_channels", 4, 1..=64)?,
            outputs: s.count("out_channels", 4, 1..=64)?,
            sample_size,
            blocks: (0..n).map(block).collect(),
            mid: attention(n - 1, depth[n - 1]),
            up_attention: (0..n)
                .map(|i| up[i].then(|| attention(n - 1 - i, up_depth[i])))
                .collect(),
            groups: s.count("norm_num_groups", 32, 1..=CHANNELS)?,
            eps: s.number("norm_eps", 1e-5, 0.0..=1.0)?,
            activation: s.choice("act_fn", Activation::Silu, ACTIVATIONS)?,
            context: s.count("cross_attention_dim", 1_280, 1..=CHANNELS)?,
            linear_projection: s.flag("use_linear_projection", false)?,
            cosine_first: s.flag("flip_sin_to_cos", true)?,
            frequency_shift: s.number("freq_shift", 0.0, 0.0..=1.0)?,
            time_width: s.optional_count("time_embedding_dim", 2..=CHANNELS * 4)?,
            added,
            kernel_in: s.count("conv_in_kernel", 3, 1..=15)?,
            kernel_out: s.count("conv_out_kernel", 3, 1..=15)?,
        };
        if config.inputs != config.outputs {
            return Err(s.error(
                "out_channels",
                "differs from in_channels; such a model is not text-to-image alone",
            ));
        }
        if config.kernel_in.is_multiple_of(2) || config.kernel_out.is_multiple_of(2) {
            return Err(s.error("conv_in_kernel", "and conv_out_kernel must be odd"));
        }
        if !channels[0].is_multiple_of(2) || channels[0] / 2 <= config.frequency_shift as usize {
            return Err(s.error(
                "block_out_channels",
                "must begin with an even number above twice freq_shift",
            ));
        }
        Self::refuse_variants(&mut s, n)?;
        s.finish()?;
        Ok(config)
    }

    /// Settings of other members of the family, each at the one value this pipeline runs.
    fn refuse_variants(s: &mut Settings, blocks: usize) -> Result<()> {
        let off = json!(false);
        s.only(
            "only_cross_attention",
            &[off.clone(), Value::Array(vec![off.clone(); blocks])],
        )?;
        s.only("mid_block_type", &[json!("UNetMidBlock2DCrossAttn")])?;
        s.only("resnet_time_scale_shift", &[json!("default")])?;
        s.only("time_embedding_type", &[json!("positional")])?;
        s.only("attention_type", &[json!("default")])?;
        s.only("downsample_padding", &[json!(1)])?;
        for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
            s.only(key, &[json!(1)])?;
        }
        let switches = [
            "center_input_sample",
            "dual_cross_attention",
            "resnet_skip_time_act",
            "class_embeddings_concat",
            "mid_block_only_cross_attention",
        ];
        for key in switches {
            s.only(key, std::slice::from_ref(&off))?;
        }
        let absent = [
            "encoder_hid_dim",
            "encoder_hid_dim_type",
            "class_embed_type",
            "num_class_embeds",
            "time_embedding_act_fn",
            "timestep_post_act",
            "time_cond_proj_dim",
            "cross_attention_norm",
        ];
        for key in absent {
            s.only(key, &[])?;
        }
        // Training only; the width of an embedding refused above; and a precision this pipeline always has.
        s.ignore(&[
            "dropout",
            "addition_embed_type_num_heads",
            "upcast_attention",
        ]);
        Ok(())
    }

    /// The way up, from the coarsest resolution.
    pub(super) fn up_blocks(&self) -> Vec<Block> {
        let blocks = self.blocks.iter().rev().zip(&self.up_attention);
        blocks
            .map(|(block, attention)| Block {
                attention: *attention,
                ..block.clone()
            })
            .collect()
    }

    /// What all residual blocks have in common.
    pub(super) fn style(&self) -> ResnetStyle {
        ResnetStyle {
            groups: self.groups,
            eps: self.eps,
            activation: self.activation,
            time: Some(self.time_width()),
        }
    }

    /// Width of the time embedding.
    pub(super) fn time_width(&self) -> usize {
        self.time_width.unwrap_or(self.blocks[0].channels * 4)
    }
}

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: Value) -> Result<UNetConfig> {
        let mut config = json!({
            "_class_name": "UNet2DConditionModel",
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
            "block_out_channels": [32, 64],
            "attention_head_dim": [4, 8],
            "layers_per_block": 2,
            "cross_attention_dim": 16,
            "sample_size": 16,
            "only_cross_attention": [false, false],
            "upcast_attention": true,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        UNetConfig::read(Settings::parse(FILE, config.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn sizes_are_read_for_both_ways() {
        let config = read(json!({"transformer_layers_per_block": [2, 3]})).unwrap();
        assert_eq!(config.sample_size, Some((16, 16)));
        assert_eq!(config.time_width(), 128);
        let heads = |blocks: &[Block]| -> Vec<_> {
            blocks
                .iter()
                .map(|b| (b.channels, b.attention.map(|a| (a.heads, a.layers))))
                .collect()
        };
        assert_eq!(heads(&config.blocks), [(32, Some((4, 2))), (64, None)]);
        assert_eq!(heads(&config.up_blocks()), [(64, None), (32, Some((4, 2)))]);
        assert_eq!((config.mid.heads, config.mid.layers), (8, 3));
    }

    /// The files that Stable Diffusion 1.5 and 2.1 were published with.
    #[test]
    fn published_configurations_are_read() {
        let down = [
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ];
        let up = [
            "UpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D",
        ];
        let mut config = json!({
            "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
            "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
            "cross_attention_dim": 768, "down_block_types": down, "downsample_padding": 1, "flip_sin_to_cos": true,
            "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
            "norm_num_groups": 32, "out_channels": 4, "sample_size": 64, "up_block_types": up,
        });
        let parse = |config: &Value| {
            UNetConfig::read(Settings::parse(FILE, config.to_string().as_bytes()).unwrap()).unwrap()
        };
        let old = parse(&config);
        assert_eq!(
            (
                old.context,
                old.mid.heads,
                old.time_width(),
                old.sample_size
            ),
            (768, 8, 1_280, Some((64, 64)))
        );
        for (key, value) in [
            ("attention_head_dim", json!([5, 10, 20, 20])),
            ("cross_attention_dim", json!(1024)),
            ("dual_cross_attention", json!(false)),
            ("num_class_embeds", json!(null)),
            ("only_cross_attention", json!(false)),
            ("sample_size", json!(96)),
            ("upcast_attention", json!(true)),
            ("use_linear_projection", json!(true)),
        ] {
            config[key] = value;
        }
        let new = parse(&config);
        assert_eq!(
            (new.context, new.mid.heads, new.linear_projection),
            (1_024, 20, true)
        );
        assert_eq!(
            new.up_blocks()[3]
                .attention
                .map(|attention| attention.heads),
            Some(5)
        );
    }

    /// The file that Stable Diffusion XL was published with, as far as it differs.
    #[test]
    fn xl_is_told_sizes_and_the_whole_prompt() {
        let xl = json!({
            "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
            "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "only_cross_attention": false, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
            "transformer_layers_per_block": [1, 2, 10], "upcast_attention": null,
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "use_linear_projection": true,
        });
        let config = read(xl.clone()).unwrap();
        let added = config.added.unwrap();
        assert_eq!((added.width, added.prompt_width()), (2_816, Some(1_280)));
        assert_eq!((config.mid.heads, config.mid.layers), (20, 10));
        let layers = |blocks: Vec<Block>| -> Vec<_> {
            blocks
                .iter()
                .map(|block| block.attention.map(|attention| attention.layers))
                .collect()
        };
        assert_eq!(layers(config.up_blocks()), [Some(10), Some(2), None]);
        let mut without = xl;
        without["projection_class_embeddings_input_dim"] = Value::Null;
        let error = read(without).unwrap_err().to_string();
        assert!(
            error.contains("`projection_class_embeddings_input_dim` is missing"),
            "{error}"
        );
    }

    #[test]
    fn what_it_cannot_run_is_refused_by_name() {
        for (key, value) in [
            ("class_embed_type", json!("timestep")),
            ("addition_embed_type", json!("text_image")),
            ("addition_time_embed_dim", json!(256)),
            (
                "down_block_types",
                json!(["AttnDownBlock2D", "DownBlock2D"]),
            ),
            ("mid_block_type", json!("UNetMidBlock2D")),
            ("only_cross_attention", json!([true, false])),
            ("resnet_time_scale_shift", json!("scale_shift")),
            ("num_attention_heads", json!(4)),
            ("attention_head_dim", json!(5)),
            ("block_out_channels", json!([1_000_000_000_000_u64, 64])),
            ("block_out_channels", json!([32, 64, 64])),
            ("block_out_channels", json!([])),
            ("layers_per_block", json!(1e12)),
            ("in_channels", json!(9)),
            ("norm_num_groups", json!(0)),
            ("act_fn", json!("mish")),
            ("future_setting", json!(1)),
        ] {
            let error = read(json!({ key: value })).unwrap_err().to_string();
            let named = if key == "in_channels" {
                "out_channels"
            } else {
                key
            };
            assert!(
                error.contains(&format!("`{named}`")) && error.starts_with("unet/config.json"),
                "{key}: {error}"
            );
        }
    }
}
