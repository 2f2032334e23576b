//! FLUX.1: what it has of its own.

use serde_json::json;

use super::*;

fn schnell() -> ImageModel {
    ImageModel::load(&golden().join("../flux/schnell")).unwrap()
}

fn dev() -> ImageModel {
    ImageModel::load(&golden().join("../flux/dev")).unwrap()
}

/// Of a size that both have, and small.
fn request() -> ImageRequest {
    ImageRequest {
        width: Some(32),
        height: Some(24),
        ..super::request()
    }
}

#[test]
fn the_same_request_gives_the_same_bytes_on_any_number_of_threads() {
    let pipeline = schnell();
    // Large enough that the work is worth sharing.
    let request = ImageRequest {
        width: Some(96),
        height: Some(80),
        steps: 2,
        ..request()
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| pipeline.generate(&request, &mut go).unwrap())
    };
    let one = on(1);
    assert_eq!((one.width, one.height), (96, 80));
    assert_eq!(one, on(2));
    assert_eq!(one, on(5));
    let other = ImageRequest {
        seed: 6,
        ..request.clone()
    };
    assert_ne!(one, pipeline.generate(&other, &mut go).unwrap());
}

#[test]
fn what_a_request_leaves_open_the_folder_decides() {
    let (schnell, dev) = (schnell(), dev());
    assert_eq!(
        (schnell.default_size(), schnell.size_multiple()),
        ((256, 256), 4)
    );
    assert_eq!((schnell.default_steps(), dev.default_steps()), (4, 28));
    assert_eq!((dev.default_guidance(), dev.size_multiple()), (3.5, 8));
    // Its layers are of both kinds.
    let kernels = CpuKernels::new();
    let both = format!("{}+{}", kernels.name(), kernels.text_name());
    assert_eq!(dev.kernels(), both);
    assert!(both.len() <= 64, "coordinators refuse longer names");
    assert_eq!(
        ImageModel::load(&golden()).unwrap().kernels(),
        kernels.name()
    );
}

#[test]
fn guidance_is_told_to_those_that_know_it() {
    let picture = |pipeline: &ImageModel, guidance| {
        let request = ImageRequest {
            guidance,
            steps: 2,
            ..request()
        };
        assert!(!pipeline.is_guided(&request));
        pipeline.generate(&request, &mut go).unwrap()
    };
    let (schnell, dev) = (schnell(), dev());
    assert_eq!(picture(&schnell, 0.0), picture(&schnell, 9.0));
    assert_ne!(picture(&dev, 1.5), picture(&dev, 9.0));
}

