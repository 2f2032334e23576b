//! Group, layer and root-mean-square normalisation.

use candle_core::{Device, Result, Tensor, bail};

use super::lanes::widest;
use super::{EXPONENTIAL, MOVED, PIECE, math, pieces, read};
use crate::kernels::{Activation, Norm};

/// See [`Kernels::group_norm`](crate::kernels::Kernels::group_norm).
pub(super) fn group_norm(
    x: &Tensor,
    norm: Norm<'_>,
    groups: usize,
    activation: Activation,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    if groups == 0
        || !channels.is_multiple_of(groups)
        || norm.weight.dims() != [channels]
        || norm.bias.dims() != [channels]
    {
        bail!("group norm of {groups} groups does not fit {:?}", x.dims());
    }
    let area: usize = x.dims()[2..].iter().product();
    let size = channels / groups * area;
    let mut out = vec![0.0; x.elem_count()];
    if size > 0 {
        read([x, norm.weight, norm.bias], |[x, weight, bias]| {
            pieces(&mut out, size, x.len() * EXPONENTIAL, |i, out| {
                let x = &x[i * size..][..size];
                let first = i % groups * (channels / groups);
                let (weight, bias) = (&weight[first..], &bias[first..]);
                widest(
                    #[inline(always)]
                    || normalise(x, weight, bias, norm.eps, activation, area, out),
                );
            });
            Ok(())
        })?;
    }
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// One group: channels of `area` numbers.
#[inline(always)]
fn normalise(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f64,
    activation: Activation,
    area: usize,
    out: &mut [f32],
) {
    let (mean, scale) = moments(x, eps);
    let channels = out.chunks_exact_mut(area).zip(x.chunks_exact(area));
    for ((out, x), (weight, bias)) in channels.zip(weight.iter().zip(bias)) {
        let scale = scale * weight;
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - mean) * scale + bias;
        }
        math::activate(out, activation);
    }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(x: &Tensor, norm: Norm<'_>) -> Result<Tensor> {
    let width = x.dim(candle_core::D::Minus1)?;
    if width == 0 || norm.weight.dims() != [width] || norm.bias.dims() != [width] {
        bail!(
            "layer norm of {:?} does not fit {:?}",
            norm.weight.dims(),
            x.dims()
        );
    }
    let mut out = vec![0.0; x.elem_count()];
    let rows = (PIECE / width).max(1);
    read([x, norm.weight, norm.bias], |[x, weight, bias]| {
        pieces(&mut out, rows * width, x.len() * MOVED, |i, out| {
            widest(
                #[inline(always)]
                || {
                    let rows = x[i * rows * width..].chunks_exact(width);
                    for (out, x) in out.chunks_exact_mut(width).zip(rows) {
                        let (mean, scale) = moments(x, norm.eps);
                        let shifts = weight.iter().zip(bias);
                        for ((out, x), (weight, bias)) in out.iter_mut().zip(x).zip(shifts) {
                            *out = (x - mean) * scale * weight + bias;
                        }
                    }
                },
            );
        });
        Ok(())
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dim(candle_core::D::Minus1)?;
    if width == 0 || weight.dims() != [width] {
        bail!(
            "rms norm of {:?} does not fit {:?}",
            weight.dims(),
            x.dims()
        );
    }
    let mut out = vec![0.0; x.elem_count()];
    let rows = (PIECE / width).max(1);
    read([x, weight], |[x, weight]| {
        pieces(&mut out, rows * width, x.len() * MOVED, |i, out| {
            for (out, x) in out
                .chunks_exact_mut(width)
                .zip(x[i * rows * width..].chunks_exact(width))
            {
                let mean = squares(x, 0.0) / width as f64;
                let scale = (1.0 / (mean + eps).sqrt()) as f32;
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * scale * weight;
                }
            }
        });
        Ok(())
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// Mean, and the factor that brings the variance (around that mean) to 1.
#[inline(always)]
fn moments(x: &[f32], eps: f64) -> (f32, f32) {
    // Blocks keep the `f32` sums short, so that large images lose no precision.
    const BLOCK: usize = 4096;
    let n = x.len() as f64;
    let mean = (x
        .chunks(BLOCK)
        .map(|x| f64::from(math::sum(x)))
        .sum::<f64>()
        / n) as f32;
    let variance = squares(x, mean) / n;
    (mean, (1.0 / (variance + eps).sqrt()) as f32)
}

/// Sum of squares of the distances to `mean`.
#[inline(always)]
fn squares(x: &[f32], mean: f32) -> f64 {
    let mut squares = [0.0_f32; 256];
    let mut total = 0.0_f64;
    for x in x.chunks(squares.len()) {
        let squares = &mut squares[..x.len()];
        squares
            .iter_mut()
            .zip(x)
            .for_each(|(square, x)| *square = (x - mean) * (x - mean));
        total += f64::from(math::sum(squares));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{CpuKernels, Kernels};

    fn tensor(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec(
            (0..n)
                .map(|i| ((i * 37 % 101) as f32).sin() + 3.0)
                .collect(),
            shape,
            &Device::Cpu,
        )
        .unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn group_norm_follows_its_definition() {
        let (channels, groups, area) = (6, 3, 20);
        let x = tensor(&[2, channels, 4, 5]);
        let (weight, bias) = (tensor(&[channels]), tensor(&[channels]));
        let norm = Norm {
            weight: &weight,
            bias: &bias,
            eps: 1e-5,
        };
        let got = values(
            &CpuKernels::new()
                .group_norm(&x, norm, groups, Activation::Identity)
                .unwrap(),
        );
        let (x, weight, bias) = (values(&x), values(&weight), values(&bias));
        let size = channels / groups * area;
        for (i, got) in got.iter().enumerate() {
            let group = &x[i / size * size..][..size];
            let mean = group.iter().map(|x| f64::from(*x)).sum::<f64>() / size as f64;
            let variance = group
                .iter()
                .map(|x| (f64::from(*x) - mean).powi(2))
                .sum::<f64>()
                / size as f64;
            let c = i / area % channels;
            let expected = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt()
                * f64::from(weight[c])
                + f64::from(bias[c]);
            assert!(
                (f64::from(*got) - expected).abs() < 2e-5,
                "element {i}: {got} for {expected}"
            );
        }
    }

    #[test]
    fn layer_norm_follows_its_definition() {
        let x = tensor(&[3, 7]);
        let (weight, bias) = (tensor(&[7]), tensor(&[7]));
        let norm = Norm {
            weight: &weight,
            bias: &bias,
            eps: 1e-5,
        };
        let got = values(&CpuKernels::new().layer_norm(&x, norm).unwrap());
        let (x, weight, bias) = (values(&x), values(&weight), values(&bias));
        for (i, got) in got.iter().enumerate() {
            let row = &x[i / 7 * 7..][..7];
            let mean = row.iter().sum::<f32>() / 7.0;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 7.0;
            let expected = (x[i] - mean) / (variance + 1e-5).sqrt() * weight[i % 7] + bias[i % 7];
            assert!(
                (got - expected).abs() < 1e-5,
                "element {i}: {got} for {expected}"
            );
        }
    }

    /// candle's own operations are the oracle.
    #[test]
    fn rms_norm_agrees_with_candle() {
        for (rows, width) in [(1, 1), (3, 7), (5, 300)] {
            let (x, weight) = (tensor(&[rows, width]), tensor(&[width]));
            let got = values(&CpuKernels::new().rms_norm(&x, &weight, 1e-6).unwrap());
            let mean = x.sqr().unwrap().mean_keepdim(1).unwrap();
            let root = (mean + 1e-6).unwrap().sqrt().unwrap();
            let expected = x.broadcast_div(&root).unwrap();
            let expected = values(&expected.broadcast_mul(&weight).unwrap());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "{got} for {expected}");
            }
        }
    }

    #[test]
    fn misfits_are_refused() {
        let weight = tensor(&[4]);
        let norm = Norm {
            weight: &weight,
            bias: &weight,
            eps: 1e-5,
        };
        let kernels = CpuKernels::new();
        assert!(
            kernels
                .group_norm(&tensor(&[1, 4, 2, 2]), norm, 3, Activation::Silu)
                .is_err()
        );
        assert!(
            kernels
                .group_norm(&tensor(&[1, 6, 2, 2]), norm, 3, Activation::Silu)
                .is_err()
        );
        assert!(kernels.layer_norm(&tensor(&[2, 5]), norm).is_err());
        assert!(kernels.rms_norm(&tensor(&[2, 5]), &weight, 1e-5).is_err());
    }
}
