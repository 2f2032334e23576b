//! Which layer a LoRA's tensor changes, by its name.
//!
//! diffusers and peft write the layer's own name (`unet.mid_block.attentions.0.proj_in.lora_A.weight`), kohya's scripts
//! write it with underscores (`lora_unet_mid_block_attentions_0_proj_in.lora_down.weight`), and for Stable Diffusion XL by
//! the names of the first published code (`lora_unet_middle_block_1_proj_in`). All are compared with underscores.

use std::collections::HashMap;

use super::Weights;

/// The sub-folders of a pipeline that LoRAs change.
pub(super) const PARTS: [&str; 3] = ["unet", "text_encoder", "text_encoder_2"];

/// What stands before a layer's name, and the part it means; the first that fits.
const PREFIXES: &[(&str, &str)] = &[
    ("unet.", "unet"),
    ("lora_unet_", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("lora_te2_", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("lora_te1_", "text_encoder"),
    ("lora_te_", "text_encoder"),
    ("base_model.model.", "unet"),
    ("", "unet"),
];

/// What stands behind a layer's name.
const SUFFIXES: &[(&str, Side)] = &[
    (".lora_down.weight", Side::Down),
    (".lora_up.weight", Side::Up),
    (".lora_A.weight", Side::Down),
    (".lora_B.weight", Side::Up),
    (".lora_A.default.weight", Side::Down),
    (".lora_B.default.weight", Side::Up),
    (".lora.down.weight", Side::Down),
    (".lora.up.weight", Side::Up),
    (".lora_linear_layer.down.weight", Side::Down),
    (".lora_linear_layer.up.weight", Side::Up),
    // diffusers before 0.18: `attn1.processor.to_q_lora.down.weight`.
    ("_lora.down.weight", Side::Down),
    ("_lora.up.weight", Side::Up),
    (".alpha", Side::Alpha),
];

/// Which tensor of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Down,
    Up,
    Alpha,
}

/// A layer of a part, with underscores for dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) part: &'static str,
    pub(super) layer: String,
}

/// A tensor of a LoRA.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) side: Side,
}

impl Key {
    /// Reads a tensor's name; `None` for one that is not of a product.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (module, side) = SUFFIXES
            .iter()
            .find_map(|(suffix, side)| Some((name.strip_suffix(*suffix)?, *side)))?;
        let (layer, part) = PREFIXES
            .iter()
            .find_map(|(prefix, part)| Some((module.strip_prefix(*prefix)?, *part)))?;
        let mut layer = layer.replace(".processor.", ".");
        if layer.ends_with(".to_out") {
            layer.push_str(".0");
        }
        let layer = match part {
            "unet" => underscored(&layer),
            _ => underscored(&whole(&layer)),
        };
        Some(Self {
            place: Place { part, layer },
            side,
        })
    }
}

/// The weights of a part by every name that a LoRA may have for their layer.
pub(super) fn layers(part: &str, weights: &Weights) -> HashMap<String, String> {
    let layers = weights
        .names()
        .filter_map(|name| Some((name.strip_suffix(".weight")?, name)));
    let mut found = HashMap::new();
    let depth = depth(weights);
    for (layer, name) in layers {
        if part == "unet" {
            found.insert(underscored(layer), name.to_owned());
            if let Some(first) = first_name(layer, depth) {
                found.insert(underscored(&first), name.to_owned());
            }
        } else {
            found.insert(underscored(&whole(layer)), name.to_owned());
        }
    }
    found
}

/// A text encoder's layer with the prefix that some writers leave out.
fn whole(layer: &str) -> String {
    let prefixed = layer.starts_with("text_model") || layer.starts_with("text_projection");
    match prefixed {
        true => layer.to_owned(),
        false => format!("text_model.{layer}"),
    }
}

fn underscored(layer: &str) -> String {
    layer.replace('.', "_")
}

/// Residual blocks of each resolution on a UNet's way down.
fn depth(weights: &Weights) -> usize {
    let block = |name: &str| {
        let rest = name.strip_prefix("down_blocks.0.resnets.")?;
        rest.split('.').next()?.parse::<usize>().ok()
    };
    weights
        .names()
        .filter_map(block)
        .max()
        .map_or(0, |last| last + 1)
}

