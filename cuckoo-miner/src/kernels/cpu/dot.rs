//! Products of rows with rows, each of them the same bits whatever is computed beside it.
//!
//! A general matrix product picks its order of additions by the sizes of the matrices, so a text's numbers would change
//! with the texts that share its batch (He, "Defeating nondeterminism in LLM inference", Thinking Machines, 2025). Here
//! every product is summed in the same sixteen lanes; how many are computed at once is a matter of speed alone.

use candle_core::{Device, Result, Tensor, bail};

use super::lanes::{Job, LANES, Lanes, dispatch};
use super::{pieces, read};

/// Rows of equal width, `step` elements from one to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) step: usize,
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, i: usize, width: usize) -> &'a [f32] {
        &self.data[i * self.step..][..width]
    }
}

/// Where products go: that of `x[i]` and `weight[j]` to `i * x_step + j * weight_step`.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) x_step: usize,
    pub(super) weight_step: usize,
}

/// See [`Kernels::project`](crate::kernels::Kernels::project).
pub(super) fn project(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    /// Rows of the weight in one piece of work.
    const WEIGHTS: usize = 64;
    let (rows, inner) = x.dims2()?;
    let (outputs, inputs) = weight.dims2()?;
    if inputs != inner || inner == 0 || bias.is_some_and(|bias| bias.dims() != [outputs]) {
        bail!(
            "a projection of {:?} was given {:?}",
            weight.dims(),
            x.dims()
        );
    }
    // Row after row of the weight, so that each thread writes a part of its own.
    let mut turned = vec![0.0; rows * outputs];
    let mut out = vec![0.0; if rows == 1 { 0 } else { rows * outputs }];
    read([x, weight, bias.unwrap_or(weight)], |[x, weight, shift]| {
        let x = Rows {
            data: x,
            step: inner,
            count: rows,
        };
        let cost = rows * outputs * inner;
        pieces(&mut turned, WEIGHTS * rows, cost, |i, turned| {
            let weight = Rows {
                data: &weight[i * WEIGHTS * inner..],
                step: inner,
                count: turned.len() / rows,
            };
            let grid = Grid {
                out: turned,
                x_step: 1,
                weight_step: rows,
            };
            dispatch(Products {
                x,
                weight,
                inner,
                grid,
            });
        });
        if bias.is_some() {
            for (products, shift) in turned.chunks_exact_mut(rows.max(1)).zip(shift) {
                products.iter_mut().for_each(|product| *product += shift);
            }
        }
        for (i, out) in out.chunks_exact_mut(outputs.max(1)).enumerate() {
            let column = turned.iter().skip(i).step_by(rows);
            out.iter_mut().zip(column).for_each(|(out, x)| *out = *x);
        }
        Ok(())
    })?;
    let out = if rows == 1 { turned } else { out };
    Tensor::from_vec(out, (rows, outputs), &Device::Cpu)
}

struct Products<'a> {
    x: Rows<'a>,
    weight: Rows<'a>,
    inner: usize,
    grid: Grid<'a>,
}

impl Job for Products<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        products::<L>(self.x, self.weight, self.inner, &mut self.grid);
    }
}

/// The product of every row of `x` with every row of `weight`.
#[inline(always)]
pub(super) fn products<L: Lanes>(x: Rows<'_>, weight: Rows<'_>, inner: usize, grid: &mut Grid<'_>) {
    let mut j = 0;
    while j + 4 <= weight.count {
        let mut i = 0;
        if L::MANY {
            while i + 4 <= x.count {
                tile::<L, 4, 4>(x, i, weight, j, inner, grid);
                i += 4;
            }
        }
        while i + 2 <= x.count {
            if L::MANY {
                tile::<L, 2, 4>(x, i, weight, j, inner, grid);
            } else {
                tile::<L, 2, 2>(x, i, weight, j, inner, grid);
                tile::<L, 2, 2>(x, i, weight, j + 2, inner, grid);
            }
            i += 2;
        }
        if i < x.count {
            tile::<L, 1, 4>(x, i, weight, j, inner, grid);
        }
        j += 4;
    }
    while j < weight.count {
        for i in 0..x.count {
            tile::<L, 1, 1>(x, i, weight, j, inner, grid);
        }
        j += 1;
    }
}

/// `X` rows of `x` from `i` times `W` rows of `weight` from `j`.
#[inline(always)]
fn tile<L: Lanes, const X: usize, const W: usize>(
    x: Rows<'_>,
    i: usize,
    weight: Rows<'_>,
    j: usize,
    inner: usize,
    grid: &mut Grid<'_>,
) {
    let full = inner / LANES;
    let mut x_rows: [&[f32]; X] = [&[]; X];
    let mut x_chunks: [&[[f32; LANES]]; X] = [&[]; X];
    for a in 0..X {
        x_rows[a] = x.row(i + a, inner);
        x_chunks[a] = &x_rows[a].as_chunks().0[..full];
    }
    let mut w_rows: [&[f32]; W] = [&[]; W];
    let mut w_chunks: [&[[f32; LANES]]; W] = [&[]; W];
    for b in 0..W {
        w_rows[b] = weight.row(j + b, inner);
        w_chunks[b] = &w_rows[b].as_chunks().0[..full];
    }
    let mut sums = [[L::splat(0.0); W]; X];
    for k in 0..full {
        let mut w = [L::splat(0.0); W];
        for b in 0..W {
            w[b] = L::load(&w_chunks[b][k]);
        }
        for a in 0..X {
            let x = L::load(&x_chunks[a][k]);
            for b in 0..W {
                sums[a][b] = sums[a][b].add_product(x, w[b]);
            }
        }
    }
    let rest = inner - full * LANES;
    if rest > 0 {
        let mut w = [L::splat(0.0); W];
        for b in 0..W {
            w[b] = padded(&w_rows[b][full * LANES..]);
        }
        for a in 0..X {
            let x = padded::<L>(&x_rows[a][full * LANES..]);
            for b in 0..W {
                sums[a][b] = sums[a][b].add_product(x, w[b]);
            }
        }
    }
    for a in 0..X {
        for b in 0..W {
            grid.out[(i + a) * grid.x_step + (j + b) * grid.weight_step] = sums[a][b].sum();
        }
    }
}

