//! Products of rows with rows, each of them the same bits whatever is computed beside it.
//!
//! A general matrix product picks its order of additions by the sizes of the matrices, so a text's numbers would change
//! with the texts that share its batch (He, "Defeating nondeterminism in LLM inference", Thinking Machines, 2025). Here
//! every product is summed in the same sixteen lanes; how many are computed at once is a matter of speed alone.

#![allow(
    clippy::needless_range_loop,
    reason = "indices below a constant are what lets the compiler keep a tile in registers"
)]

use super::lanes::{LANES, Register, sum};

/// Rows of equal width, `step` elements from one to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) step: usize,
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    /// `count` of the rows from `first` on.
    pub(super) fn part(self, first: usize, count: usize) -> Self {
        let data = self.data.get(first * self.step..).unwrap_or_default();
        Self {
            data,
            count,
            ..self
        }
    }

    #[inline(always)]
    fn row(&self, i: usize, width: usize) -> &'a [f32] {
        &self.data[i * self.step..][..width]
    }
}

/// Where products go: that of `x[i]` and `weight[j]` to `i * step + j`.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) step: usize,
}

/// The product of every row of `x` with every row of `weight`, with as many sums at once as there are registers for: 32 but
/// for 256 bits, of which there are 16.
#[inline(always)]
pub(super) fn products<R: Register>(
    x: Rows<'_>,
    weight: Rows<'_>,
    inner: usize,
    grid: &mut Grid<'_>,
) {
    if R::WIDTH == 8 {
        tiles::<R, 3, 6>(x, weight, inner, grid);
    } else {
        tiles::<R, 4, 8>(x, weight, inner, grid);
    }
}

/// Goes over the weight's rows once, in steps of `WIDE`, or `NARROW` at a time for four rows of `x`.
#[inline(always)]
fn tiles<R: Register, const NARROW: usize, const WIDE: usize>(
    x: Rows<'_>,
    weight: Rows<'_>,
    inner: usize,
    grid: &mut Grid<'_>,
) {
    let mut j = 0;
    while j + WIDE <= weight.count {
        let mut i = 0;
        while i + 4 <= x.count {
            tile::<R, 4, NARROW>(x, i, weight, j, inner, grid);
            tile::<R, 4, NARROW>(x, i, weight, j + NARROW, inner, grid);
            i += 4;
        }
        while i + 2 <= x.count {
            tile::<R, 2, WIDE>(x, i, weight, j, inner, grid);
            i += 2;
        }
        if i < x.count {
            tile::<R, 1, WIDE>(x, i, weight, j, inner, grid);
        }
        j += WIDE;
    }
    while j < weight.count {
        let mut i = 0;
        while i + 4 <= x.count {
            tile::<R, 4, 1>(x, i, weight, j, inner, grid);
            i += 4;
        }
        while i < x.count {
            tile::<R, 1, 1>(x, i, weight, j, inner, grid);
            i += 1;
        }
        j += 1;
    }
}

/// `X` rows of `x` from `i` times `W` rows of `weight` from `j`.
#[inline(always)]
fn tile<R: Register, const X: usize, const W: usize>(
    x: Rows<'_>,
    i: usize,
    weight: Rows<'_>,
    j: usize,
    inner: usize,
    grid: &mut Grid<'_>,
) {
    let mut x_rows = [Row::default(); X];
    for a in 0..X {
        x_rows[a] = Row::new(x.row(i + a, inner));
    }
    let mut w_rows = [Row::default(); W];
    for b in 0..W {
        w_rows[b] = Row::new(weight.row(j + b, inner));
    }
    let mut lanes = [[[0.0; LANES]; W]; X];
    part::<R, X, W, 0>(&x_rows, &w_rows, inner, &mut lanes);
    if R::WIDTH == 4 {
        part::<R, X, W, 4>(&x_rows, &w_rows, inner, &mut lanes);
        part::<R, X, W, 12>(&x_rows, &w_rows, inner, &mut lanes);
    }
    if R::WIDTH <= 8 {
        part::<R, X, W, 8>(&x_rows, &w_rows, inner, &mut lanes);
    }
    for a in 0..X {
        for b in 0..W {
            grid.out[(i + a) * grid.step + j + b] = sum(lanes[a][b]);
        }
    }
}

