//! The angles of rotary position embedding, with the ways there are to stretch them over longer texts.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use candle_core::{Device, Tensor};
use serde_json::json;

use crate::model::error::Result;
use crate::model::settings::Settings;
use crate::portable;

/// How fast each pair of numbers in a head turns from one position to the next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotary {
    /// Radians a position.
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied by.
    amplitude: f32,
}

impl Rotary {
    /// Reads `rope_parameters`, or the older `rope_theta` and `rope_scaling`, for heads of `depth` numbers.
    pub(crate) fn load(s: &mut Settings, depth: usize) -> Result<Self> {
        let current = s.section("rope_parameters")?;
        let scaling = s.section("rope_scaling")?;
        let mut theta = s.number("rope_theta", 10_000.0, 1.01..=1e12)?;
        let mut part = s.number("partial_rotary_factor", 1.0, 0.01..=1.0)?;
        let mut section = current.or(scaling);
        if let Some(section) = &mut section {
            theta = section.number("rope_theta", theta, 1.01..=1e12)?;
            part = section.number("partial_rotary_factor", part, 0.01..=1.0)?;
        }
        // theta^(-i / pairs) for each pair i (Su et al., 2021), in `f64` but rounded as an `f32` computation begins with.
        let pairs = (depth as f64 * part) as usize / 2;
        let ln = portable::ln(theta);
        let frequency =
            |i| f64::from(portable::exp(-ln * f64::from(i) / pairs.max(1) as f64) as f32);
        let mut rotary: Vec<f64> = (0..pairs as u32).map(frequency).collect();
        let mut amplitude = 1.0;
        if let Some(mut section) = section {
            amplitude = stretch(&mut section, &mut rotary, ln)?;
            section.finish()?;
        }
        Ok(Self {
            frequencies: rotary.into_iter().map(|f| f as f32).collect(),
            amplitude: amplitude as f32,
        })
    }

    /// Pairs of numbers in a head that turn.
    pub(crate) fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Slows each pair down by its factor.
    pub(crate) fn slow(&mut self, factors: &[f32]) {
        for (frequency, factor) in self.frequencies.iter_mut().zip(factors) {
            *frequency /= factor;
        }
    }

    /// Cosines and sines, `[positions, pairs]`. As in transformers, an angle is rounded to `f32` before its cosine is
    /// taken: models were trained with those.
    pub(crate) fn angles(&self, positions: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let shape = (positions.len(), self.frequencies.len());
        let mut cos = Vec::with_capacity(shape.0 * shape.1);
        let mut sin = Vec::with_capacity(shape.0 * shape.1);
        for position in positions {
            for frequency in &self.frequencies {
                let angle = *position as f32 * frequency;
                let (s, c) = portable::sin_cos(f64::from(angle));
                cos.push(c as f32 * self.amplitude);
                sin.push(s as f32 * self.amplitude);
            }
        }
        Ok((
            Tensor::from_vec(cos, shape, device)?,
            Tensor::from_vec(sin, shape, device)?,
        ))
    }
}

