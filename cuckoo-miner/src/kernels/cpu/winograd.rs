//! Convolution by 3x3 kernels with a quarter of the multiplications: the minimal filtering of Winograd (1980), for tiles of
//! 4x4 outputs (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016).
//!
//! ```text
//! inputs of a tile -> 36 numbers --\
//!                                   products over the channels -> 36 numbers -> 4x4 outputs
//! kernel           -> 36 numbers --/
//! ```

#![allow(
    clippy::needless_range_loop,
    reason = "columns of small tiles are read by index, and rows beside them"
)]

use rayon::prelude::*;

use super::dot::Rows;
use super::lanes::{Job, LANES, Register, dispatch};
use super::panel::{Lane, multiply};

/// Outputs along a tile's side, inputs it sees, and the square of these.
const SIDE: usize = 4;
const SEEN: usize = SIDE + 2;
const POINTS: usize = SEEN * SEEN;
/// Panels of sixteen tiles done before the next, so that what stands between the stages stays in the caches.
const PANELS: usize = 8;
/// Output channels computed by one piece of work.
const CHANNELS: usize = 24;
/// Input channels summed in one go. Part of the arithmetic.
const INPUTS: usize = 128;

/// Sizes of images, which a convolution with a padding of 1 keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images {
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Images {
    /// Whether there are tiles enough for this to be the faster way.
    pub(super) fn suit(self) -> bool {
        self.height.div_ceil(SIDE) * self.width.div_ceil(SIDE) >= LANES && self.inputs >= LANES
    }

    /// From one point of a panel to the next. One more than there are channels: what is a multiple of 4096 bytes apart shares
    /// a few lines of the cache.
    fn stride(self) -> usize {
        self.inputs + 1
    }

    fn tiles(self) -> usize {
        self.batch * self.height.div_ceil(SIDE) * self.width.div_ceil(SIDE)
    }

    /// Where the tiles of one panel lie.
    fn panel(self, panel: usize) -> [Option<Tile>; LANES] {
        let (down, across) = (self.height.div_ceil(SIDE), self.width.div_ceil(SIDE));
        std::array::from_fn(|i| {
            let tile = panel * LANES + i;
            (tile < self.tiles()).then(|| Tile {
                image: tile / (down * across),
                y: tile / across % down * SIDE,
                x: tile % across * SIDE,
            })
        })
    }
}

/// One tile: its image, and the row and column of its first output.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: usize,
    y: usize,
    x: usize,
}

/// Convolves `x` with `weight`, 3x3, into `out`.
pub(super) fn convolve(images: Images, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let outputs = images.outputs;
    let area = images.height * images.width;
    // For each piece of output channels, its part of each image.
    let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
    pieces.resize_with(outputs.div_ceil(CHANNELS), Vec::new);
    for image in out.chunks_mut(outputs * area) {
        for (piece, part) in pieces.iter_mut().zip(image.chunks_mut(CHANNELS * area)) {
            piece.push(part);
        }
    }
    let panels = images.tiles().div_ceil(LANES);
    let size = POINTS * images.stride();
    let mut seen = vec![[0.0; LANES]; size * PANELS.min(panels)];
    for first in (0..panels).step_by(PANELS) {
        let seen = &mut seen[..size * PANELS.min(panels - first)];
        seen.par_chunks_mut(size).enumerate().for_each(|(i, seen)| {
            let tiles = images.panel(first + i);
            dispatch(Look {
                images,
                x,
                tiles,
                seen,
            });
        });
        let seen = &*seen;
        pieces.par_iter_mut().enumerate().for_each(|(i, out)| {
            dispatch(Piece {
                images,
                channel: i * CHANNELS,
                weight,
                bias,
                first,
                seen,
                out,
            });
        });
    }
}

/// What the tiles of one panel see: for each point, all input channels.
struct Look<'a> {
    images: Images,
    x: &'a [f32],
    tiles: [Option<Tile>; LANES],
    seen: &'a mut [Lane],
}

