use super::*;
use crate::kernels::cpu::lanes::Plain;
use crate::kernels::{CpuKernels, Kernels as _};

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 31 + seed * 17) % 101) as f32 / 37.0 - 1.3)
        .collect()
}

fn tensor(shape: (usize, usize), seed: usize) -> Tensor {
    Tensor::from_vec(numbers(shape.0 * shape.1, seed), shape, &Device::Cpu).unwrap()
}

/// A weight of each kind of number, by the kind.
fn weights(shape: (usize, usize), seed: usize) -> [(DType, Tensor); 3] {
    [DType::F32, DType::F16, DType::BF16].map(|kind| {
        let narrow = tensor(shape, seed).to_dtype(kind).unwrap();
        (kind, narrow.to_dtype(DType::F32).unwrap())
    })
}

fn bits(x: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// candle's own product is the oracle.
#[test]
fn agrees_with_candle_for_all_sizes() {
    for (rows, outputs, inner) in [
        (1, 1, 1),
        (3, 5, 7),
        (2, 70, 33),
        (9, 130, 100),
        (1, 6, 16),
        (ROWS + 7, OUTPUTS + 9, BLOCK + 80),
    ] {
        let (x, weight) = (tensor((rows, inner), 1), tensor((outputs, inner), 2));
        let bias = Tensor::from_vec(numbers(outputs, 3), outputs, &Device::Cpu).unwrap();
        let packed = pack(&weight).unwrap();
        let expected = x.matmul(&weight.t().unwrap()).unwrap();
        let got = project(&x, &packed, None, Activation::Identity).unwrap();
        let largest = |x: &Tensor| {
            let sizes = x.abs().unwrap().flatten_all().unwrap();
            sizes.max(0).unwrap().to_scalar::<f32>().unwrap()
        };
        // Relative: long sums are large, and so are the errors of both sides.
        let gap = |a: &Tensor, b: &Tensor| largest(&(a - b).unwrap()) / largest(b);
        assert!(gap(&got, &expected) < 3e-6, "{rows} {outputs} {inner}");
        let shifted = expected.broadcast_add(&bias).unwrap();
        let got = project(&x, &packed, Some(&bias), Activation::Identity).unwrap();
        assert!(gap(&got, &shifted) < 3e-6, "{rows} {outputs} {inner}");
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let (rows, outputs, inner) = (15, 120, 1203);
    let x = tensor((rows, inner), 1);
    for (_, weight) in weights((outputs, inner), 2) {
        let packed = pack(&weight).unwrap();
        let all = bits(&project(&x, &packed, None, Activation::Identity).unwrap());
        for i in 0..rows {
            for count in 1..=rows - i {
                let some = x.narrow(0, i, count).unwrap();
                let some = bits(&project(&some, &packed, None, Activation::Identity).unwrap());
                assert_eq!(some, all[i * outputs..(i + count) * outputs]);
            }
        }
    }
}

/// The weight's panels in `f32`, whatever kind of number would hold it.
fn wide(weight: &Tensor) -> Packed {
    let rows: Vec<Vec<f32>> = weight.to_vec2().unwrap();
    let (outputs, inputs) = weight.dims2().unwrap();
    let mut data = Vec::new();
    for panel in rows.chunks(LANES) {
        for input in 0..inputs {
            let lane = panel.iter().map(|row| row[input]);
            data.extend(lane.chain(std::iter::repeat(0.0)).take(LANES));
        }
    }
    let shape = (outputs.div_ceil(LANES), inputs, LANES);
    Packed {
        data: Tensor::from_vec(data, shape, &Device::Cpu).unwrap(),
        outputs,
        inputs,
    }
}

/// One arithmetic, however weights are held.
#[test]
fn weights_in_16_bits_give_the_bits_of_the_same_in_32() {
    let x = tensor((13, 1203), 1);
    let bias = Tensor::from_vec(numbers(40, 3), 40, &Device::Cpu).unwrap();
    for (kind, weight) in weights((40, 1203), 2) {
        let packed = pack(&weight).unwrap();
        assert_eq!(packed.data.dtype(), kind);
        let got = project(&x, &packed, Some(&bias), Activation::Identity).unwrap();
        let expected = project(&x, &wide(&weight), Some(&bias), Activation::Identity).unwrap();
        assert_eq!(bits(&got), bits(&expected));
    }
}

#[test]
fn an_activation_is_that_of_the_whole() {
    let bias = Tensor::from_vec(numbers(70, 3), 70, &Device::Cpu).unwrap();
    for rows in [1, 9] {
        let (x, packed) = (tensor((rows, 600), 1), pack(&tensor((70, 600), 2)).unwrap());
        let of = |activation| project(&x, &packed, Some(&bias), activation).unwrap();
        for activation in [Activation::Gelu, Activation::Silu] {
            let after = CpuKernels::new().activate(&of(Activation::Identity), activation);
            assert_eq!(bits(&of(activation)), bits(&after.unwrap()));
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for (rows, outputs, inner) in [(1, 9, 64), (5, 70, 50), (8, 8, 16), (7, 30, 1100)] {
        let (x, weight) = (numbers(rows * inner, 1), tensor((outputs, inner), 2));
        let packed = pack(&weight).unwrap();
        assert_eq!(packed.data.dtype(), DType::F32);
        let run = |plain: bool| {
            let mut out = vec![0.0; rows * outputs];
            read([&packed.data], |[panels]| {
                let (panels, _) = panels.as_chunks::<LANES>();
                for out in windows(&mut out, outputs, ROWS, OUTPUTS) {
                    let job = Piece {
                        x: &x,
                        panels,
                        bias: None,
                        activation: Activation::Silu,
                        inner,
                        out,
                    };
                    if plain {
                        job.run::<Plain>();
                    } else {
                        dispatch(job);
                    }
                }
                Ok(())
            })
            .unwrap();
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false));
    }
}

#[test]
fn rows_are_those_of_the_weight() {
    for (_, weight) in weights((37, 11), 1) {
        let packed = pack(&weight).unwrap();
        let asked = [36_u32, 0, 16, 15, 16];
        let expected = weight
            .index_select(&Tensor::new(&asked, &Device::Cpu).unwrap(), 0)
            .unwrap();
        assert_eq!(bits(&rows(&packed, &asked).unwrap()), bits(&expected));
        assert!(rows(&packed, &[37]).is_err());
    }
}

#[test]
fn misfits_are_refused() {
    let packed = pack(&tensor((4, 5), 1)).unwrap();
    let run = |packed: &Packed, bias: Option<&Tensor>| {
        project(&tensor((2, 3), 1), packed, bias, Activation::Identity)
    };
    assert!(run(&packed, None).is_err());
    let packed = pack(&tensor((4, 3), 1)).unwrap();
    let bias = Tensor::from_vec(numbers(3, 1), 3, &Device::Cpu).unwrap();
    assert!(run(&packed, None).is_ok());
    assert!(run(&packed, Some(&bias)).is_err());
    let nothing = Tensor::zeros((0, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(pack(&nothing).is_err());
}
