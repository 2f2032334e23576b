//! Settings that do not fit the weights, or each other.

use serde_json::json;

use super::*;

const INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TEXT_ENCODER: &str = "text_encoder/config.json";
const TEXT_ENCODER_2: &str = "text_encoder_2/config.json";
const TOKENIZER_2: &str = "tokenizer_2/tokenizer_config.json";
const TRANSFORMER: &str = "transformer/config.json";
const UNET: &str = "unet/config.json";
const VAE: &str = "vae/config.json";

/// Each of these settings of a pipeline, once it has this value, is refused for this problem.
fn refused<const N: usize>(pipeline: &str, settings: [(&str, &str, Value, &str); N]) {
    for (file, key, value, problem) in settings {
        let copy = Copy::of(pipeline);
        copy.set(file, key, value.clone());
        let error = copy.refusal();
        assert!(error.contains(problem), "{file} {key} = {value}: {error}");
    }
}

#[test]
fn configurations_that_do_not_fit_the_weights_or_each_other_are_refused() {
    let settings = [
        (
            INDEX,
            "_class_name",
            json!("StableDiffusion3Pipeline"),
            "_class_name",
        ),
        (
            INDEX,
            "_class_name",
            json!("StableDiffusionXLPipeline"),
            "lacks text_encoder_2/config.json",
        ),
        (
            SCHEDULER,
            "_class_name",
            json!("UniPCMultistepScheduler"),
            "this miner runs DDIMScheduler",
        ),
        (
            INDEX,
            "unet",
            json!(["diffusers", "UNet3DConditionModel"]),
            "`unet`",
        ),
        (
            INDEX,
            "image_encoder",
            json!(["transformers", "CLIPVisionModelWithProjection"]),
            "`image_encoder`",
        ),
        (
            UNET,
            "block_out_channels",
            json!([8, 12, 12, 30]),
            "has shape",
        ),
        (UNET, "layers_per_block", json!(3), "is missing"),
        (UNET, "layers_per_block", json!(1), "tensor `"),
        (UNET, "cross_attention_dim", json!(21), "has shape"),
        (UNET, "norm_num_groups", json!(3), "groups do not divide"),
        (
            UNET,
            "block_out_channels",
            json!([8, 12, 12, 1e300]),
            "whole number",
        ),
        (VAE, "latent_channels", json!(5), "has shape"),
        (VAE, "scaling_factor", json!(0), "`scaling_factor`"),
        (VAE, "shift_factor", json!(0.1), "`shift_factor`"),
        (VAE, "layers_per_block", json!(1), "belongs to no layer"),
        (
            TEXT_ENCODER,
            "hidden_size",
            json!(4_000_000_000_u64),
            "`hidden_size`",
        ),
        (TEXT_ENCODER, "hidden_size", json!(16_380), "has shape"),
        (
            TEXT_ENCODER,
            "num_attention_heads",
            json!(3),
            "does not divide",
        ),
        (
            TEXT_ENCODER,
            "num_hidden_layers",
            json!(2),
            "belongs to no layer",
        ),
        (
            TEXT_ENCODER,
            "hidden_act",
            json!("gelu_new"),
            "this miner runs quick_gelu, gelu",
        ),
        (
            TEXT_ENCODER,
            "use_attention_mask",
            json!(true),
            "`use_attention_mask`",
        ),
    ];
    refused("random", settings);
}

#[test]
fn xl_parts_that_do_not_fit_each_other_are_refused() {
    let settings = [
        (
            UNET,
            "addition_embed_type",
            json!(null),
            "projection_class_embeddings_input_dim",
        ),
        (
            UNET,
            "projection_class_embeddings_input_dim",
            json!(45),
            "has shape",
        ),
        (TEXT_ENCODER_2, "projection_dim", json!(11), "has shape"),
        (
            TOKENIZER_2,
            "model_max_length",
            json!(15),
            "model_max_length",
        ),
        (
            INDEX,
            "force_zeros_for_empty_prompt",
            json!("no"),
            "force_zeros",
        ),
        (
            INDEX,
            "_class_name",
            json!("StableDiffusionPipeline"),
            "text_encoder_2",
        ),
    ];
    refused("xl", settings);
}

#[test]
fn flux_parts_that_do_not_fit_their_weights_or_each_other_are_refused() {
    let settings = [
        (
            INDEX,
            "text_encoder_2",
            json!(["transformers", "CLIPTextModelWithProjection"]),
            "`text_encoder_2`",
        ),
        (
            INDEX,
            "tokenizer_2",
            json!(["transformers", "CLIPTokenizer"]),
            "`tokenizer_2`",
        ),
        (
            INDEX,
            "unet",
            json!(["diffusers", "UNet2DConditionModel"]),
            "`unet` is unknown",
        ),
        (
            INDEX,
            "transformer",
            json!(["diffusers", "SD3Transformer2DModel"]),
            "`transformer`",
        ),
        (
            SCHEDULER,
            "_class_name",
            json!("EulerDiscreteScheduler"),
            "runs FlowMatchEulerDiscreteScheduler",
        ),
        (SCHEDULER, "shift_terminal", json!(0.02), "`shift_terminal`"),
        (TRANSFORMER, "in_channels", json!(null), "is missing"),
        (TRANSFORMER, "in_channels", json!(60), "has shape"),
        (TRANSFORMER, "num_layers", json!(2), "is missing"),
        (
            TRANSFORMER,
            "num_single_layers",
            json!(1),
            "belongs to no layer",
        ),
        (TRANSFORMER, "num_attention_heads", json!(3), "has shape"),
        (TRANSFORMER, "joint_attention_dim", json!(15), "has shape"),
        (TRANSFORMER, "pooled_projection_dim", json!(11), "has shape"),
        (
            TRANSFORMER,
            "guidance_embeds",
            json!(false),
            "belongs to no layer",
        ),
        (
            TRANSFORMER,
            "axes_dims_rope",
            json!([4, 6, 8]),
            "`axes_dims_rope`",
        ),
        (
            TRANSFORMER,
            "new_trick",
            json!(true),
            "`new_trick` is unknown",
        ),
        (TEXT_ENCODER_2, "d_model", json!(13), "has shape"),
        (TEXT_ENCODER_2, "d_ff", json!(null), "`d_ff` is missing"),
        (TEXT_ENCODER_2, "num_layers", json!(4), "is missing"),
        (
            TEXT_ENCODER_2,
            "relative_attention_num_buckets",
            json!(30),
            "has shape",
        ),
        (TEXT_ENCODER_2, "vocab_size", json!(40), "has shape"),
        (TOKENIZER_2, "model_max_length", json!(1), "leaves no room"),
        (
            TOKENIZER_2,
            "eos_token",
            json!("nowhere"),
            "no token \"nowhere\"",
        ),
        (VAE, "shift_factor", json!("far"), "`shift_factor`"),
        (VAE, "latent_channels", json!(15), "has shape"),
        (VAE, "latents_mean", json!([0.5]), "`latents_mean`"),
    ];
    refused("flux/dev", settings);
}

#[test]
fn parts_of_another_model_are_refused() {
    for (part, problem) in [
        ("text_encoder", "`pooled_projection_dim` is 10"),
        ("text_encoder_2", "`joint_attention_dim` is 14"),
        ("vae", "`in_channels` is 64, but vae/config.json needs 20"),
    ] {
        let copy = Copy::of("flux/dev");
        for file in std::fs::read_dir(golden("flux/schnell").join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path(part).join(file.file_name())).unwrap();
        }
        let error = copy.refusal();
        assert!(error.contains(problem), "{part}: {error}");
    }
}
