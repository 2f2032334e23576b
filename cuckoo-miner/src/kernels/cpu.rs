//! Kernels for processors: matrix products by the `gemm` crate, everything around them here.
//!
//! Work is cut into pieces whose sizes depend on the shapes alone, and each piece is computed by one thread in a
//! fixed order. So the result does not depend on the number of threads.

mod attention;
mod conv;
mod math;
mod matmul;
mod norm;

use candle_core::{Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::{Activation, Kernels, Norm};

/// The CPU implementation of [`Kernels`], in `f32`, on the threads of the current rayon pool.
#[derive(Debug)]
pub struct CpuKernels {
    name: String,
    device: Device,
}

impl CpuKernels {
    /// Kernels for this machine's processor.
    pub fn new() -> Self {
        Self {
            name: format!("cpu-f32-{}-1", matmul::instruction_set()),
            device: Device::Cpu,
        }
    }
}

impl Default for CpuKernels {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernels for CpuKernels {
    fn name(&self) -> &str {
        &self.name
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn conv2d(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Tensor> {
        conv::conv2d(x, weight, bias, stride, padding)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (outputs, inputs) = weight.dims2()?;
        let mut shape = x.dims().to_vec();
        let rows = match shape.pop() {
            Some(last) if last == inputs => shape.iter().product::<usize>(),
            _ => bail!("a linear layer of {inputs} inputs was given {:?}", x.dims()),
        };
        shape.push(outputs);
        const ROWS: usize = 64;
        let mut out = vec![0.0; rows * outputs];
        read([x, weight, bias.unwrap_or(weight)], |[x, weight, shift]| {
            pieces(
                &mut out,
                ROWS * outputs,
                rows * outputs * inputs,
                |i, out| {
                    if bias.is_some() {
                        out.chunks_exact_mut(outputs)
                            .for_each(|row| row.copy_from_slice(shift));
                    }
                    let shape = matmul::Shape {
                        rows: out.len() / outputs,
                        columns: outputs,
                        inner: inputs,
                    };
                    let x = matmul::Matrix::rows(&x[i * ROWS * inputs..], inputs);
                    matmul::add_product(
                        shape,
                        x,
                        matmul::Matrix::columns(weight, inputs),
                        out,
                        outputs,
                    );
                },
            );
            Ok(())
        })?;
        Tensor::from_vec(out, shape, &self.device)
    }

    fn group_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        groups: usize,
        activation: Activation,
    ) -> Result<Tensor> {
        norm::group_norm(x, norm, groups, activation)
    }

    fn layer_norm(&self, x: &Tensor, norm: Norm<'_>) -> Result<Tensor> {
        norm::layer_norm(x, norm)
    }

    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        causal: bool,
    ) -> Result<Tensor> {
        attention::attention(q, k, v, heads, causal)
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let mut out = read([x], |[x]| Ok(x.to_vec()))?;
        pieces(&mut out, PIECE, x.elem_count() * EXPONENTIAL, |_, out| {
            math::activate(out, activation)
        });
        Tensor::from_vec(out, x.shape(), &self.device)
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let width = match shape.last_mut() {
            Some(last) if *last > 0 && *last % 2 == 0 => {
                *last /= 2;
                *last
            }
            _ => bail!("a gated layer needs an even width, got {:?}", x.dims()),
        };
        let mut out = vec![0.0; x.elem_count() / 2];
        let rows = (PIECE / width).max(1);
        read([x], |[x]| {
            pieces(&mut out, rows * width, x.len() * EXPONENTIAL, |i, out| {
                for (out, x) in out
                    .chunks_exact_mut(width)
                    .zip(x[i * rows * width * 2..].chunks_exact(width * 2))
                {
                    let (value, gate) = x.split_at(width);
                    out.copy_from_slice(gate);
                    math::activate(out, Activation::Gelu);
                    out.iter_mut()
                        .zip(value)
                        .for_each(|(out, value)| *out *= value);
                }
            });
            Ok(())
        })?;
        Tensor::from_vec(out, shape, &self.device)
    }
}

/// Elements in one piece of element-wise work.
const PIECE: usize = 16 * 1024;
/// What an exponential costs, in multiplications.
const EXPONENTIAL: usize = 8;
/// Multiplications below which waking other threads costs more than it saves.
const PARALLEL_FROM: usize = 4 << 20;

/// Calls `f(i, piece)` for each piece of `size` elements of `out` (the last may be shorter), on several threads when
/// `cost` (in multiplications) is worth it.
fn pieces(out: &mut [f32], size: usize, cost: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let size = size.max(1);
    if cost < PARALLEL_FROM || out.len() <= size {
        out.chunks_mut(size)
            .enumerate()
            .for_each(|(i, piece)| f(i, piece));
    } else {
        out.par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, piece)| f(i, piece));
    }
}

/// Calls `f` with the elements of each tensor in row-major order, borrowed where the tensor already has that layout.
fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let contiguous = tensors
        .iter()
        .map(|tensor| tensor.contiguous())
        .collect::<Result<Vec<_>>>()?;
    let locked: Vec<_> = contiguous
        .iter()
        .map(|tensor| tensor.storage_and_layout())
        .collect();
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&locked) {
        let Storage::Cpu(storage) = &**storage else {
            bail!("the CPU kernels were given a tensor of another device");
        };
        let start = layout.start_offset();
        *slice = &storage.as_slice::<f32>()?[start..start + layout.shape().elem_count()];
    }
    f(slices)
}
