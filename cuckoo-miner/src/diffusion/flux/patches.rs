//! Latents as patches of two by two, and back.

use candle_core::Tensor;

use crate::diffusion::error::Result;

/// Latents along each side of a patch.
const SIDE: usize = 2;
/// Latents in a patch.
pub(super) const AREA: usize = SIDE * SIDE;

/// `[1, channels, height, width]` as `[patches, 4 channels]`, row by row; in a patch channel by channel.
pub(super) fn to_patches(latents: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = latents.dims4()?;
    let (rows, columns) = (height / SIDE, width / SIDE);
    Ok(latents
        .reshape(&[channels, rows, SIDE, columns, SIDE])?
        .permute([1, 3, 0, 2, 4])?
        .contiguous()?
        .reshape((rows * columns, channels * AREA))?)
}

/// The inverse of [`to_patches`] for latents of the given size.
pub(super) fn from_patches(patches: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (rows, columns) = (height / SIDE, width / SIDE);
    let channels = patches.dim(1)? / AREA;
    Ok(patches
        .reshape(&[rows, columns, channels, SIDE, SIDE])?
        .permute([2, 0, 3, 1, 4])?
        .contiguous()?
        .reshape((1, channels, height, width))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn patches_hold_neighbours_channel_by_channel() {
        // The latent at a row and column of a channel is its number, digit by digit.
        let numbers = (0..2).flat_map(|channel| {
            (0..4).flat_map(move |row| {
                (0..6).map(move |column| (channel * 100 + row * 10 + column) as f32)
            })
        });
        let numbers: Vec<f32> = numbers.collect();
        let latents = Tensor::from_vec(numbers, (1, 2, 4, 6), &Device::Cpu).unwrap();
        let patches = to_patches(&latents).unwrap();
        assert_eq!(patches.dims(), [6, 8]);
        let rows: Vec<Vec<f32>> = patches.to_vec2().unwrap();
        assert_eq!(rows[1], [2.0, 3.0, 12.0, 13.0, 102.0, 103.0, 112.0, 113.0]);
        assert_eq!(rows[3][..4], [20.0, 21.0, 30.0, 31.0]);
        let back = from_patches(&patches, 4, 6).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((back.dims(), flat(&back)), (latents.dims(), flat(&latents)));
    }
}
