//! What the distance of two tokens adds to their attention, in T5 and MPNet: distances share a number in groups that widen
//! with them (Raffel et al., "Exploring the limits of transfer learning", 2020, section 2.1; Song et al., 2020).

use candle_core::{Device, Result, Tensor};

use crate::portable::ln;

/// The fewest groups: with fewer there is none on the logarithmic scale.
pub(crate) const LEAST_GROUPS: usize = 4;

/// The group, of `groups` and at least [`LEAST_GROUPS`], of a token that stands `distance` after another one, or before it.
/// From `farthest` on all distances are one group; it is more than a quarter of `groups`.
///
/// A half of the groups is for either direction; a half of these for one distance each, the others on a logarithmic scale.
fn group(distance: isize, groups: usize, farthest: usize) -> usize {
    let half = groups / 2;
    let exact = half / 2;
    let far = distance.unsigned_abs();
    let within = if far < exact {
        far
    } else {
        let scale = ln(far as f64 / exact as f64) / ln(farthest as f64 / exact as f64);
        // Where the original comes out at a whole number, so does this.
        let beyond = (scale * (half - exact) as f64 + 1e-6) as usize;
        (exact + beyond).min(half - 1)
    };
    within + if distance > 0 { half } else { 0 }
}

/// `[groups, heads]` of numbers as [`Kernels::attend_all`](crate::kernels::Kernels::attend_all) takes them for texts of up
/// to `longest` tokens, `[heads, 2 longest - 1]`.
pub(crate) fn spread(numbers: &Tensor, farthest: usize, longest: usize) -> Result<Tensor> {
    let (groups, heads) = numbers.dims2()?;
    let numbers: Vec<Vec<f32>> = numbers.to_vec2()?;
    let last = longest as isize - 1;
    let of =
        |head: usize| (-last..=last).map(move |distance| (group(distance, groups, farthest), head));
    let places = (0..heads).flat_map(of);
    let spread: Vec<f32> = places.map(|(group, head)| numbers[group][head]).collect();
    Tensor::from_vec(spread, (heads, 2 * longest - 1), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_widen_with_distance() {
        // Where the groups of transformers' `relative_position_bucket` begin.
        for (groups, farthest, begins) in [
            (
                32,
                128,
                &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91][..],
            ),
            (10, 17, &[0, 1, 2, 5, 9][..]),
        ] {
            for distance in 0..600_isize {
                let expected = begins.iter().filter(|begin| **begin <= distance).count() - 1;
                let got = |distance| group(distance, groups, farthest);
                assert_eq!(got(-distance), expected, "{distance} of {groups}");
                let after = if distance > 0 {
                    expected + groups / 2
                } else {
                    0
                };
                assert_eq!(got(distance), after, "{distance} of {groups}");
            }
        }
    }

    #[test]
    fn each_head_has_its_own_numbers() {
        let numbers: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let numbers = Tensor::from_vec(numbers, (32, 2), &Device::Cpu).unwrap();
        let spread: Vec<Vec<f32>> = spread(&numbers, 128, 3).unwrap().to_vec2().unwrap();
        assert_eq!(
            spread,
            [[4.0, 2.0, 0.0, 34.0, 36.0], [5.0, 3.0, 1.0, 35.0, 37.0]]
        );
    }
}
