//! Flow matching (Lipman et al., "Flow matching for generative modeling", 2023; Liu et al., "Flow straight and fast", 2023):
//! latents lie on a straight line between picture and noise, the denoiser predicts its direction, and Euler's method follows
//! it. Noise levels are shifted towards the noisy end, more so for large pictures (Esser et al., "Scaling rectified flow
//! transformers for high-resolution image synthesis", 2024, section 5.3.2).

use serde_json::json;

use super::error::{Error, Result};
use super::request::Sampler;
use super::schedule::Run;
use super::settings::Settings;
use crate::portable::exp;

/// What the denoiser is told of a level is it times this.
const TIMES: f32 = 1_000.0;

/// How far levels are shifted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shift {
    /// As far for all pictures.
    Fixed(f32),
    /// By the number of patches: two of them with their shifts, between and beyond which a line is drawn.
    BySize {
        patches: (usize, usize),
        shifts: (f64, f64),
    },
}

/// The noise levels that runs go over.
#[derive(Debug)]
pub(crate) struct Flow {
    shift: Shift,
}

impl Flow {
    /// Reads `scheduler_config.json`.
    pub(super) fn read(mut s: Settings) -> Result<Self> {
        let class = s
            .optional_text("_class_name")?
            .unwrap_or_else(|| "nothing".to_owned());
        if class != "FlowMatchEulerDiscreteScheduler" {
            let problem = format!("is {class}; this pipeline runs FlowMatchEulerDiscreteScheduler");
            return Err(s.error("_class_name", problem));
        }
        // The pipeline's own, whatever the scheduler says.
        s.only("num_train_timesteps", &[json!(1_000)])?;
        let fixed = s.number("shift", 1.0, 1e-3..=1e3)?;
        let few = s.count("base_image_seq_len", 256, 1..=1 << 30)?;
        let many = s.count("max_image_seq_len", 4_096, 1..=1 << 30)?;
        let shifts = (
            s.number("base_shift", 0.5, -20.0..=20.0)?,
            s.number("max_shift", 1.15, -20.0..=20.0)?,
        );
        let shift = match s.flag("use_dynamic_shifting", false)? {
            true if many <= few => {
                let problem = format!("is {many}, which is not above base_image_seq_len");
                return Err(s.error("max_image_seq_len", problem));
            }
            true => Shift::BySize {
                patches: (few, many),
                shifts,
            },
            false => Shift::Fixed(fixed as f32),
        };
        s.only("time_shift_type", &[json!("exponential")])?;
        s.only("shift_terminal", &[])?;
        for key in [
            "invert_sigmas",
            "stochastic_sampling",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_flow_sigmas",
        ] {
            s.only(key, &[json!(false)])?;
        }
        s.finish()?;
        Ok(Self { shift })
    }

    /// A run of `steps` steps to a picture of so many `patches`.
    pub(super) fn run(
        &self,
        sampler: Option<Sampler>,
        steps: usize,
        patches: usize,
    ) -> Result<FlowRun> {
        if sampler.is_some_and(|sampler| sampler != Sampler::Euler) {
            let problem =
                "is for other models; this one was trained to match flows, which euler follows";
            return Err(Error::request("sampler", problem));
        }
        if steps == 0 {
            return Err(Error::request("steps", "is 0; at least 1 is run"));
        }
        let levels = (0..steps).map(|i| self.shifted(evenly(i, steps) as f32, patches));
        let sigmas: Vec<f32> = levels.chain([0.0]).collect();
        let times = sigmas[..steps].iter().map(|sigma| sigma * TIMES).collect();
        Ok(FlowRun { sigmas, times })
    }

    /// A level after the shift; in `f32`, as diffusers computes it.
    fn shifted(&self, sigma: f32, patches: usize) -> f32 {
        match self.shift {
            Shift::Fixed(shift) => shift * sigma / (1.0 + (shift - 1.0) * sigma),
            Shift::BySize {
                patches: (few, many),
                shifts: (low, high),
            } => {
                let slope = (high - low) / (many - few) as f64;
                let shift = patches as f64 * slope + (low - slope * few as f64);
                let shift = exp(shift) as f32;
                shift / (shift + (1.0 / sigma - 1.0))
            }
        }
    }
}

/// The i-th of `steps` levels from 1 down to one step above 0.
fn evenly(i: usize, steps: usize) -> f64 {
    let last = 1.0 / steps as f64;
    match i {
        0 => 1.0,
        i if i + 1 == steps => last,
        i => 1.0 + i as f64 * ((last - 1.0) / (steps - 1) as f64),
    }
}

/// A run over such levels.
#[derive(Debug)]
pub(super) struct FlowRun {
    /// Share of noise at each step, then where the last step ends.
    sigmas: Vec<f32>,
    times: Vec<f32>,
}

