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

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cuckoo_miner::{ImageRequest, StableDiffusion};
use safetensors::{Dtype, SafeTensors};

/// Final latents, relative to the reference's norm.
const LATENTS: f64 = 1e-3;
/// One call of the text encoder or the UNet, likewise.
const ONE_CALL: f64 = 1e-4;
/// Mean difference of a picture's levels, of 255.
const PICTURE: f64 = 2.0;

#[test]
fn random_pipeline_matches_diffusers() {
    compare("random", &crate_dir().join("tests/golden/random"));
}

#[test]
fn shapes_model_matches_diffusers() {
    compare("shapes", &crate_dir().join("../examples/models/shapes"));
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn compare(name: &str, folder: &Path) {
    let bytes =
        std::fs::read(crate_dir().join(format!("tests/golden/{name}.safetensors"))).unwrap();
    let golden = Golden {
        tensors: SafeTensors::deserialize(&bytes).unwrap(),
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let metadata: Metadata = serde_json::from_str(&metadata["golden"]).unwrap();
    let pipeline = StableDiffusion::load(folder).unwrap();
    let hash: String = pipeline
        .model_hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash, metadata.model_hash,
        "the golden file belongs to other weights: run `make parity`"
    );
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
        let (expected, shape) = golden.bytes(&format!("{i}.image"));
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

/// A golden file.
struct Golden<'a> {
    tensors: SafeTensors<'a>,
}

impl Golden<'_> {
    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        tensor
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }

    fn bytes(&self, name: &str) -> (&[u8], Vec<usize>) {
        let tensor = self.tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::U8);
        (tensor.data(), tensor.shape().to_vec())
    }
}

/// Norm of the difference over the norm of the reference.
fn relative(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let difference = norm(
        &mut got
            .iter()
            .zip(expected)
            .map(|(got, expected)| got - expected),
    );
    difference / norm(&mut expected.iter().copied())
}
