//! Pictures as PNG files.

use std::io::Cursor;

use png::{ColorType, Limits, Transformations};

use super::Image;
use crate::diffusion::error::{Error, Result};
use crate::diffusion::request::{PIXELS_LIMIT, SIDE_LIMIT};

/// Bytes that the decoder may hold: rows and text chunks, of the largest picture that is read.
const DECODER_LIMIT: usize = 64 << 20;

impl Image {
    /// The picture as a PNG file. Equal pixels give equal bytes.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when `rgb` does not have `width * height * 3` bytes or a side is 0.
    pub fn to_png(&self) -> Result<Vec<u8>, cuckoo_core::Error> {
        Ok(self.encode()?)
    }

    /// Reads a PNG file of any colour type and depth. What is transparent loses that, more than 8 bits a colour are cut,
    /// grey becomes three equal colours; of an animation the first picture is taken.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the bytes are no complete PNG, or a side is above 8192 pixels or
    /// the area above 2048 x 2048; a file that only claims to be large is refused before anything is allocated.
    pub fn from_png(bytes: &[u8]) -> Result<Self, cuckoo_core::Error> {
        Ok(Self::decode(bytes)?)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        self.check()?;
        let side = |side: usize| {
            u32::try_from(side).map_err(|_| Error::request("rgb", "has a side that is too long"))
        };
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width)?, side(self.height)?);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |error: png::DecodingError| {
            Error::request("image", format!("is no PNG that can be read: {error}"))
        };
        let limits = Limits {
            bytes: DECODER_LIMIT,
        };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(bad)?;
        let (width, height) = reader.info().size();
        let (width, height) = (width as usize, height as usize);
        if width.max(height) > SIDE_LIMIT || width.saturating_mul(height) > PIXELS_LIMIT {
            let problem = format!(
                "has {width} x {height} pixels; at most {PIXELS_LIMIT} are read, and sides up to {SIDE_LIMIT}"
            );
            return Err(Error::request("image", problem));
        }
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| Error::request("image", "has rows that are too long"))?;
        let mut pixels = vec![0; size];
        let info = reader.next_frame(&mut pixels).map_err(bad)?;
        pixels.truncate(info.buffer_size());
        let rgb = match info.color_type {
            ColorType::Rgb => pixels,
            ColorType::Rgba => picked(&pixels, 4, [0, 1, 2]),
            ColorType::Grayscale => picked(&pixels, 1, [0; 3]),
            ColorType::GrayscaleAlpha => picked(&pixels, 2, [0; 3]),
            ColorType::Indexed => {
                return Err(Error::request("image", "has a palette that was not read"));
            }
        };
        let image = Self { width, height, rgb };
        image
            .check()
            .map_err(|_| Error::request("image", "has fewer rows than it says"))?;
        Ok(image)
    }
}

/// Three of each pixel's `channels`.
fn picked(pixels: &[u8], channels: usize, colours: [usize; 3]) -> Vec<u8> {
    pixels
        .chunks_exact(channels)
        .flat_map(|pixel| colours.map(|colour| pixel[colour]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(color: ColorType, depth: png::BitDepth, size: (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
            encoder.set_trns(vec![0, 255]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn every_colour_type_becomes_three_colours() {
        use png::BitDepth::{Eight, One, Sixteen};
        for (color, depth, data, expected) in [
            (
                ColorType::Rgb,
                Eight,
                &[1, 2, 3, 4, 5, 6][..],
                [1, 2, 3, 4, 5, 6],
            ),
            (
                ColorType::Rgba,
                Eight,
                &[1, 2, 3, 0, 4, 5, 6, 255],
                [1, 2, 3, 4, 5, 6],
            ),
            (ColorType::Grayscale, Eight, &[7, 9], [7, 7, 7, 9, 9, 9]),
            (
                ColorType::Grayscale,
                Sixteen,
                &[7, 200, 9, 0],
                [7, 7, 7, 9, 9, 9],
            ),
            (
                ColorType::Grayscale,
                One,
                &[0b0100_0000],
                [0, 0, 0, 255, 255, 255],
            ),
            (
                ColorType::GrayscaleAlpha,
                Eight,
                &[7, 0, 9, 1],
                [7, 7, 7, 9, 9, 9],
            ),
            (
                ColorType::Indexed,
                One,
                &[0b1000_0000],
                [40, 50, 60, 10, 20, 30],
            ),
        ] {
            let image = Image::from_png(&file(color, depth, (2, 1), data)).unwrap();
            assert_eq!((image.width, image.height), (2, 1));
            assert_eq!(image.rgb, expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let whole = file(
            ColorType::Grayscale,
            png::BitDepth::Eight,
            (40, 50),
            &[7; 2_000],
        );
        let mut huge = whole.clone();
        // The header's width, and its checksum, which is looked at too.
        huge[16..20].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
        let wide = file(
            ColorType::Grayscale,
            png::BitDepth::One,
            (8_200, 1),
            &[0; 1_025],
        );
        for (what, bytes) in [
            ("empty", &[][..]),
            ("text", b"a red circle"),
            ("cut", &whole[..whole.len() / 2]),
            ("cut in its header", &whole[..20]),
            ("huge", &huge),
            ("wide", &wide),
        ] {
            let error = Image::from_png(bytes).unwrap_err();
            assert_eq!(error.kind(), cuckoo_core::ErrorKind::Invalid, "{what}");
            assert!(error.to_string().contains("`image`"), "{what}: {error}");
        }
    }
}
