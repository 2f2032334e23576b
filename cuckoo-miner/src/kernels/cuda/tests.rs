//! The kernels' sources, run on the processor by `on_cpu.cpp`, beside [`CpuKernels`].

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::kernels::{CpuKernels, Kernels, Norm};
use crate::noise::Philox;

/// Groups, and the dimensions of what they are normalised in.
const NORMS: [(usize, &[usize]); 6] = [
    (3, &[2, 6, 4, 5]),
    // More than a piece, which ends within a channel.
    (2, &[1, 4, 70, 70]),
    // Channels of fewer numbers than a block has threads, and of one.
    (32, &[2, 320, 8, 8]),
    (4, &[3, 512]),
    // A hundred pieces a group.
    (1, &[1, 1, 900, 1000]),
    (2, &[1, 2, 1]),
];

/// Batch, queries, keys, heads, numbers in a head, causal.
const ATTENTIONS: [(usize, usize, usize, usize, usize, bool); 10] = [
    (1, 1, 1, 1, 1, false),
    (2, 5, 5, 2, 4, true),
    (1, 130, 130, 1, 7, true),
    // Stable Diffusion 1's heads, over the tokens of a text.
    (2, 70, 77, 3, 40, false),
    (1, 65, 77, 2, 80, false),
    (1, 64, 64, 1, 160, false),
    // XL's, and a text encoder's.
    (1, 128, 129, 2, 64, false),
    (1, 77, 77, 2, 64, true),
    // Two slices: unequal, and those of the part that decodes pictures.
    (1, 10, 140, 1, 300, false),
    (1, 33, 64, 1, 512, false),
];

/// `on_cpu.cpp`, compiled once for each number of columns.
struct OnCpu {
    folder: TempDir,
}

impl OnCpu {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    fn program(&self, columns: u32) -> PathBuf {
        let program = self.folder.path().join(format!("on_cpu_{columns}"));
        if !program.exists() {
            let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
            let status = Command::new(compiler)
                .args([
                    "-std=c++20",
                    "-O1",
                    "-ffp-contract=off",
                    "-Wno-unknown-pragmas",
                ])
                .arg(format!("-DCOLUMNS={columns}"))
                .arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/src/kernels/cuda/on_cpu.cpp"
                ))
                .arg("-o")
                .arg(&program)
                .status()
                .expect(
                    "a C++ compiler is installed: `.ci/setup rust` does it, and CXX names another",
                );
            assert!(status.success());
        }
        program
    }

    fn run(&self, columns: u32, words: [String; 9], inputs: [&Tensor; 3]) -> Vec<f32> {
        let mut child = Command::new(self.program(columns))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for input in inputs {
            let bytes: Vec<_> = values(input).iter().flat_map(|x| x.to_ne_bytes()).collect();
            stdin.write_all(&bytes).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let (numbers, []) = output.stdout.as_chunks::<4>() else {
            panic!("half a number came back");
        };
        numbers
            .iter()
            .map(|bytes| f32::from_ne_bytes(*bytes))
            .collect()
    }

    fn group_norm(&self, inputs: [&Tensor; 3], groups: usize, activation: Activation) -> Vec<f32> {
        let plan = GroupNormPlan::new(inputs.map(Tensor::dims), groups, activation).unwrap();
        let words = [
            "norm".to_owned(),
            plan.blocks.to_string(),
            plan.size.to_string(),
            plan.pieces.to_string(),
            plan.groups.to_string(),
            plan.channels.to_string(),
            plan.area.to_string(),
            EPS.to_string(),
            plan.silu.to_string(),
        ];
        self.run(1, words, inputs)
    }

    fn attention(&self, inputs: [&Tensor; 3], heads: usize, causal: bool) -> Vec<f32> {
        let plan = AttentionPlan::new(inputs.map(Tensor::dims), heads, causal).unwrap();
        let words = [
            "attention".to_owned(),
            plan.blocks.to_string(),
            plan.n.to_string(),
            plan.m.to_string(),
            plan.heads.to_string(),
            plan.depth.to_string(),
            plan.slices.to_string(),
            plan.scale.to_string(),
            plan.causal.to_string(),
        ];
        self.run(plan.columns, words, inputs)
    }
}

const EPS: f64 = 1e-5;

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let numbers = Philox::new(seed).normal(shape.iter().product());
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn norm_inputs(shape: &[usize]) -> [Tensor; 3] {
    // Far from 0, where careless sums lose precision.
    let x = (tensor(shape, 1) + 10.0).unwrap();
    [x, tensor(&shape[1..2], 2), tensor(&shape[1..2], 3)]
}

fn attention_inputs(batch: usize, n: usize, m: usize, width: usize) -> [Tensor; 3] {
    [
        tensor(&[batch, n, width], 1),
        tensor(&[batch, m, width], 2),
        tensor(&[batch, m, width], 3),
    ]
}

/// The largest difference, as a part of the largest number.
fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let differences = got.iter().zip(expected).map(|(got, x)| (got - x).abs());
    // Not `max`, which passes over what is not a number.
    let worst = differences.fold(0.0_f32, |most, x| match x <= most || most.is_nan() {
        true => most,
        false => x,
    });
    worst / largest
}

#[test]
fn group_norm_agrees_with_the_processors() {
    let on_cpu = OnCpu::new();
    for (groups, shape) in NORMS {
        for activation in [Activation::Silu, Activation::Identity] {
            let [x, weight, bias] = norm_inputs(shape);
            let norm = Norm {
                weight: &weight,
                bias: &bias,
                eps: EPS,
            };
            let expected = CpuKernels::new().group_norm(&x, norm, groups, activation);
            let got = on_cpu.group_norm([&x, &weight, &bias], groups, activation);
            let distance = distance(&got, &values(&expected.unwrap()));
            assert!(distance < 1e-5, "{shape:?}, {activation:?}: {distance}");
        }
    }
}

