mod configurations;
mod flux;
mod folders;
mod loras;
mod previews;
mod runs;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use cuckoo_core::ErrorKind;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// One of the pipelines of random weights: `random` of Stable Diffusion, `xl`, `flux/schnell`, `flux/dev`.
fn pipeline(name: &str) -> ImageModel {
    ImageModel::load(&golden(name)).unwrap()
}

/// A copy of one, to be damaged.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = golden(name);
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

/// Of a size that all pipelines have.
fn small() -> ImageRequest {
    ImageRequest {
        width: Some(32),
        height: Some(24),
        ..request()
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

fn go(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A picture whose progress is told of as none of so many steps before the prompts are read, then from none to all of them.
fn drawn_in(steps: usize, pipeline: &ImageModel, request: &ImageRequest) -> Image {
    let mut told = Vec::new();
    let image = pipeline.generate(request, &mut |progress| {
        told.push((progress.step, progress.steps));
        ControlFlow::Continue(())
    });
    let image = image.unwrap();
    let counted = std::iter::once(0).chain(0..=steps);
    let expected: Vec<_> = counted.map(|step| (step, steps)).collect();
    assert_eq!(told, expected);
    image
}
