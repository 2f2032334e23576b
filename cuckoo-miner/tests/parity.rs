//! The pipeline against diffusers, stage by stage, from the same noise.
//!
//! The golden files under `tests/golden` hold what diffusers computed (`make parity` writes them anew and runs these
//! tests, whose output is the table of errors measured). `random` is a pipeline of random weights that differs from
//! the shapes model in everything a configuration can say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

#[path = "parity/golden.rs"]
mod golden;

use std::ops::ControlFlow;
use std::path::Path;

use cuckoo_miner::{ImageRequest, StableDiffusion};
use safetensors::Dtype;

use golden::{Golden, check_model, relative, root};

/// Final latents, relative to the reference's norm.
const LATENTS: f64 = 1e-3;
/// One call of the text encoder or the UNet, likewise.
const ONE_CALL: f64 = 1e-4;
/// Mean difference of a picture's levels, of 255.
const PICTURE: f64 = 2.0;

#[test]
fn random_pipeline_matches_diffusers() {
    compare("random", &root().join("random"));
}

#[test]
fn shapes_model_matches_diffusers() {
    compare("shapes", &root().join("../../../examples/models/shapes"));
}

fn compare(name: &str, folder: &Path) {
    let golden = Golden::load(name);
    let metadata: Metadata = golden.metadata();
    let pipeline = StableDiffusion::load(folder).unwrap();
    check_model(pipeline.model_hash(), &metadata.model_hash);
    let time = metadata.unet_time;
    let requests = metadata.requests;
    assert!(requests.len() >= 4);
    for (i, request) in requests.iter().enumerate() {
        let close = |stage: &str, got: &[f32], bound: f64| {
            let error = relative(got, &golden.floats(&format!("{i}.{stage}")));
            assert!(
                error <= bound,
                "{name} {i}: {stage} is off by {error:.1e}, more than {bound:.0e}"
            );
            error
        };
        let noise = pipeline.noise(request).unwrap();
        let noise_error = close("noise", &noise, 1e-6);
        let prompt_error = close(
            "prompt",
            &pipeline.embed(&request.prompt).unwrap(),
            ONE_CALL,
        );
        let negative = request.negative_prompt.as_deref().unwrap_or_default();
        close("negative", &pipeline.embed(negative).unwrap(), ONE_CALL);
        let start = golden.floats(&format!("{i}.noise"));
        let unet_error = close(
            "unet",
            &pipeline.predict(request, &start, time).unwrap(),
            ONE_CALL,
        );
        let latents = pipeline
            .denoise(request, start, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        let latents_error = close("latents", &latents, LATENTS);

        let image = pipeline.decode(request, &latents).unwrap();
        let tensors = golden.tensors();
        let expected = tensors.tensor(&format!("{i}.image")).unwrap();
        assert_eq!(expected.dtype(), Dtype::U8);
        assert_eq!(expected.shape(), [image.height, image.width, 3]);
        let expected = expected.data();
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
            "{name} {i}: noise {noise_error:.1e}, text {prompt_error:.1e}, unet {unet_error:.1e}, latents {latents_error:.1e} \
             relative; picture {mean:.4} mean, {largest} largest, of 255"
        );
    }
}

/// What was asked of diffusers.
#[derive(serde::Deserialize)]
struct Metadata {
    requests: Vec<ImageRequest>,
    unet_time: f32,
    model_hash: String,
}
