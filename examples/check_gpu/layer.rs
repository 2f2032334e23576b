//! The layers that are checked: their inputs, and what `f64` makes of them.

use cuckoo_miner::{
    Activation, CpuKernels, CudaKernels, CudaTensor, Device, Kernels, Norm, Philox, Tensor,
};
use rayon::prelude::*;

use crate::Result;

const EPS: f64 = 1e-6;
/// Queries of each head that are computed in `f64`, spread over all of them.
const ROWS: usize = 128;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Layer {
    Norm {
        shape: [usize; 4],
        groups: usize,
        activation: Activation,
    },
    Attention {
        batch: usize,
        n: usize,
        m: usize,
        heads: usize,
        depth: usize,
        causal: bool,
    },
}

const fn norm(shape: [usize; 4], groups: usize, activation: Activation) -> Layer {
    Layer::Norm {
        shape,
        groups,
        activation,
    }
}

const fn attention(
    batch: usize,
    [n, m]: [usize; 2],
    [heads, depth]: [usize; 2],
    causal: bool,
) -> Layer {
    Layer::Attention {
        batch,
        n,
        m,
        heads,
        depth,
        causal,
    }
}

/// Which model has it where, and what.
pub(crate) const CASES: [(&str, Layer); 19] = [
    ("1.5, UNet", norm([2, 320, 64, 64], 32, Activation::Silu)),
    ("1.5, UNet", norm([2, 1920, 16, 16], 32, Activation::Silu)),
    ("1.5, UNet", norm([2, 1280, 8, 8], 32, Activation::Silu)),
    (
        "1.5, before attention",
        norm([2, 640, 32, 32], 32, Activation::Identity),
    ),
    (
        "1.5, decoder",
        norm([1, 128, 512, 512], 32, Activation::Silu),
    ),
    ("XL, UNet", norm([2, 320, 128, 128], 32, Activation::Silu)),
    ("odd", norm([3, 6, 7, 5], 3, Activation::Silu)),
    ("odd", norm([1, 2, 300, 301], 1, Activation::Identity)),
    ("1.5, 64x64", attention(2, [4096, 4096], [8, 40], false)),
    ("1.5, 32x32", attention(2, [1024, 1024], [8, 80], false)),
    ("1.5, 8x8", attention(2, [64, 64], [8, 160], false)),
    ("1.5, of the text", attention(2, [4096, 77], [8, 40], false)),
    ("1.5, decoder", attention(1, [4096, 4096], [1, 512], false)),
    ("XL, 64x64", attention(2, [4096, 4096], [10, 64], false)),
    ("XL, 32x32", attention(2, [1024, 1024], [20, 64], false)),
    ("XL, of the text", attention(2, [1024, 77], [20, 64], false)),
    ("CLIP", attention(2, [77, 77], [12, 64], true)),
    ("odd", attention(3, [131, 70], [5, 13], false)),
    ("odd", attention(1, [1001, 1001], [3, 300], true)),
];

impl Layer {
    /// `x`, weight and bias, or `q`, `k` and `v`.
    pub(crate) fn inputs(self) -> Result<[Tensor; 3]> {
        let [a, b, c] = match self {
            Self::Norm { shape, .. } => [shape.to_vec(), vec![shape[1]], vec![shape[1]]],
            Self::Attention {
                batch,
                n,
                m,
                heads,
                depth,
                ..
            } => [n, m, m].map(|tokens| vec![batch, tokens, heads * depth]),
        };
        let tensor = |shape: Vec<usize>, seed| {
            let numbers = Philox::new(seed).normal(shape.iter().product());
            Tensor::from_vec(numbers, shape, &Device::Cpu)
        };
        Ok([tensor(a, 1)?, tensor(b, 2)?, tensor(c, 3)?])
    }

    pub(crate) fn on_gpu(
        self,
        gpu: &CudaKernels,
        [x, y, z]: &[CudaTensor; 3],
    ) -> Result<CudaTensor> {
        Ok(match self {
            Self::Norm {
                groups, activation, ..
            } => gpu.group_norm(x, y, z, EPS, groups, activation)?,
            Self::Attention { heads, causal, .. } => gpu.attention(x, y, z, heads, causal)?,
        })
    }

