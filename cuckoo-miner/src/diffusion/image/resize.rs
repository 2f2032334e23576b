//! Another size by Lanczos' filter of three lobes (Duchon, 1979), widened where the picture shrinks: what diffusers does to
//! a picture of another size, by Pillow, to the same bytes.

use super::Image;
use crate::portable::sin_cos;

/// Lobes of the filter on each side.
const LOBES: f64 = 3.0;
/// Bits behind the point of a weight: levels have 8, and a sum of them needs two more.
const BITS: u32 = 32 - 8 - 2;

impl Image {
    /// The picture at another size; sides are not 0.
    pub(crate) fn resized(&self, width: usize, height: usize) -> Self {
        let across = match width == self.width {
            true => self.clone(),
            false => self.across(width),
        };
        match height == self.height {
            true => across,
            false => across.turned().across(height).turned(),
        }
    }

    /// Each row at another width.
    fn across(&self, width: usize) -> Self {
        let windows: Vec<_> = (0..width).map(|x| window(x, self.width, width)).collect();
        let rows = self.rgb.chunks_exact(self.width * 3);
        let rgb = rows.flat_map(|row| {
            windows.iter().flat_map(move |(first, weights)| {
                [0, 1, 2].map(|colour| {
                    let levels = row[first * 3 + colour..].iter().step_by(3);
                    let sum = levels
                        .zip(weights)
                        .fold(1 << (BITS - 1), |sum: i64, (level, weight)| {
                            sum + i64::from(*level) * weight
                        });
                    (sum >> BITS).clamp(0, 255) as u8
                })
            })
        });
        Self {
            width,
            height: self.height,
            rgb: rgb.collect(),
        }
    }

    /// Rows as columns.
    fn turned(&self) -> Self {
        let pixel = |x: usize, y: usize| {
            let at = (y * self.width + x) * 3;
            [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
        };
        let columns = (0..self.width).flat_map(|x| (0..self.height).map(move |y| (x, y)));
        Self {
            width: self.height,
            height: self.width,
            rgb: columns.flat_map(|(x, y)| pixel(x, y)).collect(),
        }
    }
}

/// Which of `from` pixels make pixel `x` of `to`: the first of them, and their weights in units of 2^-BITS.
fn window(x: usize, from: usize, to: usize) -> (usize, Vec<i64>) {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let center = (x as f64 + 0.5) * scale;
    let first = (center - LOBES * widened + 0.5).max(0.0) as usize;
    let end = ((center + LOBES * widened + 0.5) as usize).min(from);
    let weights: Vec<f64> = (first..end)
        .map(|i| lanczos((i as f64 - center + 0.5) / widened))
        .collect();
    let sum: f64 = weights.iter().sum();
    let unit = f64::from(1_u32 << BITS);
    let whole = |weight: f64| {
        let weight = weight / sum * unit;
        // To the nearest, halves away from 0.
        (weight + 0.5_f64.copysign(weight)) as i64
    };
    (first, weights.into_iter().map(whole).collect())
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        if x == 0.0 {
            return 1.0;
        }
        let angle = x.abs() * std::f64::consts::PI;
        sin_cos(angle).0 / angle
    };
    if x.abs() < LOBES {
        sinc(x) * sinc(x / LOBES)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize) -> Image {
        let level = |i: usize| (i * 37 % 251) as u8;
        Image {
            width,
            height,
            rgb: (0..width * height * 3).map(level).collect(),
        }
    }

    #[test]
    fn sizes_change_as_in_pillow() {
        // Pillow 13.0: Image.frombytes("RGB", (5, 3), bytes(i * 37 % 251 for i in range(45))).resize(size, LANCZOS).
        for (size, expected) in PILLOW {
            let resized = image(5, 3).resized(size.0, size.1);
            assert_eq!((resized.width, resized.height), *size);
            assert_eq!(resized.rgb, *expected);
        }
        assert_eq!(image(5, 3).resized(5, 3), image(5, 3));
    }

    #[test]
    fn an_even_picture_stays_even() {
        let even = Image {
            width: 7,
            height: 5,
            rgb: vec![93; 105],
        };
        let resized = even.resized(64, 3);
        assert!(resized.rgb.iter().all(|level| *level == 93));
        assert_eq!(resized.rgb.len(), 64 * 3 * 3);
    }

    const PILLOW: &[((usize, usize), &[u8])] = &[
        (
            (2, 2),
            &[85, 94, 142, 162, 120, 107, 127, 107, 137, 128, 126, 102],
        ),
        (
            (3, 4),
            &[
                46, 81, 114, 178, 55, 108, 138, 189, 65, 73, 124, 156, 105, 103, 157, 188, 116,
                107, 130, 115, 160, 92, 133, 139, 165, 102, 111, 153, 65, 122, 153, 111, 75, 94,
                164, 73,
            ],
        ),
        (
            (7, 3),
            &[
                0, 25, 62, 44, 114, 151, 167, 121, 156, 222, 8, 45, 109, 63, 137, 116, 186, 106,
                205, 236, 2, 41, 78, 115, 130, 167, 204, 137, 172, 209, 24, 61, 98, 79, 153, 190,
                202, 122, 159, 252, 18, 55, 94, 157, 194, 183, 59, 90, 188, 2, 59, 77, 114, 151,
                169, 226, 40, 138, 169, 45, 34, 71, 134,
            ],
        ),
    ];
}
