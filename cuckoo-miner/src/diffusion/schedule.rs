//! How much noise there is at each training step, and which of those steps a run visits.
//!
//! Read from `scheduler/scheduler_config.json`. Its `_class_name` is how a run steps unless the request says otherwise;
//! then the settings hold for the other sampler as with diffusers' `from_config`, and those that only another class has
//! play no part. One class is replaced: PNDM, which Stable Diffusion 1.5 ships with, runs as DDIM on the same noise
//! levels. Two settings are held, for Stable Diffusion 1 and 2, at the values that diffusers' pipeline forces on them:
//! `steps_offset` at 1, `clip_sample` at false.

mod betas;
pub(super) mod sigmas;

use serde_json::json;

use super::ddim::Ddim;
use super::dpm::{Dpm, Solver};
use super::error::{Error, Result};
use super::euler::Euler;
use super::folder::{Folder, SETTINGS_LIMIT};
use super::request::Sampler;
use super::settings::Settings;
use betas::{betas, products, zero_terminal_snr};

const FILE: &str = "scheduler/scheduler_config.json";
/// The classes that run here, and as what.
const CLASSES: &[(&str, Sampler)] = &[
    ("DDIMScheduler", Sampler::Ddim),
    ("PNDMScheduler", Sampler::Ddim),
    ("EulerDiscreteScheduler", Sampler::Euler),
    ("EulerAncestralDiscreteScheduler", Sampler::EulerAncestral),
    ("DPMSolverMultistepScheduler", Sampler::DpmPlusPlus2M),
];

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

impl Prediction {
    /// What the latents `x` are without noise when `y` is predicted of them, which have these shares of signal and noise.
    pub(super) fn picture(self, x: f32, y: f32, signal: f32, noise: f32) -> f32 {
        match self {
            Self::Epsilon => (x - noise * y) / signal,
            Self::Velocity => signal * x - noise * y,
            Self::Sample => y,
        }
    }
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
    /// Added to every step of `Spacing::Leading`.
    pub(super) offset: usize,
    /// Whether the noise grows as a cosine falls.
    pub(super) cosine: bool,
    pub(super) karras: bool,
    pub(super) solver: Solver,
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

    /// Adds to a picture's latents as much of `noise` as there is at step `i`.
    fn mix(&self, i: usize, picture: &mut [f32], noise: &[f32]);

    /// The denoiser's input for step `i`.
    fn input(&self, i: usize, latents: &[f32]) -> Vec<f32>;

    /// How much of the picture and of noise that input has.
    fn shares(&self, i: usize) -> (f32, f32);

    /// Moves the latents from step `i` to the next, given the denoiser's prediction. Steps come in order, from any first
    /// one. `noise` gives this step's fresh noise, for those that add some.
    fn step(
        &mut self,
        i: usize,
        prediction: &[f32],
        latents: &mut [f32],
        noise: &dyn Fn() -> Vec<f32>,
    );
}

impl Schedule {
    /// Of these settings; `forced` for the pipelines that force some.
    pub(super) fn read(mut s: Settings, forced: bool) -> Result<Self> {
        let class = s
            .take("_class_name")
            .and_then(|class| class.as_str().map(str::to_owned))
            .unwrap_or_default();
        let Some((_, sampler)) = CLASSES.iter().find(|(name, _)| *name == class) else {
            let names: Vec<_> = CLASSES.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            return Err(s.error(
                "_class_name",
                format!("is {class:?}; this miner runs {names}"),
            ));
        };
        let steps = s.count("num_train_timesteps", 1_000, 2..=100_000)?;
        let (betas, cosine) = betas(&mut s, steps)?;
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
            sampler: *sampler,
            signal: products(betas.iter().map(|beta| 1.0 - beta)),
            prediction: s.choice("prediction_type", Prediction::Epsilon, &predictions)?,
            spacing: s.choice("timestep_spacing", None, &spacings)?,
            offset: match s.count("steps_offset", 0, 0..=steps)? {
                _ if forced => 1,
                offset => offset,
            },
            cosine,
            karras: s.flag("use_karras_sigmas", false)?,
            solver: Solver::read(&mut s)?,
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
        for key in ["thresholding", "use_exponential_sigmas", "use_beta_sigmas"] {
            s.only(key, &[json!(false)])?;
        }
        s.only("timestep_type", &[json!("discrete")])?;
        // DDIM clips unless told not to, which would cut latents.
        if s.flag("clip_sample", class == "DDIMScheduler")? && !forced {
            return Err(s.error("clip_sample", "must be false, since latents are not cut"));
        }
        if schedule.karras {
            for key in ["sigma_min", "sigma_max"] {
                s.only(key, &[])?;
            }
        }
        // Sizes of what is switched off above.
        s.ignore(&[
            "clip_sample_range",
            "sample_max_value",
            "dynamic_thresholding_ratio",
            "sigma_min",
            "sigma_max",
        ]);
        if class != "PNDMScheduler" {
            // Written by diffusers for PNDM and kept when such a configuration is turned into one of these.
            s.ignore(&["skip_prk_steps"]);
            s.finish()?;
        }
        Ok(schedule)
    }

    /// Whether the folder is set up as those of models that were distilled to few steps.
    pub(crate) fn is_distilled(&self) -> bool {
        matches!(self.sampler, Sampler::Euler | Sampler::EulerAncestral)
            && self.spacing == Some(Spacing::Trailing)
            && !self.zero_terminal
    }

    /// A run of `steps` steps by `sampler`, or by the configured one.
    pub(crate) fn run(&self, sampler: Option<Sampler>, steps: usize) -> Result<Box<dyn Run>> {
        Ok(match sampler.unwrap_or(self.sampler) {
            Sampler::Ddim => Box::new(Ddim::new(self, steps)?),
            Sampler::Euler => Box::new(Euler::new(self, steps)?),
            Sampler::EulerAncestral => Box::new(Euler::ancestral(self, steps)?),
            Sampler::DpmPlusPlus2M => Box::new(Dpm::new(self, steps, self.karras)?),
            Sampler::DpmPlusPlus2MKarras => Box::new(Dpm::new(self, steps, true)?),
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
                .map(|i| (i * (trained / steps) + self.offset) as f64)
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

/// Reads `scheduler/`.
pub(super) fn settings(folder: &mut Folder) -> Result<Settings> {
    let bytes = folder.bytes(FILE, SETTINGS_LIMIT)?;
    Settings::parse(FILE, &without_infinity(bytes))
}

/// JSON as diffusers writes it has `-Infinity` where a limit is absent, which is no JSON; `null` says the same.
fn without_infinity(bytes: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) => text.replace(": -Infinity", ": null").into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

#[cfg(test)]
mod tests;
