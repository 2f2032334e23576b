//! Linear layers as products of the weights with panels of rows.

use candle_core::{Device, Result, Tensor, bail};

use super::lanes::{Job, LANES, Register, dispatch};
use super::panel::{BLOCK, Rows, Window, multiply, turn, windows};
use super::{each, read};

/// Rows and outputs computed by one piece of work, as in a convolution.
const ROWS: usize = 256;
const OUTPUTS: usize = 192;
/// Rows of the weight that go over all panels before the next do.
const STRIP: usize = 12;

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = match shape.pop() {
        Some(last) if last == inputs => shape.iter().product::<usize>(),
        _ => bail!("a linear layer of {inputs} inputs was given {:?}", x.dims()),
    };
    if bias.is_some_and(|bias| bias.dims() != [outputs]) {
        bail!("a linear layer of {outputs} outputs was given another bias");
    }
    shape.push(outputs);
    let mut out = vec![0.0; rows * outputs];
    read([x, weight, bias.unwrap_or(weight)], |[x, weight, shift]| {
        let work = windows(&mut out, outputs, ROWS, OUTPUTS);
        each(work, rows * outputs * inputs, |out| {
            dispatch(Piece {
                x,
                weight,
                bias: bias.is_some().then_some(shift),
                inputs,
                out,
            });
        });
        Ok(())
    })?;
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Some outputs of some rows.
struct Piece<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    inputs: usize,
    out: Window<'a>,
}

impl Job for Piece<'_> {
    #[inline(always)]
    fn run<R: Register>(mut self) {
        let (first, inputs) = (self.out.column, self.inputs);
        let outputs = self.out.rows.first().map_or(0, |row| row.len());
        if let Some(bias) = self.bias {
            for out in &mut self.out.rows {
                out.copy_from_slice(&bias[first..][..outputs]);
            }
        }
        let x = &self.x[self.out.row * inputs..][..self.out.rows.len() * inputs];
        let count = self.out.rows.len().div_ceil(LANES);
        let mut panels = vec![[0.0; LANES]; count * BLOCK.min(inputs)];
        for start in (0..inputs).step_by(BLOCK) {
            let depth = BLOCK.min(inputs - start);
            let rows = x.chunks(LANES * inputs);
            for (rows, panel) in rows.zip(panels.chunks_exact_mut(depth)) {
                turn(rows, inputs, start, panel);
            }
            for strip in (0..outputs).step_by(STRIP) {
                let weight = Rows {
                    data: &self.weight[(first + strip) * inputs..],
                    step: inputs,
                    count: STRIP.min(outputs - strip),
                };
                let panels = panels.chunks_exact(depth);
                for (panel, out) in panels.zip(self.out.rows.chunks_mut(LANES)) {
                    multiply::<R>(weight, start, panel, |output, sums| {
                        for (row, out) in out.iter_mut().enumerate() {
                            let out = &mut out[strip + output..][..sums.len()];
                            for (out, sums) in out.iter_mut().zip(sums) {
                                *out += sums[row];
                            }
                        }
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n)
            .map(|i| ((i * 31 + seed * 17) % 23) as f32 / 8.0 - 1.3)
            .collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// candle's own product is the oracle.
    #[test]
    fn agrees_with_candle_for_all_sizes() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (3, 7, 5),
            (17, 40, 13),
            (ROWS + 3, BLOCK + 9, 20),
            (5, 30, OUTPUTS + 7),
        ] {
            let (x, weight) = (tensor(&[rows, inputs], 1), tensor(&[outputs, inputs], 2));
            let bias = tensor(&[outputs], 3);
            let expected = x.matmul(&weight.t().unwrap()).unwrap();
            let shifted = expected.broadcast_add(&bias).unwrap();
            for (bias, expected) in [(None, expected), (Some(&bias), shifted)] {
                let got = linear(&x, &weight, bias).unwrap();
                let gap = (got - expected).unwrap().abs().unwrap();
                let gap = gap.flatten_all().unwrap().max(0).unwrap();
                let gap = gap.to_scalar::<f32>().unwrap();
                assert!(gap < 1e-3, "{rows} rows, {inputs} to {outputs}: {gap}");
            }
        }
    }

    #[test]
    fn misfits_are_refused() {
        let weight = tensor(&[4, 3], 1);
        assert!(linear(&tensor(&[2, 5], 1), &weight, None).is_err());
        assert!(linear(&tensor(&[2, 3], 1), &weight, Some(&tensor(&[3], 1))).is_err());
    }
}