/// The name that the first published code (CompVis' and Stability's) has for a UNet's layer: blocks are counted through on
/// the way down and up, `depth` to a resolution and one between.
fn first_name(layer: &str, depth: usize) -> Option<String> {
    let simple = [
        ("conv_in", "input_blocks.0.0"),
        ("conv_out", "out.2"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
    ];
    if let Some((_, name)) = simple.iter().find(|(name, _)| *name == layer) {
        return Some((*name).to_owned());
    }
    if let Some(rest) = layer.strip_prefix("mid_block.") {
        let (kind, i, rest) = block(rest)?;
        return match (kind, i) {
            ("resnets", 0) => Some(format!("middle_block.0.{}", resnet(rest))),
            ("attentions", 0) => Some(format!("middle_block.1.{rest}")),
            ("resnets", 1) => Some(format!("middle_block.2.{}", resnet(rest))),
            _ => None,
        };
    }
    let (way, resolution, rest) = block(layer)?;
    let (kind, i, rest) = block(rest)?;
    match (way, kind) {
        ("down_blocks", "resnets") => {
            let n = 1 + resolution * (depth + 1) + i;
            Some(format!("input_blocks.{n}.0.{}", resnet(rest)))
        }
        ("down_blocks", "attentions") => {
            let n = 1 + resolution * (depth + 1) + i;
            Some(format!("input_blocks.{n}.1.{rest}"))
        }
        ("down_blocks", "downsamplers") => {
            let n = (resolution + 1) * (depth + 1);
            Some(format!("input_blocks.{n}.0.op"))
        }
        ("up_blocks", "resnets") => {
            let n = resolution * (depth + 1) + i;
            Some(format!("output_blocks.{n}.0.{}", resnet(rest)))
        }
        ("up_blocks", "attentions") => {
            let n = resolution * (depth + 1) + i;
            Some(format!("output_blocks.{n}.1.{rest}"))
        }
        _ => None,
    }
}

/// `kind.number.rest`.
fn block(layer: &str) -> Option<(&str, usize, &str)> {
    let (kind, rest) = layer.split_once('.')?;
    let (number, rest) = rest.split_once('.')?;
    Some((kind, number.parse().ok()?, rest))
}

/// A residual block's layer.
fn resnet(layer: &str) -> &str {
    match layer {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writers_names_are_read() {
        let layer = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0";
        for name in [
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.down.weight",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.default.weight",
            "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
        ] {
            let key = Key::parse(name).unwrap();
            assert_eq!((key.place.part, key.side), ("unet", Side::Down), "{name}");
            assert_eq!(key.place.layer, layer, "{name}");
        }
        let layer = "text_model_encoder_layers_0_self_attn_q_proj";
        for (name, part) in [
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight",
                "text_encoder",
            ),
            (
                "text_encoder.encoder.layers.0.self_attn.q_proj.lora_B.weight",
                "text_encoder",
            ),
            (
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
                "text_encoder",
            ),
            (
                "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
                "text_encoder",
            ),
            (
                "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
                "text_encoder_2",
            ),
        ] {
            let key = Key::parse(name).unwrap();
            assert_eq!((key.place.part, key.side), (part, Side::Up), "{name}");
            assert_eq!(key.place.layer, layer, "{name}");
        }
        for name in [
            "lora_unet_x.hada_w1_a",
            "lora_unet_x.dora_scale",
            "lora_unet_x.lora_mid.weight",
        ] {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_the_first_code_are_found() {
        // Of Stable Diffusion XL, as diffusers' conversion script pairs them.
        for (layer, first) in [
            ("conv_in", "input_blocks.0.0"),
            (
                "down_blocks.0.resnets.1.conv1",
                "input_blocks.2.0.in_layers.2",
            ),
            ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
            (
                "down_blocks.1.attentions.0.proj_in",
                "input_blocks.4.1.proj_in",
            ),
            (
                "down_blocks.2.attentions.1.proj_out",
                "input_blocks.8.1.proj_out",
            ),
            ("mid_block.attentions.0.norm", "middle_block.1.norm"),
            ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
            (
                "up_blocks.0.attentions.2.proj_in",
                "output_blocks.2.1.proj_in",
            ),
            (
                "up_blocks.1.resnets.0.conv_shortcut",
                "output_blocks.3.0.skip_connection",
            ),
            ("add_embedding.linear_2", "label_emb.0.2"),
        ] {
            assert_eq!(first_name(layer, 2).as_deref(), Some(first), "{layer}");
        }
    }
}
