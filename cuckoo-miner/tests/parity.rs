//! The pipeline against diffusers, stage by stage, from the same noise.
//!
//! The golden files under `tests/golden` hold what diffusers computed (`make parity` writes them anew and runs these
//! tests, whose output is the table of errors measured). `random` is a pipeline of random weights in the manner of Stable
//! Diffusion 2 that differs from the shapes model in everything a configuration can say, `xl` one in the manner of
//! Stable Diffusion XL; `samplers` are the first one's pictures by every sampler, and from other pictures. `flux/schnell` and
//! `flux/dev` are pipelines of random weights in the manner of the two models of FLUX.1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

#[path = "parity/golden.rs"]
mod golden;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use cuckoo_miner::{CpuKernels, Image, ImageModel, ImageRequest, Lora};
use safetensors::Dtype;

use golden::{Golden, check_model, relative, root};

/// Final latents, relative to the reference's norm.
const LATENTS: f64 = 1e-4;
/// The same of the pipeline in the manner of XL: in one of its pictures from pictures diffusers itself is 1.0e-4 from what it
/// computes in `f64`.
const XL: f64 = 2e-4;
/// One call of the text encoders or the denoiser, likewise.
const ONE_CALL: f64 = 1e-4;
/// Mean difference of a picture's levels, of 255.
const PICTURE: f64 = 2.0;

#[test]
fn random_pipeline_matches_diffusers() {
    compare("random", &root().join("random"), 4, LATENTS);
}

#[test]
fn every_sampler_and_pictures_from_pictures_match_diffusers() {
    compare("samplers", &root().join("random"), 10, LATENTS);
}

#[test]
fn xl_and_turbo_match_diffusers() {
    compare("xl", &root().join("xl"), 7, XL);
}

#[test]
fn flux_matches_diffusers() {
    for (name, count) in [("flux/schnell", 4), ("flux/dev", 3)] {
        compare(name, &root().join(name), count, LATENTS);
    }
}

#[test]
fn merged_loras_match_diffusers() {
    compare("loras", &root().join("random"), 2, LATENTS);
    compare("loras_xl", &root().join("xl"), 1, XL);
}

#[test]
fn shapes_model_matches_diffusers() {
    let folder = root().join("../../../examples/models/shapes");
    compare("shapes", &folder, 4, LATENTS);
}

/// A folder with another `scheduler_config.json`.
fn with_scheduler(folder: &Path, scheduler: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let to = copy.path().join(part.file_name());
        if part.path().is_file() {
            std::fs::copy(part.path(), to).unwrap();
            continue;
        }
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(part.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let file = copy.path().join("scheduler/scheduler_config.json");
    std::fs::write(file, scheduler).unwrap();
    copy
}

fn compare(name: &str, folder: &Path, count: usize, latents_bound: f64) {
    let golden = Golden::load(name);
    let tensors = golden.tensors();
    let picture = |name: String| {
        let picture = tensors.tensor(&name).ok()?;
        assert_eq!(picture.dtype(), Dtype::U8);
        Some((picture.data(), picture.shape().to_vec()))
    };
    let metadata: Metadata = golden.metadata();
    let time = metadata.time;
    // As the folder calls it.
    let denoiser = match folder.join("unet").is_dir() {
        true => "unet",
        false => "transformer",
    };
    assert_eq!(metadata.requests.len(), count);
    for (i, (mut request, case)) in metadata
        .requests
        .into_iter()
        .zip(metadata.cases)
        .enumerate()
    {
        let copy = case
            .scheduler
            .map(|scheduler| with_scheduler(folder, &scheduler));
        let folder = copy.as_ref().map_or(folder, tempfile::TempDir::path);
        let loras: Vec<Lora> = case
            .loras
            .iter()
            .map(|(name, scale)| Lora {
                file: root().join(format!("loras/{name}.safetensors")),
                scale: *scale,
            })
            .collect();
        let kernels = Arc::new(CpuKernels::new());
        let pipeline = ImageModel::load_with_loras(folder, &loras, kernels).unwrap();
        check_model(pipeline.model_hash(), &case.hash);
        if let Some((rgb, shape)) = picture(format!("{i}.input")) {
            request.image = Some(Image {
                width: shape[1],
                height: shape[0],
                rgb: rgb.to_vec(),
            });
        }
        let close = |stage: &str, got: &[f32], bound: f64| {
            let error = relative(got, &golden.floats(&format!("{i}.{stage}")));
            assert!(
                error <= bound,
                "{name} {i}: {stage} is off by {error:.1e}, more than {bound:.0e}"
            );
            error
        };
        let noise = pipeline.noise(&request).unwrap();
        let noise_error = close("noise", &noise, 1e-6);
        let mut prompt_error = close(
            "prompt",
            &pipeline.embed(&request.prompt).unwrap(),
            ONE_CALL,
        );
        if let Some(pooled) = pipeline.pool(&request.prompt).unwrap() {
            prompt_error = prompt_error.max(close("pooled", &pooled, ONE_CALL));
        }
        if tensors.tensor(&format!("{i}.negative")).is_ok() {
            let negative = request.negative_prompt.as_deref().unwrap_or_default();
            close("negative", &pipeline.embed(negative).unwrap(), ONE_CALL);
        }
        let start = golden.floats(&format!("{i}.noise"));
        let denoiser_error = close(
            denoiser,
            &pipeline.predict(&request, &start, time).unwrap(),
            ONE_CALL,
        );
        let latents = pipeline
            .denoise(&request, start, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        let latents_error = close("latents", &latents, latents_bound);

        let image = pipeline.decode(&request, &latents).unwrap();
        let (expected, shape) = picture(format!("{i}.image")).unwrap();
        assert_eq!(shape, [image.height, image.width, 3]);
        let gaps = image
            .rgb
            .iter()
            .zip(expected)
            .map(|(got, expected)| got.abs_diff(*expected));
        let largest = gaps.clone().max().unwrap();
        let mean = gaps.map(f64::from).sum::<f64>() / expected.len() as f64;
        assert!(
            mean <= PICTURE,
            "{name} {i}: the picture is off by {mean:.2} of 255 on average"
        );
        println!(
            "{name} {i}: noise {noise_error:.1e}, text {prompt_error:.1e}, {denoiser} {denoiser_error:.1e}, latents {latents_error:.1e} \
             relative; picture {mean:.4} mean, {largest} largest, of 255"
        );
    }
}

/// What was asked of diffusers.
#[derive(serde::Deserialize)]
struct Metadata {
    requests: Vec<ImageRequest>,
    cases: Vec<Case>,
    /// When the denoiser is called once.
    #[serde(alias = "unet_time")]
    time: f32,
}

/// On what.
#[derive(serde::Deserialize)]
struct Case {
    /// Another `scheduler_config.json` than the folder's.
    scheduler: Option<String>,
    /// What is merged, and at which scale.
    #[serde(default)]
    loras: Vec<(String, f64)>,
    hash: String,
}
