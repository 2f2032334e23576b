//! Kernels for processors.
//!
//! Work is cut into pieces whose sizes depend on the shapes alone, and each number is computed by one thread in an
//! order of its own. So the result depends neither on the number of threads nor on the processor.

mod add;
mod attend;
mod attention;
mod conv;
mod dot;
mod lanes;
mod math;
mod norm;
mod number;
mod paged;
mod panel;
mod project;
mod rotary;
mod whole;
mod winograd;

use candle_core::{Device, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::{Activation, Heads, Kernels, Norm, Packed, Span};

/// The CPU implementation of [`Kernels`], in `f32`, on the threads of the current rayon pool.
#[derive(Debug)]
pub struct CpuKernels {
    device: Device,
}

impl CpuKernels {
    /// Kernels for this machine's processor.
    pub fn new() -> Self {
        Self {
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
        NAME
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

    fn pack(&self, weight: &Tensor) -> Result<Packed> {
        project::pack(weight)
    }

    fn project(
        &self,
        x: &Tensor,
        weight: &Packed,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        project::project(x, weight, bias, activation)
    }

    fn rows(&self, weight: &Packed, rows: &[u32]) -> Result<Tensor> {
        project::rows(weight, rows)
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

    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        add::add(x, y)
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let mut out = read([x], |[x]| Ok(x.to_vec()))?;
        pieces(&mut out, PIECE, x.elem_count() * EXPONENTIAL, |_, out| {
            lanes::widest(
                #[inline(always)]
                || math::activate(out, activation),
            );
        });
        Tensor::from_vec(out, x.shape(), &self.device)
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        gated(x, Activation::Gelu, |[value, gate]| (gate, value))
    }

    fn text_name(&self) -> &str {
        TEXT_NAME
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        norm::rms_norm(x, weight, eps)
    }

    fn rotate(&self, x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        rotary::rotate(x, heads, cos, sin)
    }

    fn gated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        gated(x, activation, |[gate, value]| (gate, value))
    }

    fn attend(&self, q: &Tensor, spans: &[Span<'_>], heads: Heads) -> Result<Tensor> {
        paged::attend(q, spans, heads)
    }

    fn attend_all(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        lengths: &[usize],
        heads: Heads,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        whole::attend_all([q, k, v], lengths, heads, bias)
    }
}

/// The arithmetic of the layers for pictures, which no property of the processor changes: see `panel.rs`.
const NAME: &str = "cpu-f32-2";
/// The same of those for texts, whose attention sums in sixteen lanes: see `lanes.rs`.
const TEXT_NAME: &str = "cpu-f32-text-2";

/// Each row's halves, of which `order` says which is the gate and which the value: `activation(gate) * value`.
fn gated(
    x: &Tensor,
    activation: Activation,
    order: impl Fn([&[f32]; 2]) -> (&[f32], &[f32]) + Sync,
) -> Result<Tensor> {
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
                let (first, second) = x.split_at(width);
                let (gate, value) = order([first, second]);
                out.copy_from_slice(gate);
                lanes::widest(
                    #[inline(always)]
                    || math::activate(out, activation),
                );
                out.iter_mut()
                    .zip(value)
                    .for_each(|(out, value)| *out *= value);
            }
        });
        Ok(())
    })?;
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Elements in one piece of element-wise work.
const PIECE: usize = 16 * 1024;
/// What an exponential costs, in multiplications.
const EXPONENTIAL: usize = 8;
/// What a number costs that is read from memory and written there, in multiplications.
const MOVED: usize = 12;
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

/// Does all pieces of work, on several threads when `cost` (in multiplications) is worth it.
fn each<T: Send>(work: Vec<T>, cost: usize, f: impl Fn(T) + Sync + Send) {
    if cost < PARALLEL_FROM || work.len() < 2 {
        work.into_iter().for_each(f);
    } else {
        work.into_par_iter().for_each(f);
    }
}

/// Calls `f` with the elements of each tensor in row-major order, borrowed where the tensor already has that layout.
fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    read_as(&tensors, |slices| f(std::array::from_fn(|i| slices[i])))
}

/// As [`read`], for any number of tensors and kind of number.
fn read_as<W: WithDType, R>(
    tensors: &[&Tensor],
    f: impl FnOnce(&[&[W]]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors
        .iter()
        .map(|tensor| tensor.contiguous())
        .collect::<Result<Vec<_>>>()?;
    read_spans(&tensors, f)
}

/// Calls `f` with what lies from the first element of each tensor to its last.
fn read_spans<W: WithDType, R>(
    tensors: &[Tensor],
    f: impl FnOnce(&[&[W]]) -> Result<R>,
) -> Result<R> {
    let locked: Vec<_> = tensors
        .iter()
        .map(|tensor| tensor.storage_and_layout())
        .collect();
    let slices = locked
        .iter()
        .map(|(storage, layout)| {
            let Storage::Cpu(storage) = &**storage else {
                bail!("the CPU kernels were given a tensor of another device");
            };
            if layout.shape().elem_count() == 0 {
                return Ok(&[][..]);
            }
            let steps = layout.dims().iter().zip(layout.stride());
            let last: usize = steps.map(|(size, step)| (size - 1) * step).sum();
            Ok(&storage.as_slice::<W>()?[layout.start_offset()..][..=last])
        })
        .collect::<Result<Vec<_>>>()?;
    f(&slices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_come_first() {
        let x = Tensor::new(&[[1.0_f32, -2.0, 3.0, 5.0]], &Device::Cpu).unwrap();
        let kernels = CpuKernels::new();
        let gated = |activation| {
            let out = kernels.gated(&x, activation).unwrap();
            out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(gated(Activation::Identity), [3.0, -10.0]);
        assert_eq!(gated(Activation::Relu), [3.0, 0.0]);
        assert!((gated(Activation::Silu)[0] - 3.0 * 0.731_058_6).abs() < 1e-6);
        let odd = Tensor::new(&[1.0_f32, 2.0, 3.0], &Device::Cpu).unwrap();
        assert!(kernels.gated(&odd, Activation::Silu).is_err());
    }
}