impl Run for FlowRun {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn begin(&self, _: &mut [f32]) {}

    fn mix(&self, i: usize, picture: &mut [f32], noise: &[f32]) {
        let sigma = self.sigmas[i];
        for (x, noise) in picture.iter_mut().zip(noise) {
            *x = sigma * noise + (1.0 - sigma) * *x;
        }
    }

    fn input(&self, _: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    fn shares(&self, i: usize) -> (f32, f32) {
        let sigma = self.sigmas[i];
        (1.0 - sigma, sigma)
    }

    fn step(
        &mut self,
        i: usize,
        prediction: &[f32],
        latents: &mut [f32],
        _: &dyn Fn() -> Vec<f32>,
    ) {
        let down = self.sigmas[i + 1] - self.sigmas[i];
        for (x, direction) in latents.iter_mut().zip(prediction) {
            *x += down * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn flow(config: &Value) -> Result<Flow> {
        let mut config = config.clone();
        if config["_class_name"].is_null() {
            config["_class_name"] = json!("FlowMatchEulerDiscreteScheduler");
        }
        let text = config.to_string();
        Flow::read(Settings::parse("scheduler_config.json", text.as_bytes())?)
    }

    /// `tests/golden/flux/schedules.json` is what diffusers' scheduler made of the pipeline's levels.
    #[test]
    fn levels_match_diffusers() {
        let golden = include_str!("../../tests/golden/flux/schedules.json");
        let cases: Vec<Value> = serde_json::from_str(golden).unwrap();
        assert_eq!(cases.len(), 20);
        let whole = |value: &Value| value.as_u64().unwrap() as usize;
        for case in &cases {
            let flow = flow(&case["config"]).unwrap();
            let run = flow.run(None, whole(&case["steps"]), whole(&case["patches"]));
            let run = run.unwrap();
            for (got, key, largest) in [(&run.sigmas, "sigmas", 1.0), (&run.times, "times", 1e3)] {
                let expected = case[key].as_array().unwrap();
                assert_eq!(got.len(), expected.len());
                for (got, expected) in got.iter().zip(expected) {
                    let off = f64::from(*got) - expected.as_f64().unwrap();
                    assert!(off.abs() < 1e-6 * largest, "{got} for {expected} in {case}");
                }
            }
        }
    }

    #[test]
    fn a_straight_line_is_followed_to_its_end() {
        let (picture, noise) = ([0.5_f32, -2.0, 3.0], [1.5_f32, 0.25, -0.5]);
        let flow = flow(&json!({"shift": 3.0})).unwrap();
        let mut run = flow.run(Some(Sampler::Euler), 7, 16).unwrap();
        for first in [0, 3] {
            let mut x = picture.to_vec();
            run.mix(first, &mut x, &noise);
            let direction: Vec<f32> = noise.iter().zip(picture).map(|(n, p)| n - p).collect();
            for i in first..7 {
                let (signal, share) = run.shares(i);
                let on_the_line = picture[0] * signal + noise[0] * share;
                assert!((x[0] - on_the_line).abs() < 1e-5);
                run.step(i, &direction, &mut x, &Vec::<f32>::new);
            }
            let gaps = x
                .iter()
                .zip(picture)
                .map(|(x, picture)| (x - picture).abs());
            assert!(gaps.fold(0.0, f32::max) < 1e-5, "{x:?}");
        }
    }

    #[test]
    fn what_it_cannot_run_is_refused_by_name() {
        for (key, value) in [
            ("_class_name", json!("DDIMScheduler")),
            ("num_train_timesteps", json!(500)),
            ("shift", json!(0)),
            ("shift", json!("far")),
            ("base_image_seq_len", json!(-1)),
            ("use_dynamic_shifting", json!("yes")),
            ("time_shift_type", json!("linear")),
            ("shift_terminal", json!(0.1)),
            ("invert_sigmas", json!(true)),
            ("stochastic_sampling", json!(true)),
            ("use_karras_sigmas", json!(true)),
            ("use_beta_sigmas", json!(true)),
            ("novelty", json!(1)),
        ] {
            let error = flow(&json!({ key: value })).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
        let crossed = json!({"use_dynamic_shifting": true, "max_image_seq_len": 256});
        let error = flow(&crossed).unwrap_err().to_string();
        assert!(error.contains("`max_image_seq_len`"), "{error}");
        let flow = flow(&json!({})).unwrap();
        let error = flow.run(Some(Sampler::Ddim), 4, 16).unwrap_err();
        assert!(error.to_string().contains("`sampler`"), "{error}");
        assert!(flow.run(None, 0, 16).is_err());
    }
}
