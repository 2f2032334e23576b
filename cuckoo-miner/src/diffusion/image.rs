//! A picture: what comes out, and what another one may begin with.

mod file;
mod resize;

use super::error::{Error, Result};

/// Pixels, row by row from the top, three bytes (red, green, blue) each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Image {
    /// From planes of red, green and blue between -1 and 1 (what is outside is cut), rounded to the nearest of 256
    /// levels, halves to even as numpy does.
    pub(crate) fn from_planes(planes: &[f32], width: usize, height: usize) -> Result<Self> {
        let area = width * height;
        if planes.len() != area * 3 || !planes.iter().all(|value| value.is_finite()) {
            return Err(Error::Diverged {
                stage: "the decoded picture",
            });
        }
        let level =
            |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let rgb = (0..area)
            .flat_map(|i| [0, 1, 2].map(|plane| level(planes[plane * area + i])))
            .collect();
        Ok(Self { width, height, rgb })
    }

    /// The inverse of [`from_planes`](Self::from_planes): planes of red, green and blue between -1 and 1.
    pub(crate) fn to_planes(&self) -> Vec<f32> {
        let plane = |colour: usize| self.rgb.iter().skip(colour).step_by(3);
        (0..3)
            .flat_map(plane)
            .map(|level| f32::from(*level) / 255.0 * 2.0 - 1.0)
            .collect()
    }

    /// Fails unless there is a byte for each colour of each pixel, of which there is at least one.
    pub(crate) fn check(&self) -> Result<()> {
        let bytes = self
            .width
            .checked_mul(self.height)
            .and_then(|area| area.checked_mul(3));
        match bytes {
            Some(bytes) if bytes > 0 && bytes == self.rgb.len() => Ok(()),
            _ => Err(Error::request(
                "rgb",
                "does not have width * height * 3 bytes",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels() {
        // Two pixels: red is (-1, 1), green (0, 2), blue (-3, 0.5).
        let image = Image::from_planes(&[-1.0, 1.0, 0.0, 2.0, -3.0, 0.5], 2, 1).unwrap();
        assert_eq!(image.rgb, [0, 128, 0, 255, 255, 191]);
        assert!(Image::from_planes(&[f32::NAN; 6], 2, 1).is_err());
        assert!(Image::from_planes(&[0.0; 5], 2, 1).is_err());
    }

    #[test]
    fn png_holds_the_same_pixels() {
        let image = Image {
            width: 5,
            height: 3,
            rgb: (0..45).collect(),
        };
        let bytes = image.to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(
            (info.width, info.height, &pixels[..info.buffer_size()]),
            (5, 3, &image.rgb[..])
        );
        assert_eq!(Image::from_png(&bytes).unwrap(), image);
        assert_eq!(bytes, image.to_png().unwrap());
    }

    #[test]
    fn png_refuses_what_is_not_a_picture() {
        for (width, height, len) in [(2, 2, 11), (0, 2, 0), (usize::MAX, 2, 6)] {
            let image = Image {
                width,
                height,
                rgb: vec![0; len],
            };
            assert_eq!(
                image.to_png().unwrap_err().kind(),
                cuckoo_core::ErrorKind::Invalid
            );
        }
    }
}
