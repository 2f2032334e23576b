//! Functions of real numbers that give the same bits on every machine.
//!
//! Miners that audit each other must round alike, and a system's mathematics library differs in its last bits from
//! another's. So these use nothing but additions, multiplications, divisions and roundings of `f64`, which IEEE 754
//! defines exactly.

/// Natural logarithm of a positive normal number, to about 1e-15 relative.
///
/// x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m-1)/(m+1)) by its series.
pub(crate) fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const ONE: u64 = 1023 << 52;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & MANTISSA | ONE);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    // |s| < 0.172, so the first omitted term, s^24/25, is below 1e-19.
    let mut series = 0.0;
    for odd in (1..=23).rev().step_by(2) {
        series = series * s2 + 1.0 / f64::from(odd);
    }
    2.0 * s * series + f64::from(exponent) * std::f64::consts::LN_2
}

/// e^x to about 1e-15 relative for |x| up to 700, where it is held.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial, scaled by 2^n through the exponent bits.
pub(crate) fn exp(x: f64) -> f64 {
    // ln 2 in two parts: the first has so few bits that n * LN2_HIGH is exact.
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // Adding 1.5 * 2^52 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = x.clamp(-700.0, 700.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // |r| < 0.347, so the first omitted term, r^14/14!, is below 5e-18.
    let mut p = 1.0;
    for k in (1..=13).rev() {
        p = 1.0 + p * r / f64::from(k);
    }
    f64::from_bits(
        p.to_bits()
            .wrapping_add(shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 52),
    )
}

/// Sine and cosine of `turns` whole turns, 0 <= turns < 1.
///
/// The angle is brought into an eighth of a turn around the nearest quarter (exact in `f64`), where the Taylor series
/// is short.
pub(crate) fn sin_cos_turns(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0 + 0.5).floor();
    let a = (turns - quarter * 0.25) * std::f64::consts::TAU;
    let a2 = a * a;
    let (mut sin, mut cos) = (1.0, 1.0);
    // Nested from the inside out: 1 - a²/(n(n-1)) * (1 - ...). |a| <= pi/4, so 18 terms are far below 1e-17.
    for n in (2..=18).rev().step_by(2) {
        let n = f64::from(n);
        cos = 1.0 - a2 / (n * (n - 1.0)) * cos;
        sin = 1.0 - a2 / (n * (n + 1.0)) * sin;
    }
    sin *= a;
    match quarter as u32 % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Sine and cosine of an angle of at least 0 radians, to about 3e-16 of the angle.
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    let turns = angle * (1.0 / std::f64::consts::TAU);
    sin_cos_turns(turns - turns.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_circle_agree_with_the_standard_library() {
        for i in 0..20_000_u32 {
            let word = i.wrapping_mul(2_147_483_629);
            let u = (f64::from(word) + 1.0) / 4_294_967_296.0;
            assert!(
                (ln(u) - u.ln()).abs() <= 2e-15 * u.ln().abs().max(1e-3),
                "ln({u})"
            );
            let turns = f64::from(word) / 4_294_967_296.0;
            let (sin, cos) = sin_cos_turns(turns);
            let (s, c) = (turns * std::f64::consts::TAU).sin_cos();
            assert!(
                (sin - s).abs() < 2e-15 && (cos - c).abs() < 2e-15,
                "turns {turns}"
            );
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn exponential_and_angles_agree_with_the_standard_library() {
        for i in 0..=20_000 {
            let x = f64::from(i) / 100.0 - 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 2e-15, "exp({x})");
            let angle = f64::from(i) * 7.3;
            let ((sin, cos), (s, c)) = (sin_cos(angle), angle.sin_cos());
            assert!(
                (sin - s).abs().max((cos - c).abs()) < 4e-16 * angle + 2e-15,
                "angle {angle}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-300 && exp(f64::NEG_INFINITY) < 1e-300 && exp(1e9) > 1e300);
        assert!(exp(f64::NAN).is_nan());
    }
}
