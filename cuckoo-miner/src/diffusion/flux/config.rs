//! What `transformer/config.json` says.

use serde_json::json;

use super::patches::AREA;
use crate::diffusion::error::Result;
use crate::diffusion::folder::{Folder, SETTINGS_LIMIT};
use crate::diffusion::settings::Settings;

const FILE: &str = "transformer/config.json";

/// The whole configuration.
#[derive(Debug)]
pub(super) struct FluxConfig {
    /// Numbers in a patch of latents.
    pub(super) channels: usize,
    /// Blocks with layers of their own for patches and tokens, and blocks with one set for both.
    pub(super) double: usize,
    pub(super) single: usize,
    pub(super) heads: usize,
    /// Numbers in one head.
    pub(super) depth: usize,
    /// Numbers of a head that are turned by each axis of a position: always 0, row, column.
    pub(super) axes: [usize; 3],
    pub(super) context: usize,
    pub(super) pooled: usize,
    pub(super) guided: bool,
}

impl FluxConfig {
    pub(super) fn load(folder: &mut Folder) -> Result<Self> {
        Self::read(Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?)
    }

    fn read(mut s: Settings) -> Result<Self> {
        let channels = s.required("in_channels", 1..=16_384)?;
        if !channels.is_multiple_of(AREA) {
            let problem = format!("is {channels}, which patches of {AREA} latents do not divide");
            return Err(s.error("in_channels", problem));
        }
        let depth = s.required("attention_head_dim", 1..=4_096)?;
        let axes = match s.optional_counts("axes_dims_rope", 1..=4_096)? {
            None => vec![16, 56, 56],
            Some(axes) => axes,
        };
        let axes = match axes[..] {
            [a, b, c]
                if a + b + c == depth && [a, b, c].iter().all(|axis| axis.is_multiple_of(2)) =>
            {
                [a, b, c]
            }
            _ => {
                let problem =
                    format!("must be three even numbers whose sum is attention_head_dim, {depth}");
                return Err(s.error("axes_dims_rope", problem));
            }
        };
        let config = Self {
            channels,
            double: s.required("num_layers", 0..=256)?,
            single: s.required("num_single_layers", 0..=256)?,
            heads: s.required("num_attention_heads", 1..=256)?,
            depth,
            axes,
            context: s.required("joint_attention_dim", 1..=65_536)?,
            pooled: s.required("pooled_projection_dim", 1..=65_536)?,
            guided: s.flag("guidance_embeds", false)?,
        };
        s.only("patch_size", &[json!(1)])?;
        s.only("out_channels", &[json!(channels)])?;
        s.only("quantization_config", &[])?;
        s.finish()?;
        Ok(config)
    }

    /// Numbers that stand for one patch or token.
    pub(super) fn width(&self) -> usize {
        self.heads * self.depth
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn with(key: &str, value: Value) -> Result<FluxConfig> {
        // As published.
        let mut config = json!({
            "_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.30.0.dev0", "attention_head_dim": 128,
            "guidance_embeds": true, "in_channels": 64, "joint_attention_dim": 4_096, "num_attention_heads": 24,
            "num_layers": 19, "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768,
        });
        config[key] = value;
        FluxConfig::read(Settings::parse(FILE, config.to_string().as_bytes())?)
    }

    #[test]
    fn the_published_settings_are_read() {
        let config = with("_name_or_path", json!("x")).unwrap();
        assert_eq!((config.width(), config.axes), (3_072, [16, 56, 56]));
        assert!(config.guided);
    }

    #[test]
    fn what_is_missing_unknown_or_impossible_is_named() {
        for (key, value) in [
            ("in_channels", json!(null)),
            ("in_channels", json!(66)),
            ("attention_head_dim", json!(null)),
            ("num_attention_heads", json!(0)),
            ("num_layers", json!(null)),
            ("num_single_layers", json!(1e9)),
            ("joint_attention_dim", json!("wide")),
            ("pooled_projection_dim", json!(null)),
            ("guidance_embeds", json!(1)),
            ("axes_dims_rope", json!([16, 56, 55])),
            ("axes_dims_rope", json!([15, 57, 56])),
            ("axes_dims_rope", json!([64, 64])),
            ("patch_size", json!(2)),
            ("out_channels", json!(128)),
            (
                "quantization_config",
                json!({"quant_method": "bitsandbytes"}),
            ),
            ("new_trick", json!(1)),
        ] {
            let error = with(key, value).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
    }
}
