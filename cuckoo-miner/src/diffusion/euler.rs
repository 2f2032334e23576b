//! Euler's method on the probability flow (Karras et al., "Elucidating the design space of diffusion-based generative
//! models", 2022, algorithm 2 without churn), over the noise levels of a discrete schedule.

use super::error::Result;
use super::schedule::{Prediction, Run, Schedule, Spacing};

/// What stands for "no signal left", so that its noise level is finite: the smallest `f16`, as in diffusers.
const LEAST_SIGNAL: f32 = 1.0 / 16_777_216.0;

/// An Euler run.
#[derive(Debug)]
pub(super) struct Euler {
    times: Vec<f32>,
    /// Noise per signal at each step, then where the last step ends.
    sigmas: Vec<f32>,
    /// Standard deviation of the latents at the first step.
    start: f32,
    prediction: Prediction,
}

impl Euler {
    pub(super) fn new(schedule: &Schedule, steps: usize) -> Result<Self> {
        let spacing = schedule.spacing.unwrap_or(Spacing::Linspace);
        let times = schedule.times(steps, spacing)?;
        let mut signal = schedule.signal.clone();
        if let (true, Some(last)) = (schedule.zero_terminal, signal.last_mut()) {
            *last = LEAST_SIGNAL;
        }
        let levels: Vec<f32> = signal
            .iter()
            .map(|signal| ((1.0 - signal) / signal).sqrt())
            .collect();
        let mut sigmas: Vec<f32> = if schedule.log_linear {
            let (high, low) = (
                f64::from(levels[levels.len() - 1]).ln(),
                f64::from(levels[0]).ln(),
            );
            (0..=steps)
                .map(|i| (high + (low - high) * i as f64 / steps as f64).exp() as f32)
                .collect()
        } else {
            times
                .iter()
                .map(|time| interpolate(&levels, *time as f32) as f32)
                .collect()
        };
        // diffusers puts the last level behind the log-linear ones, of which there is one too many, all the same.
        sigmas.push(if schedule.final_sigma_min {
            levels[0]
        } else {
            0.0
        });
        let largest = sigmas.iter().copied().fold(0.0, f32::max);
        Ok(Self {
            times: times.iter().map(|time| *time as f32).collect(),
            start: if spacing == Spacing::Leading {
                (largest * largest + 1.0).sqrt()
            } else {
                largest
            },
            sigmas,
            prediction: schedule.prediction,
        })
    }
}

/// The level at a training step that may lie between two.
fn interpolate(levels: &[f32], time: f32) -> f64 {
    let below = time.floor() as usize;
    let low = f64::from(levels[below]);
    match levels.get(below + 1) {
        Some(high) => low + (f64::from(*high) - low) * f64::from(time.fract()),
        None => low,
    }
}

impl Run for Euler {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn begin(&self, latents: &mut [f32]) {
        latents.iter_mut().for_each(|x| *x *= self.start);
    }

    fn input(&self, i: usize, latents: &[f32]) -> Vec<f32> {
        let sigma = self.sigmas[i];
        let scale = (sigma * sigma + 1.0).sqrt();
        latents.iter().map(|x| x / scale).collect()
    }

    fn step(&self, i: usize, prediction: &[f32], latents: &mut [f32]) {
        let (sigma, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let variance = sigma * sigma + 1.0;
        let velocity = -sigma / variance.sqrt();
        for (x, y) in latents.iter_mut().zip(prediction) {
            let picture = match self.prediction {
                Prediction::Epsilon => *x - sigma * y,
                Prediction::Velocity => y * velocity + *x / variance,
                Prediction::Sample => *y,
            };
            *x += (*x - picture) / sigma * (next - sigma);
        }
    }
}
