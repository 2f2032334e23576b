//! Exponentials and what is made of them, written without branches so that the compiler vectorises the loops, and
//! without a system's mathematics library so that every platform rounds alike.

use super::Activation;

/// Applies `activation` to each element.
#[inline(always)]
pub(super) fn activate(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Identity => {}
        Activation::Silu => x.iter_mut().for_each(|x| *x /= 1.0 + exp(-*x)),
        Activation::Gelu => x
            .iter_mut()
            .for_each(|x| *x *= 0.5 + 0.5 * erf(*x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| {
            // tanh(u) = 2 sigmoid(2u) - 1, with u = sqrt(2/pi) (x + 0.044715 x³).
            let twice = 1.595_769 * (*x + 0.044_715 * *x * *x * *x);
            *x /= 1.0 + exp(-twice);
        }),
        Activation::QuickGelu => x.iter_mut().for_each(|x| *x /= 1.0 + exp(-1.702 * *x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Tanh => x
            .iter_mut()
            .for_each(|x| *x = 1.0 - 2.0 / (1.0 + exp(2.0 * *x))),
    }
}

/// The largest element.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    fold(x, f32::NEG_INFINITY, f32::max)
}

/// Sum of all elements.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    fold(x, 0.0, |a, b| a + b)
}

/// Combines all elements by `f` in sixteen interleaved lanes, then the lanes: vectorisable, more precise than one
/// running sum, and always in the same order.
#[inline(always)]
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = f(*lane, *x);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

/// e^x to about 2 units in the last place; results below the smallest normal number and above e^88 are held there.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7, scaled by 2^n through the exponent
/// bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few bits that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + c;
    }
    f32::from_bits(
        p.to_bits()
            .wrapping_add(shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23),
    )
}

/// Error function to 2e-7 absolute (Abramowitz and Stegun, formula 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - p * exp(-a * a)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=20_000).map(move |i| low + (high - low) * i as f32 / 20_000.0)
    }

    #[test]
    fn exponential_is_close_everywhere() {
        for x in range(-87.0, 88.0) {
            let expected = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) / expected - 1.0).abs() < 3e-7,
                "exp({x}) = {}",
                exp(x)
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0 && exp(1e9) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_are_close() {
        // Gelu of torch 2 at these points.
        for (x, gelu) in [
            (-3.0, -0.004_049_7),
            (-1.0, -0.158_655_26),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (2.0, 1.954_499_7),
        ] {
            let mut y = [x];
            activate(&mut y, Activation::Gelu);
            assert!((y[0] - gelu).abs() < 1e-6, "gelu({x}) = {}", y[0]);
        }
        for (x, gelu) in [
            (-3.0, -0.003_637_4),
            (-1.0, -0.158_808_01),
            (0.5, 0.345_714_02),
        ] {
            let mut y = [x];
            activate(&mut y, Activation::GeluTanh);
            assert!((y[0] - gelu).abs() < 1e-6, "tanh gelu({x}) = {}", y[0]);
        }
        for x in range(-30.0, 30.0) {
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let wide = f64::from(x);
            for (activation, expected) in [
                (Activation::Identity, wide),
                (Activation::Silu, wide * sigmoid(wide)),
                (Activation::QuickGelu, wide * sigmoid(1.702 * wide)),
                (Activation::Relu, wide.max(0.0)),
                (Activation::Tanh, wide.tanh()),
            ] {
                let mut y = [x];
                activate(&mut y, activation);
                assert!(
                    (f64::from(y[0]) - expected).abs() <= 1e-6 * wide.abs().max(0.1),
                    "{activation:?}({x})"
                );
            }
        }
    }

    #[test]
    fn sum_takes_every_element() {
        for n in 0..40 {
            let x: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            assert_eq!(sum(&x), (n * (n + 1) / 2) as f32);
        }
    }
}
