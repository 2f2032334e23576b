//! How long a picture takes: the shapes model as the demo runs it, and one denoiser call of it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::ops::ControlFlow;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use cuckoo_miner::{ImageModel, ImageRequest, Sampler};

fn picture(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/shapes");
    let pipeline = ImageModel::load(&folder).unwrap();
    let request = ImageRequest {
        prompt: "a large red circle on a blue background".to_owned(),
        negative_prompt: None,
        image: None,
        strength: None,
        width: None,
        height: None,
        steps: 10,
        guidance: 2.0,
        seed: 7,
        sampler: Some(Sampler::Ddim),
    };
    let noise = pipeline.noise(&request).unwrap();
    let mut group = c.benchmark_group("shapes");
    group.sample_size(10);
    group.bench_function("picture, 10 guided steps", |b| {
        b.iter(|| {
            pipeline
                .generate(&request, &mut |_| ControlFlow::Continue(()))
                .unwrap()
        });
    });
    group.bench_function("denoiser, one prompt", |b| {
        b.iter(|| pipeline.predict(&request, &noise, 500.0).unwrap());
    });
    group.bench_function("decoder", |b| {
        b.iter(|| pipeline.decode(&request, &noise).unwrap());
    });
    group.finish();
}

criterion_group!(benches, picture);
criterion_main!(benches);
