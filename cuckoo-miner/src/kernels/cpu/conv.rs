//! Convolution as products of the weights with panels of patches; 3x3 kernels over images large enough go the way of
//! `winograd.rs`.

use candle_core::{Device, Result, Tensor, bail};

use super::dot::Rows;
use super::lanes::{Job, LANES, Register, dispatch};
use super::panel::{BLOCK, Lane, Window, multiply, windows};
use super::winograd::{Images, convolve};
use super::{each, read};

/// Output channels and pixels computed by one piece of work: a block of the panels and of the weights they are multiplied
/// with fit a core's own cache together.
const CHANNELS: usize = 192;
const PIXELS: usize = 256;
/// Rows of the weight that go over all panels before the next do.
const STRIP: usize = 12;

/// Sizes of one convolution.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    height: usize,
    width: usize,
    kernel_height: usize,
    kernel_width: usize,
    stride: usize,
    padding: usize,
    out_width: usize,
}

/// See [`Kernels::conv2d`](crate::kernels::Kernels::conv2d).
pub(super) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (batch, inputs, height, width) = x.dims4()?;
    let (outputs, weight_inputs, kernel_height, kernel_width) = weight.dims4()?;
    let out_size = |size: usize, kernel: usize| {
        (size + 2 * padding)
            .checked_sub(kernel)
            .map(|room| room / stride + 1)
    };
    let (Some(out_height), Some(out_width)) = (
        out_size(height, kernel_height),
        out_size(width, kernel_width),
    ) else {
        bail!(
            "a {kernel_height}x{kernel_width} convolution does not fit {:?}",
            x.dims()
        );
    };
    if weight_inputs != inputs || bias.dims() != [outputs] {
        bail!(
            "a convolution of {:?} does not fit {:?}",
            weight.dims(),
            x.dims()
        );
    }
    let sizes = Sizes {
        height,
        width,
        kernel_height,
        kernel_width,
        stride,
        padding,
        out_width,
    };
    let area = out_height * out_width;
    let inner = inputs * kernel_height * kernel_width;
    let mut out = vec![0.0; batch * outputs * area];
    read([x, weight, bias], |[x, weight, bias]| {
        let images = Images {
            batch,
            inputs,
            outputs,
            height,
            width,
        };
        if [kernel_height, kernel_width, stride, padding] == [3, 3, 1, 1] && images.suit() {
            convolve(images, x, weight, bias, &mut out);
            return Ok(());
        }
        let images = x.chunks_exact(inputs * height * width);
        let work = images
            .zip(out.chunks_exact_mut(outputs * area))
            .flat_map(|(image, out)| {
                windows(out, area, CHANNELS, PIXELS)
                    .into_iter()
                    .map(move |out| (image, out))
            })
            .collect();
        each(work, batch * outputs * area * inner, |(image, out)| {
            dispatch(Piece {
                image,
                weight,
                bias,
                inner,
                sizes,
                out,
            });
        });
        Ok(())
    })?;
    Tensor::from_vec(out, (batch, outputs, out_height, out_width), &Device::Cpu)
}

/// Some output channels of some pixels.
struct Piece<'a> {
    image: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    inner: usize,
    sizes: Sizes,
    out: Window<'a>,
}

impl Job for Piece<'_> {
    #[inline(always)]
    fn run<R: Register>(mut self) {
        let (first, inner) = (self.out.row, self.inner);
        for (out, bias) in self.out.rows.iter_mut().zip(&self.bias[first..]) {
            out.fill(*bias);
        }
        let pixels = self.out.rows.first().map_or(0, |row| row.len());
        let views: Vec<_> = (0..pixels)
            .step_by(LANES)
            .map(|at| {
                let count = LANES.min(pixels - at);
                View::new(self.sizes, self.out.column + at, count)
            })
            .collect();
        let mut panels = vec![[0.0; LANES]; views.len() * BLOCK.min(inner)];
        for start in (0..inner).step_by(BLOCK) {
            let depth = BLOCK.min(inner - start);
            for (view, panel) in views.iter().zip(panels.chunks_exact_mut(depth)) {
                view.unfold(self.image, self.sizes, start, panel);
            }
            for strip in (0..self.out.rows.len()).step_by(STRIP) {
                let weight = Rows {
                    data: &self.weight[(first + strip) * inner..],
                    step: inner,
                    count: STRIP.min(self.out.rows.len() - strip),
                };
                for (i, panel) in panels.chunks_exact(depth).take(views.len()).enumerate() {
                    let at = i * LANES;
                    multiply::<R, f32>(weight, start, panel, |row, sums| {
                        for (out, sums) in self.out.rows[strip + row..].iter_mut().zip(sums) {
                            let end = out.len().min(at + LANES);
                            out[at..end]
                                .iter_mut()
                                .zip(sums)
                                .for_each(|(out, sum)| *out += sum);
                        }
                    });
                }
            }
        }
    }
}

