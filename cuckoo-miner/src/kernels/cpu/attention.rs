//! Scaled dot-product attention in tiles of queries and keys, so that the scores of a large image need little memory.
//!
//! The scores of one block of keys at a time, joined by a running softmax (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).

use candle_core::{Device, Result, Tensor, bail};

use super::dot::Rows;
use super::lanes::{Job, LANES, Register, dispatch};
use super::panel::{BLOCK, Window, multiply, turn, windows};
use super::{each, math, read};

/// Queries computed by one piece of work.
const QUERIES: usize = 256;
/// Keys whose scores are held at once. Part of the arithmetic.
const KEYS: usize = 256;

/// See [`Kernels::attention`](crate::kernels::Kernels::attention).
pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    causal: bool,
) -> Result<Tensor> {
    let (batch, n, width) = q.dims3()?;
    let (_, m, _) = k.dims3()?;
    let fits = k.dims() == [batch, m, width]
        && v.dims() == k.dims()
        && heads > 0
        && width.is_multiple_of(heads.max(1));
    if !fits || n == 0 || m == 0 || width == 0 || (causal && n != m) {
        bail!(
            "attention of {heads} heads does not fit q {:?}, k {:?}, v {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    let depth = width / heads;
    let mut out = vec![0.0; batch * n * width];
    read([q, k, v], |[q, k, v]| {
        let images = q.chunks_exact(n * width).zip(
            k.chunks_exact(m * width)
                .zip(v.chunks_exact(m * width))
                .zip(out.chunks_exact_mut(n * width)),
        );
        let work = images
            .flat_map(|(q, ((k, v), out))| {
                windows(out, width, QUERIES, depth)
                    .into_iter()
                    .map(move |out| Piece {
                        q,
                        k,
                        v,
                        width,
                        causal,
                        out,
                    })
            })
            .collect();
        each(work, 2 * batch * n * m * width, dispatch);
        Ok(())
    })?;
    Tensor::from_vec(out, (batch, n, width), &Device::Cpu)
}

/// Some queries of one head.
struct Piece<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    width: usize,
    causal: bool,
    out: Window<'a>,
}

impl Job for Piece<'_> {
    #[inline(always)]
    fn run<R: Register>(mut self) {
        let (width, column, queries) = (self.width, self.out.column, self.out.rows.len());
        let depth = self.out.rows.first().map_or(0, |row| row.len());
        let scale = 1.0 / (depth as f32).sqrt();
        let q = Rows {
            data: &self.q[self.out.row * width + column..],
            step: width,
            count: queries,
        };
        let seen = match self.causal {
            true => self.out.row + queries,
            false => self.k.len() / width,
        };
        let mut panel = vec![[0.0; LANES]; KEYS.max(BLOCK)];
        let mut scores = vec![0.0; queries * KEYS];
        let mut largest = vec![f32::NEG_INFINITY; queries];
        let mut totals = vec![0.0; queries];
        for from in (0..seen).step_by(KEYS) {
            let keys = KEYS.min(seen - from);
            scores.fill(0.0);
            for at in (0..keys).step_by(LANES) {
                let end = (from + keys).min(from + at + LANES);
                // The last row ends with its head, so that what is beyond is not taken for another.
                let rows =
                    &self.k[(from + at) * width + column..(end - 1) * width + column + depth];
                for start in (0..depth).step_by(BLOCK) {
                    let panel = &mut panel[..BLOCK.min(depth - start)];
                    turn(rows, width, start, panel);
                    multiply::<R, f32>(q, start, panel, |query, sums| {
                        for (i, sums) in sums.iter().enumerate() {
                            let out = &mut scores[(query + i) * KEYS + at..][..LANES];
                            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                        }
                    });
                }
            }
            for (query, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
                let shown = match self.causal {
                    true => (self.out.row + query + 1).saturating_sub(from).min(keys),
                    false => keys,
                };
                let (scores, hidden) = scores.split_at_mut(shown);
                hidden.fill(0.0);
                if scores.is_empty() {
                    continue;
                }
                scores.iter_mut().for_each(|score| *score *= scale);
                let most = largest[query].max(math::largest(scores));
                scores
                    .iter_mut()
                    .for_each(|score| *score = math::exp(*score - most));
                // Nothing is kept of nothing: the first block's exponent is that of minus infinity.
                let keep = match largest[query] == f32::NEG_INFINITY {
                    true => 0.0,
                    false => math::exp(largest[query] - most),
                };
                largest[query] = most;
                totals[query] = totals[query] * keep + math::sum(scores);
                self.out.rows[query].iter_mut().for_each(|out| *out *= keep);
            }
            let weights = Rows {
                data: &scores,
                step: KEYS,
                count: queries,
            };
            for at in (0..depth).step_by(LANES) {
                let count = LANES.min(depth - at);
                let values = self.v[from * width + column + at..].chunks(width);
                let panel = &mut panel[..keys];
                for (lane, values) in panel.iter_mut().zip(values) {
                    if count == LANES {
                        lane.copy_from_slice(&values[..LANES]);
                    } else {
                        lane.fill(0.0);
                        lane.iter_mut()
                            .zip(&values[..count])
                            .for_each(|(lane, value)| *lane = *value);
                    }
                }
                multiply::<R, f32>(weights, 0, panel, |query, sums| {
                    for (out, sums) in self.out.rows[query..].iter_mut().zip(sums) {
                        let out = &mut out[at..at + count];
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                    }
                });
            }
        }
        for (out, total) in self.out.rows.iter_mut().zip(totals) {
            let scale = 1.0 / total;
            out.iter_mut().for_each(|out| *out *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{CpuKernels, Kernels};

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n)
            .map(|i| ((i * 29 + seed * 13) % 19) as f32 / 6.0 - 1.5)
            .collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f64> {
        x.flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect()
    }

    #[test]
    fn follows_its_definition() {
        for (n, m, causal) in [
            (5, 5, true),
            (5, 5, false),
            (3, 20, false),
            (200, 200, true),
            (300, 300, true),
            (270, 530, false),
        ] {
            let (batch, width, heads) = (2, 12, 3);
            let depth = width / heads;
            let (q, k, v) = (
                tensor(&[batch, n, width], 1),
                tensor(&[batch, m, width], 2),
                tensor(&[batch, m, width], 3),
            );
            let got = values(
                &CpuKernels::new()
                    .attention(&q, &k, &v, heads, causal)
                    .unwrap(),
            );
            let (q, k, v) = (values(&q), values(&k), values(&v));
            for b in 0..batch {
                for i in 0..n {
                    for c in 0..width {
                        let from = c / depth * depth;
                        let score = |j: usize| -> f64 {
                            let dot: f64 = (from..from + depth)
                                .map(|d| q[(b * n + i) * width + d] * k[(b * m + j) * width + d])
                                .sum();
                            (dot / (depth as f64).sqrt()).exp()
                        };
                        let seen = if causal { i + 1 } else { m };
                        let total: f64 = (0..seen).map(score).sum();
                        let expected: f64 = (0..seen)
                            .map(|j| score(j) / total * v[(b * m + j) * width + c])
                            .sum();
                        let got = got[(b * n + i) * width + c];
                        assert!(
                            (got - expected).abs() < 1e-5,
                            "{n}x{m} at {b},{i},{c}: {got} for {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn misfits_are_refused() {
        let kernels = CpuKernels::new();
        let (q, k) = (tensor(&[1, 4, 12], 1), tensor(&[1, 6, 12], 1));
        assert!(kernels.attention(&q, &k, &k, 5, false).is_err());
        assert!(kernels.attention(&q, &k, &k, 0, false).is_err());
        assert!(kernels.attention(&q, &k, &k, 4, true).is_err());
        assert!(kernels.attention(&q, &k, &q, 4, false).is_err());
    }
}