#[test]
fn what_it_does_not_do_is_refused_by_name() {
    let pipeline = dev();
    for (field, bad) in [
        (
            "negative_prompt",
            ImageRequest {
                negative_prompt: Some("blurry".to_owned()),
                ..request()
            },
        ),
        (
            "sampler",
            ImageRequest {
                sampler: Some(Sampler::DpmPlusPlus2M),
                ..request()
            },
        ),
        (
            "width",
            ImageRequest {
                // A multiple of what one latent covers, but not of two.
                width: Some(36),
                ..request()
            },
        ),
        (
            "height",
            ImageRequest {
                height: Some(33),
                ..request()
            },
        ),
        (
            "steps",
            ImageRequest {
                steps: 0,
                ..request()
            },
        ),
        (
            "strength",
            ImageRequest {
                strength: Some(0.5),
                ..request()
            },
        ),
    ] {
        let error = pipeline.check(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        let drawn = pipeline.generate(&bad, &mut |_| panic!("a step was taken"));
        assert_eq!(drawn.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let fine = ImageRequest {
        negative_prompt: Some(String::new()),
        sampler: Some(Sampler::Euler),
        ..request()
    };
    pipeline.check(&fine).unwrap();

    let lora = Lora {
        file: golden().join("../loras/diffusers.safetensors"),
        scale: 1.0,
    };
    let folder = golden().join("../flux/dev");
    let kernels = Arc::new(CpuKernels::new());
    let error = ImageModel::load_with_loras(&folder, &[lora], kernels).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = error.to_string();
    assert!(
        error.contains("diffusers.safetensors") && error.contains("FLUX.1"),
        "{error}"
    );
}

#[test]
fn numbers_that_are_not_finite_never_become_a_picture() {
    let pipeline = schnell();
    let mut noise = pipeline.noise(&request()).unwrap();
    assert_eq!(noise.len(), 5 * 16 * 12);
    noise[3] = f32::NAN;
    for error in [
        pipeline
            .denoise(&request(), noise.clone(), &mut go)
            .unwrap_err(),
        pipeline.decode(&request(), &noise).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Execution);
    }
    let short = pipeline.denoise(&request(), vec![0.0; 7], &mut go);
    assert!(short.unwrap_err().to_string().contains("7 numbers"));
}

#[test]
fn long_prompts_are_cut_where_the_tokenizer_ends() {
    let pipeline = schnell();
    let (fits, long) = ("red ".repeat(23), "red ".repeat(100));
    let longer = format!("{fits} circle");
    let embedded = pipeline.embed(&fits).unwrap();
    // 24 tokens of 20 numbers, the last of which ends the prompt.
    assert_eq!(embedded.len(), 24 * 20);
    assert_eq!(embedded, pipeline.embed(&long).unwrap());
    assert_eq!(embedded, pipeline.embed(&longer).unwrap());
    assert_ne!(embedded, pipeline.embed(&"red ".repeat(22)).unwrap());
    for text in ["", "\0\u{7f}", "日本 🦜", "</s> <pad> <extra_id_0>"] {
        assert_eq!(pipeline.embed(text).unwrap().len(), 24 * 20, "{text:?}");
    }
    // Where the tokenizer has no limit, or a higher one, the family has one.
    for (name, tokens, width) in [("flux/schnell", 256, 20), ("flux/dev", 512, 14)] {
        for limit in [json!(null), json!(4_096), json!(1e30)] {
            let copy = Copy::of(name);
            copy.set(
                "tokenizer_2/tokenizer_config.json",
                "model_max_length",
                limit,
            );
            let embedded = copy.load().unwrap().embed("a red circle").unwrap();
            assert_eq!(embedded.len(), tokens * width);
        }
    }
}

#[test]
fn the_table_of_tokens_has_two_names() {
    let expected = schnell().embed("a red circle").unwrap();
    let copy = Copy::of("flux/schnell");
    copy.convert("text_encoder_2/model.safetensors", Dtype::F16, |name| {
        Some(name.replace("shared.weight", "encoder.embed_tokens.weight"))
    });
    assert_eq!(
        copy.load().unwrap().embed("a red circle").unwrap(),
        expected
    );
}

#[test]
fn pictures_begin_from_pictures() {
    let pipeline = dev();
    let begun = ImageRequest {
        image: Some(picture(33, 29)),
        width: None,
        height: None,
        steps: 10,
        strength: Some(0.35),
        ..super::request()
    };
    let mut seen = Vec::new();
    let image = pipeline.generate(&begun, &mut |progress| {
        seen.push((progress.step, progress.steps));
        ControlFlow::Continue(())
    });
    let image = image.unwrap();
    assert_eq!((image.width, image.height), (32, 24));
    // What is left out is rounded down, so that four are run.
    assert_eq!(seen, [(0, 4), (0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
    let further = ImageRequest {
        strength: Some(0.9),
        ..begun.clone()
    };
    assert_ne!(image, pipeline.generate(&further, &mut go).unwrap());
    let nowhere = ImageRequest {
        strength: Some(1e-30),
        ..begun
    };
    let error = pipeline.check(&nowhere).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`strength`"), "{error}");
}

#[test]
fn what_the_last_step_foresees_is_what_comes() {
    for pipeline in [schnell(), dev()] {
        let mut foreseen = Vec::new();
        let mut previews = Vec::new();
        let noise = pipeline.noise(&request()).unwrap();
        let latents = pipeline.denoise(&request(), noise, &mut |progress| {
            foreseen = progress.seen.map_or_else(Vec::new, |seen| seen.foreseen());
            previews.extend(progress.preview());
            ControlFlow::Continue(())
        });
        let latents = latents.unwrap();
        assert_eq!(foreseen.len(), latents.len());
        let gaps = foreseen.iter().zip(&latents).map(|(a, b)| (a - b).abs());
        assert!(gaps.fold(0.0, f32::max) < 1e-4);
        assert_eq!(previews.len(), 3, "one after each step, none before");
        // One pixel for each latent.
        let side = 32 / pipeline.vae.scale();
        assert_eq!(
            (previews[2].width, previews[2].height),
            (side, side * 3 / 4)
        );
    }
}

#[test]
fn larger_pictures_need_more_memory() {
    let pipeline = dev();
    let memory = |side| {
        let request = ImageRequest {
            width: Some(side),
            height: Some(side),
            ..request()
        };
        pipeline.run_memory(&request).unwrap()
    };
    assert!(memory(64) > 64 * 64 * 3 * 4);
    let ratio = memory(2_048) as f64 / memory(512) as f64;
    assert!((14.0..17.0).contains(&ratio), "{ratio}");
}

#[test]
fn missing_files_are_named() {
    for file in [
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        "text_encoder_2/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer_2/tokenizer.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let copy = Copy::of("flux/dev");
        std::fs::remove_file(copy.path(file)).unwrap();
        assert!(copy.refusal().contains(file), "{file}");
    }
}

#[test]
fn truncated_files_are_refused() {
    for file in [
        "text_encoder_2/model.safetensors",
        "tokenizer_2/tokenizer.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
    ] {
        let copy = Copy::of("flux/dev");
        let bytes = std::fs::read(copy.path(file)).unwrap();
        std::fs::write(copy.path(file), &bytes[..bytes.len() / 2]).unwrap();
        assert!(copy.refusal().contains(file), "{file}");
    }
}

#[test]
fn parts_that_do_not_fit_their_weights_or_each_other_are_refused() {
    let transformer = "transformer/config.json";
    for (file, key, value, problem) in [
        (
            "model_index.json",
            "text_encoder_2",
            json!(["transformers", "CLIPTextModelWithProjection"]),
            "`text_encoder_2`",
        ),
        (
            "model_index.json",
            "tokenizer_2",
            json!(["transformers", "CLIPTokenizer"]),
            "`tokenizer_2`",
        ),
        (
            "model_index.json",
            "unet",
            json!(["diffusers", "UNet2DConditionModel"]),
            "`unet` is unknown",
        ),
        (
            "model_index.json",
            "transformer",
            json!(["diffusers", "SD3Transformer2DModel"]),
            "`transformer`",
        ),
        (
            "scheduler/scheduler_config.json",
            "_class_name",
            json!("EulerDiscreteScheduler"),
            "runs FlowMatchEulerDiscreteScheduler",
        ),
        (
            "scheduler/scheduler_config.json",
            "shift_terminal",
            json!(0.02),
            "`shift_terminal`",
        ),
        (transformer, "in_channels", json!(null), "is missing"),
        (transformer, "in_channels", json!(60), "has shape"),
        (transformer, "num_layers", json!(2), "is missing"),
        (
            transformer,
            "num_single_layers",
            json!(1),
            "belongs to no layer",
        ),
        (transformer, "num_attention_heads", json!(3), "has shape"),
        (transformer, "joint_attention_dim", json!(15), "has shape"),
        (transformer, "pooled_projection_dim", json!(11), "has shape"),
        (
            transformer,
            "guidance_embeds",
            json!(false),
            "belongs to no layer",
        ),
        (
            transformer,
            "axes_dims_rope",
            json!([4, 6, 8]),
            "`axes_dims_rope`",
        ),
        (
            transformer,
            "new_trick",
            json!(true),
            "`new_trick` is unknown",
        ),
        (
            "text_encoder_2/config.json",
            "d_model",
            json!(13),
            "has shape",
        ),
        (
            "text_encoder_2/config.json",
            "d_ff",
            json!(null),
            "`d_ff` is missing",
        ),
        (
            "text_encoder_2/config.json",
            "num_layers",
            json!(4),
            "is missing",
        ),
        (
            "text_encoder_2/config.json",
            "relative_attention_num_buckets",
            json!(30),
            "has shape",
        ),
        (
            "text_encoder_2/config.json",
            "vocab_size",
            json!(40),
            "has shape",
        ),
        (
            "tokenizer_2/tokenizer_config.json",
            "model_max_length",
            json!(1),
            "leaves no room",
        ),
        (
            "tokenizer_2/tokenizer_config.json",
            "eos_token",
            json!("nowhere"),
            "no token \"nowhere\"",
        ),
        (
            "vae/config.json",
            "shift_factor",
            json!("far"),
            "`shift_factor`",
        ),
        ("vae/config.json", "latent_channels", json!(15), "has shape"),
        (
            "vae/config.json",
            "latents_mean",
            json!([0.5]),
            "`latents_mean`",
        ),
    ] {
        let copy = Copy::of("flux/dev");
        copy.set(file, key, value.clone());
        let error = copy.refusal();
        assert!(error.contains(problem), "{file} {key} = {value}: {error}");
    }
    // A text encoder and an autoencoder of another model.
    for (part, problem) in [
        ("text_encoder", "`pooled_projection_dim` is 10"),
        ("text_encoder_2", "`joint_attention_dim` is 14"),
        ("vae", "`in_channels` is 64, but vae/config.json needs 20"),
    ] {
        let copy = Copy::of("flux/dev");
        for file in std::fs::read_dir(golden().join("../flux/schnell").join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path(part).join(file.file_name())).unwrap();
        }
        let error = copy.refusal();
        assert!(error.contains(problem), "{part}: {error}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let copy = Copy::of("flux/dev");
    let file = "transformer/diffusion_pytorch_model.safetensors";
    let mut bytes = std::fs::read(copy.path(file)).unwrap();
    // The last number of the last tensor, in half width: an infinity.
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&[0x00, 0x7c]);
    std::fs::write(copy.path(file), bytes).unwrap();
    let error = copy.refusal();
    assert!(
        error.contains(file) && error.contains("not finite"),
        "{error}"
    );
}