/// What sixteen neighbouring output pixels see through each element of the kernel.
struct View {
    /// For each element, where in a channel the pixels' inputs are; beyond the channel where there is padding.
    places: Vec<[usize; LANES]>,
    /// For each element, whether these places follow each other.
    run: Vec<bool>,
}

impl View {
    /// Of `count` pixels from `first`; others see padding.
    fn new(sizes: Sizes, first: usize, count: usize) -> Self {
        let Sizes {
            height,
            width,
            kernel_height,
            kernel_width,
            stride,
            padding,
            out_width,
        } = sizes;
        let place = |pixel: usize, ky: usize, kx: usize| {
            let (y, x) = (pixel / out_width, pixel % out_width);
            let y = (y * stride + ky).checked_sub(padding)?;
            let x = (x * stride + kx).checked_sub(padding)?;
            (y < height && x < width).then_some(y * width + x)
        };
        let mut places = Vec::with_capacity(kernel_height * kernel_width);
        for ky in 0..kernel_height {
            for kx in 0..kernel_width {
                places.push(std::array::from_fn(|i| {
                    let seen = (i < count).then(|| place(first + i, ky, kx)).flatten();
                    seen.unwrap_or(height * width)
                }));
            }
        }
        let follows = |places: &[usize; LANES]| {
            let end = places[0] + LANES;
            end <= height * width && places.iter().zip(places[0]..).all(|(at, run)| *at == run)
        };
        Self {
            run: places.iter().map(follows).collect(),
            places,
        }
    }

    /// Writes rows of the unfolded image from `start` on: one for each channel and element of the kernel.
    #[inline(always)]
    fn unfold(&self, image: &[f32], sizes: Sizes, start: usize, panel: &mut [Lane]) {
        let (area, elements) = (sizes.height * sizes.width, self.places.len());
        let (mut channel, mut element) = (start / elements, start % elements);
        for lane in panel {
            let plane = &image[channel * area..][..area];
            let places = &self.places[element];
            if self.run[element] {
                lane.copy_from_slice(&plane[places[0]..][..LANES]);
            } else {
                for (x, at) in lane.iter_mut().zip(places) {
                    *x = plane.get(*at).copied().unwrap_or(0.0);
                }
            }
            element += 1;
            if element == elements {
                (channel, element) = (channel + 1, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{CpuKernels, Kernels};

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n)
            .map(|i| ((i * 31 + seed * 17) % 23) as f32 / 8.0 - 1.3)
            .collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// candle's own convolution is the oracle.
    #[test]
    fn agrees_with_candle_for_all_strides_paddings_and_sizes() {
        for (height, width) in [(1, 1), (4, 4), (5, 9), (16, 7)] {
            for (kernel, stride, padding) in [
                (1, 1, 0),
                (3, 1, 1),
                (3, 2, 1),
                (3, 2, 0),
                (5, 1, 2),
                (1, 2, 0),
            ] {
                if kernel > height + 2 * padding || kernel > width + 2 * padding {
                    continue;
                }
                let x = tensor(&[2, 3, height, width], 1);
                let weight = tensor(&[130, 3, kernel, kernel], 2);
                let bias = tensor(&[130], 3);
                let got = CpuKernels::new()
                    .conv2d(&x, &weight, &bias, stride, padding)
                    .unwrap();
                let bias = bias.reshape((1, 130, 1, 1)).unwrap();
                let expected = x
                    .conv2d(&weight, padding, stride, 1, 1)
                    .unwrap()
                    .broadcast_add(&bias)
                    .unwrap();
                assert_eq!(got.dims(), expected.dims());
                let gap = (got - expected)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap();
                assert!(
                    gap.to_scalar::<f32>().unwrap() < 1e-4,
                    "{height}x{width} kernel {kernel} stride {stride} padding {padding}"
                );
            }
        }
    }

    #[test]
    fn pieces_and_blocks_join_without_seams() {
        let (inputs, outputs, size) = (70, CHANNELS + 5, 19);
        assert!(size * size > PIXELS && inputs * 9 > BLOCK);
        let x = tensor(&[1, inputs, size, size], 1);
        let weight = tensor(&[outputs, inputs, 3, 3], 2);
        let bias = tensor(&[outputs], 3);
        let got = CpuKernels::new().conv2d(&x, &weight, &bias, 1, 1).unwrap();
        let expected = x
            .conv2d(&weight, 1, 1, 1, 1)
            .unwrap()
            .broadcast_add(&bias.reshape((1, outputs, 1, 1)).unwrap())
            .unwrap();
        let gap = (got - expected)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(gap.to_scalar::<f32>().unwrap() < 2e-3);
    }

    #[test]
    fn misfits_are_refused() {
        let kernels = CpuKernels::new();
        let (weight, bias) = (tensor(&[2, 3, 3, 3], 1), tensor(&[2], 1));
        assert!(
            kernels
                .conv2d(&tensor(&[1, 4, 8, 8], 1), &weight, &bias, 1, 1)
                .is_err()
        );
        assert!(
            kernels
                .conv2d(&tensor(&[1, 3, 2, 2], 1), &weight, &bias, 1, 0)
                .is_err()
        );
    }
}