impl Job for Look<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Images {
            inputs,
            height,
            width,
            ..
        } = self.images;
        for channel in 0..inputs {
            let mut tile = [[[0.0; LANES]; SEEN]; SEEN];
            for (lane, at) in self.tiles.iter().enumerate() {
                let Some(Tile { image, y, x }) = *at else {
                    continue;
                };
                let plane = &self.x[(image * inputs + channel) * height * width..];
                for (row, y) in tile.iter_mut().zip(y..) {
                    // One row and column of padding come before the first.
                    if y == 0 || y > height {
                        continue;
                    }
                    let line = &plane[(y - 1) * width..][..width];
                    if x > 0 && x - 1 + SEEN <= width {
                        let line = &line[x - 1..][..SEEN];
                        for (out, x) in row.iter_mut().zip(line) {
                            out[lane] = *x;
                        }
                    } else {
                        for (out, x) in row.iter_mut().zip(x..) {
                            if x > 0 && x <= width {
                                out[lane] = line[x - 1];
                            }
                        }
                    }
                }
            }
            for row in &mut tile {
                *row = inputs_of(row);
            }
            for b in 0..SEEN {
                let column = inputs_of(&std::array::from_fn(|a| tile[a][b]));
                for (a, lane) in column.into_iter().enumerate() {
                    self.seen[(a * SEEN + b) * self.images.stride() + channel] = lane;
                }
            }
        }
    }
}

/// Some output channels of some tiles.
struct Piece<'a, 'b> {
    images: Images,
    /// The first output channel.
    channel: usize,
    weight: &'a [f32],
    bias: &'a [f32],
    /// The first panel of tiles.
    first: usize,
    /// What [`Look`] found, panel after panel.
    seen: &'a [Lane],
    /// The channels' part of each image.
    out: &'a mut [&'b mut [f32]],
}

impl Job for Piece<'_, '_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Images {
            inputs,
            outputs,
            height,
            width,
            ..
        } = self.images;
        let channels = CHANNELS.min(outputs - self.channel);
        let stride = self.images.stride();
        let panels = self.seen.len() / (POINTS * stride);
        let mut sums = vec![[0.0; LANES]; panels * POINTS * channels];
        let mut kernels = vec![0.0; POINTS * kernel_stride(channels)];
        for start in (0..inputs).step_by(INPUTS) {
            let depth = INPUTS.min(inputs - start);
            for channel in 0..channels {
                let weight = &self.weight[((self.channel + channel) * inputs + start) * 9..];
                turn_kernels(&weight[..depth * 9], &mut kernels, channel, channels);
            }
            for (point, kernels) in kernels.chunks_exact(kernel_stride(channels)).enumerate() {
                let rows = Rows {
                    data: kernels,
                    step: INPUTS,
                    count: channels,
                };
                for panel in 0..panels {
                    let seen = (panel * POINTS + point) * stride + start;
                    let sums = &mut sums[(panel * POINTS + point) * channels..][..channels];
                    multiply::<R, f32>(rows, 0, &self.seen[seen..][..depth], |channel, more| {
                        for (sum, more) in sums[channel..].iter_mut().zip(more) {
                            sum.iter_mut()
                                .zip(more)
                                .for_each(|(sum, more)| *sum += more);
                        }
                    });
                }
            }
        }
        for (panel, sums) in sums.chunks_exact(POINTS * channels).enumerate() {
            let tiles = self.images.panel(self.first + panel);
            for channel in 0..channels {
                let mut rows = [[[0.0; LANES]; SIDE]; SEEN];
                for (a, row) in rows.iter_mut().enumerate() {
                    *row = outputs_of(&std::array::from_fn(|b| {
                        sums[(a * SEEN + b) * channels + channel]
                    }));
                }
                let bias = self.bias[self.channel + channel];
                let mut tile = [[[0.0; LANES]; SIDE]; SIDE];
                for b in 0..SIDE {
                    let column = outputs_of(&std::array::from_fn(|a| rows[a][b]));
                    for (a, lane) in column.into_iter().enumerate() {
                        tile[a][b] = lane.map(|x| x + bias);
                    }
                }
                for (lane, at) in tiles.iter().enumerate() {
                    let Some(Tile { image, y, x }) = *at else {
                        continue;
                    };
                    let plane = &mut self.out[image][channel * height * width..][..height * width];
                    let end = width.min(x + SIDE);
                    for (row, y) in tile.iter().zip(y..height) {
                        let line = &mut plane[y * width..][x..end];
                        for (out, lanes) in line.iter_mut().zip(row) {
                            *out = lanes[lane];
                        }
                    }
                }
            }
        }
    }
}

