//! Convolution as matrix products over unfolded patches.

use candle_core::{Device, Result, Tensor, bail};

use super::matmul::{self, Matrix, Shape};
use super::{pieces, read};

/// Elements of unfolded patches held at once (32 MiB): larger images are done in bands of pixels.
const UNFOLDED: usize = 8 << 20;
/// Output channels computed by one piece of work.
const CHANNELS: usize = 128;

/// Sizes of one convolution.
#[derive(Debug, Clone, Copy)]
struct Window {
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
    let window = Window {
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
        out.chunks_mut(area)
            .enumerate()
            .for_each(|(i, out)| out.fill(bias[i % outputs]));
        let band = (UNFOLDED / inner / 16 * 16).clamp(16, area.max(16));
        let pointwise = kernel_height * kernel_width == 1 && stride == 1 && padding == 0;
        let mut unfolded = vec![0.0; if pointwise { 0 } else { inner * band.min(area) }];
        for (image, out) in x
            .chunks_exact(inputs * height * width)
            .zip(out.chunks_exact_mut(outputs * area))
        {
            for start in (0..area).step_by(band) {
                let pixels = band.min(area - start);
                let patches = if pointwise {
                    Matrix::rows(&image[start..], area)
                } else {
                    unfold(
                        image,
                        window,
                        start,
                        pixels,
                        &mut unfolded[..inner * pixels],
                    );
                    Matrix::rows(&unfolded, pixels)
                };
                pieces(out, CHANNELS * area, outputs * inner * pixels, |i, out| {
                    let shape = Shape {
                        rows: out.len() / area,
                        columns: pixels,
                        inner,
                    };
                    let weight = Matrix::rows(&weight[i * CHANNELS * inner..], inner);
                    matmul::add_product(shape, weight, patches, &mut out[start..], area);
                });
            }
        }
        Ok(())
    })?;
    Tensor::from_vec(out, (batch, outputs, out_height, out_width), &Device::Cpu)
}

/// Writes, for output pixels `start..start + pixels`, what each element of the kernel sees: one row for each channel
/// and kernel position, one column for each pixel.
fn unfold(image: &[f32], window: Window, start: usize, pixels: usize, unfolded: &mut [f32]) {
    let Window {
        height,
        width,
        kernel_height,
        kernel_width,
        stride,
        padding,
        out_width,
    } = window;
    let positions = kernel_height * kernel_width;
    pieces(
        unfolded,
        positions * pixels,
        unfolded.len(),
        |channel, rows| {
            let plane = &image[channel * height * width..][..height * width];
            for (position, row) in rows.chunks_exact_mut(pixels).enumerate() {
                let (ky, kx) = (position / kernel_width, position % kernel_width);
                // Outputs x whose input x * stride + kx - padding lies inside the image.
                let first = padding.saturating_sub(kx).div_ceil(stride);
                let end = (width + padding)
                    .saturating_sub(kx)
                    .div_ceil(stride)
                    .min(out_width);
                let mut done = 0;
                while done < pixels {
                    let (y, x) = ((start + done) / out_width, (start + done) % out_width);
                    let run = (out_width - x).min(pixels - done);
                    let out = &mut row[done..done + run];
                    done += run;
                    let source = (y * stride + ky)
                        .checked_sub(padding)
                        .filter(|source| *source < height);
                    let (from, to) = (first.clamp(x, x + run), end.clamp(x, x + run));
                    let (Some(source), true) = (source, from < to) else {
                        out.fill(0.0);
                        continue;
                    };
                    let line = &plane[source * width..][..width];
                    out[..from - x].fill(0.0);
                    out[to - x..].fill(0.0);
                    let inside = &mut out[from - x..to - x];
                    let begin = from * stride + kx - padding;
                    if stride == 1 {
                        inside.copy_from_slice(&line[begin..begin + inside.len()]);
                    } else {
                        inside
                            .iter_mut()
                            .zip(line[begin..].iter().step_by(stride))
                            .for_each(|(out, x)| *out = *x);
                    }
                }
            }
        },
    );
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
    fn bands_join_without_seams() {
        let (inputs, size) = (512, 60);
        assert!(
            inputs * 9 * size * size > UNFOLDED,
            "large enough for two bands"
        );
        let x = tensor(&[1, inputs, size, size], 1);
        let weight = tensor(&[2, inputs, 3, 3], 2);
        let bias = tensor(&[2], 3);
        let got = CpuKernels::new().conv2d(&x, &weight, &bias, 1, 1).unwrap();
        let expected = x
            .conv2d(&weight, 1, 1, 1, 1)
            .unwrap()
            .broadcast_add(&bias.reshape((1, 2, 1, 1)).unwrap())
            .unwrap();
        let gap = (got - expected)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(gap.to_scalar::<f32>().unwrap() < 2e-2);
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
