//! Denoising diffusion implicit models (Song, Meng and Ermon, 2021) without added noise.

use super::error::Result;
use super::schedule::{Prediction, Run, Schedule, Spacing};

/// A DDIM run.
#[derive(Debug)]
pub(super) struct Ddim {
    times: Vec<f32>,
    /// Share of signal before and after each step.
    signal: Vec<(f32, f32)>,
    prediction: Prediction,
}

impl Ddim {
    pub(super) fn new(schedule: &Schedule, steps: usize) -> Result<Self> {
        let times = schedule.times(steps, schedule.spacing.unwrap_or(Spacing::Leading))?;
        // The next step is a fixed stride away, whatever the spacing, as in diffusers.
        let stride = schedule.signal.len() / steps;
        let end = if schedule.set_alpha_to_one {
            1.0
        } else {
            schedule.signal[0]
        };
        let rounded = times.iter().map(|time| time.round_ties_even() as usize);
        let signal = rounded.clone().map(|time| {
            let after = time
                .checked_sub(stride)
                .map_or(end, |after| schedule.signal[after]);
            (schedule.signal[time], after)
        });
        Ok(Self {
            signal: signal.collect(),
            times: rounded.map(|time| time as f32).collect(),
            prediction: schedule.prediction,
        })
    }
}

impl Run for Ddim {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn begin(&self, _: &mut [f32]) {}

    fn input(&self, _: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    fn shares(&self, i: usize) -> (f32, f32) {
        let (signal, _) = self.signal[i];
        (signal.sqrt(), (1.0 - signal).sqrt())
    }

    fn mix(&self, i: usize, picture: &mut [f32], noise: &[f32]) {
        let (signal, _) = self.signal[i];
        let (signal, sigma) = (signal.sqrt(), (1.0 - signal).sqrt());
        for (x, noise) in picture.iter_mut().zip(noise) {
            *x = signal * *x + sigma * noise;
        }
    }

    fn step(
        &mut self,
        i: usize,
        prediction: &[f32],
        latents: &mut [f32],
        _: &dyn Fn() -> Vec<f32>,
    ) {
        let (before, after) = self.signal[i];
        let (signal, noise) = (before.sqrt(), (1.0 - before).sqrt());
        let (next_signal, next_noise) = (after.sqrt(), (1.0 - after).sqrt());
        for (x, y) in latents.iter_mut().zip(prediction) {
            // Equations 9 and 12 of the paper: the picture and the noise that the prediction implies.
            let (picture, epsilon) = match self.prediction {
                Prediction::Epsilon => ((*x - noise * y) / signal, *y),
                Prediction::Velocity => (signal * *x - noise * y, signal * y + noise * *x),
                Prediction::Sample => (*y, (*x - signal * y) / noise),
            };
            *x = next_signal * picture + next_noise * epsilon;
        }
    }
}
