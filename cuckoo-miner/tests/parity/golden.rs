//! Golden files, and how far from them a result is.

use std::path::{Path, PathBuf};

use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

/// The folder of golden files and models.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// What a reference computed, and of what.
pub(crate) struct Golden(Vec<u8>);

impl Golden {
    /// Reads `name.safetensors`.
    pub(crate) fn load(name: &str) -> Self {
        Self(std::fs::read(root().join(format!("{name}.safetensors"))).unwrap())
    }

    pub(crate) fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    #[allow(clippy::panic, reason = "a test stops at the first surprise")]
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        let bytes = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => {
                let (numbers, _) = bytes.as_chunks();
                numbers.iter().copied().map(f32::from_le_bytes).collect()
            }
            Dtype::F16 => {
                let (numbers, _) = bytes.as_chunks();
                let wide = |bytes| f16::from_le_bytes(bytes).to_f32();
                numbers.iter().copied().map(wide).collect()
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    /// What was asked of the reference, and its answers that are no numbers.
    pub(crate) fn metadata<T: DeserializeOwned>(&self) -> T {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        let metadata = header.metadata().clone().unwrap();
        serde_json::from_str(&metadata["golden"]).unwrap()
    }
}

/// Checks that a golden file was made of the model that was loaded.
pub(crate) fn check_model(hash: [u8; 32], expected: &str) {
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, expected,
        "the golden file belongs to other weights: run `make parity`"
    );
}

/// Norm of the difference over the norm of the reference.
pub(crate) fn relative(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let pairs = got.iter().zip(expected);
    let difference = norm(&mut pairs.map(|(got, expected)| got - expected));
    difference / norm(&mut expected.iter().copied())
}