#[test]
fn attention_agrees_with_the_processors() {
    let on_cpu = OnCpu::new();
    for (batch, n, m, heads, depth, causal) in ATTENTIONS {
        let [q, k, v] = attention_inputs(batch, n, m, heads * depth);
        let expected = CpuKernels::new().attention(&q, &k, &v, heads, causal);
        let got = on_cpu.attention([&q, &k, &v], heads, causal);
        let distance = distance(&got, &values(&expected.unwrap()));
        assert!(
            distance < 1e-5,
            "{batch}x{n}x{m}, {heads} of {depth}: {distance}"
        );
    }
}

/// A picture that diverged must not come out as one that did not.
#[test]
fn what_is_not_a_number_stays_so() {
    let on_cpu = OnCpu::new();
    let [q, k, v] = attention_inputs(1, 70, 70, 8);
    let mut numbers = values(&q);
    numbers[65 * 8 + 3] = f32::NAN;
    let q = Tensor::from_vec(numbers, q.shape(), &Device::Cpu).unwrap();
    let out = on_cpu.attention([&q, &k, &v], 1, false);
    for (row, out) in out.chunks(8).enumerate() {
        assert!(out.iter().all(|x| x.is_nan() == (row == 65)), "row {row}");
    }
    let [x, weight, bias] = norm_inputs(&[1, 2, 5000]);
    let mut numbers = values(&x);
    numbers[7] = f32::NAN;
    let x = Tensor::from_vec(numbers, x.shape(), &Device::Cpu).unwrap();
    let out = on_cpu.group_norm([&x, &weight, &bias], 2, Activation::Silu);
    assert!(out[..5000].iter().all(|x| x.is_nan()) && out[5000..].iter().all(|x| x.is_finite()));
}

#[test]
fn misfits_are_refused() {
    let norm = |x: &[usize], channels: usize, groups| {
        GroupNormPlan::new([x, &[channels], &[channels]], groups, Activation::Silu)
    };
    assert!(norm(&[1, 4, 2, 2], 4, 2).is_ok());
    assert!(norm(&[1, 4, 2, 2], 4, 3).is_err());
    assert!(norm(&[1, 4, 2, 2], 4, 0).is_err());
    assert!(norm(&[1, 6, 2, 2], 4, 2).is_err());
    assert!(norm(&[1, 4, 0, 2], 4, 2).is_err());
    assert!(norm(&[4], 4, 2).is_err());
    assert!(norm(&[1, 4, 1 << 40], 4, 2).is_err());
    assert!(norm(&[usize::MAX, 4, usize::MAX], 4, 2).is_err());
    let gelu = GroupNormPlan::new([&[1, 4, 2], &[4], &[4]], 2, Activation::Gelu);
    assert!(gelu.unwrap_err().message().contains("Gelu"));

    let attention = |q: &[usize], k: &[usize], v: &[usize], heads, causal| {
        AttentionPlan::new([q, k, v], heads, causal)
    };
    assert!(attention(&[1, 4, 12], &[1, 6, 12], &[1, 6, 12], 4, false).is_ok());
    assert!(attention(&[1, 4, 12], &[1, 6, 12], &[1, 6, 12], 5, false).is_err());
    assert!(attention(&[1, 4, 12], &[1, 6, 12], &[1, 6, 12], 0, false).is_err());
    assert!(attention(&[1, 4, 12], &[1, 6, 12], &[1, 6, 12], 4, true).is_err());
    assert!(attention(&[1, 4, 12], &[1, 6, 12], &[1, 4, 12], 4, false).is_err());
    assert!(attention(&[2, 4, 12], &[1, 4, 12], &[1, 4, 12], 4, false).is_err());
    assert!(attention(&[1, 0, 12], &[1, 6, 12], &[1, 6, 12], 4, false).is_err());
    assert!(attention(&[1, 4], &[1, 6, 12], &[1, 6, 12], 4, false).is_err());
    assert!(
        attention(
            &[1 << 40, 4, 12],
            &[1 << 40, 6, 12],
            &[1 << 40, 6, 12],
            4,
            false
        )
        .is_err()
    );
}

/// What `exp.cuh` promises: one GPU's bits are another's, and so are what the sources come to on a processor.
#[test]
#[ignore = "needs a GPU and NVRTC: make check-gpu"]
fn a_gpu_has_the_bits_of_its_sources() {
    let on_cpu = OnCpu::new();
    let kernels = CudaKernels::open(0).unwrap().expect("there is a GPU");
    let upload = |inputs: &[Tensor; 3]| inputs.each_ref().map(|x| kernels.upload(x).unwrap());
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (groups, shape) in NORMS {
        let inputs = norm_inputs(shape);
        let [x, weight, bias] = upload(&inputs);
        let out = kernels.group_norm(&x, &weight, &bias, EPS, groups, Activation::Silu);
        let got = values(&kernels.download(&out.unwrap()).unwrap());
        let expected = on_cpu.group_norm(inputs.each_ref(), groups, Activation::Silu);
        assert_eq!(bits(&got), bits(&expected), "{shape:?}");
    }
    for (batch, n, m, heads, depth, causal) in ATTENTIONS {
        let inputs = attention_inputs(batch, n, m, heads * depth);
        let [q, k, v] = upload(&inputs);
        let out = kernels.attention(&q, &k, &v, heads, causal);
        let got = values(&kernels.download(&out.unwrap()).unwrap());
        let expected = on_cpu.attention(inputs.each_ref(), heads, causal);
        assert_eq!(
            bits(&got),
            bits(&expected),
            "{batch}x{n}x{m}, {heads} of {depth}"
        );
    }
}
