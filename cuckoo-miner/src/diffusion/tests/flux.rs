//! FLUX.1: what it has of its own.

use serde_json::json;

use super::*;

#[test]
fn what_a_request_leaves_open_the_folder_decides() {
    let (schnell, dev) = (pipeline("flux/schnell"), pipeline("flux/dev"));
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
    assert_eq!(pipeline("random").kernels(), kernels.name());
}

#[test]
fn guidance_is_told_to_those_that_know_it() {
    let picture = |pipeline: &ImageModel, guidance| {
        let request = ImageRequest {
            guidance,
            steps: 2,
            ..small()
        };
        assert!(!pipeline.is_guided(&request));
        pipeline.generate(&request, &mut go).unwrap()
    };
    let (schnell, dev) = (pipeline("flux/schnell"), pipeline("flux/dev"));
    assert_eq!(picture(&schnell, 0.0), picture(&schnell, 9.0));
    assert_ne!(picture(&dev, 1.5), picture(&dev, 9.0));
}

#[test]
fn what_it_does_not_do_is_refused_by_name() {
    let pipeline = pipeline("flux/dev");
    for (field, bad) in [
        (
            "negative_prompt",
            ImageRequest {
                negative_prompt: Some("blurry".to_owned()),
                ..small()
            },
        ),
        (
            "sampler",
            ImageRequest {
                sampler: Some(Sampler::DpmPlusPlus2M),
                ..small()
            },
        ),
        (
            "width",
            ImageRequest {
                // A multiple of what one latent covers, but not of two.
                width: Some(36),
                ..small()
            },
        ),
        (
            "height",
            ImageRequest {
                height: Some(33),
                ..small()
            },
        ),
        (
            "steps",
            ImageRequest {
                steps: 0,
                ..small()
            },
        ),
        (
            "strength",
            ImageRequest {
                strength: Some(0.5),
                ..small()
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
        ..small()
    };
    pipeline.check(&fine).unwrap();

    let lora = Lora {
        file: golden("loras/diffusers.safetensors"),
        scale: 1.0,
    };
    let folder = golden("flux/dev");
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
fn long_prompts_are_cut_where_the_tokenizer_ends() {
    let pipeline = pipeline("flux/schnell");
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
    let expected = pipeline("flux/schnell").embed("a red circle").unwrap();
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
fn what_the_last_step_foresees_is_what_comes() {
    for pipeline in [pipeline("flux/schnell"), pipeline("flux/dev")] {
        let mut foreseen = Vec::new();
        let mut previews = Vec::new();
        let noise = pipeline.noise(&small()).unwrap();
        let latents = pipeline.denoise(&small(), noise, &mut |progress| {
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
