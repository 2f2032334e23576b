//! Products of rows with panels, on which convolutions, all linear layers and pictures' attention are built.
//!
//! A panel is sixteen columns laid side by side. Each number of a product is summed by itself: in blocks of [`BLOCK`]
//! fused multiplications and additions one after another, and the blocks' sums added in their order. So it has the same
//! bits on every processor, whatever is computed beside it and however work was cut.

#![allow(
    clippy::needless_range_loop,
    reason = "indices below a constant are what lets the compiler keep a tile in registers"
)]

use super::dot::Rows;
use super::lanes::{LANES, Register};
use super::number::Number;

/// Terms summed in one go; the block's sum is then added to those of the blocks before. Part of the arithmetic.
pub(super) const BLOCK: usize = 512;

/// The same place in sixteen columns.
pub(super) type Lane = [f32; LANES];

/// Hands `store` the sums over one block: for each of `rows`, those with each column of `panel`. Of each row, elements
/// from `start` on are taken, as many as the panel has.
#[inline(always)]
pub(super) fn multiply<R: Register, W: Number>(
    rows: Rows<'_>,
    start: usize,
    panel: &[[W; LANES]],
    mut store: impl FnMut(usize, &[Lane]),
) {
    // As many sums at once as there are registers for, then fewer for the rows that are left.
    let store = &mut store;
    match R::WIDTH {
        16 => {
            let first = sweep::<R, W, 12, 1>(rows, 0, start, panel, store);
            let first = sweep::<R, W, 8, 1>(rows, first, start, panel, store);
            let first = sweep::<R, W, 4, 1>(rows, first, start, panel, store);
            let first = sweep::<R, W, 2, 1>(rows, first, start, panel, store);
            sweep::<R, W, 1, 1>(rows, first, start, panel, store);
        }
        8 => {
            let first = sweep::<R, W, 6, 2>(rows, 0, start, panel, store);
            let first = sweep::<R, W, 4, 2>(rows, first, start, panel, store);
            let first = sweep::<R, W, 2, 2>(rows, first, start, panel, store);
            sweep::<R, W, 1, 2>(rows, first, start, panel, store);
        }
        _ => {
            let first = sweep::<R, W, 2, 4>(rows, 0, start, panel, store);
            sweep::<R, W, 1, 4>(rows, first, start, panel, store);
        }
    }
}

/// The sums over one block of a single row, with the columns of several panels.
#[inline(always)]
pub(super) fn multiply_row<R: Register, W: Number, const PANELS: usize>(
    row: &[f32],
    panels: [&[[W; LANES]]; PANELS],
) -> [Lane; PANELS] {
    match R::WIDTH {
        16 => row_tile::<R, W, PANELS, 1>(row, panels),
        8 => row_tile::<R, W, PANELS, 2>(row, panels),
        _ => row_tile::<R, W, PANELS, 4>(row, panels),
    }
}

#[inline(always)]
fn row_tile<R: Register, W: Number, const PANELS: usize, const REGISTERS: usize>(
    row: &[f32],
    panels: [&[[W; LANES]]; PANELS],
) -> [Lane; PANELS] {
    let depth = row.len();
    let mut columns = [&[][..]; PANELS];
    for n in 0..PANELS {
        columns[n] = &panels[n][..depth];
    }
    let mut sums = [[R::splat(0.0); REGISTERS]; PANELS];
    for k in 0..depth {
        let x = R::splat(row[k]);
        for n in 0..PANELS {
            for r in 0..REGISTERS {
                let weight = W::load::<R>(&columns[n][k][r * R::WIDTH..]);
                sums[n][r] = sums[n][r].add_product(x, weight);
            }
        }
    }
    let mut out = [[0.0; LANES]; PANELS];
    for n in 0..PANELS {
        for r in 0..REGISTERS {
            sums[n][r].store(&mut out[n][r * R::WIDTH..]);
        }
    }
    out
}

/// Goes over rows from `first` on, `N` at a time; gives the first that is left.
#[inline(always)]
fn sweep<R: Register, W: Number, const N: usize, const REGISTERS: usize>(
    rows: Rows<'_>,
    mut first: usize,
    start: usize,
    panel: &[[W; LANES]],
    store: &mut impl FnMut(usize, &[Lane]),
) -> usize {
    while first + N <= rows.count {
        let sums = tile::<R, W, N, REGISTERS>(rows, first, start, panel);
        store(first, &sums);
        first += N;
    }
    first
}

