mod flux;
mod loras;
mod previews;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use cuckoo_core::ErrorKind;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/random")
}

/// A copy of the random pipeline, to be damaged.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        Self::of("random")
    }

    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = golden().join("..").join(name);
        let parts = std::fs::read_dir(&from).unwrap().map(|part| part.unwrap());
        let parts = parts.filter(|part| part.path().is_dir());
        for part in parts.map(|part| part.file_name()).chain(["".into()]) {
            std::fs::create_dir_all(dir.path().join(&part)).unwrap();
            for file in std::fs::read_dir(from.join(&part))
                .unwrap()
                .map(|file| file.unwrap())
            {
                if file.path().is_file() {
                    std::fs::copy(file.path(), dir.path().join(&part).join(file.file_name()))
                        .unwrap();
                }
            }
        }
        Self(dir)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn set(&self, file: &str, key: &str, value: Value) -> &Self {
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(self.path(file), config.to_string()).unwrap();
        self
    }

    /// Rewrites a weight file: new name and type (`F16` stays) of each tensor; `None` leaves it out.
    fn convert(&self, file: &str, dtype: Dtype, rename: impl Fn(&str) -> Option<String>) {
        let bytes = std::fs::read(self.path(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let converted: Vec<_> = tensors
            .iter()
            .filter_map(|(name, view)| {
                let values = view
                    .data()
                    .chunks_exact(2)
                    .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
                let data: Vec<u8> = match dtype {
                    Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
                    _ => view.data().to_vec(),
                };
                Some((rename(name)?, view.shape().to_vec(), data))
            })
            .collect();
        let views = converted.iter().map(|(name, shape, data)| {
            (name, TensorView::new(dtype, shape.clone(), data).unwrap())
        });
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        std::fs::write(self.path(file), bytes).unwrap();
    }

    fn load(&self) -> cuckoo_core::Result<ImageModel> {
        ImageModel::load(self.0.path())
    }

    fn refusal(&self) -> String {
        let error = self.load().expect_err("the folder is damaged");
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound),
            "{error}"
        );
        error.to_string()
    }
}

fn request() -> ImageRequest {
    ImageRequest {
        prompt: "a large red circle".to_owned(),
        negative_prompt: None,
        image: None,
        strength: None,
        width: None,
        height: None,
        steps: 3,
        guidance: 2.0,
        seed: 5,
        sampler: None,
    }
}

