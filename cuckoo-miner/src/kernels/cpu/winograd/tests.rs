use candle_core::{Device, Tensor};

use super::*;
use crate::kernels::{CpuKernels, Kernels};

/// Numbers between -1 and 1 without a pattern that sums could cancel.
fn tensor(shape: &[usize], mut state: u32) -> Tensor {
    let n: usize = shape.iter().product();
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::from_vec((0..n).map(|_| next()).collect(), shape, &Device::Cpu).unwrap()
}

fn images(x: &Tensor, outputs: usize) -> Images {
    let (batch, inputs, height, width) = x.dims4().unwrap();
    Images {
        batch,
        inputs,
        outputs,
        height,
        width,
    }
}

fn run(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    CpuKernels::new().conv2d(x, weight, bias, 1, 1).unwrap()
}

fn largest(x: &Tensor) -> f32 {
    let x = x.abs().unwrap().flatten_all().unwrap();
    x.max(0).unwrap().to_scalar().unwrap()
}

/// candle's own convolution is the oracle.
#[test]
fn agrees_with_candle_for_all_sizes() {
    for (batch, inputs, outputs, height, width) in [
        (1, 16, 1, 16, 16),
        (2, 19, 30, 17, 21),
        (1, 150, 25, 13, 14),
        (3, 16, 5, 40, 7),
        (1, 20, 24, 5, 61),
        (1, 17, 50, 70, 66),
    ] {
        let x = tensor(&[batch, inputs, height, width], 1);
        let weight = tensor(&[outputs, inputs, 3, 3], 2);
        let bias = tensor(&[outputs], 3);
        assert!(images(&x, outputs).suit(), "{:?} goes this way", x.dims());
        let expected = x.conv2d(&weight, 1, 1, 1, 1).unwrap();
        let expected = expected
            .broadcast_add(&bias.reshape((1, outputs, 1, 1)).unwrap())
            .unwrap();
        let gap = largest(&(run(&x, &weight, &bias) - &expected).unwrap());
        let scale = largest(&expected);
        assert!(gap < scale * 1e-5, "{:?}: {gap} of {scale}", x.dims());
    }
}

#[test]
fn neither_threads_nor_neighbours_change_a_bit() {
    let (weight, bias) = (tensor(&[40, 130, 3, 3], 2), tensor(&[40], 3));
    let x = tensor(&[3, 130, 29, 34], 1);
    let bits = |x: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || bits(&run(&x, &weight, &bias));
        pool.build().unwrap().install(run)
    };
    let all = with(1);
    assert_eq!(all, with(3));
    for image in 0..3 {
        let alone = bits(&run(&x.narrow(0, image, 1).unwrap(), &weight, &bias));
        assert_eq!(alone, all[image * alone.len()..][..alone.len()]);
    }
}