#[inline(always)]
fn tile<R: Register, W: Number, const N: usize, const REGISTERS: usize>(
    rows: Rows<'_>,
    first: usize,
    start: usize,
    panel: &[[W; LANES]],
) -> [Lane; N] {
    let depth = panel.len();
    let mut weights = [&[][..]; N];
    for n in 0..N {
        weights[n] = &rows.data[(first + n) * rows.step + start..][..depth];
    }
    let mut sums = [[R::splat(0.0); REGISTERS]; N];
    for k in 0..depth {
        let mut x = [R::splat(0.0); REGISTERS];
        for r in 0..REGISTERS {
            x[r] = W::load::<R>(&panel[k][r * R::WIDTH..]);
        }
        for n in 0..N {
            let weight = R::splat(weights[n][k]);
            for r in 0..REGISTERS {
                sums[n][r] = sums[n][r].add_product(weight, x[r]);
            }
        }
    }
    let mut out = [[0.0; LANES]; N];
    for n in 0..N {
        for r in 0..REGISTERS {
            sums[n][r].store(&mut out[n][r * R::WIDTH..]);
        }
    }
    out
}

/// Rows, `step` elements from one to the next, as the columns of a panel: their elements from `start` on.
#[inline(always)]
pub(super) fn turn(rows: &[f32], step: usize, start: usize, panel: &mut [Lane]) {
    let depth = panel.len();
    let rows: [&[f32]; LANES] = std::array::from_fn(|column| {
        let row = rows.get(column * step + start..).unwrap_or_default();
        row.get(..depth).unwrap_or_default()
    });
    // Square after square, so that what is written stays in the nearest cache until it is whole.
    for (i, square) in panel.chunks_mut(LANES).enumerate() {
        for (column, row) in rows.iter().enumerate() {
            match row.get(i * LANES..) {
                Some(row) if !row.is_empty() => {
                    for (lane, x) in square.iter_mut().zip(row) {
                        lane[column] = *x;
                    }
                }
                _ => square.iter_mut().for_each(|lane| lane[column] = 0.0),
            }
        }
    }
}

/// A part of a matrix in the making, which one piece of work computes.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// Its first row in the matrix.
    pub(super) row: usize,
    /// Its first column in the matrix.
    pub(super) column: usize,
    pub(super) rows: Vec<&'a mut [f32]>,
}

/// Cuts a matrix of rows of `width` into windows of at most `rows x columns`.
pub(super) fn windows(
    out: &mut [f32],
    width: usize,
    rows: usize,
    columns: usize,
) -> Vec<Window<'_>> {
    let mut windows = Vec::new();
    for (i, band) in out.chunks_mut(rows * width).enumerate() {
        let first = windows.len();
        windows.extend((0..width).step_by(columns).map(|column| Window {
            row: i * rows,
            column,
            rows: Vec::with_capacity(rows),
        }));
        for row in band.chunks_mut(width) {
            for (window, part) in windows[first..].iter_mut().zip(row.chunks_mut(columns)) {
                window.rows.push(part);
            }
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Job, Plain, dispatch};
    use super::*;

    struct Products<'a> {
        rows: Rows<'a>,
        panel: &'a [Lane],
        out: &'a mut [Lane],
    }

    impl Job for Products<'_> {
        #[inline(always)]
        fn run<R: Register>(self) {
            multiply::<R, f32>(self.rows, 1, self.panel, |row, sums| {
                self.out[row..row + sums.len()].copy_from_slice(sums);
            });
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let number = |i: usize| (i * 31 % 101) as f32 / 37.0 - 1.3;
        for (count, depth) in [(1, 1), (6, 40), (13, 33), (25, 7)] {
            let step = depth + 3;
            let data: Vec<f32> = (0..count * step).map(number).collect();
            let panel: Vec<Lane> = (0..depth)
                .map(|k| std::array::from_fn(|i| number(k * LANES + i + 5)))
                .collect();
            let run = |plain: bool| {
                let mut out = vec![[0.0; LANES]; count];
                let rows = Rows {
                    data: &data,
                    step,
                    count,
                };
                let job = Products {
                    rows,
                    panel: &panel,
                    out: &mut out,
                };
                if plain {
                    job.run::<Plain>();
                } else {
                    dispatch(job);
                }
                out
            };
            let got = run(false);
            assert_eq!(got, run(true));
            for (row, sums) in got.iter().enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    let terms = (0..depth).map(|k| (data[row * step + 1 + k], panel[k][column]));
                    let expected = terms.fold(0.0_f32, |sum, (a, b)| a.mul_add(b, sum));
                    assert_eq!(*sum, expected);
                }
            }
        }
    }

    #[test]
    fn windows_cover_a_matrix_once() {
        let mut matrix = vec![0.0; 7 * 10];
        for (i, mut window) in windows(&mut matrix, 10, 3, 4).into_iter().enumerate() {
            assert_eq!((window.row, window.column), (i / 3 * 3, i % 3 * 4));
            for row in &mut window.rows {
                row.iter_mut().for_each(|x| *x += i as f32 + 1.0);
            }
        }
        for (i, x) in matrix.into_iter().enumerate() {
            assert_eq!(x, (i / 10 / 3 * 3 + i % 10 / 4 + 1) as f32);
        }
    }
}
