//! Euler's method on the probability flow (Karras et al., "Elucidating the design space of diffusion-based generative
//! models", 2022, algorithm 2 without churn), over the noise levels of a discrete schedule; and its ancestral form, which
//! goes below each level and returns to it with fresh noise (Song et al., "Score-based generative modeling through
//! stochastic differential equations", 2021, appendix F, as k-diffusion steps it).

use super::error::Result;
use super::schedule::{Prediction, Run, Schedule, Spacing, sigmas};
use crate::portable::{exp, ln};

/// An Euler run.
#[derive(Debug)]
pub(super) struct Euler {
    times: Vec<f32>,
    /// Noise per signal at each step, then where the last step ends.
    sigmas: Vec<f32>,
    /// Standard deviation of the latents at the first step.
    start: f32,
    prediction: Prediction,
    ancestral: bool,
}

impl Euler {
    pub(super) fn new(schedule: &Schedule, steps: usize) -> Result<Self> {
        let (spacing, times) = Self::times(schedule, steps)?;
        let levels = schedule.sigmas();
        let mut sigmas: Vec<f64> = if schedule.log_linear {
            let (high, low) = (
                ln(f64::from(levels[levels.len() - 1])),
                ln(f64::from(levels[0])),
            );
            (0..=steps)
                .map(|i| exp(high + (low - high) * i as f64 / steps as f64))
                .collect()
        } else {
            times
                .iter()
                .map(|time| sigmas::at(&levels, *time))
                .collect()
        };
        let mut times = times;
        if schedule.karras {
            sigmas = sigmas::karras(sigmas[0], sigmas[sigmas.len() - 1], steps);
            times = sigmas::times(&levels, &sigmas);
        }
        // diffusers puts the last level behind the log-linear ones, of which there is one too many, all the same.
        sigmas.push(if schedule.final_sigma_min {
            f64::from(levels[0])
        } else {
            0.0
        });
        Ok(Self::over(schedule, spacing, &times, &sigmas, false))
    }

    pub(super) fn ancestral(schedule: &Schedule, steps: usize) -> Result<Self> {
        let (spacing, times) = Self::times(schedule, steps)?;
        let levels = schedule.sigmas();
        let sigmas: Vec<f64> = times
            .iter()
            .map(|time| sigmas::at(&levels, *time))
            .chain([0.0])
            .collect();
        Ok(Self::over(schedule, spacing, &times, &sigmas, true))
    }

    fn times(schedule: &Schedule, steps: usize) -> Result<(Spacing, Vec<f64>)> {
        let spacing = schedule.spacing.unwrap_or(Spacing::Linspace);
        let times = schedule.times(steps, spacing)?;
        // Between two training steps to the precision that the denoiser is told.
        let told = times.iter().map(|time| f64::from(*time as f32)).collect();
        Ok((spacing, told))
    }

    fn over(
        schedule: &Schedule,
        spacing: Spacing,
        times: &[f64],
        sigmas: &[f64],
        ancestral: bool,
    ) -> Self {
        let sigmas: Vec<f32> = sigmas.iter().map(|sigma| *sigma as f32).collect();
        let largest = sigmas.iter().copied().fold(0.0, f32::max);
        Self {
            times: times.iter().map(|time| *time as f32).collect(),
            start: if spacing == Spacing::Leading {
                (largest * largest + 1.0).sqrt()
            } else {
                largest
            },
            sigmas,
            prediction: schedule.prediction,
            ancestral,
        }
    }
}

impl Run for Euler {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn begin(&self, latents: &mut [f32]) {
        latents.iter_mut().for_each(|x| *x *= self.start);
    }

    fn mix(&self, i: usize, picture: &mut [f32], noise: &[f32]) {
        for (x, noise) in picture.iter_mut().zip(noise) {
            *x += self.sigmas[i] * noise;
        }
    }

    fn input(&self, i: usize, latents: &[f32]) -> Vec<f32> {
        let sigma = self.sigmas[i];
        let scale = (sigma * sigma + 1.0).sqrt();
        latents.iter().map(|x| x / scale).collect()
    }

    fn shares(&self, i: usize) -> (f32, f32) {
        let sigma = self.sigmas[i];
        let scale = (sigma * sigma + 1.0).sqrt();
        (1.0 / scale, sigma / scale)
    }

    fn step(
        &mut self,
        i: usize,
        prediction: &[f32],
        latents: &mut [f32],
        noise: &dyn Fn() -> Vec<f32>,
    ) {
        let (sigma, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let (down, up) = if self.ancestral {
            let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
            ((next * next - up * up).sqrt(), up)
        } else {
            (next, 0.0)
        };
        let variance = sigma * sigma + 1.0;
        let velocity = -sigma / variance.sqrt();
        for (x, y) in latents.iter_mut().zip(prediction) {
            let picture = match self.prediction {
                Prediction::Epsilon => *x - sigma * y,
                Prediction::Velocity => y * velocity + *x / variance,
                Prediction::Sample => *y,
            };
            *x += (*x - picture) / sigma * (down - sigma);
        }
        if up > 0.0 {
            for (x, noise) in latents.iter_mut().zip(noise()) {
                *x += noise * up;
            }
        }
    }
}