/// A row as sixteens, the last ones filled up with zeros.
#[derive(Clone, Copy, Default)]
struct Row<'a> {
    full: &'a [[f32; LANES]],
    rest: [f32; LANES],
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn new(row: &'a [f32]) -> Self {
        let (full, tail) = row.as_chunks();
        let mut rest = [0.0; LANES];
        rest[..tail.len()].copy_from_slice(tail);
        Self { full, rest }
    }
}

/// The lanes from `FROM` on that fit a register, of all sums of a tile.
#[inline(always)]
fn part<R: Register, const X: usize, const W: usize, const FROM: usize>(
    x: &[Row<'_>; X],
    weight: &[Row<'_>; W],
    inner: usize,
    lanes: &mut [[[f32; LANES]; W]; X],
) {
    let full = inner / LANES;
    let mut sums = [[R::splat(0.0); W]; X];
    let mut x_full = [&[][..]; X];
    for a in 0..X {
        x_full[a] = &x[a].full[..full];
    }
    let mut w_full = [&[][..]; W];
    for b in 0..W {
        w_full[b] = &weight[b].full[..full];
    }
    for k in 0..full {
        let mut w = [R::splat(0.0); W];
        for b in 0..W {
            w[b] = R::load(&w_full[b][k][FROM..]);
        }
        for a in 0..X {
            let x = R::load(&x_full[a][k][FROM..]);
            for b in 0..W {
                sums[a][b] = sums[a][b].add_product(x, w[b]);
            }
        }
    }
    if !inner.is_multiple_of(LANES) {
        for a in 0..X {
            let x = R::load(&x[a].rest[FROM..]);
            for b in 0..W {
                sums[a][b] = sums[a][b].add_product(x, R::load(&weight[b].rest[FROM..]));
            }
        }
    }
    for a in 0..X {
        for b in 0..W {
            sums[a][b].store(&mut lanes[a][b][FROM..]);
        }
    }
}

/// `out = out * keep + the sum of each row of `values` times its weight`, row after row: `N` such sums of the same rows,
/// with as many weights each.
#[inline(always)]
pub(super) fn add_weighted<R: Register, const N: usize>(
    weights: [&[f32]; N],
    values: Rows<'_>,
    keep: [f32; N],
    mut out: [&mut [f32]; N],
) {
    const UNROLL: usize = 4;
    let width = out.first().map_or(0, |out| out.len());
    let mut at = 0;
    while at + UNROLL * R::WIDTH <= width {
        block::<R, N, UNROLL>(weights, values, keep, at, &mut out);
        at += UNROLL * R::WIDTH;
    }
    while at + R::WIDTH <= width {
        block::<R, N, 1>(weights, values, keep, at, &mut out);
        at += R::WIDTH;
    }
    for n in 0..N {
        for (column, out) in out[n].iter_mut().enumerate().skip(at) {
            *out *= keep[n];
            for (weight, row) in weights[n].iter().zip(values.data.chunks(values.step)) {
                *out = weight.mul_add(row[column], *out);
            }
        }
    }
}

/// `B` registers of columns of [`add_weighted`] from `at`.
#[inline(always)]
fn block<R: Register, const N: usize, const B: usize>(
    weights: [&[f32]; N],
    values: Rows<'_>,
    keep: [f32; N],
    at: usize,
    out: &mut [&mut [f32]; N],
) {
    let count = weights.first().map_or(0, |weights| weights.len());
    let weights = weights.map(|weights| &weights[..count]);
    let mut sums = [[R::splat(0.0); B]; N];
    for n in 0..N {
        let keep = R::splat(keep[n]);
        for b in 0..B {
            sums[n][b] = R::load(&out[n][at + b * R::WIDTH..]).times(keep);
        }
    }
    for (i, row) in (0..count).zip(values.data.chunks(values.step)) {
        let row = &row[at..at + B * R::WIDTH];
        let mut x = [R::splat(0.0); B];
        for b in 0..B {
            x[b] = R::load(&row[b * R::WIDTH..]);
        }
        for n in 0..N {
            let weight = R::splat(weights[n][i]);
            for b in 0..B {
                sums[n][b] = sums[n][b].add_product(weight, x[b]);
            }
        }
    }
    for n in 0..N {
        for b in 0..B {
            sums[n][b].store(&mut out[n][at + b * R::WIDTH..]);
        }
    }
}

#[cfg(test)]
mod tests;