/// Does to the frequencies what the section's `rope_type` says; gives the amplitude. `ln` is the logarithm of theta.
fn stretch(section: &mut Settings, frequencies: &mut [f64], ln: f64) -> Result<f64> {
    #[derive(Clone, Copy)]
    enum Kind {
        Default,
        Linear,
        Llama3,
        Yarn,
    }
    const KINDS: [(&str, Kind); 4] = [
        ("default", Kind::Default),
        ("linear", Kind::Linear),
        ("llama3", Kind::Llama3),
        ("yarn", Kind::Yarn),
    ];
    const FACTORS: RangeInclusive<f64> = 1e-3..=1e6;
    const LENGTH: &str = "original_max_position_embeddings";
    // The older name of the key.
    let older = section.choice("type", Kind::Default, &KINDS)?;
    match section.choice("rope_type", older, &KINDS)? {
        Kind::Default => {}
        Kind::Linear => {
            let factor = section.number("factor", 1.0, FACTORS)?;
            for f in frequencies {
                *f /= factor;
            }
        }
        // Long waves are stretched, short ones are not, and those in between in part (Llama 3.1's model card).
        Kind::Llama3 => {
            let factor = section.number("factor", 8.0, FACTORS)?;
            let low = section.number("low_freq_factor", 1.0, FACTORS)?;
            let high = section.number("high_freq_factor", 4.0, FACTORS)?;
            let length = section.required(LENGTH, 1..=1 << 30)? as f64;
            if high <= low {
                return Err(section.error("high_freq_factor", "is not above low_freq_factor"));
            }
            for f in frequencies {
                let turns = length * *f / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                *f *= kept + (1.0 - kept) / factor;
            }
        }
        // The same by the place of a pair, and all of it a little louder (Peng et al., "YaRN", 2023).
        Kind::Yarn => {
            let factor = section.number("factor", 1.0, FACTORS)?;
            let fast = section.number("beta_fast", 32.0, FACTORS)?;
            let slow = section.number("beta_slow", 1.0, FACTORS)?;
            let length = section.required(LENGTH, 1..=1 << 30)? as f64;
            let louder = if factor > 1.0 {
                0.1 * portable::ln(factor) + 1.0
            } else {
                1.0
            };
            let amplitude = section.number("attention_factor", louder, FACTORS)?;
            section.only("truncate", &[json!(true)])?;
            let dims = frequencies.len() as f64 * 2.0;
            // The pair that turns so often over the whole length.
            let place = |turns: f64| dims * portable::ln(length / (turns * TAU)) / (2.0 * ln);
            let first = place(fast).floor().max(0.0);
            let last = place(slow).ceil().min(dims - 1.0);
            let width = if first == last { 1e-3 } else { last - first };
            for (i, f) in frequencies.iter_mut().enumerate() {
                let stretched = ((i as f64 - first) / width).clamp(0.0, 1.0);
                *f *= 1.0 - stretched + stretched / factor;
            }
            return Ok(amplitude);
        }
    }
    Ok(1.0)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn load(value: Value) -> Result<Rotary> {
        let mut s = Settings::parse("config.json", value.to_string().as_bytes())?;
        let rotary = Rotary::load(&mut s, 8)?;
        s.finish()?;
        Ok(rotary)
    }

    #[test]
    fn old_and_new_settings_mean_the_same() {
        let old =
            load(json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}));
        let new = load(
            json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}),
        );
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!(old, new);
        for (i, f) in old.frequencies.iter().enumerate() {
            let expected = 500_f32.powf(-(i as f32) / 4.0) / 2.0;
            assert!((f / expected - 1.0).abs() < 1e-6);
        }
        let part = load(json!({"partial_rotary_factor": 0.5})).unwrap();
        assert_eq!(part.frequencies.len(), 2);
        assert_eq!(load(json!({})).unwrap().frequencies.len(), 4);
    }

    /// The formulas of transformers, worked out beside it for theta 100 and heads of 8.
    #[test]
    fn long_texts_are_stretched_as_transformers_does() {
        let length = 32;
        let settings = |more: Value| {
            let mut section =
                json!({"rope_theta": 100.0, "original_max_position_embeddings": length});
            for (key, value) in more.as_object().unwrap() {
                section[key] = value.clone();
            }
            load(json!({"rope_parameters": section})).unwrap()
        };
        let llama = settings(json!({"rope_type": "llama3", "factor": 8.0}));
        let yarn = settings(json!({"rope_type": "yarn", "factor": 4.0}));
        for (rotary, expected, amplitude) in [
            (llama, [1.0, 0.095_840, 0.0125, 0.003_952_8], 1.0),
            (yarn, [1.0, 0.197_642, 0.025, 0.007_905_7], 1.138_629),
        ] {
            assert!((rotary.amplitude - amplitude).abs() < 1e-6);
            for (f, expected) in rotary.frequencies.iter().zip(expected) {
                assert!((f / expected - 1.0).abs() < 1e-4, "{f} for {expected}");
            }
        }
    }

    #[test]
    fn what_is_not_run_is_named() {
        for (value, named) in [
            (
                json!({"rope_scaling": {"rope_type": "dynamic"}}),
                "rope_type",
            ),
            (
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}}),
                "original_max_position_embeddings",
            ),
            (json!({"rope_scaling": {"type": "longrope"}}), "type"),
            (
                json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}),
                "factor",
            ),
            (json!({"rope_scaling": {"spin": 1}}), "spin"),
            (json!({"rope_scaling": 3}), "rope_scaling"),
            (
                json!({"rope_parameters": {"rope_type": "llama3"}}),
                "original_max_position_embeddings",
            ),
        ] {
            let message = load(value).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn angles_grow_with_the_position() {
        let rotary = load(json!({})).unwrap();
        let (cos, sin) = rotary.angles(&[0, 3, 100_000], &Device::Cpu).unwrap();
        let (cos, sin) = (cos.to_vec2::<f32>().unwrap(), sin.to_vec2::<f32>().unwrap());
        assert_eq!((cos[0][0], sin[0][0]), (1.0, 0.0));
        for (row, position) in [(1, 3.0_f32), (2, 100_000.0)] {
            for i in 0..4 {
                let angle = position * rotary.frequencies[i];
                assert!((cos[row][i] - angle.cos()).abs() < 1e-6);
                assert!((sin[row][i] - angle.sin()).abs() < 1e-6);
            }
        }
    }
}
