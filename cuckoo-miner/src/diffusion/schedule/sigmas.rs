//! Noise levels as noise per signal, which Euler's method and DPM-Solver step over.

use super::Schedule;
use crate::portable::{exp, ln};

/// What stands for "no signal left", so that its noise level is finite: the smallest `f16`, as in diffusers.
const LEAST_SIGNAL: f32 = 1.0 / 16_777_216.0;
/// How far the levels of Karras et al. lean towards the small ones (their equation 5).
const RHO: u32 = 7;

impl Schedule {
    /// The level at each training step, rising.
    pub(in crate::diffusion) fn sigmas(&self) -> Vec<f32> {
        let last = self.signal.len() - 1;
        let level = |(i, signal): (usize, &f32)| {
            let signal = if self.zero_terminal && i == last {
                LEAST_SIGNAL
            } else {
                *signal
            };
            ((1.0 - signal) / signal).sqrt()
        };
        self.signal.iter().enumerate().map(level).collect()
    }
}

/// The level at a training step that may lie between two.
pub(in crate::diffusion) fn at(sigmas: &[f32], time: f64) -> f64 {
    let below = time.floor() as usize;
    let low = f64::from(sigmas[below]);
    match sigmas.get(below + 1) {
        Some(high) => low + (f64::from(*high) - low) * time.fract(),
        None => low,
    }
}

/// The training steps that have the given levels, between two where a level is none's own; by logarithms, as diffusers does.
pub(in crate::diffusion) fn times(sigmas: &[f32], levels: &[f64]) -> Vec<f64> {
    let log = |sigma: f64| ln(sigma.max(1e-10));
    let logs: Vec<f64> = sigmas
        .iter()
        .map(|sigma| f64::from(log(f64::from(*sigma)) as f32))
        .collect();
    let time = |level: &f64| {
        let target = log(*level);
        let above = logs.partition_point(|log| *log <= target);
        let low = above.saturating_sub(1).min(logs.len() - 2);
        let share = (logs[low] - target) / (logs[low] - logs[low + 1]);
        low as f64 + share.clamp(0.0, 1.0)
    };
    levels.iter().map(time).collect()
}

/// `steps` levels from `largest` to `smallest`, close together where there is little noise (Karras et al., "Elucidating
/// the design space of diffusion-based generative models", 2022, equation 5).
pub(in crate::diffusion) fn karras(largest: f64, smallest: f64, steps: usize) -> Vec<f64> {
    let root = |sigma: f64| exp(ln(sigma) / f64::from(RHO));
    let (from, to) = (root(largest), root(smallest));
    (0..steps)
        .map(|i| {
            let share = if steps == 1 {
                0.0
            } else {
                i as f64 / (steps - 1) as f64
            };
            let x = from + share * (to - from);
            (0..RHO).fold(1.0, |power, _| power * x)
        })
        .collect()
}
