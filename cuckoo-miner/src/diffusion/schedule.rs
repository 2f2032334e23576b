//! How much noise there is at each training step, and which of those steps a run visits.
//!
//! Read from `scheduler/scheduler_config.json`. A DDIM or Euler configuration runs as what it is. Any other class
//! (PNDM is what Stable Diffusion 1.5 ships) runs as DDIM on the same noise levels, as diffusers' users do with
//! `DDIMScheduler.from_config(pipe.scheduler.config)`; settings that only the other class has play no part. Two
//! settings are held at the values that diffusers' pipeline forces on them: `steps_offset` at 1, `clip_sample` at
//! false.

use serde_json::json;

use super::ddim::Ddim;
use super::error::{Error, Result};
use super::euler::Euler;
use super::folder::{Folder, SETTINGS_LIMIT};
use super::request::Sampler;
use super::settings::Settings;

const FILE: &str = "scheduler/scheduler_config.json";
/// diffusers' pipeline replaces every other value.
const STEPS_OFFSET: usize = 1;

/// What the denoiser predicts from noisy latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prediction {
    /// The noise.
    Epsilon,
    /// Velocity (Salimans and Ho, 2022): `sqrt(a) noise - sqrt(1 - a) picture`.
    Velocity,
    /// The latents without noise.
    Sample,
}

/// How a run's steps are spread over the training steps (Lin et al., "Common diffusion noise schedules and sample
/// steps are flawed", 2024, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// The noise levels a model was trained with, and how runs use them.
#[derive(Debug)]
pub(crate) struct Schedule {
    sampler: Sampler,
    /// Share of signal left at each training step (the paper's alpha bar), falling.
    pub(super) signal: Vec<f32>,
    pub(super) prediction: Prediction,
    /// As configured; each sampler has its own default.
    pub(super) spacing: Option<Spacing>,
    pub(super) zero_terminal: bool,
    pub(super) set_alpha_to_one: bool,
    pub(super) final_sigma_min: bool,
    pub(super) log_linear: bool,
}

/// One run's way from noise to picture. Latents are flat, in any layout.
pub(crate) trait Run {
    /// The training step of each step, as the denoiser is told.
    fn times(&self) -> &[f32];

    /// Scales fresh normal noise to the first step's level.
    fn begin(&self, latents: &mut [f32]);

    /// The denoiser's input for step `i`.
    fn input(&self, i: usize, latents: &[f32]) -> Vec<f32>;

    /// Moves the latents from step `i` to the next, given the denoiser's prediction.
    fn step(&self, i: usize, prediction: &[f32], latents: &mut [f32]);
}