/// Fewer numbers than there are lanes, then zeros.
#[inline(always)]
fn padded<L: Lanes>(x: &[f32]) -> L {
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    L::load(&lanes)
}

/// `out = out * keep + the sum of each row of `values` times its weight`, row after row.
#[inline(always)]
pub(super) fn add_weighted<L: Lanes>(
    weights: &[f32],
    values: Rows<'_>,
    keep: f32,
    out: &mut [f32],
) {
    const UNROLL: usize = 4;
    let width = out.len();
    let mut at = 0;
    while at + UNROLL * LANES <= width {
        block::<L, UNROLL>(weights, values, keep, at, out);
        at += UNROLL * LANES;
    }
    while at + LANES <= width {
        block::<L, 1>(weights, values, keep, at, out);
        at += LANES;
    }
    for (column, out) in out.iter_mut().enumerate().skip(at) {
        *out *= keep;
        for (j, weight) in weights.iter().enumerate() {
            *out = weight.mul_add(values.data[j * values.step + column], *out);
        }
    }
}

/// `B` times sixteen columns of [`add_weighted`] from `at`.
#[inline(always)]
fn block<L: Lanes, const B: usize>(
    weights: &[f32],
    values: Rows<'_>,
    keep: f32,
    at: usize,
    out: &mut [f32],
) {
    let out = &mut out[at..at + B * LANES].as_chunks_mut::<LANES>().0[..B];
    let mut sums = [L::splat(0.0); B];
    let keep = L::splat(keep);
    for b in 0..B {
        sums[b] = L::load(&out[b]).times(keep);
    }
    for (j, weight) in weights.iter().enumerate() {
        let row = &values.data[j * values.step + at..][..B * LANES];
        let row = &row.as_chunks::<LANES>().0[..B];
        let weight = L::splat(*weight);
        for b in 0..B {
            sums[b] = sums[b].add_product(weight, L::load(&row[b]));
        }
    }
    for b in 0..B {
        sums[b].store(&mut out[b]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 31 + seed * 17) % 101) as f32 / 37.0 - 1.3)
            .collect()
    }

    fn tensor(shape: (usize, usize), seed: usize) -> Tensor {
        Tensor::from_vec(numbers(shape.0 * shape.1, seed), shape, &Device::Cpu).unwrap()
    }

    fn bits(x: &Tensor) -> Vec<u32> {
        let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    /// candle's own product is the oracle.
    #[test]
    fn agrees_with_candle_for_all_sizes() {
        for (rows, outputs, inner) in [(1, 1, 1), (3, 5, 7), (2, 70, 33), (9, 130, 100), (1, 6, 16)]
        {
            let (x, weight) = (tensor((rows, inner), 1), tensor((outputs, inner), 2));
            let bias = Tensor::from_vec(numbers(outputs, 3), outputs, &Device::Cpu).unwrap();
            let expected = x.matmul(&weight.t().unwrap()).unwrap();
            let got = project(&x, &weight, None).unwrap();
            let gap = |a: &Tensor, b: &Tensor| {
                let gaps = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
                gaps.max(0).unwrap().to_scalar::<f32>().unwrap()
            };
            assert!(gap(&got, &expected) < 1e-4, "{rows} {outputs} {inner}");
            let shifted = expected.broadcast_add(&bias).unwrap();
            let got = project(&x, &weight, Some(&bias)).unwrap();
            assert!(gap(&got, &shifted) < 1e-4, "{rows} {outputs} {inner}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (rows, outputs, inner) = (11, 150, 203);
        let (x, weight) = (tensor((rows, inner), 1), tensor((outputs, inner), 2));
        let all = bits(&project(&x, &weight, None).unwrap());
        for i in 0..rows {
            for count in 1..=rows - i {
                let some = x.narrow(0, i, count).unwrap();
                let some = bits(&project(&some, &weight, None).unwrap());
                assert_eq!(some, all[i * outputs..(i + count) * outputs]);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (rows, outputs, inner) in [(1, 9, 64), (5, 7, 50), (8, 8, 16)] {
            let (x, weight) = (numbers(rows * inner, 1), numbers(outputs * inner, 2));
            let run = |plain: bool| {
                let mut out = vec![0.0; rows * outputs];
                let rows = |data, count| Rows {
                    data,
                    step: inner,
                    count,
                };
                let (x, weight) = (rows(&x, out.len() / outputs), rows(&weight, outputs));
                let grid = Grid {
                    out: &mut out,
                    x_step: outputs,
                    weight_step: 1,
                };
                let job = Products {
                    x,
                    weight,
                    inner,
                    grid,
                };
                if plain {
                    job.run::<[f32; LANES]>();
                } else {
                    dispatch(job);
                }
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(run(true), run(false));
        }
    }

    #[test]
    fn misfits_are_refused() {
        assert!(project(&tensor((2, 3), 1), &tensor((4, 5), 1), None).is_err());
        let bias = Tensor::from_vec(numbers(3, 1), 3, &Device::Cpu).unwrap();
        assert!(project(&tensor((2, 3), 1), &tensor((4, 3), 1), Some(&bias)).is_err());
    }
}