/// From one point of so many output channels' kernels to the next; see [`Images::stride`].
fn kernel_stride(channels: usize) -> usize {
    channels * INPUTS + LANES
}

/// The 36 numbers of each kernel of one output channel, to their places among those of all `channels`.
#[inline(always)]
fn turn_kernels(weight: &[f32], kernels: &mut [f32], channel: usize, channels: usize) {
    for (i, weight) in weight.chunks(9 * LANES).enumerate() {
        let mut kernel = [[[0.0; LANES]; 3]; 3];
        for (lane, weight) in weight.chunks_exact(9).enumerate() {
            for a in 0..3 {
                for b in 0..3 {
                    kernel[a][b][lane] = weight[a * 3 + b];
                }
            }
        }
        let rows = kernel.map(|row| kernels_of(&row));
        for b in 0..SEEN {
            let column = kernels_of(&std::array::from_fn(|a| rows[a][b]));
            for (a, lane) in column.into_iter().enumerate() {
                let at = (a * SEEN + b) * kernel_stride(channels) + channel * INPUTS + i * LANES;
                kernels[at..at + LANES].copy_from_slice(&lane);
            }
        }
    }
}

/// Six inputs in a line as the six numbers that are multiplied.
#[inline(always)]
fn inputs_of(x: &[Lane; SEEN]) -> [Lane; SEEN] {
    let mut out = [[0.0; LANES]; SEEN];
    for i in 0..LANES {
        let [a, b, c, d, e, f] = [x[0][i], x[1][i], x[2][i], x[3][i], x[4][i], x[5][i]];
        let (p, q) = (e - 4.0 * c, d - 4.0 * b);
        let (r, s) = (e - c, 2.0 * (d - b));
        out[0][i] = 4.0 * a - 5.0 * c + e;
        out[1][i] = p + q;
        out[2][i] = p - q;
        out[3][i] = r + s;
        out[4][i] = r - s;
        out[5][i] = 4.0 * b - 5.0 * d + f;
    }
    out
}

/// Three numbers of a kernel in a line as the six that are multiplied.
#[inline(always)]
fn kernels_of(x: &[Lane; 3]) -> [Lane; SEEN] {
    const SIXTH: f32 = 1.0 / 6.0;
    let mut out = [[0.0; LANES]; SEEN];
    for i in 0..LANES {
        let [a, b, c] = [x[0][i], x[1][i], x[2][i]];
        let (p, q) = (-SIXTH * (a + c), SIXTH * b);
        let (r, s) = (SIXTH * (0.25 * a + c), 0.5 * q);
        out[0][i] = 0.25 * a;
        out[1][i] = p - q;
        out[2][i] = p + q;
        out[3][i] = r + s;
        out[4][i] = r - s;
        out[5][i] = c;
    }
    out
}

/// The six products in a line as four outputs.
#[inline(always)]
fn outputs_of(x: &[Lane; SEEN]) -> [Lane; SIDE] {
    let mut out = [[0.0; LANES]; SIDE];
    for i in 0..LANES {
        let [a, b, c, d, e, f] = [x[0][i], x[1][i], x[2][i], x[3][i], x[4][i], x[5][i]];
        let (p, q, r, s) = (b + c, b - c, d + e, d - e);
        out[0][i] = a + p + r;
        out[1][i] = q + 2.0 * s;
        out[2][i] = p + 4.0 * r;
        out[3][i] = q + 8.0 * s + f;
    }
    out
}

#[cfg(test)]
mod tests;
