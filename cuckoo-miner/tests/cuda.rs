//! Kernels for GPUs from outside: what a machine without one sees, and what one with a GPU computes.

#![cfg(feature = "cuda")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cuckoo_core::ErrorKind;
use cuckoo_miner::{Activation, CpuKernels, CudaKernels, Device, Kernels, Norm, Philox, Tensor};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let numbers = Philox::new(seed).normal(shape.iter().product());
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// The largest difference, as a part of the largest number.
fn distance(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims());
    let [got, expected] =
        [got, expected].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let differences = got.iter().zip(&expected).map(|(got, x)| (got - x).abs());
    // Not `max`, which passes over what is not a number.
    let worst = differences.fold(0.0_f32, |most, x| match x <= most || most.is_nan() {
        true => most,
        false => x,
    });
    worst / largest
}

#[test]
fn opening_never_panics() {
    match CudaKernels::open(0).unwrap() {
        None => {
            // Nor does it the second time, or for a number that no machine has.
            assert!(CudaKernels::open(0).unwrap().is_none());
            assert!(CudaKernels::open(1000).unwrap().is_none());
        }
        Some(_) => {
            let error = CudaKernels::open(1000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

#[test]
#[ignore = "needs NVRTC: make check-gpu"]
fn sources_compile() {
    let compiled = CudaKernels::check_sources().unwrap();
    assert_eq!(compiled.len(), 2 * 18, "{compiled:?}");
}

#[test]
#[ignore = "needs a GPU and NVRTC: make check-gpu"]
fn kernels_agree_with_the_processors() {
    let gpu = CudaKernels::open(0).unwrap().expect("there is a GPU");
    let cpu = CpuKernels::new();
    for (shape, groups) in [(vec![2, 320, 64, 64], 32), (vec![1, 6, 7, 5], 3)] {
        let (x, weight, bias) = (
            tensor(&shape, 1),
            tensor(&shape[1..2], 2),
            tensor(&shape[1..2], 3),
        );
        let norm = Norm {
            weight: &weight,
            bias: &bias,
            eps: 1e-5,
        };
        let expected = cpu.group_norm(&x, norm, groups, Activation::Silu).unwrap();
        let [x, weight, bias] = [&x, &weight, &bias].map(|x| gpu.upload(x).unwrap());
        let got = gpu.group_norm(&x, &weight, &bias, 1e-5, groups, Activation::Silu);
        let got = gpu.download(&got.unwrap()).unwrap();
        assert!(distance(&got, &expected) < 1e-4, "{shape:?}");
        assert!(
            gpu.group_norm(&x, &bias, &x, 1e-5, groups, Activation::Silu)
                .is_err()
        );
    }
    for (n, m, width, heads, causal) in [
        (4096, 77, 320, 8, false),
        (1024, 1024, 640, 10, false),
        (77, 77, 768, 12, true),
        (100, 100, 512, 1, false),
    ] {
        let (q, k, v) = (
            tensor(&[2, n, width], 1),
            tensor(&[2, m, width], 2),
            tensor(&[2, m, width], 3),
        );
        let expected = cpu.attention(&q, &k, &v, heads, causal).unwrap();
        let [q, k, v] = [&q, &k, &v].map(|x| gpu.upload(x).unwrap());
        let got = gpu.attention(&q, &k, &v, heads, causal).unwrap();
        let got = gpu.download(&got).unwrap();
        assert!(
            distance(&got, &expected) < 1e-4,
            "{n}x{m}, {heads} of {width}"
        );
        assert!(gpu.attention(&q, &k, &v, heads + 900, causal).is_err());
    }
}
