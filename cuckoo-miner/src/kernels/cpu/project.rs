//! Linear layers as products of their rows with the weight, which was laid out as panels ahead.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::dot::Rows;
use super::lanes::{Job, LANES, Register, dispatch};
use super::number::{Number, narrowest};
use super::panel::{BLOCK, Lane, Window, multiply, multiply_row, turn, windows};
use super::{each, math, pieces, read, read_as};
use crate::kernels::{Activation, Packed};

/// Rows and outputs computed by one piece of work: what it reads of both fits a core's own cache.
const ROWS: usize = 96;
const OUTPUTS: usize = 96;
/// Rows from which a panel of 16 bits is widened for all of them together, rather than for as many as there are registers
/// for at once.
const WIDEN_FROM: usize = 16;
/// Panels that a single row goes over at once.
const TOGETHER: usize = 4;

/// See [`Kernels::pack`](crate::kernels::Kernels::pack).
pub(super) fn pack(weight: &Tensor) -> Result<Packed> {
    let (outputs, inputs) = weight.dims2()?;
    if outputs == 0 || inputs == 0 {
        bail!("a linear layer of {inputs} inputs and {outputs} outputs");
    }
    let count = outputs.div_ceil(LANES);
    let mut panels = vec![0.0; count * inputs * LANES];
    let cost = panels.len();
    read([weight], |[weight]| {
        pieces(&mut panels, inputs * LANES, cost, |i, panel| {
            let (lanes, _) = panel.as_chunks_mut();
            turn(&weight[i * LANES * inputs..], inputs, 0, lanes);
        });
        Ok(())
    })?;
    let kind = narrowest(&panels);
    let panels = Tensor::from_vec(panels, (count, inputs, LANES), &Device::Cpu)?;
    Ok(Packed {
        data: panels.to_dtype(kind)?,
        outputs,
        inputs,
    })
}

/// See [`Kernels::rows`](crate::kernels::Kernels::rows).
pub(super) fn rows(weight: &Packed, rows: &[u32]) -> Result<Tensor> {
    match weight.data.dtype() {
        DType::F16 => rows_of::<f16>(weight, rows),
        DType::BF16 => rows_of::<bf16>(weight, rows),
        _ => rows_of::<f32>(weight, rows),
    }
}

fn rows_of<W: Number>(weight: &Packed, rows: &[u32]) -> Result<Tensor> {
    let inputs = weight.inputs;
    let mut out = Vec::with_capacity(rows.len() * inputs);
    read_as::<W, _>(&[&weight.data], |panels| {
        let (lanes, _) = panels[0].as_chunks::<LANES>();
        for row in rows {
            let row = *row as usize;
            if row >= weight.outputs {
                bail!("row {row} was asked of a weight of {}", weight.outputs);
            }
            let panel = &lanes[row / LANES * inputs..][..inputs];
            out.extend(panel.iter().map(|lane| lane[row % LANES].widen()));
        }
        Ok(())
    })?;
    Tensor::from_vec(out, (rows.len(), inputs), &Device::Cpu)
}

/// See [`Kernels::project`](crate::kernels::Kernels::project).
pub(super) fn project(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    match weight.data.dtype() {
        DType::F16 => project_by::<f16>(x, weight, bias, activation),
        DType::BF16 => project_by::<bf16>(x, weight, bias, activation),
        _ => project_by::<f32>(x, weight, bias, activation),
    }
}

fn project_by<W: Number>(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, inner) = x.dims2()?;
    let (outputs, inputs) = (weight.outputs, weight.inputs);
    if inputs != inner || bias.is_some_and(|bias| bias.dims() != [outputs]) {
        bail!(
            "a projection of {inputs} inputs to {outputs} was given {:?}",
            x.dims()
        );
    }
    let mut out = vec![0.0; rows * outputs];
    read([x, bias.unwrap_or(x)], |[x, bias_of]| {
        read_as::<W, _>(&[&weight.data], |panels| {
            let (panels, _) = panels[0].as_chunks();
            let mut work = windows(&mut out, outputs, ROWS, OUTPUTS);
            // All rows go over a part of the weight before the next part is read, since the weight is what is large.
            work.sort_by_key(|window| window.column);
            each(work, rows * outputs * inner, |out| {
                dispatch(Piece {
                    x,
                    panels,
                    bias: bias.is_some().then_some(bias_of),
                    activation,
                    inner,
                    out,
                });
            });
            Ok(())
        })
    })?;
    Tensor::from_vec(out, (rows, outputs), &Device::Cpu)
}

/// Some outputs of some rows.
struct Piece<'a, W> {
    x: &'a [f32],
    panels: &'a [[W; LANES]],
    bias: Option<&'a [f32]>,
    activation: Activation,
    inner: usize,
    out: Window<'a>,
}

impl<W: Number> Job for Piece<'_, W> {
    #[inline(always)]
    fn run<R: Register>(mut self) {
        let (first, inner) = (self.out.column, self.inner);
        let outputs = self.out.rows.first().map_or(0, |row| row.len());
        if let Some(bias) = self.bias {
            for out in &mut self.out.rows {
                out.copy_from_slice(&bias[first..][..outputs]);
            }
        }
        let count = self.out.rows.len();
        let x = Rows {
            data: &self.x[self.out.row * inner..][..count * inner],
            step: inner,
            count: count - count % 2,
        };
        let first = first / LANES;
        // A part of a panel in f32, for all rows that go over it.
        let widens = W::DTYPE != DType::F32 && x.count >= WIDEN_FROM;
        let mut room = vec![[0.0; LANES]; if widens { BLOCK.min(inner) } else { 0 }];
        for start in (0..inner).step_by(BLOCK) {
            let depth = BLOCK.min(inner - start);
            let panel = |i: usize| &self.panels[(first + i) * inner + start..][..depth];
            for (i, at) in (0..outputs).step_by(LANES).enumerate() {
                if x.count == 0 {
                    break;
                }
                let mut store = |row: usize, sums: &[Lane]| {
                    for (out, sums) in self.out.rows[row..].iter_mut().zip(sums) {
                        add(&mut out[at..], sums);
                    }
                };
                match widens {
                    true => {
                        let panel = W::wide::<R>(panel(i), &mut room);
                        multiply::<R, f32>(x, start, panel, &mut store);
                    }
                    false => multiply::<R, W>(x, start, panel(i), &mut store),
                }
            }
            if x.count == count {
                continue;
            }
            // The odd row, on several panels at once: one alone would wait for each of its sums.
            let x = &x.data[x.count * inner + start..][..depth];
            let out = &mut self.out.rows[count - 1];
            let panels = outputs.div_ceil(LANES);
            let mut i = 0;
            while i + TOGETHER <= panels {
                let sums = multiply_row::<R, W, TOGETHER>(x, std::array::from_fn(|n| panel(i + n)));
                for sums in &sums {
                    add(&mut out[i * LANES..], sums);
                    i += 1;
                }
            }
            while i < panels {
                let [sums] = multiply_row::<R, W, 1>(x, [panel(i)]);
                add(&mut out[i * LANES..], &sums);
                i += 1;
            }
        }
        // While they are in a cache.
        for out in &mut self.out.rows {
            math::activate(out, self.activation);
        }
    }
}

/// Adds the sums of a panel to the outputs from its first on, of which there may be fewer.
#[inline(always)]
fn add(out: &mut [f32], sums: &Lane) {
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
}

#[cfg(test)]
mod tests;
