//! The angles of rotary position embedding, with the ways there are to stretch them over longer texts.

use candle_core::{Device, Tensor};

use crate::model::error::Result;
use crate::model::settings::Settings;
use crate::portable;

/// How fast each pair of numbers in a head turns from one position to the next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotary {
    /// Radians a position.
    frequencies: Vec<f32>,
}

impl Rotary {
    /// Reads `rope_parameters`, or the older `rope_theta` and `rope_scaling`, for heads of `depth` numbers.
    pub(crate) fn load(s: &mut Settings, depth: usize) -> Result<Self> {
        let current = s.section("rope_parameters")?;
        let scaling = s.section("rope_scaling")?;
        let mut theta = s.number("rope_theta", 10_000.0, 1.0..=1e12)?;
        let mut part = s.number("partial_rotary_factor", 1.0, 0.01..=1.0)?;
        let mut frequencies = None;
        if let Some(mut section) = current.or(scaling) {
            theta = section.number("rope_theta", theta, 1.0..=1e12)?;
            part = section.number("partial_rotary_factor", part, 0.01..=1.0)?;
            let base = base(theta, rotated(depth, part));
            frequencies = Some(scaled(&mut section, base)?);
            section.finish()?;
        }
        let frequencies = frequencies.unwrap_or_else(|| base(theta, rotated(depth, part)));
        let frequencies = frequencies.into_iter().map(|f| f as f32).collect();
        Ok(Self { frequencies })
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
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        Ok((
            Tensor::from_vec(cos, shape, device)?,
            Tensor::from_vec(sin, shape, device)?,
        ))
    }
}

/// Pairs of numbers that are turned, of a head of `depth`.
fn rotated(depth: usize, part: f64) -> usize {
    (depth as f64 * part) as usize / 2
}

/// theta^(-i / pairs) for each pair i (Su et al., 2021), in `f64` but rounded as an `f32` computation would begin with.
fn base(theta: f64, pairs: usize) -> Vec<f64> {
    let ln = portable::ln(theta);
    (0..pairs)
        .map(|i| f64::from(portable::exp(-ln * i as f64 / pairs as f64) as f32))
        .collect()
}

/// What the section's `rope_type` makes of the frequencies.
fn scaled(section: &mut Settings, base: Vec<f64>) -> Result<Vec<f64>> {
    #[derive(Clone, Copy)]
    enum Kind {
        Default,
        Linear,
        Llama3,
    }
    const KINDS: [(&str, Kind); 3] = [
        ("default", Kind::Default),
        ("linear", Kind::Linear),
        ("llama3", Kind::Llama3),
    ];
    // The older name of the key.
    let older = section.choice("type", Kind::Default, &KINDS)?;
    let kind = section.choice("rope_type", older, &KINDS)?;
    let factors = 1e-3..=1e6;
    Ok(match kind {
        Kind::Default => base,
        Kind::Linear => {
            let factor = section.number("factor", 1.0, factors)?;
            base.into_iter().map(|f| f / factor).collect()
        }
        // Long waves are stretched, short ones are not, and those in between in part (Llama 3.1's model card).
        Kind::Llama3 => {
            let factor = section.number("factor", 8.0, factors.clone())?;
            let low = section.number("low_freq_factor", 1.0, factors.clone())?;
            let high = section.number("high_freq_factor", 4.0, factors)?;
            let length = section.required("original_max_position_embeddings", 1..=1 << 30)? as f64;
            if high <= low {
                return Err(section.error("high_freq_factor", "is not above low_freq_factor"));
            }
            base.into_iter()
                .map(|f| {
                    let turns = length * f / std::f64::consts::TAU;
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - share) * f / factor + share * f
                })
                .collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    #[test]
    fn what_is_not_run_is_named() {
        for (value, named) in [
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_type"),
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
