//! A number as a denoiser sees it: waves of geometrically spaced frequencies (Vaswani et al., 2017).

use crate::portable::{exp, ln, sin_cos};

/// The slowest wave has a period of about this much (times 2 pi).
const SLOWEST: f64 = 10_000.0;

/// `width` / 2 sines and as many cosines of `number`.
pub(super) fn waves(
    number: f32,
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
) -> Vec<f32> {
    let half = width / 2;
    let wave = |i: usize| {
        let frequency = exp(-ln(SLOWEST) * i as f64 / (half as f64 - frequency_shift));
        sin_cos(f64::from(number) * frequency)
    };
    let sines = (0..half).map(|i| wave(i).0 as f32);
    let cosines = (0..half).map(|i| wave(i).1 as f32);
    if cosine_first {
        cosines.chain(sines).collect()
    } else {
        sines.chain(cosines).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_match_diffusers() {
        // diffusers 0.42: get_timestep_embedding(torch.tensor([7.0]), 8, flip_sin_to_cos=True, downscale_freq_shift=0).
        let expected = [
            0.753_902_3,
            0.764_842_2,
            0.997_551_1,
            0.999_975_5,
            0.656_986_6,
            0.644_217_7,
            0.069_942_84,
            0.006_999_943,
        ];
        for (got, expected) in waves(7.0, 8, true, 0.0).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
        }
        let swapped = waves(7.0, 8, false, 0.0);
        assert_eq!(swapped[..4], waves(7.0, 8, true, 0.0)[4..]);
        // With a shift of 1 the slowest wave is exactly 1 / 10,000.
        assert!((waves(1.0, 8, false, 1.0)[3] - 1e-4).abs() < 1e-9);
    }
}
