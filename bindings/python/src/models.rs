//! The miner's own executors, each for a model in a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cuckoo_core::{Error, ModelId, Result, Wei, parse_cai};
use cuckoo_miner::{EmbeddingLimits, Executor, SpeechLimits, TextLimits};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::convert::{read_or_default, to_object};
use crate::error::to_python;

/// What `ImageExecutor`, `TextExecutor`, `EmbeddingExecutor` and `SpeechExecutor` have in common: a model in a folder, offered
/// under the name `model` for at least `min_price` CAI a task, and limits, of which the rest keep their defaults.
#[pyclass(frozen, subclass, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct ModelExecutor {
    inner: Arc<dyn Executor>,
}

impl ModelExecutor {
    /// Sets one up from what Python says; `load` reads the model, without Python's lock.
    fn load<L, E>(
        py: Python<'_>,
        folder: PathBuf,
        model: &str,
        min_price: &str,
        limits: Option<&Bound<'_, PyDict>>,
        load: impl FnOnce(&Path, ModelId, Wei, L) -> Result<E> + Send,
    ) -> PyResult<PyClassInitializer<Self>>
    where
        L: DeserializeOwned + Default + Send,
        E: Executor,
    {
        let model = model.parse().map_err(to_python)?;
        let min_price = parse_cai(min_price).map_err(to_python)?;
        let limits = read_or_default("limits", limits.map(|limits| limits.as_any()))?;
        cuckoo_miner::keep_freed_memory();
        let executor = py
            .detach(|| load(&folder, model, min_price, limits))
            .map_err(to_python)?;
        let inner = Arc::new(executor);
        Ok(PyClassInitializer::from(Self { inner }))
    }

    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.inner)
    }
}

#[pymethods]
impl ModelExecutor {
    /// What it can run, as dictionaries.
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_object(py, &self.inner.capabilities())
    }
}

/// The constructor of an executor's class: `with` the limits of the miner's executor of the same name, or `by` a function that
/// loads one.
macro_rules! constructor {
    ($class:ident with $limits:ty) => {
        constructor!($class by |folder: &Path, model: ModelId, price: Wei, limits: $limits| {
            // Before the weights are read.
            limits.validate()?;
            let executor = cuckoo_miner::$class::load(folder, model)?;
            executor.with_min_price(price).with_limits(limits)
        });
    };
    ($class:ident by $load:expr) => {
        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (folder, model, *, min_price="0".to_owned(), **limits))]
            fn new(
                py: Python<'_>,
                folder: PathBuf,
                model: &str,
                min_price: String,
                limits: Option<&Bound<'_, PyDict>>,
            ) -> PyResult<PyClassInitializer<Self>> {
                let base = ModelExecutor::load(py, folder, model, &min_price, limits, $load)?;
                Ok(base.add_subclass(Self))
            }
        }
    };
}

/// Draws pictures with a Stable Diffusion or FLUX.1 pipeline read from a folder in the layout of diffusers.
///
/// Limits: `max_pixels` and `max_steps` of a picture; a larger one is left to other miners.
#[pyclass(frozen, extends = ModelExecutor, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct ImageExecutor;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ImageLimits {
    max_pixels: Option<usize>,
    max_steps: Option<usize>,
}

impl ImageLimits {
    fn validate(&self) -> Result<()> {
        for (name, limit) in [
            ("max_pixels", self.max_pixels),
            ("max_steps", self.max_steps),
        ] {
            if limit == Some(0) {
                return Err(Error::invalid(format!(
                    "`{name}` is 0; it must be 1 or more"
                )));
            }
        }
        Ok(())
    }
}

/// As the others are loaded; what is not limited keeps the executor's own limit.
fn load_image(
    folder: &Path,
    model: ModelId,
    price: Wei,
    limits: ImageLimits,
) -> Result<cuckoo_miner::ImageExecutor> {
    // Before the weights are read.
    limits.validate()?;
    let executor = cuckoo_miner::ImageExecutor::load(folder, model)?.with_min_price(price);
    let (pixels, steps) = executor.limits();
    Ok(executor.with_limits(
        limits.max_pixels.unwrap_or(pixels),
        limits.max_steps.unwrap_or(steps),
    ))
}

constructor!(ImageExecutor by load_image);

/// Writes texts and chats with a language model read from a folder in the layout of Hugging Face, many at once.
///
/// Limits: `texts` in work at once, `memory_mib` for what the model remembers of them, `chunk`, the tokens of prompts that are
/// read in one step.
#[pyclass(frozen, extends = ModelExecutor, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct TextExecutor;

constructor!(TextExecutor with TextLimits);

/// Turns texts into vectors with a sentence encoder read from a folder in the layout of sentence-transformers.
///
/// Limits: `batch_tokens` of a batch, `max_texts` and `max_input_bytes` of a task; a larger one is left to other miners.
#[pyclass(frozen, extends = ModelExecutor, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct EmbeddingExecutor;

constructor!(EmbeddingExecutor with EmbeddingLimits);

/// Writes down recordings with a Whisper read from a folder in the layout of Hugging Face.
///
/// Limits: `max_seconds` of a recording; a longer one is left to other miners. `recordings` written down at once.
#[pyclass(frozen, extends = ModelExecutor, module = "cuckoo")]
#[derive(Debug)]
pub(crate) struct SpeechExecutor;

constructor!(SpeechExecutor with SpeechLimits);
