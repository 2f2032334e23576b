//! The noise added at each training step, and what is left of the picture after it.

use super::{Result, Settings};
use crate::portable;

/// The variance added at each training step, and whether it grows as a cosine falls.
pub(super) fn betas(s: &mut Settings, steps: usize) -> Result<(Vec<f32>, bool)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Shape {
        Linear,
        ScaledLinear,
        Cosine,
    }
    let shapes = [
        ("linear", Shape::Linear),
        ("scaled_linear", Shape::ScaledLinear),
        ("squaredcos_cap_v2", Shape::Cosine),
    ];
    let shape = s.choice("beta_schedule", Shape::Linear, &shapes)?;
    let (start, end) = (
        s.number("beta_start", 0.0001, 1e-9..=0.999)?,
        s.number("beta_end", 0.02, 1e-9..=0.999)?,
    );
    if let Some(trained) = s.take("trained_betas") {
        let betas: Option<Vec<f32>> = trained.as_array().and_then(|betas| {
            betas
                .iter()
                .map(|beta| beta.as_f64().map(|beta| beta as f32))
                .collect()
        });
        return match betas {
            Some(betas)
                if betas.len() == steps && betas.iter().all(|beta| (0.0..1.0).contains(beta)) =>
            {
                Ok((betas, shape == Shape::Cosine))
            }
            _ => Err(s.error(
                "trained_betas",
                format!("must be {steps} numbers from 0 to 1"),
            )),
        };
    }
    let betas = match shape {
        Shape::Linear => linspace(start as f32, end as f32, steps),
        Shape::ScaledLinear => linspace(start.sqrt() as f32, end.sqrt() as f32, steps)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        // Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 17.
        Shape::Cosine => {
            let signal = |i: usize| {
                let (_, cos) =
                    portable::sin_cos_turns((i as f64 / steps as f64 + 0.008) / 1.008 / 4.0);
                cos * cos
            };
            (0..steps)
                .map(|i| (1.0 - signal(i + 1) / signal(i)).min(0.999) as f32)
                .collect()
        }
    };
    Ok((betas, shape == Shape::Cosine))
}

/// `n` evenly spaced numbers, each computed from the nearer end as torch does.
fn linspace(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = (end - start) / (n - 1) as f32;
    let at = |i: usize| {
        if i < n / 2 {
            start + step * i as f32
        } else {
            end - step * (n - 1 - i) as f32
        }
    };
    (0..n).map(at).collect()
}

/// Products of the first 1, 2, 3, ... factors, accumulated in `f64` as torch does on a CPU.
pub(super) fn products(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut product = 1.0_f64;
    factors
        .map(|factor| {
            product *= f64::from(factor);
            product as f32
        })
        .collect()
}

/// Betas rescaled so that nothing of the picture is left at the last training step (Lin et al., algorithm 1).
pub(super) fn zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = products(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    let signal: Vec<f32> = roots
        .iter()
        .map(|root| (root - last) * scale)
        .map(|root| root * root)
        .collect();
    let before = std::iter::once(1.0).chain(signal.iter().copied());
    signal
        .iter()
        .zip(before)
        .map(|(now, before)| 1.0 - now / before)
        .collect()
}
