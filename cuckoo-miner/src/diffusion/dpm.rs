//! DPM-Solver++ of second order in many steps (Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion
//! probabilistic models", 2022, algorithm 2), over the noise levels of a discrete schedule.

use serde_json::json;

use super::error::{Error, Result};
use super::schedule::{Prediction, Run, Schedule, Spacing, sigmas};
use super::settings::Settings;
use crate::portable::ln;

/// Below so many steps the last one is of first order, unless the configuration says otherwise.
const FEW: usize = 15;

/// What a configuration says about this solver alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Solver {
    order: usize,
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
    /// Training steps whose logarithm of signal per noise is below this are left out at the noisy end.
    least_log: f64,
}

impl Solver {
    pub(super) fn read(s: &mut Settings) -> Result<Self> {
        s.only("algorithm_type", &[json!("dpmsolver++")])?;
        s.only("variance_type", &[])?;
        for key in ["use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"] {
            s.only(key, &[json!(false)])?;
        }
        // How the last two would be used.
        s.ignore(&["flow_shift", "time_shift_type"]);
        Ok(Self {
            order: s.count("solver_order", 2, 1..=2)?,
            heun: s.choice("solver_type", false, &[("midpoint", false), ("heun", true)])?,
            lower_order_final: s.flag("lower_order_final", true)?,
            euler_at_final: s.flag("euler_at_final", false)?,
            least_log: s.number("lambda_min_clipped", f64::NEG_INFINITY, -1e3..=1e3)?,
        })
    }
}

/// A DPM-Solver++ run.
#[derive(Debug)]
pub(super) struct Dpm {
    times: Vec<f32>,
    /// Noise per signal at each step, then where the last step ends.
    sigmas: Vec<f64>,
    solver: Solver,
    ends_without_noise: bool,
    prediction: Prediction,
    /// The picture that the step before foresaw.
    before: Option<Vec<f32>>,
}

impl Dpm {
    pub(super) fn new(schedule: &Schedule, steps: usize, karras: bool) -> Result<Self> {
        let levels = schedule.sigmas();
        let solver = schedule.solver;
        let (times, mut sigmas) = if karras {
            if !(1..=levels.len()).contains(&steps) {
                return Err(too_many(steps, levels.len()));
            }
            let last = levels.len() - 1;
            let sigmas = sigmas::karras(f64::from(levels[last]), f64::from(levels[0]), steps);
            let times = sigmas::times(&levels, &sigmas).into_iter();
            // diffusers rounds these, but for the one shape where it cuts.
            let whole = |time: f64| match schedule.cosine {
                true => time.floor(),
                false => time.round_ties_even(),
            };
            (times.map(whole).collect(), sigmas)
        } else {
            let times = times(schedule, &levels, steps)?;
            let sigmas = times
                .iter()
                .map(|time| sigmas::at(&levels, *time))
                .collect();
            (times, sigmas)
        };
        sigmas.push(if schedule.final_sigma_min {
            f64::from(levels[0])
        } else {
            0.0
        });
        Ok(Self {
            times: times.iter().map(|time| *time as f32).collect(),
            sigmas: sigmas
                .iter()
                .map(|sigma| f64::from(*sigma as f32))
                .collect(),
            solver,
            ends_without_noise: !schedule.final_sigma_min,
            prediction: schedule.prediction,
            before: None,
        })
    }

    /// Whether step `i` goes by its own prediction alone.
    fn first_order(&self, i: usize) -> bool {
        let solver = self.solver;
        let last = i + 1 == self.times.len();
        let few = solver.lower_order_final && self.times.len() < FEW;
        solver.order == 1 || last && (solver.euler_at_final || few || self.ends_without_noise)
    }
}

/// Shares of picture and noise at a level.
fn shares(sigma: f64) -> (f64, f64) {
    let picture = 1.0 / (sigma * sigma + 1.0).sqrt();
    (picture, sigma * picture)
}

fn too_many(steps: usize, trained: usize) -> Error {
    Error::request(
        "steps",
        format!("is {steps}, which this model's {trained} training steps do not allow"),
    )
}

/// The training steps of a run: those of one step more, without the last.
fn times(schedule: &Schedule, levels: &[f32], steps: usize) -> Result<Vec<f64>> {
    let least = schedule.solver.least_log;
    let left_out = levels
        .iter()
        .filter(|sigma| -ln(f64::from(**sigma)) < least)
        .count();
    let trained = levels.len() - left_out;
    if trained < 2 || !(1..trained).contains(&steps) {
        return Err(too_many(steps, trained));
    }
    let last = (trained - 1) as f64;
    let times: Vec<f64> = match schedule.spacing.unwrap_or(Spacing::Linspace) {
        Spacing::Linspace => (1..=steps)
            .rev()
            .map(|i| (last * i as f64 / steps as f64).round_ties_even())
            .collect(),
        Spacing::Leading => (1..=steps)
            .rev()
            .map(|i| (i * (trained / (steps + 1)) + schedule.offset) as f64)
            .collect(),
        Spacing::Trailing => {
            let stride = levels.len() as f64 / steps as f64;
            (0..steps)
                .map(|i| (trained as f64 - i as f64 * stride).round_ties_even() - 1.0)
                .collect()
        }
    };
    // Two steps at one level would divide by the distance between them.
    let falls = times.windows(2).all(|pair| pair[0] > pair[1]);
    let known = |time: &f64| (0.0..levels.len() as f64).contains(time);
    match falls && times.iter().all(known) {
        true => Ok(times),
        false => Err(too_many(steps, trained)),
    }
}

impl Run for Dpm {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn begin(&self, _: &mut [f32]) {}

    fn mix(&self, i: usize, picture: &mut [f32], noise: &[f32]) {
        let (signal, sigma) = shares(self.sigmas[i]);
        for (x, noise) in picture.iter_mut().zip(noise) {
            *x = signal as f32 * *x + sigma as f32 * noise;
        }
    }

    fn input(&self, _: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    fn shares(&self, i: usize) -> (f32, f32) {
        let (signal, noise) = shares(self.sigmas[i]);
        (signal as f32, noise as f32)
    }

    fn step(
        &mut self,
        i: usize,
        prediction: &[f32],
        latents: &mut [f32],
        _: &dyn Fn() -> Vec<f32>,
    ) {
        let (now, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let (signal, noise) = shares(now);
        let (signal, noise) = (signal as f32, noise as f32);
        let picture: Vec<f32> = latents
            .iter()
            .zip(prediction)
            .map(|(x, y)| self.prediction.picture(*x, *y, signal, noise))
            .collect();
        let (next_signal, next_noise) = shares(next);
        // The paper's e^-h - 1, where h is how much the logarithm of signal per noise grows in this step.
        let gain = next / now - 1.0;
        let keep = (next_noise / shares(now).1) as f32;
        let pull = (-next_signal * gain) as f32;
        let slope = match &self.before {
            Some(before) if !self.first_order(i) => {
                let (h, h_before) = (ln(now / next), ln(self.sigmas[i - 1] / now));
                let weight = if !self.solver.heun {
                    -0.5 * gain
                } else if h == 0.0 {
                    0.0
                } else {
                    gain / h + 1.0
                };
                Some(((next_signal * weight * h / h_before) as f32, before))
            }
            _ => None,
        };
        for (j, (x, picture)) in latents.iter_mut().zip(&picture).enumerate() {
            *x = keep * *x + pull * picture;
            if let Some((slope, before)) = slope {
                *x += slope * (picture - before[j]);
            }
        }
        self.before = Some(picture);
    }
}