impl Schedule {
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        Self::read(Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)?)
    }

    pub(super) fn read(mut s: Settings) -> Result<Self> {
        let class = s
            .take("_class_name")
            .and_then(|class| class.as_str().map(str::to_owned))
            .unwrap_or_default();
        let steps = s.count("num_train_timesteps", 1_000, 2..=100_000)?;
        let betas = betas(&mut s, steps)?;
        let zero_terminal = s.flag("rescale_betas_zero_snr", false)?;
        let betas = if zero_terminal {
            zero_terminal_snr(&betas)
        } else {
            betas
        };
        let predictions = [
            ("epsilon", Prediction::Epsilon),
            ("v_prediction", Prediction::Velocity),
            ("sample", Prediction::Sample),
        ];
        let spacings = [
            ("leading", Some(Spacing::Leading)),
            ("trailing", Some(Spacing::Trailing)),
            ("linspace", Some(Spacing::Linspace)),
        ];
        let schedule = Self {
            sampler: if class == "EulerDiscreteScheduler" {
                Sampler::Euler
            } else {
                Sampler::Ddim
            },
            signal: products(betas.iter().map(|beta| 1.0 - beta)),
            prediction: s.choice("prediction_type", Prediction::Epsilon, &predictions)?,
            spacing: s.choice("timestep_spacing", None, &spacings)?,
            zero_terminal,
            set_alpha_to_one: s.flag("set_alpha_to_one", true)?,
            final_sigma_min: s.choice(
                "final_sigmas_type",
                false,
                &[("zero", false), ("sigma_min", true)],
            )?,
            log_linear: s.choice(
                "interpolation_type",
                false,
                &[("linear", false), ("log_linear", true)],
            )?,
        };
        if zero_terminal && schedule.prediction == Prediction::Epsilon {
            let problem = "cannot be epsilon with rescale_betas_zero_snr: at pure noise it says nothing about the picture";
            return Err(s.error("prediction_type", problem));
        }
        for key in [
            "thresholding",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
        ] {
            s.only(key, &[json!(false)])?;
        }
        s.only("timestep_type", &[json!("discrete")])?;
        s.ignore(&["clip_sample", "steps_offset"]);
        // Sizes of what is switched off above.
        s.ignore(&[
            "clip_sample_range",
            "sample_max_value",
            "dynamic_thresholding_ratio",
            "sigma_min",
            "sigma_max",
        ]);
        if ["DDIMScheduler", "EulerDiscreteScheduler"].contains(&class.as_str()) {
            // Written by diffusers for PNDM and kept when such a configuration is turned into one of these.
            s.ignore(&["skip_prk_steps"]);
            s.finish()?;
        }
        Ok(schedule)
    }

    /// A run of `steps` steps by `sampler`, or by the configured one.
    pub(crate) fn run(&self, sampler: Option<Sampler>, steps: usize) -> Result<Box<dyn Run>> {
        Ok(match sampler.unwrap_or(self.sampler) {
            Sampler::Ddim => Box::new(Ddim::new(self, steps)?),
            Sampler::Euler => Box::new(Euler::new(self, steps)?),
        })
    }

    /// The training steps that `steps` steps visit, from noise to picture. Not rounded for `Linspace`.
    pub(super) fn times(&self, steps: usize, spacing: Spacing) -> Result<Vec<f64>> {
        let trained = self.signal.len();
        if !(1..=trained).contains(&steps) {
            return Err(Error::request(
                "steps",
                format!("is {steps}; this model runs 1 to {trained}"),
            ));
        }
        let last = (trained - 1) as f64;
        let times: Vec<f64> = match spacing {
            Spacing::Linspace if steps == 1 => vec![0.0],
            Spacing::Linspace => (0..steps)
                .rev()
                .map(|i| last * i as f64 / (steps - 1) as f64)
                .collect(),
            Spacing::Leading => (0..steps)
                .rev()
                .map(|i| (i * (trained / steps) + STEPS_OFFSET) as f64)
                .collect(),
            Spacing::Trailing => {
                let stride = trained as f64 / steps as f64;
                (0..steps)
                    .map(|i| (trained as f64 - i as f64 * stride).round_ties_even() - 1.0)
                    .collect()
            }
        };
        match times.iter().all(|time| (0.0..=last).contains(time)) {
            true => Ok(times),
            false => Err(Error::request(
                "steps",
                format!("is {steps}, too many for this model's {trained} training steps"),
            )),
        }
    }
}

/// The variance added at each training step.
fn betas(s: &mut Settings, steps: usize) -> Result<Vec<f32>> {
    #[derive(Clone, Copy)]
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
                Ok(betas)
            }
            _ => Err(s.error(
                "trained_betas",
                format!("must be {steps} numbers from 0 to 1"),
            )),
        };
    }
    Ok(match shape {
        Shape::Linear => linspace(start as f32, end as f32, steps),
        Shape::ScaledLinear => linspace(start.sqrt() as f32, end.sqrt() as f32, steps)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        // Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 17.
        Shape::Cosine => {
            let signal = |i: usize| {
                let angle = (i as f64 / steps as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
                angle.cos().powi(2)
            };
            (0..steps)
                .map(|i| (1.0 - signal(i + 1) / signal(i)).min(0.999) as f32)
                .collect()
        }
    })
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
fn products(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut product = 1.0_f64;
    factors
        .map(|factor| {
            product *= f64::from(factor);
            product as f32
        })
        .collect()
}

/// Betas rescaled so that nothing of the picture is left at the last training step (Lin et al., algorithm 1).
fn zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
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

#[cfg(test)]
mod tests;