    pub(crate) fn on_cpu(self, [x, y, z]: &[Tensor; 3]) -> Result<Tensor> {
        let cpu = CpuKernels::new();
        Ok(match self {
            Self::Norm {
                groups, activation, ..
            } => {
                let norm = Norm {
                    weight: y,
                    bias: z,
                    eps: EPS,
                };
                cpu.group_norm(x, norm, groups, activation)?
            }
            Self::Attention { heads, causal, .. } => cpu.attention(x, y, z, heads, causal)?,
        })
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Norm {
                shape,
                groups,
                activation,
            } => format!("group norm {shape:?}, {groups} groups, {activation:?}"),
            Self::Attention {
                batch,
                n,
                m,
                heads,
                depth,
                causal,
            } => format!(
                "attention {batch} x {n} x {m}, {heads} heads of {depth}{}",
                if causal { ", causal" } else { "" }
            ),
        }
    }

    /// What must be read and written at least, or multiplied and added, in so many seconds.
    pub(crate) fn speed(self, seconds: f64) -> String {
        match self {
            Self::Norm { shape, .. } => {
                let bytes = shape.iter().product::<usize>() * 2 * size_of::<f32>();
                format!("{:.0} GB/s", bytes as f64 / seconds / 1e9)
            }
            Self::Attention {
                batch,
                n,
                m,
                heads,
                depth,
                causal,
            } => {
                let pairs = if causal { n * (n + 1) / 2 } else { n * m };
                let operations = 4 * batch * pairs * heads * depth;
                format!("{:.2} TFLOP/s", operations as f64 / seconds / 1e12)
            }
        }
    }

    /// For both outputs the largest distance to what `f64` gives, as a part of the largest number.
    pub(crate) fn errors(self, inputs: &[Tensor; 3], outputs: [&[f32]; 2]) -> Result<[f64; 2]> {
        let [x, y, z] = inputs;
        let (x, y, z) = (numbers(x)?, numbers(y)?, numbers(z)?);
        let worst = match self {
            Self::Norm {
                shape: [batch, channels, height, width],
                groups,
                activation,
            } => {
                let (area, per) = (height * width, channels / groups);
                let group = |i: usize| {
                    let start = i * per * area;
                    let x = &x[start..][..per * area];
                    let (mean, scale) = moments(x);
                    let mut worst = Worst::default();
                    for (j, x) in x.iter().enumerate() {
                        let channel = i % groups * per + j / area;
                        let x = (f64::from(*x) - mean) * scale * f64::from(y[channel])
                            + f64::from(z[channel]);
                        let expected = match activation {
                            Activation::Silu => x / (1.0 + (-x).exp()),
                            _ => x,
                        };
                        worst.see(expected, outputs.map(|out| out[start + j]));
                    }
                    worst
                };
                (0..batch * groups)
                    .into_par_iter()
                    .map(group)
                    .reduce(Worst::default, Worst::join)
            }
            Self::Attention {
                batch,
                n,
                m,
                heads,
                depth,
                causal,
            } => {
                let (width, rows) = (heads * depth, n.min(ROWS));
                let row = |i: usize| {
                    let (image, head) = (i / rows / heads, i / rows % heads);
                    let row = i % rows * (n - 1) / (rows - 1).max(1);
                    let start = (image * n + row) * width + head * depth;
                    let beside = |of: &[f32], j: usize, d: usize| {
                        f64::from(of[(image * m + j) * width + head * depth + d])
                    };
                    let seen = if causal { row + 1 } else { m };
                    let score = |j: usize| {
                        let product = |d| f64::from(x[start + d]) * beside(&y, j, d);
                        (0..depth).map(product).sum::<f64>() / (depth as f64).sqrt()
                    };
                    let mut weights: Vec<_> = (0..seen).map(score).collect();
                    let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    weights.iter_mut().for_each(|x| *x = (*x - most).exp());
                    let total: f64 = weights.iter().sum();
                    let mut worst = Worst::default();
                    for d in 0..depth {
                        let values = weights.iter().enumerate();
                        let sum: f64 = values.map(|(j, weight)| weight * beside(&z, j, d)).sum();
                        worst.see(sum / total, outputs.map(|out| out[start + d]));
                    }
                    worst
                };
                (0..batch * heads * rows)
                    .into_par_iter()
                    .map(row)
                    .reduce(Worst::default, Worst::join)
            }
        };
        Ok(worst.differences.map(|most| most / worst.largest))
    }
}

/// Mean, and the factor that brings the variance to 1.
fn moments(x: &[f32]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().copied().map(f64::from).sum::<f64>() / n;
    let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2));
    let variance = squares.sum::<f64>() / n;
    (mean, 1.0 / (variance + EPS).sqrt())
}

/// The largest differences of two outputs to what was expected, and the largest number of that.
#[derive(Debug, Default, Clone, Copy)]
struct Worst {
    differences: [f64; 2],
    largest: f64,
}

impl Worst {
    fn see(&mut self, expected: f64, got: [f32; 2]) {
        for (most, got) in self.differences.iter_mut().zip(got) {
            *most = larger(*most, (f64::from(got) - expected).abs());
        }
        self.largest = larger(self.largest, expected.abs());
    }

    fn join(self, other: Self) -> Self {
        let [a, b] = self.differences;
        let [c, d] = other.differences;
        Self {
            differences: [larger(a, c), larger(b, d)],
            largest: larger(self.largest, other.largest),
        }
    }
}

/// As `max`, but what is not a number is larger than all that are.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// All of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
