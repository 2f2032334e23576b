//! Scaled dot-product attention, in tiles of queries so that the scores of a large image need little memory.

use candle_core::{Device, Result, Tensor, bail};

use super::matmul::{self, Matrix, Shape};
use super::{math, pieces, read};

/// Queries computed by one piece of work.
const QUERIES: usize = 128;

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
    let scale = 1.0 / (depth as f32).sqrt();
    let mut out = vec![0.0; batch * n * width];
    read([q, k, v], |[q, k, v]| {
        for (image, out) in out.chunks_exact_mut(n * width).enumerate() {
            let (q, k, v) = (
                &q[image * n * width..][..n * width],
                &k[image * m * width..],
                &v[image * m * width..],
            );
            pieces(out, QUERIES * width, 2 * n * m * width, |i, out| {
                let first = i * QUERIES;
                let rows = out.len() / width;
                let mut scores = vec![0.0; rows * m];
                for head in 0..heads {
                    let column = head * depth;
                    scores.fill(0.0);
                    let shape = Shape {
                        rows,
                        columns: m,
                        inner: depth,
                    };
                    let queries = Matrix::rows(&q[first * width + column..], width);
                    matmul::add_product(
                        shape,
                        queries,
                        Matrix::columns(&k[column..], width),
                        &mut scores,
                        m,
                    );
                    for (row, scores) in scores.chunks_exact_mut(m).enumerate() {
                        let (seen, hidden) =
                            scores.split_at_mut(if causal { first + row + 1 } else { m });
                        seen.iter_mut().for_each(|score| *score *= scale);
                        math::softmax(seen);
                        hidden.fill(0.0);
                    }
                    let shape = Shape {
                        rows,
                        columns: depth,
                        inner: m,
                    };
                    let values = Matrix::rows(&v[column..], width);
                    matmul::add_product(
                        shape,
                        Matrix::rows(&scores, m),
                        values,
                        &mut out[column..],
                        width,
                    );
                }
            });
        }
        Ok(())
    })?;
    Tensor::from_vec(out, (batch, n, width), &Device::Cpu)
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