fn go(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_same_request_gives_the_same_bytes_on_any_number_of_threads() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    // Large enough that the work is worth sharing.
    let request = ImageRequest {
        width: Some(192),
        height: Some(192),
        steps: 1,
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
    assert_eq!(one, on(1));
    assert_eq!(one, on(2));
    assert_eq!(one, on(5));
    let other = ImageRequest {
        seed: 6,
        ..request.clone()
    };
    assert_ne!(one, pipeline.generate(&other, &mut go).unwrap());
}

#[test]
fn progress_counts_steps_and_can_end_the_run() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    let mut seen = Vec::new();
    let image = pipeline.generate(&request(), &mut |progress| {
        seen.push((progress.step, progress.steps));
        ControlFlow::Continue(())
    });
    assert_eq!(seen, [(0, 3), (0, 3), (1, 3), (2, 3), (3, 3)]);
    let image = image.unwrap();
    assert_eq!((image.width, image.height), pipeline.default_size());
    assert_eq!(image.rgb.len(), image.width * image.height * 3);

    let mut calls = 0;
    let error = pipeline
        .generate(&request(), &mut |progress| {
            calls += 1;
            if progress.step == 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap_err();
    assert_eq!((error.kind(), calls), (ErrorKind::Cancelled, 3));
}

#[test]
fn every_multiple_is_a_size() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    // One latent; and sizes that halve unevenly on the way down.
    for (width, height) in [(4, 4), (4, 44), (100, 12)] {
        let request = ImageRequest {
            width: Some(width),
            height: Some(height),
            steps: 1,
            ..request()
        };
        let image = pipeline.generate(&request, &mut go).unwrap();
        assert_eq!(
            (image.width, image.height, image.rgb.len()),
            (width, height, width * height * 3)
        );
    }
}

#[test]
fn bad_requests_are_refused_before_any_work() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    assert_eq!(
        (pipeline.default_size(), pipeline.size_multiple()),
        ((56, 72), 4)
    );
    for bad in [
        ImageRequest {
            width: Some(57),
            ..request()
        },
        ImageRequest {
            steps: 501,
            ..request()
        },
        ImageRequest {
            guidance: f64::NAN,
            ..request()
        },
        ImageRequest {
            prompt: "x".repeat(1 << 20),
            ..request()
        },
    ] {
        assert_eq!(pipeline.check(&bad).unwrap_err().kind(), ErrorKind::Invalid);
        let drawn = pipeline.generate(&bad, &mut |_| panic!("a step was taken"));
        assert_eq!(drawn.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let error = pipeline.decode(&request(), &[0.0; 7]).unwrap_err();
    assert!(error.to_string().contains("7 numbers"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_never_become_a_picture() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    let mut noise = pipeline.noise(&request()).unwrap();
    noise[3] = f32::NAN;
    assert_eq!(
        pipeline
            .denoise(&request(), noise.clone(), &mut go)
            .unwrap_err()
            .kind(),
        ErrorKind::Execution
    );
    assert_eq!(
        pipeline.decode(&request(), &noise).unwrap_err().kind(),
        ErrorKind::Execution
    );
}

#[test]
fn other_layouts_of_the_same_weights_give_the_same_picture() {
    let expected = ImageModel::load(&golden())
        .unwrap()
        .generate(&request(), &mut go)
        .unwrap();
    let copy = Copy::new();
    // As transformers 5 writes a text encoder.
    copy.convert("text_encoder/model.safetensors", Dtype::F16, |name| {
        name.strip_prefix("text_model.").map(str::to_owned)
    });
    // As an old autoencoder, without its encoder, in full width.
    copy.convert(
        "vae/diffusion_pytorch_model.safetensors",
        Dtype::F32,
        |name| {
            let mut name = name.to_owned();
            for (new, old) in [
                ("to_q.", "query."),
                ("to_k.", "key."),
                ("to_v.", "value."),
                ("to_out.0.", "proj_attn."),
            ] {
                name = name.replace(new, old);
            }
            (!name.starts_with("encoder.")).then_some(name)
        },
    );
    copy.convert(
        "unet/diffusion_pytorch_model.safetensors",
        Dtype::F32,
        |name| Some(name.to_owned()),
    );
    let pipeline = copy.load().unwrap();
    assert_eq!(pipeline.generate(&request(), &mut go).unwrap(), expected);
    assert_ne!(
        pipeline.model_hash(),
        ImageModel::load(&golden()).unwrap().model_hash()
    );
}

#[test]
fn missing_files_are_named() {
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let copy = Copy::new();
        std::fs::remove_file(copy.path(file)).unwrap();
        assert!(copy.refusal().contains(file), "{file}");
    }
    let error = ImageModel::load(Path::new("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn truncated_files_are_refused() {
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let copy = Copy::new();
        let bytes = std::fs::read(copy.path(file)).unwrap();
        std::fs::write(copy.path(file), &bytes[..bytes.len() / 2]).unwrap();
        assert!(copy.refusal().contains(file), "{file}");
    }
}

#[test]
fn configurations_that_do_not_fit_the_weights_or_each_other_are_refused() {
    use serde_json::json;
    for (file, key, value, problem) in [
        (
            "model_index.json",
            "_class_name",
            json!("StableDiffusion3Pipeline"),
            "_class_name",
        ),
        (
            "model_index.json",
            "_class_name",
            json!("StableDiffusionXLPipeline"),
            "lacks text_encoder_2/config.json",
        ),
        (
            "scheduler/scheduler_config.json",
            "_class_name",
            json!("UniPCMultistepScheduler"),
            "this miner runs DDIMScheduler",
        ),
        (
            "model_index.json",
            "unet",
            json!(["diffusers", "UNet3DConditionModel"]),
            "`unet`",
        ),
        (
            "model_index.json",
            "image_encoder",
            json!(["transformers", "CLIPVisionModelWithProjection"]),
            "`image_encoder`",
        ),
        (
            "unet/config.json",
            "block_out_channels",
            json!([8, 12, 12, 30]),
            "has shape",
        ),
        (
            "unet/config.json",
            "layers_per_block",
            json!(3),
            "is missing",
        ),
        ("unet/config.json", "layers_per_block", json!(1), "tensor `"),
        (
            "unet/config.json",
            "cross_attention_dim",
            json!(21),
            "has shape",
        ),
        (
            "unet/config.json",
            "norm_num_groups",
            json!(3),
            "groups do not divide",
        ),
        (
            "unet/config.json",
            "block_out_channels",
            json!([8, 12, 12, 1e300]),
            "whole number",
        ),
        ("vae/config.json", "latent_channels", json!(5), "has shape"),
        (
            "vae/config.json",
            "scaling_factor",
            json!(0),
            "`scaling_factor`",
        ),
        (
            "vae/config.json",
            "shift_factor",
            json!(0.1),
            "`shift_factor`",
        ),
        (
            "vae/config.json",
            "layers_per_block",
            json!(1),
            "belongs to no layer",
        ),
        (
            "text_encoder/config.json",
            "hidden_size",
            json!(4_000_000_000_u64),
            "`hidden_size`",
        ),
        (
            "text_encoder/config.json",
            "hidden_size",
            json!(16_380),
            "has shape",
        ),
        (
            "text_encoder/config.json",
            "num_attention_heads",
            json!(3),
            "does not divide",
        ),
        (
            "text_encoder/config.json",
            "num_hidden_layers",
            json!(2),
            "belongs to no layer",
        ),
        (
            "text_encoder/config.json",
            "hidden_act",
            json!("gelu_new"),
            "this miner runs quick_gelu, gelu",
        ),
        (
            "text_encoder/config.json",
            "use_attention_mask",
            json!(true),
            "`use_attention_mask`",
        ),
    ] {
        let copy = Copy::new();
        copy.set(file, key, value.clone());
        let error = copy.refusal();
        assert!(error.contains(problem), "{file} {key} = {value}: {error}");
    }
}

fn picture(width: usize, height: usize) -> Image {
    Image {
        width,
        height,
        rgb: (0..width * height * 3)
            .map(|i| (i * 7 % 256) as u8)
            .collect(),
    }
}

#[test]
fn pictures_begin_from_pictures() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    let begun = ImageRequest {
        image: Some(picture(33, 26)),
        steps: 10,
        strength: Some(0.3),
        ..request()
    };
    let mut seen = Vec::new();
    let image = pipeline.generate(&begun, &mut |progress| {
        seen.push((progress.step, progress.steps));
        ControlFlow::Continue(())
    });
    let image = image.unwrap();
    assert_eq!((image.width, image.height), (32, 24));
    assert_eq!(seen, [(0, 3), (0, 3), (1, 3), (2, 3), (3, 3)]);
    assert_eq!(image, pipeline.generate(&begun, &mut go).unwrap());
    let further = ImageRequest {
        strength: Some(0.9),
        ..begun.clone()
    };
    assert_ne!(image, pipeline.generate(&further, &mut go).unwrap());
    let refused = |request: ImageRequest, problem: &str| {
        let error = pipeline.check(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(problem), "{error}");
    };
    let short = ImageRequest {
        steps: 3,
        ..begun.clone()
    };
    refused(short, "`strength` is 0.3, of which 3 steps leave none");
    let mut broken = begun.clone();
    broken.image.as_mut().unwrap().rgb.pop();
    refused(broken, "`rgb`");

    let copy = Copy::new();
    copy.convert(
        "vae/diffusion_pytorch_model.safetensors",
        Dtype::F16,
        |name| (!name.starts_with("encoder.")).then(|| name.to_owned()),
    );
    let error = copy.load().unwrap().check(&begun).unwrap_err().to_string();
    assert!(
        error.contains("decoder of its autoencoder alone"),
        "{error}"
    );
}

#[test]
fn larger_pictures_need_more_memory() {
    let pipeline = ImageModel::load(&golden()).unwrap();
    let memory = |side| {
        let request = ImageRequest {
            width: Some(side),
            height: Some(side),
            ..request()
        };
        pipeline.run_memory(&request).unwrap()
    };
    assert!(memory(64) > 64 * 64 * 3 * 4);
    let ratio = memory(1_024) as f64 / memory(256) as f64;
    assert!((15.0..17.0).contains(&ratio), "{ratio}");
}

#[test]
fn what_a_request_leaves_open_the_folder_decides() {
    let small = ImageModel::load(&golden()).unwrap();
    assert_eq!((small.default_steps(), small.default_guidance()), (20, 2.0));
    let xl = golden().join("../xl");
    let xl = ImageModel::load(&xl).unwrap();
    assert_eq!((xl.default_steps(), xl.default_guidance()), (30, 5.0));
    let copy = Copy::new();
    copy.set(
        "scheduler/scheduler_config.json",
        "_class_name",
        serde_json::json!("EulerDiscreteScheduler"),
    )
    .set(
        "scheduler/scheduler_config.json",
        "timestep_spacing",
        serde_json::json!("trailing"),
    )
    .set(
        "scheduler/scheduler_config.json",
        "rescale_betas_zero_snr",
        serde_json::json!(false),
    );
    let turbo = copy.load().unwrap();
    assert_eq!((turbo.default_steps(), turbo.default_guidance()), (4, 1.0));
}

#[test]
fn xl_parts_that_do_not_fit_each_other_are_refused() {
    use serde_json::json;
    for (file, key, value, problem) in [
        (
            "unet/config.json",
            "addition_embed_type",
            json!(null),
            "projection_class_embeddings_input_dim",
        ),
        (
            "unet/config.json",
            "projection_class_embeddings_input_dim",
            json!(45),
            "has shape",
        ),
        (
            "text_encoder_2/config.json",
            "projection_dim",
            json!(11),
            "has shape",
        ),
        (
            "tokenizer_2/tokenizer_config.json",
            "model_max_length",
            json!(15),
            "model_max_length",
        ),
        (
            "model_index.json",
            "force_zeros_for_empty_prompt",
            json!("no"),
            "force_zeros",
        ),
        (
            "model_index.json",
            "_class_name",
            json!("StableDiffusionPipeline"),
            "text_encoder_2",
        ),
    ] {
        let copy = Copy::of("xl");
        copy.set(file, key, value);
        let error = copy.refusal();
        assert!(error.contains(problem), "{file} {key}: {error}");
    }
}
