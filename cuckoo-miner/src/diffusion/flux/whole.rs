//! What is known of the picture as a whole: how far it is, how strongly the prompt pulls, and the prompt's sum.

use candle_core::Tensor;

use super::config::FluxConfig;
use crate::diffusion::error::Result;
use crate::diffusion::waves::waves;
use crate::diffusion::weights::Part;
use crate::kernels::{Activation, Kernels};
use crate::model::layers::Projection;

/// Waves that time and guidance are seen as; fixed in diffusers.
const WAVES: usize = 256;
/// What a share of noise and a guidance are multiplied by before they are seen as waves.
const FACTOR: f32 = 1_000.0;

#[derive(Debug)]
pub(super) struct Whole {
    time: Perceptron,
    guidance: Option<Perceptron>,
    prompt: Perceptron,
}

impl Whole {
    pub(super) fn load(
        part: &Part<'_>,
        config: &FluxConfig,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let load =
            |name: &str, inputs| Perceptron::load(&part.at(name), inputs, config.width(), kernels);
        let guidance = || load("guidance_embedder", WAVES);
        Ok(Self {
            time: load("timestep_embedder", WAVES)?,
            guidance: config.guided.then(guidance).transpose()?,
            prompt: load("text_embedder", config.pooled)?,
        })
    }

    /// All of it, activated as every block would begin with, `[1, width]`.
    pub(super) fn forward(
        &self,
        kernels: &dyn Kernels,
        time: f32,
        guidance: f32,
        pooled: &Tensor,
    ) -> Result<Tensor> {
        let seen = |number: f32| {
            let waves = waves(number, WAVES, true, 0.0);
            Tensor::from_vec(waves, (1, WAVES), kernels.device())
        };
        // Rounded as in diffusers, which has the share of noise in between.
        let time = time / FACTOR * FACTOR;
        let mut sum = self.time.forward(kernels, &seen(time)?)?;
        if let Some(perceptron) = &self.guidance {
            let guidance = seen(guidance * FACTOR)?;
            sum = (sum + perceptron.forward(kernels, &guidance)?)?;
        }
        let sum = (sum + self.prompt.forward(kernels, pooled)?)?;
        Ok(kernels.activate(&sum, Activation::Silu)?)
    }
}

/// Two layers.
#[derive(Debug)]
struct Perceptron {
    up: Projection,
    down: Projection,
}

impl Perceptron {
    fn load(part: &Part<'_>, inputs: usize, width: usize, kernels: &dyn Kernels) -> Result<Self> {
        let layer =
            |name: &str, inputs| Projection::load(kernels, part, &[(name, width)], inputs, true);
        Ok(Self {
            up: layer("linear_1", inputs)?.activated(Activation::Silu),
            down: layer("linear_2", width)?,
        })
    }

    fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let x = self.up.forward(kernels, x)?;
        self.down.forward(kernels, &x)
    }
}
